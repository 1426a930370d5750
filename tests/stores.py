"""Finished stores of any size, written in a moment: numbers that tests know, in galprote's layout."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from astropy.io import fits
from zarr.codecs import BloscCodec

from galprote.model.grids import AGES_GYR, METALLICITIES, WAVELENGTH
from galprote.pipeline.layout import sky_coordinates
from galprote.pipeline.products import CUBE_UNIT, EVERY_MAP
from galprote.pipeline.quality import Status, flag_attributes
from tests import cubes

UNIT = "10**-20 erg Angstrom-1 s-1 cm-2"
#: Inner chunks of cubes: rows and columns.
CHUNK = (12, 40)
#: Where the images are, if not told otherwise.
SKY = fits.Header({**cubes.celestial_cards(), "RADESYS": "ICRS"})
ABOUT = {product.name: product for product in EVERY_MAP}


def write_store(
    path: Path,
    maps: dict[str, np.ndarray],
    *,
    cube: dict[str, np.ndarray] | None = None,
    empty: tuple[str, ...] = (),
    bins: dict[str, np.ndarray] | None = None,
    header: fits.Header | None = SKY,
    positions: bool = False,
    redshift: float = 0.008,
) -> zarr.Group:
    """Write a store with maps (y, x), one of them `status`, and give it back open for writing.

    `cube` are whole cubes; those of `empty` are made at full size with no chunk written: NaN, and no room on the disk.
    `bins` are the arrays of the group of bins. With `positions`, spaxels have right ascensions and declinations, as
    those of a run have, if there is a header of the sky.
    """
    wcs_header = header.tostring() if header is not None else ""
    record = {
        "fingerprint": "f" * 64, "checkpoint_sha256": "c" * 64, "input": {"file": "cube.fits", "header_sha256": "h"},
        "versions": {"galprote": "0.1.0"}, "precision": "float32", "settings": {},
    }  # fmt: skip
    group = zarr.create_group(path)
    group.attrs.update({
        "galaxy": path.stem, "redshift": redshift, "flux_unit": UNIT, "wcs_header": wcs_header, "masked_observed": "",
        "masked_rest": "6000-6010", "provenance": json.dumps(record), "binning": "voronoi" if bins else "none",
        **({"bins": len(bins["bin"])} if bins else {}),
    })  # fmt: skip
    shape = maps["status"].shape
    sky = sky_coordinates(wcs_header, *shape) if positions else {}
    for name, values in maps.items():
        product = ABOUT[name]
        attributes = flag_attributes() if name == "status" else {
            "units": UNIT if product.unit == CUBE_UNIT else product.unit, "long_name": product.long_name,
        }  # fmt: skip
        _write(group, name, ("y", "x"), values, attributes | ({"coordinates": "ra dec"} if sky else {}))
    for name, (dims, values, attributes) in sky.items():
        _write(group, name, dims, values, attributes)
    for name in empty:
        cube_array(group, name, shape)
    for name, values in (cube or {}).items():
        cube_array(group, name, shape)[...] = values
    _write(group, "wavelength", ("wavelength",), WAVELENGTH, {"units": "Angstrom"})
    for where, axes in ((group, ("metallicity", "age")),) if "grid" in (cube or {}) else ():
        for axis, values in zip(axes, (METALLICITIES, AGES_GYR), strict=True):
            _write(where, axis, (axis,), values, {})
    if bins:
        table = group.create_group("bins")
        for name, values in bins.items():
            _write(table, name, ("wavelength", "bin")[-values.ndim :], values, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata are not in Zarr's specification yet
        zarr.consolidate_metadata(path)
    return group


def cube_array(group: zarr.Group, name: str, shape: tuple[int, int]) -> zarr.Array[Any]:
    """Make a cube as a run does: shards of rows, inner chunks of 12 x 40 spaxels."""
    image, wide = CHUNK, (CHUNK[0], -(-shape[1] // CHUNK[1]) * CHUNK[1])
    last = name == "grid"
    rest = (len(METALLICITIES), len(AGES_GYR)) if last else (len(WAVELENGTH),)
    whole, chunks, shards = ((*part, *rest) if last else (*rest, *part) for part in (shape, image, wide))
    return group.create_array(
        name, shape=whole, chunks=chunks, shards=shards, dtype="float16" if last else "float32", fill_value=np.nan,
        compressors=BloscCodec(cname="lz4"), attributes={"units": UNIT},
        dimension_names=("y", "x", "metallicity", "age") if last else ("wavelength", "y", "x"),
    )  # fmt: skip


def _write(group: zarr.Group, name: str, dims: tuple[str, ...], values: np.ndarray, attributes: dict[str, Any]) -> None:
    fill = np.nan if values.dtype.kind == "f" else 0
    array = group.create_array(
        name, shape=values.shape, chunks=values.shape, dtype=values.dtype, fill_value=fill, dimension_names=dims,
        attributes=attributes, compressors=BloscCodec(cname="lz4"),
    )  # fmt: skip
    array[...] = values


def simple_maps(shape: tuple[int, int], *, flagged: tuple[tuple[int, int, int], ...] = ()) -> dict[str, np.ndarray]:
    """Maps that tell where they are: age_lw is 9 + y / 100, metallicity_lw is x / 100; `flagged` are (y, x, bits).

    Spaxels whose bits are reasons for no values have none.
    """
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    maps = {
        "age_lw": 9 + y / 100, "age_lw_error": np.full(shape, 0.1, np.float32), "metallicity_lw": x / 100 - 0.5,
        "metallicity_lw_error": np.full(shape, 0.2, np.float32), "snr": 10 + x + y, "flux": 100 + x,
    }  # fmt: skip
    status = np.zeros(shape, dtype=np.int32)
    for row, column, bits in flagged:
        status[row, column] = bits
        if bits & (Status.NO_DATA | Status.LOW_SNR):
            for values in maps.values():
                values[row, column] = np.nan
    return {name: values.astype(np.float32) for name, values in maps.items()} | {"status": status}
