"""What is left of a galaxy's spectra on the mean, streamed from the residual cube: one block of it is in memory."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray

from galprote.model.grids import N_WAVELENGTH, WAVELENGTH
from galprote.pipeline.store import BINS
from galprote.workflows.report.galaxy_maps import GalaxyMaps

#: Spectra that are read at most: of more, blocks that are spread evenly over the image. 250 MB.
MOST_SPECTRA: Final = 65_536
#: Residuals relative to the flux are counted in cells that are even in arcsinh(residual / CORE): 0.01 % wide at zero,
#: 2 % of the residual where it is large, up to 150 times the flux: lines of the gas reach tens.
CORE: Final = 0.005
CELLS: Final = 1100
END: Final = 11.0


@dataclass(frozen=True)
class ResidualSpectrum:
    """Residuals relative to the spectrum's median flux, at the model's rest-frame wavelengths.

    Attributes
    ----------
    wavelength : (948,) float64
        Air, Angstrom.
    mean, low, high : (948,) float64
        Mean over spaxels (or bins), 16th and 84th percentile; NaN where none has data.
    spectra, of : int
        How many were read, of how many good ones.
    what : str
        `spaxels` or `bins`.
    """

    wavelength: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    spectra: int
    of: int
    what: str


class _Counts:
    """Sums and counts of residuals, (948,) and (948, CELLS)."""

    def __init__(self) -> None:
        self.total = np.zeros(N_WAVELENGTH)
        self.number = np.zeros(N_WAVELENGTH, dtype=np.int64)
        self.cells = np.zeros(N_WAVELENGTH * CELLS, dtype=np.int64)
        self.spectra = 0

    def add(self, relative: NDArray[np.float32]) -> None:
        """Count residuals (948, n)."""
        finite = np.isfinite(relative)
        self.total += np.where(finite, relative, 0).sum(axis=1, dtype=np.float64)
        self.number += finite.sum(axis=1)
        place = np.arcsinh(np.where(finite, relative, 0) / np.float32(CORE))
        cell = np.clip((place + END) * (CELLS / (2 * END)), 0, CELLS - 1).astype(np.int32)
        cell += (np.arange(N_WAVELENGTH, dtype=np.int32) * CELLS)[:, None]
        self.cells += np.bincount(cell[finite], minlength=self.cells.size)
        self.spectra += relative.shape[1]

    def percentile(self, share: float) -> NDArray[np.float64]:
        """The residual (948,) below which this share lies, interpolated within its cell."""
        counts = self.cells.reshape(N_WAVELENGTH, CELLS)
        reached = np.cumsum(counts, axis=1)
        wanted = share * self.number
        cell = np.minimum((reached < wanted[:, None]).sum(axis=1), CELLS - 1)
        rows = np.arange(N_WAVELENGTH)
        inside = counts[rows, cell]
        part = (wanted - (reached[rows, cell] - inside)) / np.maximum(inside, 1)
        value: NDArray[np.float64] = CORE * np.sinh((cell + part) * (2 * END / CELLS) - END)
        return np.where(self.number > 0, value, np.nan)


def residual_spectrum(galaxy: GalaxyMaps, most: int = MOST_SPECTRA) -> ResidualSpectrum | None:
    """Average a galaxy's residual spectra over its good spaxels, or bins.

    Parameters
    ----------
    galaxy : GalaxyMaps
    most : int
        Spectra to read at most, about.

    Returns
    -------
    ResidualSpectrum or None
        None if there is no residual cube, or no good spaxel.
    """
    group: Any = zarr.open_group(galaxy.store, mode="r")
    binned = BINS in group
    group = group[BINS] if binned else group
    if "residual" not in group:
        return None
    if binned:
        good, flux = _bins(galaxy, group)
    else:
        read = galaxy.read("flux")
        good, flux = galaxy.good, np.full(galaxy.shape, np.nan, np.float32) if read is None else read
    counts = _stream(group["residual"], good, flux, most)
    if not counts.spectra:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = counts.total / counts.number
    low, high = counts.percentile(0.16), counts.percentile(0.84)
    of, what = int(good.sum()), "bins" if binned else "spaxels"
    return ResidualSpectrum(WAVELENGTH, mean, low, high, counts.spectra, of, what)


def _bins(galaxy: GalaxyMaps, group: Any) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Which bins (n,) are good, and their fluxes: every spaxel of a bin has its values."""
    bins = int(group["residual"].shape[-1])
    good, flux = np.zeros(bins, dtype=bool), np.full(bins, np.nan, dtype=np.float32)
    number, values = galaxy.dataset["bin_id"].values, galaxy.read("flux")
    if values is not None:
        inside = (number >= 0) & (number < bins)
        flux[number[inside]] = values[inside]
        good[number[inside & galaxy.good]] = True
    return good, flux


def _stream(cube: Any, good: NDArray[np.bool_], flux: NDArray[np.float32], most: int) -> _Counts:
    """Read the blocks of a cube (948, ...) that have good spectra: all, or some that are spread evenly."""
    counts, blocks = _Counts(), []
    for place in np.ndindex(*(-(-size // step) for size, step in zip(good.shape, cube.chunks[1:], strict=True))):
        where = tuple(
            slice(number * step, (number + 1) * step) for number, step in zip(place, cube.chunks[1:], strict=True)
        )
        if good[where].any():
            blocks.append(where)
    share = min(1.0, most / max(int(good.sum()), 1))
    wanted = max(1, round(share * len(blocks))) if blocks else 0
    for number in np.unique(np.linspace(0, len(blocks) - 1, wanted).round().astype(int)):
        where = blocks[number]
        residual = np.asarray(cube[(slice(None), *where)])
        mine = good[where] & (flux[where] > 0)
        counts.add((residual[:, mine] / flux[where][mine]).astype(np.float32))
    return counts
