"""A FITS image -> the spaxels that are left out: foreground stars, bad edges, neighbours."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.images import read_image


def read_spatial_mask(path: str | Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read which spaxels to leave out.

    Parameters
    ----------
    path : str or Path
        A FITS file, or ``file.fits[EXT]``: see `read_image`.
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
    values = read_image(path, "spatial mask", shape)
    return np.asarray((values != 0) | np.isnan(values))
