"""Readers: the Dataset holds what is in the file, read in pieces or at once, and nothing too early."""

import json
import os
import pickle
import time
import tracemalloc
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from galprote.pipeline.readers import open_cube
from galprote.pipeline.readers.fitsfile import read_hdus
from galprote.pipeline.readers.slabs import SlabArray
from tests import cubes
from tests.cubes import bits, opened


@pytest.fixture
def muse(tmp_path: Path) -> Path:
    return cubes.write_muse_cube(tmp_path / "NGC4254_PHANGS_DATACUBE_native.fits", *cubes.spectra())


# --- the file's numbers, bit for bit ---


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any, Any]]:
    """One cube in each number format, with NaNs, and what astropy reads from it as float32."""
    folder = tmp_path_factory.mktemp("stored")
    result = {}
    for dtype in (">f4", ">f8", ">i4"):
        flux, variance = cubes.spectra()
        if dtype != ">i4":
            cubes.add_empty_corner(flux, variance)
            cubes.add_joint_nans(flux, variance)
        path = cubes.write_muse_cube(folder / f"{dtype[1:]}.fits", flux, variance, dtype=dtype)
        with fits.open(path) as hdus:
            result[dtype] = path, *(hdus[name].data.astype(np.float32) for name in ("DATA", "STAT"))
    return result


@given(rows=st.integers(1, 9), dtype=st.sampled_from([">f4", ">f8", ">i4"]))
def test_slabs_of_any_height_equal_the_whole_cube_as_astropy_reads_it(
    stored: dict[str, tuple[Path, Any, Any]], rows: int, dtype: str
) -> None:
    path, flux, variance = stored[dtype]
    cube = opened(path, rows=rows)
    channels = slice(cube.first_channel, cube.first_channel + cube.sizes["wavelength"])
    with dask.config.set(scheduler="synchronous"):
        assert bits(cube.flux) == bits(flux[channels])
        assert bits(cube.variance) == bits(variance[channels])
    assert cube.flux.chunks[0] == (cube.sizes["wavelength"],)
    assert cube.flux.chunks[1][0] == min(rows, 7)
    assert cube.flux.chunks[2] == (5,)


@given(data=st.data(), order=st.permutations([0, 1, 2]), step=st.sampled_from([1, -1]))
def test_an_indexed_slab_array_equals_the_indexed_cube(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, order: list[int], step: int
) -> None:
    shape = (11, 4, 5)
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    in_file = np.empty([shape[order.index(i)] for i in range(3)], dtype=">f4")
    in_file[:] = values.transpose(np.argsort(order))
    path = tmp_path_factory.mktemp("slab") / "cube.fits"
    fits.PrimaryHDU(in_file).writeto(path)
    hdu = read_hdus(path)[0]
    assert hdu.image is not None
    first = 1 if step == 1 else 9
    stamp = path.stat().st_size, path.stat().st_mtime_ns
    slabs = SlabArray(str(path), stamp, hdu.image, first, 9, step, (order[0], order[1], order[2]))
    wanted = values[1:10][::step]
    assert slabs.shape == wanted.shape
    index = data.draw(
        st.tuples(*(st.one_of(st.slices(n), st.integers(-n, n - 1)) for n in wanted.shape)), label="index"
    )
    assert bits(slabs[index]) == bits(wanted[index])
    assert slabs[index].shape == wanted[index].shape


