"""What a command does while it runs: wall and processor time, memory of all its processes, files as they come."""

import ctypes
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import psutil

#: The command line of this environment, and how it is called where the script is not there.
_SCRIPT = Path(sys.executable).with_name("galprote-pipeline")
COMMAND = (
    [str(_SCRIPT)] if _SCRIPT.is_file() else [sys.executable, "-c", "from galprote.workflows.cli import main; main()"]
)
#: From Linux' prctl.h.
PR_SET_CHILD_SUBREAPER = 36
#: Seconds between two looks at the files.
FILES_EVERY = 0.01


@dataclass
class Peaks:
    """Largest memory, bytes; proportional shares (PSS) count shared pages once.

    Attributes
    ----------
    command, child, every : int
        Proportional memory of the command itself, of any of its descendants, and of all together.
    resident : int
        Resident memory of all together.
    processes : int
    """

    command: int = 0
    child: int = 0
    every: int = 0
    resident: int = 0
    processes: int = 0

    def look(self, process: psutil.Process) -> None:
        """Look at a process and its descendants."""
        try:
            members = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        every = resident = number = 0
        for member in members:
            try:
                memory = member.memory_full_info()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            every, resident, number = every + memory.pss, resident + memory.rss, number + 1
            if member.pid == process.pid:
                self.command = max(self.command, memory.pss)
            else:
                self.child = max(self.child, memory.pss)
        self.every, self.resident = max(self.every, every), max(self.resident, resident)
        self.processes = max(self.processes, number)


@dataclass
class Watched:
    """What a command did.

    Attributes
    ----------
    exit_code : int
    seconds : float
        Wall time.
    processor_seconds : float
        Of the command and all of its descendants.
    page_faults : int
        Of the same, without those that waited for a disk: memory that was given back and asked for again.
    peaks : Peaks
    files : dict of Path to float
        When files were first seen, seconds since the start.
    """

    exit_code: int
    seconds: float
    processor_seconds: float
    page_faults: int
    peaks: Peaks
    files: dict[Path, float] = field(default_factory=dict)

    def times(self, pattern: str) -> list[float]:
        """When the files of a pattern came, in order."""
        return sorted(when for path, when in self.files.items() if path.match(pattern))


def watch(
    command: Sequence[str],
    find: Callable[[], Sequence[Path]] = tuple,
    *,
    memory_every: float = 0.1,
    log: Path | None = None,
) -> Watched:
    """Run a command to its end.

    Parameters
    ----------
    command : sequence of str
    find : callable
        Gives the files that are there now, of those that matter.
    memory_every : float
        Seconds between two looks at the memory. One costs about 8 ms of a core for every process: ten a second slow
        down what they watch.
    log : Path, optional
        Where what it prints goes; by default to where this process prints.
    """
    _adopt_orphans(adopt=True)
    older = set(psutil.Process().children())
    before = _used_by_children()
    with log.open("wb") if log else nullcontext() as output:
        began = time.perf_counter()
        process = psutil.Popen(list(command), stdout=output, stderr=subprocess.STDOUT if output else None)
    peaks, files, looked = Peaks(), dict[Path, float](), -memory_every
    while process.poll() is None:
        now = time.perf_counter() - began
        for path in find():
            files.setdefault(path, now)
        if now - looked >= memory_every:
            peaks.look(process)
            looked = now
        time.sleep(FILES_EVERY)
    seconds, exit_code = time.perf_counter() - began, process.wait()
    psutil.wait_procs(set(psutil.Process().children()) - older, timeout=10)
    _adopt_orphans(adopt=False)
    processor, faults = _used_by_children()
    return Watched(exit_code, seconds, processor - before[0], faults - before[1], peaks, files)


def run_survey(survey: Path, memory_every: float = 0.1) -> Watched:
    """Run a survey whose output folder is `out` beside it; its files are those of chunks and of products.

    What it prints goes to a log beside it.
    """
    output = survey.parent / "out"

    def find() -> list[Path]:
        working = [*output.glob("*.partial/chunks/*.npz"), *output.glob("*.partial/bins/*.npz")]
        return [*working, *output.glob("*.zarr")]

    return watch([*COMMAND, "run", str(survey)], find, memory_every=memory_every, log=survey.with_suffix(".log"))


def _adopt_orphans(*, adopt: bool) -> None:
    """Become, on Linux, the parent of descendants whose own parent ends before them, such as the workers' server.

    Only what a parent has waited for counts as used by its children.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def _used_by_children() -> tuple[float, int]:
    """Processor time and page faults of all descendants that have ended."""
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, used.ru_minflt
