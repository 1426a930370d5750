"""Surveys from end to end, with Dask workers in this process: products, reruns, failures."""

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr
import yaml
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS

from galprote.model.errors import ConfigError
from galprote.pipeline.config import read_survey
from galprote.pipeline.products import MAPS
from galprote.pipeline.quality import NOT_FITTED, Status
from galprote.workflows.planning import plan_survey
from tests import surveys

SHAPE = (12, 6)
EVERYTHING = {"continuum_subtracted": True, "grid": True}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A finished survey with all products: survey.yaml, cube.fits, out/."""
    folder = tmp_path_factory.mktemp("base")
    surveys.write_cube(folder / "cube.fits", SHAPE, empty_rows=slice(4, 6), faint=1)
    galaxy = {"name": "N1", "cube": str(folder / "cube.fits"), "products": EVERYTHING}
    survey = surveys.write_survey(folder, [galaxy], checkpoint, chunks={"rows": 2})
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.details
    return folder


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    """The finished survey in a folder of its own, which a test may change; the cube stays where it is."""
    shutil.copytree(base, tmp_path / "copy", ignore=shutil.ignore_patterns("cube.fits"))
    return tmp_path / "copy" / "survey.yaml"


def edited(survey: Path, **changed: Any) -> Path:
    """Change settings of the first galaxy."""
    content = yaml.safe_load(survey.read_text())
    content["galaxies"][0].update(changed)
    survey.write_text(yaml.safe_dump(content))
    return survey


def maps_of(folder: Path) -> dict[str, surveys.Array]:
    """All maps of a finished store."""
    with xr.open_zarr(folder / "N1.zarr") as store:
        return {product.name: store[product.name].to_numpy() for product in MAPS}


# --- products ---


def test_the_store_opens_as_it_is(base: Path) -> None:
    """Nothing but xarray is needed, it has nothing to warn of, and every array says what it is."""
    with xr.open_zarr(base / "out" / "N1.zarr") as store:
        assert set(store.data_vars) == {product.name for product in MAPS} | {
            "residual", "continuum_subtracted", "continuum_subtracted_error", "grid", "mass_per_light",
        }  # fmt: skip
        assert store.sizes == {
            "y": 12, "x": 6, "wavelength": 948, "wavelength_observed": 1897, "metallicity": 12, "age": 53,
            "age_edge": 54,
        }  # fmt: skip
        for name, array in store.variables.items():
            assert u.Unit(array.attrs["units"]) is not None, name
            assert array.attrs["long_name"], name
        assert u.Unit(store["flux"].attrs["units"]) == u.Unit("1e-20 erg / (s cm2 Angstrom)")
        assert u.Unit(store["continuum_subtracted"].attrs["units"]).is_equivalent("erg / (s cm2 Angstrom)")
        assert store["status"].dtype == np.int32
        assert store["replaced_samples"].dtype == np.int16
        assert store["age_lw"].dtype == np.float32


def test_flags_decode_as_the_cf_conventions_say(base: Path) -> None:
    with xr.open_zarr(base / "out" / "N1.zarr") as store:
        status = store["status"]
        masks, meanings = status.attrs["flag_masks"], status.attrs["flag_meanings"].split()
        decoded = {name: (status.to_numpy() & mask) != 0 for name, mask in zip(meanings, masks, strict=True)}
        fitted = np.isfinite(store["age_lw"].to_numpy())
    assert decoded["no_data"][4:6].all()
    assert decoded["no_data"][-1, -2:].all()
    assert decoded["no_data"].sum() == 14
    assert decoded["low_snr"][:4, 0].all()
    assert decoded["bad_variance"][6, 3]
    why = np.logical_or.reduce([decoded[str(bit.name).lower()] for bit in Status if bit & NOT_FITTED])
    np.testing.assert_array_equal(why, ~fitted)


def test_coordinates_are_those_of_the_input(base: Path) -> None:
    """In the store as right ascension and declination, in FITS as WCS; the third axis of cubes is wavelength."""
    sky = WCS(fits.getheader(base / "cube.fits", "DATA")).celestial
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    expected = sky.pixel_to_world(x, y).icrs
    with xr.open_zarr(base / "out" / "N1.zarr") as store:
        np.testing.assert_allclose(store["ra"].to_numpy(), expected.ra.deg, rtol=0, atol=1e-9)
        np.testing.assert_allclose(store["dec"].to_numpy(), expected.dec.deg, rtol=0, atol=1e-9)
        assert {"ra", "dec"} <= set(store["age_lw"].coords)
        observed = store["wavelength_observed"].to_numpy()
    found = WCS(fits.getheader(base / "out" / "N1_MAPS.fits", "AGE_LW")).pixel_to_world(x, y)
    assert found.separation(expected).max() < 1e-6 * u.arcsec
    cube = WCS(fits.getheader(base / "out" / "N1_CONTSUB.fits"))
    found_sky, found_wavelength = cube.pixel_to_world(2, 3, np.arange(len(observed)))
    assert found_sky[0].separation(expected[3, 2]) < 1e-6 * u.arcsec
    np.testing.assert_allclose(found_wavelength.to_value(u.AA), observed, rtol=0, atol=1e-3)


def test_products_say_where_they_come_from(base: Path, checkpoint: Path) -> None:
    with xr.open_zarr(base / "out" / "N1.zarr") as store:
        record = json.loads(store.attrs["provenance"])
        assert store.attrs["redshift"] == surveys.REDSHIFT
        assert store.attrs["Conventions"] == "CF-1.11"
    assert record["settings"]["foreground"]["ebv"] == 0.02
    assert record["settings"]["snr_min"] == 5.0, "defaults are recorded, too"
    assert record["input"]["file"] == "cube.fits"
    assert record["input"]["bytes"] == (base / "cube.fits").stat().st_size
    assert record["versions"].keys() >= {"galprote", "torch", "numpy"}
    assert str(base) not in json.dumps(record), "a path says nothing to others"
    for path in (base / "out").glob("*.fits"):
        header = fits.getheader(path)
        assert header["FINGERPR"] == record["fingerprint"], path
        assert header["CKPTSHA"] == record["checkpoint_sha256"]
        assert header["INFILE"] == "cube.fits"


def test_maps_of_the_store_and_of_the_fits_file_are_the_same(base: Path) -> None:
    maps = maps_of(base / "out")
    with fits.open(base / "out" / "N1_MAPS.fits") as hdus:
        for product in MAPS:
            np.testing.assert_array_equal(hdus[product.extension].data, maps[product.name], err_msg=product.name)


def test_the_continuum_is_what_the_observation_lacks(base: Path) -> None:
    """Observed minus continuum-subtracted is smooth: a model, without the noise of the observation."""
    with xr.open_zarr(base / "out" / "N1.zarr") as store:
        subtracted = store["continuum_subtracted"].to_numpy()[:, 0, 2]
        first = round((float(store["wavelength_observed"][0]) - surveys.FIRST_CHANNEL) / 1.25)
    observed = fits.getdata(base / "cube.fits", "DATA")[first : first + len(subtracted), 0, 2]
    continuum = observed - subtracted
    noise = np.std(np.diff(observed))
    assert np.std(np.diff(continuum)) < 0.6 * noise
    assert abs(np.median(continuum) / np.median(observed) - 1) < 0.1


# --- what is left out ---


def test_a_spatial_mask_leaves_spaxels_out_and_changes_no_other(base: Path, tmp_path: Path, copy: Path) -> None:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[1, 2:4] = 1
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(mask, name="STARS")]).writeto(tmp_path / "mask.fits")
    surveys.run_here(edited(copy, masks={"files": [f"{tmp_path / 'mask.fits'}[STARS]"]}), overwrite=True)
    before, after = maps_of(base / "out"), maps_of(copy.parent / "out")
    assert (after["status"][1, 2:4] == Status.EXCLUDED).all()
    assert np.isnan(after["age_lw"][1, 2:4]).all()
    for name in before:
        np.testing.assert_array_equal(after[name][mask == 0], before[name][mask == 0], err_msg=name)


def test_the_signal_to_noise_threshold_is_honoured(base: Path, copy: Path) -> None:
    before = maps_of(base / "out")
    low = before["snr"] < 5
    assert low.any()
    assert (before["status"][low] & Status.LOW_SNR).all()
    assert np.isnan(before["age_lw"][low]).all()
    surveys.run_here(edited(copy, snr_min=0), overwrite=True)
    after = maps_of(copy.parent / "out")
    assert np.isfinite(after["age_lw"][low]).all()
    np.testing.assert_array_equal(after["age_lw"][~low], before["age_lw"][~low])


# --- reruns ---


def test_what_is_finished_is_skipped(copy: Path) -> None:
    before, progress = surveys.tree(copy.parent / "out"), surveys.Recorder()
    (result,) = surveys.run_here(copy, progress=progress)
    assert (result.outcome, result.spaxels) == ("skipped", 72)
    assert not progress.chunks
    assert surveys.tree(copy.parent / "out") == before


def refused(survey: Path) -> str:
    """Run; the message with which it is refused. Nothing may have changed."""
    before = surveys.tree(survey.parent / "out")
    with pytest.raises(ConfigError) as error:
        surveys.run_here(survey)
    assert surveys.tree(survey.parent / "out") == before
    return str(error.value)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"redshift": 0.0051}, "settings.redshift: 0.005 -> 0.0051"),
        ({"foreground": {"ebv": 0.03}}, "settings.foreground.ebv: 0.02 -> 0.03"),
        ({"snr_min": 7}, "settings.snr_min: 5.0 -> 7.0"),
        ({"flux_calibration_error": 0}, "settings.flux_calibration_error: 0.01 -> 0.0"),
        ({"products": EVERYTHING | {"fits": False}}, "settings.products.fits: True -> False"),
    ],
)
def test_other_settings_are_refused_by_name(copy: Path, changed: dict[str, Any], named: str) -> None:
    text = refused(edited(copy, **changed))
    assert named in text
    assert "N1.zarr exists" in text
    assert "--overwrite" in text


@pytest.mark.parametrize("earlier", ["", "SFD98"])
def test_where_ebv_comes_from_may_be_told_later(copy: Path, earlier: str) -> None:
    """It changes no number: maps are skipped, and keep their record; also those of when it was in the fingerprint."""
    store = copy.parent / "out" / "N1.zarr" / "zarr.json"
    if earlier:
        about = json.loads(store.read_text())
        record = json.loads(about["attributes"]["provenance"])
        record["settings"]["foreground"]["source"] = earlier
        record["fingerprint"] = "0" * 64
        about["attributes"]["provenance"] = json.dumps(record)
        store.write_text(json.dumps(about))
    before = surveys.tree(copy.parent / "out")
    (result,) = surveys.run_here(edited(copy, foreground={"ebv": 0.02, "source": "t.csv"}))
    assert result.outcome == "skipped"
    assert surveys.tree(copy.parent / "out") == before
    text = refused(edited(copy, foreground={"ebv": 0.03, "source": "t.csv"}))
    assert "made with something else (settings.foreground.ebv: 0.02 -> 0.03);" in text


def test_other_weights_are_refused(copy: Path, checkpoint: Path) -> None:
    other = copy.parent / "other.safetensors"
    surveys.write_checkpoint(other, seed=8)
    survey = yaml.safe_load(copy.read_text())
    survey["model"]["checkpoint"] = str(other)
    copy.write_text(yaml.safe_dump(survey))
    assert "model.checkpoint (SHA-256)" in refused(copy)


def test_another_precision_is_refused_and_with_overwrite_taken(base: Path, copy: Path) -> None:
    survey = yaml.safe_load(copy.read_text())
    survey["model"]["precision"] = "int8"
    copy.write_text(yaml.safe_dump(survey))
    assert "precision: 'float32' -> 'int8'" in refused(copy)
    progress = surveys.Recorder()
    surveys.run_here(copy, overwrite=True, progress=progress)
    assert any("int8" in text for text in progress.messages)
    assert fits.getheader(copy.parent / "out" / "N1_MAPS.fits")["PRECISN"] == "int8"
    moved = np.abs(maps_of(copy.parent / "out")["av"] - maps_of(base / "out")["av"])
    assert 0 < np.nanmax(moved) < 0.1


def test_another_cube_of_the_same_name_is_refused(base: Path, copy: Path) -> None:
    cube = copy.parent / "cube.fits"
    shutil.copy2(base / "cube.fits", cube)
    surveys.run_here(edited(copy, cube=str(cube)))  # the same file in another place: skipped
    os.utime(cube, (1, 1))
    assert "input.modified" in refused(copy)


def test_overwriting_gives_what_a_fresh_run_gives(copy: Path, tmp_path: Path) -> None:
    """And leaves no product of the old run that the new one does not have."""
    new = {"redshift": 0.0049, "products": {"grid": False}}
    surveys.run_here(edited(copy, **new), overwrite=True)
    fresh = tmp_path / "fresh" / "survey.yaml"
    fresh.parent.mkdir()
    shutil.copy(copy, fresh)
    surveys.run_here(fresh)
    assert surveys.tree(copy.parent / "out") == surveys.tree(fresh.parent / "out")
    assert not (copy.parent / "out" / "N1_GRID.fits").exists()


def test_an_unfinished_run_with_other_settings_is_refused(base: Path, copy: Path) -> None:
    shutil.rmtree(copy.parent / "out")
    job, _ = surveys.first_job(copy)
    job.store.begin(job.layout.provenance, job.plan.rows)
    text = refused(edited(copy, redshift=0.0051))
    assert "N1.partial exists" in text
    assert "settings.redshift: 0.005 -> 0.0051" in text


@pytest.mark.parametrize("name", ["N1.zarr", "N1_MAPS.fits", "N1_maps.png"])
def test_files_of_others_are_not_replaced(copy: Path, name: str) -> None:
    output = copy.parent / "out"
    shutil.rmtree(output)
    output.mkdir()
    if name.endswith("zarr"):
        (output / name).mkdir()
        (output / name / "mine").write_text("precious")
    else:
        (output / name).write_text("precious")
    assert f"{name} exists, not made by this survey" in refused(copy)


def test_the_chunks_of_an_unfinished_run_are_kept(base: Path, copy: Path) -> None:
    """A change of the memory or of the rows in a chunk is no change of the products."""
    shutil.rmtree(copy.parent / "out")
    with mock.patch("galprote.workflows.publish._make_products", side_effect=OSError("torn")):
        (result,) = surveys.run_here(copy)
    assert (result.outcome, result.error) == ("failed", "OSError: torn")
    survey = yaml.safe_load(copy.read_text())
    survey["galaxies"][0]["foreground"] = {"ebv": 0.02, "source": "t.csv"}
    copy.write_text(yaml.safe_dump(survey | {"chunks": {"rows": 5, "memory": "3GiB"}}))
    progress = surveys.Recorder()
    surveys.run_here(copy, progress=progress)
    assert progress.started["N1"] == (72, 72)
    assert not progress.chunks
    assert surveys.tree(copy.parent / "out") == surveys.tree(base / "out")


def test_the_same_run_gives_the_same_bytes(base: Path, copy: Path) -> None:
    """Zarr, FITS and PNG, in another folder, and with another number of rows in a chunk at least the same values."""
    shutil.rmtree(copy.parent / "out")
    surveys.run_here(copy)
    made = surveys.tree(copy.parent / "out")
    assert {Path(name).suffix for name in made} >= {".fits", ".png", ".json"}
    assert made == surveys.tree(base / "out")


# --- synthetic galaxies ---


def mock_survey(folder: Path, checkpoint: Path, **settings: Any) -> Path:
    cube = {"shape": [8, 8], "redshift": surveys.REDSHIFT, "ebv": 0.02} | settings
    products = {"residual": False, "figure": False}
    return surveys.write_survey(folder, [{"name": "M1", "mock": cube, "products": products}], checkpoint)


def test_a_synthetic_survey_gives_the_same_bytes_anywhere(tmp_path: Path, checkpoint: Path) -> None:
    trees = []
    for name in ("one", "two"):
        surveys.run_here(mock_survey(tmp_path / name, checkpoint))
        trees.append(surveys.tree(tmp_path / name / "out"))
    assert trees[0] == trees[1]
    (cube,) = (tmp_path / "one" / "out" / "mock").glob("*_DATACUBE.fits")
    made = cube.stat().st_mtime_ns
    (result,) = surveys.run_here(tmp_path / "one" / "survey.yaml")
    assert result.outcome == "skipped"
    assert cube.stat().st_mtime_ns == made, "the cube was made again"


def test_other_settings_or_templates_make_another_synthetic_cube(tmp_path: Path, checkpoint: Path) -> None:
    """An old cube must not be taken for what was asked for."""
    surveys.run_here(mock_survey(tmp_path, checkpoint))
    with pytest.raises(ConfigError, match=r"settings\.mock\.seed: 1 -> 2"):
        surveys.run_here(mock_survey(tmp_path, checkpoint, seed=2))
    other = surveys.write_checkpoint(tmp_path / "other.safetensors", seed=8)
    cubes = {path: path.read_bytes() for path in (tmp_path / "out" / "mock").glob("*_DATACUBE.fits")}
    assert len(set(cubes.values())) == 2
    progress = surveys.Recorder()
    surveys.run_here(mock_survey(tmp_path, other, seed=2), overwrite=True, progress=progress)
    assert any("making a synthetic cube" in message for message in progress.messages)


# --- compressed cubes ---


def test_a_compressed_cube_is_unpacked_once_and_not_kept(base: Path, tmp_path: Path, checkpoint: Path) -> None:
    packed = tmp_path / "cube.fits.gz"
    packed.write_bytes(gzip.compress((base / "cube.fits").read_bytes(), 1))
    survey = surveys.write_survey(tmp_path, [{"name": "N1", "cube": "cube.fits.gz"}], checkpoint)
    (planned,) = plan_survey(read_survey(survey))
    assert not (tmp_path / "out").exists(), "a plan unpacks nothing"
    assert planned.plan is not None
    (plain,) = plan_survey(read_survey(base / "survey.yaml"))
    assert plain.plan is not None
    assert (planned.plan.channels, planned.plan.ny, planned.plan.nx) == (plain.plan.channels, *SHAPE)
    assert planned.channels_in_file == plain.channels_in_file == surveys.CHANNELS
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.details
    assert not (tmp_path / "out" / ".scratch").exists()
    np.testing.assert_array_equal(maps_of(tmp_path / "out")["age_lw"], maps_of(base / "out")["age_lw"])
    with mock.patch("galprote.pipeline.readers.cubefile.unpack_gzip", side_effect=AssertionError("unpacked again")):
        (result,) = surveys.run_here(survey)
    assert result.outcome == "skipped", result.details


def test_the_unpacked_cube_of_a_failed_galaxy_is_kept(base: Path, tmp_path: Path, checkpoint: Path) -> None:
    """The next run would have to unpack it again."""
    packed = tmp_path / "cube.fits.gz"
    packed.write_bytes(gzip.compress((base / "cube.fits").read_bytes(), 1))
    survey = surveys.write_survey(tmp_path, [{"name": "N1", "cube": "cube.fits.gz"}], checkpoint)
    with mock.patch("galprote.workflows.publish._make_products", side_effect=OSError("torn")):
        surveys.run_here(survey)
    assert len(list((tmp_path / "out" / ".scratch" / "N1").iterdir())) == 1
    surveys.run_here(survey)
    assert not (tmp_path / "out" / ".scratch").exists()


@pytest.mark.parametrize("damage", ["truncated", "no cube"])
def test_a_plan_names_a_damaged_compressed_cube(base: Path, tmp_path: Path, checkpoint: Path, damage: str) -> None:
    packed = tmp_path / "cube.fits.gz"
    content = (base / "cube.fits").read_bytes()
    packed.write_bytes(gzip.compress(content)[:300] if damage == "truncated" else gzip.compress(content[:2880]))
    survey = surveys.write_survey(tmp_path, [{"name": "N1", "cube": "cube.fits.gz"}], checkpoint)
    (planned,) = plan_survey(read_survey(survey))
    assert planned.plan is None
    assert str(packed) in planned.problem
    assert {"truncated": "damaged or truncated gzip", "no cube": "there is no image"}[damage] in planned.problem


# --- failures ---


def test_one_galaxy_fails_and_the_others_are_finished(base: Path, tmp_path: Path, checkpoint: Path) -> None:
    """One cube is truncated from the start, one while the run is under way, one is intact."""
    content = (base / "cube.fits").read_bytes()
    (tmp_path / "short.fits").write_bytes(content[: len(content) // 3])
    (tmp_path / "shrinking.fits").write_bytes(content)
    names = {"A1": "short.fits", "A2": "shrinking.fits", "A3": str(base / "cube.fits")}
    small = {"residual": False, "fits": False, "figure": False}
    galaxies = [{"name": name, "cube": cube, "products": small} for name, cube in names.items()]
    survey = surveys.write_survey(tmp_path, galaxies, checkpoint)

    class Shrink(surveys.Recorder):
        def start(self, name: str, spaxels: int, done: int, what: str = "spaxels") -> None:
            if name == "A2":
                os.truncate(tmp_path / "shrinking.fits", 100_000)

    results = {result.name: result for result in surveys.run_here(survey, progress=Shrink())}
    assert {name: result.outcome for name, result in results.items()} == {"A1": "failed", "A2": "failed", "A3": "done"}
    assert "short.fits: truncated" in results["A1"].error
    assert "shrinking.fits: ended while" in results["A2"].error
    assert "Traceback" in results["A2"].details
    assert (tmp_path / "out" / "A3.zarr").is_dir()
    assert not (tmp_path / "out" / "A2.zarr").exists()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [(row["name"], row["outcome"]) for row in summary] == [("A1", "failed"), ("A2", "failed"), ("A3", "done")]


def test_what_had_to_be_assumed_is_said(base: Path, tmp_path: Path, checkpoint: Path) -> None:
    """A cube that was cut off just where its variances should begin looks like one without variances."""
    with fits.open(base / "cube.fits") as hdus:
        hdus[:2].writeto(tmp_path / "cut.fits")
    progress = surveys.Recorder()
    survey = surveys.write_survey(tmp_path, [{"name": "N1", "cube": "cut.fits"}], checkpoint)
    surveys.run_here(survey, progress=progress)
    starting, message, lacking = progress.messages
    assert starting == "Starting 1 worker"
    assert "no errors and no trust" in lacking  # of these weights
    assert message.startswith("N1: the header names variances in HDU STAT")
    with xr.open_zarr(tmp_path / "out" / "N1.zarr") as store:
        assert "STAT" in store.attrs["variance_note"]


def test_a_cube_that_does_not_fit_is_refused(base: Path, tmp_path: Path, checkpoint: Path) -> None:
    cube = str(base / "cube.fits")
    survey = surveys.write_survey(tmp_path, [{"name": "N1", "cube": cube}], checkpoint, chunks={"memory": "1GiB"})
    with pytest.raises(ConfigError, match=r"^N1: one worker with chunks of 1 row needs 1\..*allows 1\.00 GiB"):
        surveys.run_here(survey)


def test_everything_missing_is_named_before_anything_is_computed(tmp_path: Path, checkpoint: Path) -> None:
    galaxies = [
        {"name": "A1", "cube": "no.fits"},
        {"name": "A2", "cube": "nor.fits", "masks": {"files": ["mask.fits[DQ]"]}},
    ]
    survey = surveys.write_survey(tmp_path, galaxies, checkpoint)
    with pytest.raises(ConfigError) as error:
        surveys.run_here(survey)
    for text in ("A1: no such cube", "no.fits", "A2: no such cube", "nor.fits", "A2: no such mask", "mask.fits[DQ]"):
        assert text in str(error.value)
    assert not (tmp_path / "out").exists()


MISSING: dict[str, dict[str, Any]] = {
    "no such cube": {"cube": "no.fits"},
    "no such mask: {}/no.fits[DQ] (masks.files)": {"masks": {"files": ["no.fits[DQ]"]}},
    "no such mask: {}/no.csv (masks.stars.catalogue)": {"masks": {"stars": {"catalogue": "no.csv"}}},
    "no such mask: {}/no.reg (masks.regions)": {"masks": {"regions": ["no.reg"]}},
    "no such mask: {}/no.zarr (masks.trust.store)": {"masks": {"trust": {"store": "no.zarr"}}},
    "no such mask: {}/specMask (masks.spec_masks)": {"masks": {"spec_masks": ["specMask"]}},
}


@pytest.mark.parametrize("missing", MISSING)
def test_a_missing_file_is_its_galaxys_failure(base: Path, tmp_path: Path, checkpoint: Path, missing: str) -> None:
    """The others are computed, and another run finds the file when it is there."""
    cube = {"cube": str(base / "cube.fits"), "products": EVERYTHING}
    galaxies = [{"name": "N0"} | cube | MISSING[missing], {"name": "N1"} | cube]
    survey = surveys.write_survey(tmp_path, galaxies, checkpoint, chunks={"rows": 2})
    lost, done = surveys.run_here(survey)
    assert (lost.outcome, done.outcome) == ("failed", "done")
    assert missing.format(tmp_path) in lost.error
    assert "N0,,-1,-1,-1,1,no such" in (tmp_path / "out" / "failures.csv").read_text()
    assert surveys.tree(tmp_path / "out") == surveys.tree(base / "out")


def test_a_mask_may_have_brackets_in_its_name(base: Path, tmp_path: Path, checkpoint: Path) -> None:
    mask = tmp_path / "field[1]" / "mask.fits"
    mask.parent.mkdir()
    values = np.ones(SHAPE, dtype=np.uint8)
    values[0] = 0
    fits.PrimaryHDU(values).writeto(mask)
    galaxy = {"name": "N1", "cube": str(base / "cube.fits"), "masks": {"files": [str(mask)]}}
    survey = surveys.write_survey(tmp_path, [galaxy], checkpoint)
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done"
    assert result.fitted is not None
    assert 0 < result.fitted <= SHAPE[1]
    fits.PrimaryHDU(np.ones(SHAPE, dtype=np.uint8)).writeto(mask, overwrite=True)
    with pytest.raises(ConfigError, match="N1: the masks leave no spaxel"):
        surveys.run_here(survey, overwrite=True)
