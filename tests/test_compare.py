"""`compare`: known offsets, scatters and blobs come back; identical maps give zeros; files, figures and errors."""

import csv
import errno
import io
import json
from pathlib import Path
from threading import Thread
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from rich.console import Console

from galprote.model.errors import ConfigError
from galprote.pipeline.comparison import Pairs, compare_pairs, outlying, robust_sigma, running
from galprote.pipeline.maps import open_maps
from galprote.pipeline.outliers import find_outliers
from galprote.pipeline.reference_maps import ReferenceOptions
from galprote.workflows.comparison_figures import draw_comparison
from galprote.workflows.comparison_folder import comparison_folder
from galprote.workflows.comparison_report import comparison_dict, comparison_tables, write_tables
from galprote.workflows.drawing_style import default_style
from galprote.workflows.map_comparison import compare_maps
from tests.map_files import Array, sky_header, smooth_maps, write_images, write_store
from tests.surveys import call

SHAPE = (40, 50)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def store(folder: Path) -> Path:
    return write_store(folder / "NGC1.zarr", smooth_maps(SHAPE), sky_header(SHAPE))


def pairs(n: int = 20_000, *, offset: float = 0.3, scatter: float = 0.2, error: float = 0.2) -> Pairs:
    rng = np.random.default_rng(5)
    theirs = rng.uniform(8, 10, n)
    ours = theirs + offset + scatter * rng.standard_normal(n)
    return Pairs(ours, theirs, np.full(n, error), rng.uniform(5, 60, n))


# --- numbers ---


def test_offset_and_scatter_come_back() -> None:
    """To four times their statistical errors; Gaussian errors of the right size cover 68 and 95 %."""
    everything, *split = compare_pairs(pairs(offset=0.3), "spaxels")
    n = everything.n
    assert everything.mean == pytest.approx(0.3, abs=4 * 0.2 / n**0.5)
    assert everything.median == pytest.approx(0.3, abs=4 * 1.25 * 0.2 / n**0.5)
    assert everything.sigma == pytest.approx(0.2, abs=4 * 0.2 / (2 * n) ** 0.5)
    assert everything.robust_sigma == pytest.approx(0.2, abs=4 * 1.65 * 0.2 / (2 * n) ** 0.5)
    assert everything.rms == pytest.approx((0.3**2 + 0.2**2) ** 0.5, abs=0.006)
    assert everything.expected == 0.2
    assert everything.correlation == pytest.approx((1 / 3) ** 0.5 / (1 / 3 + 0.04) ** 0.5, abs=0.01)
    assert sum(row.n for row in split) == n
    assert [row.snr_range for row in split] == [(0, 10), (10, 20), (20, 40), (40, np.inf)]
    centred = compare_pairs(pairs(offset=0.0), "spaxels")[0]
    assert centred.within_1 == pytest.approx(0.683, abs=0.015)
    assert centred.within_2 == pytest.approx(0.954, abs=0.007)


def test_the_running_difference_follows_a_slope() -> None:
    """Ours is drawn to the middle by a tenth: the difference runs from +0.1 to -0.1, within sigma of 0.05."""
    rng = np.random.default_rng(1)
    theirs = rng.uniform(8, 10, 30_000)
    found = running(Pairs(theirs - 0.1 * (theirs - 9) + 0.05 * rng.standard_normal(30_000), theirs, theirs, theirs))
    assert len(found.centre) == 24
    assert found.n.sum() == 30_000
    np.testing.assert_allclose(found.median, -0.1 * (found.centre - 9), atol=0.01)
    np.testing.assert_allclose(found.high - found.low, 0.1, atol=0.012)


def test_pairs_of_one_value_stay_together() -> None:
    """Bins have one value in many spaxels: no part begins in the middle of one."""
    theirs = np.repeat([1.0, 2.0, 3.0], [500, 3, 400])
    found = running(Pairs(theirs + 1, theirs, theirs, theirs))
    assert found.n.sum() == len(theirs)
    assert set(found.n) <= {500, 503, 403, 3, 400}
    assert len(running(Pairs(*[np.zeros(0)] * 4)).centre) == 0


def test_outliers_exceed_both_sigma_and_error() -> None:
    difference = np.array([*np.linspace(-0.1, 0.1, 99), 1.0])
    assert np.flatnonzero(outlying(difference, np.full(100, 0.1))).tolist() == [99]
    assert not outlying(difference, np.full(100, 0.5)).any()  # no more than two errors
    assert np.flatnonzero(outlying(difference, np.full(100, np.nan))).tolist() == [99]  # no errors known
    assert not outlying(np.zeros(9), np.zeros(9)).any()
    assert np.isnan(robust_sigma(np.zeros(0)))


