"""The log of a training run: a line of numbers for every validation, as CSV and for TensorBoard."""

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from galprote.model.errors import ConfigError


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


def check_tensorboard() -> None:
    """Raise ConfigError if TensorBoard, which is not a dependency, is not installed."""
    if find_spec("tensorboard") is None:
        raise ConfigError("tensorboard: true needs the package tensorboard: pip install tensorboard")


def _summary_writer(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)  # type: ignore[no-untyped-call]
