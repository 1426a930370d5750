"""`compare`: known offsets, scatters and blobs come back; identical maps give zeros; files, figures and errors."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from galprote.pipeline.comparison import Pairs, compare_pairs, outlying, robust_sigma, running
from galprote.pipeline.outliers import find_outliers
from galprote.pipeline.reference_maps import ReferenceOptions
from galprote.workflows.comparison_figures import draw_comparison
from galprote.workflows.comparison_report import comparison_tables
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
    draw_comparison(found, found.compared[0], tmp_path / "x.png")
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
