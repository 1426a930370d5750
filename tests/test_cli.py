"""The command as it is typed: exit codes, messages, kills, and what is in the output folder meanwhile."""

import io
import json
import os
import signal
import socket
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
from rich.console import Console

from galprote.workflows.cli import main
from galprote.workflows.cluster import dashboard_address
from galprote.workflows.progress import LiveProgress
from galprote.workflows.reporting import results_table
from galprote.workflows.survey import GalaxyResult
from tests import surveys

COMMANDS = ("run", "plan", "inspect", "mock", "train", "evaluate")
Capture = pytest.CaptureFixture[str]
#: A 40 x 6 cube in chunks of one row: seconds of work, so that a signal meets it in the middle.
LONG = (40, 6)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_cube(tmp_path_factory.mktemp("cube") / "cube.fits", LONG, empty_rows=slice(10, 12))


@pytest.fixture
def survey(tmp_path: Path, cube: Path, checkpoint: Path) -> Path:
    """A survey of one galaxy; two worker processes."""
    return long_survey(tmp_path, cube, checkpoint)


def long_survey(folder: Path, cube: Path, checkpoint: Path, *others: Path) -> Path:
    galaxies = [{"name": f"N{n}", "cube": str(path)} for n, path in enumerate((cube, *others), 1)]
    cluster = {"workers": 2, "dashboard": None}
    return surveys.write_survey(folder, galaxies, checkpoint, chunks={"rows": 1}, cluster=cluster)


