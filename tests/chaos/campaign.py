"""A survey that everything happens to: a seeded script of kills, cuts and full disks, and reruns until it is done.

    python -m tests.chaos.campaign --faults 30 --seed 1 [--slurm] [--report counts.json]

What must hold whatever happens: the products equal, byte for byte, those of a run that nothing happened to; nothing
with a final name is ever partial, as another process sees it; what was made with other settings is never taken.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests import surveys
from tests.slurm_here import slurm, why_not

GALAXIES, SHAPE = ("N1", "N2", "N3"), (40, 6)
#: One of them in bins: it takes three steps.
OWN: dict[str, dict[str, Any]] = {
    "N2": {"binning": {"method": "square", "size": 2, "covariance": 0.2, "snr_min": 0}, "products": {"grid": True}}
}
#: Two sets of settings between which the survey changes; the first is the last one, too.
REDSHIFTS = (surveys.REDSHIFT, 0.0051)
#: Seconds after which a run counts as hung.
HUNG = 240.0


class Campaign:
    """A survey, its faults, and what came of them.

    Parameters
    ----------
    folder : Path
    seed : int
    modes : tuple of str
        Of `local`, `existing`, `slurm`.
    environment : dict
        Of the commands; with SLURM's configuration.
    disk_mib : int or None
        The output folder is a disk of this size.
    """

    def __init__(
        self, folder: Path, seed: int, modes: tuple[str, ...], environment: dict[str, str], *, disk: bool
    ) -> None:
        self.folder, self.random, self.modes, self.environment = folder, random.Random(seed), modes, environment
        self.output = folder / "work" / "out"
        self.disk = disk
        self.faults: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.problems: list[str] = []
        self.settings = 0
        self.runs = self.refused = 0
        self.began = time.monotonic()
        self.log = (folder / "log.txt").open("a")

    # --- preparation ---

    def prepare(self) -> None:
        """Make cubes, weights and the products of undisturbed runs."""
        checkpoint = surveys.write_checkpoint(self.folder / "tiny.safetensors")
        for index, name in enumerate(GALAXIES):
            surveys.write_cube(self.folder / "cubes" / f"{name}.fits", SHAPE, seed=index, empty_rows=slice(5, 7))
        for number in range(len(REDSHIFTS)):
            self.survey(self.folder / f"calm{number}", number, checkpoint)
            done = self.start(self.folder / f"calm{number}" / "survey.yaml", [])
            code = done.wait(HUNG)
            assert code == 0, f"an undisturbed run ends with {code}"
        self.survey(self.folder / "work", 0, checkpoint)

    def survey(self, folder: Path, number: int, checkpoint: Path | None = None) -> Path:
        """Write the survey with one of the two settings."""
        if checkpoint is not None:
            cubes = self.folder / "cubes"
            galaxies = [{"name": name, "cube": str(cubes / f"{name}.fits")} | OWN.get(name, {}) for name in GALAXIES]
            surveys.write_survey(folder, galaxies, checkpoint, chunks={"rows": 1}, cluster={"workers": 2})
        path = folder / "survey.yaml"
        content = yaml.safe_load(path.read_text())
        content["defaults"]["redshift"] = REDSHIFTS[number]
        content["cluster"] = {"workers": 2, "dashboard": None}
        path.write_text(yaml.safe_dump(content))
        return path

    def start(self, survey: Path, options: list[str]) -> subprocess.Popen[bytes]:
        """Start a run in a session of its own."""
        command = [surveys.COMMAND, "run", str(survey), *options]
        return subprocess.Popen(command, env=self.environment, stdout=self.log, stderr=self.log, start_new_session=True)

    # --- a run and its faults ---

    def disturbed_run(self) -> None:
        """One run, to which one or more things happen."""
        self.runs += 1
        mode = self.random.choice(self.modes)
        with self.cluster(mode) as (options, processes):
            overwrite = ["--overwrite"] if self.runs > 1 else []
            driver = self.start(self.survey(self.folder / "work", self.settings), options + overwrite)
            try:
                self.disturb(driver, mode, processes)
                code = driver.wait(HUNG)
            except subprocess.TimeoutExpired:
                self.problems.append(f"run {self.runs} ({mode}) hung")
                os.killpg(driver.pid, signal.SIGKILL)
                code = driver.wait()
        self.mend()
        self.codes[str(code)] += 1
        if code not in (0, 1, 3, -signal.SIGKILL):
            self.problems.append(f"run {self.runs} ({mode}) ended with {code}")
        print(f"run {self.runs} ({mode}): code {code}; {sum(self.faults.values())} faults", file=self.log, flush=True)

    def disturb(self, driver: subprocess.Popen[bytes], mode: str, processes: dict[str, Any]) -> None:
        """Do things to a run, until one that ends it, or it ends by itself."""
        gentle = {"local": ["worker"], "existing": ["worker", "nanny"], "slurm": ["job", "job"]}[mode]
        final = ["driver", "terminate", "interrupt", "truncate"]
        final += ["disk"] if self.disk else []
        final += ["scheduler"] if mode == "existing" else []
        if not self.wait_for_chunks(driver, self.random.randint(0, 25)):
            return
        for _ in range(self.random.randint(0, 3)):
            if driver.poll() is None:
                self.do(self.choose(gentle), driver, processes)
                self.wait_for_chunks(driver, self.random.randint(1, 8))
        if driver.poll() is None and self.random.random() < 0.85:
            self.do(self.choose(final), driver, processes)

    def choose(self, faults: list[str]) -> str:
        """One of those that happened least often."""
        least = min(self.faults[fault] for fault in faults)
        return self.random.choice([fault for fault in faults if self.faults[fault] == least])

    def wait_for_chunks(self, driver: subprocess.Popen[bytes], more: int) -> bool:
        """Until so many more chunks are done; whether the run still goes on."""
        target, end = self.chunks() + more, time.monotonic() + 60
        while driver.poll() is None and time.monotonic() < end and (self.chunks() < target or not self.chunks()):
            time.sleep(0.02)
        time.sleep(self.random.uniform(0, 0.3))
        return driver.poll() is None

    def chunks(self) -> int:
        """Number of chunks in the ledgers, and of finished galaxies' chunks."""
        done = sum(SHAPE[0] for _ in self.output.glob("*.zarr"))
        return done + sum(1 for part in ("chunks", "bins") for _ in self.output.glob(f"*.partial/{part}/*.npz"))

    def do(self, fault: str, driver: subprocess.Popen[bytes], processes: dict[str, Any]) -> None:
        """Do one thing."""
        try:
            done = getattr(self, f"_{fault}")(driver, processes)
        except (OSError, psutil.Error, IndexError, ValueError):
            done = False  # it was over
        if done is not False:
            self.faults[fault] += 1
            print(f"run {self.runs}: {fault}", file=self.log, flush=True)

    def _worker(self, driver: subprocess.Popen[bytes], processes: dict[str, Any]) -> None:
        roots = [process.pid for process in processes.get("nannies", [])] or [driver.pid]
        found = [child for root in roots for child in psutil.Process(root).children(recursive=True)]
        self.random.choice([child for child in found if _is_worker(child)]).kill()

    def _nanny(self, _: subprocess.Popen[bytes], processes: dict[str, Any]) -> None:
        victim = self.random.randrange(len(processes["nannies"]))
        processes["nannies"][victim].kill()
        processes["nannies"][victim].wait()
        processes["nannies"][victim] = processes["start_worker"]()

    def _scheduler(self, _: subprocess.Popen[bytes], processes: dict[str, Any]) -> None:
        processes["scheduler"].kill()

    def _job(self, *_: Any) -> bool:
        listed = subprocess.run(
            ["squeue", "-h", "-t", "R", "-o", "%i"], env=self.environment, capture_output=True, text=True, check=True
        )
        jobs = listed.stdout.split()
        if not jobs:
            return False
        hard = ["--signal=KILL", "--full"] if self.random.random() < 0.5 else []
        subprocess.run(["scancel", *hard, self.random.choice(jobs)], env=self.environment, check=True)
        return True

    def _driver(self, driver: subprocess.Popen[bytes], _: Any) -> None:
        os.kill(driver.pid, signal.SIGKILL)

    def _terminate(self, driver: subprocess.Popen[bytes], _: Any) -> None:
        os.kill(driver.pid, signal.SIGTERM)

    def _interrupt(self, driver: subprocess.Popen[bytes], _: Any) -> None:
        os.killpg(driver.pid, signal.SIGINT)

    def _truncate(self, *_: Any) -> None:
        cube = self.folder / "cubes" / f"{self.random.choice(GALAXIES)}.fits"
        shutil.copy2(cube, cube.with_suffix(".whole"))
        with cube.open("r+b") as file:
            file.truncate(int(cube.stat().st_size * self.random.uniform(0.2, 0.9)))

    def _disk(self, *_: Any) -> None:
        with suppress(OSError), (self.output / ".filler").open("wb", buffering=0) as file:
            while file.write(bytes(1 << 12)):
                pass  # until there is no room

    def mend(self) -> None:
        """Put back what was cut off, make room, and end what a dead driver left."""
        (self.output / ".filler").unlink(missing_ok=True)
        for whole in (self.folder / "cubes").glob("*.whole"):
            whole.replace(whole.with_suffix(".fits"))
        if "slurm" in self.modes:
            subprocess.run(["scancel", "--me"], env=self.environment, check=False)

    @contextmanager
    def cluster(self, mode: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
        """What `--cluster` names, and the processes behind it."""
        if mode == "local":
            yield [], {}
            return
        path = self.folder / f"{mode}.yaml"
        if mode == "slurm":
            group = {"cores": 1, "memory": "2GiB", "walltime": "00:30:00"}
            gpu = group | {"jobs": 2, "partition": "gpu", "directives": ["--gres=gpu:1"]}
            cpu = group | {"jobs": 1, "partition": "cpu"}
            path.write_text(
                yaml.safe_dump({"type": "slurm", "interface": "lo", "dashboard": None, "gpu": gpu, "cpu": cpu})
            )
            yield ["--cluster", str(path)], {}
            return
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        path.write_text(yaml.safe_dump({"type": "existing", "scheduler_file": str(file), "dashboard": None}))
        run = [sys.executable, "-m"]
        environment = self.environment | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
        place = ["--scheduler-file", str(file), "--no-dashboard"]
        more = {"stdout": self.log, "stderr": self.log, "env": environment, "start_new_session": True}

        def start_worker() -> subprocess.Popen[bytes]:
            options = ["--nthreads", "1", "--host", "127.0.0.1", "--death-timeout", "20"]
            return subprocess.Popen([*run, "distributed.cli.dask_worker", *place, *options], **more)

        listen = ["--host", "127.0.0.1", "--port", "0"]
        scheduler = subprocess.Popen([*run, "distributed.cli.dask_scheduler", *place, *listen], **more)
        processes = {"scheduler": scheduler, "start_worker": start_worker}
        processes["nannies"] = [start_worker(), start_worker()]
        try:
            while not file.exists():
                time.sleep(0.1)
            yield ["--cluster", str(path)], processes
        finally:
            for process in [*processes["nannies"], scheduler]:
                for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                    child.kill()
                process.kill()
                process.wait()

    # --- the end ---

    def change_settings(self) -> None:
        """Go to the other settings; without --overwrite nothing of the old ones may be touched."""
        self.settings = 1 - self.settings
        before = surveys.tree(self.output)
        refused = self.start(self.survey(self.folder / "work", self.settings), [])
        self.refused += 1
        if refused.wait(HUNG) != 2:
            self.problems.append(f"other settings were not refused: {refused.returncode}")
        if surveys.tree(self.output) != before:
            self.problems.append("refusing other settings changed products")

    def finish(self) -> None:
        """Run, undisturbed, until everything is there."""
        for _ in range(4):
            self.runs += 1
            code = self.start(self.survey(self.folder / "work", self.settings), ["--overwrite"]).wait(HUNG)
            self.codes[str(code)] += 1
            if code == 0:
                return
        self.problems.append(f"the survey does not become done: {code}")

    def compare(self) -> tuple[int, int]:
        """Files and bytes that were compared with an undisturbed run's."""
        calm = self.folder / f"calm{self.settings}" / "out"
        expected, found = surveys.tree(calm), surveys.tree(self.output)
        for name in expected.keys() | found.keys():
            if expected.get(name) != found.get(name):
                self.problems.append(f"{name} differs from an undisturbed run's")
        if (calm / "failures.csv").read_bytes() != (self.output / "failures.csv").read_bytes():
            self.problems.append("failures.csv differs")
        if self.summary(calm) != self.summary(self.output):
            self.problems.append("summary.json differs")
        return len(expected), sum((calm / name).stat().st_size for name in expected)

    def summary(self, output: Path) -> list[dict[str, Any]]:
        """What summary.json says, but for times, and whether a galaxy was done by this run or an earlier one."""
        rows: list[dict[str, Any]] = json.loads((output / "summary.json").read_text())
        return [{key: row[key] for key in row if key not in ("seconds", "outcome")} for row in rows]

    def is_done(self) -> bool:
        """Whether every galaxy has its final name, and nothing is left of the work."""
        return len(list(self.output.glob("*.zarr"))) == len(GALAXIES) and not list(self.output.glob("*.partial"))

    def run(self, faults: int) -> dict[str, Any]:
        """The whole campaign; gives its counts."""
        self.output.mkdir(parents=True, exist_ok=True)
        report = self.folder / "watcher.json"
        watcher = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("watcher.py")), str(self.output), str(report)]
        )
        compared = [0, 0]
        try:
            while sum(self.faults.values()) < faults:
                self.disturbed_run()
                if self.is_done():
                    self.finish()
                    compared = [one + other for one, other in zip(compared, self.compare(), strict=True)]
                    self.change_settings()
            self.finish()
            compared = [one + other for one, other in zip(compared, self.compare(), strict=True)]
            time.sleep(1)
        finally:
            report.with_name("watcher.json.stop").touch()
            watcher.wait(60)
        watched = json.loads(report.read_text())
        self.problems += [f"partial under a final name: {text}" for text in watched["wrong"]]
        return {
            "faults": sum(self.faults.values()),
            "of_each": dict(sorted(self.faults.items())),
            "runs": self.runs,
            "exit_codes": dict(sorted(self.codes.items())),
            "other_settings_refused": self.refused,
            "files_compared": compared[0],
            "bytes_compared": compared[1],
            "looked_at_by_the_watcher": watched["checked"],
            "seconds": round(time.monotonic() - self.began),
            "problems": self.problems,
        }


