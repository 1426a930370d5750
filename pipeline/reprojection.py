"""Maps on the pixels of another image: laid over HST, ALMA, or another survey's maps.

Ages, metallicities, surface densities and fluxes per spaxel are averages over a spaxel, not totals: averaging them is
right whatever the size of the target's pixels, and summing them up is not. Missing spaxels are left out of averages; a
pixel of which less than half is covered by spaxels with values has none.
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray
from reproject import reproject_exact, reproject_interp

from galprote.model.errors import GalproteError
from galprote.model.wording import did_you_mean
from galprote.pipeline.images import listing, with_hdus
from galprote.pipeline.map_names import map_names
from galprote.pipeline.map_styles import style_of
from galprote.pipeline.map_wcs import as_image, on_sky, slice_wcs, wcs_text
from galprote.pipeline.quality import Status
from galprote.pipeline.sky_places import outside_words
from galprote.pipeline.trusted_light import trusted

METHODS: Final = ("nearest", "bilinear", "exact")
#: Numbers that averages make no sense of, and what they are where there is no spaxel.
FILL: Final = {"status": int(Status.NO_DATA), "bin_id": -1}
#: More than this is refused, bytes.
LARGEST: Final = 4e9
#: Smallest share of a pixel that spaxels with values must cover.
LEAST_COVERED: Final = 0.5
#: Keywords of distortions in lookup tables.
TABLES: Final = ("CPDIS1", "CPDIS2", "D2IMDIS1", "D2IMDIS2", "D2IMEXT")

Target = tuple[WCS, tuple[int, int]]


class ReprojectionError(GalproteError):
    """Maps cannot be laid on the target's pixels."""


def reproject_maps(
    maps: xr.Dataset,
    target: Any,
    names: str | Iterable[str] | None = None,
    *,
    method: str = "bilinear",
    shape: tuple[int, int] | None = None,
    trusted_only: bool = True,
) -> xr.Dataset:
    """Lay maps on another image's pixels: see `MapsAccessor.reproject_to`."""
    if method not in METHODS:
        raise ReprojectionError(f"method = {method!r}: expected one of {', '.join(METHODS)}")
    wcs, shape = find_target(target, shape)
    source = slice_wcs(maps)
    chosen = _chosen(maps, names)
    if 8.0 * len(chosen) * shape[0] * shape[1] > LARGEST:
        raise ReprojectionError(
            f"{len(chosen)} maps on {shape[0]} x {shape[1]} pixels take {8e-9 * len(chosen) * np.prod(shape):.0f} GB: "
            "name fewer maps, or give the WCS and shape of a part of the target"
        )
    covered = _footprint(source, wcs, shape, method)
    if not covered.any():
        raise ReprojectionError(_apart(maps, source, wcs, shape, method))
    arrays: dict[str, Any] = {}
    whole = [name for name in chosen if maps[name].dtype.kind != "f" or name in FILL]
    good = np.asarray(as_image(trusted(maps))) if trusted_only and "status" in maps else np.True_
    for name in chosen:
        values = np.asarray(as_image(maps[name]))
        if name in whole:
            found = _nearest(values, source, wcs, shape, FILL.get(name, 0))
        else:
            kept = np.True_ if style_of(name).complete else good
            found = _average(np.where(kept, values, np.nan), source, wcs, shape, method)
        arrays[name] = (("y", "x"), found, dict(maps[name].attrs))
    words = {"units": "", "long_name": "whether the maps cover the pixel; with method 'exact' the share they cover"}
    arrays["footprint"] = (("y", "x"), covered, words)
    return _on_target(maps, arrays, wcs, source, shape, method)


