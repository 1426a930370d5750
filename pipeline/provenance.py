"""Where a product comes from: settings, input, weights and versions, and the fingerprint that ties them together."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import xarray as xr

from galprote.pipeline.config import GalaxyConfig

#: Raise it whenever the numbers in the products change for the same settings.
NUMERIC_VERSION: Final = 1

PACKAGES: Final = ("galprote", "torch", "numpy", "scipy", "dask", "xarray", "zarr", "astropy")


def provenance(galaxy: GalaxyConfig, cube: xr.Dataset, cube_path: Path, checkpoint_sha256: str) -> dict[str, Any]:
    """Describe a galaxy's products: JSON-able, and the same for the same input, settings and weights.

    Parameters
    ----------
    galaxy : GalaxyConfig
    cube : xarray.Dataset
        From `open_cube`.
    cube_path : Path
    checkpoint_sha256 : str

    Returns
    -------
    dict
        With `fingerprint`, the hash of all but the versions of the libraries.
    """
    settings = galaxy.model_dump(mode="json", exclude={"cube", "mask"})
    settings["mask"] = Path(galaxy.mask).name if galaxy.mask else None
    depends = {
        "settings": settings,
        "mask_sha256": _mask_hash(galaxy.mask),
        "input": {
            "file": cube_path.name,
            "bytes": int(cube.attrs["source_bytes"]),
            "modified": int(cube_path.stat().st_mtime),
            "header_sha256": cube.attrs["header_sha256"],
        },
        "checkpoint_sha256": checkpoint_sha256,
        "numeric_version": NUMERIC_VERSION,
    }
    fingerprint = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    return depends | {"fingerprint": fingerprint, "versions": {name: version(name) for name in PACKAGES}}


def _mask_hash(mask: str | None) -> str | None:
    if mask is None:
        return None
    return hashlib.sha256(Path(mask.partition("[")[0]).read_bytes()).hexdigest()


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs between two provenances, as `settings.redshift: 0.008 -> 0.009`."""
    changed: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if key in {"fingerprint", "versions"} or before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            changed += differences(before, after, f"{prefix}{key}.")
        else:
            changed.append(f"{prefix}{key}: {before!r} -> {after!r}")
    return changed
