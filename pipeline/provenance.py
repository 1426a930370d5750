"""Where a product comes from: settings, input, weights and versions, and the fingerprint that ties them together."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from galprote.pipeline.config import GalaxyConfig
from galprote.pipeline.zarr_path import input_state

#: Raise it whenever the numbers in the products change for the same settings.
NUMERIC_VERSION: Final = 4

PACKAGES: Final = ("galprote", "torch", "numpy", "scipy", "dask", "xarray", "zarr", "astropy")


def provenance(galaxy: GalaxyConfig, cube_path: Path, header_sha256: str, checkpoint_sha256: str) -> dict[str, Any]:
    """Describe a galaxy's products: JSON-able, and the same for the same input, settings and weights.

    Parameters
    ----------
    galaxy : GalaxyConfig
    cube_path : Path
    header_sha256 : str
        Of the cube's headers, from `open_cube`.
    checkpoint_sha256 : str

    Returns
    -------
    dict
        With `fingerprint`, the hash of all but the versions of the libraries.
    """
    settings = galaxy.model_dump(mode="json", exclude={"cube", "mask"})
    size, modified = input_state(cube_path)
    settings["mask"] = Path(galaxy.mask).name if galaxy.mask else None
    depends = {
        "settings": settings,
        "mask_sha256": _mask_hash(galaxy.mask),
        "input": {
            "file": cube_path.name,
            "bytes": size,
            # When a synthetic cube was made says nothing: settings and checkpoint, from which it is made, are here.
            "modified": None if galaxy.mock else modified,
            "header_sha256": header_sha256,
        },
        "checkpoint_sha256": checkpoint_sha256,
        "numeric_version": NUMERIC_VERSION,
    }
    fingerprint = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    return depends | {"fingerprint": fingerprint, "versions": {name: version(name) for name in PACKAGES}}


def _mask_hash(mask: str | None) -> str | None:
    if mask is None:
        return None
    return hashlib.sha256(mask_file(mask).read_bytes()).hexdigest()


def mask_file(mask: str) -> Path:
    """File of a mask that is given as `file.fits` or `file.fits[EXT]`; brackets may also be part of its name."""
    return Path(mask) if Path(mask).is_file() or not mask.endswith("]") else Path(mask.rpartition("[")[0])


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
