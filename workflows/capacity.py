"""What a survey's cluster offers: device, worker processes and memory. Known before anything is started."""

import os
from dataclasses import dataclass
from typing import Final

import torch
from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT

from galprote.model.errors import ConfigError, PlanError
from galprote.model.predictor import resolve_device
from galprote.model.wording import count
from galprote.pipeline.cluster_config import (
    AnyCluster,
    ExistingCluster,
    LocalCluster,
    LocalCudaCluster,
    SlurmAllocationCluster,
    SlurmCluster,
)
from galprote.pipeline.config import SurveyConfig
from galprote.pipeline.plan import GPU_WORKER_BYTES, WORKER_BYTES

#: Budget of a run on one machine if the survey names none: at least this, and so much a core or GPU.
LEAST_BUDGET: Final = 4 * 1024**3
CORE_BUDGET: Final = 7 * 1024**3 // 4
GPU_BUDGET: Final = 5 * 1024**3


@dataclass(frozen=True)
class Capacity:
    """What there is to plan with.

    Attributes
    ----------
    device : {"cpu", "cuda"}
        Where the model is to run.
    workers : int
        Worker processes to aim for.
    idle_bytes : int
        Memory that one takes before it has read anything.
    budget_bytes : int or None
        Memory for all processes of the run together, on one machine.
    worker_bytes : int or None
        Memory of each worker process, where the cluster gives it.
    """

    device: str
    workers: int
    idle_bytes: int
    budget_bytes: int | None
    worker_bytes: int | None


def available_cores() -> int:
    """Cores that this process may use."""
    return int(CPU_COUNT)


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip() not in ("", "-1", "NoDevFiles")]
    return [str(index) for index in range(torch.cuda.device_count())]


def survey_device(survey: SurveyConfig) -> str:
    """Where the model is to run. What an existing cluster has shows when it is reached: `cpu` until then.

    Raises
    ------
    ConfigError, PlanError
        If GPUs are asked for that the cluster does not have.
    """
    wanted, cluster = survey.model.device, survey.cluster
    if isinstance(cluster, SlurmCluster | SlurmAllocationCluster):
        if wanted == "cuda" and cluster.gpu is None:
            raise ConfigError(
                "model.device: cuda, but the cluster section has no gpu group; add one, or use auto or cpu"
            )
        return "cpu" if wanted == "cpu" or cluster.gpu is None else "cuda"
    if isinstance(cluster, ExistingCluster):
        return "cuda" if wanted == "cuda" else "cpu"
    if isinstance(cluster, LocalCudaCluster) and wanted != "cpu":
        return resolve_device("cuda")
    return resolve_device(wanted)


def capacity(survey: SurveyConfig) -> Capacity:
    """Say what a survey's cluster offers.

    Raises
    ------
    ConfigError, PlanError
        If GPUs are asked for that the cluster does not have.
    """
    device, cluster = survey_device(survey), survey.cluster
    idle = GPU_WORKER_BYTES if device == "cuda" else WORKER_BYTES
    if isinstance(cluster, LocalCluster | LocalCudaCluster):
        workers = _local_workers(cluster, device)
        return Capacity(device, workers, idle, _budget(survey, workers, device), None)
    if isinstance(cluster, ExistingCluster):
        return Capacity(device, 1, idle, None, int(cluster.worker_memory))
    groups = [group for group in (cluster.gpu, cluster.cpu) if group is not None]
    each = [int(group.memory) // (1 if group is cluster.gpu else group.cores) for group in groups]
    workers = sum(group.jobs * (1 if group is cluster.gpu else group.cores) for group in groups)
    return Capacity(device, workers, idle, None, min(each))


def _local_workers(cluster: LocalCluster | LocalCudaCluster, device: str) -> int:
    gpus = len(visible_gpus())
    if isinstance(cluster, LocalCudaCluster):
        if gpus < (cluster.gpus or 1):
            raise PlanError(f"cluster: local-cuda needs {count(cluster.gpus or 1, 'NVIDIA GPU')}, found {gpus} here")
        return (cluster.gpus or gpus) + cluster.cpu_workers
    if device == "cuda":
        if cluster.workers is not None and cluster.workers > gpus:
            raise ConfigError(
                f"cluster.workers: {cluster.workers} workers would share {count(gpus, 'GPU')}; leave it out, or set "
                "model.device: cpu"
            )
        return cluster.workers or gpus
    return cluster.workers or available_cores()


def _budget(survey: SurveyConfig, workers: int, device: str) -> int:
    """Memory for all processes, as configured or sized from the machine."""
    if survey.chunks.memory is not None:
        return int(survey.chunks.memory)
    wanted = workers * (GPU_BUDGET if device == "cuda" else CORE_BUDGET)
    return max(LEAST_BUDGET, min(wanted, int(MEMORY_LIMIT) // 2))


def is_local(cluster: AnyCluster) -> bool:
    """Whether the workers are processes of this machine that the run itself starts."""
    return isinstance(cluster, LocalCluster | LocalCudaCluster)
