"""What a file with other people's maps holds, whoever wrote it: planes, units, WCS and bins."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from galprote.pipeline.images import with_hdus

Array = NDArray[np.float64]
#: R_V of E(B-V) in files, if nothing else is known: that of our own maps.
USUAL_R_V: Final = 3.1


@dataclass(frozen=True)
class Plane:
    """An image: (y, x) float64 and its unit, '' if it states none."""

    values: Array
    unit: str


@dataclass
class ReferenceFile:
    """What a file with maps holds.

    Attributes
    ----------
    kind : str
        Who wrote it, in words.
    planes : dict of str to callable
        Name (upper case) to a function that reads the `Plane`.
    wcs : WCS or None
        Celestial.
    bins : (y, x) int32 or None
        -1: in none.
    good : (y, x) bool or None
        What its own flags leave.
    aliases : dict of str to str
        What its names mean: ours to theirs, where the usual names would mislead or are missing.
    r_v : float
        A_V over E(B-V) in this file.
    truth : bool
        It is what a synthetic cube was made from.
    notes : list of str
        What a reader of the comparison should know.
    galaxy : str
        Its name; '' where it has none.
    redshift : float or None
    """

    kind: str
    planes: Mapping[str, Callable[[], Plane]]
    wcs: WCS | None = None
    bins: NDArray[np.int32] | None = None
    good: NDArray[np.bool_] | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    r_v: float = USUAL_R_V
    truth: bool = False
    notes: list[str] = field(default_factory=list)
    galaxy: str = ""
    redshift: float | None = None


def celestial(header: fits.Header) -> WCS | None:
    """The WCS of a header, if it is one of the sky."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
        try:
            wcs = WCS(header).celestial
        except Exception:  # astropy and wcslib raise many types for damaged headers
            return None
    return wcs if wcs.has_celestial else None


def whole_numbers(values: NDArray[Any]) -> NDArray[np.int32]:
    """Bin numbers of an image; -1 where it has none."""
    known = np.isfinite(values) & (values >= 0)
    return np.where(known, values, -1).astype(np.int32)


def read_fits(path: Path, use: Callable[[Any], Any]) -> Any:
    """Open a FITS file and give what `use` makes of its HDUs."""
    return with_hdus(path, "reference", lambda hdus, _: use(hdus))
