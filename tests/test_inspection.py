"""Inspection: every trap that is put into a cube is counted and named, and no trap is invented."""

import gzip
import json
import os
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from galprote.model.errors import CubeError
from galprote.model.grids import EDGES
from galprote.pipeline.inspection import inspect_cube
from galprote.pipeline.inspection_text import report_lines
from galprote.pipeline.readers import open_cube, voxels
from galprote.pipeline.readers.channels import TOLERANCE
from galprote.pipeline.readers.voxels import bands
from tests import cubes


def text_of(path: Path) -> str:
    return "\n".join(f"{label}: {value}" for label, value in report_lines(inspect_cube(path)))


def test_a_clean_cube_has_nothing_to_report(tmp_path: Path) -> None:
    flux, variance = cubes.spectra((100, 7, 5))
    cards = cubes.muse_cards(4700.0, 47.0)  # the whole range, coarsely
    path = cubes.write_muse_cube(tmp_path / "clean.fits", flux, variance, cards, primary={"REDSHIFT": 0.008})
    report = inspect_cube(path)
    assert report.problems == ()
    assert report.layout == "MUSE"
    assert report.shape == (100, 7, 5)
    assert [(hdu.name, hdu.shape) for hdu in report.hdus] == [
        ("PRIMARY", ()), ("DATA", (100, 7, 5)), ("STAT", (100, 7, 5)),
    ]  # fmt: skip
    assert report.keywords == {"OBJECT": "NGC 4254", "REDSHIFT": "0.008", "INSTRUME": "MUSE"}
    found = report.voxels
    assert found is not None
    assert found.fraction_read == 1.0
    assert (found.empty_spaxels, found.flux_nan, found.joint_nan, found.bad_variance) == (0, 0, 0, 0)
    assert found.nan_bands == found.bad_variance_bands == ()
    assert ("problems", "none") in report_lines(report)


def test_the_traps_are_found_where_they_are(tmp_path: Path) -> None:
    flux, variance = cubes.spectra((180, 7, 5))
    wavelength = cubes.wavelengths(180, 5775.0)
    cubes.add_notch(flux, variance, wavelength)
    bad = cubes.add_bad_variances(variance)
    joint = cubes.add_joint_nans(flux, variance)
    flux[8] = np.nan  # a plane
    flux[9, 6, 0] = np.nan  # alone: its variance is finite
    cubes.add_empty_corner(flux, variance)
    flux[:, 6, 3] = 0.0  # empty as well, though finite
    path = cubes.write_muse_cube(tmp_path / "ao.fits", flux, variance, cubes.muse_cards(5775.0))
    found = inspect_cube(path).voxels
    assert found is not None
    assert found.spaxels == 35
    assert found.empty_spaxels == 5
    assert found.empty_fraction == pytest.approx(5 / 35)
    assert [(band.first, band.last, band.channels, band.name) for band in found.nan_bands] == [
        (pytest.approx(5785.0), pytest.approx(5785.0), 1, ""),
        (pytest.approx(5806.25), pytest.approx(5963.75), 127, "AO sodium notch"),
    ]
    assert (found.flux_nan, found.joint_nan) == (len(joint) + 1, len(joint))
    assert found.bad_variance == len(bad)
    assert found.finite_flux == 30 * (180 - 128) - len(joint) - 1
    assert found.bad_variance_fraction == pytest.approx(len(bad) / found.finite_flux)
    channels = [5775.0 + 1.25 * k for k in (10, 12, 20)]
    assert [(band.first, band.last) for band in found.bad_variance_bands] == [
        (pytest.approx(channels[0]), pytest.approx(channels[1])),
        (pytest.approx(channels[2]), pytest.approx(channels[2])),
    ]
    text = text_of(path)
    assert "5806.25-5963.75 A (AO sodium notch)" in text
    assert "5785.00 A" in text
    assert "bad variances: 4 " in text


@given(npst.arrays(bool, st.integers(0, 40)))
def test_bands_hold_exactly_the_flagged_channels(flagged: np.ndarray) -> None:
    wavelength = np.arange(flagged.size, dtype=np.float64)
    found = bands(wavelength, flagged)
    rebuilt = np.zeros_like(flagged)
    for band in found:
        assert band.channels == band.last - band.first + 1
        rebuilt[int(band.first) : int(band.last) + 1] = True
    np.testing.assert_array_equal(rebuilt, flagged)
    assert all(after.first > before.last + 1 for before, after in pairwise(found))


def test_signal_to_noise_of_each_channel(tmp_path: Path) -> None:
    sigma = np.linspace(5.0, 50.0, 48)[:, None, None]
    flux = np.full((48, 9, 9), 1000.0)
    path = cubes.write_muse_cube(tmp_path / "a.fits", flux, np.broadcast_to(sigma**2, flux.shape))
    found = inspect_cube(path).voxels
    assert found is not None
    np.testing.assert_allclose(found.snr, 1000.0 / sigma[:, 0, 0], rtol=1e-6)
    # Wavelengths that descend in the file are reported ascending.
    cards = cubes.muse_cards(5058.75, -1.25)
    turned = inspect_cube(cubes.write_muse_cube(path, flux, np.broadcast_to(sigma**2, flux.shape), cards))
    assert turned.voxels is not None
    np.testing.assert_allclose(turned.voxels.snr, found.snr[::-1])
    assert turned.axis is not None
    assert (turned.axis.first, turned.axis.last) == (pytest.approx(5000.0), pytest.approx(5058.75))


