"""The section `cluster` + plan -> a Dask client with workers: on this machine, on SLURM, or of somebody's cluster."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from dask import config as dask_config
from distributed import Client, Nanny, Scheduler, Security, SpecCluster
from distributed.utils import get_mp_context

from galprote.model.errors import ConfigError
from galprote.pipeline.cluster_config import (
    AnyCluster,
    ExistingCluster,
    LocalCluster,
    LocalCudaCluster,
    SlurmAllocationCluster,
    SlurmCluster,
)
from galprote.workflows.capacity import visible_gpus
from galprote.workflows.forking import METHOD, signals_held, start_server
from galprote.workflows.slurm_cluster import check_here, start_slurm
from galprote.workflows.terminal import log_level

#: Threads of a worker with a GPU: while one predicts, the others read and write.
GPU_THREADS = 3


class Keeper(Protocol):
    """Whoever replaces lost workers."""

    def check(self) -> str:
        """Replace what was lost; say in words what is waited for, or nothing."""


class Nobody:
    """Dask's nannies replace lost processes by themselves."""

    def check(self) -> str:
        """Nothing to say."""
        return ""


def check_cluster(config: AnyCluster) -> None:
    """Raise ConfigError if it can be seen from here that the cluster cannot be had."""
    if isinstance(config, SlurmCluster | SlurmAllocationCluster):
        check_here(config)
    elif isinstance(config, ExistingCluster) and config.scheduler_file and not config.scheduler_file.is_file():
        raise ConfigError(f"cluster.scheduler_file: no such file: {config.scheduler_file}")


@contextmanager
def start_cluster(
    config: AnyCluster, *, workers: int, worker_bytes: int, device: str, output: Path, say: Callable[[str], None]
) -> Iterator[tuple[Client, Keeper]]:
    """Start workers, or find them, and stop at the end those that were started.

    Parameters
    ----------
    config : AnyCluster
    workers : int
        Worker processes that the plan allows on this machine.
    worker_bytes : int
        Memory of one worker according to the plan. On this machine a worker at twice that is restarted before the
        machine swaps.
    device : {"cpu", "cuda"}
        A worker with a GPU carries the resource `GPU`.
    output : Path
        The survey's output folder, where SLURM's jobs keep their logs.
    say : callable
        Told what is waited for.

    Raises
    ------
    ConfigError
        If there are no workers to be had.
    """
    settings = {
        # The first death of a worker comes back as a failure of its chunks: the run counts them itself.
        "distributed.scheduler.allowed-failures": 0,
        "distributed.comm.timeouts.connect": "60s",
        "distributed.scheduler.worker-ttl": "120s",
        "distributed.scheduler.no-workers-timeout": None,  # the dispatcher watches that somebody can work
        "distributed.admin.large-graph-warning-threshold": "64MB",
        "scheduler": dask_config.get("scheduler", None),  # a client that cannot connect leaves it changed
    }
    with ExitStack() as stack:
        stack.enter_context(dask_config.set(settings))
        if isinstance(config, ExistingCluster):
            say(f"connecting to the scheduler at {config.address or config.scheduler_file}")
            yield stack.enter_context(_existing(config)), Nobody()
        elif isinstance(config, LocalCluster | LocalCudaCluster):
            cluster = stack.enter_context(_local(config, workers, 2 * worker_bytes, device))
            yield stack.enter_context(Client(cluster)), Nobody()
        else:
            address = dashboard_address(config.dashboard)
            cluster, keeper = stack.enter_context(start_slurm(config, output, address, say))
            yield stack.enter_context(Client(cluster)), keeper


@contextmanager
def _local(
    config: LocalCluster | LocalCudaCluster, workers: int, memory_limit: int, device: str
) -> Iterator[SpecCluster]:
    """Worker processes on this machine, each with a nanny that restarts it."""
    security = Security.temporary() if config.tls else Security()
    protocol = "tls://" if config.tls else "tcp://"
    common = {"memory_limit": memory_limit, "security": security, "protocol": protocol, "host": "127.0.0.1"}
    common |= {"dashboard": False, "silence_logs": log_level()}
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": "127.0.0.1",
            "port": 0,
            "protocol": protocol,
            "security": security,
            "dashboard": config.dashboard is not None,
            "dashboard_address": dashboard_address(config.dashboard),
        },
    }
    gpus = visible_gpus() if device == "cuda" or isinstance(config, LocalCudaCluster) else []
    forked = not gpus and sys.platform == "linux"
    if forked:  # the server has the environment of its start
        common |= {"env": dict(os.environ)}
    spec = _worker_specs(common, workers, gpus, _gpu_workers(config, workers, gpus))
    with dask_config.set({METHOD: "forkserver" if forked else "spawn"}):
        with signals_held():
            if forked:
                get_mp_context()  # Dask has a list of its own of what to import, which is not to count
                start_server()
            cluster = SpecCluster(
                workers=spec,
                scheduler=scheduler,
                security=security,
                name="galprote",
                silence_logs=log_level(),  # what matters comes back as the failure of a chunk
            )
        with cluster:
            yield cluster


def _worker_specs(common: dict[str, Any], workers: int, gpus: list[str], on_gpus: int) -> dict[str, Any]:
    """How to start each worker: the first ones with a GPU each, where there are any, the others with none."""
    spec: dict[str, Any] = {}
    for index in range(workers):
        options = common | {"nthreads": 1}
        if index < on_gpus:
            pinned = {"CUDA_VISIBLE_DEVICES": gpus[index]}
            options |= {"nthreads": GPU_THREADS, "resources": {"GPU": 1}, "env": pinned}
        elif gpus:
            options |= {"env": {"CUDA_VISIBLE_DEVICES": ""}}
        spec[f"worker-{index}"] = {"cls": Nanny, "options": options}
    return spec


def _gpu_workers(config: LocalCluster | LocalCudaCluster, workers: int, gpus: list[str]) -> int:
    if isinstance(config, LocalCudaCluster):
        return min(workers, config.gpus or len(gpus))
    return min(workers, len(gpus))


class ClosedClient(Client):
    """A client that is closed when it cannot start: Dask's own stays everybody's default after all but an OSError."""

    def start(self, **how: Any) -> None:
        """Connect."""
        try:
            super().start(**how)  # type: ignore[no-untyped-call]
        except BaseException:
            self.close()  # type: ignore[no-untyped-call]
            raise


@contextmanager
def _existing(config: ExistingCluster) -> Iterator[Client]:
    where = config.address or str(config.scheduler_file)
    security = None
    if config.tls_ca is not None:
        security = Security(
            tls_ca_file=str(config.tls_ca),
            tls_client_cert=str(config.tls_cert),
            tls_client_key=str(config.tls_key),
            require_encryption=True,
        )
    place = {"scheduler_file": where} if config.scheduler_file else {"address": where}
    try:
        client = ClosedClient(**place, security=security, timeout=config.patience, name="galprote")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"cluster: no scheduler answers at {where}: {error}") from error
    with client:
        yield client


def dashboard_address(wanted: str | None) -> str:
    """The wanted address if its port is free, else any free port of the same host.

    Without a dashboard Dask's scheduler still listens for HTTP, on port 8787 if not told otherwise.
    """
    if wanted is None:
        return "127.0.0.1:0"
    host, _, port = wanted.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host or "127.0.0.1", int(port)))
        except OSError:
            return f"{host}:0"
    return wanted
