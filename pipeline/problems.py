"""What is wrong with a survey's YAML, in a line that says where, what was found and what was expected."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from galprote.model.wording import did_you_mean, nearest
from galprote.pipeline.cluster_config import CLUSTER_TYPES
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.mock_galaxy import MockConfig
from galprote.pipeline.section import Section

#: What to write where `null` says that something is unknown, or a number is beyond its range.
_WANTED = {
    "redshift": "write its barycentric redshift (z, not a velocity)",
    "ebv": "write the Milky Way's E(B-V) in magnitudes; 0 only if the cube is dereddened already",
}


def kind_of(value: Any) -> str:
    """What a value of a YAML is, in words."""
    if value is None:
        return "nothing"
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "a date")


def _sections(base: type[BaseModel]) -> list[type[BaseModel]]:
    return [section for child in base.__subclasses__() for section in (child, *_sections(child))]


@cache
def _keys() -> dict[str, str]:
    """Every key that a survey may have, and the section that has it; of several, any."""
    sections: tuple[type[BaseModel], ...] = (*_sections(Section), LineFilterConfig, MockConfig)
    return {key: section.__name__ for section in sections for key in section.model_fields}


def _here(loc: tuple[Any, ...]) -> tuple[str, ...]:
    """The keys of the section in which something stands."""
    top = {section.__name__: section for section in _sections(Section)}
    if loc[:1] == ("cluster",):
        keys = [key for name, section in top.items() if "Cluster" in name for key in section.model_fields]
        return tuple(dict.fromkeys(keys))
    of_galaxy = loc[:1] in (("defaults",), ("galaxies",))
    section: type[BaseModel] | None = top["GalaxyConfig" if of_galaxy else "SurveyConfig"]
    for part in loc[1:] if of_galaxy else loc:
        if isinstance(part, str) and section is not None:
            field = section.model_fields.get(part)
            section = next(_models(field.annotation), None) if field else None
    known = tuple(section.model_fields) if section else ()
    if loc == ("defaults",):
        return tuple(key for key in known if key != "name")
    return known if loc else (*known, "defaults")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def unknown_key(path: Path, loc: tuple[Any, ...]) -> str:
    """A key that nobody knows: what it may have meant, and where that belongs.

    Parameters
    ----------
    path : Path
        The file.
    loc : tuple of str and int
        Where the key stands, itself last.
    """
    *above, key = loc
    here = _here(tuple(above))
    said = f"{path}: {_where(loc)}: unknown key"
    if nearest(key, here):
        return said + did_you_mean(key, here)
    galaxy = _here(("galaxies",))
    if not above and key in galaxy:
        return f"{said} here: {key} belongs to a galaxy or to defaults"
    elsewhere = nearest(key, _keys())
    if not above and elsewhere in galaxy:
        return f"{said}; did you mean {elsewhere}, of a galaxy or of defaults?"
    words = did_you_mean(key, _keys())
    return said + (words or (f"; expected one of {', '.join(here)}" if here else ""))


def _where(loc: tuple[Any, ...]) -> str:
    where = ""
    for part in loc:
        where += f"[{part}]" if isinstance(part, int) else f".{part:.60}"
    return where.removeprefix(".") or "survey"


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
    where = _where(loc)
    if item["type"] == "missing":
        return f"{path}: {where}: missing; it has no default"
    if item["type"] == "extra_forbidden":
        return unknown_key(path, loc)
    if item["type"] in ("model_type", "tuple_type"):
        wanted = "a list" if item["type"] == "tuple_type" else "a mapping"
        found = item["input"]
        return f"{path}: {where}: expected {wanted}, found {'nothing' if found is None else repr(found):.60}"
    if item["type"] == "too_short":
        return f"{path}: {where}: an empty list; expected at least one galaxy, such as: - name: NGC4254"
    found = item["input"]
    if found is None and loc[-1:] and loc[-1] in _WANTED:
        name = _galaxy_name(raw, loc)
        either = ", or remove the galaxy" if name else ""
        return f"{path}: {where} = null: unknown{name and f' for {name}'}; {_WANTED[loc[-1]]}{either}"
    shown = f" = {_short(found)}" if isinstance(found, str | int | float | bool | None) else ""
    message = item["msg"].removeprefix("Value error, ")
    return f"{path}: {where}{shown}: {message[0].lower()}{message[1:]}{_meant(item)}{_wanted(item)}"


def _wanted(item: Any) -> str:
    """What a number beyond its range should be, where that is known: mostly a velocity for a redshift."""
    beyond = item["type"] in ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
    return f"; {_WANTED[item['loc'][-1]]}" if beyond and item["loc"][-1] in _WANTED else ""


def _meant(item: Any) -> str:
    """Which of the values that are allowed a misspelt one may have meant."""
    expected = item.get("ctx", {}).get("expected") or item.get("ctx", {}).get("expected_tags")
    if item["type"] not in ("literal_error", "enum", "union_tag_invalid") or not isinstance(expected, str):
        return ""
    found = item["ctx"].get("tag", item["input"])
    return did_you_mean(found, [word.strip(" '\"") for word in expected.replace(" or ", ",").split(",")])


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
