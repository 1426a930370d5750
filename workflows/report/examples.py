"""The best, the median and the worst fit of a galaxy: which spaxels they are, and their spectra from the cube."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.readers.unpack import is_gzip
from galprote.pipeline.zarr_path import is_store
from galprote.workflows.refit import Refits, Refitter
from galprote.workflows.report.galaxy_maps import GalaxyMaps

#: Signal-to-noise ratio from which spaxels are candidates, if there are so many of them; else the better half is.
ENOUGH_SNR: Final = 20.0
ENOUGH_SPAXELS: Final = 30
#: The rule, as the page tells it.
RULE: Final = (
    "Of the good spaxels with S/N of at least {snr:.3g}, these have the smallest, the median and the largest {what}."
)


@dataclass(frozen=True)
class Example:
    """A spaxel, or the bin it is in.

    Attributes
    ----------
    title : {"Best fit", "Median fit", "Worst fit"}
    row, column : int
        In the cube, from 0.
    bin : int or None
    value : float
        Of the quantity by which it was chosen.
    """

    title: str
    row: int
    column: int
    bin: int | None
    value: float

    @property
    def what(self) -> tuple[int, ...]:
        """The spaxel, or the bin."""
        return (self.row, self.column) if self.bin is None else (self.bin,)


@dataclass(frozen=True)
class Examples:
    """Spaxels to be shown, and the rule by which they were chosen, in words."""

    chosen: tuple[Example, ...]
    rule: str


def choose(galaxy: GalaxyMaps) -> Examples | None:
    """Choose three spaxels, or bins, by the scatter of their residuals in units of the noise; none of them twice.

    The scatter is `noise_scale`, or where weights do not give it, `residual_rms` times S/N. Of equals the first in the
    image is taken.

    Returns
    -------
    Examples or None
        None without good spaxels.
    """
    snr, scatter = galaxy.read("snr"), galaxy.read("noise_scale")
    what = "scatter of residuals over noise"
    rms = galaxy.read("residual_rms")
    if scatter is None and rms is not None and snr is not None:
        scatter, what = rms * snr, "rms of residuals over noise"
    if scatter is None or snr is None:
        return None
    candidates = galaxy.good & np.isfinite(scatter) & np.isfinite(snr)
    if not candidates.any():
        return None
    least = ENOUGH_SNR if (candidates & (snr >= ENOUGH_SNR)).sum() >= ENOUGH_SPAXELS else np.median(snr[candidates])
    rows, columns = np.nonzero(candidates & (snr >= least))
    order = np.argsort(scatter[rows, columns], kind="stable")
    number = galaxy.dataset["bin_id"].values if galaxy.bins is not None else None
    chosen: list[Example] = []
    for title, place in (("Best fit", 0), ("Median fit", len(order) // 2), ("Worst fit", len(order) - 1)):
        row, column = int(rows[order[place]]), int(columns[order[place]])
        mine = int(number[row, column]) if number is not None else None
        example = Example(title, row, column, mine, float(scatter[row, column]))
        if example.what not in [other.what for other in chosen]:
            chosen.append(example)
    return Examples(tuple(chosen), RULE.format(snr=float(least), what=what))


def cube_problem(cube: Path | None) -> str:
    """Why spectra cannot be taken from a cube; empty if they can."""
    if cube is None:
        return "it is not known where the cube is"
    if not (cube.is_file() or is_store(cube)):
        return f"the cube {cube.name} is not where it was"
    if not cube.is_dir() and is_gzip(cube):
        return f"the cube {cube.name} is compressed, and would have to be unpacked for three spectra"
    return ""


def refit(galaxy: GalaxyMaps, examples: Examples, cube: Path, checkpoint: Path | None) -> list[Refits]:
    """Fit the examples again, one `Refits` of one spectrum each: of a bin, the mean spectrum of its spaxels.

    Raises
    ------
    GalproteError
        If cube or weights are not those that the maps were made with, or cannot be read.
    """
    refitter = Refitter(galaxy.store, cube, checkpoint)
    bins = [example.bin for example in examples.chosen if example.bin is not None]
    if bins:
        return [refitter.region(*_members(galaxy, number)) for number in bins]
    rows, columns = np.array([(example.row, example.column) for example in examples.chosen]).T
    together = refitter.spaxels(rows, columns)
    return [_one(together, number) for number in range(len(rows))]


def _one(fits: Refits, number: int) -> Refits:
    """One of several fits."""
    mine = slice(number, number + 1)
    populations = replace(
        fits.populations, **{item.name: getattr(fits.populations, item.name)[mine] for item in fields(fits.populations)}
    )
    names = ("flux", "error", "model", "masked", "replaced", "snr")
    return replace(fits, **{name: getattr(fits, name)[mine] for name in names}, populations=populations)


def _members(galaxy: GalaxyMaps, number: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = np.nonzero(galaxy.dataset["bin_id"].values == number)
    return rows, columns
