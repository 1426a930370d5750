"""Templates filled in: everything that is not a template's own is escaped."""

import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.filters import do_mark_safe

from galprote.workflows.report.words import duration_words, fixed_words, number_words

#: What cannot stand in an address, or only in quotes.
_CODES: Final = {code: f"%{code:02X}" for code in (*range(32), *b'"#%<>&`{|}^\\')}
#: Words up to this long are never broken; of longer ones, names and paths, pieces up to it are not.
_WORD: Final = 24
_JOINT: Final = re.compile(r"(?<=[^\W_][/_])(?=[^\W_])")
_DATE: Final = re.compile(r"\d+(?:-\d+)+")
_TEMPLATES: Final = Path(__file__).with_name("templates")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    filters: dict[str, Any] = {
        "thousands": lambda number: f"{number:,}", "duration": duration_words, "fixed": fixed_words,
        "number": number_words, "svg_uri": svg_uri, "wrappable": wrappable,
    }  # fmt: skip
    environment.filters |= filters
    return environment


def fill(template: str, **values: Any) -> str:
    """Fill in a template."""
    return _environment().get_template(template).render(**values)


def wrappable(text: object) -> str:
    """A text for a narrow column, escaped: words break where names and paths have joints, if they must.

    Lines may end after / and _; within what has none of them for long, such as a hash, anywhere.
    """
    return do_mark_safe(" ".join(map(_joints, str(text).split(" "))))


def _joints(word: str) -> str:
    return "<wbr>".join(map(_piece, _JOINT.split(word)))


def _piece(text: str) -> str:
    if len(text) > _WORD:
        return f'<span class="long">{escape(text)}</span>'
    return f'<span class="date">{text}</span>' if _DATE.fullmatch(text) else escape(text)


def svg_uri(svg: str) -> str:
    """An SVG as the address of an image."""
    return "data:image/svg+xml," + svg.translate(_CODES)
