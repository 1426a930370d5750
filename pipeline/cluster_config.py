"""The section `cluster` of a survey: where the work is done. `galprote.workflows.cluster` starts what it describes."""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, model_validator

from galprote.pipeline.section import Section


def _host_and_port(address: str | None) -> str | None:
    if address is not None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("expected host:port, such as 127.0.0.1:8787, or null")
    return address


def _clock_time(value: Any) -> Any:
    """YAML reads an unquoted 24:00:00 as a number of seconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value // 3600:02d}:{value % 3600 // 60:02d}:{value % 60:02d}"
    return value


def _directive(text: str) -> str:
    if not re.fullmatch(r"--?[A-Za-z][^\n\r]*", text):
        raise ValueError("expected one option of sbatch, such as --gres=gpu:1")
    return text


def _line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError("expected one line; write a list of several")
    return text


Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,:+@-]*$", max_length=200)]
Walltime = Annotated[str, BeforeValidator(_clock_time), Field(pattern=r"^(\d+-\d{1,2}(:\d{2}){0,2}|\d+(:\d{2}){0,2})$")]
Directive = Annotated[str, AfterValidator(_directive)]
Line = Annotated[str, AfterValidator(_line)]


class _Cluster(Section):
    """What all back-ends have."""

    dashboard: Annotated[str | None, AfterValidator(_host_and_port)] = "127.0.0.1:8787"
    """Where the Dask dashboard listens; another port is taken when this one is busy. null: no dashboard. Another host
    than 127.0.0.1 shows it, without a password, to everybody who reaches this machine."""
    performance_report: bool = False
    """Write Dask's performance report of each galaxy beside its products, NAME_dask.html."""


class LocalCluster(_Cluster):
    """Worker processes on this machine: one for each core, or one for each NVIDIA GPU where the model runs on GPUs."""

    type: Literal["local"] = "local"
    """This machine; may be left out."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Worker processes; null: one for each core or GPU, as far as the memory allows."""
    tls: bool = False
    """Encrypt what scheduler and workers send each other over the loopback device, and refuse strangers."""


class LocalCudaCluster(_Cluster):
    """One worker process for each NVIDIA GPU of this machine, and more that only read and prepare."""

    type: Literal["local-cuda"]
    """This machine's GPUs."""
    gpus: int | None = Field(default=None, ge=1, le=64)
    """GPUs to use; null: all that are visible (CUDA_VISIBLE_DEVICES)."""
    cpu_workers: int = Field(default=0, ge=0, le=1024)
    """Worker processes without a GPU, which read and prepare; GPU workers do so in spare threads anyway."""
    tls: bool = False
    """Encrypt what scheduler and workers send each other over the loopback device, and refuse strangers."""


class WorkerGroup(Section):
    """Jobs of one kind."""

    jobs: int = Field(ge=1, le=2048)
    """Jobs (steps of the allocation) to keep running; those that are lost are replaced."""
    cores: int = Field(default=1, ge=1, le=1024)
    """Cores of each. Of a job without a GPU every core is a worker process of its own; a job with a GPU is one worker
    with three threads or more, of which one at a time predicts."""
    memory: ByteSize
    """Memory of each, such as 16GiB; the cubes are cut so that it is enough."""
    partition: Word | None = None
    """Partition (queue); null: the cluster's default."""
    walltime: Walltime | None = None
    """Time limit of each, such as "04:00:00" or "1-12:00:00"; null: the partition's default."""
    directives: tuple[Directive, ...] = ()
    """More options of sbatch (of srun, in an allocation), as they are: this is where GPUs are asked for."""
    skip_directives: tuple[Directive, ...] = ()
    """Options to leave out that would be written otherwise, such as --mem= where the cluster wants --mem-per-gpu."""


class _Slurm(_Cluster):
    """What both ways of using SLURM have."""

    interface: Word
    """Network interface over which the nodes reach the one that runs this command, such as ib0 or eth0."""
    gpu: WorkerGroup | None = None
    """Workers with one GPU each, which predict, and read and prepare in spare threads."""
    cpu: WorkerGroup | None = None
    """Workers without a GPU: they read and prepare and, if there is no gpu group, predict."""
    prologue: tuple[Line, ...] = ()
    """Shell lines of every job before its worker starts: module load ..., source .../activate."""
    python: Line | None = Field(default=None, min_length=1)
    """Python with galprote on the nodes; null: the one that runs this command."""
    scratch: Line | None = Field(default=None, min_length=1)
    """Folder on the nodes' own disks for what Dask spills; $VARIABLES are the job's. null: the node's temporary one."""
    tls: bool = True
    """Encrypt what scheduler and workers send each other, and refuse strangers. The keys of a run lie in its output
    folder while it goes on, readable only by you."""
    patience: int = Field(default=600, ge=10)
    """Seconds without any worker, none waiting in the queue either, after which a run gives up."""

    @model_validator(mode="after")
    def _some_workers(self) -> Self:
        if self.gpu is None and self.cpu is None:
            raise ValueError("give gpu, cpu, or both")
        return self


class SlurmCluster(_Slurm):
    """Jobs of a SLURM cluster, which this command submits, watches and replaces."""

    type: Literal["slurm"]
    """Jobs of SLURM."""
    account: Word | None = None
    """Account to charge; not with slurm-allocation."""


class SlurmAllocationCluster(_Slurm):
    """Job steps inside the one SLURM allocation in which this command runs."""

    type: Literal["slurm-allocation"]
    """Steps inside one job of SLURM."""


class ExistingCluster(_Cluster):
    """A Dask cluster that somebody else started."""

    type: Literal["existing"]
    """A Dask cluster that runs already."""
    address: str | None = Field(default=None, pattern=r"^[a-z]+://\S+$")
    """Of the scheduler, such as tcp://10.0.0.1:8786 or tls://..."""
    scheduler_file: Path | None = None
    """Instead: the file that `dask scheduler --scheduler-file` wrote."""
    tls_ca: Path | None = None
    """Certificate of the authority, for a tls:// scheduler."""
    tls_cert: Path | None = None
    """This client's certificate."""
    tls_key: Path | None = None
    """Its key."""
    worker_memory: ByteSize = ByteSize(4 * 1024**3)
    """Memory of each worker process; the cubes are cut so that it is enough."""
    patience: int = Field(default=50, ge=1)
    """Seconds to wait for a worker, and for one with a GPU if the model runs on GPUs."""

    @model_validator(mode="after")
    def _one_scheduler(self) -> Self:
        if (self.address is None) == (self.scheduler_file is None):
            raise ValueError("give either address or scheduler_file")
        if len({self.tls_ca is None, self.tls_cert is None, self.tls_key is None}) > 1:
            raise ValueError("tls_ca, tls_cert and tls_key belong together")
        return self


AnyCluster = LocalCluster | LocalCudaCluster | SlurmCluster | SlurmAllocationCluster | ExistingCluster
ClusterConfig = Annotated[AnyCluster, Field(discriminator="type")]

#: Every value of `cluster.type`.
CLUSTER_TYPES: Final = ("local", "local-cuda", "slurm", "slurm-allocation", "existing")
