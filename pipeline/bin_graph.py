"""Tasks that lead from a cube to the spectra of its bins: spaxels measured chunk by chunk, bins summed chunk by chunk.

The third step, the fit, is that of any spectra (`ChunkGraph`), which `BinReader` reads from the sums.
"""

from functools import partial
from uuid import uuid4

import numpy as np
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from galprote.pipeline.bin_files import BinFiles
from galprote.pipeline.bin_sums import mean_spectra, sum_block
from galprote.pipeline.binning import Bins
from galprote.pipeline.graph import ChunkSummary, CubeReader, located, task_label
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.spaxel_measures import measure_spaxels

#: Bins that are put together at once.
AT_ONCE = 128


class MeasureGraph:
    """Measures the spaxels of each chunk.

    Parameters
    ----------
    reader : CubeReader
    plan : ChunkPlan
        Of the cube.
    name : str
        The galaxy's.
    files : BinFiles
    channels : (m,) bool
        Where signal and noise are measured.
    excluded : (y, x) int32, optional
        Bits of `Status` of spaxels that are left out.
    """

    def __init__(
        self,
        reader: CubeReader,
        plan: ChunkPlan,
        name: str,
        files: BinFiles,
        channels: NDArray[np.bool_],
        excluded: NDArray[np.int32] | None,
    ) -> None:
        self.reader, self.plan, self.name, self.excluded = reader, plan, name, excluded
        self.run = uuid4().hex[:8]
        self.step = delayed(partial(_measure, files=files, channels=channels), pure=False)

    def task(self, index: int, attempt: int = 0) -> Delayed:
        """The task that measures a chunk, and gives its `ChunkSummary`."""
        read = self.reader.read(index, f"{self.run}-{attempt}" if attempt else "")
        excluded = None if self.excluded is None else self.excluded[self.plan.chunks[index]]
        label = task_label(self.name, index, self.run, attempt)
        task: Delayed = self.step(*read, excluded, index=index, dask_key_name=f"measure-{label}")
        return task


class SumGraph:
    """Sums each chunk's part of the bins.

    Parameters
    ----------
    reader : CubeReader
    plan : ChunkPlan
        Of the cube.
    name : str
        The galaxy's.
    files : BinFiles
    bins : Bins
    """

    def __init__(self, reader: CubeReader, plan: ChunkPlan, name: str, files: BinFiles, bins: Bins) -> None:
        self.reader, self.plan, self.name, self.bins = reader, plan, name, bins
        self.run = uuid4().hex[:8]
        self.step = delayed(partial(_sum, files=files), pure=False)

    def task(self, index: int, attempt: int = 0) -> Delayed:
        """The task that sums a chunk, and gives its `ChunkSummary`."""
        rows = self.plan.chunks[index]
        read = self.reader.read(index, f"{self.run}-{attempt}" if attempt else "")
        label = task_label(self.name, index, self.run, attempt)
        own = self.bins.index[rows], self.bins.weight[rows]
        task: Delayed = self.step(*read, *own, index=index, dask_key_name=f"sum-{label}")
        return task


class BinReader:
    """Reads the spectra of bins from the sums of the chunks that they lie in.

    Parameters
    ----------
    files : BinFiles
    bins : Bins
    cube_plan : ChunkPlan
        By which the sums were made.
    plan : ChunkPlan
        Of the bins.
    name : str
        The galaxy's.
    """

    def __init__(self, files: BinFiles, bins: Bins, cube_plan: ChunkPlan, plan: ChunkPlan, name: str) -> None:
        self.bins, self.plan, self.height, self.name = bins, plan, cube_plan.rows, name
        self.run = uuid4().hex[:8]
        self.step = delayed(partial(_read, files=files, channels=plan.channels), pure=False, nout=2)

    def __len__(self) -> int:
        return len(self.plan.chunks)

    def read(self, index: int, again: str) -> list[Delayed]:
        """Tasks that give flux and variance of some bins, (m, bins) float32."""
        mine = self.plan.chunks[index]
        first, last = self.bins.rows[mine, 0].min() // self.height, self.bins.rows[mine, 1].max() // self.height
        key = f"read-{self.name}-{index:05d}-{self.run}" + (f"-{again}" if again else "")
        pair = self.step(self.bins.part(mine), mine.start, range(first, last + 1), dask_key_name=key)
        return list(pair)


@located
def _measure(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    excluded: NDArray[np.int32] | None,
    *,
    index: int,
    files: BinFiles,
    channels: NDArray[np.bool_],
) -> ChunkSummary:
    measures = measure_spaxels(flux, variance, excluded, channels)
    files.write_measures(index, measures)
    size = flux.nbytes + variance.nbytes
    return ChunkSummary(index, measures.status.size, int(np.isfinite(measures.signal).sum()), 0, size)


@located
def _sum(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    bins: NDArray[np.int32],
    weight: NDArray[np.float32],
    *,
    index: int,
    files: BinFiles,
) -> ChunkSummary:
    files.write_sums(index, sum_block(flux, variance, bins, weight))
    return ChunkSummary(index, bins.size, int((bins >= 0).sum()), 0, flux.nbytes + variance.nbytes)


@located
def _read(
    bins: Bins, first: int, chunks: range, *, files: BinFiles, channels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    found = [sums for index in chunks if (sums := files.read_sums(index)) is not None]
    flux, variance = (np.empty((channels, len(bins)), dtype=np.float32) for _ in range(2))
    for start in range(0, len(bins), AT_ONCE):  # in double precision: a few at a time
        part = slice(start, min(start + AT_ONCE, len(bins)))
        flux[:, part], variance[:, part] = mean_spectra(
            first + part.start, first + part.stop, found, bins.part(part), channels
        )
    return flux, variance
