"""Workers on SLURM: a group of jobs with GPUs and one without, kept at their number while a run goes on.

dask-jobqueue writes and submits the jobs. What is added here: two kinds of jobs on one scheduler, the same inside one
allocation (steps of srun instead of jobs of sbatch), and a keeper that asks SLURM which of them still exist. (Of a job
that was lost Dask only learns if its worker had connected, and submits no other.)
"""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
from dask import config as dask_config
from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed import Security
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from galprote.model.errors import ConfigError
from galprote.pipeline.cluster_config import SlurmAllocationCluster, SlurmCluster, WorkerGroup

#: Seconds between two questions to SLURM.
INTERVAL: Final = 10.0

#: Jobs of a group that may end one after the other without having worked, before a run gives up.
VAIN: Final = 5

#: dask-jobqueue's settings: all of them, so that none comes from a file somewhere.
DEFAULTS: Final[dict[str, Any]] = {
    "name": "galprote", "cores": None, "memory": None, "processes": None, "python": None, "interface": None,
    "death-timeout": "120", "local-directory": None, "shared-temp-directory": None, "extra": None,
    "worker-command": "distributed.cli.dask_worker", "worker-extra-args": [], "shebang": "#!/usr/bin/env bash",
    "queue": None, "account": None, "walltime": None, "env-extra": None, "job-script-prologue": [], "job-cpu": None,
    "job-mem": None, "job-extra": None, "job-extra-directives": [], "job-directives-skip": [], "log-directory": None,
    "scheduler-options": {},
}  # fmt: skip

SlurmConfig = SlurmCluster | SlurmAllocationCluster


class SbatchJob(SLURMJob):  # type: ignore[misc]
    """A worker as a job of its own."""

    async def close(self) -> None:
        """Cancel the job."""
        await super().close()  # type: ignore[no-untyped-call]
        self.status = Status.closed  # Dask insists when the cluster is closed


