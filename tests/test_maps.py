"""Maps in xarray: opened from stores and FITS, sliced in every way, cut out, and written back."""

import gzip
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from galprote.model.errors import GalproteError
from galprote.pipeline import open_bins, open_maps
from galprote.pipeline.map_wcs import SkyError, unsliced_wcs
from galprote.pipeline.maps import MapsError
from galprote.pipeline.products import MAPS
from galprote.pipeline.quality import UNRELIABLE, Status
from galprote.pipeline.sky_places import angular_size, sky_place
from tests import cubes, surveys
from tests.discs import CENTRE, disc_maps, distorted_wcs, sky_wcs

SHAPE = (12, 8)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A survey of the same galaxy by spaxels (N1), by bins (B1), and without a sky (W1)."""
    folder = tmp_path_factory.mktemp("maps")
    cube = surveys.write_cube(folder / "cube.fits", SHAPE, empty_rows=slice(5, 6), faint=1)
    with fits.open(cube) as hdus:
        cards = {key: value for key, value in cubes.muse_cards(surveys.FIRST_CHANNEL).items() if key[-1] not in "12"}
        cards = {key: value for key, value in cards.items() if key[-2:] not in ("_1", "_2")}
        cubes.write_muse_cube(folder / "nowhere.fits", hdus["DATA"].data, hdus["STAT"].data, cards)
    products = {"figure": False, "residual": True, "grid": True}
    binning = {"method": "square", "size": 3, "covariance": 0.4, "snr_min": 3}
    galaxies = [
        {"name": "N1", "cube": str(cube), "products": products},
        {"name": "B1", "cube": str(cube), "products": products, "binning": binning},
        {"name": "W1", "cube": str(folder / "nowhere.fits"), "products": {"figure": False}, "pixel_scale_arcsec": 0.2},
    ]
    results = surveys.run_here(surveys.write_survey(folder, galaxies, checkpoint))
    assert [result.outcome for result in results] == 3 * ["done"], results
    return folder / "out"


@pytest.fixture(scope="module")
def maps(out: Path) -> xr.Dataset:
    return open_maps(out / "N1.zarr").load()


# --- opening ---


def test_a_store_opens_lazily_with_its_units_and_words(out: Path) -> None:
    maps = open_maps(out / "N1.zarr")
    assert all(array.chunks is not None for array in maps.data_vars.values())
    assert maps.sizes["wavelength"] == 948
    for product in MAPS:
        assert maps[product.name].attrs["long_name"] == product.long_name
    assert maps["age_lw"].attrs["units"] == "dex(yr)"
    assert "unreliable_bits" in maps["status"].attrs
    np.testing.assert_array_equal(maps["y"], np.arange(SHAPE[0]))
    np.testing.assert_array_equal(maps["x"], np.arange(SHAPE[1]))
    assert "N1" in repr(maps)


def test_paths_as_people_write_them(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(out / "N1.zarr", tmp_path / "N1.zarr")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (str(tmp_path / "N1.zarr") + "/", "~/N1.zarr", tmp_path, "~"):
        assert open_maps(path).attrs["galaxy"] == "N1"
    assert open_bins(out / "B1.zarr").sizes["bin"] > 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder, out: out, "several stores, B1.zarr, N1.zarr, W1.zarr: name one"),
        (lambda folder, out: folder, "a folder with no store"),
        (lambda folder, out: out / "N2.zarr", "no store of galprote.*there is B1.zarr, N1.zarr"),
        (lambda folder, out: out / "N1", "there is B1.zarr, N1.zarr"),
        (lambda folder, out: folder / "N1.partial" / "N1.zarr", "not finished"),
        (lambda folder, out: touch(folder / "notes.txt", b"maps"), "does not start with SIMPLE.*; expected NAME_MAPS"),
        (lambda folder, out: touch(folder / "a.zarr" / "zarr.json", b"{}").parent, "zarr.json cannot be read"),
        (lambda folder, out: touch(folder / "a.zarr" / "zarr.json", b'{"attributes": {}}').parent, "not of galprote"),
        (lambda folder, out: out.parent / "cube.fits", "not maps of galprote: expected NAME_MAPS.fits"),
    ],
)
def test_what_is_not_maps_says_what_was_wanted(
    make: Callable[[Path, Path], Path], words: str, out: Path, tmp_path: Path
) -> None:
    with pytest.raises(MapsError, match=words):
        open_maps(make(tmp_path, out))


def touch(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_unfinished_and_unbinned_galaxies_say_so(out: Path, tmp_path: Path) -> None:
    (tmp_path / "N3.partial").mkdir()
    with pytest.raises(MapsError, match="run the survey to its end"):
        open_maps(tmp_path / "N3.zarr")
    with pytest.raises(MapsError, match="were not binned"):
        open_bins(out / "N1.zarr")
    with pytest.raises(MapsError, match="in the store beside it"):
        open_bins(out / "B1_MAPS.fits")


# --- FITS ---


@pytest.mark.parametrize("name", ["N1", "B1", "W1"])
def test_fits_gives_what_the_store_gives(name: str, out: Path) -> None:
    store, found = open_maps(out / f"{name}.zarr"), open_maps(out / f"{name}_MAPS.fits")
    assert set(found.data_vars) == {name for name in store.data_vars if store[name].dims == ("y", "x")}
    assert ("ra" in found.coords) == (name != "W1")
    for variable in found.data_vars:
        assert found[variable].dtype == store[variable].dtype
        np.testing.assert_array_equal(found[variable].values, store[variable].values)
        assert found[variable].attrs == store[variable].attrs
    for coordinate in found.coords:
        np.testing.assert_allclose(found[coordinate], store[coordinate], rtol=0, atol=1e-10)
        assert found[coordinate].attrs == store[coordinate].attrs
    same = set(found.attrs) - {"provenance", "wcs_header", "opened_from"}
    assert {"galaxy", "redshift", "flux_unit", "masked_rest", "binning", "foreground_ebv", "source"} <= same
    for key in same:
        assert found.attrs[key] == store.attrs[key], key
    np.testing.assert_array_equal(found.galprote.good(), store.galprote.good())


@pytest.mark.parametrize("name", ["N1", "B1", "W1"])
@pytest.mark.parametrize("source", ["N1.zarr", "N1_MAPS.fits"])
def test_all_maps_give_the_file_of_the_run_byte_by_byte(name: str, source: str, out: Path, tmp_path: Path) -> None:
    written = open_maps(out / source.replace("N1", name)).galprote.to_fits(tmp_path / "maps.fits")
    assert written.read_bytes() == (out / f"{name}_MAPS.fits").read_bytes()


def test_compressed_and_damaged_files(out: Path, tmp_path: Path) -> None:
    content = (out / "N1_MAPS.fits").read_bytes()
    packed, plain = tmp_path / "N1_MAPS.fits.gz", open_maps(out / "N1_MAPS.fits")
    packed.write_bytes(gzip.compress(content))
    xr.testing.assert_identical(open_maps(packed).assign_attrs(opened_from=""), plain.assign_attrs(opened_from=""))
    with pytest.raises(MapsError, match="no map STATUS: a file of cubes, or damaged"):
        open_maps(touch(tmp_path / "half.fits", content[: len(content) // 2]))


@pytest.mark.parametrize(
    "where",
    [
        {"y": slice(2, 9), "x": slice(1, 5)},
        {"y": slice(10, 2, -3), "x": slice(1, 8, 2)},
        {"y": 4},
        {"y": 3, "x": 2},
        {"x": slice(3, 4)},
    ],
)
def test_a_slice_comes_back_from_fits(where: dict[str, Any], maps: xr.Dataset, tmp_path: Path) -> None:
    part = maps.isel(where)
    path = part.galprote.to_fits(tmp_path / "part.fits")
    found = open_maps(path)
    for dim in ("y", "x"):
        np.testing.assert_array_equal(found[dim], np.atleast_1d(part[dim]))
    for name in found.data_vars:
        np.testing.assert_array_equal(found[name].values, np.atleast_1d(part[name].values).reshape(found[name].shape))
        assert found[name].attrs == part[name].attrs
    np.testing.assert_allclose(found["ra"].values.ravel(), part["ra"].values.ravel(), rtol=0, atol=1e-10)
    with fits.open(path) as hdus:  # as every other program sees it
        ny, nx = hdus["AGE_LW"].shape
        x, y = np.meshgrid(np.arange(nx), np.arange(ny))
        plain = WCS(hdus["AGE_LW"].header).pixel_to_world(x, y)
    assert plain.separation(SkyCoord(found["ra"], found["dec"], unit="deg")).max() < 1e-6 * u.arcsec


def test_maps_on_a_distorted_image_come_back_from_fits(maps: xr.Dataset, tmp_path: Path) -> None:
    target = distorted_wcs()
    target.wcs.crval = maps.galprote.wcs.wcs.crval
    laid = maps.galprote.reproject_to(target, "age_lw")
    for part in (laid, laid.isel(y=slice(25, 2, -2), x=slice(3, 25, 3))):
        found = open_maps(part.galprote.to_fits(tmp_path / "part.fits", overwrite=True))
        wanted = target.pixel_to_world(*np.meshgrid(part["x"], part["y"]))
        assert found.galprote.sky().separation(wanted).max() < 1e-6 * u.arcsec
        x, y = np.meshgrid(np.arange(part.sizes["x"]), np.arange(part.sizes["y"]))
        assert found.galprote.wcs.pixel_to_world(x, y).separation(wanted).max() < 1e-6 * u.arcsec


def test_some_maps_and_maps_of_ones_own(maps: xr.Dataset, tmp_path: Path) -> None:
    some = maps[["age_lw", "status", "residual"]].assign(young=maps["age_lw"] < 9, count=maps["status"] * 0 + 3)
    some["young"].attrs = {"long_name": "younger than a Gyr"}
    hdus = some.galprote.to_fits()
    assert [hdu.name for hdu in hdus[1:]] == ["AGE_LW", "STATUS", "YOUNG", "COUNT"]
    assert hdus["AGE_LW"].header["BUNIT"] == "dex(yr)"
    hdus.writeto(tmp_path / "some.fits")
    found = open_maps(tmp_path / "some.fits")
    np.testing.assert_array_equal(found["young"], some["young"])
    assert found["young"].attrs["long_name"] == "younger than a Gyr"


def test_nothing_is_overwritten_and_nothing_half_written(maps: xr.Dataset, tmp_path: Path) -> None:
    touch(tmp_path / "maps.fits", b"mine")
    with pytest.raises(MapsError, match="overwrite=True"):
        maps.galprote.to_fits(tmp_path / "maps.fits")
    assert (tmp_path / "maps.fits").read_bytes() == b"mine"
    maps.galprote.to_fits(tmp_path / "maps.fits", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps.fits"]
    with pytest.raises(MapsError, match="there is no folder"):
        maps.galprote.to_fits(tmp_path / "no" / "maps.fits")
    with pytest.raises(MapsError, match="lost its attributes"):
        maps.drop_attrs().galprote.to_fits()
    with pytest.raises(MapsError, match="complex64 cannot be written"):
        maps.assign(odd=maps["age_lw"].astype("complex64")).galprote.to_fits()


# --- slices ---

slices = st.builds(
    lambda start, length, step: np.arange(20)[start : start + length][::step],
    st.integers(0, 18), st.integers(1, 20), st.sampled_from([1, 2, 3, -1, -2]),
)  # fmt: skip


@settings(max_examples=15)
@given(y=slices, x=slices, angle=st.floats(-180, 180), parity=st.sampled_from([-1.0, 1.0]))
def test_the_wcs_is_that_of_the_spaxels_that_are_left(y: Any, x: Any, angle: float, parity: float) -> None:
    whole = disc_maps((20, 20), angle=angle, parity=parity)
    part = whole.isel(y=y, x=x)
    rows, columns = np.mgrid[: len(y), : len(x)]
    found = part.galprote.wcs.pixel_to_world(columns, rows)
    assert found.separation(part.galprote.sky()).max() < 1e-6 * u.arcsec
    assert part.galprote.wcs.array_shape == (len(y), len(x))
    again = part.isel(y=slice(None, None, -1))
    assert again.galprote.wcs.pixel_to_world(0, len(y) - 1).separation(found[0, 0]) < 1e-6 * u.arcsec
    place = part.galprote.sky()[-1, 0]
    row, column = part.galprote.pixel(place)
    np.testing.assert_allclose((row, column), (y[-1], x[0]), atol=1e-5)
    found = part.sel(y=row + 0.4, x=column - 0.4, method="nearest", tolerance=0.5)  # as the page has it
    assert (int(found["y"]), int(found["x"])) == (y[-1], x[0])
    beside = SkyCoord(place.ra, place.dec + 1 * u.deg)
    row, column = part.galprote.pixel(beside)
    with pytest.raises(KeyError, match="not all values found"):
        part.sel(y=row, x=column, method="nearest", tolerance=0.5)


@pytest.mark.parametrize(
    "change",
    [
        lambda maps: pickle.loads(pickle.dumps(maps)),
        lambda maps: maps.copy(deep=True),
        lambda maps: maps.sel(y=slice(2, 9), x=[1, 3, 5]),
        lambda maps: maps.where(maps.galprote.good()),
        lambda maps: maps.transpose("x", "y", ...),
        lambda maps: maps.isel(y=4),
        lambda maps: maps.isel(y=4, x=2),
        lambda maps: maps.chunk({"y": 5}),
        lambda maps: maps.drop_vars(["ra", "dec"]),
    ],
)
def test_the_accessor_lives_on(change: Callable[[xr.Dataset], xr.Dataset], maps: xr.Dataset) -> None:
    part = change(maps)
    sky = part.galprote.sky()
    assert sky.shape == tuple(part.sizes[dim] for dim in ("y", "x") if dim in part.dims)
    first = part.galprote.wcs.pixel_to_world(0, 0)
    assert first.separation(sky.flatten()[0] if sky.shape else sky) < 1e-6 * u.arcsec
    whole = (maps["status"] & int(UNRELIABLE)) == 0
    wanted = whole.sel(y=part["y"], x=part["x"]).transpose(*part["status"].dims)
    np.testing.assert_array_equal(part.galprote.good(), wanted)
    assert part.galprote.to_fits()["AGE_LW"].data.size == part["age_lw"].size


def test_the_wcs_of_a_slice_may_have_a_cd_matrix() -> None:
    whole = sky_wcs((20, 20), angle=20.0)
    assert whole.wcs.has_cd()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut = unsliced_wcs(whole, (2.0, 3.0), (1.0, -2.0))
        again = unsliced_wcs(cut, (-2.0, 1.5), (1.0, -0.5))
    places = whole.pixel_to_world([0, 7], [0, 4])
    assert cut.pixel_to_world([2, 9], [3, -5]).separation(places).max() < 1e-6 * u.arcsec
    assert again.pixel_to_world([0, 7], [0, 4]).separation(places).max() < 1e-6 * u.arcsec


def test_good_is_fitted_and_trusted(maps: xr.Dataset) -> None:
    changed = maps.copy(deep=True)
    changed["status"].values[0, :3] = [int(Status.POOR_FIT), int(Status.UNLIKE_TRAINING), int(Status.LOW_SNR)]
    np.testing.assert_array_equal(changed.galprote.good()[0, :3], [True, False, False])
    assert not changed.galprote.good()[5].any()  # without data
    with pytest.raises(GalproteError, match="no `status`"):
        changed[["age_lw"]].galprote.good()


def test_averaged_bits_are_refused(maps: xr.Dataset) -> None:
    """The mean of 4096 and 0 is 2048, another bit; of 1 and three 0 it would be no bit at all."""
    few = maps[["age_lw", "flux", "status"]].isel(y=slice(0, 4)).load()
    assert few.where(few.flux > 0).galprote.good().equals(few.galprote.good())  # floats, but whole numbers
    few["status"].values[...] = 0
    few["status"].values[0, 0] = int(Status.NO_DATA)
    rough = few.coarsen(y=2, x=2).mean()
    for ask in (rough.galprote.good, rough.galprote.plot, rough.galprote.radial_profile):
        with pytest.raises(GalproteError, match="averages of these mean nothing"):
            ask()
    kept = few.where(few.galprote.good()).drop_vars("status").coarsen(y=2, x=2).mean()
    assert kept.galprote.wcs.array_shape == (2, 4)


def test_what_has_no_wcs_says_why(out: Path, maps: xr.Dataset) -> None:
    nowhere = open_maps(out / "W1.zarr")
    for ask in (lambda: nowhere.galprote.wcs, nowhere.galprote.sky, lambda: nowhere.galprote.cutout(1, 2, 3)):
        with pytest.raises(SkyError, match="W1: the cube had no celestial WCS"):
            ask()
    with pytest.raises(SkyError, match="lost its attributes"):
        _ = maps.drop_attrs().galprote.wcs
    with pytest.raises(SkyError, match="not evenly spaced"):
        _ = maps.isel(y=[0, 1, 5]).galprote.wcs
    with pytest.raises(SkyError, match="no coordinate 'y'"):
        _ = maps.drop_vars("y").galprote.wcs
    with pytest.raises(SkyError, match="no y is left"):
        _ = maps.isel(y=slice(0)).galprote.wcs
    with pytest.raises(SkyError, match="unstack"):
        _ = maps[["age_lw"]].stack(spaxel=("y", "x")).galprote.wcs


def test_bins_of_a_galaxy(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binned = open_maps(out / "B1.zarr")
    bins = binned.isel(y=slice(3, 9)).galprote.bins
    assert bins.sizes["bin"] == binned.attrs["bins"]
    row, column = (int(value[0]) for value in np.nonzero((binned["bin_id"] == bins["bin"][2]).values))
    assert binned["age_lw"].values[row, column] == bins["age_lw"].values[2]
    monkeypatch.chdir(out.parent)
    there = open_maps("out/B1.zarr")
    monkeypatch.chdir("/")
    changes = (binned.where(binned["snr"] > 3), binned[["age_lw", "status"]].load(), pickle.loads(pickle.dumps(there)))
    for changed in (*changes, binned.assign(mine=binned["age_lw"] * 2).copy(deep=True)):
        xr.testing.assert_identical(changed.galprote.bins, bins)
    with pytest.raises(MapsError, match="no attribute `opened_from`"):
        _ = binned.drop_attrs().galprote.bins


# --- cut-outs ---


def test_a_position_in_any_words() -> None:
    wanted = SkyCoord("12h18m48s", "+14d24m00s")
    for words in (
        (184.7, 14.4), (184.7 * u.deg, 14.4 * 60 * u.arcmin), ("12h18m48s", "+14d24m"), ("12:18:48", "14:24:00"),
        ("184.7", "14.4"), (wanted,), (wanted.galactic,), (wanted.fk5,), (np.float32(184.7), 14.4),
    ):  # fmt: skip
        assert sky_place(*words).separation(wanted) < 0.05 * u.arcsec
    for bad in (("here", "there"), (184.7, 95.0), (np.nan, 14.0), (184.7,), ([184.7, 184.8], [14.4, 14.4])):
        with pytest.raises(SkyError):
            sky_place(*bad)


def test_a_size_in_any_words() -> None:
    for size in (6, 6.0 * u.arcsec, 0.1 * u.arcmin, (6, 6), np.array([6, 6]), [6, 6] * u.arcsec):
        assert angular_size(size) == pytest.approx([6, 6])
    assert angular_size((3, 6 * u.arcsec)) == [3, 6]
    for bad in (-1, 0, np.nan, 3 * u.kpc, "large", (1, 2, 3), None):
        with pytest.raises(SkyError, match="size"):
            angular_size(bad)


@pytest.mark.parametrize("parity", [-1.0, 1.0])
def test_a_cutout_is_centred_and_as_large_as_was_asked(parity: float) -> None:
    maps = disc_maps((60, 64), angle=30.0, parity=parity).chunk({"y": 16})
    place = maps.galprote.sky()[20, 40]
    part = maps.galprote.cutout(place, size=(3.0, 5 * u.arcsec))
    assert (part.sizes["y"], part.sizes["x"]) == (15, 25)
    assert (int(part["y"][7]), int(part["x"][12])) == (20, 40)
    assert part["age_lw"].chunks is not None
    np.testing.assert_array_equal(part["age_lw"], maps["age_lw"].isel(y=slice(13, 28), x=slice(28, 53)))
    assert float(part.galprote.wcs.pixel_to_world(12, 7).separation(place).arcsec) < 1e-6
    again = maps.isel(y=slice(None, None, -1), x=slice(0, 64, 2)).galprote.cutout(place, size=(3.0, 3.2))
    assert (int(again["y"][7]), again.sizes["x"]) == (20, 8)  # spaxels twice as wide


def test_a_cutout_beyond_the_edge_is_trimmed_and_outside_refused() -> None:
    maps = disc_maps((60, 64))
    corner = maps.galprote.sky()[0, 63]
    part = maps.galprote.cutout(corner.ra, corner.dec, 2.2)
    np.testing.assert_array_equal(part["y"], np.arange(6))
    np.testing.assert_array_equal(part["x"], np.arange(58, 64))
    assert dict(maps.galprote.cutout(corner, size=0.01).sizes) == {"y": 1, "x": 1}
    assert dict(maps.galprote.cutout(corner, size=1000).sizes) == {"y": 60, "x": 64}
    near = CENTRE.directional_offset_by(0 * u.deg, 6.3 * u.arcsec)  # the upper edge is at 6
    assert maps.galprote.cutout(near, size=1.0).sizes["y"] == 1
    with pytest.raises(SkyError, match=r"is not on the maps of DISC: it is 6.3 arcsec from .* 12.0 arcsec high"):
        maps.galprote.cutout(near, size=0.4)
    with pytest.raises(SkyError, match="is not on the maps"):
        maps.galprote.cutout(4.7, -14.4, 10)  # the other side of the sky
    with pytest.raises(SkyError, match="give its size"):
        maps.galprote.cutout(CENTRE)
    row = maps.isel(y=30).galprote.cutout(CENTRE, size=2)
    assert dict(row.sizes) == {"x": 10}
