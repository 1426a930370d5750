"""Tables in Markdown."""

import re
from collections.abc import Iterable


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; bars and stars in cells are escaped."""
    head = tuple(head)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines).replace("|  |", "| |").replace("|  |", "| |")


def _cell(text: str) -> str:
    return re.sub(r"[ \n]+", " ", text.replace("|", "\\|")).strip(" ")  # a no-break space stays


def plain(text: str) -> str:
    """Text of a docstring for Markdown: what would be taken for markup, outside of `code`, is escaped."""
    pieces = text.split("`")
    for index in range(0, len(pieces), 2):
        pieces[index] = pieces[index].replace("*", "\\*").replace("<", "\\<")
    return "`".join(pieces)
