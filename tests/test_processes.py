"""Whole runs in processes of their own: kills, signals, and what is in the output folder meanwhile."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.image
import numpy as np
import psutil
import pytest
import xarray as xr
import yaml
from astropy.io import fits

from tests import surveys
from tests.surveys import call

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_cube(tmp_path_factory.mktemp("cube") / "cube.fits", surveys.LONG, empty_rows=slice(10, 12))


@pytest.fixture
def survey(tmp_path: Path, cube: Path, checkpoint: Path) -> Path:
    """A survey of one galaxy; two worker processes."""
    return surveys.long_survey(tmp_path, cube, checkpoint)


@dataclass
class Running:
    """A command under way, and the processes that it started."""

    process: subprocess.Popen[str]
    children: dict[int, psutil.Process] = field(default_factory=dict)

    def look(self) -> None:
        """Note which processes there are."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        self.children.update({child.pid: child for child in found})

    def until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Wait for something, while the command is running."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, "took too long"
            self.look()
            time.sleep(0.02)

    def workers(self) -> list[psutil.Process]:
        """The worker processes that are alive."""
        found = []
        for process in self.children.values():
            with suppress(psutil.NoSuchProcess):
                parent = process.parent()
                if parent is not None and "multiprocessing.forkserver" in " ".join(parent.cmdline()):
                    found.append(process)
        return found

    def listening(self) -> set[str]:
        """Addresses at which the processes wait for connections."""
        found = set()
        for process in (psutil.Process(self.process.pid), *self.children.values()):
            with suppress(psutil.NoSuchProcess):
                found |= {one.laddr.ip for one in process.net_connections() if one.status == "LISTEN"}
        return found

    def finish(self) -> tuple[int, str, str]:
        """Exit code and output."""
        output, error = self.process.communicate(timeout=120)
        return self.process.returncode, output, error

    def survivors(self, seconds: float = 20) -> list[psutil.Process]:
        """Processes that are still there after a while."""
        return psutil.wait_procs(list(self.children.values()), timeout=seconds)[1]


