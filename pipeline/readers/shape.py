"""A cube's size before it is opened, also when it is compressed."""

import gzip
import math
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from galprote.model.errors import CubeError
from galprote.pipeline.readers.channels import select_channels
from galprote.pipeline.readers.cubefile import open_file
from galprote.pipeline.readers.fitsfile import Hdu, walk_hdus
from galprote.pipeline.readers.formats import find_cube_parts
from galprote.pipeline.readers.opening import MODEL_WINDOW, open_cube
from galprote.pipeline.readers.parts import CubeParts
from galprote.pipeline.readers.unpack import is_gzip


def cube_shape(
    path: Path, redshift: float, window: tuple[float, float] = MODEL_WINDOW
) -> tuple[tuple[int, int, int], int]:
    """Size of what would be read of a cube, from its headers; a compressed cube is not unpacked for that.

    Parameters
    ----------
    path : Path
    redshift : float

    Returns
    -------
    shape : (int, int, int)
        Channels to read, ny, nx.
    channels : int
        Channels in the file.

    Raises
    ------
    CubeError
        If the cube cannot be used.
    """
    if is_gzip(path):
        return _packed_shape(path, redshift, window)
    cube = open_cube(path, redshift=redshift, rest_window=window)
    return (cube.sizes["wavelength"], cube.sizes["y"], cube.sizes["x"]), int(cube.attrs["channels_in_file"])


def cube_headers(path: Path) -> tuple[tuple[Hdu, ...], CubeParts]:
    """Find a cube by its headers; a compressed one is not unpacked for that.

    Parameters
    ----------
    path : Path

    Returns
    -------
    hdus : tuple of Hdu
        All of the file; of a compressed one those up to the first cube.
    parts : CubeParts
        The cube among them; of a compressed one at least the flux and its axis.

    Raises
    ------
    CubeError
        If there is none, or the file is damaged or (not seen in a compressed one) truncated.
    """
    if is_gzip(path):
        return _packed_headers(path)
    file = open_file(path)
    return file.hdus, file.parts()


def _packed_shape(path: Path, redshift: float, window: tuple[float, float]) -> tuple[tuple[int, int, int], int]:
    """The shape from the headers up to the first cube in a compressed file, or from all."""
    with suppress(CubeError):
        return _shape_of(find_cube_parts(path, _packed_hdus(path)), redshift, window)
    try:  # what it is, or its wavelengths, may be further on
        return _shape_of(find_cube_parts(path, _packed_hdus(path, whole=True)), redshift, window)
    except CubeError as error:
        raise _of_file(path, error) from error


def _shape_of(parts: CubeParts, redshift: float, window: tuple[float, float]) -> tuple[tuple[int, int, int], int]:
    channels = select_channels(parts.axis, window, redshift, advice=parts.advice)
    _, height, width = parts.shape
    return (channels.wavelength.size, height, width), parts.axis.wavelength.size


def _packed_headers(path: Path) -> tuple[tuple[Hdu, ...], CubeParts]:
    with suppress(CubeError):
        hdus = _packed_hdus(path)
        return tuple(hdus), find_cube_parts(path, hdus)
    try:
        hdus = _packed_hdus(path, whole=True)
        return tuple(hdus), find_cube_parts(path, hdus)
    except CubeError as error:
        raise _of_file(path, error) from error


def _packed_hdus(path: Path, *, whole: bool = False) -> list[Hdu]:
    """HDUs of a compressed file: up to the first with three axes, or all, for which all of it is unpacked."""
    hdus: list[Hdu] = []
    try:
        with gzip.open(path, "rb") as packed:
            for hdu in walk_hdus(cast("BinaryIO", packed), path, math.inf):
                hdus.append(hdu)
                if not whole and hdu.image and len(hdu.image.shape) == 3:
                    break
    except (EOFError, zlib.error, OSError) as error:
        raise CubeError(f"{path}: damaged or truncated gzip file ({error}): copy or download it again") from error
    return hdus


def _of_file(path: Path, error: CubeError) -> CubeError:
    return error if str(path) in str(error) else CubeError(f"{path}: {error}")
