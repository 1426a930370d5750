"""Telling a Zarr store from a file, without a look inside."""

from pathlib import Path
from typing import Final

SUFFIX: Final = ".zarr"


def is_store(path: str | Path) -> bool:
    """Tell a Zarr store from a FITS file: a folder whose name ends in ``.zarr``."""
    place = Path(path).expanduser()
    return place.suffix == SUFFIX and place.is_dir()
