"""Images of spectra - a long slit, or spectra stacked in rows - as cubes with y = 1: one spectrum a column x.

The image has two axes, one of them wavelength. Which it is says the header (CTYPE as in a cube, or DISPAXIS with
linear wavelengths as IRAF writes them), or the length of the HDU with the wavelengths (`WAVE` and so on). All spectra
must have the same wavelengths. There is no sky: positions along a slit, and of fibres, are not read.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from galprote.model.errors import CubeError
from galprote.pipeline.readers.axis import SpectralAxis, is_wavelength, read_wavelengths, spectral_axis_number
from galprote.pipeline.readers.fitsfile import Hdu
from galprote.pipeline.readers.vector import vector_axis


def as_cube(hdu: Hdu, channels: int, number: int | None = None) -> tuple[Hdu, tuple[int, int, int]]:
    """Give an image of spectra a third axis.

    Parameters
    ----------
    hdu : Hdu
        With two axes; others are left alone.
    channels : int
        Length of the wavelength axis.
    number : int, optional
        Its FITS number (1 or 2); by default the one of that length, along the rows if both are.

    Returns
    -------
    hdu : Hdu
        The same, with three axes.
    axes : tuple of int
        File axes (numpy order) of wavelength, y and x.

    Raises
    ------
    CubeError
        If no axis has that length.
    """
    if hdu.image is None or len(hdu.image.shape) != 2:
        return hdu, (0, 1, 2)
    slow, fast = hdu.image.shape
    if number is None:
        number = 1 if fast == channels else 2
    if (fast if number == 1 else slow) != channels:
        raise CubeError(f"HDU {hdu.label}: no axis has the {channels:,} channels of the wavelengths")
    if number == 1:  # spectra in rows
        return replace(hdu, image=replace(hdu.image, shape=(1, slow, fast))), (2, 0, 1)
    return replace(hdu, image=replace(hdu.image, shape=(slow, 1, fast))), (0, 1, 2)


def stacked_axis(path: Path, flux: Hdu, wave: Hdu | None) -> tuple[SpectralAxis, int | None]:
    """The wavelengths of an image of spectra.

    Parameters
    ----------
    path : Path
    flux : Hdu
        With two axes.
    wave : Hdu or None
        The HDU with the wavelengths, if there is one.

    Returns
    -------
    axis : SpectralAxis
    number : int or None
        FITS number of the wavelength axis; None if only its length tells.

    Raises
    ------
    CubeError
        If neither the header nor an HDU has wavelengths.
    """
    assert flux.image is not None
    number = spectral_axis_number(flux.header)
    header = flux.header
    if number is None and str(header.get("CTYPE1", "")).strip().upper() in ("", "LINEAR", "PIXEL"):
        number = int(header["DISPAXIS"]) if header.get("DISPAXIS") in (1, 2) else None
        if number is not None:
            header = header.copy()
            header[f"CTYPE{number}"] = "LAMBDA"  # linear, as IRAF writes it: silent on air or vacuum
    if number in (1, 2) and is_wavelength(header, number):
        return read_wavelengths(header, number, flux.image.shape[2 - number]), number
    if wave is None:
        raise CubeError(
            f"HDU {flux.label} has 2 axes: a cube has 3 (wavelength, y, x). An image of spectra needs CTYPE and CUNIT "
            f"of its wavelength axis, or an HDU WAVE with one wavelength a channel"
        )
    return vector_axis(path, wave), None


def find_stacked(
    path: Path, flux: Hdu, others: Sequence[Hdu | None], wave: Hdu | None
) -> tuple[SpectralAxis, tuple[int, int, int], list[Hdu | None]]:
    """Bring an image of spectra, its noise and its flags to three axes: axis, axes, the HDUs in the order given."""
    axis, number = stacked_axis(path, flux, wave)
    channels = axis.wavelength.size
    cube, axes = as_cube(flux, channels, number)
    rest = [None if hdu is None else as_cube(hdu, channels, number)[0] for hdu in others]
    return axis, axes, [cube, *rest]
