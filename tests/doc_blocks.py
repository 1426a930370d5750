"""Blocks of code in the Markdown of the repository."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
#: What readers are told to read.
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
SHELLS = ("sh", "bash", "console", "shell")


class Block(NamedTuple):
    """A block: its page (relative to the repository), first line, language ('' if it is only indented), and text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def is_shell(self) -> bool:
        """Indented blocks are commands; everything else has a fence and a language."""
        return not self.language or self.language in SHELLS

    @property
    def commands(self) -> list[str]:
        """Commands, one a line: continued lines joined, comments and prompts gone, `a && b` apart."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        found = []
        for line in joined.splitlines():
            words = re.sub(r"(^|\s)#.*", "", line).strip().removeprefix("$ ")
            found += [command.strip() for command in words.split(" && ") if command.strip()]
        return found


def blocks(path: Path) -> Iterator[Block]:
    """All blocks of a page, fenced or indented (also in lists)."""
    page, lines = path.relative_to(ROOT).as_posix(), path.read_text().splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        if fence := re.match(r"(\s*)(```+|~~~+)\s*(\S*)", line):
            end = next(i for i in range(number + 1, len(lines)) if lines[i].strip() == fence[2])
            text = "\n".join(lines[number + 1 : end])
            yield Block(page, number + 1, fence[3].strip("{}") or "text", textwrap.dedent(text))
            number = end + 1
        elif _begins_indented(lines, number):
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield Block(page, number + 1, "", "\n".join(part.strip() for part in lines[number:end]).rstrip())
            number = end
        else:
            number += 1


def _begins_indented(lines: list[str], number: int) -> bool:
    """Whether an indented block begins here: text of a list is indented, too, but by less than a block in it."""
    if not lines[number].startswith("    ") or (number and lines[number - 1].strip()):
        return False
    above = next((line for line in reversed(lines[:number]) if line.strip() and not line.startswith("    ")), "")
    item = re.match(r"(\s*)([-*]|\d+\.)\s+", above)
    wanted = len(item[0]) + 4 if item and number and not lines[number].startswith(" " * 8) else 4
    return len(lines[number]) - len(lines[number].lstrip()) >= wanted or not item


def shell_blocks() -> list[Block]:
    """Every shell block of every page."""
    return [block for path in PAGES for block in blocks(path) if block.is_shell]


def words_of(command: str) -> list[str]:
    """The command's words, without the variables that are set before it, and where its output goes."""
    words = shlex.split(re.sub(r"\s+>\s*\S+$", "", command))
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    return words
