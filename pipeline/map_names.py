"""Which map is meant by a name, or what to say to one that there is not."""

from typing import Any

import xarray as xr

from galprote.model.errors import GalproteError
from galprote.model.wording import did_you_mean


def map_names(maps: xr.Dataset) -> list[str]:
    """Names of what is an image (y, x), or a row, column or spaxel of one."""
    return [str(name) for name in maps.data_vars if set(maps[name].dims) <= {"y", "x"}]


def require_map(maps: xr.Dataset, name: Any, error: type[GalproteError]) -> None:
    """Refuse what is not the name of one map or cube.

    Raises
    ------
    GalproteError
        Of the type `error`.
    """
    if not isinstance(name, str):
        raise error(f"{name!r}: expected the name of one map, such as 'age_lw'; ask for each by itself")
    if name not in maps.data_vars:
        names = map_names(maps)
        raise error(f"no map {name!r}: there are {', '.join(names)}{did_you_mean(name, names)}")
