"""Worker processes of this machine are forked from a server that has imported everything already.

A process that starts from nothing spends three seconds of its core on imports: two workers on two cores would delay a
small galaxy by as much as its whole fit takes, and so would each one that replaces a lost worker. The server
(`multiprocessing.forkserver`) imports while the driver does, has no threads, computes nothing, and ends with the
driver. Its memory is shared with the workers. Workers with a GPU are started afresh: CUDA does not outlive a fork.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Final

from galprote.workflows.stop import SIGNALS

if TYPE_CHECKING:
    from galprote.pipeline.config import SurveyConfig

#: There where the kernel drives an NVIDIA GPU.
NVIDIA: Final = Path("/proc/driver/nvidia/version")

#: What a worker needs: Dask's worker, the tasks of every step, the figure of the last one, and the dust.
PRELOADED: Final = [
    "distributed.nanny",
    "galprote.workflows.phases",
    "galprote.workflows.figure",
    "dust_extinction.parameter_averages",
]

#: What Dask's nannies set before a process starts (`distributed.nanny.pre-spawn-environ`): libraries take one thread,
#: freed memory goes back, all workers hash alike.
ENVIRONMENT: Final = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "6640",
}

#: The server listens on a socket in the folder of temporary files, whose path may have 107 bytes in all.
LONGEST_TMPDIR: Final = 70

#: Of Dask's settings: how worker processes come to be.
METHOD: Final = "distributed.worker.multiprocessing-method"


def can_fork(survey: "SurveyConfig") -> bool:
    """Whether a survey's workers can be forked, as far as that shows before anything is imported."""
    gpu = survey.model.device == "cuda" or (survey.model.device == "auto" and NVIDIA.exists())
    near = len(os.fsencode(tempfile.gettempdir())) <= LONGEST_TMPDIR
    return survey.cluster.type == "local" and not gpu and sys.platform == "linux" and near


def start_server() -> None:
    """Start the server, unless there is one; returns at once, its imports go on."""
    with signals_held(), _environment():
        forkserver.set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()


@contextmanager
def signals_held() -> Iterator[None]:
    """Keep from processes that are started meanwhile, and later by Dask, what asks this one to stop.

    A terminal sends Ctrl-C to all processes, and SLURM its warnings. The workers are to finish what is under way, and
    be stopped by this process. They inherit the mask of the thread that starts them, which inherits it from the one
    that makes the cluster; or that of the server from which they are forked.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # Of a worker that was killed it would say at the end that a semaphore is left, for which it cares itself.
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    resource_tracker.ensure_running()  # here: it clears the mask of the thread that happens to need it first
    sys.warnoptions.pop()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment() -> Iterator[None]:
    """`ENVIRONMENT`, as far as the user has not decided otherwise."""
    added = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
