"""How far a survey is, from the files in its output folder alone: from any shell, while it runs or after it died."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from galprote.model.errors import ConfigError
from galprote.model.wording import count
from galprote.pipeline.store import GalaxyStore
from galprote.workflows.lock import Holder, is_alive, read_holder
from galprote.workflows.progress import duration
from galprote.workflows.words import OVER, STARTING, GalaxyState


@dataclass(frozen=True)
class GalaxyStatus:
    """How far a galaxy is.

    Attributes
    ----------
    name, state : str
    spaxels : int
        0 if it was never begun.
    chunks, chunks_done, chunks_failed : int
    share : float
        Of its step's chunks, done.
    error : str
    step : {"measure", "sum", "fit", ""}
        What is under way; the first two are steps of bins.
    """

    name: str
    state: str
    spaxels: int
    chunks: int
    chunks_done: int
    chunks_failed: int
    share: float
    error: str
    step: str = ""


@dataclass(frozen=True)
class SurveyStatus:
    """How far a survey is.

    Attributes
    ----------
    output : str
    running : bool
    holder : Holder or None
        Who runs it.
    state : str
        In words.
    command : str
        What goes on with it.
    spectra_per_second : float
    workers, gpu_workers : int
    seconds_left : float or None
    seconds_left_is_all : bool
        False: more than that, bins are not made yet.
    galaxies : tuple of GalaxyStatus
    """

    output: str
    running: bool
    holder: Holder | None
    state: str
    command: str
    spectra_per_second: float
    workers: int
    gpu_workers: int
    seconds_left: float | None
    seconds_left_is_all: bool
    galaxies: tuple[GalaxyStatus, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def read_status(output: Path) -> SurveyStatus:
    """Read how far a survey is.

    Parameters
    ----------
    output : Path
        Its output folder.

    Raises
    ------
    ConfigError
        If no survey was run there.
    """
    try:
        return _survey(output, json.loads((output / "run.json").read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(f"{output}: no survey was run there (no run.json); give a survey's output folder") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{output}/run.json: cannot be read: {why}") from error


def _survey(output: Path, record: dict[str, Any]) -> SurveyStatus:
    """A survey, by its record."""
    galaxies = list(record["galaxies"])
    holder = read_holder(output)
    running = holder is not None and is_alive(output, holder)
    state = str(record.get("state", ""))
    if not running and state in ("running", STARTING):
        state = "died without saying why; what it finished is kept"
    elif not running and state.startswith("stopping"):
        state = f"ended while {state}; what it finished is kept"
    found = tuple(_galaxy(output, about, running=running) for about in galaxies)
    return SurveyStatus(
        output=str(output),
        running=running,
        holder=holder if running else None,
        state=state,
        command=str(record.get("command", "")),
        spectra_per_second=float(record.get("spectra_per_second", 0.0)) if running else 0.0,
        workers=int(record.get("workers", 0)) if running else 0,
        gpu_workers=int(record.get("gpu_workers", 0)) if running else 0,
        seconds_left=_seconds_left(output, record) if running else None,
        seconds_left_is_all=bool(record.get("seconds_left_is_all", True)),
        galaxies=found,
    )


def _galaxy(output: Path, about: dict[str, Any], *, running: bool) -> GalaxyStatus:
    """A galaxy: the record is a few seconds old, the ledger's entries are not."""
    store = GalaxyStore(output, str(about["name"]))
    state, chunks, step = str(about["state"]), int(about["chunks"]), str(about.get("step", ""))
    recorded = len(store.recorded_chunks()) if step in ("fit", "") else 0  # the ledger has what is fitted
    done = min(max(int(about["chunks_done"]), recorded), chunks)
    if not running and state in ("running", "publishing", "waiting"):
        state = _what_there_is(store)
    if state in OVER:
        done = chunks
    share = 1.0 if state in OVER else done / chunks if chunks else 0.0
    failed = max(int(about["chunks_failed"]), len(store.failures()))
    spaxels = int(about["spaxels"])
    error, step = str(about.get("error", "")), step if state == "running" else ""
    return GalaxyStatus(store.name, state, spaxels, chunks, done, failed, share, error, step)


def _what_there_is(store: GalaxyStore) -> GalaxyState:
    """What a run that died has left of a galaxy; it may have died before it looked at what was done."""
    if store.partial.is_dir() or not store.final.exists():
        return "stopped" if store.partial.is_dir() else "waiting"
    return "incomplete" if store.finished_gaps() else "done"


def _seconds_left(output: Path, record: dict[str, Any]) -> float | None:
    """For everything that is planned, as the run said when it wrote its record."""
    told = record.get("seconds_left")
    if told is None:
        return None
    age = time.time() - (output / "run.json").stat().st_mtime
    return max(float(told) - age, 0.0)


def status_lines(found: SurveyStatus) -> list[str]:
    """Whether a run is under way, how fast it is, and how to go on with one that is not."""
    if found.running:
        assert found.holder is not None
        what = "Running" if found.state == "running" else found.state.capitalize()
        gpu = f", {found.gpu_workers} with a GPU" if found.gpu_workers else ""
        more = "" if found.seconds_left is None or found.seconds_left_is_all else "more than "
        return [
            f"{what}: {found.holder}",
            f"{count(found.workers, 'worker')}{gpu}; {found.spectra_per_second:,.0f} spectra/s; "
            f"time left: {more}{duration(found.seconds_left)}",
        ]
    lines = [f"No run is under way. The last one {found.state}."]
    if found.command and any(galaxy.state not in OVER for galaxy in found.galaxies):
        lines.append(f"To go on: {found.command}")
    return lines


def status_table(found: SurveyStatus) -> Table:
    """The galaxies."""
    table = Table()
    for name in ("galaxy", "state", "done", "chunks", "failed", "spaxels", "why"):
        table.add_column(name, justify="left" if name in ("galaxy", "state", "why") else "right", overflow="fold")
    for galaxy in found.galaxies:
        chunks = f"{galaxy.chunks_done:,}/{galaxy.chunks:,}" if galaxy.chunks else "-"
        failed = f"{galaxy.chunks_failed:,}" if galaxy.chunks_failed else ""
        step = f" ({galaxy.step})" if galaxy.step in ("measure", "sum") else ""
        table.add_row(
            galaxy.name,
            f"{galaxy.state}{step}",
            f"{galaxy.share:.0%}",
            chunks,
            failed,
            f"{galaxy.spaxels:,}" if galaxy.spaxels else "-",
            galaxy.error,
        )
    return table
