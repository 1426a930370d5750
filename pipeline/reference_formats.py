"""Files with other people's maps: which program wrote them, and what is in them.

Known are galprote's own stores and `*_MAPS.fits`, the truth of its mock cubes, `*_MAPS.fits` of PHANGS, and of nGIST
(and GIST) `*_SFH_maps.fits`, `*_KIN_maps.fits` and the table `*_sfh.fits`; of any other FITS file its 2-D images.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.pipeline.bin_numbers import EXTENSIONS as BIN_EXTENSIONS
from galprote.pipeline.map_wcs import has_wcs, slice_wcs
from galprote.pipeline.maps import open_maps
from galprote.pipeline.reference_file import Plane, ReferenceFile, celestial, whole_numbers
from galprote.pipeline.reference_ngist import recognise_maps, use_table


def read_store(path: Path) -> ReferenceFile:
    """Another run of ours, from its `<name>.zarr`."""
    maps = open_maps(path)
    names = [str(name) for name, values in maps.data_vars.items() if values.dims == ("y", "x")]

    def reader(name: str) -> Callable[[], Plane]:
        return lambda: Plane(maps[name].values.astype(np.float64), str(maps[name].attrs.get("units", "")))

    status = maps["status"].values
    return ReferenceFile(
        "galprote store",
        {name.upper(): reader(name) for name in names},
        slice_wcs(maps) if has_wcs(maps) else None,
        maps["bin_id"].values.astype(np.int32) if "bin_id" in maps else None,
        (status & int(maps["status"].attrs["unreliable_bits"])) == 0,
        {name: name.upper() for name in names},
        galaxy=str(maps.attrs.get("galaxy", "")),
        redshift=float(maps.attrs["redshift"]) if "redshift" in maps.attrs else None,
    )


def use_fits(hdus: Any, path: Path, place: Callable[[Path], NDArray[np.int32]]) -> ReferenceFile:
    """A FITS file that is open, as long as it is; `place` puts the bins of an nGIST `*_table.fits` on our spaxels."""
    tables = [hdu for hdu in hdus if {"AGE", "METAL"} <= set(_columns(hdu))]
    if tables:
        return use_table(tables[0], path, place)
    images = {
        (hdu.name or f"HDU{number}").upper(): hdu
        for number, hdu in enumerate(hdus)
        if hdu.is_image and hdu.header["NAXIS"] == 2
    }
    if not images:
        listed = ", ".join(f"{number} {hdu.name or '(unnamed)'}" for number, hdu in enumerate(hdus))
        raise ConfigError(
            f"reference {path}: neither maps (images with two axes) nor nGIST's table; its HDUs: {listed}"
        )
    found = ReferenceFile("FITS images", {name: _plane(hdu) for name, hdu in images.items()})
    found.wcs = next((wcs for wcs in (celestial(hdu.header) for hdu in images.values()) if wcs is not None), None)
    bins = next((images[name] for name in BIN_EXTENSIONS if name in images), None)
    if bins is not None:
        found.bins = whole_numbers(np.asarray(bins.data))
    _recognise(found, hdus[0].header, images, path)
    return found


def _recognise(found: ReferenceFile, header: fits.Header, images: dict[str, Any], path: Path) -> None:
    """Say who wrote a file of images, and what follows from that."""
    if str(header.get("CREATOR", "")).startswith("galprote") and "STATUS" in images:
        found.kind = "galprote maps"
        bits = int(header.get("UNRELIAB", images["STATUS"].header.get("UNRELIAB", -1)))
        found.good = (np.asarray(images["STATUS"].data, dtype=np.int64) & bits) == 0
    elif "AV_STARS" in images and "LIBRARY" in header:
        found.kind, found.truth = "truth of a mock cube", True
    elif {"AGE", "METAL"} <= set(images) or {"V", "SIGMA", "FORM_ERR_V"} <= set(images):
        recognise_maps(found, path)
    elif found.bins is not None and {"V_STARS", "FORM_ERR_V_STARS"} & set(images):
        found.kind = "PHANGS maps"


def _plane(hdu: Any) -> Callable[[], Plane]:
    def read() -> Plane:
        return Plane(np.asarray(hdu.data, dtype=np.float64), str(hdu.header.get("BUNIT", "")).strip())

    return read


def _columns(hdu: Any) -> list[str]:
    return list(getattr(getattr(hdu, "columns", None), "names", None) or [])
