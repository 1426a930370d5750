"""Pages of galaxies of all kinds: without good spaxels, without sky, cube or errors, in bins."""

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import zarr

from galprote.model.grids import STEP, WAVELENGTH
from galprote.pipeline.config import read_survey
from galprote.pipeline.quality import Status
from galprote.workflows.report import spectra
from galprote.workflows.report.galaxy_maps import GalaxyMaps
from galprote.workflows.report.galaxy_page import make_page
from galprote.workflows.report.radial import radial_profiles
from galprote.workflows.report.writing import SurveyReport
from galprote.workflows.stop import StopRequest
from tests import surveys
from tests.report_surveys import SHAPE, Page, change, copied, pages, run

Capture = pytest.CaptureFixture[str]


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


def test_wavelengths_that_the_survey_masks_are_shaded_in_the_mean_residual_spectrum(store: Path) -> None:
    """5400 to 5450 A at rest, and 5870 to 5910 A observed; the shade is that of nothing else."""
    change(store, MASKED_REST="5400-5450", MASKED_OBSERVED="5870-5910")
    make(store)
    (chart,) = (unquote(str(picture["src"])) for picture in Page(store.with_suffix(".html")).pictures
                if str(picture["alt"]).startswith("Mean residual"))  # fmt: skip
    redshift = GalaxyMaps(store).about["redshift"]
    first, last = WAVELENGTH[0], WAVELENGTH[-1]
    shades = []
    for path in re.findall(rf'd="([^"]*)"[^>]*style="fill: {spectra.MASK}', chart):
        points = np.array(re.findall(r"[ML] (\S+) (\S+)", path), dtype=float) / 72
        across = np.interp(points[:, 0], (spectra.LEFT, spectra.WIDTH - spectra.RIGHT), (first, last))
        shades.append((across.min(), across.max(), np.ptp(points[:, 1])))
    panels = [shade for shade in shades if shade[2] > 1]  # the legend's is lower than an inch
    for height in (1.75, 2.3):
        ends = [shade[:2] for shade in panels if shade[2] == pytest.approx(height, abs=0.01)]
        wanted = [(5400, 5450), (5870 / (1 + redshift), 5910 / (1 + redshift))]
        np.testing.assert_allclose(ends, wanted, atol=2 * STEP)
    assert len(shades) == len(panels) + 1


def test_the_legend_says_where_dots_are_left_out(store: Path) -> None:
    change(store, status=0)
    words = "only the map of flags has the pattern"
    text = make(store)
    assert "doubtful" not in text
    change(store, status=int(Status.POOR_FIT))
    assert f"doubtful: counts, with a remark; so many are that {words} (120)" in make(store)
    status = zarr.open_group(store, mode="r+", use_consolidated=False)["status"]
    assert isinstance(status, zarr.Array)
    status[6:] = 0
    text = make(store)
    assert "doubtful: counts, with a remark (60)" in text
    assert words not in text


def test_a_galaxy_without_sky_or_cube_or_errors_has_a_page_that_says_so(store: Path) -> None:
    nothing = dict.fromkeys(("age_lw_error", "metallicity_lw_error", "av_error", "trust", "noise_scale"), np.nan)
    change(store, WCS_HEADER="", FAILED_ROWS=[[4, 5]], FLUX_UNIT_ASSUMED=True, **nothing)
    text = make(store)
    assert "The cube has no sky coordinates" in text
    assert "flux unit: 10⁻²⁰ erg s⁻¹ cm⁻² Å⁻¹ was assumed" in text
    assert "Rows 4 to 5 could not be computed" in text
    assert "The weights give no errors and no trust" in text
    assert "was assumed" in text
    assert "Missing: it is not known where the cube is" in text
    assert "Error of age" not in text
    assert {found.unit for found in radial_profiles(GalaxyMaps(store))} == {"spaxels"}


def test_a_page_has_every_map_with_its_scale_bar_and_the_way_to_north(store: Path) -> None:
    errors = {f"{name}_error": 0.1 for name in ("age_lw", "metallicity_lw", "av")}
    change(store, status=0, stellar_mass_density=100.0, **errors)
    make(store)
    page = Page(store.with_suffix(".html"))
    maps = {str(picture["alt"]): unquote(str(picture["src"])) for picture in page.pictures
            if str(picture["alt"]).startswith("Map of")}  # fmt: skip
    names = ["age", "metallicity", "dust attenuation", "error of age", "error of metallicity", "error of attenuation"]
    names += ["flux", "signal to noise", "residuals", "stellar mass density"]
    for name in names:
        (svg,) = (picture for alt, picture in maps.items() if alt.startswith(f"Map of {name},"))
        assert re.search(r">log|>\[M/H\]|>A|>1|>S/N|>rms|>M|>10", svg), "a word at the colour bar"
    for svg in maps.values():
        assert re.findall(r'font-size="11">([NE])</text>', svg) == ["N", "E"]
        ((bar, length),) = re.findall(r"m0 -4h([\d.]+)m0 -4v8.*?>([\d.]+)\u2033<", svg)
        width, pixels = re.findall(r'<image [^>]*?width="([\d.]+)" height="([\d.]+)"', svg)[0]  # then the colour bar
        assert float(bar) / float(length) == pytest.approx(float(width) / SHAPE[1] / 0.2, rel=1e-3)  # 0.2 arcsec each
        assert float(pixels) / SHAPE[0] == pytest.approx(float(width) / SHAPE[1], rel=1e-3)


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


def test_weights_that_cannot_serve_are_refused_before_anything_is_written(again: Path, capsys: Capture) -> None:
    output, other = again.parent / "out", surveys.write_checkpoint(again.parent / "other.safetensors", seed=8)
    before = surveys.tree(again.parent, without=())
    for file, words in (("none.pt", "no such checkpoint"), (again, "not a safetensors file"), (other, "other weights")):
        code, out, errors = surveys.call(capsys, "report", output, "--checkpoint", file)
        assert (code, out) == (2, "")
        assert words in errors
        assert str(file) in errors
    assert surveys.tree(again.parent, without=()) == before


def test_a_page_with_fits_is_not_replaced_by_one_without(again: Path, capsys: Capture) -> None:
    """Without `--checkpoint` the weights are others, and N1's cube is gone; a page of another look is replaced."""
    output = again.parent / "out"
    record = json.loads((output / "run.json").read_text())
    record["galaxies"][0]["cube"] = str(again.parent / "gone.fits")
    (output / "run.json").write_text(json.dumps(record))
    before = pages(again)
    code, out, errors = surveys.call(capsys, "report", output, "--json")
    told = json.loads(out)
    assert (code, told["pages"], told["without_fits"], told["failed"]) == (0, {}, {}, {})
    assert told["kept"]["N1"] == "the cube gone.fits is not where it was"
    assert "name them with --checkpoint" in told["kept"]["N2"]
    assert f"N1: the page is kept: a new one would have no fits: {told['kept']['N1']}\n" in errors
    assert pages(again) == before
    card = output / "report" / "N1.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"page_version": 1}))
    code, out, errors = surveys.call(capsys, "report", output, "--json")
    told = json.loads(out)
    assert (code, list(told["pages"]), list(told["kept"])) == (0, ["N1"], ["N2"])
    assert told["without_fits"] == {"N1": "the cube gone.fits is not where it was"}
    assert "MB, without fits: the cube gone.fits is not where it was\n" in errors
    assert "Best fit" not in Page(output / "report" / "N1.html").text


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