def test_pairs_without_an_error_count_for_themselves_only() -> None:
    """A spaxel whose errors are 0 says nothing of the shares within them; the others still do."""
    known = pairs(offset=0.0)
    error = known.error.copy()
    error[::1000] = 0.0
    found = compare_pairs(Pairs(known.ours, known.theirs, error, known.snr), "spaxels")[0]
    assert found.within_1 == pytest.approx(0.683, abs=0.015)
    assert found.within_2 == pytest.approx(0.954, abs=0.007)


# --- outliers, named ---


def test_a_planted_blob_is_named_at_its_place() -> None:
    maps: dict[str, Any] = smooth_maps(SHAPE)
    maps["status"][20, 33] = 4096 | 16384  # a star beside it
    theirs = maps["age_lw"].astype(float)
    rng = np.random.default_rng(2)
    ours = theirs + 0.05 * rng.standard_normal(SHAPE)
    ours[18:22, 29:32] += 1.0
    ours[19, 30] += 0.5
    ours[35, 5] -= 0.9
    ours[20, 33] = np.nan
    maps["status"][18:22, 29:32] |= 1024
    found = find_outliers(ours, theirs, np.full(SHAPE, 0.1), maps)
    first, second = found.groups[:2]
    assert (first.spaxels, first.y, first.x) == (12, 19, 30)
    assert first.difference == pytest.approx(1.0 + 0.5 / 12, abs=0.06)
    assert first.in_errors == pytest.approx(10.4, abs=0.6)
    assert first.flags == ("age_boundary",)
    assert "beside spaxels flagged star_like" in first.remarks
    assert (second.y, second.x, second.spaxels) == (35, 5, 1)
    assert second.difference < 0
    assert second.remarks == ("faint, S/N 8",)
    assert (found.labels[18:22, 29:32] == 1).all()
    assert np.isnan(first.ra)


# --- the command ---


def altered(**changes: float) -> dict[str, Array]:
    maps = smooth_maps(SHAPE)
    for name, value in changes.items():
        maps[name] = (maps[name] + value).astype(np.float32)
    return maps


