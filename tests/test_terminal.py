"""Manners: JSON alone on standard output, quiet and verbose, signals answered at once, one word for one thing."""

import hashlib
import inspect
import io
import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import numpy as np
import pytest
import typer
import yaml
from rich.console import Console

from galprote.model import evaluation
from galprote.model.errors import ConfigError
from galprote.model.training_config import read_training_config
from galprote.model.wording import count, did_you_mean
from galprote.workflows import completion, conduct, dashboard, terminal
from galprote.workflows.cli import app
from galprote.workflows.cluster import Nobody
from galprote.workflows.planning import PlannedGalaxy
from galprote.workflows.progress import LiveProgress, PlainProgress, QuietProgress, make_progress
from galprote.workflows.remaining import FIT, MEASURE, Remaining
from galprote.workflows.stop import StopRequest, signals_stop
from galprote.workflows.words import GALAXY_STATES, OUTCOMES, OVER
from tests import stores, surveys
from tests.surveys import call

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(str(info.callback.__name__) for info in app.registered_commands if info.callback)
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A survey of two galaxies, one of which has no cube; N1 is done."""
    folder = tmp_path_factory.mktemp("manners")
    surveys.write_cube(folder / "N1.fits", (4, 3))
    products = {"residual": False, "fits": False, "figure": False}
    galaxies = [{"name": name, "cube": f"{name}.fits", "products": products} for name in ("N1", "N2")]
    survey = surveys.write_survey(folder, galaxies, checkpoint, chunks={"rows": 2})
    results = surveys.run_here(survey)
    assert [result.outcome for result in results] == ["done", "failed"]
    return survey


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


# --- help ---


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_and_the_common_options(capsys: Capture, command: str) -> None:
    code, text, _ = call(capsys, command, "-h")
    assert code == 0
    assert f"Example: galprote-pipeline {command}" in text, "a last paragraph of the docstring"
    for option in ("--json", "--quiet", "-q", "--verbose", "-v", "--debug"):
        assert (option in text) == (option != "--json" or command != "view")


def test_commands_stand_in_groups(capsys: Capture) -> None:
    for words in ([], ["-h"]):
        _, text, error = call(capsys, *words)
        places = [(text + error).index(f" {panel} ") for panel in ("Map", "Single spectra", "Train")]
        assert places == sorted(places)


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
    assert "no such cube" in two["error"]
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


# --- progress and colours ---


def test_bars_only_where_a_terminal_can_draw_them(monkeypatch: Patch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    master, slave = pty.openpty()
    try:
        with os.fdopen(slave, "w") as screen:
            for term, kind in (("xterm-256color", LiveProgress), ("dumb", PlainProgress)):
                monkeypatch.setenv("TERM", term)
                assert isinstance(make_progress(Console(file=screen)), kind)
            monkeypatch.setenv("TERM", "xterm-256color")
            for variable, colours in ((None, True), ("NO_COLOR", False)):
                if variable:
                    monkeypatch.setenv(variable, "1")
                Console(file=screen, width=40).print("[red]cannot run[/]")
                screen.flush()
                assert ("\x1b[31m" in os.read(master, 1000).decode()) == colours
            monkeypatch.delenv("NO_COLOR")
    finally:
        os.close(master)
    monkeypatch.setenv("FORCE_COLOR", "1")
    pipe = Console(file=io.StringIO(), width=80)
    assert isinstance(make_progress(pipe), PlainProgress), "no bars in a file"
    assert isinstance(make_progress(pipe, quiet=True), QuietProgress)
    monkeypatch.delenv("FORCE_COLOR")
    file = io.StringIO()
    with make_progress(Console(file=file, width=80)) as progress:
        progress.start("N1", 10, 0)
        progress.advance("N1", 10, 9)
        progress.message("[mask] is no markup")
        progress.finish("N1", "done: 9 spaxels fitted in 1.0 s")
    assert file.getvalue() == "N1: 10 spaxels\n[mask] is no markup\nN1: done: 9 spaxels fitted in 1.0 s\n"


# --- signals ---


def test_what_is_said_to_one_two_and_three_signals() -> None:
    said: list[str] = []
    stop, clock = StopRequest("galprote-pipeline run s.yaml"), [0.0]
    stop.end = said.append
    stop.patient, stop.under_way = True, 3
    with mock.patch("time.monotonic", side_effect=lambda: clock[0]):
        for moment in (1.0, 1.05, 2.0, 3.0):  # the second is passed on by a parent
            clock[0] = moment
            stop.hear("SIGINT", said.append)
            assert (stop.requested, stop.at_once) == (True, moment >= 2)
    resume = ". To go on:\n  galprote-pipeline run s.yaml"
    assert said == [
        f"SIGINT: finishing the chunks under way (once more: stop at once){resume}",
        "SIGINT: stopping at once (once more: end the process)",
        f"SIGINT: ended; what was finished is kept{resume}",
    ]


def test_a_signal_is_answered_while_the_main_thread_is_busy_in_a_library() -> None:
    stop, said = StopRequest(), []
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    took = [0.0]
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        signals_stop(stop, lambda text: said.append((time.perf_counter(), text))),
    ):
        timer.start()
        began = time.perf_counter()
        try:
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", 600_000)  # a while without a step of Python
        finally:
            took[0] = time.perf_counter() - began
        time.sleep(5)
    assert took[0] > 0.15
    assert said[0][0] - began < 0.6 * took[0]
    assert said[0][1] == "SIGINT: stopped; nothing was under way"


class Dropping:
    """Something whose end drops exceptions, as many a library's has."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)


