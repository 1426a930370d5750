"""Masks in a run: what is left out, what is not touched, what is told, and that changed masks make new products."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from galprote.model.errors import ConfigError
from galprote.pipeline.config import read_survey
from galprote.pipeline.products import MAPS
from galprote.pipeline.quality import NOT_FITTED, UNRELIABLE, Status
from galprote.pipeline.readers import open_cube
from galprote.workflows.planning import plan_survey
from tests import surveys

SHAPE = (8, 6)
STAR = (5, 2)  # x, y


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A survey without masks, finished: survey.yaml, cube.fits, out/."""
    folder = tmp_path_factory.mktemp("base")
    surveys.write_cube(folder / "cube.fits", SHAPE)
    products = {"continuum_subtracted": True, "figure": False}
    galaxy = {"name": "N1", "cube": str(folder / "cube.fits"), "products": products}
    surveys.run_here(surveys.write_survey(folder, [galaxy], checkpoint, chunks={"rows": 4}))
    return folder


def masked_survey(base: Path, folder: Path, **masks: Any) -> Path:
    """The same survey with masks, and their files; not run."""
    folder.mkdir(exist_ok=True)
    with fits.open(base / "cube.fits") as hdus:
        ra, dec = WCS(hdus[1].header).celestial.pixel_to_world_values(*STAR)
    Table({"ra": [float(ra), 10.0], "dec": [float(dec), 10.0]}).write(folder / "N1_stars.csv")
    (folder / "N1.reg").write_text("image\nbox(1.5,8,2,1,0)\n")
    (folder / "specMask").write_text("5577.0 20 sky\n5015.7 20 HeI\n")
    image = np.zeros(SHAPE)
    image[0, 0] = np.nan
    fits.PrimaryHDU(image).writeto(folder / "N1_mask.fits")
    content = yaml.safe_load((base / "survey.yaml").read_text())
    content["galaxies"][0]["masks"] = masks or {
        "files": ["{name}_mask.fits"],
        "stars": {"catalogue": "{name}_stars.csv", "radius_arcsec": 0.25},
        "regions": ["{name}.reg"],
        "spec_masks": ["specMask"],
        "rest": [[5870, 5900]],
    }
    (folder / "survey.yaml").write_text(yaml.safe_dump(content))
    return folder / "survey.yaml"


@pytest.fixture(scope="module")
def masked(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, surveys.Recorder]:
    """The same with masks of every kind, finished."""
    survey = masked_survey(base, tmp_path_factory.mktemp("masked"))
    progress = surveys.Recorder()
    (result,) = surveys.run_here(survey, progress=progress)
    assert result.outcome == "done", result.details
    return survey, progress


def maps_of(survey: Path) -> xr.Dataset:
    with xr.open_zarr(survey.parent / "out" / "N1.zarr") as store:
        return store.load()


def test_each_spaxel_says_why_it_was_left_out(base: Path, masked: tuple[Path, surveys.Recorder]) -> None:
    before, after = maps_of(base / "survey.yaml"), maps_of(masked[0])
    expected = np.zeros(SHAPE, np.int32)
    expected[0, 0], expected[7, :2] = Status.EXCLUDED, Status.REGION_MASK
    for dx, dy in ((0, 0), (-1, 0), (0, 1), (0, -1)):  # the star is at the image's edge, its radius 1.25 spaxels
        expected[STAR[1] + dy, STAR[0] + dx] = Status.STAR_MASK
    status = after["status"].to_numpy()
    np.testing.assert_array_equal(status & int(Status.EXCLUDED | Status.STAR_MASK | Status.REGION_MASK), expected)
    assert np.isnan(after["age_lw"].to_numpy()[expected != 0]).all()
    fitted = (status & after["status"].attrs["not_fitted_bits"]) == 0
    np.testing.assert_array_equal(fitted, np.isfinite(after["age_lw"]))
    assert fitted.sum() == np.isfinite(before["age_lw"]).sum() - (expected != 0).sum()


def test_cubes_keep_what_wavelength_masks_leave_out(base: Path, masked: tuple[Path, surveys.Recorder]) -> None:
    before, after = maps_of(base / "survey.yaml"), maps_of(masked[0])
    fitted = np.isfinite(after["age_lw"].to_numpy())
    for name in ("residual", "continuum_subtracted", "continuum_subtracted_error"):
        finite = [np.isfinite(maps[name].to_numpy()[:, fitted]) for maps in (before, after)]
        np.testing.assert_array_equal(*finite, err_msg=name)
    assert (after["age_lw"].to_numpy() != before["age_lw"].to_numpy())[fitted].all()
    np.testing.assert_array_equal(
        after["filled_fraction"].to_numpy()[fitted], before["filled_fraction"].to_numpy()[fitted]
    )


def test_products_say_what_was_left_out(masked: tuple[Path, surveys.Recorder]) -> None:
    survey, progress = masked
    about = maps_of(survey).attrs
    assert (about["masked_observed"], about["masked_rest"]) == ("5567-5587", "5005.7-5025.7, 5870-5900")
    assert 0.02 < about["masked_fraction"] < 0.04
    header = fits.getheader(survey.parent / "out" / "N1_MAPS.fits", 0)
    assert (header["MASKOBS"], header["MASKREST"]) == (about["masked_observed"], about["masked_rest"])
    assert header["MASKFRAC"] == about["masked_fraction"]
    assert "- N1.reg" in str(header["HISTORY"])
    flags = fits.getheader(survey.parent / "out" / "N1_MAPS.fits", "STATUS")
    assert (flags["FLAG19"], flags["FLAG20"]) == ("star_mask", "region_mask")
    assert (flags["NOTFIT"], flags["UNRELIAB"]) == (int(NOT_FITTED), int(UNRELIABLE))
    text = "\n".join(progress.messages)
    for note in ("1 of 2 stars of N1_stars.csv lie in the field and cover 4 spaxels", "N1.reg covers 2 spaxels"):
        assert f"N1: masks: {note}" in text