def test_two_runs(store: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another run is 0.2 dex older and has a tenth of a magnitude less; a spaxel is only ours, one a blob."""
    maps = altered(age_lw=-0.2, av=0.1)
    maps["age_lw"][20, 20] = np.nan
    maps["age_lw"][30:32, 10:12] += 1.5
    maps["status"][10, 10] |= 4096
    other = write_store(folder / "other.zarr", maps, sky_header(SHAPE))
    code, out, _ = call(capsys, "compare", store, "--reference", other, "--quantity", "age_lw", "--quantity", "av")
    assert code == 0
    assert "A_V (mag)" in out
    assert "1 flagged by the reference, 1 without a value in the reference" in out
    made = folder / "compare" / "NGC1-vs-other"
    assert sorted(path.name for path in made.iterdir()) == [
        "age_lw.png", "av.png", "comparison.csv", "comparison.json", "outliers.csv",
    ]  # fmt: skip
    record = json.loads((made / "comparison.json").read_text())
    age, av = (record["quantities"][name]["statistics"][0] for name in ("age_lw", "av"))
    assert age["median"] == pytest.approx(0.2, abs=1e-5)
    assert age["n"] == SHAPE[0] * SHAPE[1] - 12 - 2
    assert age["clipped_mean"] == pytest.approx(0.2, abs=1e-5)
    assert age["outliers"] == 4
    assert av["mean"] == pytest.approx(-0.1, abs=1e-6)
    assert av["expected"] == pytest.approx(0.1 * 2**0.5, abs=1e-6)  # both have errors
    with (made / "outliers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["quantity"], row["y"], row["x"]) for row in rows} == {
        ("age_lw", y, x) for y in ("30", "31") for x in ("10", "11")
    }
    assert float(rows[0]["difference"]) == pytest.approx(-1.3, abs=1e-5)
    assert float(rows[0]["dec"]) == pytest.approx(14.4 + (int(rows[0]["y"]) - 19.5) * 0.2 / 3600, abs=1e-6)
    with Image.open(made / "age_lw.png") as picture:
        assert picture.size[0] > 1500
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 200


def test_identical_runs_differ_by_nothing(store: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compare_maps(store, store, ReferenceOptions())
    assert len(found.compared) == 8
    for item in found.compared:
        everything = item.statistics[0]
        assert everything.n == SHAPE[0] * SHAPE[1] - 12
        assert everything.mean == everything.sigma == everything.rms == everything.outliers == 0
        assert item.outliers.groups == ()
    words = ("--quantity", "ebv_stars", "--output", folder / "same", "--json")
    code, out, _ = call(capsys, "compare", store, "--reference", store, *words)
    assert code == 0
    record = json.loads(out)
    assert record["quantities"]["ebv_stars"]["statistics"][0]["rms"] == 0
    assert record == json.loads((folder / "same" / "comparison.json").read_text())


def test_binned_references_count_each_bin_once(store: Path, folder: Path) -> None:
    """The reference is ours, averaged over bins by light: per bin nothing is left, per spaxel what varies inside."""
    maps = smooth_maps(SHAPE)
    bins = (np.mgrid[: SHAPE[0], : SHAPE[1]][0] // 8) * 10 + np.mgrid[: SHAPE[0], : SHAPE[1]][1] // 5
    good = maps["status"] == 0
    weight = np.where(good, maps["flux"], 0.0).astype(float)
    mean = np.bincount(bins.ravel(), np.nan_to_num(weight * maps["age_lw"]).ravel()) / np.bincount(
        bins.ravel(), weight.ravel()
    )
    images = {"AGE_LW": (mean[bins], "dex(yr)"), "BIN_ID": (bins.astype(np.int32), "")}
    path = write_images(folder / "binned.fits", images, sky_header(SHAPE))
    (item,) = compare_maps(store, path, ReferenceOptions()).compared
    spaxels, per_bin = (next(row for row in item.statistics if row.places == what) for what in ("spaxels", "bins"))
    assert per_bin.n == len(np.unique(bins))
    assert per_bin.rms < 1e-6
    assert spaxels.sigma > 0.05
    assert spaxels.n == good.sum()
    # 40 independent spaxels of 0.1 dex and about the same light
    assert per_bin.expected == pytest.approx(0.1 / 40**0.5, rel=0.1)


@pytest.mark.parametrize("binned", [False, True])
def test_errors_of_bins_are_those_of_each_side(tmp_path: Path, binned: bool) -> None:
    """400 bins of 25: the reference has one value a bin and its error, 0.1 dex; ours 0.2 dex a spaxel or a bin."""
    shape = (100, 100)
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:100, :100]
    bins = (y // 5) * 20 + x // 5
    theirs = (9.0 + 0.1 * rng.standard_normal(400))[bins]
    ours = 9.0 + 0.2 * (rng.standard_normal(400)[bins] if binned else rng.standard_normal(shape))
    flat = {"age_lw_error": 0.2, "flux": 1.0, "snr": 20.0, "trust": 0.5}
    maps = {name: np.full(shape, value, np.float32) for name, value in flat.items()}
    maps |= {"age_lw": ours.astype(np.float32), "status": np.zeros(shape, np.int32)}
    store = write_store(tmp_path / "N.zarr", maps, sky_header(shape))
    images = {"AGE_LW": (theirs, "log(yr)"), "AGE_LW_ERR": (np.full(shape, 0.1), ""), "BIN_ID": (bins, "")}
    path = write_images(tmp_path / "r.fits", images, sky_header(shape))
    (item,) = compare_maps(store, path, ReferenceOptions()).compared
    per_bin = next(row for row in item.statistics if row.places == "bins")
    assert per_bin.n == 400
    assert per_bin.expected == pytest.approx(np.hypot(0.2 if binned else 0.04, 0.1), rel=1e-3)
    assert per_bin.sigma == pytest.approx(per_bin.expected, rel=0.12)
    assert per_bin.within_1 == pytest.approx(0.683, abs=0.07)  # three standard deviations of 400


def test_maps_without_snr_trust_or_flux(store: Path, tmp_path: Path) -> None:
    """What a file of some maps lacks is left empty; bins are then averaged by area."""
    kept = ("age_lw", "age_lw_error", "status")
    maps = {name: values for name, values in smooth_maps(SHAPE).items() if name in kept}
    maps["age_lw"][20, 20] += 2.0
    few = write_store(tmp_path / "FEW.zarr", maps, sky_header(SHAPE), bin_id=np.mgrid[:40, :50][0].astype(np.int32))
    found = compare_maps(few, store, ReferenceOptions())
    (item,) = found.compared
    assert [row.places for row in item.statistics] == ["spaxels", "bins"]  # not split by S/N
    assert item.outliers.groups[0].difference == pytest.approx(2.0, abs=1e-5)
    record = comparison_dict(found)
    assert record["quantities"]["age_lw"]["outlier_groups"][0]["snr"] is None
    write_tables(found, record, tmp_path)
    (row,) = csv.DictReader((tmp_path / "outliers.csv").read_text().splitlines())
    assert (row["snr"], row["trust"], row["y"]) == ("", "", "20")
    assert len(comparison_tables(found)) > 1


def test_no_spaxel_in_common(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was fitted, or the reference has values elsewhere only: said, and no folder is made."""
    maps = smooth_maps(SHAPE)
    elsewhere = np.full(SHAPE, np.nan)
    elsewhere[0, 0] = 9.0
    path = write_images(folder / "elsewhere.fits", {"AGE_LW": (elsewhere, "dex(yr)")}, sky_header(SHAPE))
    unfitted = write_store(folder / "UNFITTED.zarr", maps | {"status": np.full(SHAPE, 4, np.int32)}, sky_header(SHAPE))
    for ours, reference in ((folder / "NGC1.zarr", path), (unfitted, folder / "NGC1.zarr")):
        code, _, error = call(capsys, "compare", ours, "--reference", reference)
        assert code == 2
        assert "no spaxel has values in both" in error
    assert not (folder / "compare" / "UNFITTED-vs-NGC1").exists()


@pytest.mark.parametrize("shape", [(1, 40), (40, 2)])
def test_slits_without_a_wcs_or_errors(shape: tuple[int, int], tmp_path: Path) -> None:
    maps = {name: values for name, values in smooth_maps((60, 60)).items() if not name.endswith("_error")}
    part = slice(20, 20 + shape[0]), slice(20, 20 + shape[1])
    ours = write_store(tmp_path / "SLIT.zarr", {name: values[part] for name, values in maps.items()})
    reference = write_images(tmp_path / "x.fits", {"Z_LW": (np.full(shape, 0.1), "dex")})
    found = compare_maps(ours, reference, ReferenceOptions())
    everything = found.compared[0].statistics[0]
    assert everything.n == shape[0] * shape[1]
    assert np.isnan(everything.expected)
    assert np.isnan(everything.correlation)  # the reference is constant
    drawing = Thread(target=draw_comparison, args=(found, found.compared[0], tmp_path / "x.png"))
    with default_style():  # somebody else draws: matplotlib's settings are the process's
        drawing.start()
        drawing.join(0.1)
        assert drawing.is_alive()
    drawing.join()
    assert [path.name for path in tmp_path.glob("x.png*")] == ["x.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --reference FILE, or --ppxf N"),
        (("--reference", "nothing.fits"), "nothing.fits: no such file"),
        (("--reference", "x", "--unit", "age_lw"), "--unit age_lw: expected NAME=VALUE, such as age_lw=Gyr"),
        (("--reference", "x", "--map", "av=A", "--map", "av=B"), "--map: av is there twice"),
        (("--reference", "STORE", "--output", "STORE/zarr.json"), "is a file; name a folder"),
    ],
)
def test_wrong_words(store: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    code, _, error = call(capsys, "compare", store, *(word.replace("STORE", str(store)) for word in words))
    assert code == 2
    assert message in error


def test_another_galaxy_is_told(store: Path, folder: Path) -> None:
    assert not any("galaxy" in note for note in compare_maps(store, store, ReferenceOptions()).reference.notes)
    other = write_store(folder / "NGC2.zarr", smooth_maps(SHAPE), sky_header(SHAPE))
    (note,) = (note for note in compare_maps(store, other, ReferenceOptions()).reference.notes if "galaxy" in note)
    assert note.startswith("reference: galaxy NGC2, z = ")
    assert "ours: NGC1, z = " in note


@pytest.mark.parametrize("width", [80, 100, 132])
def test_tables_fit_the_terminal_and_numbers_are_whole(store: Path, width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    found = compare_maps(store, store, ReferenceOptions())
    for part in comparison_tables(found, width):
        console.print(part, soft_wrap=isinstance(part, str))
    text = console.file.getvalue()
    assert "…" not in text
    assert "+0.000" in text
    assert max(len(line) for line in text.splitlines() if line.startswith(("│", "┃"))) <= width
    assert ("corre-" in text) == (width >= 132)


def with_cards(maps: xr.Dataset) -> xr.Dataset:
    """Give maps all that a FITS header says."""
    record = json.loads(maps.attrs["provenance"]) | {"settings": {}, "precision": "float32", "fingerprint": "f"}
    record["input"] |= {"bytes": 1, "header_sha256": "h"}
    words = dict.fromkeys(("foreground_law", "foreground_source", "masked_observed", "masked_rest"), "")
    numbers = dict.fromkeys(("foreground_ebv", "foreground_r_v", "masked_fraction"), 0.0)
    return maps.assign_attrs(provenance=json.dumps(record), **words, **numbers)


@pytest.mark.parametrize("part", [(slice(8, 31), slice(12, 40)), (slice(30, 9, -1), slice(None, None, -1))])
def test_a_cut_differs_from_its_own_cube_by_nothing(store: Path, tmp_path: Path, part: tuple[slice, slice]) -> None:
    """A slice has the pixels of the cube that it was cut from, flipped or not, as either of the two."""
    cut = with_cards(open_maps(store)).isel(y=part[0], x=part[1]).galprote.to_fits(tmp_path / "cut_MAPS.fits")
    n = int((smooth_maps(SHAPE)["status"][part] == 0).sum())
    for ours, reference in ((cut, store), (store, cut)):
        found = compare_maps(ours, reference, ReferenceOptions())
        for item in found.compared:
            everything = item.statistics[0]
            assert (everything.n, everything.rms) == (n, 0)
    ours = open_maps(cut)
    found = compare_maps(cut, store, ReferenceOptions(quantities=("age_lw",)))
    assert found.wcs is not None
    sky = found.wcs.pixel_to_world(2, 5).icrs
    assert sky.ra.deg == pytest.approx(float(ours["ra"][5, 2]), abs=1e-8)
    assert sky.dec.deg == pytest.approx(float(ours["dec"][5, 2]), abs=1e-8)


# --- the folder ---


def test_runs_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    """Named after the other run's folder; where that is the same, too, the second comparison is refused."""
    ours = tmp_path / "mine" / "N.zarr"
    for run in ("mine", "a/other", "b/other"):
        (tmp_path / run / "N.zarr").mkdir(parents=True)
    place = ours.parent / "compare"
    assert comparison_folder(None, ours, tmp_path / "a" / "other" / "N.zarr") == place / "N-vs-other-N"
    assert comparison_folder(None, ours, tmp_path / "a" / "other" / "N_MAPS.fits") == place / "N-vs-other-N_MAPS"
    assert comparison_folder(None, ours, ours.parent / "N_MAPS.fits") == place / "N-vs-N_MAPS"
    assert comparison_folder(None, ours, tmp_path / "N_TRUTH.fits.gz") == place / "N-vs-N_TRUTH"
    assert comparison_folder(None, ours, None) == place / "N-vs-ppxf"
    assert not place.exists()  # nothing is left of the trial
    folder = place / "N-vs-other-N"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps({"reference": str(tmp_path / "a" / "other" / "N.zarr")}))
    assert comparison_folder(None, ours, tmp_path / "a" / "other" / "N.zarr") == folder
    with pytest.raises(ConfigError, match=r"N-vs-other-N: has the comparison with .*a/other/N\.zarr; name another"):
        comparison_folder(None, ours, tmp_path / "b" / "other" / "N.zarr")
    assert comparison_folder(folder, ours, tmp_path / "b" / "other" / "N.zarr") == folder


def test_figures_of_an_earlier_comparison_go(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that its record names; what else is there stays."""
    (tmp_path / "comparison.json").write_text('{"reference": "x", "quantities": {"av": {}, "../up": {}}}')
    for name in ("av.png", "mine.png", "t50.png", "ppxf.csv"):
        (tmp_path / name).touch()
    words = ("--reference", store, "--quantity", "age_lw", "--output", tmp_path, "--quiet")
    assert call(capsys, "compare", store, *words)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "age_lw.png", "comparison.csv", "comparison.json", "mine.png", "outliers.csv", "ppxf.csv", "t50.png",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_written_is_refused_before_computing(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readonly = OSError(errno.EROFS, "Read-only file system")
    with (
        mock.patch.object(Path, "touch", side_effect=readonly),
        mock.patch("galprote.workflows.map_comparison.compare_maps", side_effect=AssertionError("was computed")),
    ):
        code, _, error = call(capsys, "compare", store, "--reference", store, "--output", tmp_path / "a" / "b")
    assert code == 2
    assert f"{tmp_path}/a/b: cannot be written: Read-only file system" in error
    assert not (tmp_path / "a").exists()


def test_a_full_disk_is_said_with_its_folder(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")  # of a write: it has no name
    with mock.patch("galprote.workflows.comparison_report.write_text", side_effect=full):
        code, _, error = call(capsys, "compare", store, "--reference", store, "--output", tmp_path / "o")
    assert code == 2
    assert f"{tmp_path}/o: No space left on device" in error
