"""What is wrong with a survey's YAML, in a line that says where, what was found and what was expected."""

import difflib
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from galprote.pipeline.cluster_config import CLUSTER_TYPES
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.mock_galaxy import MockConfig
from galprote.pipeline.section import Section

#: What to write where `null` says that something is unknown.
_WANTED = {
    "redshift": "write its barycentric redshift (z, not a velocity)",
    "ebv": "write the Milky Way's E(B-V) in magnitudes; 0 only if the cube is dereddened already",
}


def _sections(base: type[BaseModel]) -> list[type[BaseModel]]:
    return [section for child in base.__subclasses__() for section in (child, *_sections(child))]


@cache
def _keys() -> frozenset[str]:
    """Every key that a survey may have."""
    sections: tuple[type[BaseModel], ...] = (*_sections(Section), LineFilterConfig, MockConfig)
    return frozenset(key for section in sections for key in section.model_fields)


def problem(path: Path, raw: dict[str, Any], item: Any) -> str:
    """One validation error as `file: galaxies[3].redshift = -0.2: what was expected`.

    Parameters
    ----------
    path : Path
        The file.
    raw : dict
        What is in it.
    item : dict
        One of pydantic's `ValidationError.errors()`.
    """
    loc = item["loc"]
    if loc[:1] == ("cluster",) and loc[1:2] and loc[1] in CLUSTER_TYPES:
        loc = ("cluster", *loc[2:])  # pydantic names the back-end, the YAML does not
    if (
        loc[:1] == ("galaxies",)
        and _given(raw.get("defaults"), loc[2:])
        and not _given(raw["galaxies"][loc[1]], loc[2:])
    ):
        loc = ("defaults", *loc[2:])  # told once, where it is written
    where = ""
    for part in loc:
        where += f"[{part}]" if isinstance(part, int) else f".{part:.60}"
    where = where.removeprefix(".") or "survey"
    if item["type"] == "missing":
        return f"{path}: {where}: missing; it has no default"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1])[:60], sorted(_keys() - {loc[-1]}), n=1)
        return f"{path}: {where}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    if item["type"] in ("model_type", "tuple_type"):
        wanted = "a list" if item["type"] == "tuple_type" else "a mapping"
        return f"{path}: {where}: expected {wanted}, found {item['input']!r:.60}"
    found = item["input"]
    if found is None and loc[-1:] and loc[-1] in _WANTED:
        name = _galaxy_name(raw, loc)
        either = ", or remove the galaxy" if name else ""
        return f"{path}: {where} = null: unknown{name and f' for {name}'}; {_WANTED[loc[-1]]}{either}"
    shown = f" = {_short(found)}" if isinstance(found, str | int | float | bool | None) else ""
    message = item["msg"].removeprefix("Value error, ")
    return f"{path}: {where}{shown}: {message[0].lower()}{message[1:]}"


def _galaxy_name(raw: dict[str, Any], loc: tuple[Any, ...]) -> str:
    """Name of the galaxy that an error is about, '' if it is about none, or one without a name."""
    if loc[:1] != ("galaxies",):
        return ""
    name = raw["galaxies"][loc[1]].get("name")
    return name[:100] if isinstance(name, str) else ""


def _short(value: Any) -> str:
    text = "a huge number" if isinstance(value, int) and abs(value) > 10**18 else repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


def _given(section: Any, keys: tuple[Any, ...]) -> bool:
    """Whether nested mappings have a value there."""
    for key in keys:
        if not isinstance(section, dict) or key not in section:
            return False
        section = section[key]
    return bool(keys)