def test_a_spatial_mask_changes_no_other_spaxel(base: Path, tmp_path: Path) -> None:
    survey = masked_survey(base, tmp_path, files=["{name}_mask.fits"], regions=["N1.reg"])
    surveys.run_here(survey)
    before, after = maps_of(base / "survey.yaml"), maps_of(survey)
    kept = (after["status"].to_numpy() & int(Status.EXCLUDED | Status.REGION_MASK)) == 0
    assert (~kept).sum() == 3
    for product in MAPS:
        one, other = (maps[product.name].to_numpy()[kept] for maps in (before, after))
        np.testing.assert_array_equal(one, other, err_msg=product.name)


def test_the_flags_of_one_run_mask_the_next(base: Path, tmp_path: Path) -> None:
    first = maps_of(base / "survey.yaml")["status"].to_numpy()
    bits = [bit for bit in ("poor_fit", "unlike_training") if ((first & Status[bit.upper()]) > 0).any()]
    assert bits
    wanted = (first & sum(int(Status[bit.upper()]) for bit in bits)) > 0
    trust = {"store": str(base / "out" / "{name}.zarr"), "bits": bits}
    survey = masked_survey(base, tmp_path, trust=trust)
    surveys.run_here(survey)
    second = maps_of(survey)
    np.testing.assert_array_equal((second["status"].to_numpy() & int(Status.STAR_MASK)) > 0, wanted)
    assert np.isnan(second["age_lw"].to_numpy()[wanted]).all()


def change_table(path: Path) -> None:
    path.write_text(path.read_text().replace("10.0", "11.0"))


@pytest.mark.parametrize(
    ("name", "key"),
    [("N1_stars.csv", "stars.catalogue"), ("N1.reg", "regions"), ("specMask", "spec_masks"), ("N1_mask.fits", "files")],
)
def test_products_of_changed_masks_are_not_used_again(
    masked: tuple[Path, surveys.Recorder], tmp_path: Path, name: str, key: str
) -> None:
    shutil.copytree(masked[0].parent, tmp_path / "copy")
    survey = tmp_path / "copy" / "survey.yaml"
    (result,) = surveys.run_here(survey)
    assert result.outcome == "skipped"  # the same content elsewhere, of another time
    file = survey.parent / name
    file.write_bytes(file.read_bytes().replace(b"20", b"22").replace(b"10.0", b"11.0").replace(b"8,2", b"8,1"))
    if name.endswith(".fits"):
        fits.setval(file, "NOTE", value="another")
    with pytest.raises(ConfigError, match=rf"N1.zarr exists, made with something else \(masks_sha256.masks.{key}: "):
        surveys.run_here(survey)


def test_a_plan_shows_masks_and_what_is_wrong_with_them(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    survey = masked_survey(base, tmp_path / "one")
    code, out, _ = surveys.call(capsys, "plan", survey)
    words = " ".join(out.split())
    assert code == 0
    assert "Masks of N1: masks.files N1_mask.fits; masks.stars.catalogue N1_stars.csv; masks.regions N1.reg;" in words
    assert "5567-5587 A (observed frame); 5005.7-5025.7, 5870-5900 A (rest frame); 2.3%" in words
    assert "of the model's samples" in words
    for number, (masks, problem) in enumerate(
        (
            ({"files": ["no.fits"]}, "N1: no such mask: "),
            ({"regions": ["specMask"]}, "region file "),
            ({"rest": [[5000, 5400]]}, "all from 5015 to 5400 A"),
            ({"spec_masks": ["N1.reg"]}, "N1.reg, line 1 (image): 1 column"),
        )
    ):
        (plan,) = plan_survey(read_survey(masked_survey(base, tmp_path / f"{number}", **masks)))
        assert problem in plan.problem


def test_masks_that_leave_too_little_stop_the_survey_before_it_begins(base: Path, tmp_path: Path) -> None:
    survey = masked_survey(base, tmp_path, observed=[[5000, 5300]])
    with pytest.raises(ConfigError, match=r"N1: masks: wavelength masks leave out all from \d+ to \d+ A"):
        surveys.run_here(survey)
    assert not (tmp_path / "out" / "N1.partial").exists()


def test_a_compressed_cube_gets_its_masks_when_it_is_opened(base: Path, tmp_path: Path) -> None:
    import gzip

    survey = masked_survey(base, tmp_path)
    (tmp_path / "cube.fits.gz").write_bytes(gzip.compress((base / "cube.fits").read_bytes(), 1))
    content = yaml.safe_load(survey.read_text())
    content["galaxies"][0]["cube"] = "cube.fits.gz"
    survey.write_text(yaml.safe_dump(content))
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done"
    assert (maps_of(survey)["status"].to_numpy() & int(Status.STAR_MASK) > 0).sum() == 4
    (tmp_path / "N1.reg").write_text("nothing")
    with pytest.raises(ConfigError, match="region file"):
        surveys.run_here(survey)


def test_sky_positions_are_those_of_the_cube(base: Path) -> None:
    """What the catalogue above was made with is what the pipeline reads."""
    cube = open_cube(base / "cube.fits", redshift=surveys.REDSHIFT)
    with fits.open(base / "cube.fits") as hdus:
        own = WCS(hdus[1].header).celestial.pixel_to_world(*STAR)
    again = WCS(fits.Header.fromstring(cube.attrs["wcs_header"])).pixel_to_world(*STAR)
    assert own.separation(again).arcsec < 1e-6
