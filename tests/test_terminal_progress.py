"""Progress: bars and colours where a terminal can draw them, and the time left."""

import io
import os
import pty
import re

import pytest
from rich.console import Console

from galprote.workflows import terminal
from galprote.workflows.logbook import GalaxyResult
from galprote.workflows.progress import LiveProgress, PlainProgress, QuietProgress, make_progress
from galprote.workflows.remaining import FIT, MEASURE, Remaining
from galprote.workflows.reporting import results_table
from galprote.workflows.terminal import speaking

Patch = pytest.MonkeyPatch


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


def test_counts_have_separators_and_every_message_its_time_where_more_is_wanted(monkeypatch: Patch) -> None:
    monkeypatch.setattr("galprote.workflows.progress.PLAIN_INTERVAL", 0.0)
    file = io.StringIO()
    with speaking(quiet=False, verbose=True, as_json=False), PlainProgress(Console(file=file, width=80)) as progress:
        progress.start("N1", 12_960, 6_000)
        progress.advance("N1", 2_000, 1_900)
        progress.start("N1", 1_200, 1_000, "bins")
        progress.message("a note")
        progress.finish("N1", "done")
    lines = file.getvalue().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d [Na]", line) for line in lines)
    begun, middle, *rest = [line[9:] for line in lines]
    assert begun == "N1: 12,960 spaxels, 6,000 done earlier"
    assert middle.startswith("N1: 8,000/12,960 spaxels (62%), ")
    assert rest == ["N1: 1,000/1,200 bins", "a note", "N1: done"]
    with terminal.console.capture() as shown:
        terminal.show(results_table([GalaxyResult("N1", "done", spaxels=10_000, fitted=6_702, seconds=6.6)]))
    assert "10,000" in shown.get()
    assert "6,702" in shown.get()


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
