"""What failed in a survey, as a table: failures.csv, one line for each galaxy or chunk that could not be computed."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from galprote.model.errors import GalproteError
from galprote.pipeline.whole_files import write_text


@dataclass(frozen=True)
class ChunkFailure:
    """A chunk, or a whole galaxy, that could not be computed.

    Attributes
    ----------
    galaxy : str
    step : {"measure", "sum", "fit", ""}
        Which of the galaxy's steps it is of; the first two are those of bins.
    chunk : int
        -1: the whole galaxy.
    first_row, last_row : int
        Image rows whose spaxels have no values; -1: all.
    attempts : int
    error : str
    """

    galaxy: str
    step: str
    chunk: int
    first_row: int
    last_row: int
    attempts: int
    error: str


def describe(error: BaseException, galaxy: str = "") -> str:
    """An exception in a line; without the name of the galaxy where that is told beside it."""
    text = str(error) if isinstance(error, GalproteError) else f"{type(error).__name__}: {error}"
    lines = text.splitlines()
    if galaxy and all(line.startswith(f"{galaxy}: ") for line in lines):
        text = "; ".join(line.removeprefix(f"{galaxy}: ") for line in lines)
    return " ".join(text.split())


def whole_galaxy(name: str, error: str) -> ChunkFailure:
    """A galaxy of which nothing was published."""
    return ChunkFailure(name, "", -1, -1, -1, 1, " ".join(error.split()))


def write_failures(path: Path, failures: Iterable[ChunkFailure]) -> None:
    """Write the table; of no failures, a table without lines."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [item.name for item in fields(ChunkFailure)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(failure) for failure in failures)
    write_text(path, text.getvalue())