def test_a_signal_that_a_library_drops_is_raised_again(capsys: Capture) -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt), signals_stop(StopRequest(), said.append):  # noqa: PT012
        Dropping()
        time.sleep(10)
    assert said == ["SIGINT: stopped; nothing was under way"]
    assert capsys.readouterr().err == ""


def a_command(debug: terminal.Debug = False) -> None:
    """Do something that may be interrupted."""
    conduct.keeps("at most the last minute is lost", goes_on=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(20)


@pytest.mark.parametrize("quiet", [False, True])
def test_any_command_says_what_is_kept_and_ends_with_3(capsys: Capture, monkeypatch: Patch, quiet: bool) -> None:
    monkeypatch.setattr(sys, "argv", ["galprote-pipeline", "train", "my recipe.yaml"])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(typer.Exit) as error:
        conduct.conducted(a_command)(quiet=quiet, verbose=False, debug=False)
    assert error.value.exit_code == 3
    shown = capsys.readouterr()
    text = "SIGINT: stopped; at most the last minute is lost. To go on:\n  galprote-pipeline train 'my recipe.yaml'\n"
    assert (shown.err if quiet else shown.out) == text
    assert signal.getsignal(signal.SIGINT) is before


def test_a_viewer_that_is_ended_says_so(capsys: Capture, tmp_path: Path) -> None:
    """It has no other end: nothing was stopped, and the exit code is 0."""
    stores.write_store(tmp_path / "N1.zarr", stores.simple_maps((3, 4)))

    def serve(*_: object, **__: object) -> None:
        conduct.current_stop().hear("SIGINT", terminal.answer)

    with mock.patch("galprote.workflows.viewer.server.serve", serve):
        assert call(capsys, "view", tmp_path / "N1.zarr") == (0, "SIGINT: viewer ended\n", "")


def test_a_mock_that_is_interrupted_leaves_nothing(capsys: Capture, tmp_path: Path) -> None:
    def strike(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)

    with mock.patch("galprote.pipeline.mock._write_cube", side_effect=strike):
        code, text, error = call(capsys, "mock", tmp_path / "a.fits", "--ny", 8, "--nx", 8)
    assert (code, error) == (3, "")
    assert text == "SIGINT: stopped; nothing was written\n"
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_interrupted_while_it_imports(finished: Path) -> None:
    """Ctrl-C goes to all processes of the terminal's group."""
    words = [surveys.COMMAND, "run", str(finished)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        time.sleep(0.7)
        os.killpg(process.pid, signal.SIGINT)
        text = process.communicate(timeout=30)[0].decode()
    finally:
        process.kill()
    assert process.returncode == 3, text
    assert re.fullmatch(rf"SIGINT: stopped; nothing was .*\. To go on:\n  galprote-pipeline run {finished}\n", text)


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


# --- time left ---


def test_the_time_left_of_a_galaxy_with_bins() -> None:
    """Measuring takes a hundredth of a second a spaxel, a sum two, a fitted bin ten: 100 spaxels, 20 bins."""
    clock = [0.0]
    left = Remaining(lambda: clock[0])
    left.expect("B", 100, MEASURE)
    left.expect("S", 50, FIT)
    assert left.seconds() == (None, False)

    def work(name: str, step: str, things: int, each: float) -> None:
        clock[0] += things * each
        left.advance(name, step, things)

    left.begin("B", "measure", 100)
    work("B", "measure", 40, 0.01)
    assert left.seconds() == (pytest.approx(0.6), False), "what sums and fits take is not known"
    work("B", "measure", 60, 0.01)
    left.begin("B", "sum", 100)
    work("B", "sum", 50, 0.02)
    assert left.seconds() == (pytest.approx(1.0), False)
    work("B", "sum", 50, 0.02)
    left.begin("B", "fit", 20)
    work("B", "fit", 5, 0.1)
    assert left.seconds() == (pytest.approx(15 * 0.1 + 50 * 0.1), True), "S waits, and is fitted like B"
    left.end("B")
    left.end("S")
    assert left.seconds() == (0.0, True)
