"""Observed spectra, models and grids of what is selected, from the cube: fitted again, as the run did.

PyTorch is imported when the first spectrum is wanted, not before.
"""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

import numpy as np

from galprote.model.errors import ConfigError
from galprote.pipeline.readers.unpack import is_gzip
from galprote.workflows.store_cube import find_store_cube
from galprote.workflows.viewer.selection import Selection
from galprote.workflows.viewer.stored import StoredGalaxy, ViewError

if TYPE_CHECKING:
    from galprote.workflows.refit import Refits, Refitter

#: Spaxels, and rows of them, whose spectra are read at most for the mean of a region.
MOST_SPAXELS: Final = 400
MOST_ROWS: Final = 40


@dataclass(frozen=True)
class Refit:
    """The fit of a selection's spectrum.

    Attributes
    ----------
    fit : Refits
        Of one spectrum.
    spaxels : int
        Of which it is the mean.
    note : str
        Why it may differ from the run's; empty if there is no reason.
    """

    fit: "Refits"
    spaxels: int
    note: str = ""


class Spectra:
    """Where observed spectra come from.

    Parameters
    ----------
    galaxy : StoredGalaxy
    cube : Path, optional
        The cube; by default what run.json beside the store says.
    checkpoint : Path, optional
        Weights, if they are not the shipped ones.

    Raises
    ------
    ViewError
        If the cube or the weights that were named are not there.
    """

    def __init__(self, galaxy: StoredGalaxy, cube: Path | None = None, checkpoint: Path | None = None) -> None:
        for option, path in (("--cube", cube), ("--checkpoint", checkpoint)):
            if path is not None and not path.exists():
                raise ViewError(f"{option} {path}: no such file (looked from {Path.cwd()})")
        self.galaxy, self.checkpoint = galaxy, checkpoint
        self.cube, self.missing = (cube, "") if cube is not None else _recorded_cube(galaxy)
        self._refitter: Refitter | None = None
        self._opening = Lock()

    @property
    def unpacks(self) -> Path | None:
        """The compressed cube that the first fit unpacks: it could not be read in slabs."""
        return self.cube if self._refitter is None and self.cube is not None and is_gzip(self.cube) else None

    def fit(self, selection: Selection) -> Refit:
        """Fit the spectrum of a spaxel, or the mean of a region's or a bin's.

        Raises
        ------
        GalproteError
            If the cube or the weights are not those of the run.
        """
        if self.cube is None:
            raise ViewError(self.missing)
        refitter = self._opened(self.cube)
        note = refitter.note
        if selection.kind == "spaxel":
            return Refit(refitter.spaxels(selection.y, selection.x), 1, note)
        if selection.kind == "bin":  # all of it: the run's own spectrum
            return Refit(refitter.region(selection.y, selection.x), len(selection), note)
        rows = np.unique(selection.y)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(int)]
        mine = np.flatnonzero(np.isin(selection.y, rows))
        mine = mine[np.linspace(0, len(mine) - 1, min(len(mine), MOST_SPAXELS)).astype(int)]
        return Refit(refitter.region(selection.y[mine], selection.x[mine]), len(mine), note)

    def _opened(self, cube: Path) -> "Refitter":
        """What fits; windows, which have threads of their own, share it."""
        with self._opening:
            if self._refitter is None:
                from galprote.workflows.refit import Refitter

                self._refitter = Refitter(self.galaxy.path, cube, self.checkpoint)
            return self._refitter


def _recorded_cube(galaxy: StoredGalaxy) -> tuple[Path | None, str]:
    """The cube that the run used, or why it is not there, and what to do."""
    try:
        return find_store_cube(galaxy.path, galaxy.name, galaxy.record["input"]["file"]), ""
    except ConfigError as error:
        return None, str(error)
