"""Signals: answered at once, in words that say what is kept and how to go on."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer

from galprote.workflows import conduct, terminal
from galprote.workflows.stop import StopRequest, signals_stop
from tests import stores, surveys
from tests.surveys import call

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


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
