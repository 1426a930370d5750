"""LocalCluster section + plan -> a Dask client whose workers are processes on this machine."""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from typing import Any

from dask import config as dask_config
from distributed import Client
from distributed import LocalCluster as DaskCluster

from galprote.pipeline.config import LocalCluster


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def most_workers(config: LocalCluster, device: str) -> int:
    """Worker processes to aim for: as configured, else one a core, or one in all that owns the GPU."""
    return config.workers or (1 if device == "cuda" else available_cores())


@contextmanager
def start_cluster(config: LocalCluster, *, workers: int, worker_bytes: int, device: str) -> Iterator[Client]:
    """Start worker processes, and stop them at the end.

    Parameters
    ----------
    config : LocalCluster
    workers : int
    worker_bytes : int
        Memory of one worker according to the plan. A worker at twice that is restarted before the machine swaps.
    device : {"cpu", "cuda"}
        A worker with a GPU carries the resource `GPU` and has threads to read and write while the GPU works.
    """
    on_gpu = device == "cuda"
    settings = {
        "distributed.scheduler.allowed-failures": 3,
        "distributed.comm.timeouts.connect": "60s",
        "distributed.scheduler.no-workers-timeout": "120s",
        "distributed.admin.large-graph-warning-threshold": "64MB",
    }
    with ExitStack() as stack:
        stack.enter_context(dask_config.set(settings))
        with _interrupts_held():
            cluster = stack.enter_context(
                DaskCluster(
                    n_workers=workers,
                    threads_per_worker=3 if on_gpu else 1,
                    processes=True,
                    host="127.0.0.1",
                    memory_limit=2 * worker_bytes,
                    resources={"GPU": 1} if on_gpu else None,
                    dashboard_address=_dashboard_address(config.dashboard),
                    scheduler_kwargs={"dashboard": config.dashboard is not None},
                    silence_logs=logging.CRITICAL,  # what matters comes back as the failure of a galaxy
                )
            )
        yield stack.enter_context(Client(cluster))


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the end; processes that are started meanwhile, and later by Dask, never get it.

    A terminal sends it to all processes. The workers are to be stopped by this one, without tracebacks of their own.
    They inherit the mask of the thread that starts them, which inherits it from the one that makes the cluster.
    """
    resource_tracker.ensure_running()  # it clears the mask of the thread that happens to need it first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _dashboard_address(wanted: str | None) -> str:
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


def has_gpu_workers(client: Client) -> bool:
    """Whether any worker carries the resource `GPU`."""
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return any("GPU" in worker.get("resources", {}) for worker in workers.values())