def _listen_to_the_keyboard() -> None:
    """Undo what a shell does to commands in the background: they ignore Ctrl-C, and so do their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def running(survey: Path) -> Iterator[Running]:
    """`galprote-pipeline run`, in a process group of its own, as a terminal would start it."""
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    process = subprocess.Popen(
        [surveys.COMMAND, "run", str(survey)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
        preexec_fn=_listen_to_the_keyboard,  # noqa: PLW1509
    )
    command = Running(process)
    try:
        yield command
    finally:
        for child in (*command.children.values(), psutil.Process(process.pid) if process.poll() is None else None):
            if child is not None and child.is_running():
                child.kill()
        process.communicate()


def records(survey: Path) -> int:
    """Number of finished chunks on the disk."""
    return len(list(survey.parent.glob("out/N1.partial/chunks/*.npz")))


def complete(path: Path) -> bool:
    """Whether a file or store with a final name opens and has everything; fails if it does not."""
    if path.suffix == ".zarr":
        with xr.open_zarr(path) as store:
            assert {"age_lw", "status", "residual", "ra"} <= set(store.variables)
            assert np.isfinite(store["age_lw"].to_numpy()).sum() > 200
            np.isfinite(store["residual"].to_numpy())
    elif path.suffix == ".fits":
        with fits.open(path, checksum=True, memmap=False) as hdus:
            assert all(hdu.data is None or hdu.data.size for hdu in hdus)
    elif path.suffix == ".png":
        assert matplotlib.image.imread(path).ndim == 3
    elif path.suffix == ".json":
        json.loads(path.read_text())
    else:
        return path.suffix == ".partial"
    return True


@dataclass
class Whole:
    """A run that was watched from beginning to end."""

    folder: Path
    code: int
    output: str
    error: str
    opened: list[str]
    listening: set[str]
    survivors: list[psutil.Process]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cube: Path, checkpoint: Path) -> Whole:
    """One good and one truncated cube, and a worker killed on the way; files are opened as soon as they have names."""
    folder = tmp_path_factory.mktemp("whole")
    truncated = folder / "truncated.fits"
    truncated.write_bytes(cube.read_bytes()[:1_000_000])
    survey = surveys.long_survey(folder, cube, checkpoint, truncated)
    opened: dict[str, None] = {}
    listening: set[str] = set()
    victim: list[psutil.Process] = []
    with running(survey) as command:
        while command.process.poll() is None:
            command.look()
            if not victim and records(survey) >= 3:
                victim = command.workers()[:1]
                victim[0].kill()
            for path in folder.glob("out/*"):
                if path.suffix != ".partial" and path.name not in {".lock", "run.json", "failures.csv", *opened}:
                    assert complete(path), f"{path}: what is this?"
                    opened[path.name] = None
            if victim and not listening:
                listening = command.listening()
            time.sleep(0.01)
        assert victim, "the run was over before a worker could be killed"
        code, output, error = command.finish()
        return Whole(folder / "out", code, output, error, list(opened), listening, command.survivors())


def test_one_bad_cube_gives_exit_code_1_and_its_reason(whole: Whole) -> None:
    assert whole.code == 1, whole.error
    rows = {line.split("│")[1].strip(): line for line in whole.output.splitlines() if line.startswith("│")}
    assert "failed" in rows["N2"]
    assert "truncated" in whole.output
    assert "done" in rows["N1"]
    assert "240" in rows["N1"]
    assert "…" not in whole.output
    assert f"Products: {whole.folder}" in whole.output
    assert "Traceback" not in whole.error


def test_nothing_half_written_has_a_final_name(whole: Whole) -> None:
    """All was opened when it appeared. The store comes after what is made from it, and nothing else is left."""
    assert set(whole.opened) | {"summary.json"} == {
        "N1.zarr", "N1_MAPS.fits", "N1_RESIDUAL.fits", "N1_maps.png", "summary.json",
    }  # fmt: skip
    kept = {"summary.json", "failures.csv", "run.json", ".lock"}
    assert set(whole.opened) | kept == {path.name for path in whole.folder.iterdir()}
    assert not list(whole.folder.rglob("*.partial"))


def test_only_this_machine_can_connect(whole: Whole) -> None:
    assert whole.listening == {"127.0.0.1"}


def test_no_process_is_left(whole: Whole) -> None:
    assert not whole.survivors


def test_processes_and_threads_give_the_same_bytes(whole: Whole, tmp_path: Path, cube: Path, checkpoint: Path) -> None:
    survey = surveys.long_survey(tmp_path, cube, checkpoint)
    surveys.run_here(survey)
    assert surveys.tree(whole.folder) == surveys.tree(tmp_path / "out")


def test_run_again_with_other_settings(
    capsys: Capture, whole: Whole, tmp_path: Path, cube: Path, checkpoint: Path
) -> None:
    """Exit code 2, and what changed; with the same settings nothing is done."""
    survey = surveys.long_survey(tmp_path, cube, checkpoint)
    content = yaml.safe_load(survey.read_text()) | {"output": str(whole.folder)}
    survey.write_text(yaml.safe_dump(content))
    code, output, _ = call(capsys, "run", survey)
    assert code == 0
    assert "skipped" in output
    content["defaults"]["redshift"] = 0.0051
    survey.write_text(yaml.safe_dump(content))
    code, _, error = call(capsys, "run", survey)
    assert code == 2
    assert "settings.redshift: 0.005 -> 0.0051" in error


def test_killed_and_resumed_equals_undisturbed(survey: Path, whole: Whole) -> None:
    """SIGKILL in the middle; then a record and a shard torn, as if the power had failed, and an orphan of Zarr's."""
    with running(survey) as command:
        command.until(lambda: records(survey) >= 4)
        command.process.kill()
        code, _, _ = command.finish()
        assert code == -signal.SIGKILL
        assert not command.survivors(), "workers without a driver"
    partial = survey.parent / "out" / "N1.partial"
    finished = sorted((partial / "chunks").glob("*.npz"))
    assert 4 <= len(finished) < surveys.LONG[0]
    finished[2].write_bytes(finished[2].read_bytes()[:-700])
    missing = next(
        n for n in range(surveys.LONG[0]) if n not in (10, 11) and not (partial / f"chunks/{n:05d}.npz").exists()
    )
    shard = partial / f"N1.zarr/residual/c/0/{missing}/0"
    shard.parent.mkdir(parents=True, exist_ok=True)
    shard.write_bytes(b"torn")
    shard.with_name("0.1f2e.partial").write_bytes(b"orphan")
    progress = surveys.Recorder()
    (result,) = surveys.run_here(survey, progress=progress)
    assert result.outcome == "done", result.details
    kept = len(finished) - 1
    assert progress.started["N1"] == (240, 6 * kept)
    assert progress.chunks["N1"] == surveys.LONG[0] - kept, "finished chunks are not computed again"
    assert surveys.tree(survey.parent / "out") == surveys.tree(whole.folder)


def test_interrupted_by_the_keyboard(capsys: Capture, survey: Path, whole: Whole) -> None:
    """Ctrl-C goes to every process of the terminal's group. Before it, a second run is kept out of the folder."""
    with running(survey) as command:
        command.until(lambda: records(survey) >= 2)
        os.killpg(command.process.pid, signal.SIGSTOP)  # or it might be done before the second run has looked
        refused, _, message = call(capsys, "run", survey)
        os.killpg(command.process.pid, signal.SIGCONT)
        assert refused == 2
        assert f"another run is working there (process {command.process.pid} on " in message
        os.killpg(command.process.pid, signal.SIGINT)
        code, output, error = command.finish()
        assert code == 3, error
        assert "SIGINT: finishing the chunks under way" in output
        assert f"stopped (SIGINT). To go on:\n  galprote-pipeline run {survey}" in error
        assert "Traceback" not in output + error
        assert not command.survivors()
    progress = surveys.Recorder()
    surveys.run_here(survey, progress=progress)
    assert progress.chunks["N1"] <= surveys.LONG[0] - 2
    assert surveys.tree(survey.parent / "out") == surveys.tree(whole.folder)
