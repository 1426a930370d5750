"""Maps in FITS files: galprote's `NAME_MAPS.fits` -> the Dataset that its store gives, and any slice of maps back.

Where a slice lies in the cube is told by the keywords of IRAF's physical coordinates, LTV and LTM; DS9 shows them.
"""

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
import yaml
from astropy.io import fits
from numpy.typing import NDArray

from galprote.pipeline.fits_export import SUMS, Cards, Hdu, galaxy_cards, map_cards, write_hdus
from galprote.pipeline.images import plain_reason
from galprote.pipeline.map_wcs import (
    as_image,
    has_wcs,
    on_sky,
    pixel_axis,
    read_wcs,
    slice_wcs,
    unsliced_wcs,
    wcs_text,
)
from galprote.pipeline.maps import MapsError
from galprote.pipeline.products import CUBE_UNIT, EVERY_MAP

_NAMES: Final = {product.extension: product for product in EVERY_MAP}
_PRODUCTS: Final = {product.name: product for product in EVERY_MAP}
#: Attribute of the store, keyword of the primary header.
_TEXTS: Final = {
    "galaxy": "OBJECT", "foreground_law": "LAW_MW", "foreground_source": "EBVSRC", "masked_observed": "MASKOBS",
    "masked_rest": "MASKREST", "source": "CREATOR",
}  # fmt: skip
_NUMBERS: Final = {
    "redshift": "REDSHIFT", "foreground_ebv": "EBV_MW", "foreground_r_v": "RV_MW", "masked_fraction": "MASKFRAC",
}  # fmt: skip
#: Keywords of a map's header that are no WCS.
_OWN: Final = re.compile(
    r"XTENSION|BITPIX|NAXIS\d?|[PG]COUNT|EXTNAME|BUNIT|LONGNAME|LONGSTRN|CHECKSUM|DATASUM|FLAG\d\d|NOTFIT|UNRELIAB"
    r"|LTV\d|LTM\d_\d|INHERIT|COMMENT|HISTORY"
)
_TYPES: Final = {"bool": "uint8", "int8": "int16", "uint16": "int32", "int64": "int32", "float16": "float32"}


def read_maps(path: Path) -> xr.Dataset:
    """Read `NAME_MAPS.fits`.

    Parameters
    ----------
    path : Path
        Compressed ones (``.gz``), too.

    Returns
    -------
    xarray.Dataset
        Maps (y, x), in memory, with names, units and attributes as in the store; no cubes. What a FITS file does not
        tell (where variances came from, whether the flux unit was assumed) is missing from the attributes.

    Raises
    ------
    MapsError
        If it is not galprote's, or damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of faults that do not keep it from being read
            with path.open("rb") as raw, fits.open(raw, memmap=False) as hdus:
                if not str(hdus[0].header.get("CREATOR", "")).startswith("galprote"):
                    raise MapsError(f"{path}: not maps of galprote: expected NAME_MAPS.fits or NAME.zarr")
                if "STATUS" not in hdus:
                    raise MapsError(f"{path}: no map STATUS: a file of cubes, or damaged; expected NAME_MAPS.fits")
                return _dataset(hdus)
    except MapsError:
        raise
    except Exception as error:  # astropy raises many types for damaged files
        wanted = "expected NAME_MAPS.fits or NAME.zarr"
        raise MapsError(f"{path}: cannot be read as maps of galprote: {plain_reason(error)}; {wanted}") from error


def _dataset(hdus: fits.HDUList) -> xr.Dataset:
    images = [hdu for hdu in hdus[1:] if hdu.is_image and hdu.header["NAXIS"] == 2]
    status = hdus["STATUS"].header
    arrays = {}
    for hdu in images:
        name = _NAMES[hdu.name].name if hdu.name in _NAMES else hdu.name.lower()
        values = np.ascontiguousarray(hdu.data, dtype=hdu.data.dtype.newbyteorder("="))
        arrays[name] = (("y", "x"), values, _map_attributes(hdu.header))
    axes, attributes = _axes(status), _attributes(hdus[0].header)
    attributes["flux_unit"] = str(hdus["FLUX"].header["BUNIT"]) if "FLUX" in hdus else ""
    attributes["wcs_header"] = _wcs_header(status, axes)
    coordinates = {
        dim: (dim, values, {"long_name": f"{what} of the cube, from 0"})
        for dim, values, what in (("y", axes[1], "row"), ("x", axes[0], "column"))
    }
    return on_sky(xr.Dataset(arrays, coords=coordinates, attrs=attributes))


def _map_attributes(header: fits.Header) -> dict[str, Any]:
    about: dict[str, Any] = {"units": _text(header.get("BUNIT", "")), "long_name": _text(header.get("LONGNAME", ""))}
    flags = {int(key[4:]): str(value) for key, value in header.items() if re.fullmatch(r"FLAG\d\d", key)}
    for keyword, name, _ in SUMS:
        if keyword in header:
            about[name] = int(header[keyword])
    if flags:
        about |= {"flag_masks": [2**bit for bit in sorted(flags)]}
        about |= {"flag_meanings": " ".join(flags[bit] for bit in sorted(flags))}
    return about


def _axes(header: fits.Header) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers of the columns and rows in the cube."""
    found = []
    for n in (1, 2):
        scale, shift = float(header.get(f"LTM{n}_{n}", 1)), float(header.get(f"LTV{n}", 0))
        numbers = (np.arange(1, header[f"NAXIS{n}"] + 1) - shift) / scale - 1
        whole = np.rint(numbers).astype(np.int64)
        found.append(whole if np.allclose(numbers, whole, atol=1e-6) else numbers)
    return found[0], found[1]


