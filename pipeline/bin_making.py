"""The step between measuring a cube's spaxels and summing them: which bins there are. Reads and writes files."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.bin_files import BinFiles
from galprote.pipeline.bin_numbers import read_bin_numbers
from galprote.pipeline.binning import Bins, make_bins
from galprote.pipeline.binning_config import BinningConfig
from galprote.pipeline.covariance import HEIGHT, Covariance, choose_slabs, measure_covariance
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.quality import Status
from galprote.pipeline.readers import open_cube
from galprote.pipeline.spaxel_measures import SpaxelMeasures
from galprote.pipeline.whole_files import write_text


@dataclass(frozen=True)
class CubeAgain:
    """How a cube is opened once more, for parts of it.

    Attributes
    ----------
    path : Path
    redshift : float
    window : (float, float)
    scratch : Path
    """

    path: Path
    redshift: float
    window: tuple[float, float]
    scratch: Path

    def slabs(self, rows: list[int]) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
        """Slabs of `HEIGHT` rows, one after the other: first row, flux and variance (m, rows, nx)."""
        cube = open_cube(self.path, redshift=self.redshift, rest_window=self.window, rows=HEIGHT, scratch=self.scratch)
        for row in rows:
            parts = [cube[name].data.blocks[0, row // HEIGHT, 0] for name in ("flux", "variance")]
            yield row, *(part.compute(scheduler="synchronous") for part in parts)


def read_all_measures(files: BinFiles, plan: ChunkPlan) -> SpaxelMeasures:
    """What was measured of all spaxels; those of chunks that could not be are flagged."""
    signal, noise = (np.full(plan.image, np.nan, dtype=np.float32) for _ in range(2))
    status = np.full(plan.image, Status.FAILED | Status.NOT_COMPUTED, dtype=np.int32)
    for index, rows in enumerate(plan.chunks):
        part = files.read_measures(index)
        if part is not None:
            signal[rows], noise[rows], status[rows] = part.signal, part.noise, part.status
    return SpaxelMeasures(signal, noise, status)


def bin_spaxels(files: BinFiles, plan: ChunkPlan, config: BinningConfig, cube: CubeAgain) -> int:
    """Make a galaxy's bins of what was measured of its spaxels.

    Parameters
    ----------
    files : BinFiles
    plan : ChunkPlan
        Of the cube.
    config : BinningConfig
    cube : CubeAgain
        Read again, in part, where the noise's covariance is to be measured.

    Returns
    -------
    int
        Number of bins.

    Raises
    ------
    CubeError
        If no spaxel can be in a bin.
    ConfigError
        If the file of bins does not belong to the cube.
    """
    measures = read_all_measures(files, plan)
    usable = measures.status == 0
    covariance = _covariance(measures, usable, config, cube)
    given = None
    if config.file is not None:
        given = read_bin_numbers(config.file, (plan.ny, plan.nx), (measures.status & Status.NO_DATA) == 0)
    bins = make_bins(measures.signal, measures.noise, usable, config, covariance.a, given)
    write_text(files.covariance, json.dumps(asdict(covariance), indent=1))
    files.write_bins(bins, _digest(measures))
    return len(bins)


def bins_are_current(files: BinFiles, plan: ChunkPlan) -> bool:
    """Whether the bins were made of the measures that there are."""
    return files.covariance.is_file() and files.made_of() == _digest(read_all_measures(files, plan))


def _digest(measures: SpaxelMeasures) -> str:
    parts = (measures.signal, measures.noise, measures.status)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def _covariance(
    measures: SpaxelMeasures, usable: NDArray[np.bool_], config: BinningConfig, cube: CubeAgain
) -> Covariance:
    """The noise's covariance: given, or measured."""
    if config.covariance != "measure":
        return Covariance(float(config.covariance))
    signal = np.where(usable & (measures.snr >= config.snr_min), measures.signal, np.float32(np.nan))
    parts = (
        (flux, variance, signal[row : row + HEIGHT], measures.noise[row : row + HEIGHT])
        for row, flux, variance in cube.slabs(choose_slabs(np.isfinite(signal)))
    )
    return measure_covariance(parts)


def bins_of(files: BinFiles) -> tuple[Bins, Covariance]:
    """The bins that were made, and the covariance.

    Raises
    ------
    FileNotFoundError
        If they are not there.
    """
    bins = files.read_bins()
    if bins is None:
        raise FileNotFoundError(f"{files.folder}: the bins are lost; run the survey again")
    found = json.loads(files.covariance.read_text(encoding="utf-8"))
    lists = {name: tuple(found[name]) for name in ("spaxels", "excess", "pairs")}
    return bins, Covariance(found["a"], note=found["note"], **lists)
