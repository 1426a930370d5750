"""An image in a FITS file, on the pixels of a cube: masks, bin numbers, velocities."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import ConfigError, GalproteError

_EXTENSION: Final = re.compile(r"(?P<file>.+)\[(?P<extension>[^\[\]]+)\]")

T = TypeVar("T")


def read_image(path: str | Path, what: str, shape: tuple[int, int]) -> NDArray[Any]:
    """Read an image that must be on a cube's pixels; of several the first: see `read_named_image`."""
    return _read(path, what, shape, None)[0]


def read_named_image(
    path: str | Path, what: str, shape: tuple[int, int], preferred: tuple[str, ...]
) -> tuple[NDArray[Any], str]:
    """Read an image that must be on a cube's pixels, and its unit (BUNIT, '' if there is none).

    Parameters
    ----------
    path : str or Path
        A FITS file (``.gz`` too), or ``file.fits[EXT]`` with the name or the number of an extension.
    what : str
        What it is, for errors.
    shape : tuple of int
        (y, x) of the cube.
    preferred : tuple of str
        Names of extensions that are looked for; without any of them the file must have one image only.

    Raises
    ------
    ConfigError
        If the file or the extension is missing, is no 2-D image, is not of the cube's shape, or it is not clear which
        image is meant.
    """
    return _read(path, what, shape, preferred)


def _read(
    path: str | Path, what: str, shape: tuple[int, int], preferred: tuple[str, ...] | None
) -> tuple[NDArray[Any], str]:
    values, unit = with_hdus(path, what, lambda hdus, extension: _image(hdus, extension, f"{what} {path}", preferred))
    if values.shape != tuple(shape):
        raise ConfigError(
            f"{what} {path}: shape {_text(values.shape)} (y x x), but the cube has {_text(shape)}: it must be on the "
            f"cube's pixels"
        )
    return values, unit


def with_hdus(path: str | Path, what: str, use: Callable[[Any, str | int | None], T]) -> T:
    """Open a FITS file that may name an extension, and give what `use(hdus, extension)` makes of it.

    Raises
    ------
    ConfigError
        If the file is missing or damaged.
    """
    file, extension = split_extension(str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of faults that do not keep it from being read
            # astropy leaves a damaged file open that it has opened itself.
            with file.open("rb") as raw, fits.open(raw, memmap=False) as hdus:
                return use(hdus, extension)
    except FileNotFoundError:
        raise ConfigError(f"{what} {file}: no such file (looked from {Path.cwd()})") from None
    except GalproteError:
        raise
    except Exception as error:  # astropy raises many types for damaged files
        raise ConfigError(f"{what} {file}: cannot be read as FITS: {plain_reason(error)}") from error


def plain_reason(error: Exception) -> str:
    """What astropy says of a FITS file, without its advice to programmers."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return "it does not start with SIMPLE, as FITS files do" if "ignore_missing_simple" in reason else reason


def split_extension(text: str) -> tuple[Path, str | int | None]:
    """Split `file.fits[EXT]` into file and extension; brackets may also be part of the file's name."""
    match = _EXTENSION.fullmatch(text)
    if match is None or Path(text).expanduser().exists():
        return Path(text).expanduser(), None
    extension = match["extension"].strip()
    return Path(match["file"]).expanduser(), int(extension) if extension.isdecimal() else extension


def _image(
    hdus: Any, extension: str | int | None, where: str, preferred: tuple[str, ...] | None
) -> tuple[NDArray[Any], str]:
    if extension is None:
        images = [hdu for hdu in hdus if hdu.is_image and hdu.header["NAXIS"] == 2]
        if not images:
            raise ConfigError(f"{where}: no image with two axes; the HDUs are {listing(hdus)}")
        named = [hdu for name in preferred or () for hdu in images if hdu.name == name]
        if preferred is not None and not named and len(images) > 1:
            raise ConfigError(f"{where}: which image is meant? Name its extension, file.fits[EXT]: {listing(images)}")
        hdu = (named or images)[0]
    else:
        try:
            hdu = hdus[extension]
        except (KeyError, IndexError):
            raise ConfigError(f"{where}: no extension {extension!r}; the HDUs are {listing(hdus)}") from None
    if not hdu.is_image or hdu.header["NAXIS"] != 2:
        raise ConfigError(f"{where}: extension {extension!r} is no image with two axes")
    return np.asarray(hdu.data), str(hdu.header.get("BUNIT", "")).strip()


def listing(hdus: Any) -> str:
    """Name the HDUs of a file."""
    return ", ".join(f"{index} {hdu.name or '(unnamed)'}" for index, hdu in enumerate(hdus))


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
