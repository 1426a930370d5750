"""The log of a training run: a line of numbers for every validation, as CSV and for TensorBoard."""

import csv
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from galprote.model.errors import ConfigError


@dataclass
class Progress:
    """What a training run reports after every validation."""

    step: int
    steps: int
    spectra_per_second: float
    metrics: dict[str, float]


def append_to_log(folder: Path, row: dict[str, Any], *, tensorboard: bool) -> None:
    """Add a line to `log.csv`, and its numbers to `tensorboard/` if wanted.

    Parameters
    ----------
    folder : Path
    row : dict
        Numbers by name; `step` among them.
    tensorboard : bool
        Needs `check_tensorboard`.
    """
    if tensorboard:
        with _summary_writer(folder / "tensorboard") as events:
            for name, value in row.items():
                events.add_scalar(name, value, row["step"])
    path = folder / "log.csv"
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def shorten_log(folder: Path, step: int) -> None:
    """Drop the lines of `log.csv` beyond a step: those of a run that is begun anew or taken up at an earlier state."""
    path = folder / "log.csv"
    if not path.exists():
        return
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    kept = [row for row in rows if int(row[0]) <= step]
    if kept:
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            csv.writer(file).writerows([header, *kept])
        partial.replace(path)
    else:
        path.unlink()


def check_tensorboard() -> None:
    """Raise ConfigError if TensorBoard, which is not a dependency, is not installed."""
    if find_spec("tensorboard") is None:
        raise ConfigError("tensorboard: true needs the package tensorboard: pip install tensorboard")


def _summary_writer(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)  # type: ignore[no-untyped-call]
