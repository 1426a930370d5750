"""Telling a Zarr store from a file, and whether an input is still the same, without a look at its data."""

from pathlib import Path
from typing import Final

SUFFIX: Final = ".zarr"


def is_store(path: str | Path) -> bool:
    """Tell a Zarr store from a FITS file: a folder whose name ends in ``.zarr``."""
    place = Path(path).expanduser()
    return place.suffix == SUFFIX and place.is_dir()


def input_state(path: Path) -> tuple[int, int]:
    """Size in bytes and time of modification in seconds of a file, or of all files in a store together.

    Raises
    ------
    OSError
        If it is gone.
    """
    if not path.is_dir():
        status = path.stat()
        return status.st_size, int(status.st_mtime)
    states = [file.stat() for file in path.rglob("*") if file.is_file()]
    return sum(state.st_size for state in states), max((int(state.st_mtime) for state in states), default=0)
