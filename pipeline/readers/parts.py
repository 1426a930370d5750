"""The HDUs and the axes that make a cube: what a survey's reader finds, and all that the opening needs."""

from dataclasses import dataclass

from galprote.model.errors import CubeError
from galprote.pipeline.readers.axis import SpectralAxis
from galprote.pipeline.readers.fitsfile import Hdu, ImageLayout
from galprote.pipeline.readers.slabs import Kind


@dataclass(frozen=True)
class CubeParts:
    """The pieces of a cube in one file.

    Attributes
    ----------
    flux : Hdu
        The HDU with the fluxes, 3 axes.
    variance : Hdu or None
        The HDU with the noise; None if the file has none.
    variance_kind : {"value", "sigma", "inverse"}
        What that HDU holds.
    flags : Hdu or None
        The HDU with quality flags, nonzero = bad.
    axis : SpectralAxis
        Wavelengths.
    axes : tuple of int
        File axes (numpy order) of wavelength, y and x.
    muse : bool
        True if laid out as MUSE writes cubes.
    """

    flux: Hdu
    variance: Hdu | None
    variance_kind: Kind
    flags: Hdu | None
    axis: SpectralAxis
    axes: tuple[int, int, int] = (0, 1, 2)
    muse: bool = False

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
