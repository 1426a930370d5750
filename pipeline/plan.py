"""Sizes and a memory budget -> how a cube is cut and how many workers share it. Integers only; nothing is computed.

The figures are upper estimates: tests compare them with the memory that runs really take.
"""

from dataclasses import dataclass
from typing import Final

from galprote.model.errors import PlanError
from galprote.model.grids import N_KEPT, N_WAVELENGTH
from galprote.model.wording import count as count_words

#: Memory of a process before it has read anything: the interpreter, the libraries and, in a worker, the model; CUDA's
#: libraries take some GB of a GPU worker's host memory.
DRIVER_BYTES: Final = 720 * 1024**2
WORKER_BYTES: Final = 650 * 1024**2
GPU_WORKER_BYTES: Final = 3 * 1024**3

#: Memory that making adaptive bins takes for each spaxel of the image, beyond an idle worker's allowance.
BIN_MAKING_BYTES: Final = 800

#: Most rows in a chunk: beyond it reading gets no faster, and the work is shared less evenly.
MOST_ROWS: Final = 16

#: Fewest spaxels of a chunk, where the memory allows: the model takes 128 spectra at once, or as long for fewer.
FEWEST_SPAXELS: Final = 256

#: Chunks that each worker has under way: one in work, and one whose parts wait for their next step.
CHUNKS_PER_WORKER: Final = 2

#: The same of a worker with a GPU: one is read and one written while a third is predicted.
CHUNKS_PER_GPU: Final = 3


@dataclass(frozen=True)
class ChunkPlan:
    """How one cube is cut.

    Attributes
    ----------
    channels, ny, nx : int
        Shape of what is read.
    rows : int
        Image rows in a chunk (the last one may have fewer).
    workers : int
        Worker processes that the memory allows.
    chunk_bytes : int
        Memory that one chunk takes in a worker, at most.
    peak_bytes : int
        Memory of all processes together, at most.
    bins : bool
        Whether what is cut is a list of bins: `ny` of them, and `nx` is 1.
    step_bytes : int
        Memory that a step in between takes in a worker, at most.
    """

    channels: int
    ny: int
    nx: int
    rows: int
    workers: int
    chunk_bytes: int
    peak_bytes: int
    bins: bool = False
    step_bytes: int = 0

    def work_bytes(self, under_way: int) -> int:
        """Memory that a worker takes for its work, beyond an idle one's."""
        return max(under_way * self.chunk_bytes, self.step_bytes)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the image's dimensions; the first one is cut."""
        return ("bin",) if self.bins else ("y", "x")

    @property
    def image(self) -> tuple[int, ...]:
        """Their sizes."""
        return (self.ny,) if self.bins else (self.ny, self.nx)

    @property
    def chunks(self) -> tuple[slice, ...]:
        """Row ranges that tile the image once."""
        return tuple(slice(start, min(start + self.rows, self.ny)) for start in range(0, self.ny, self.rows))

    @property
    def read_bytes(self) -> int:
        """Bytes of flux and variance that are read."""
        return 2 * 4 * self.channels * self.ny * self.nx


def spaxel_bytes(channels: int, *, continuum: bool, grid: int) -> int:
    """Memory that one spaxel takes on its way through a worker, at most.

    Parameters
    ----------
    channels : int
        Native channels that are read.
    continuum : bool
        Whether the continuum-subtracted cube is made.
    grid : int
        Cells of the grid.
    """
    native = channels * (2 * 4 + 2 * 4 + 4 * 1)  # flux and variance, their masked copies, masks
    rest = (8 * N_WAVELENGTH + 4 * N_KEPT) * 4
    products = (4 * N_WAVELENGTH + 6 * grid) * 4
    return native + rest + products + (8 * channels * 4 if continuum else 0)


def even_rows(ny: int, nx: int, workers: int) -> int:
    """Most rows in a chunk that still give every worker a few, but not so few that the model idles."""
    return max(ny // (4 * workers), min(ny, -(-FEWEST_SPAXELS // nx)))


def plan_chunks(
    shape: tuple[int, int, int],
    *,
    budget_bytes: int,
    workers: int,
    rows: int | None = None,
    continuum: bool = False,
    grid: int = 636,
    worker_bytes: int = WORKER_BYTES,
    under_way: int = CHUNKS_PER_WORKER,
    step_bytes: int = 0,
    where: str = "cube",
    key: str = "chunks.memory",
) -> ChunkPlan:
    """Choose rows and workers so that all processes together stay within the budget.

    Parameters
    ----------
    shape : (int, int, int)
        Channels to read, ny, nx.
    budget_bytes : int
    workers : int
        Most workers to use: as many as there are cores or GPUs.
    rows : int, optional
        Rows in a chunk; chosen when not given.
    continuum, grid
        See `spaxel_bytes`.
    worker_bytes : int
        Memory of an idle worker.
    under_way : int
        Chunks that each worker has under way.
    step_bytes : int
        Memory that a step in between takes in a worker.
    where, key : str
        For the error's text: the cube, and what sets the budget.

    Returns
    -------
    ChunkPlan

    Raises
    ------
    PlanError
        If one worker with the smallest chunk does not fit.
    """
    channels, ny, nx = shape
    rows = None if rows is None else min(rows, ny)
    row_bytes = nx * spaxel_bytes(channels, continuum=continuum, grid=grid)
    smallest = rows or 1
    for count in range(min(workers, -(-ny // smallest)), 0, -1):
        left = (budget_bytes - DRIVER_BYTES) // count - worker_bytes
        affordable = left // (row_bytes * under_way)
        if affordable >= smallest and left >= step_bytes:
            # No more rows than give every worker a few chunks.
            chosen = rows or int(min(affordable, MOST_ROWS, even_rows(ny, nx, count)))
            chunk, used = chosen * row_bytes, min(count, -(-ny // chosen))
            peak = DRIVER_BYTES + used * (worker_bytes + max(under_way * chunk, step_bytes))
            return ChunkPlan(channels, ny, nx, chosen, used, chunk, peak, step_bytes=step_bytes)
    needed = DRIVER_BYTES + worker_bytes + max(under_way * smallest * row_bytes, step_bytes)
    raise PlanError(
        f"{where}: one worker with chunks of {count_words(smallest, 'row')} needs {needed / 2**30:.2f} GiB, "
        f"{key} allows {budget_bytes / 2**30:.2f} GiB; raise {key}" + (" or lower chunks.rows" if smallest > 1 else "")
    )
