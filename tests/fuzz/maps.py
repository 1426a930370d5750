"""Laws that every product must obey, whatever went in."""

import io
import warnings
from pathlib import Path

import numpy as np
import xarray as xr
from astropy.io import fits
from numpy.typing import NDArray

#: Bits of `status` that say that a spaxel has no answer.
NO_ANSWER = 63
#: Header cards that decide what the numbers of a cube are.
MEANING = (
    "CTYPE3", "CUNIT3", "CRVAL3", "CRPIX3", "CD3_3", "CDELT3", "PC3_3", "BUNIT", "BSCALE", "BZERO", "FSCALE", "BLANK",
    "CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2",
)  # fmt: skip


def products(store: Path) -> dict[str, NDArray[np.generic]]:
    """All arrays with spaxels, by name, (y, x) last but for `grid`."""
    with xr.open_zarr(store) as opened:
        return {str(name): opened[name].to_numpy() for name in opened.data_vars}


def broken_laws(found: dict[str, NDArray[np.generic]]) -> str:
    """Say which product holds an infinity, or lacks a value without a flag; '' if none does."""
    answered = (found["status"].astype(np.int64) & NO_ANSWER) == 0
    for name, values in found.items():
        if values.dtype.kind == "f" and np.isinf(values).any():
            return f"{name} holds infinities"
    for name in ("age_lw", "metallicity_lw", "av", "flux", "snr"):
        if not np.isfinite(found[name][answered]).all():
            return f"{name} is not finite where status says that it is"
    for name in ("age_lw", "metallicity_lw", "av"):
        if np.isfinite(found[name][~answered]).any():
            return f"{name} has values where status says that there are none"
    return ""


def changed_spaxels(one: dict[str, NDArray[np.generic]], other: dict[str, NDArray[np.generic]]) -> NDArray[np.bool_]:
    """Spaxels (y, x) of which any product differs in any bit."""
    assert one.keys() == other.keys()
    changed = np.zeros(one["status"].shape, dtype=bool)
    for name, values in one.items():
        raw, wanted = (np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}") for array in (values, other[name]))
        changed |= (raw != wanted).reshape(-1, *changed.shape).any(axis=0)
    return changed


def same_meaning(damaged: Path, sound: Path) -> bool:
    """Whether astropy sees the same wavelengths, units and numbers in two cubes: then maps must be the same."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted, found = (fits.open(io.BytesIO(path.read_bytes())) for path in (sound, damaged))
            for name in ("DATA", "STAT"):
                if not np.array_equal(wanted[name].data, found[name].data, equal_nan=True):
                    return False
            cards = ((wanted["DATA"].header, found["DATA"].header),)
            return all(one.get(key) == other.get(key) for one, other in cards for key in MEANING)
    except Exception:
        return False
