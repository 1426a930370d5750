"""The last touch of a report: pages linked to their neighbours, and the survey's page."""

import json
import re
from html import escape
from pathlib import Path
from typing import Any, Final

from galprote.workflows.report.files import card_file, index_file, page_file, page_name, sweep, write_page, write_whole
from galprote.workflows.report.index_page import make_index
from galprote.workflows.report.records import has_page, read_records

_LINKS: Final = re.compile(r"<!--links-->.*?<!--/links-->", re.DOTALL)


def finish_report(output: Path) -> Path:
    """Link the galaxies' pages to each other, in the survey's order, and write the survey's page; gives its path.

    Nobody else may be writing pages now.

    Raises
    ------
    GalproteError
        If the records cannot be read, or a file that is not galprote's is in the way.
    OSError
        If the disk is full, for example.
    """
    sweep(output)
    survey = read_records(output)
    names = [galaxy.name for galaxy in survey.galaxies if has_page(output, galaxy)]
    cards = {galaxy.name: galaxy.card for galaxy in survey.galaxies}
    for place, name in enumerate(names):
        before = names[place - 1] if place else ""
        after = names[place + 1] if place + 1 < len(names) else ""
        card = cards[name]
        if card is not None and card.get("links") != [before, after]:
            _link(output, name, before, after, card)
    write_page(index_file(output), make_index(survey))
    return index_file(output)


def _link(output: Path, name: str, before: str, after: str, card: dict[str, Any]) -> None:
    """Write the links to a page's neighbours into it, then into its card."""
    path = page_file(output, name)
    before_word = f'<a rel="prev" href="{_address(before)}">← {escape(before)}</a>' if before else ""
    after_word = f'<a rel="next" href="{_address(after)}">{escape(after)} →</a>' if after else ""
    words = f'<nav aria-label="Pages"><a href="index.html">All galaxies</a> {before_word} {after_word}</nav>'
    text = path.read_text(encoding="utf-8")
    write_page(path, _LINKS.sub(lambda _: f"<!--links-->{words}<!--/links-->", text, count=1))
    text = json.dumps(card | {"links": [before, after]}, indent=1, sort_keys=True) + "\n"
    write_whole(card_file(output, name), text)


def _address(name: str) -> str:
    """A page's address, relative to its neighbours'. Names have nothing that would have to be quoted but +."""
    return escape(page_name(name)).replace("+", "%2B")