class SrunJob(SLURMJob):  # type: ignore[misc]
    """A worker as a step of the allocation in which the run itself goes on."""

    step: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the step."""
        script = Path(self.log_directory) / f"{self.name}.sh"
        script.write_text(self.job_script())  # type: ignore[no-untyped-call]
        # The same as sbatch would be asked for: what is to be left out is left out already.
        options = re.findall(r"^#SBATCH (--(?:cpus-per-task|mem)=\S+)$", str(self.job_header), re.MULTILINE)
        options = [text for text in options if text not in self.job_extra_directives]
        directives = [word for text in self.job_extra_directives for word in shlex.split(text)]
        command = ["srun", "--ntasks=1", "--nodes=1", "--exact", *options, *directives]
        log = Path(self.log_directory) / f"{self.name}.log"
        with log.open("ab") as file:
            self.step = await asyncio.create_subprocess_exec(
                *command,
                "bash",
                str(script),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.job_id = str(self.step.pid)
        await ProcessInterface.start(self)  # not SLURMJob's, which calls sbatch

    def has_ended(self) -> bool:
        """Whether the step is over."""
        return self.step is not None and self.step.returncode is not None

    async def close(self) -> None:
        """Stop the step."""
        if self.step is not None and self.step.returncode is None:
            with suppress(ProcessLookupError):
                self.step.terminate()
            try:
                await asyncio.wait_for(self.step.wait(), 10)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    self.step.kill()
        self.status = Status.closed


class JobKeeper:
    """Keeps the groups of jobs at their number.

    Parameters
    ----------
    cluster : SLURMCluster
    say : callable
        Told of lost jobs.
    patience : float
        Seconds without a worker, and without a job that waits or runs, after which it gives up.
    """

    def __init__(self, cluster: SLURMCluster, say: Callable[[str], None], patience: float) -> None:
        self.cluster, self.say, self.patience = cluster, say, patience
        self.seen = time.monotonic()
        self.asked = 0.0
        self.words = ""
        self.vain: dict[str, int] = {}
        self.worked: set[str] = set()

    def check(self) -> str:
        """Replace lost jobs, at most every ten seconds; say what is waited for, or nothing.

        Raises
        ------
        ConfigError
            If jobs end again and again before a worker has connected.
        """
        if time.monotonic() - self.asked < INTERVAL:
            return self.words
        self.asked = time.monotonic()
        for name, job in list(self.cluster.workers.items()):
            if job.job_id is None:  # was refused for the moment
                self._forget(name, job)
        jobs = dict(self.cluster.workers)
        states = job_states([job.job_id for job in jobs.values() if not isinstance(job, SrunJob)])
        if states is None:
            return self.words  # SLURM does not answer at the moment
        known = {str(about["name"]) for about in list(self.cluster.scheduler_info["workers"].values())}
        connected = {name for name in jobs if any(other == name or other.startswith(f"{name}-") for other in known)}
        steps = any(isinstance(job, SrunJob) and not job.has_ended() for job in jobs.values())
        if connected or states or steps:
            self.seen = time.monotonic()
        elif time.monotonic() - self.seen > self.patience:
            raise ConfigError(
                f"cluster: no worker and no job in the queue for {self.patience:.0f} s, and SLURM takes none"
            )
        self.vain |= dict.fromkeys((name.partition("-")[0] for name in connected), 0)
        self.worked |= {jobs[name].job_id for name in connected}
        for name, job in jobs.items():
            gone = job.has_ended() if isinstance(job, SrunJob) else job.job_id not in states
            if gone and name not in connected:  # or Dask would refuse the new worker the old one's name
                self._replace(name, job)
        waiting = sorted({why for why in states.values() if why})
        missing = set(self.cluster.worker_spec) - connected
        self.words = (
            f"{len(missing)} of {len(self.cluster.worker_spec)} workers' jobs are not there yet" if missing else ""
        )
        self.words += f" ({', '.join(waiting)})" if missing and waiting else ""
        with suppress(RuntimeError, OSError):  # refused for the moment
            self.cluster.sync(self.cluster._correct_state)
        return self.words

    def _replace(self, name: str, job: SLURMJob) -> None:
        """Forget a job that is gone, so that Dask submits another one."""
        group = name.partition("-")[0]
        self.vain[group] = 0 if job.job_id in self.worked else self.vain.get(group, 0) + 1
        if self.vain[group] >= VAIN:
            raise ConfigError(
                f"cluster.{group}: {VAIN} jobs ended before their workers could connect; the last one's log: "
                f"{last_words(Path(job.log_directory), job)}"
            )
        self.say(f"job {job.job_id} ({name}) is gone: submitting another one")
        self._forget(name, job)

    def _forget(self, name: str, job: SLURMJob) -> None:
        job.status = Status.closed
        self.cluster.workers.pop(name, None)


def job_states(jobs: list[str]) -> dict[str, str] | None:
    """Which jobs SLURM still knows, and why those that wait are waiting; None if it does not answer."""
    if not jobs:
        return {}
    command = ["squeue", "--noheader", "--me", "--format=%i|%t|%r"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 - no input
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return {
        row[0]: row[2] if row[1] == "PD" else "" for row in rows if len(row) == 3 and row[0] in jobs and row[1] != "CG"
    }


def last_words(logs: Path, job: SLURMJob) -> str:
    """The end of a job's log."""
    files = sorted([*logs.glob(f"*-{job.job_id}.err"), *logs.glob(f"{job.name}.log")])
    text = files[-1].read_text(errors="replace").strip() if files else ""
    return f"{files[-1]}: ...{text[-400:]}" if text else f"nothing in {logs}"


@contextmanager
def start_slurm(
    config: SlurmConfig, output: Path, dashboard: str, say: Callable[[str], None]
) -> Iterator[tuple[SLURMCluster, JobKeeper]]:
    """Start a scheduler in this process, and submit the jobs of its workers.

    Parameters
    ----------
    config : SlurmCluster or SlurmAllocationCluster
    output : Path
        The survey's output folder; logs, and the keys of TLS while the run goes on, are in its `.slurm/`.
    dashboard : str
        host:port
    say : callable

    Raises
    ------
    ConfigError
        If SLURM refuses the jobs.
    """
    folder = output / ".slurm"
    if re.search(r"[^\w@+=:,./-]", str(folder)):
        raise ConfigError(
            f"output = {output}: SLURM's scripts take no blanks or special characters in it; choose another folder"
        )
    folder.mkdir(mode=0o700, exist_ok=True)
    for key in folder.glob(".dask-jobqueue.worker.*"):
        key.unlink()  # of a run that was killed
    security = Security.temporary() if config.tls else None
    first = config.gpu or config.cpu
    assert first is not None
    job_cls = SbatchJob if isinstance(config, SlurmCluster) else SrunJob
    options = {
        "host": address_of(config.interface),
        "dashboard": config.dashboard is not None,
        "dashboard_address": dashboard,
    }
    with dask_config.set({"jobqueue.galprote": DEFAULTS}):
        cluster = SLURMCluster(
            job_cls=job_cls,  # type: ignore[arg-type]
            config_name="galprote",
            security=security,
            shared_temp_directory=str(folder),
            scheduler_options=options,
            silence_logs="critical",
            **job_options(config, first, folder),
        )
        with cluster, closing_keys(cluster):
            try:
                cluster.worker_spec.update(_specification(cluster, config, folder))
                cluster.sync(cluster._correct_state)
            except (RuntimeError, ValueError) as error:
                raise ConfigError(f"cluster: SLURM refuses the jobs: {refusal(str(error))}") from error
            yield cluster, JobKeeper(cluster, say, config.patience)


