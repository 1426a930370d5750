"""`compare`: identical maps give zeros, bins count once; files, figures, tables and errors."""

import csv
import io
import json
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from rich.console import Console

from galprote.pipeline.maps import open_maps
from galprote.pipeline.reference_maps import ReferenceOptions
from galprote.workflows.comparison_figures import comparison_figure, draw_comparison
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


def test_a_figure_has_the_panels_of_the_paper_with_their_numbers(store: Path, folder: Path) -> None:
    """Maps, difference, PDFs, running difference: a run that is 0.2 dex younger, but for a blob of 36 spaxels."""
    maps = altered(age_lw=-0.2)
    maps["age_lw"] += np.random.default_rng(1).normal(0, 0.01, SHAPE).astype(np.float32)
    maps["age_lw"][10:16, 10:16] += 1.5
    found = compare_maps(store, write_store(folder / "blob.zarr", maps, sky_header(SHAPE)), ReferenceOptions())
    item = next(item for item in found.compared if item.quantity.name == "age_lw")
    axes = {one.get_title(loc="left"): one for one in comparison_figure(found, item).axes}
    assert {"galprote", "galprote − reference", "Distributions: mean ± sigma", "Difference: mean ± sigma"} < set(axes)
    difference = np.ma.filled(axes["galprote − reference"].images[-1].get_array().astype(float), np.nan)
    assert np.nanmedian(difference) == pytest.approx(0.2, abs=2e-3)
    assert np.nanmin(difference) < -1.2
    share = item.statistics[0].outliers / item.statistics[0].n
    assert share == pytest.approx(36 / item.statistics[0].n)
    every, kept = (patch.get_data() for patch in axes["Difference: mean ± sigma"].patches)
    assert np.sum(every.values * np.diff(every.edges)) == pytest.approx(1, abs=2e-3)
    assert np.sum(kept.values * np.diff(kept.edges)) == pytest.approx(1 - share, abs=2e-3)
    assert kept.edges[np.argmax(kept.values)] == pytest.approx(0.2, abs=0.05)
    words = [text.get_text() for text in axes["Difference: mean ± sigma"].get_legend().get_texts()]
    assert words[1] == "no outliers\n+0.20 ± 0.01"
    (median,) = (line for line in axes["Running difference"].lines if line.get_label() == "median")
    assert np.median(median.get_ydata()) == pytest.approx(0.2, abs=5e-3)


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
