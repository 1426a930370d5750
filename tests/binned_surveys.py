"""Surveys of one galaxy in bins."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tests import surveys

Array = NDArray[Any]
SHAPE = (12, 8)
BINNING = {"method": "square", "size": 3, "covariance": 0.4, "snr_min": 3}
PRODUCTS = {"continuum_subtracted": True, "grid": True}


def small(folder: Path, cube: Path, checkpoint: Path, rows: int = 2, **galaxy: Any) -> Path:
    about = {"name": "N1", "cube": str(cube), "binning": BINNING, "products": PRODUCTS, "snr_min": 1} | galaxy
    return surveys.write_survey(folder, [about], checkpoint, chunks={"rows": rows})


def run(survey: Path, **more: Any) -> Path:
    """Run; gives the output folder."""
    (result,) = surveys.run_here(survey, **more)
    assert result.outcome == "done", result.error
    return survey.parent / "out"
