"""Templates filled in: everything that is not a template's own is escaped."""

from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from galprote.workflows.report.words import duration_words, fixed_words, number_words

#: What cannot stand in an address, or only in quotes.
_CODES: Final = {code: f"%{code:02X}" for code in (*range(32), *b'"#%<>&`{|}^\\')}
_TEMPLATES: Final = Path(__file__).with_name("templates")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    filters: dict[str, Any] = {
        "thousands": lambda number: f"{number:,}", "duration": duration_words, "fixed": fixed_words,
        "number": number_words, "svg_uri": svg_uri,
    }  # fmt: skip
    environment.filters |= filters
    return environment


def fill(template: str, **values: Any) -> str:
    """Fill in a template."""
    return _environment().get_template(template).render(**values)


def svg_uri(svg: str) -> str:
    """An SVG as the address of an image."""
    return "data:image/svg+xml," + svg.translate(_CODES)
