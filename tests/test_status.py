"""`galprote-pipeline status`: how far a survey is, from its output folder alone."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from galprote.workflows.galaxy import check_galaxy
from galprote.workflows.status import duration, read_status, status_lines
from galprote.workflows.stop import StoppedError
from tests import surveys, trouble
from tests.surveys import call

Capture = pytest.CaptureFixture[str]
SHAPE = (6, 4)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_cube(tmp_path_factory.mktemp("cube") / "cube.fits", SHAPE)


@pytest.fixture
def survey(tmp_path: Path, cube: Path, checkpoint: Path) -> Path:
    """Two galaxies of six chunks."""
    products = {"residual": False, "fits": False, "figure": False}
    galaxies = [{"name": name, "cube": str(cube), "products": products} for name in ("N1", "N2")]
    return surveys.write_survey(tmp_path, galaxies, checkpoint, chunks={"rows": 1})


def look(capsys: Capture, output: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]], str]:
    """What `--json` says, its galaxies by name, and what people are told; nothing is touched by looking."""
    before = surveys.tree(output, without=("run.json", ".lock"))
    code, text, error = call(capsys, "status", output, "--json")
    assert (code, error) == (0, "")
    found = json.loads(text)
    code, words, error = call(capsys, "status", output)
    assert (code, error) == (0, "")
    assert surveys.tree(output, without=("run.json", ".lock")) == before
    return found, {galaxy["name"]: galaxy for galaxy in found["galaxies"]}, words


class Held(threading.Thread):
    """Runs a survey in a thread, whose N1 stands still at chunk 4 until it is let go."""

    def __init__(self, survey: Path) -> None:
        super().__init__()
        self.survey, self.go, self.waiting = survey, threading.Event(), threading.Event()

    def run(self) -> None:
        def wait(here: trouble.Step) -> None:
            if here.galaxy == "N2" or here.index >= 4:
                self.waiting.set()
                assert self.go.wait(60)

        with trouble.before("predict_block", wait):
            self.results = surveys.run_here(self.survey)


@contextmanager
def held(survey: Path) -> Iterator[Path]:
    """The output folder of a run that is in the middle: four chunks of twelve are done."""
    thread, output = Held(survey), survey.parent / "out"
    thread.start()
    try:
        assert thread.waiting.wait(60)
        end = time.monotonic() + 30
        while not _told(output):
            assert time.monotonic() < end, "run.json says nothing"
            time.sleep(0.05)
        yield output
    finally:
        thread.go.set()
        thread.join()
    assert [result.outcome for result in thread.results] == ["done", "done"]


def _told(output: Path) -> bool:
    """Whether run.json, which is rewritten every other second, knows of the finished chunks."""
    record = json.loads((output / "run.json").read_text())
    return bool(record["galaxies"][0]["chunks_done"] == 4 and record["workers"])


def test_while_it_runs(capsys: Capture, survey: Path) -> None:
    with held(survey) as output:
        found, galaxies, words = look(capsys, output)
        assert (found["running"], found["state"], found["workers"], found["gpu_workers"]) == (True, "running", 2, 0)
        assert found["holder"]["pid"] == os.getpid()
        assert found["spectra_per_second"] > 0
        one, two = galaxies["N1"], galaxies["N2"]
        assert (one["state"], one["chunks"], one["chunks_done"], one["spaxels"]) == ("running", 6, 4, 24)
        assert one["share"] == pytest.approx(4 / 6)
        assert (two["chunks_done"], two["share"], two["spaxels"]) == (0, 0.0, 24)
        # 16 spaxels of 48 are done, so what is left takes about twice as long as it took.
        seconds = json.loads((output / "run.json").read_text())["seconds"]
        assert 0.5 * 2 * seconds - 5 < found["seconds_left"] <= 2.1 * seconds
        assert f"Running: process {os.getpid()} on " in words
        assert "2 workers; " in words
        assert "time left: " in words
        assert "time left: -" not in words
        assert "67%" in words
        assert "4/6" in words
    found, galaxies, words = look(capsys, output)
    assert (found["running"], found["state"], found["seconds_left"]) == (False, "ended", None)
    assert {galaxy["state"] for galaxy in galaxies.values()} == {"done"}
    assert {(galaxy["share"], galaxy["chunks_done"]) for galaxy in galaxies.values()} == {(1.0, 6)}
    assert "No run is under way. The last one ended." in words
    assert "To go on" not in words


def test_after_it_was_killed(capsys: Capture, survey: Path, tmp_path: Path) -> None:
    """As a kill leaves it: a lock that nobody holds, run.json older than the ledger."""
    with held(survey) as output:
        dead = tmp_path / "dead"
        shutil.copytree(output, dead)
    record = json.loads((dead / "run.json").read_text())
    record["command"] = "galprote-pipeline run survey.yaml"
    record["galaxies"][0]["chunks_done"] = 2
    (dead / "run.json").write_text(json.dumps(record))
    found, galaxies, words = look(capsys, dead)
    assert (found["running"], found["holder"], found["workers"], found["seconds_left"]) == (False, None, 0, None)
    assert (galaxies["N1"]["state"], galaxies["N1"]["chunks_done"]) == ("stopped", 4), "the ledger knows better"
    assert galaxies["N2"]["chunks_done"] == 0
    assert "No run is under way. The last one died without saying why; what it finished is kept." in words
    (dead / "run.json").write_text(json.dumps(record | {"state": "stopping: SIGINT"}))
    assert "The last one ended while stopping: SIGINT; what it finished is kept." in look(capsys, dead)[2]
    assert "To go on: galprote-pipeline run survey.yaml" in words


def test_while_it_starts(survey: Path, tmp_path: Path) -> None:
    """Before anything is checked, and where it is killed then: N1 is done, and nothing of N2."""
    output, dead, told = survey.parent / "out", tmp_path / "dead", []
    content = yaml.safe_load(survey.read_text())
    one = survey.with_name("one.yaml")
    one.write_text(yaml.safe_dump(content | {"galaxies": content["galaxies"][:1]}))
    surveys.run_here(one)

    def check(*given: Any, **more: Any) -> Any:
        if not told:
            told.append(read_status(output))
            shutil.copytree(output, dead)
            (dead / ".lock").unlink()
        return check_galaxy(*given, **more)

    with mock.patch("galprote.workflows.survey.check_galaxy", check):
        surveys.run_here(survey)
    assert (told[0].running, told[0].state) == (True, "starting")
    assert status_lines(told[0])[0].startswith(f"Starting: process {os.getpid()} on ")
    assert [(galaxy.name, galaxy.state) for galaxy in told[0].galaxies] == [("N1", "waiting"), ("N2", "waiting")]
    found = read_status(dead)
    assert (found.running, found.state) == (False, "died without saying why; what it finished is kept")
    assert [(galaxy.state, galaxy.share) for galaxy in found.galaxies] == [("done", 1.0), ("waiting", 0.0)]


def test_after_it_was_stopped(capsys: Capture, survey: Path) -> None:
    def strike(here: trouble.Step) -> None:
        if here.index == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with trouble.before("predict_block", strike), pytest.raises(StoppedError):
        surveys.run_here(survey)
    done = len(list((survey.parent / "out" / "N1.partial" / "chunks").iterdir()))
    found, galaxies, words = look(capsys, survey.parent / "out")
    assert (found["running"], found["state"]) == (False, "stopped: SIGTERM")
    assert (galaxies["N1"]["state"], galaxies["N1"]["chunks_done"]) == ("stopped", done)
    assert galaxies["N1"]["share"] == pytest.approx(done / 6)
    assert "The last one stopped: SIGTERM." in words
    assert f"{done}/6" in words


def test_with_failures(capsys: Capture, survey: Path) -> None:
    """One galaxy lacks a chunk, of the other nothing could be computed."""

    def fail(here: trouble.Step) -> None:
        if here.galaxy == "N2" or here.index == 3:
            raise ArithmeticError("a [bold]curse[/bold]")

    with trouble.before("predict_block", fail):
        surveys.run_here(survey)
    found, galaxies, words = look(capsys, survey.parent / "out")
    assert (found["running"], found["state"]) == (False, "ended")
    one, two = galaxies["N1"], galaxies["N2"]
    assert (one["state"], one["chunks"], one["chunks_done"], one["chunks_failed"]) == ("incomplete", 6, 5, 1)
    assert one["share"] == pytest.approx(5 / 6)
    assert (two["state"], two["chunks_done"], two["chunks_failed"]) == ("failed", 0, 5)
    assert "none succeeded: ArithmeticError: a [bold]curse[/bold]" in two["error"]
    assert "incomplete" in words
    assert "83%" in words

    surveys.run_here(survey)
    _, galaxies, _ = look(capsys, survey.parent / "out")
    assert {(galaxy["state"], galaxy["chunks_failed"]) for galaxy in galaxies.values()} == {("done", 0)}
    surveys.run_here(survey)
    _, galaxies, words = look(capsys, survey.parent / "out")
    assert {(galaxy["state"], galaxy["share"]) for galaxy in galaxies.values()} == {("skipped", 1.0)}
    assert "100%" in words


def test_where_nothing_was_run(capsys: Capture, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "no"):
        code, output, error = call(capsys, "status", folder)
        assert (code, output) == (2, "")
        assert error == f"error: {folder}: no survey was run there (no run.json); give a survey's output folder\n"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"galaxies": 3}', '{"galaxies": [3]}', '{"galaxies": [{}]}'])
def test_a_damaged_record(capsys: Capture, tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    code, _, error = call(capsys, "status", tmp_path)
    assert code == 2
    assert f"{tmp_path}/run.json: cannot be read" in error


def test_durations_for_people() -> None:
    said = [duration(seconds) for seconds in (None, 0.4, 59.6, 61, 3599.9, 86_400)]
    assert said == ["-", "0 s", "1 min 00 s", "1 min 01 s", "1 h 00 min", "24 h 00 min"]
