"""A cube larger than the memory budget runs within its plan, and a larger cube takes no more."""

import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from astropy.io import fits

from galprote.pipeline.config import read_survey
from galprote.workflows.planning import plan_survey
from tests import cubes, surveys

COLUMNS = 2400
BUDGET = 1.9 * 2**30


def write_large_cube(path: Path, rows: int) -> Path:
    """A sparse file of zeros, which are read like any data, with spectra in 200 spaxels of each tenth row."""
    cubes.write_sparse_muse_cube(path, (surveys.CHANNELS, rows, COLUMNS), surveys.FIRST_CHANNEL)
    flux, variance = surveys.spectra(200)
    with fits.open(path) as hdus:
        offsets = [hdus[name].fileinfo()["datLoc"] for name in ("DATA", "STAT")]
    with path.open("r+b") as file:
        for offset, values in zip(offsets, (flux, variance), strict=True):
            for channel, plane in enumerate(values.astype(">f4")):
                for row in range(0, rows, 10):
                    file.seek(offset + 4 * ((channel * rows + row) * COLUMNS + 1000))
                    file.write(plane.tobytes())
    return path


def run(survey: Path) -> int:
    """Run a survey in processes of its own; the largest memory of all together, bytes."""
    log = survey.with_suffix(".log")
    peak = 0
    with log.open("w") as output:
        command = psutil.Popen([surveys.COMMAND, "run", str(survey)], stdout=output, stderr=output)
        while command.poll() is None:
            total = 0
            for member in [command, *command.children(recursive=True)]:
                try:
                    total += member.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            peak = max(peak, total)
            time.sleep(0.1)
    assert command.returncode == 0, log.read_text()
    return peak


@pytest.mark.skipif(sys.platform != "linux", reason="proportional memory is Linux's")
def test_memory_is_bounded_by_the_plan_and_not_by_the_cube(tmp_path: Path) -> None:
    checkpoint = surveys.write_checkpoint(tmp_path / "tiny.safetensors")
    peaks = []
    for rows in (20, 60):
        cube = write_large_cube(tmp_path / f"{rows}.fits", rows)
        survey = surveys.write_survey(
            tmp_path / f"survey{rows}",
            [{"name": "LARGE", "cube": str(cube), "products": {"figure": False}}],
            checkpoint,
            chunks={"memory": int(BUDGET)},
            report=True,
        )
        (planned,) = plan_survey(read_survey(survey))
        assert planned.plan is not None
        peaks.append(run(survey))
        assert peaks[-1] < planned.plan.peak_bytes <= BUDGET
        fitted = np.isfinite(fits.getdata(tmp_path / f"survey{rows}" / "out" / "LARGE_MAPS.fits", "AGE_LW"))
        assert fitted.sum() == 200 * rows / 10
    assert cube.stat().st_size > BUDGET
    assert peaks[1] < 1.2 * peaks[0], peaks  # of three times the cube; the page of the report holds whole maps