@contextmanager
def closing_keys(cluster: SLURMCluster) -> Iterator[None]:
    """Remove the files of keys at the end: dask-jobqueue leaves that to Python's collector, which may never come."""
    try:
        yield
    finally:
        for name, file in vars(cluster).items():
            if name.startswith("_job_") and hasattr(file, "close"):
                file.close()


def _specification(cluster: SLURMCluster, config: SlurmConfig, folder: Path) -> dict[str, Any]:
    """What Dask is to start, by the workers' names."""
    ((_, template),) = cluster.new_worker_spec().items()
    specification = {}
    for kind, group in (("gpu", config.gpu), ("cpu", config.cpu)):
        for index in range(group.jobs if group else 0):
            assert group is not None
            options = template["options"] | job_options(config, group, folder)
            processes = options["processes"]
            names = {"group": [f"-{i}" for i in range(processes)]} if processes > 1 else {}
            specification[f"{kind}-{index}"] = {"cls": template["cls"], "options": options} | names
    return specification


def job_options(config: SlurmConfig, group: WorkerGroup, folder: Path) -> dict[str, Any]:
    """dask-jobqueue's options of one group's jobs."""
    gpu = group is config.gpu
    arguments = ["--no-dashboard"] + (["--resources", "GPU=1"] if gpu else [])
    # A lost job is replaced by the keeper; SLURM's own requeue would make it two.
    requeue = ["--no-requeue"] if isinstance(config, SlurmCluster) and "--no-requeue" not in group.directives else []
    options: dict[str, Any] = {
        "cores": max(group.cores, 3) if gpu else group.cores,  # threads: while one predicts, others read and write
        "job_cpu": group.cores,
        "processes": 1 if gpu else group.cores,
        "memory": f"{int(group.memory)}B",
        "queue": group.partition,
        "walltime": group.walltime,
        "interface": config.interface,
        "worker_extra_args": arguments,
        "job_extra_directives": [*requeue, *group.directives],
        "job_directives_skip": list(group.skip_directives),
        "job_script_prologue": list(config.prologue),
        "log_directory": str(folder),
        "local_directory": config.scratch or "${TMPDIR:-/tmp}",
        "account": getattr(config, "account", None),
    }
    return options | ({"python": config.python} if config.python else {})


def check_here(config: SlurmConfig) -> None:
    """Raise ConfigError unless this machine has SLURM's commands and the interface."""
    needed = ["sbatch", "squeue", "scancel"] if isinstance(config, SlurmCluster) else ["srun"]
    if isinstance(config, SlurmAllocationCluster) and "SLURM_JOB_ID" not in os.environ:
        raise ConfigError(
            "cluster: slurm-allocation works inside an allocation (salloc, sbatch), and here is none: use slurm"
        )
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        raise ConfigError(f"cluster: {config.type} needs {', '.join(missing)}, not found here; run this where SLURM is")
    address_of(config.interface)


def address_of(interface: str) -> str:
    """IPv4 address of a network interface.

    Raises
    ------
    ConfigError
        If there is no such interface.
    """
    found = {
        name: [item.address for item in items if item.family == 2] for name, items in psutil.net_if_addrs().items()
    }
    if not found.get(interface):
        usable = ", ".join(f"{name} ({items[0]})" for name, items in found.items() if items)
        raise ConfigError(f"cluster.interface: no {interface} with an IPv4 address here; there are {usable}")
    return str(found[interface][0])


def refusal(text: str) -> str:
    """What sbatch says, out of dask-jobqueue's report."""
    found = re.findall(r"^sbatch: error: (.*)$", text, re.MULTILINE)
    return "; ".join(dict.fromkeys(found)) or text.strip().splitlines()[-1]