def test_without_variances_the_noise_is_estimated(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    flux = 1000.0 + 20.0 * rng.standard_normal((900, 6, 6))
    report = inspect_cube(cubes.write_muse_cube(tmp_path / "a.fits", flux, None))
    assert report.variance_source == "estimated (DER_SNR)"
    assert "ERRDATA" in report.variance_note
    assert report.voxels is not None
    assert np.median(report.voxels.snr) == pytest.approx(50.0, rel=0.05)
    assert report.voxels.bad_variance == 0


def test_a_sample_says_how_much_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flux, variance = cubes.spectra((48, 40, 5))
    path = cubes.write_muse_cube(tmp_path / "a.fits", flux, variance)
    monkeypatch.setattr(voxels, "SLAB_BYTES", 48 * 5 * 8 * 2)  # two rows
    sampled, whole = inspect_cube(path, sample=4).voxels, inspect_cube(path, sample=None).voxels
    assert sampled is not None
    assert whole is not None
    assert (sampled.fraction_read, whole.fraction_read) == (pytest.approx(0.2), 1.0)
    assert (sampled.spaxels, whole.spaxels) == (40, 200)


def test_memory_is_bounded_by_the_slab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cubes.write_sparse_muse_cube(tmp_path / "a.fits", (300, 200, 200))  # 96 MB
    monkeypatch.setattr(voxels, "SLAB_BYTES", 4 << 20)
    monkeypatch.setattr(voxels, "SNR_SPECTRA", 100)
    inspect_cube(path, sample=1)
    tracemalloc.start()
    report = inspect_cube(path, sample=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6
    assert report.voxels is not None
    assert report.voxels.empty_fraction == 1.0
    assert any("no spaxel holds data" in problem for problem in report.problems)


def test_the_redshifts_served_are_those_that_open(tmp_path: Path) -> None:
    flux, variance = cubes.spectra((500, 3, 3))
    path = cubes.write_muse_cube(tmp_path / "a.fits", flux, variance, cubes.muse_cards(4800.0, 9.2))
    served = inspect_cube(path).redshifts
    assert served is not None
    assert served[0] == pytest.approx((4800.0 - 4.6) / (EDGES[0] + TOLERANCE) - 1)
    for redshift in served:
        inside = redshift + (1e-6 if redshift == served[0] else -1e-6)
        assert open_cube(path, redshift=inside).sizes["x"] == 3
    with pytest.raises(CubeError, match="does not cover"):
        open_cube(path, redshift=served[1] + 1e-4)


def test_what_would_stop_a_run_is_reported_and_not_raised(tmp_path: Path) -> None:
    flux, variance = cubes.spectra()
    path = cubes.write_muse_cube(tmp_path / "a.fits", flux, variance, cubes.muse_cards(bunit="Jy"))
    report = inspect_cube(path)
    assert any("BUNIT = 'Jy'" in problem for problem in report.problems)
    assert any("4999.4-5059.4 A cannot hold the model's window" in problem for problem in report.problems)
    assert report.voxels is not None  # the rest is there
    os.truncate(path, path.stat().st_size - 6000)
    truncated = inspect_cube(path)
    assert any("truncated" in problem for problem in truncated.problems)
    assert len(truncated.hdus) == 3
    assert "PROBLEM: " in text_of(path)
    with pytest.raises(CubeError, match="no such file"):
        inspect_cube(tmp_path / "b.fits")


def test_assumptions_are_shown(tmp_path: Path) -> None:
    cards = cubes.muse_cards(ctype="LINEAR", bunit=None)
    text = text_of(cubes.write_muse_cube(tmp_path / "a.fits", *cubes.spectra(), cards))
    assert "air assumed" in text
    assert "(assumed: BUNIT is empty)" in text


def test_flags_count_as_nan(tmp_path: Path) -> None:
    flux, variance = cubes.spectra()
    flags = np.zeros(flux.shape, np.uint8)
    flags[5:8, 3, 3] = 1
    found = inspect_cube(cubes.write_muse_cube(tmp_path / "a.fits", flux, variance, flags=flags)).voxels
    assert found is not None
    assert (found.flux_nan, found.joint_nan) == (3, 3)


def test_the_report_is_plain_json(tmp_path: Path) -> None:
    flux, variance = cubes.spectra()
    flux[4] = np.nan
    path = cubes.write_muse_cube(tmp_path / "a.fits", flux, variance)
    packed = tmp_path / "a.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    report = inspect_cube(packed, scratch=tmp_path / "scratch")
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["path"] == str(packed)
    assert plain["axis"]["channels"] == 48
    assert plain["voxels"]["snr"][4] is None
    assert plain["voxels"]["nan_bands"] == [
        {"first": pytest.approx(5005.0), "last": pytest.approx(5005.0), "channels": 1, "name": ""}
    ]
