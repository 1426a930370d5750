"""Links of all Markdown of the repository lead somewhere: files, headings, images; and the site is built from it."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from sphinx.errors import ExtensionError

from docs import conf
from tests.doc_blocks import PAGES, ROOT


def without_code(text: str) -> str:
    """The page without blocks and `code`, in which nothing is a link."""
    text = re.sub(r"^\s*```.*?^\s*```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "code", text)


@cache
def anchors(path: Path) -> frozenset[str]:
    """Anchors of a page's headings, as GitHub (and MyST) makes them."""
    found: list[str] = []
    for heading in re.findall(
        r"^#{1,6} (.+)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL), re.MULTILINE
    ):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        count = sum(slug == re.sub(r"-\d+$", "", other) for other in found)
        found.append(f"{slug}-{count}" if count else slug)
    return frozenset(found)


def links(path: Path) -> Iterator[str]:
    """Targets of all links and images."""
    yield from re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", without_code(path.read_text()))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for target in links(path):
        parts = urlsplit(target)
        if parts.scheme:
            assert re.fullmatch(r"https?://[\w.-]+\.[a-z]+(:\d+)?(/\S*)?", target), target
            continue
        file = (path.parent / parts.path).resolve() if parts.path else path
        assert file.exists(), f"{target}: no such file"
        assert file.is_relative_to(ROOT), f"{target}: outside of the repository"
        if parts.fragment:
            assert parts.fragment in anchors(file), f"{target}: no such heading; there are {sorted(anchors(file))}"


def test_there_are_links() -> None:
    assert sum(len(list(links(path))) for path in PAGES) > 150


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b.c`\n## Where's x_y?\n## Same\n## Same\n```text\n# no heading\n```\n### Uppercase, too: 1 & 2\n"
    )
    assert anchors(page) == {"a-bc", "wheres-x_y", "same", "same-1", "uppercase-too-1--2"}


def test_every_page_is_in_the_table_of_contents() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {
        re.sub(r".*<(.*)>", r"\1", entry).removeprefix("?")
        for tree in re.findall(r"```{toctree}\n(.*?)```", index.read_text(), flags=re.DOTALL)
        for entry in tree.splitlines()
        if entry and not entry.startswith(":")
    }
    for path in PAGES:
        name = path.relative_to(ROOT).as_posix()
        page = path.stem if path.parent == index.parent else f"../{name.removesuffix('.md')}"
        assert path == index or page in listed, f"{name} is not in docs/index.md"


@pytest.mark.parametrize(
    ("name", "text", "elsewhere"),
    [
        ("page.html", '<a href="https://example.org">a link</a> <img src="_images/a.png">', False),
        ("page.html", '<p><img alt="" src="https://example.org/a.png"></p>', True),
        ("page.html", '<script async src="//cdn.example.org/a.js"></script>', True),
        ("style.css", "a { background: url('https://example.org/a.png') }", True),
        ("style.css", "a { background: url(a.png) }", False),
    ],
)
def test_the_site_may_load_nothing_from_elsewhere(tmp_path: Path, name: str, text: str, elsewhere: bool) -> None:
    """What `make docs` ends with: see docs/conf.py."""
    (tmp_path / name).write_text(text)
    if elsewhere:
        with pytest.raises(ExtensionError, match=f"{name} loads from another host"):
            conf.check_nothing_comes_from_elsewhere(tmp_path)
    else:
        conf.check_nothing_comes_from_elsewhere(tmp_path)


def test_a_build_ends_with_that_check(tmp_path: Path) -> None:
    """As Sphinx calls it, with the folder of the site."""
    heard: dict[str, Any] = {}
    conf.setup(SimpleNamespace(connect=lambda event, call, **_: heard.update({event: call})))  # type: ignore[arg-type]
    (tmp_path / "page.html").write_text('<script src="https://example.org/a.js"></script>')
    with pytest.raises(ExtensionError, match="loads from another host"):
        heard["build-finished"](SimpleNamespace(outdir=tmp_path), None)


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["cff-version"] == "1.2.0"
    names = [author["family-names"] for author in citation["preferred-citation"]["authors"]]
    assert names == ["Anwar", "Groves", "Cortese", "Watts"]
    assert all(name in (ROOT / "docs" / "citing.md").read_text() for name in names)
