"""Results for other programs: JSON alone on standard output, and what a plan says of a run."""

import inspect
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import yaml

from galprote.model.errors import ConfigError
from galprote.workflows import terminal
from galprote.workflows.cli import app
from galprote.workflows.cluster import Nobody
from galprote.workflows.words import OVER
from tests import surveys
from tests.surveys import call

ROOT = Path(__file__).parents[1]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def here() -> Iterator[None]:
    """Runs whose workers are threads of this process."""

    @contextmanager
    def start(_: Any, **settings: Any) -> Iterator[tuple[Any, Nobody]]:
        with surveys.threads(**settings) as client:
            yield client, Nobody()

    with (
        mock.patch("galprote.workflows.survey.start_cluster", start),
        mock.patch("galprote.workflows.forking.can_fork", return_value=False),
    ):
        yield


def changed(survey: Path, **sections: Any) -> Path:
    """The same survey with other sections, beside it."""
    path = survey.with_name("changed.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(survey.read_text()) | sections))
    return path


# --- JSON ---


def test_values_that_json_has() -> None:
    found = terminal.plain(
        {1: math.nan, "b": [np.float32(1.5), np.int64(3), -math.inf], "c": Path("/x"), "d": np.array([1.0, np.nan])}
    )
    assert found == {"1": None, "b": [1.5, 3, None], "c": "/x", "d": [1.0, None]}
    assert terminal.plain((True, None, "x")) == [True, None, "x"]


@pytest.mark.usefixtures("here")
def test_a_run_as_json(capsys: Capture, finished: Path, tmp_path: Path) -> None:
    """One galaxy is computed, the other has no cube."""
    survey = changed(finished, output=str(tmp_path / "out"))
    code, text, error = call(capsys, "run", survey, "--json", "-v")
    found = json.loads(text)
    assert (code, found["exit_code"], found["output"]) == (1, 1, str(tmp_path / "out"))
    assert found["command"].endswith(f"run {survey}")
    one, two = found["galaxies"]
    assert {"name", "outcome", "spaxels", "fitted", "seconds", "error", "failures"} == set(one)
    assert (one["name"], one["outcome"], one["spaxels"]) == ("N1", "done", 12)
    assert (two["outcome"], two["fitted"]) == ("failed", None)
    assert two["error"].startswith("no such cube: "), "its name stands beside it"
    assert re.search(r"^\d\d:\d\d:\d\d N1: chunk 1 done: \d of 6 spaxels fitted$", error, re.MULTILINE)
    assert f"N1: done: {one['fitted']} spaxels fitted" in error
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == found["galaxies"], "the same keys"


@pytest.mark.usefixtures("here")
def test_a_quiet_run_says_how_it_ended(capsys: Capture, finished: Path) -> None:
    code, text, error = call(capsys, "run", finished, "-q")
    assert (code, text, error) == (1, f"2 galaxies: 1 skipped, 1 failed. Products: {finished.parent / 'out'}\n", "")
    code, text, _ = call(capsys, "run", finished)
    assert code == 1
    assert "N1: skipped: done already" in text
    assert call(capsys, "run", finished, "-q", "-v")[0] == 2


def test_other_reports_as_json(capsys: Capture, finished: Path, tmp_path: Path) -> None:
    code, text, _ = call(capsys, "status", finished.parent / "out", "--json")
    assert code == 0
    assert [galaxy["state"] in OVER for galaxy in json.loads(text)["galaxies"]] == [True, False]
    assert call(capsys, "status", finished.parent / "out", "-q")[1] == "No run is under way. The last one ended.\n"
    code, text, _ = call(capsys, "inspect", finished.parent / "N1.fits", "--json")
    assert code == 0
    assert json.loads(text)
    target = tmp_path / "mock.fits"
    code, text, _ = call(capsys, "mock", target, "--ny", 8, "--nx", 8, "--json")
    assert (code, json.loads(text)["truth"]) == (0, str(tmp_path / "mock_TRUTH.fits"))
    code, text, _ = call(capsys, "init", tmp_path, "--json")
    found = json.loads(text)
    assert (code, found["survey"]) == (0, str(tmp_path / "survey.yaml"))
    assert "redshift" in found["galaxies"][0]
    code, text, _ = call(capsys, "card", "--json")
    assert (code, json.loads(text)["card"].splitlines()[0]) == (0, "# Model card")


def test_after_an_error_there_is_no_json(capsys: Capture, tmp_path: Path) -> None:
    code, text, error = call(capsys, "plan", tmp_path / "no.yaml", "--json")
    assert (code, text) == (2, "")
    assert error.startswith("error: ")


def test_the_old_way_to_write_results_is_told_the_new_one(capsys: Capture) -> None:
    code, _, error = call(capsys, "evaluate", "--json", "results.json")
    assert code == 2
    assert "--output results.json" in error


def test_the_table_of_json_names_every_command_that_has_it() -> None:
    text = (ROOT / "docs" / "terminal.md").read_text().split("\n## JSON\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    callbacks = {str(info.callback.__name__): info.callback for info in app.registered_commands if info.callback}
    speaking = [name for name, callback in callbacks.items() if "as_json" in inspect.signature(callback).parameters]
    assert sorted(name for name, _ in rows) == sorted(speaking)
    assert sorted(set(callbacks) - set(speaking)) == ["view"], "as the page says"
    assert all(re.search(r"`\w+`|table", keys) or name == "fit" for name, keys in rows)


# --- plan ---


def planned(capsys: Capture, survey: Path) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, galaxies, and what people are told."""
    code, text, _ = call(capsys, "plan", survey, "--json")
    assert json.loads(text)["exit_code"] == code
    again, words, _ = call(capsys, "plan", survey)
    assert again == code
    return code, json.loads(text)["galaxies"], words


def test_a_plan_says_what_the_run_will_do(capsys: Capture, finished: Path, tmp_path: Path) -> None:
    code, (one, two), words = planned(capsys, finished)
    assert code == 1, "N2 has no cube"
    assert (one["state"], one["problem"], one["chunks_done"]) == ("done", "", 2)
    assert (two["plan"], two["refused"]) == (None, False)
    assert words.endswith("2 galaxies: 1 done, 1 cannot run\n")
    code, (one, _), words = planned(capsys, changed(finished, output=str(tmp_path)))
    assert (code, one["state"]) == (1, "waiting")


@pytest.mark.parametrize(
    ("key", "sections"),
    [
        ("model.precision: 'float32' -> 'int8'", {"model": {"precision": "int8"}}),
        ("settings.redshift: 0.005 -> 0.0051", {"defaults": {"redshift": 0.0051, "foreground": {"ebv": 0.02}}}),
        ("model.checkpoint (SHA-256): ", {"model": {"checkpoint": None}}),
    ],
)
def test_a_plan_refuses_what_the_run_refuses(
    capsys: Capture, finished: Path, key: str, sections: dict[str, Any]
) -> None:
    before = yaml.safe_load(finished.read_text())
    survey = changed(finished, **{name: before[name] | values for name, values in sections.items()})
    code, (one, _), words = planned(capsys, survey)
    assert (code, one["refused"]) == (2, True)
    assert key in one["problem"]
    assert "run would refuse" in words
    with pytest.raises(ConfigError) as error:
        surveys.run_here(survey)
    assert str(error.value) == one["problem"], "word for word"
