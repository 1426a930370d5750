"""Where a product comes from: settings, input, weights and versions, and the fingerprint that ties them together."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from galprote.model.precision import Precision
from galprote.pipeline.config import GalaxyConfig
from galprote.pipeline.earlier_run import read_status
from galprote.pipeline.fingerprint import ABOUT, FOR_THE_READER, fingerprint_of
from galprote.pipeline.images import split_extension
from galprote.pipeline.mask_config import MasksConfig, change_paths, mask_inputs
from galprote.pipeline.zarr_path import input_state

#: Raise it whenever the numbers in the products change for the same settings.
NUMERIC_VERSION: Final = 6

#: What the record calls otherwise than a survey does.
KEYS: Final = {"precision": "model.precision", "checkpoint_sha256": "model.checkpoint (SHA-256)"}

PACKAGES: Final = ("galprote", "torch", "numpy", "scipy", "dask", "xarray", "zarr", "astropy")


def provenance(
    galaxy: GalaxyConfig, cube_path: Path, header_sha256: str, checkpoint_sha256: str, precision: Precision
) -> dict[str, Any]:
    """Describe a galaxy's products: JSON-able, and the same for the same input, settings and weights.

    Parameters
    ----------
    galaxy : GalaxyConfig
    cube_path : Path
    header_sha256 : str
        Of the cube's headers, from `open_cube`.
    checkpoint_sha256 : str
    precision : Precision
        Of the network's largest layers.

    Returns
    -------
    dict
        With `fingerprint`, the hash of all but the versions of the libraries and what is there for the reader.
    """
    settings = galaxy.model_dump(mode="json", exclude={"cube", "masks"})
    for section, key in (("binning", "file"), ("kinematics", "map")):
        settings[section][key] = settings[section][key] and Path(settings[section][key]).name
    settings["masks"] = change_paths(galaxy.masks, lambda path: Path(path).name).model_dump(mode="json")
    size, modified = input_state(cube_path)
    depends = {
        "settings": settings,
        "masks_sha256": mask_hashes(galaxy.masks),
        "binning_sha256": _hash(galaxy.binning.file),
        "kinematics_sha256": _hash(galaxy.kinematics.map),
        "input": {
            "file": cube_path.name,
            "bytes": size,
            # When a synthetic cube was made says nothing: settings and checkpoint, from which it is made, are here.
            "modified": None if galaxy.mock else modified,
            "header_sha256": header_sha256,
        },
        "checkpoint_sha256": checkpoint_sha256,
        "precision": precision,
        "numeric_version": NUMERIC_VERSION,
    }
    return depends | {"fingerprint": fingerprint_of(depends), "versions": {name: version(name) for name in PACKAGES}}


def _hash(path: str | None) -> str | None:
    """Hash of a file that may name an extension."""
    return None if path is None else hashlib.sha256(split_extension(path)[0].read_bytes()).hexdigest()


def mask_hashes(masks: MasksConfig) -> dict[str, list[str]]:
    """Hashes of the contents of all that masks are read from, by the key that names them.

    Of an earlier run only the flags count: its store may be copied, or made again.

    Raises
    ------
    ConfigError
        If the earlier run's store cannot be read.
    """
    hashes: dict[str, list[str]] = {}
    for item in mask_inputs(masks):
        if item.key == "masks.trust.store":
            status, wcs_header = read_status(item.path)
            content = f"{status.shape} {wcs_header}".encode() + np.ascontiguousarray(status, dtype="<i4").tobytes()
        else:
            content = item.file.read_bytes()
        hashes.setdefault(item.key, []).append(hashlib.sha256(content).hexdigest())
    return hashes


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs between two provenances, as `settings.redshift: 0.008 -> 0.009`, by the names that a survey has."""
    changed: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if key in ABOUT or prefix + key in FOR_THE_READER or before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            changed += differences(before, after, f"{prefix}{key}.")
        else:
            changed.append(f"{KEYS.get(prefix + key, prefix + key)}: {before!r} -> {after!r}")
    return changed
