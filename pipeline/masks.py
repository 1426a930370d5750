"""A FITS image -> the spaxels that are left out: foreground stars, bad edges, neighbours."""

import re
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import ConfigError

_EXTENSION: Final = re.compile(r"(?P<file>.+)\[(?P<extension>[^\[\]]+)\]")


def read_spatial_mask(path: str | Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read which spaxels to leave out.

    Parameters
    ----------
    path : str or Path
        A FITS file (``.gz`` too), whose first image with two axes is taken, or ``file.fits[EXT]`` with the
        name or the number of an extension.
    shape : tuple of int
        (y, x) of the cube.

    Returns
    -------
    (y, x) bool
        True = excluded: where the image is **nonzero or NaN**. A map of "good" spaxels must be inverted
        first.

    Raises
    ------
    ConfigError
        If the file or the extension is missing, is no 2-D image, or is not of the cube's shape.
    """
    file, extension = _split(str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of faults that do not keep it from being read
            # astropy leaves a damaged file open that it has opened itself.
            with file.open("rb") as raw, fits.open(raw, memmap=False) as hdus:
                values = _image(hdus, extension, str(path))
    except FileNotFoundError:
        raise ConfigError(f"spatial mask {file}: no such file (looked from {Path.cwd()})") from None
    except ConfigError:
        raise
    except Exception as error:  # astropy raises many types for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"spatial mask {file}: cannot be read as FITS: {reason}") from error
    if values.shape != tuple(shape):
        raise ConfigError(
            f"spatial mask {path}: shape {_text(values.shape)} (y x x), but the cube has {_text(shape)}: "
            f"the mask must be on the cube's pixels"
        )
    return np.asarray((values != 0) | np.isnan(values))


def _split(text: str) -> tuple[Path, str | int | None]:
    match = _EXTENSION.fullmatch(text)
    if match is None or Path(text).expanduser().exists():  # brackets may be part of a name
        return Path(text).expanduser(), None
    extension = match["extension"].strip()
    return Path(match["file"]).expanduser(), int(extension) if extension.isdecimal() else extension


def _image(hdus: Any, extension: str | int | None, path: str) -> NDArray[Any]:
    if extension is None:
        images = [hdu for hdu in hdus if hdu.is_image and hdu.header["NAXIS"] == 2]
        if not images:
            raise ConfigError(f"spatial mask {path}: no image with two axes; the HDUs are {_listing(hdus)}")
        hdu = images[0]
    else:
        try:
            hdu = hdus[extension]
        except (KeyError, IndexError):
            raise ConfigError(
                f"spatial mask {path}: no extension {extension!r}; the HDUs are {_listing(hdus)}"
            ) from None
    if not hdu.is_image or hdu.header["NAXIS"] != 2:
        raise ConfigError(f"spatial mask {path}: extension {extension!r} is no image with two axes")
    return np.asarray(hdu.data)


def _listing(hdus: Any) -> str:
    return ", ".join(f"{index} {hdu.name or '(unnamed)'}" for index, hdu in enumerate(hdus))


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