def _is_worker(process: psutil.Process) -> bool:
    """Whether it was started by a nanny: afresh, or forked from the server that has imported everything."""
    parent = process.parent()
    forked = parent is not None and "multiprocessing.forkserver" in " ".join(parent.cmdline())
    return forked or "spawn_main" in " ".join(process.cmdline())


@contextmanager
def small_disk(path: Path, mib: int = 48) -> Iterator[bool]:
    """Make a folder a disk of its own, if this machine lets us; whether it is one."""
    path.mkdir(parents=True)
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(path)], capture_output=True, check=False
        ).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=False)


def campaign(folder: Path, *, faults: int, seed: int, modes: tuple[str, ...]) -> dict[str, Any]:
    """Run a campaign in an empty folder; see the module."""
    with ExitStack() as stack:
        environment = dict(os.environ)
        if "slurm" in modes:
            environment = stack.enter_context(slurm(folder / "slurm"))
        disk = stack.enter_context(small_disk(folder / "work" / "out"))
        chaos = Campaign(folder, seed, modes, environment, disk=disk)
        stack.callback(chaos.log.close)
        chaos.prepare()
        return chaos.run(faults)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slurm", action="store_true", help="also with a real SLURM on this machine")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    modes = ("local", "existing", *(("slurm",) if arguments.slurm else ()))
    if arguments.slurm and why_not():
        sys.exit(why_not())
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"log: {folder}/log.txt", flush=True)
    counts = campaign(folder, faults=arguments.faults, seed=arguments.seed, modes=modes)
    text = json.dumps(counts, indent=1)
    print(text)
    if arguments.report:
        arguments.report.write_text(text + "\n")
    sys.exit(1 if counts["problems"] else 0)


if __name__ == "__main__":
    main()
