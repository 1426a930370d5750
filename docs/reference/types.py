"""Types, ranges and defaults of configuration keys, as somebody who writes YAML thinks of them."""

import json
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, ByteSize
from pydantic.fields import FieldInfo

from galprote.model.line_spread import MUSE

_NAMES: Final[dict[Any, str]] = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    ByteSize: "size, such as `4GiB`",
}
_SIGNS: Final = {Ge: ("ge", "≥"), Gt: ("gt", "\\>"), Le: ("le", "≤"), Lt: ("lt", "\\<")}


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """Sections that a key may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_of(part)]


def type_text(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What to write, and within which limits."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(parts[0], [*parts[1:], *metadata])
    if origin in (Union, types.UnionType):
        given = [type_text(part, metadata) for part in parts if part is not type(None)]
        return "; or ".join([*given, *(["`null`"] if type(None) in parts else [])])
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if sections_of(annotation):
        return "section" if origin is None else "list of sections" + _length(metadata)
    if origin in (tuple, frozenset):
        return _list_text(parts, metadata)
    return _NAMES[annotation] + _limits(metadata)


def _list_text(parts: Sequence[Any], metadata: Sequence[Any]) -> str:
    if (len(parts) == 2 and parts[1] is Ellipsis) or len(parts) == 1:
        return f"list of {type_text(parts[0])}" + _length(metadata)
    return "[" + ", ".join(type_text(part) for part in parts) + "]"


def _length(metadata: Sequence[Any]) -> str:
    least = [item.min_length for item in _flat(metadata) if isinstance(item, MinLen)]
    return f", at least {least[0]}" if least and least[0] else ""


def _limits(metadata: Sequence[Any]) -> str:
    found, pattern = [], ""
    for item in _flat(metadata):
        for kind, (name, sign) in _SIGNS.items():
            if isinstance(item, kind):
                found.append(f"{sign}\N{NO-BREAK SPACE}{_number(getattr(item, name))}")
        if isinstance(item, MaxLen):
            found.append(f"at most {item.max_length} characters")
        pattern = getattr(item, "pattern", None) or pattern
    return ("".join(f", {part}" for part in found)) + (f", as `{pattern}`" if pattern else "")


def _flat(metadata: Sequence[Any]) -> list[Any]:
    return [item for entry in metadata for item in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def default_text(field: FieldInfo) -> str:
    """The default as YAML; nothing for a section, whose own keys have theirs."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        given = value.model_dump(mode="json", exclude_defaults=True)
        text = "MUSE's" if value == MUSE else f"`{_flow(given)}`"
        return text if given else "that of its keys"
    if isinstance(value, ByteSize):
        return f"`{value.human_readable().replace('.0', '')}`"
    return "empty" if value == "" else f"`{_flow(value)}`"


def _flow(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple | frozenset):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value) if isinstance(value, str | Path) else json.dumps(value)
