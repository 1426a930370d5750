"""Words of the command line: help, completion, one word for one thing, misspelt ones, and nothing heavy is imported."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from galprote.model import evaluation
from galprote.model.errors import ConfigError
from galprote.model.training_config import read_training_config
from galprote.model.wording import count, did_you_mean
from galprote.workflows import completion, dashboard
from galprote.workflows.cli import app
from galprote.workflows.planning import PlannedGalaxy
from galprote.workflows.words import GALAXY_STATES, OUTCOMES, OVER
from tests.surveys import call

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(str(info.callback.__name__) for info in app.registered_commands if info.callback)
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


# --- help ---


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_and_the_common_options(capsys: Capture, command: str) -> None:
    code, text, _ = call(capsys, command, "-h")
    assert code == 0
    assert f"Example: galprote-pipeline {command}" in text, "a last paragraph of the docstring"
    for option in ("--json", "--quiet", "-q", "--verbose", "-v", "--debug"):
        found = re.search(rf"(?<![\w-]){option}(?![\w-])", text)
        assert bool(found) == (option != "--json" or command != "view"), option


def test_commands_stand_in_groups(capsys: Capture) -> None:
    for words in ([], ["-h"]):
        _, text, error = call(capsys, *words)
        places = [(text + error).index(f" {panel} ") for panel in ("Map", "Single spectra", "Train")]
        assert places == sorted(places)


# --- what costs time only where it is needed ---


@pytest.mark.parametrize(
    ("words", "environment", "shown"),
    [
        (["run", "no.yaml"], {}, "cannot be read"),
        (["run", "survey.yaml"], {}, "no such cube"),
        ([], {"COMP_WORDS": "galprote-pipeline run ", "COMP_CWORD": "2"}, "survey.yaml"),
    ],
    ids=["no survey", "no cube", "completion"],
)
def test_nothing_heavy_is_imported_for_it(
    tmp_path: Path, words: list[str], environment: dict[str, str], shown: str
) -> None:
    (tmp_path / "survey.yaml").write_text(
        "output: out\ngalaxies: [{name: A, cube: a.fits, redshift: 0.1, foreground: {ebv: 0}}]"
    )
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('LOADED', len(sys.modules), *[n for n in ('torch', 'xarray', 'astropy', "
        "'distributed', 'zarr', 'scipy') if n in sys.modules]))\n"
        f"sys.argv[1:] = {words!r}\n"
        "from galprote.workflows.entry import main\nmain()"
    )
    if environment:
        environment |= {"_GALPROTE_PIPELINE_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | environment,
    )
    *text, loaded = done.stdout.splitlines()
    assert shown in "\n".join(text) + done.stderr
    mark, modules, *heavy = loaded.split()
    assert (mark, heavy) == ("LOADED", [])
    assert int(modules) < (450 if environment else 900)


# --- completion ---


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Patch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("survey.yaml", "sub/other.yml", "cube.fits", "N1.zarr/zarr.json", "out/run.json", "w.safetensors"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("pl", ["plan"]),
        ("run ", ["sub/other.yml", "survey.yaml"]),
        ("run su", ["sub/other.yml", "survey.yaml"]),
        ("plan sub/", ["sub/other.yml"]),
        ("run survey.yaml --cluster lo", ["local", "local-cuda"]),
        ("status ", ["out"]),
        ("inspect c", ["cube.fits"]),
        ("evaluate --suite an", ["anomalies"]),
        ("evaluate ", ["w.safetensors"]),
        ("init --survey m", ["manga", "mauve"]),
        ("run --qu", ["--quiet"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_tab_completes(capsys: Capture, monkeypatch: Patch, words: str, offered: list[str]) -> None:
    line = f"galprote-pipeline {words}"
    monkeypatch.setenv("_GALPROTE_PIPELINE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    _, text, _ = call(capsys)
    assert sorted(text.split()) == offered


def test_suites_are_those_of_the_model() -> None:
    assert set(completion.SUITES) == {*evaluation.SUITES, "all"}
    assert completion.complete_map("age_lw") == ["age_lw", "age_lw_error"]


# --- words ---


def test_outcomes_and_states_come_from_one_list() -> None:
    assert set(OUTCOMES) < set(GALAXY_STATES)
    assert set(OUTCOMES) > OVER
    assert set(dashboard._SIGNS) == set(GALAXY_STATES)
    assert set(get_args(PlannedGalaxy.__annotations__["state"])) == set(GALAXY_STATES)
    text = (ROOT / "docs" / "terminal.md").read_text()
    for state in GALAXY_STATES:
        assert f"| `{state}` |" in text
    told = re.findall(r"^\| `(\w+)` \|.*\| yes \|$", text, re.MULTILINE)
    assert set(told) == set(OUTCOMES)


def test_no_message_leaves_the_plural_to_the_reader() -> None:
    assert (count(1, "chunk"), count(0, "chunk"), count(1000, "galaxy", "galaxies")) == (
        "1 chunk", "0 chunks", "1,000 galaxies",
    )  # fmt: skip
    for package in ("model", "pipeline", "workflows"):
        for path in (ROOT / package).rglob("*.py"):
            for line in path.read_text().splitlines():
                assert not re.search(r"\b(?!T_2n|_chebyshev)[a-z]{3,}\(s\)(?=[\s,;:.\"'])", line), f"{path}: {line}"


# --- misspelt words ---


def test_a_misspelt_command_or_option_is_told_the_nearest(capsys: Capture, tmp_path: Path) -> None:
    assert "plan" in call(capsys, "plna")[2]
    assert "--overwrite" in call(capsys, "run", "--overwrit", tmp_path / "a.yaml")[2]
    assert did_you_mean("bining", ["binning", "masks"]) == "; did you mean binning?"
    assert did_you_mean("binning", ["binning"]) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": 5}, "stepz: unknown key; did you mean steps?"),
        ({"stream": {"papr": 0.1}}, "stream.papr: unknown key; did you mean paper?"),
    ],
)
def test_a_misspelt_key_of_a_recipe(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"library": {"path": "a.npz"}, "output": "out"} | change))
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_training_config(path)
