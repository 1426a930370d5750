"""Every shell block of the README and the documentation is run, or looked at by the parser of what it calls."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import doc_commands
from tests.doc_blocks import PAGES, ROOT, Block, blocks, shell_blocks
from tests.doc_commands import RULES, prepare, rule_of

Capture = pytest.CaptureFixture[str]
SHELL = shell_blocks()
NAMES = sorted({block.page for block in SHELL})
#: Pages whose Python is run, in this order, in a folder with the maps of NGC4254.
PYTHON = ("docs/quickstart.md", "docs/troubleshooting.md", "docs/citing.md")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    prepare(folder, checkpoint)
    return folder


@pytest.fixture
def folder(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh copy, in which the test works."""
    copy = tmp_path / "work"
    shutil.copytree(base, copy, symlinks=True)
    monkeypatch.chdir(copy)
    return copy


def python_blocks(page: str) -> list[Block]:
    return [block for block in blocks(ROOT / page) if block.language == "python"]


@pytest.mark.parametrize("page", NAMES)
def test_shell_blocks(page: str, folder: Path, capsys: Capture) -> None:
    needs_run = any(re.search("status|report|compare", block.text) for block in SHELL if block.page == page)
    commands = [command for block in SHELL if block.page == page for command in block.commands]
    if needs_run and "galprote-pipeline run survey.yaml" not in commands:
        doc_commands.run_galprote("galprote-pipeline run survey.yaml", capsys)
    for command in commands:
        rule = rule_of(command)
        assert rule, f"{page}: nobody knows what to do with `{command}`: tests/doc_commands.py has the rules"
        rule.do(command, capsys)
        capsys.readouterr()


def test_python_blocks_on_maps(folder: Path, capsys: Capture) -> None:
    doc_commands.run_galprote("galprote-pipeline run survey.yaml", capsys)
    for page in PYTHON:
        found = python_blocks(page)
        assert found
        for block in found:
            exec(compile(block.text, page, "exec"), {})
            assert capsys.readouterr().out, f"{page}, line {block.line}: prints nothing"


def test_other_python_blocks_are_python() -> None:
    for path in PAGES:
        page = path.relative_to(ROOT).as_posix()
        for block in python_blocks(page):
            doc_commands.python_runs(block.text, f"{page}, line {block.line}")


def test_yaml_blocks_are_read(tmp_path: Path) -> None:
    ours = 0
    for block in (block for path in PAGES for block in blocks(path) if block.language == "yaml"):
        keys = re.findall(r"^[\w-]+(?=:)", block.text, flags=re.MULTILINE)
        alternatives = [block.text] if len(keys) == len(set(keys)) else block.text.splitlines()  # `this: or` `that:`
        for text in alternatives:
            if block.page != "docs/training.md":  # a training has a section `model`, too
                ours += doc_commands.read_sections(text, tmp_path)
            assert isinstance(yaml.safe_load(text), dict)
    assert ours >= 15


def test_every_rule_is_needed() -> None:
    commands = [command for block in SHELL for command in block.commands]
    used = {rule.pattern for command in commands if (rule := rule_of(command))}
    assert {rule.pattern for rule in RULES} == used
    executed = [command for command in commands if (rule := rule_of(command)) and not rule.why_not]
    assert len(executed) >= 25


def test_unknown_commands_are_found_out() -> None:
    assert rule_of("rm -rf output") is None
    assert rule_of("galprote-pipeline fly") is None


def test_blocks_are_found_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# A\n\n    one --x  # why\n    two \\\n      three && four\n\n"
    text += "- item\n  text\n\n      five\n\n1. item:\n\n       six\n\n"
    text += "```sh\n$ seven\n```\n\n```yaml\na: 1\n```\n\n- item\n\n  ```python\n  x = 1\n  ```\n"
    path = tmp_path / "page.md"
    path.write_text(text)
    monkeypatch.setattr("tests.doc_blocks.ROOT", tmp_path)
    found = list(blocks(path))
    shell = [command for block in found if block.is_shell for command in block.commands]
    assert shell == ["one --x", "two three", "four", "five", "six", "seven"]
    assert [block.language for block in found if not block.is_shell] == ["yaml", "python"]
