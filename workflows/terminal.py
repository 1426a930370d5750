"""What all commands share: the terminal, and how a line is said."""

import os
import sys
from typing import Annotated, TextIO

import typer
from rich.console import Console

#: Columns where nobody looks: a log file or a pipe gets tables that are not squeezed to 80.
PLAIN_WIDTH = 160


def _console(stream: TextIO, *, stderr: bool = False) -> Console:
    chosen = stream.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, width=None if chosen else PLAIN_WIDTH)


console = _console(sys.stdout)
errors = _console(sys.stderr, stderr=True)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def say(text: str) -> None:
    """Print a line as it is: brackets in a path are no markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