def call(capsys: Capture, *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in this process."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    output = capsys.readouterr()
    return int(stop.value.code or 0), output.out, output.err


# --- usage ---


def test_version(capsys: Capture) -> None:
    code, output, _ = call(capsys, "--version")
    assert code == 0
    assert output.startswith("galprote ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys: Capture, command: str) -> None:
    code, output, _ = call(capsys, command, "--help")
    assert code == 0
    assert "--debug" in output
    assert command in call(capsys, "--help")[1]


@pytest.mark.parametrize("words", [["fly"], ["run"], ["run", "--fast", "a.yaml"], ["inspect"], ["plan", "a", "b"]])
def test_wrong_usage(capsys: Capture, words: list[str]) -> None:
    code, _, error = call(capsys, *words)
    assert code == 2
    assert "Usage" in error
    assert "Traceback" not in error


# --- configuration ---


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("output: [", ["not valid YAML"]),
        ("output: out\n", ["galaxies"]),
        ("output: out\ngalaxies: [{name: A, cube: a.fits, redshift: -0.2, foreground: {ebv: 0}}]",
         ["galaxies[0].redshift = -0.2", "greater than -0.01"]),
        ("output: out\ngalaxies: [{name: A, cube: a.fits, redshfit: 0.1, foreground: {ebv: 0}}]",
         ["redshfit", "redshift"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["run", "plan"])
def test_wrong_settings(capsys: Capture, tmp_path: Path, command: str, text: str, named: list[str]) -> None:
    path = tmp_path / "survey.yaml"
    path.write_text(text)
    code, _, error = call(capsys, command, path)
    assert code == 2
    assert error.startswith(f"error: {path}")
    for part in named:
        assert part in error
    assert "Traceback" not in error


def test_debug_shows_the_traceback(capsys: Capture, tmp_path: Path) -> None:
    code, _, error = call(capsys, "run", tmp_path / "no.yaml", "--debug")
    assert code == 2
    assert "Traceback" in error
    assert "no.yaml: cannot be read" in error


def test_a_missing_cube_is_an_error_for_run_and_an_answer_for_plan(
    capsys: Capture, tmp_path: Path, checkpoint: Path
) -> None:
    galaxies = [{"name": name, "cube": f"[cubes]/{name}.fits"} for name in ("N1", "N2")]
    survey = surveys.write_survey(tmp_path, galaxies, checkpoint)
    code, _, error = call(capsys, "run", survey)
    assert code == 2
    assert f"N1: no such cube: {tmp_path}" in error
    assert "N2: no such cube" in error
    code, output, _ = call(capsys, "plan", survey)
    assert code == 0
    assert output.count("cannot run") == 4
    assert f"N2: no such cube: {tmp_path}/[cubes]/N2.fits" in output, "brackets are no markup"
    code, output, _ = call(capsys, "plan", survey, "--json")
    assert [galaxy["plan"] for galaxy in json.loads(output)["galaxies"]] == [None, None]
    assert not (tmp_path / "out").exists()


def test_a_plan_is_not_squeezed(capsys: Capture, survey: Path) -> None:
    content = yaml.safe_load(survey.read_text())
    content["output"] = "sub/../out"
    survey.write_text(yaml.safe_dump(content))
    code, output, _ = call(capsys, "plan", survey)
    assert code == 0
    assert "…" not in output
    for text in ("1897 of 1902", "40 x 6", "40 of 1 rows", "peak memory", "N1_CONTSUB.fits"):
        assert (text in output) == (text != "N1_CONTSUB.fits"), text
    assert f"Output: {survey.parent / 'out'}" in output
    assert not (survey.parent / "out").exists()


def test_an_output_that_cannot_be_made(capsys: Capture, survey: Path) -> None:
    (survey.parent / "out").write_text("a file")
    code, _, error = call(capsys, "run", survey)
    assert code == 2
    assert "output = " in error
    assert "File exists" in error
    assert "Traceback" not in error


def test_a_file_that_cannot_be_written(capsys: Capture, tmp_path: Path, checkpoint: Path) -> None:
    """An error of the file system is no bug: no traceback either."""
    code, _, error = call(
        capsys, "mock", tmp_path / "no" / "such" / "x.txt", "--checkpoint", checkpoint, "--ny", 8, "--nx", 8
    )
    assert code == 2
    assert "Traceback" not in error


def test_inspect(capsys: Capture, cube: Path, tmp_path: Path) -> None:
    code, output, _ = call(capsys, "inspect", cube)
    assert code == 0
    assert "AWAV" in output or "air" in output
    code, output, _ = call(capsys, "inspect", cube, "--json")
    assert code == 0
    assert json.loads(output)
    bad = tmp_path / "bad.fits"
    bad.write_bytes(b"no FITS file" * 300)
    code, _, error = call(capsys, "inspect", bad)
    assert code == 2
    assert f"error: {bad}: not a FITS file" in error


# --- whole runs, in processes of their own ---


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
                if "spawn_main" in " ".join(process.cmdline()):
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
    survey = long_survey(folder, cube, checkpoint, truncated)
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
            if opened and not listening:
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
    survey = long_survey(tmp_path, cube, checkpoint)
    surveys.run_here(survey)
    assert surveys.tree(whole.folder) == surveys.tree(tmp_path / "out")


def test_brackets_in_a_message_are_no_markup() -> None:
    why = "[mask] is no [/path] of file.fits[DQ]"
    console = Console(file=io.StringIO(), width=160, force_terminal=True, color_system=None)
    console.print(results_table([GalaxyResult("N1", "failed", error=why)]))
    with LiveProgress(console) as progress:
        progress.start("N1", 10, 0)
        progress.finish("N1", why)
        progress.message(why)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count(why) >= 3


def test_a_busy_port_is_left_to_others() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert dashboard_address(f"127.0.0.1:{port}") == "127.0.0.1:0"
    assert dashboard_address(f"127.0.0.1:{port}") == f"127.0.0.1:{port}"
    assert dashboard_address(None) == "127.0.0.1:0", "Dask would listen on port 8787 otherwise"


def test_run_again_with_other_settings(
    capsys: Capture, whole: Whole, tmp_path: Path, cube: Path, checkpoint: Path
) -> None:
    """Exit code 2, and what changed; with the same settings nothing is done."""
    survey = long_survey(tmp_path, cube, checkpoint)
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
    assert 4 <= len(finished) < LONG[0]
    finished[2].write_bytes(finished[2].read_bytes()[:-700])
    missing = next(n for n in range(LONG[0]) if n not in (10, 11) and not (partial / f"chunks/{n:05d}.npz").exists())
    shard = partial / f"N1.zarr/residual/c/0/{missing}/0"
    shard.parent.mkdir(parents=True, exist_ok=True)
    shard.write_bytes(b"torn")
    shard.with_name("0.1f2e.partial").write_bytes(b"orphan")
    progress = surveys.Recorder()
    (result,) = surveys.run_here(survey, progress=progress)
    assert result.outcome == "done", result.details
    kept = len(finished) - 1
    assert progress.started["N1"] == (240, 6 * kept)
    assert progress.chunks["N1"] == LONG[0] - kept, "finished chunks are not computed again"
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
    assert progress.chunks["N1"] <= LONG[0] - 2
    assert surveys.tree(survey.parent / "out") == surveys.tree(whole.folder)
