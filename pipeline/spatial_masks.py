"""All masks of a galaxy's spaxels in one image: for each spaxel the status bits of why it is left out."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.earlier_run import flagged_mask, read_status
from galprote.pipeline.mask_config import MasksConfig
from galprote.pipeline.masks import read_spatial_mask
from galprote.pipeline.quality import Status
from galprote.pipeline.region_masks import read_regions, region_mask
from galprote.pipeline.star_masks import read_stars, star_mask


class SpatialMask(NamedTuple):
    """Spaxels to leave out: bits of `Status` (y, x) int32, 0 where nothing is masked; and what was found, in words."""

    bits: NDArray[np.int32]
    notes: tuple[str, ...]


def spatial_mask(masks: MasksConfig, wcs_header: str, shape: tuple[int, int]) -> SpatialMask | None:
    """Read all that masks a galaxy's spaxels.

    Parameters
    ----------
    masks : MasksConfig
    wcs_header : str
        The cube's celestial WCS; '' if it has none.
    shape : (int, int)
        (y, x) of the cube.

    Returns
    -------
    SpatialMask or None
        None if there are no such masks.

    Raises
    ------
    ConfigError
        If a file is missing, damaged, or not of this cube.
    """
    bits = np.zeros(shape, dtype=np.int32)
    notes, found = [], False
    for status, mask, note in _masks(masks, wcs_header, shape):
        bits[mask] |= np.int32(status)
        notes.append(note)
        found = True
    return SpatialMask(bits, tuple(filter(None, notes))) if found else None


def check_mask_files(masks: MasksConfig, shape: tuple[int, int]) -> None:
    """Read what can be read of a galaxy's masks when its WCS is not known yet.

    Raises
    ------
    ConfigError
        If a file is missing or damaged.
    """
    for path in masks.files:
        read_spatial_mask(path, shape)
    if masks.stars is not None:
        read_stars(masks.stars)
    for path in masks.regions:
        read_regions(path)
    if masks.trust is not None:
        read_status(masks.trust.store)


def _masks(
    masks: MasksConfig, wcs_header: str, shape: tuple[int, int]
) -> Iterator[tuple[Status, NDArray[np.bool_], str]]:
    for path in masks.files:
        yield Status.EXCLUDED, read_spatial_mask(path, shape), ""
    if masks.stars is not None:
        yield Status.STAR_MASK, *star_mask(read_stars(masks.stars), wcs_header, shape)
    if masks.trust is not None:
        yield Status.STAR_MASK, *flagged_mask(masks.trust, wcs_header, shape)
    for path in masks.regions:
        yield Status.REGION_MASK, *region_mask(path, read_regions(path), wcs_header, shape)
