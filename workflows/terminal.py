"""What all commands share: the terminal, how a line is said, how loudly, and JSON."""

import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, TextIO

import typer
from rich.console import Console, RenderableType

#: Columns where nobody looks: a log file or a pipe gets tables that are not squeezed to 80.
PLAIN_WIDTH = 160

#: Who logs what only `--verbose` shows; what matters to a run is said by the run.
LOUD: Final = ("distributed", "dask_jobqueue", "tornado", "bokeh", "asyncio")


def _console(stream: TextIO, *, stderr: bool = False) -> Console:
    chosen = stream.isatty() or "COLUMNS" in os.environ
    # Paths and units have brackets: text is never markup, and what has a style is a Text.
    return Console(stderr=stderr, width=None if chosen else PLAIN_WIDTH, markup=False, emoji=False)


console = _console(sys.stdout)
errors = _console(sys.stderr, stderr=True)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say only how it ended, and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more: every chunk, when, and Dask's own logs.")]


@dataclass
class Voice:
    """How loudly this process speaks; `as_json`: standard output belongs to one JSON document."""

    quiet: bool = False
    verbose: bool = False
    as_json: bool = False


voice = Voice()


@contextmanager
def speaking(*, quiet: bool, verbose: bool, as_json: bool) -> Iterator[None]:
    """Speak like this for a while."""
    before = (voice.quiet, voice.verbose, voice.as_json)
    voice.quiet, voice.verbose, voice.as_json = quiet, verbose, as_json
    try:
        yield
    finally:
        voice.quiet, voice.verbose, voice.as_json = before


def out() -> Console:
    """Where messages go: to standard output, unless that is JSON's."""
    return errors if voice.as_json else console


def stamped(text: str) -> str:
    """A message with its time, if more than usual is wanted."""
    return f"{time.strftime('%H:%M:%S')} {text}" if voice.verbose else text


def say(text: str) -> None:
    """Print a line."""
    if not voice.quiet:
        _print(out(), stamped(text))


def detail(text: str) -> None:
    """Print a line if more than usual is wanted."""
    if voice.verbose:
        say(text)


def answer(text: str) -> None:
    """Print what was asked for by a signal, even by a quiet command."""
    _print(errors if voice.quiet else out(), stamped(text))


def conclude(text: str) -> None:
    """Print how it ended: the one line of a quiet command; JSON has it among its keys."""
    if not voice.as_json:
        _print(console, text)


def show(part: RenderableType, *, wide: bool = False) -> None:
    """Print a table, or a line; a wide table goes beyond a narrow terminal rather than being squeezed."""
    if not voice.quiet:
        out().print(part, soft_wrap=wide or isinstance(part, str), highlight=False if isinstance(part, str) else None)


def complain(text: str, style: str | None = None) -> None:
    """Print a line of an error."""
    errors.print(text, style=style, highlight=False, soft_wrap=True)


def print_json(data: Any) -> None:
    """Print a JSON document; what is not a number, or infinite, becomes null."""
    typer.echo(json.dumps(plain(data), indent=1, allow_nan=False))


def plain(value: Any) -> Any:
    """Values that JSON has: text keys, no NaN, no infinities, no NumPy, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | str | int):
        return value
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)  # NumPy's and torch's have it


def set_logs() -> None:
    """Let Dask and its libraries log as much as is wanted; call it when they are imported."""
    for name in LOUD:
        logging.getLogger(name).setLevel(log_level())


def log_level() -> int:
    """From which level on libraries may log."""
    return logging.INFO if voice.verbose else logging.CRITICAL


def _print(to: Console, text: str) -> None:
    to.print(text, highlight=False, soft_wrap=True)
