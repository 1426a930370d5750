"""What is known of bins on the way to their spectra, in the working folder: it survives a kill, like the ledger.

bins/measures-00012.npz   signal, noise and status of a chunk's spaxels
bins/bins.npz             the bins
bins/sums-00012.npy       sums over a chunk's part of each bin: flux, variance and, where voxels are missing, the
                          light of those that are there
bins/sums-00012.npz       which bins these are; written last: its presence means that both files are whole
"""

import hashlib
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.bin_sums import BinSums
from galprote.pipeline.binning import Bins
from galprote.pipeline.ledger import read_arrays, write_arrays
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.spaxel_measures import SpaxelMeasures

#: What reading a damaged file may raise.
DAMAGED = (BadZipFile, ValueError, KeyError, OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class BinFiles:
    """The files of one galaxy's bins.

    Attributes
    ----------
    folder : Path
        In the galaxy's working folder.
    """

    folder: Path

    def measured(self, plan: ChunkPlan) -> set[int]:
        """Chunks of the cube whose spaxels are measured."""
        return {index for index in range(len(plan.chunks)) if self.read_measures(index) is not None}

    def summed(self, plan: ChunkPlan) -> set[int]:
        """Chunks of the cube that are summed."""
        return {index for index in range(len(plan.chunks)) if self.read_sums(index) is not None}

    # --- measures ---

    def write_measures(self, index: int, measures: SpaxelMeasures) -> None:
        """Keep what was measured of a chunk's spaxels."""
        self.folder.mkdir(exist_ok=True)
        write_arrays(self._measures(index), **{item.name: getattr(measures, item.name) for item in fields(measures)})

    def read_measures(self, index: int) -> SpaxelMeasures | None:
        """What was measured of a chunk's spaxels; None if it is not there, or damaged."""
        try:
            return SpaxelMeasures(**read_arrays(self._measures(index)))
        except (*DAMAGED, TypeError):
            self._measures(index).unlink(missing_ok=True)
            return None

    def _measures(self, index: int) -> Path:
        return self.folder / f"measures-{index:05d}.npz"

    # --- bins ---

    @property
    def covariance(self) -> Path:
        """Where the covariance of the noise is told."""
        return self.folder / "covariance.json"

    def write_bins(self, bins: Bins, made_of: str) -> None:
        """Keep the bins, and the hash of the measures that they were made of; what was made with other bins is removed.

        Other bins go first: killed in the middle, there are none, and all that is left is removed when they are made.
        """
        old = self.read_bins()
        if old is None or digest(old) != digest(bins):
            (self.folder / "bins.npz").unlink(missing_ok=True)
            for path in [*self.folder.glob("sums-*"), *(self.folder.parent / "chunks").glob("*")]:
                path.unlink()
        write_arrays(self.folder / "bins.npz", **_arrays(bins), made_of=np.array(made_of))

    def made_of(self) -> str:
        """Hash of the measures that the bins were made of; '' if there are none."""
        try:
            return str(read_arrays(self.folder / "bins.npz")["made_of"])
        except DAMAGED:
            return ""

    def read_bins(self) -> Bins | None:
        """The bins, if they are known."""
        try:
            found: dict[str, Any] = read_arrays(self.folder / "bins.npz")
            found.pop("made_of")
            return Bins(**found | {"covariance": float(found["covariance"])})
        except (*DAMAGED, TypeError):
            return None

    # --- sums ---

    def write_sums(self, index: int, sums: BinSums) -> None:
        """Keep a chunk's sums."""
        partial = self.folder / f"sums-{index:05d}.{uuid4().hex[:8]}.partial"
        try:
            with partial.open("wb") as file:
                np.save(file, sums.stacked(), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            size = partial.stat().st_size
            partial.replace(self._sums(index))
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        write_arrays(self._sums(index).with_suffix(".npz"), bins=sums.bins, light=sums.light, size=np.array(size))

    def read_sums(self, index: int) -> BinSums | None:
        """A chunk's sums, their spectra mapped and not read; None if they are not there, or not whole."""
        path = self._sums(index)
        try:
            about = read_arrays(path.with_suffix(".npz"))
            if path.stat().st_size == int(about["size"]):
                return BinSums.unstacked(about["bins"], about["light"], np.load(path, mmap_mode="r"))
        except DAMAGED:
            pass
        with suppress(OSError):
            path.with_suffix(".npz").unlink(missing_ok=True)
        return None

    def _sums(self, index: int) -> Path:
        return self.folder / f"sums-{index:05d}.npy"


def _arrays(bins: Bins) -> dict[str, NDArray[Any]]:
    return {item.name: np.asarray(getattr(bins, item.name)) for item in fields(bins)}


def digest(bins: Bins) -> str:
    """Hash of all that sums depend on."""
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(values).tobytes() for values in _arrays(bins).values())
    ).hexdigest()
