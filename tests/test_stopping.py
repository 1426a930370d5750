"""Runs that end early, in good order: what is finished is kept, nothing is left half written, and a rerun completes."""

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from galprote.pipeline import ledger, store
from galprote.pipeline.store import GalaxyStore
from galprote.workflows import entry, logbook
from galprote.workflows.status import read_status
from galprote.workflows.stop import SIGNALS, StoppedError, StopRequest, is_disk_full, signals_stop
from tests import surveys, trouble

SHAPE = (8, 5)
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_cube(tmp_path_factory.mktemp("cube") / "cube.fits", SHAPE)


def small(folder: Path, cube: Path, checkpoint: Path) -> Path:
    galaxies = [{"name": "N1", "cube": str(cube), "products": {"grid": True}}]
    return surveys.write_survey(folder, galaxies, checkpoint, chunks={"rows": 1})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cube: Path, checkpoint: Path) -> dict[str, str]:
    survey = small(tmp_path_factory.mktemp("undisturbed"), cube, checkpoint)
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.details
    return surveys.tree(survey.parent / "out")


@pytest.fixture
def survey(tmp_path: Path, cube: Path, checkpoint: Path) -> Path:
    return small(tmp_path, cube, checkpoint)


def chunks(survey: Path) -> set[int]:
    """Chunks in the ledger."""
    return {int(path.stem) for path in survey.parent.glob("out/N1.partial/chunks/*.npz")}


def stopped(survey: Path, progress: surveys.Recorder | None = None) -> StoppedError:
    """Run; it must stop, and leave nothing half written, by whatever name."""
    with pytest.raises(StoppedError) as error:
        surveys.run_here(survey, progress=progress)
    halves = [path for path in survey.parent.rglob("*.partial") if path.is_file()]
    assert not halves
    assert [result.outcome for result in error.value.results] == ["stopped"]
    assert not list(survey.parent.glob("out/N1[_.]*[!l]")), "products have names"  # all but N1.partial
    return error.value


def completes(survey: Path, undisturbed: dict[str, str], kept: set[int]) -> None:
    """Run again: only what is missing is computed, and all is as if nothing had been."""
    progress = surveys.Recorder()
    with trouble.before("predict_block", lambda _: None) as calls:
        (result,) = surveys.run_here(survey, progress=progress)
    assert result.outcome == "done", result.details
    assert {call.index for call in calls} == set(range(8)) - kept
    assert progress.started["N1"] == (40, 5 * len(kept))
    assert surveys.tree(survey.parent / "out") == undisturbed
    assert not list(survey.parent.rglob("*.partial"))


# --- signals ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_lets_finish_what_is_under_way(survey: Path, undisturbed: dict[str, str], number: int) -> None:
    told = threading.Event()

    class Told(surveys.Recorder):
        def message(self, text: str) -> None:
            super().message(text)
            if "finishing the chunks under way" in text:
                told.set()

    def strike(here: trouble.Step) -> None:
        if here.index == 2:
            os.kill(os.getpid(), number)
            assert told.wait(20)  # this chunk is still under way when the signal has been heard

    progress, handlers = Told(), [signal.getsignal(each) for each in SIGNALS]
    with trouble.before("predict_block", strike) as calls:
        error = stopped(survey, progress)
    name = signal.Signals(number).name
    assert str(error) == f"stopped ({name})"
    assert f"{name}: finishing the chunks under way (once more: stop at once)" in progress.messages
    kept = chunks(survey)
    assert 2 in kept
    assert kept == {call.index for call in calls}, "what was begun was finished"
    assert len(kept) < 8, "nothing new was begun"
    assert read_status(survey.parent / "out").state == f"stopped: {name}"
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    completes(survey, undisturbed, kept)


def test_a_second_signal_stops_at_once(survey: Path, undisturbed: dict[str, str]) -> None:
    struck, over = threading.Event(), threading.Event()

    def strike(here: trouble.Step) -> None:
        if here.index < 2:
            return
        if here.index == 2:  # from one thread alone: a third signal ends more than the run
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)
            struck.set()
        struck.wait(30)  # a later chunk may be there before
        over.wait(5)  # hangs; a run that waited for it would have it in its ledger

    began = time.monotonic()
    try:
        with trouble.before("predict_block", strike):
            error = stopped(survey)
    finally:
        over.set()
    assert str(error) == "stopped (SIGINT)"
    kept = chunks(survey)
    assert kept <= {0, 1}
    assert time.monotonic() - began < 60
    completes(survey, undisturbed, kept)


