"""DS9 region files -> the spaxels whose centre lies in a region."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from galprote.model.errors import ConfigError

if TYPE_CHECKING:  # imported where a region file is read: most surveys have none, and it takes a while
    from regions import PixelRegion, SkyRegion

_MEND: Final = (
    "use circles, ellipses, boxes, polygons or annuli, in a sky frame (icrs, fk5, galactic) or in image pixels"
)


def read_regions(path: str) -> Any:
    """Read a DS9 region file.

    Raises
    ------
    ConfigError
        If it cannot be read, or anything in it is not understood: nothing is left out silently.
    """
    from regions import Regions

    try:
        text = Path(path).read_text(encoding="utf-8")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            regions = Regions.parse(text, format="ds9")
    except Exception as error:  # the parser raises what it happens to stumble over
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"region file {path}: cannot be read as DS9 regions ({reason}): {_MEND}") from error
    if caught:
        raise ConfigError(f"region file {path}: {caught[0].message}: {_MEND}")
    if "||" in text:
        raise ConfigError(f"region file {path}: composite regions (||) are not supported: write them one a line")
    flat = [type(region).__name__ for region in regions if not _has_area(region)]
    if flat:
        raise ConfigError(f"region file {path}: a {flat[0]} has no area: {_MEND}")
    if not any(region.meta.get("include", True) for region in regions):
        raise ConfigError(
            f"region file {path}: no region to leave out{', only exceptions (-)' if len(regions) else ''}"
        )
    return regions


def region_mask(path: str, regions: Any, wcs_header: str, shape: tuple[int, int]) -> tuple[NDArray[np.bool_], str]:
    """Find the spaxels whose centre lies in a region, but for those in a region that is excluded (`-circle(...)`).

    Parameters
    ----------
    path : str
        The file, for messages.
    regions : Regions
        From `read_regions`.
    wcs_header : str
        The cube's celestial WCS, for regions on the sky.
    shape : (int, int)
        (y, x).

    Returns
    -------
    mask : (y, x) bool
    note : str

    Raises
    ------
    ConfigError
        If there are regions on the sky and the cube has no celestial WCS, or a region cannot be projected.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
        wcs = WCS(fits.Header.fromstring(wcs_header)) if wcs_header else None
    mask, exceptions = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for region in regions:
        target = mask if region.meta.get("include", True) else exceptions
        target |= _inside(path, region, wcs, shape)
    mask &= ~exceptions
    name, count = Path(path).name, int(mask.sum())
    return mask, f"masks: {name} covers {count:,} spaxels" if count else f"masks: no region of {name} lies in the field"


def _inside(path: str, region: Any, wcs: WCS | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    from regions import PixCoord, SkyRegion

    if isinstance(region, SkyRegion):
        if wcs is None:
            raise ConfigError(
                f"region file {path}: the cube has no celestial WCS for regions on the sky: use image pixels"
            )
        try:
            region = region.to_pixel(wcs)
        except Exception as error:  # of astropy and wcslib
            raise ConfigError(
                f"region file {path}: a {type(region).__name__} is not on the cube's sky: {error}"
            ) from error
    try:
        box = region.bounding_box
    except (ValueError, OverflowError) as error:  # of what is not finite
        raise ConfigError(f"region file {path}: a {type(region).__name__} is not finite: {_MEND}") from error
    rows = slice(min(max(box.iymin, 0), shape[0]), min(max(box.iymax, 0), shape[0]))
    columns = slice(min(max(box.ixmin, 0), shape[1]), min(max(box.ixmax, 0), shape[1]))
    inside = np.zeros(shape, dtype=bool)
    if rows.start < rows.stop and columns.start < columns.stop:
        y, x = np.mgrid[rows, columns]
        # Not `to_mask`, which takes memory for all of a region, be it degrees in size.
        inside[rows, columns] = region.copy(meta={}).contains(PixCoord(x, y))
    return inside


def _has_area(region: "PixelRegion | SkyRegion") -> bool:
    return not type(region).__name__.startswith(("Point", "Line", "Text"))