def find_target(target: Any, shape: tuple[int, int] | None = None) -> Target:
    """Celestial WCS and shape (y, x) of what maps are to be laid on.

    Parameters
    ----------
    target : Header, WCS, HDU, xarray.Dataset, str or Path
        A FITS image, ``file.fits`` or ``file.fits[EXT]``; or maps of galprote. Axes beyond the two of the sky are
        ignored.
    shape : tuple of int, optional
        Of a WCS or header that does not tell it.

    Raises
    ------
    ReprojectionError
        If there is no celestial WCS, or no shape.
    """
    if isinstance(target, xr.Dataset):
        wcs = slice_wcs(target)
        return wcs, shape or (int(wcs.array_shape[0]), int(wcs.array_shape[1]))
    if isinstance(target, str | Path):
        target = with_hdus(target, "target", lambda hdus, extension: _image_header(hdus, extension, str(target)))
    header = getattr(target, "header", target)
    _refuse_tables(header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
        try:
            wcs = header if isinstance(header, WCS) else WCS(header)
        except Exception as error:  # astropy raises many types
            raise ReprojectionError(
                f"target {type(target).__name__}: no WCS can be read from it ({error}); expected a FITS image, a "
                "header, maps, or a WCS with its array_shape or shape=(ny, nx)"
            ) from error
    if not isinstance(wcs, WCS) or not wcs.has_celestial:
        raise ReprojectionError(f"target {type(target).__name__}: it has no celestial WCS")
    shape = shape or _shape(header, wcs)
    return wcs.celestial, (int(shape[0]), int(shape[1]))


def _refuse_tables(header: Any) -> None:
    """Refuse what a header cannot hold, and so the maps on the target's pixels could not."""
    tables: Iterable[bool] = ()
    if isinstance(header, WCS):
        tables = (getattr(header, name) is not None for name in ("cpdis1", "cpdis2", "det2im1", "det2im2"))
    elif isinstance(header, fits.Header):
        tables = (keyword in header for keyword in TABLES)
    if any(tables):
        raise ReprojectionError(
            "the target's WCS has distortions in lookup tables (CPDIS, D2IMDIS): expected one that a header holds, "
            "distorted by polynomials (SIP) at most; take a drizzled image, or a WCS without the tables"
        )


def _shape(header: Any, wcs: WCS) -> tuple[int, int]:
    axes = (wcs.wcs.lat + 1, wcs.wcs.lng + 1)
    if axes not in ((1, 2), (2, 1)):
        raise ReprojectionError(f"the target's celestial axes are {axes[1]} and {axes[0]}: expected the first two")
    if isinstance(header, WCS):
        if wcs.pixel_shape is not None:
            return int(wcs.pixel_shape[1]), int(wcs.pixel_shape[0])
    elif "NAXIS1" in header and "NAXIS2" in header:
        return int(header["NAXIS2"]), int(header["NAXIS1"])
    elif "ZNAXIS1" in header:
        return int(header["ZNAXIS2"]), int(header["ZNAXIS1"])
    raise ReprojectionError("the target does not tell how many pixels it has: give shape=(rows, columns)")


def _image_header(hdus: Any, extension: str | int | None, where: str) -> fits.Header:
    """The header of the first HDU with a celestial image, or of the extension that is named."""
    if extension is not None:
        try:
            return hdus[extension].header.copy()
        except (KeyError, IndexError):
            raise ReprojectionError(f"{where}: no such extension; the HDUs are {listing(hdus)}") from None
    for hdu in hdus:
        if hdu.is_image and hdu.header["NAXIS"] >= 2 and WCS(hdu.header, hdus).has_celestial:
            return hdu.header.copy()
    raise ReprojectionError(f"{where}: no image with a celestial WCS; the HDUs are {listing(hdus)}")


def _chosen(maps: xr.Dataset, names: str | Iterable[str] | None) -> list[str]:
    """Names of the maps to lay on the target; `status` goes with them."""
    images = [name for name in map_names(maps) if name != "footprint"]
    if names is None:
        return images
    wanted = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in wanted if name not in images]
    if unknown:
        near = did_you_mean(unknown[0], images)
        raise ReprojectionError(f"no map {unknown[0]!r}: there are {', '.join(images)}{near}")
    return [*wanted, *(["status"] if "status" in images and "status" not in wanted else [])]


def _nearest(values: NDArray[Any], source: WCS, target: WCS, shape: tuple[int, int], fill: int) -> NDArray[Any]:
    exact = values.astype(np.float64)  # whole numbers of 32 bits are exact
    found, _ = reproject_interp((exact, source), target, shape_out=shape, order="nearest-neighbor")
    return np.where(np.isfinite(found), found, fill).astype(values.dtype)


def _footprint(source: WCS, target: WCS, shape: tuple[int, int], method: str) -> NDArray[np.float32]:
    """Whether the maps cover each pixel of the target; with `exact` the share of it."""
    inside = (np.ones(source.array_shape), source)
    if method == "exact":
        _, covered = reproject_exact(inside, target, shape_out=shape)
    else:
        order = "nearest-neighbor" if method == "nearest" else "bilinear"
        _, covered = reproject_interp(inside, target, shape_out=shape, order=order)
    return np.asarray(np.nan_to_num(covered), dtype=np.float32)


def _apart(maps: xr.Dataset, source: WCS, target: WCS, shape: tuple[int, int], method: str) -> str:
    """Why no pixel of the target is covered."""
    pixel, side = (float(min(proj_plane_pixel_scales(wcs))) * 3600 for wcs in (target, source))
    words = f"the maps cover no pixel of the target, {shape[0]} x {shape[1]} pixels of {pixel:.3g} arcsec"
    if method != "exact" and pixel > side * min(source.array_shape):
        return f"{words}: one is larger than the maps; take method='exact', or a target that lies over them"
    middle = target.pixel_to_world((shape[1] - 1) / 2, (shape[0] - 1) / 2).icrs
    return f"{words}; its middle, {outside_words(maps, source, middle)}"


def _average(
    values: NDArray[Any], source: WCS, target: WCS, shape: tuple[int, int], method: str
) -> NDArray[np.float32]:
    """Values at the target's pixels; NaN where spaxels with values have less than half of the weight."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0).astype(np.float64)
    if method == "exact":
        (found, weight), covered = reproject_exact((np.stack([filled, known]), source), target, shape_out=shape)
        share = weight * covered[1]
    else:
        order = "nearest-neighbor" if method == "nearest" else "bilinear"
        (found, weight), _ = reproject_interp((np.stack([filled, known]), source), target, shape_out=shape, order=order)
        share = weight
    enough = np.nan_to_num(share) > LEAST_COVERED
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(enough, found / weight, np.nan).astype(np.float32)


def _on_target(
    maps: xr.Dataset, arrays: dict[str, Any], wcs: WCS, source: WCS, shape: Sequence[int], method: str
) -> xr.Dataset:
    area = [float(np.prod(proj_plane_pixel_scales(each))) for each in (wcs, source)]
    about = {
        "wcs_header": wcs_text(wcs),
        "reprojected": method,
        "spaxel_area_ratio": area[0] / area[1],
        "spaxel_area_note": "a pixel's area over a spaxel's: fluxes are per spaxel of the cube; times this, per pixel",
    }
    coordinates = {
        dim: (dim, np.arange(size), {"long_name": f"{what} of the target, from 0"})
        for dim, size, what in (("y", shape[0], "row"), ("x", shape[1], "column"))
    }
    return on_sky(xr.Dataset(arrays, coords=coordinates, attrs=dict(maps.attrs) | about))