def test_only_the_bytes_of_the_wanted_channels_and_rows_are_read(muse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    preadv = os.preadv

    def counted(file: int, buffers: Any, offset: int) -> int:
        nonlocal read
        count = preadv(file, buffers, offset)
        read += count
        return count

    cube = opened(muse, rows=2)
    monkeypatch.setattr(os, "preadv", counted)
    cube.flux.isel(y=3, x=1).compute(scheduler="synchronous")
    assert cube.sizes["wavelength"] < 48
    assert read <= cube.sizes["wavelength"] * 2 * 5 * 4


def test_short_reads_are_continued(muse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = opened(muse).flux.values
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, offset: preadv(file, [buffers[0][:7]], offset))
    assert bits(opened(muse).flux) == bits(whole)


# --- lazy, small, picklable ---


def test_a_40_gb_cube_opens_at_once_and_in_a_few_megabytes(tmp_path: Path) -> None:
    path = cubes.write_sparse_muse_cube(tmp_path / "NGC4254.fits", (3761, 1190, 1012))
    assert path.stat().st_size > 36e9
    open_cube(path, redshift=0.008)  # imports and caches
    tracemalloc.start()
    start = time.perf_counter()
    cube = open_cube(path, redshift=0.008)
    elapsed = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    spectrum = cube.flux.isel(x=1, y=1189).compute(scheduler="synchronous")
    tracemalloc.stop()
    assert elapsed < 1.0
    assert peak < 5e6
    assert len(pickle.dumps(cube)) < 200_000
    assert 1880 < spectrum.size < 1920
    assert (spectrum == 0).all()


def test_one_spectrum_is_read_from_any_copy_of_the_dataset(muse: Path) -> None:
    cube = opened(muse)
    with fits.open(muse) as hdus:
        wanted = hdus["DATA"].data[cube.first_channel :, 4, 3][: cube.sizes["wavelength"]]
    for copy in (cube, pickle.loads(pickle.dumps(cube))):
        assert bits(copy.flux.isel(x=3, y=4).compute()) == bits(wanted)


def test_task_names_follow_the_file(muse: Path) -> None:
    before = opened(muse)
    assert opened(muse).flux.data.name == before.flux.data.name
    assert opened(muse, rows=2).flux.data.name != before.flux.data.name
    os.utime(muse, ns=(1, 1))
    assert opened(muse).flux.data.name != before.flux.data.name


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_values_do_not_depend_on_the_chunks(tmp_path: Path, rows: int) -> None:
    flux, _ = cubes.spectra()
    cubes.add_joint_nans(flux, flux.copy())
    flags = np.zeros(flux.shape, dtype=np.uint8)
    flags[9:20, 2, 3] = 1
    path = cubes.write_muse_cube(tmp_path / "a.fits", flux, None, flags=flags)  # estimated variances, too
    whole, pieces = opened(path, rows=7), opened(path, rows=rows)
    assert bits(pieces.flux) == bits(whole.flux)
    assert bits(pieces.variance) == bits(whole.variance)


# --- the Dataset's metadata ---


def test_attributes_say_where_the_numbers_come_from(muse: Path) -> None:
    cube = opened(muse, redshift=0.001)
    attributes = json.loads(json.dumps(cube.attrs))
    assert attributes["source"] == muse.name
    assert attributes["source_bytes"] == muse.stat().st_size
    assert attributes["target"] == "NGC 4254"
    assert u.Unit(attributes["bunit"], format="fits") == 1e-20 * u.erg / u.s / u.cm**2 / u.AA
    assert u.Unit(cube.variance.units, format="fits") == (1e-20 * u.erg / u.s / u.cm**2 / u.AA) ** 2
    assert not attributes["bunit_assumed"]
    assert attributes["flux_calibrated"]
    assert attributes["native_axis"] == "air"
    assert attributes["variance_source"] == "STAT"
    assert attributes["channels_in_file"] == 48
    assert attributes["redshift"] == 0.001
    assert cube.flux.dtype == cube.variance.dtype == np.float32
    assert cube.wavelength.dtype == np.float64


def test_celestial_wcs_survives(muse: Path) -> None:
    header = opened(muse).wcs_header
    sky = WCS(header).pixel_to_world(2, 1)  # CRPIX of the cube, counted from 0
    assert sky.ra.deg == pytest.approx(184.7)
    assert sky.dec.deg == pytest.approx(14.4)
    assert WCS(fits.Header.fromstring(header)).wcs == WCS(header).wcs


def test_header_hash_changes_with_a_card_and_not_with_the_data(tmp_path: Path) -> None:
    flux, variance = cubes.spectra()
    first = cubes.write_muse_cube(tmp_path / "a.fits", flux, variance)
    same = cubes.write_muse_cube(tmp_path / "b.fits", flux + 1, variance)
    other = cubes.write_muse_cube(tmp_path / "c.fits", flux, variance, cubes.muse_cards() | {"EXPTIME": 1.0})
    hashes = [opened(path).header_sha256 for path in (first, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_hdus_lie_where_astropy_finds_them(muse: Path) -> None:
    with fits.open(muse) as hdus:
        wanted = [(hdu.name, hdu.fileinfo()["datLoc"]) for hdu in hdus]
    assert [(hdu.name, hdu.data_offset) for hdu in read_hdus(muse)] == wanted


# --- what real cubes hold ---


def test_gaps_bad_variances_and_empty_regions_are_left_as_they_are(tmp_path: Path) -> None:
    flux, variance = cubes.spectra((180, 7, 5))
    wavelength = cubes.wavelengths(180, 5775.0)
    cubes.add_notch(flux, variance, wavelength)
    cubes.add_empty_corner(flux, variance)
    cubes.add_bad_variances(variance)
    cubes.add_joint_nans(flux, variance)
    flux[8] = np.nan  # a plane without flux, but with variance
    path = cubes.write_muse_cube(tmp_path / "ao.fits", flux, variance, cubes.muse_cards(5775.0))
    cube = open_cube(path, rest_window=(5775.0, 5998.0))
    assert cube.sizes == {"wavelength": 180, "y": 7, "x": 5}  # nothing dropped
    np.testing.assert_allclose(cube.wavelength, wavelength)
    assert bits(cube.flux) == bits(flux)
    assert bits(cube.variance) == bits(variance)
    inside = cube.flux.sel(wavelength=slice(5806.2, 5963.8))
    assert inside.sizes["wavelength"] == 127
    assert inside.isnull().all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_flagged_voxels_have_neither_flux_nor_variance(tmp_path: Path, dtype: type) -> None:
    flux, variance = cubes.spectra()
    flags = np.zeros(flux.shape, dtype=dtype)
    flags[20, 3, 2], flags[21, 4, 1] = 1, 2 if dtype is np.uint8 else 1 << 30  # Euro3D bits: missing data
    cube = opened(cubes.write_muse_cube(tmp_path / "a.fits", flux, variance, flags=flags))
    channels = slice(cube.first_channel, cube.first_channel + cube.sizes["wavelength"])
    for name, values in (("flux", flux), ("variance", variance)):
        wanted = np.where(flags != 0, np.nan, values)[channels]
        np.testing.assert_array_equal(cube[name], wanted)
        assert np.isnan(cube[name]).sum() == 2
    assert cube.flags_source == "DQ"


def test_hdu_names_in_lower_case(tmp_path: Path) -> None:
    path = cubes.write_muse_cube(tmp_path / "a.fits", *cubes.spectra())
    raw = path.read_bytes().replace(b"'DATA    '", b"'data    '").replace(b"'STAT    '", b"'stat    '")
    path.write_bytes(raw)
    assert opened(path).variance_source == "STAT"