def test_signals_mean_nothing_outside_a_run() -> None:
    """Only a main thread gets them; elsewhere a run does without."""
    stop, seen = StopRequest(), []
    with pytest.raises(KeyboardInterrupt), signals_stop(stop, seen.append):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(10)
    assert (stop.reason, stop.at_once) == ("SIGHUP", False)
    assert seen == ["SIGHUP: stopped; nothing was under way"]

    def elsewhere() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with signals_stop(StopRequest(), seen.append):
            assert signal.getsignal(signal.SIGTERM) is before
        seen.append("done")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "done" in seen


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT])
def test_what_nohup_or_a_script_ignores_stays_ignored(ignored: signal.Signals) -> None:
    """SIGHUP with nohup, SIGINT of a job in the background; SIGTERM is answered all the same."""
    before = signal.signal(ignored, signal.SIG_IGN)
    stop, seen = StopRequest(), []
    try:
        with pytest.raises(KeyboardInterrupt), signals_stop(stop, seen.append):  # noqa: PT012
            assert signal.getsignal(ignored) is signal.SIG_IGN
            os.kill(os.getpid(), ignored)
            signal.signal(ignored, lambda *_: None)  # a library takes it
            stop.listen_again()
            assert signal.getsignal(ignored) is signal.SIG_IGN
            os.kill(os.getpid(), ignored)
            time.sleep(0.05)
            assert not stop.requested
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            except KeyboardInterrupt:
                pass  # dropped: it is raised again, by a signal that is not ignored
            for _ in range(100):
                time.sleep(0.02)
            seen.append("it was not raised again")
        assert signal.getsignal(ignored) is signal.SIG_IGN
    finally:
        signal.signal(ignored, before)
    assert (stop.reason, seen) == ("SIGTERM", ["SIGTERM: stopped; nothing was under way"])


def test_a_command_in_the_background_begins_with_what_is_ignored() -> None:
    """Nothing takes SIGINT from the first line of the command on; what is asked here ends at once."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    seen: list[Any] = []

    def look() -> None:
        seen.append(signal.getsignal(signal.SIGINT))

    try:
        with mock.patch("galprote.workflows.cli.main", look):
            entry.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIG_IGN]


# --- disks that are full ---


@contextmanager
def full(owner: Any, name: str, *, after: int) -> Iterator[None]:
    """A disk that is full from the n-th call of something on."""
    original, count = getattr(owner, name), [0]

    def write(*args: Any, **more: Any) -> Any:
        count[0] += 1
        if count[0] > after:
            raise FULL
        return original(*args, **more)

    with mock.patch.object(owner, name, write):
        yield


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (GalaxyStore, "begin", 0),
        (GalaxyStore, "create", 0),
        (GalaxyStore, "write_record", 3),
        (GalaxyStore, "_write_shards", 3),
        (store, "to_disk", 2),  # shards
        (os, "fsync", 12),  # in the middle of a chunk
        (GalaxyStore, "assemble", 0),
        (GalaxyStore, "publish", 0),
    ],
)
def test_a_full_disk_stops_the_run_and_costs_nothing(
    survey: Path, undisturbed: dict[str, str], owner: Any, name: str, after: int
) -> None:
    with full(owner, name, after=after):
        error = stopped(survey)
    text = str(error)
    assert text.startswith(f"no space left on the disk of {survey.parent / 'out'}: ")
    free, needed = text.split(": ", 1)[1].split(" are free, what is missing may take up to ")
    assert float(free.split()[0]) > 0
    kept = chunks(survey)
    assert float(needed.split()[0]) > 0 or len(kept) == 8
    if name in ("write_record", "_write_shards"):
        assert len(kept) == after
    completes(survey, undisturbed, kept)


@pytest.mark.parametrize("step", ["publish.export_fits", "figure.draw_maps"])
def test_a_disk_that_is_full_when_products_are_made(survey: Path, undisturbed: dict[str, str], step: str) -> None:
    """The files' own writes fail, in the middle."""
    device = Path("/dev/full")
    assert device.exists()

    def no_room(store: Path, path: Path) -> None:
        target = path / "N1_MAPS.fits" if path.is_dir() else path
        target.write_bytes(b"half")
        with device.open("wb", buffering=0) as file:
            file.write(b"x")

    with mock.patch(f"galprote.workflows.{step}", no_room):
        error = stopped(survey)
    assert "no space left" in str(error)
    assert chunks(survey) == set(range(8))
    assert not [path for path in survey.parent.rglob("*") if path.suffix in (".png", ".fits")], "half a product"
    completes(survey, undisturbed, set(range(8)))


def test_a_disk_that_is_full_when_a_failure_is_recorded(survey: Path, undisturbed: dict[str, str]) -> None:
    with (
        trouble.before("predict_block", trouble.failing(3)),
        full(GalaxyStore, "record_failures", after=1),  # the first empties the list
    ):
        assert "no space left" in str(stopped(survey))
    completes(survey, undisturbed, chunks(survey))


def test_a_run_outlives_its_log(survey: Path, undisturbed: dict[str, str]) -> None:
    """run.json, summary.json and failures.csv are for people; products are what a run is for."""
    with full(logbook, "write_text", after=0), full(logbook, "write_failures", after=0):
        (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.details
    assert surveys.tree(survey.parent / "out") == undisturbed
    assert not (survey.parent / "out" / "run.json").exists()


def test_a_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    ledger.write_text(path, "old")
    with full(os, "fsync", after=0), pytest.raises(OSError, match="No space left"):
        ledger.write_text(path, "new")
    with mock.patch("os.fsync", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        ledger.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_known_behind_other_errors(number: int) -> None:
    def fail() -> None:
        try:
            raise OSError(number, "full")
        except OSError as cause:
            raise ValueError("cannot write") from cause

    with pytest.raises(ValueError, match="cannot write") as error:
        fail()
    assert is_disk_full(error.value)
    assert not is_disk_full(OSError(errno.EIO, "broken"))
    assert not is_disk_full(None)
