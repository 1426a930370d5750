"""A cube's size before it is opened, also when it is compressed."""

import gzip
import math
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from galprote.model.errors import CubeError
from galprote.pipeline.readers.channels import select_channels
from galprote.pipeline.readers.fitsfile import Hdu, walk_hdus
from galprote.pipeline.readers.formats import find_cube_parts
from galprote.pipeline.readers.opening import MODEL_WINDOW, open_cube
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


def _packed_shape(path: Path, redshift: float, window: tuple[float, float]) -> tuple[tuple[int, int, int], int]:
    """The same from the headers up to the first cube in a compressed file."""
    hdus: list[Hdu] = []
    try:
        with gzip.open(path, "rb") as packed:
            for hdu in walk_hdus(cast("BinaryIO", packed), path, math.inf):
                hdus.append(hdu)
                if hdu.image and len(hdu.image.shape) == 3:
                    break
    except (EOFError, zlib.error, OSError) as error:
        raise CubeError(f"{path}: damaged or truncated gzip file ({error}): copy or download it again") from error
    with suppress(CubeError):
        return _shape_of(path, hdus, redshift, window)
    try:  # what it is, or its wavelengths, may be further on
        with gzip.open(path, "rb") as packed:
            return _shape_of(path, list(walk_hdus(cast("BinaryIO", packed), path, math.inf)), redshift, window)
    except (EOFError, zlib.error, OSError) as error:
        raise CubeError(f"{path}: damaged or truncated gzip file ({error}): copy or download it again") from error
    except CubeError as error:
        raise CubeError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _shape_of(
    path: Path, hdus: list[Hdu], redshift: float, window: tuple[float, float]
) -> tuple[tuple[int, int, int], int]:
    parts = find_cube_parts(path, hdus)
    channels = select_channels(parts.axis, window, redshift, advice=parts.advice)
    _, height, width = parts.shape
    return (channels.wavelength.size, height, width), parts.axis.wavelength.size
