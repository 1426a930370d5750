"""Messages that the documentation quotes are messages of the code."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("model", "pipeline", "workflows")
GAP = "…"
#: Filled in with their number: 1 row, 2 rows.
NOUNS = ("rows", "workers", "spaxels", "jobs", "files", "galaxies", "chunks")


def template(node: ast.AST) -> str | None:
    """A string, or an f-string with a gap for what is filled in, or a sum of them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [GAP if isinstance(part, ast.FormattedValue) else template(part) for part in node.values]
        return "".join(part or "" for part in parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = template(node.left), template(node.right)
        return None if left is None and right is None else (left or GAP) + (right or GAP)
    return None


@cache
def templates() -> tuple[str, ...]:
    """Every string of the code, in one line."""
    found = set()
    for layer in LAYERS:
        for path in (ROOT / layer).rglob("*.py"):
            found |= {text for node in ast.walk(ast.parse(path.read_text())) if (text := template(node))}
    return tuple(" ".join(text.replace("`", "").split(" ")).replace("\n", " ") for text in found)


def is_said(message: str) -> bool:
    """Whether the words between the gaps of a message occur in one string of the code, in this order.

    A message that is put together of several strings has each of its clauses in one of them.
    """
    words = [part for part in (part.strip() for part in message.split(GAP)) if len(part) > 2]
    pattern = re.compile(".*?".join(map(re.escape, words)))
    if any(pattern.search(text) for text in templates()):
        return True
    clauses = [part for part in (part.strip() for part in re.split(r"…|[;:,()?]|\\. ", message)) if len(part) > 5]
    return max(map(len, clauses)) > 9 and all(map(is_somewhere, clauses))


def is_somewhere(clause: str) -> bool:
    """Whether one string has it; a noun at its beginning may be filled in, with its number."""
    noun, _, rest = clause.partition(" ")
    rest = rest if noun in NOUNS else clause
    return any(clause in text or rest in text for text in templates())


def messages(page: str) -> Iterator[str]:
    """What stands in backticks in the first column of tables that are headed `message`."""
    table = False
    for line in (ROOT / "docs" / page).read_text().splitlines():
        if not line.startswith("|"):
            table = False
        elif line.startswith("| message |"):
            table = True
        elif table and not line.startswith("|-"):
            yield from re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", line)[1])


@pytest.mark.parametrize(("page", "least"), [("troubleshooting.md", 70), ("hpc.md", 30)])
def test_every_quoted_message_is_one_of_the_codes(page: str, least: int) -> None:
    quoted = list(messages(page))
    assert len(quoted) >= least
    unknown = [message for message in quoted if not is_said(message)]
    assert not unknown, "not a message of the code:\n" + "\n".join(unknown)


def test_a_message_that_nobody_says_is_found_out() -> None:
    assert is_said("…: no such cube: …")
    assert not is_said("…: no such tube: …")
    assert not is_said("no such cube … somebody's words")
    assert len(templates()) > 1000


def test_bits_in_the_remedies_exist() -> None:
    from galprote.pipeline.products import EVERY_MAP
    from galprote.pipeline.quality import Status

    text = (ROOT / "docs" / "troubleshooting.md").read_text().split("## No message")[1]
    known = {str(bit.name).lower() for bit in Status} | {product.name for product in EVERY_MAP}
    keys = {"snr_min", "max_filled", "flux_calibration_error", "mass_density_note", "pixel_scale_arcsec"}
    for name in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text):
        assert name in known | keys, name
