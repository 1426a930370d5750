"""Pages of galaxies of all kinds: without good spaxels, without sky, cube or errors, in bins."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from galprote.pipeline.config import read_survey
from galprote.pipeline.quality import Status
from galprote.workflows.report.galaxy_maps import GalaxyMaps
from galprote.workflows.report.galaxy_page import make_page
from galprote.workflows.report.radial import radial_profiles
from galprote.workflows.report.writing import SurveyReport
from galprote.workflows.stop import StopRequest
from tests import surveys
from tests.report_surveys import SHAPE, Page, change, copied, run


@pytest.fixture
def again(reported: Path, tmp_path: Path) -> Path:
    """A copy of the survey with its output, which may be changed."""
    return copied(reported, tmp_path)


@pytest.fixture
def store(reported: Path, tmp_path: Path) -> Path:
    """A copy of a galaxy's store."""
    return Path(shutil.copytree(reported.parent / "out" / "N1.zarr", tmp_path / "N1.zarr"))


def make(store: Path) -> str:
    """Text of a page made without the cube."""
    text, card = make_page(store, None, None)
    json.dumps(card, allow_nan=False)
    path = store.with_suffix(".html")
    path.write_text(text)
    return Page(path).text


def test_a_galaxy_without_good_spaxels_has_a_page(store: Path) -> None:
    change(store, status=int(Status.LOW_SNR), age_lw=np.nan, snr=2.0)
    text = make(store)
    assert "No spaxel is good" in text
    assert text.count("Missing: no spaxel is good") == 2
    assert f"not fitted ({SHAPE[0] * SHAPE[1]})" in text


def test_a_galaxy_without_sky_or_cube_or_errors_has_a_page_that_says_so(store: Path) -> None:
    nothing = dict.fromkeys(("age_lw_error", "metallicity_lw_error", "av_error", "trust", "noise_scale"), np.nan)
    change(store, WCS_HEADER="", FAILED_ROWS=[[4, 5]], FLUX_UNIT_ASSUMED=True, **nothing)
    text = make(store)
    assert "The cube has no sky coordinates" in text
    assert "Rows 4 to 5 could not be computed" in text
    assert "The weights give no errors and no trust" in text
    assert "was assumed" in text
    assert "Missing: it is not known where the cube is" in text
    assert "Error of age" not in text
    assert {found.unit for found in radial_profiles(GalaxyMaps(store))} == {"spaxels"}


def test_a_cube_that_comes_back_is_used(again: Path) -> None:
    cube, away = again.parent / "n1.fits", again.parent / "away.fits"
    cube.rename(away)
    output = again.parent / "out"
    record = (output / "run.json").read_text()
    elsewhere = next(row["cube"] for row in json.loads(record)["galaxies"] if row["name"] == "N1")
    (output / "run.json").write_text(record.replace(elsewhere, str(cube)))
    (output / "report" / "N1.json").unlink()
    report = SurveyReport(read_survey(again), lambda _: None)
    report.finish(StopRequest())
    assert "the cube n1.fits is not where it was" in Page(output / "report" / "N1.html").text
    away.rename(cube)
    report.finish(StopRequest())
    assert "Best fit" in Page(output / "report" / "N1.html").text


def test_bins_have_a_page(tmp_path: Path, checkpoint: Path) -> None:
    surveys.write_cube(tmp_path / "n1.fits", SHAPE)
    galaxy = {"name": "N1", "cube": "n1.fits", "binning": {"method": "square", "size": 2}}
    path = surveys.write_survey(tmp_path, [galaxy], checkpoint, report=True)
    run(path)
    page, maps = Page(tmp_path / "out" / "report" / "N1.html"), GalaxyMaps(tmp_path / "out" / "N1.zarr")
    assert maps.bins
    assert f"{maps.bins} bins;" in page.text
    assert "good bins" in page.text
    assert re.search(r"Worst fit Bin \d+ \(row", page.text)