def _wcs_header(header: fits.Header, axes: tuple[NDArray[Any], NDArray[Any]]) -> str:
    """Text of the cube's celestial WCS; '' without one."""
    cards = [card for card in header.cards if card.keyword and not _OWN.fullmatch(card.keyword)]
    text = fits.Header(cards).tostring(endcard=False, padding=False)
    wcs = read_wcs(text)
    if not wcs.has_celestial:
        return ""
    if all(len(axis) == 0 or (axis[0] == 0 and (len(axis) < 2 or axis[1] == 1)) for axis in axes):
        return str(text)
    steps = tuple(float(axis[1] - axis[0]) if len(axis) > 1 else 1.0 for axis in axes)
    return wcs_text(unsliced_wcs(wcs, (float(axes[0][0]), float(axes[1][0])), (steps[0], steps[1])))


def _attributes(header: fits.Header) -> dict[str, Any]:
    """Attributes of the store, as far as a primary header tells them."""
    about: dict[str, Any] = {"Conventions": "CF-1.11", "title": f"Stellar populations of {_text(header['OBJECT'])}"}
    about |= {name: _text(header.get(key, "")) for name, key in _TEXTS.items()}
    about |= {name: float(header[key]) for name, key in _NUMBERS.items()}
    if "NBINS" in header:
        about |= {"bins": int(header["NBINS"]), "covariance": float(header["COVAR"])}
    software = (str(value).rsplit(" ", 1) for key, value in header.items() if re.fullmatch(r"SOFT\d\d", key))
    settings = yaml.safe_load("\n".join(str(line) for line in header.get("HISTORY", [])[1:])) or {}
    about |= {"binning": settings.get("binning", {}).get("method", "none")}
    about |= {"kinematics": settings.get("kinematics", {}).get("method", "none")}
    record = {
        "settings": settings,
        "versions": dict(pair for pair in software if len(pair) == 2),
        "input": {
            "file": _text(header["INFILE"]), "bytes": int(header["INBYTES"]), "header_sha256": str(header["INHDRSHA"]),
        },
        "checkpoint_sha256": str(header["CKPTSHA"]),
        "precision": str(header["PRECISN"]),
        "fingerprint": str(header["FINGERPR"]),
    }  # fmt: skip
    return about | {"provenance": json.dumps(record, sort_keys=True)}


