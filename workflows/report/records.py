"""What became of a survey's galaxies, from the files in its output folder: run.json, summary.json, stores, pages."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galprote.model.errors import ConfigError
from galprote.pipeline.store import GalaxyStore
from galprote.workflows.report.cards import read_card
from galprote.workflows.report.files import is_name, page_file
from galprote.workflows.words import STARTING


@dataclass(frozen=True)
class GalaxyRecord:
    """What is known of a galaxy.

    Attributes
    ----------
    name : str
    outcome : str
        Of the last run: `done`, `skipped`, `incomplete`, `failed`, `stopped`, or what it is at.
    seconds : float or None
        That the run which finished it took.
    error : str
    failures : list of dict
        Chunks that could not be computed.
    spaxels, fitted : int or None
    cube : Path or None
        Where its cube was.
    finished : bool
        Whether a finished store is there.
    card : dict or None
        What is known of its page, if there is one, and of this store.
    """

    name: str
    outcome: str
    seconds: float | None
    error: str
    failures: list[dict[str, Any]]
    spaxels: int | None
    fitted: int | None
    cube: Path | None
    finished: bool
    card: dict[str, Any] | None

    @property
    def needs_page(self) -> bool:
        """Whether its page is missing, of other products, or lacks spectra of a cube that is there now."""
        if not self.finished:
            return False
        if self.card is None:
            return True
        return bool(self.card["cube_missing"]) and self.cube is not None and self.cube.exists()


@dataclass(frozen=True)
class SurveyRecord:
    """What is known of a survey: `run` is run.json, empty without one."""

    output: Path
    run: dict[str, Any]
    galaxies: list[GalaxyRecord]


def read_records(output: Path) -> SurveyRecord:
    """Read what became of a survey.

    Parameters
    ----------
    output : Path
        Its output folder.

    Raises
    ------
    ConfigError
        If it is no such folder, or run.json cannot be read.
    """
    if not output.is_dir():
        raise ConfigError(f"{output}: no such folder; give a survey's output folder")
    run = _read_json(output / "run.json", {})
    rows = [row for row in run.get("galaxies", []) if isinstance(row, dict) and is_name(str(row.get("name")))]
    if not rows:
        rows = [{"name": path.stem} for path in sorted(output.glob("*.zarr")) if is_name(path.stem)]
        rows = [row for row in rows if GalaxyStore(output, row["name"]).finished_provenance()]
    if not rows:
        raise ConfigError(
            f"{output}: no survey was run there (no run.json, no NAME.zarr); give a survey's output folder"
        )
    ended = run.get("state") not in ("running", STARTING)  # after a crash the summary is an earlier run's
    summary = _read_json(output / "summary.json", []) if ended else []
    results = {str(item["name"]): item for item in summary if isinstance(item, dict) and "name" in item}
    return SurveyRecord(output, run, [_galaxy(output, row, results.get(row["name"], {})) for row in rows])


def _galaxy(output: Path, row: dict[str, Any], result: dict[str, Any]) -> GalaxyRecord:
    name, store = str(row["name"]), GalaxyStore(output, str(row["name"]))
    made = store.finished_provenance()
    card = read_card(output, name) if made else None
    if card is not None and made is not None:
        same = card["fingerprint"] == made.get("fingerprint") and card["failed_rows"] == store.finished_gaps()
        card = card if same else None
    cube = str(row.get("cube") or "")
    return GalaxyRecord(
        name,
        str(result.get("outcome") or row.get("state") or ("done" if made else "waiting")),
        result.get("seconds") or row.get("seconds"),
        str(result.get("error") or row.get("error") or ""),
        [item for item in result.get("failures", []) if isinstance(item, dict)],
        result.get("spaxels") or row.get("spaxels"),
        result.get("fitted") if result else row.get("fitted"),
        Path(cube) if cube else None,
        bool(made),
        card,
    )


def seconds_taken(output: Path) -> dict[str, float]:
    """How long the runs which finished a survey's galaxies took for them, as far as run.json knows."""
    try:
        rows = list(_read_json(output / "run.json", {}).get("galaxies", []))
    except (ConfigError, TypeError):
        return {}
    known = [row for row in rows if isinstance(row, dict) and isinstance(row.get("seconds"), int | float)]
    return {str(row["name"]): float(row["seconds"]) for row in known if "name" in row}


def has_page(output: Path, record: GalaxyRecord) -> bool:
    """Whether a galaxy has a page that may be linked to."""
    return record.card is not None and page_file(output, record.name).is_file()


def _read_json(path: Path, empty: Any) -> Any:
    """What a JSON file holds, if it is of the kind of `empty`; that without the file.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return empty
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, type(empty)):
        raise ConfigError(f"{path}: expected a JSON {type(empty).__name__}, found {type(found).__name__}")
    return found
