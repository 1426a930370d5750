"""The HDUs and the axes that make a cube: what a format's reader finds, and all that the opening needs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galprote.model.errors import CubeError
from galprote.pipeline.readers.axis import SpectralAxis
from galprote.pipeline.readers.fitsfile import Hdu, ImageLayout
from galprote.pipeline.readers.slabs import ANY_BIT, Kind


@dataclass(frozen=True)
class LineWidth:
    """How wide the instrument draws a line.

    Attributes
    ----------
    fwhm : callable
        Returns (n,) float64: the full width at half maximum at each channel in the order of the file, Angstrom,
        observed frame; NaN where it is not known. Called when a cube is opened, not when it is looked for.
    source : str
        Where that comes from: an HDU, or a paper.
    """

    fwhm: Callable[[], NDArray[np.float64]]
    source: str


@dataclass(frozen=True)
class CubeParts:
    """The pieces of a cube in one file.

    Attributes
    ----------
    flux : Hdu
        The HDU with the fluxes, 3 axes; of an image of spectra (2 axes) one is of length 1.
    variance : Hdu or None
        The HDU with the noise; None if the file has none.
    variance_kind : {"value", "sigma", "inverse"}
        What that HDU holds.
    flags : Hdu or None
        The HDU with quality flags.
    axis : SpectralAxis
        Wavelengths.
    axes : tuple of int
        File axes (numpy order) of wavelength, y and x.
    layout : str
        Name of the format, for people.
    flag_bits : int
        The bits of the flags that mean "do not use"; `ANY_BIT` for all.
    default_unit : str
        What an empty BUNIT means in this format; empty if nothing is known.
    unit : str
        What to believe instead of BUNIT, where the format's is known to be wrong; empty if BUNIT is right.
    response : (n,) float64 or None
        What the fluxes of each channel are to be multiplied by to be in `unit`, in the order of the file.
    line_width : LineWidth or None
        The instrument's line spread function; None if neither the file nor the format tells it.
    notes : tuple of str
        What a user must know of the format, in words.
    advice : str
        What would serve where the cube does not cover the window.
    """

    flux: Hdu
    variance: Hdu | None
    variance_kind: Kind
    flags: Hdu | None
    axis: SpectralAxis
    axes: tuple[int, int, int] = (0, 1, 2)
    layout: str = "generic FITS"
    flag_bits: int = ANY_BIT
    default_unit: str = ""
    unit: str = ""
    response: NDArray[np.float64] | None = None
    line_width: LineWidth | None = None
    notes: tuple[str, ...] = ()
    advice: str = ""

    @property
    def variance_source(self) -> str:
        """Name of the variance's HDU, with what is done to it; empty if there is none."""
        how = {"value": "", "sigma": " (squared)", "inverse": " (inverted)", "flag": ""}[self.variance_kind]
        return f"{self.variance.name}{how}" if self.variance else ""

    @property
    def variance_note(self) -> str:
        """Say that the header names variances that are not in the file; empty if all is well."""
        named = str(self.flux.header.get("ERRDATA", "")).strip()
        if self.variance is not None or not named:
            return ""
        return f"the header names variances in HDU {named} (ERRDATA), which is not in the file: is it truncated?"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(wavelength, y, x)."""
        size = image_of(self.flux).shape
        return size[self.axes[0]], size[self.axes[1]], size[self.axes[2]]


def image_of(hdu: Hdu) -> ImageLayout:
    """Return the layout of an HDU's array.

    Raises
    ------
    CubeError
        If the HDU has no 3-D array.
    """
    if hdu.image is None or len(hdu.image.shape) != 3:
        axes = len(hdu.image.shape) if hdu.image else 0
        advice = "; drop the extra axis (such as a Stokes axis of length 1)" if axes > 3 else ""
        raise CubeError(f"HDU {hdu.label} has {axes} axes: a cube has 3 (wavelength, y, x){advice}")
    return hdu.image


def require_same_shape(flux: Hdu, *others: Hdu | None) -> None:
    """Refuse variances or flags that are not of the flux' shape.

    Raises
    ------
    CubeError
        Naming both HDUs and both shapes.
    """
    for other in others:
        if other is not None and image_of(other).shape != image_of(flux).shape:
            raise CubeError(
                f"HDU {other.label} and HDU {flux.label} differ in shape: variances and flags must match the flux"
            )