def _text(value: object) -> str:
    """Text whose characters beyond ASCII were escaped."""
    try:
        return str(value).encode("ascii").decode("unicode_escape")
    except UnicodeError:
        return str(value)


def maps_to_fits(maps: xr.Dataset, path: str | Path | None = None, *, overwrite: bool = False) -> fits.HDUList | Path:
    """Write maps as FITS: see `MapsAccessor.to_fits`."""
    if path is not None and Path(path).expanduser().exists() and not overwrite:
        raise MapsError(f"{path} exists; choose another name, or overwrite=True")
    hdus = _hdus(maps)
    if path is None:
        return fits.HDUList([_astropy_hdu(hdu, primary=number == 0) for number, hdu in enumerate(hdus)])
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise MapsError(f"{target}: there is no folder {target.parent} (looked from {Path.cwd()})")
    write_hdus(target, hdus)
    return target


def _hdus(maps: xr.Dataset) -> list[Hdu]:
    if "provenance" not in maps.attrs:
        raise MapsError("the Dataset has lost its attributes: write what open_maps gives, or a slice of it")
    names = [product.name for product in EVERY_MAP if product.name in maps]
    names += [str(name) for name in maps.data_vars if name not in names]
    placed = _place(maps)
    header = str(maps.attrs.get("wcs_header", ""))
    if placed and has_wcs(maps):
        header = wcs_text(slice_wcs(maps))
    hdus = [Hdu(galaxy_cards(dict(maps.attrs)))]
    for name in names:
        if not set(maps[name].dims) <= {"y", "x"}:
            continue  # cubes have files of their own
        values = np.asarray(as_image(maps[name]))
        product, about = _PRODUCTS.get(name), _with_words(name, maps)
        dtype = product.dtype if product and np.can_cast(values.dtype, product.dtype) else _fits_type(name, values)
        cards = map_cards(about, product.extension if product else name.upper(), header)
        hdus.append(Hdu(_insert(cards, placed), values.shape, dtype, [(0, 0, values.astype(dtype))]))
    return hdus


def _cut(maps: xr.Dataset) -> bool:
    return any(pixel_axis(maps, dim)[:2] != (0.0, 1.0) for dim in ("y", "x"))


def _place(maps: xr.Dataset) -> Cards:
    """Where a slice lies in the cube."""
    if not _cut(maps):
        return []
    cards: Cards = []
    for n, dim in enumerate(("x", "y"), 1):
        axis = pixel_axis(maps, dim)
        cards.append((f"LTM{n}_{n}", 1 / axis.step, "pixels of this image per pixel of the cube"))
        cards.append((f"LTV{n}", 1 - (axis.first + 1) / axis.step, "pixel 0 of the cube, in this image"))
    return cards


def _insert(cards: Cards, more: Cards) -> Cards:
    return [*cards[:3], *more, *cards[3:]]


def _with_words(name: str, maps: xr.Dataset) -> Mapping[str, Any]:
    """Attributes of a map; what arithmetic has dropped is taken from the list of products."""
    product = _PRODUCTS.get(name)
    about: dict[str, Any] = {"units": "", "long_name": name}
    if product is not None:
        unit = str(maps.attrs.get("flux_unit", "")) if product.unit == CUBE_UNIT else product.unit
        about = {"units": unit, "long_name": product.long_name}
    return about | dict(maps[name].attrs)


def _fits_type(name: str, values: NDArray[Any]) -> str:
    dtype = _TYPES.get(values.dtype.name, values.dtype.name)
    if dtype not in ("uint8", "int16", "int32", "float32", "float64"):
        raise MapsError(f"{name}: {values.dtype} cannot be written to FITS; convert it with .astype, or drop it")
    return dtype


def _astropy_hdu(hdu: Hdu, *, primary: bool) -> Any:
    header = fits.Header(hdu.cards)
    if primary:
        return fits.PrimaryHDU(header=header)
    ((_, _, values),) = hdu.blocks
    return fits.ImageHDU(values, header=header, name=header["EXTNAME"])
