"""Are the workers fit for the survey? Asked before anything is computed, so that nobody waits for what never comes."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from distributed import Client

from galprote.model.errors import ConfigError
from galprote.model.wording import count
from galprote.pipeline.cluster_config import AnyCluster, ExistingCluster
from galprote.pipeline.provenance import NUMERIC_VERSION
from galprote.workflows.capacity import is_local
from galprote.workflows.cluster import Keeper
from galprote.workflows.stop import StopRequest

#: Seconds between two lines about workers that are not there yet.
INTERVAL = 60.0

#: Seconds that a nanny may take to start a worker again: ample, for a busy machine.
RESTART_SECONDS = 300.0


def gpu_workers(client: Client) -> int:
    """Number of workers with the resource `GPU`."""
    return sum("GPU" in about.get("resources", {}) for about in _known(client).values())


def patience_of(cluster: AnyCluster) -> float | None:
    """Seconds without a worker that can do the work after which nobody waits any longer; None: a queue decides."""
    if isinstance(cluster, ExistingCluster):
        return cluster.patience
    return RESTART_SECONDS if is_local(cluster) else None


def check_workers(
    client: Client,
    cluster: AnyCluster,
    device: str,
    output: Path,
    keeper: Keeper,
    stop: StopRequest,
    say: Callable[[str], None],
) -> None:
    """Wait for the first worker, with a GPU if the model needs one, and try out those that are there.

    Jobs of a queue are waited for as long as they are in it; those of an existing cluster for less than a minute.

    Raises
    ------
    ConfigError
        If there are none, or they cannot do the work.
    """
    patience = patience_of(cluster)
    began = said = time.monotonic()
    while not stop.requested:
        found = gpu_workers(client) if device == "cuda" else len(_known(client))
        if found:
            break
        words, waited = keeper.check(), time.monotonic() - began
        if patience is not None and waited > patience:
            raise ConfigError(_nobody(client, cluster, device, waited))
        if time.monotonic() - said > INTERVAL:
            said = time.monotonic()
            say(f"waiting for workers since {waited:.0f} s: {words}")
        time.sleep(0.2)
    if not stop.requested:
        try_out(client, device, output)


def _known(client: Client) -> dict[str, Any]:
    try:
        return dict(client.scheduler_info(n_workers=-1)["workers"])
    except OSError as error:
        raise ConfigError(f"cluster: the scheduler was lost: {error}") from error


def _nobody(client: Client, cluster: AnyCluster, device: str, waited: float) -> str:
    there = len(_known(client))
    if device == "cuda" and there:
        return (
            f"cluster: no worker has a GPU: {count(there, 'worker')}, none with the resource GPU, after {waited:.0f} "
            's; start workers with --resources "GPU=1", or set model.device: cpu'
        )
    return f"cluster: no worker of {cluster.type} came within {waited:.0f} s"


def try_out(client: Client, device: str, output: Path) -> None:
    """Ask every worker whether it can do the work.

    Raises
    ------
    ConfigError
        If one is of another version, lacks the output folder, or a GPU that it should have.
    """
    probe = output / f".probe-{uuid4().hex[:8]}.partial"
    probe.touch()
    try:
        answers: dict[str, Any] = client.run(_describe_worker, str(probe), on_error="return")
        resources = {address: about.get("resources", {}) for address, about in _known(client).items()}
    finally:
        probe.unlink()
    for address, answer in answers.items():
        if isinstance(answer, OSError):
            continue  # gone meanwhile
        if isinstance(answer, BaseException):
            raise ConfigError(f"cluster: the worker {address} has no working galprote: {answer}")
        where = f"cluster: the worker {address} on {answer['host']}"
        if answer["numeric_version"] != NUMERIC_VERSION:
            raise ConfigError(f"{where} has another version of galprote; install the same one everywhere")
        if not answer["sees_output"]:
            raise ConfigError(f"{where} does not see {output}; choose a folder that all nodes share")
        if device == "cuda" and "GPU" in resources.get(address, {}) and not answer["cuda"]:
            raise ConfigError(
                f"{where} should have a GPU, but PyTorch {answer['torch']} finds none there (CUDA_VISIBLE_DEVICES="
                f"{answer['visible']!r}); ask for one in cluster.gpu.directives, and install a CUDA build of PyTorch"
            )


def _describe_worker(probe: str) -> dict[str, Any]:
    """Runs on the worker."""
    return {
        "host": os.uname().nodename,
        "numeric_version": NUMERIC_VERSION,
        "sees_output": Path(probe).exists(),
        "cuda": torch.cuda.is_available(),
        "torch": torch.__version__,
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
