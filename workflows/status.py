"""How far a survey is, from the files in its output folder alone: from any shell, while it runs or after it died."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from galprote.model.errors import ConfigError
from galprote.pipeline.store import GalaxyStore
from galprote.workflows.lock import Holder, is_alive, read_holder
from galprote.workflows.progress import duration


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
        Of its chunks, done.
    error : str
    """

    name: str
    state: str
    spaxels: int
    chunks: int
    chunks_done: int
    chunks_failed: int
    share: float
    error: str


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
    if not running and (state == "running" or state.startswith("stopping")):
        state = "died without saying why; what it finished is kept"
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
        seconds_left=_seconds_left(output, record, found) if running else None,
        galaxies=found,
    )


def _galaxy(output: Path, about: dict[str, Any], *, running: bool) -> GalaxyStatus:
    """A galaxy: the record is a few seconds old, the ledger's entries are not."""
    store = GalaxyStore(output, str(about["name"]))
    state, chunks = str(about["state"]), int(about["chunks"])
    done = min(max(int(about["chunks_done"]), len(store.recorded_chunks())), chunks)
    if not running and state in ("running", "publishing", "waiting"):
        state = "stopped" if store.partial.is_dir() else "waiting"
    if state in ("done", "skipped"):
        done = chunks
    share = 1.0 if state in ("done", "skipped") else done / chunks if chunks else 0.0
    failed = max(int(about["chunks_failed"]), len(store.failures()))
    spaxels = int(about["spaxels"])
    return GalaxyStatus(store.name, state, spaxels, chunks, done, failed, share, str(about.get("error", "")))


def _seconds_left(output: Path, record: dict[str, Any], galaxies: tuple[GalaxyStatus, ...]) -> float | None:
    """For everything that is planned, at the pace of this run so far."""
    seconds = float(record.get("seconds", 0.0))
    pace = float(record.get("spaxels_per_second", 0.0))
    if pace <= 0 or seconds <= 0:
        return None
    busy = [galaxy for galaxy in galaxies if galaxy.state in ("running", "publishing", "waiting")]
    left = sum(galaxy.spaxels * (1 - galaxy.share) for galaxy in busy)
    age = time.time() - (output / "run.json").stat().st_mtime
    return max(left / pace - age, 0.0)


def status_tables(found: SurveyStatus) -> list[Table | str]:
    """The status for a terminal."""
    if found.running:
        assert found.holder is not None
        what = "Running" if found.state == "running" else found.state.capitalize()
        lines = [f"{what}: {escape(str(found.holder))}"]
        gpu = f", {found.gpu_workers} with a GPU" if found.gpu_workers else ""
        lines.append(
            f"{found.workers} workers{gpu}; {found.spectra_per_second:,.0f} spectra/s; "
            f"time left: {duration(found.seconds_left)}"
        )
    else:
        lines = [f"No run is under way. The last one {escape(found.state)}."]
        unfinished = any(galaxy.state not in ("done", "skipped") for galaxy in found.galaxies)
        if unfinished and found.command:
            lines.append(f"To go on: {escape(found.command)}")
    table = Table()
    for name in ("galaxy", "state", "done", "chunks", "failed", "spaxels", "why"):
        table.add_column(name, justify="left" if name in ("galaxy", "state", "why") else "right", overflow="fold")
    for galaxy in found.galaxies:
        chunks = f"{galaxy.chunks_done}/{galaxy.chunks}" if galaxy.chunks else "-"
        failed = str(galaxy.chunks_failed) if galaxy.chunks_failed else ""
        table.add_row(
            galaxy.name,
            galaxy.state,
            f"{galaxy.share:.0%}",
            chunks,
            failed,
            str(galaxy.spaxels or "-"),
            escape(galaxy.error),
        )
    return [*lines, table]
