"""Which pages are generated, and which parts of pages."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from docs.reference import commands, keys, products

DOCS: Final = Path(__file__).resolve().parents[1]

#: Generated parts of each page, by the name in their markers.
PARTS: Final[Mapping[str, Mapping[str, Callable[[], str]]]] = {
    "configuration.md": {"survey": keys.survey_tables, "cluster": keys.cluster_tables},
    "training-keys.md": {"training": keys.training_tables},
    "commands.md": {"commands": commands.command_sections},
    "binning.md": {"bins": products.bins_table},
    "products.md": {
        "maps": products.maps_table,
        "status": products.status_table,
        "attributes": products.attributes_table,
    },
}


def filled(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """The page with what is between the markers of each part written anew.

    Raises
    ------
    ValueError
        If the page lacks the markers of a part, or has markers of another one.
    """
    markers = re.findall(r"^<!-- generated: (\w+) .*-->$", text, flags=re.MULTILINE)
    if sorted(markers) != sorted(parts):
        raise ValueError(f"generated parts: expected {sorted(parts)}, found {sorted(markers)}")
    for name, make in parts.items():
        pattern = rf"(^<!-- generated: {name} [^\n]*-->\n).*?(^<!-- end -->$)"
        made = make()
        text, count = re.subn(
            pattern, lambda match, made=made: f"{match[1]}\n{made}\n\n{match[2]}", text, flags=re.MULTILINE | re.DOTALL
        )
        if count != 1:
            raise ValueError(f"generated part {name}: no line <!-- end --> behind it")
    return text


def stale_pages() -> dict[Path, str]:
    """Pages whose generated parts are not what the code says now -> what they should be."""
    stale = {}
    for name, parts in PARTS.items():
        path = DOCS / name
        found = path.read_text()
        wanted = filled(found, parts)
        if wanted != found:
            stale[path] = wanted
    return stale
