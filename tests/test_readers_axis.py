"""Wavelengths: in air and Angstrom whatever the header says, and only the channels that are needed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galprote.model.errors import CubeError
from galprote.model.grids import EDGES
from galprote.pipeline.readers import open_cube
from galprote.pipeline.readers.axis import SpectralAxis, vacuum_to_air
from galprote.pipeline.readers.channels import TOLERANCE, select_channels, served_redshifts
from galprote.pipeline.rebin import edges_of
from tests import cubes
from tests.cubes import bits, opened


@pytest.fixture
def muse(tmp_path: Path) -> Path:
    return cubes.write_muse_cube(tmp_path / "NGC4254_PHANGS_DATACUBE_native.fits", *cubes.spectra())


@pytest.mark.parametrize(
    ("cunit", "factor"), [("Angstrom", 1.0), ("m", 1e-10), ("nm", 0.1), ("um", 1e-4), ("Angstroms", 1.0)]
)
@pytest.mark.parametrize("matrix", ["CD", "CDELT", "PC"])
def test_wavelengths_in_any_unit_and_any_matrix(tmp_path: Path, cunit: str, factor: float, matrix: str) -> None:
    cards = cubes.muse_cards(5000.0 * factor, 1.25 * factor, cunit=cunit, matrix=matrix, crpix=7.0)
    cube = opened(cubes.write_muse_cube(tmp_path / "a.fits", *cubes.spectra(), cards))
    wanted = cubes.wavelengths(48)[cube.first_channel :][: cube.sizes["wavelength"]]
    np.testing.assert_allclose(cube.wavelength, wanted, rtol=1e-13)


def test_a_step_in_cdelt_beside_a_spatial_cd_matrix(tmp_path: Path) -> None:
    cards = cubes.muse_cards()
    del cards["CD3_3"]  # wcslib would now ignore CDELT3, and take steps of 1 Angstrom
    path = cubes.write_muse_cube(tmp_path / "a.fits", *cubes.spectra(), cards | {"CDELT3": 1.25})
    assert np.diff(opened(path).wavelength) == pytest.approx(1.25)
    with pytest.raises(CubeError, match="CD3_3 and CDELT3 are missing"):
        opened(cubes.write_muse_cube(path, *cubes.spectra(), cards))


@pytest.mark.parametrize(("vacuum", "air"), [(5891.5833, 5889.9509), (5897.5581, 5895.9242)])
def test_sodium_has_its_air_wavelengths(vacuum: float, air: float) -> None:
    assert vacuum_to_air(np.array([vacuum]))[0] == pytest.approx(air, abs=5e-4)  # NIST


@given(st.floats(3000.0, 12000.0))
def test_air_agrees_with_an_independent_formula(vacuum: float) -> None:
    squared = (1e4 / vacuum) ** 2
    index = 1 + 0.05792105 / (238.0185 - squared) + 0.00167917 / (57.362 - squared)  # Ciddor 1996
    np.testing.assert_allclose(vacuum_to_air(np.array([vacuum])), vacuum / index, rtol=2e-8)  # 6 m/s


def test_a_vacuum_axis_is_converted_channel_by_channel(tmp_path: Path) -> None:
    cards = cubes.muse_cards(ctype="WAVE")
    cube = opened(cubes.write_muse_cube(tmp_path / "a.fits", *cubes.spectra(), cards))
    wanted = vacuum_to_air(cubes.wavelengths(48))[cube.first_channel :][: cube.sizes["wavelength"]]
    np.testing.assert_allclose(cube.wavelength, wanted, rtol=1e-13)
    assert cube.native_axis == "vacuum"
    assert 1.3 < float(cubes.wavelengths(48)[cube.first_channel] - cube.wavelength[0]) < 1.5


@pytest.mark.parametrize("ctype", ["AWAV-LOG", "WAVE-LOG"])
def test_a_logarithmic_axis(tmp_path: Path, ctype: str) -> None:
    cards = cubes.muse_cards(ctype=ctype)
    cube = opened(cubes.write_muse_cube(tmp_path / "a.fits", *cubes.spectra(), cards))
    native = 5000.0 * np.exp(1.25 * np.arange(48) / 5000.0)  # FITS Paper III, eq. 5
    wanted = vacuum_to_air(native) if ctype.startswith("WAVE") else native
    np.testing.assert_allclose(cube.wavelength, wanted[cube.first_channel :][: cube.sizes["wavelength"]], rtol=1e-12)


@pytest.mark.parametrize("ctype", ["LINEAR", "LAMBDA", "WAVELENG"])
def test_a_vague_axis_is_taken_as_air_and_says_so(tmp_path: Path, ctype: str) -> None:
    cards = cubes.muse_cards(ctype=ctype)
    cube = opened(cubes.write_muse_cube(tmp_path / "a.fits", *cubes.spectra(), cards))
    assert cube.native_axis == "air"
    assert ctype in cube.axis_assumption
    assert "air assumed" in cube.axis_assumption
    assert cube.wavelength[0] == pytest.approx(cubes.wavelengths(48)[cube.first_channel])


def test_descending_wavelengths_are_turned_round(tmp_path: Path) -> None:
    flux, variance = cubes.spectra()
    cards = cubes.muse_cards(5000.0 + 47 * 1.25, -1.25)
    turned = opened(cubes.write_muse_cube(tmp_path / "down.fits", flux[::-1], variance[::-1], cards))
    straight = opened(cubes.write_muse_cube(tmp_path / "up.fits", flux, variance))
    np.testing.assert_allclose(turned.wavelength, straight.wavelength, rtol=1e-13)
    assert bits(turned.flux) == bits(straight.flux)
    assert bits(turned.variance) == bits(straight.variance)
    assert (turned.first_channel, turned.channel_step) == (47 - straight.first_channel, -1)


@given(
    first=st.floats(4600.0, 4745.0),
    step=st.floats(0.3, 4.0),
    redshift=st.floats(0.0, 0.3),
    descending=st.booleans(),
    margin=st.integers(0, 4),
)
def test_channels_cover_the_window_and_are_as_few_as_they_can_be(
    first: float, step: float, redshift: float, descending: bool, margin: int
) -> None:
    wavelength = np.arange(first, 9400.0, step)
    axis = SpectralAxis(wavelength[::-1] if descending else wavelength, "air", "AWAV", "Angstrom")
    window = (float(EDGES[0]), float(EDGES[-1]))
    chosen = select_channels(axis, window, redshift, margin)
    in_file = axis.wavelength[chosen.first + chosen.step * np.arange(chosen.wavelength.size)]
    np.testing.assert_array_equal(in_file, chosen.wavelength)
    assert (np.diff(chosen.wavelength) > 0).all()
    edges = edges_of(chosen.wavelength)
    low, high = (edge * (1 + redshift) for edge in window)
    assert edges[0] <= low
    assert edges[-1] >= high
    needed = np.count_nonzero((edges[1:] > low) & (edges[:-1] < high))
    assert chosen.wavelength.size <= needed + 2 * margin
    inner = chosen.wavelength.size - needed
    at_the_end = chosen.wavelength[0] == wavelength[0] or chosen.wavelength[-1] == wavelength[-1]
    assert inner == 2 * margin or at_the_end


@given(redshift=st.floats(0.0, 0.3), first=st.floats(4700.0, 5600.0))
def test_a_cube_serves_exactly_the_redshifts_that_the_report_says(redshift: float, first: float) -> None:
    axis = SpectralAxis(np.arange(first, 9300.0, 1.25), "air", "AWAV", "Angstrom")
    window = (float(EDGES[0]), float(EDGES[-1]))
    served = served_redshifts(axis, window)
    assert served is not None
    if served[0] + 1e-9 < redshift < served[1] - 1e-9:
        assert select_channels(axis, window, redshift).wavelength.size > 100
    elif not served[0] - 1e-9 < redshift < served[1] + 1e-9:
        with pytest.raises(CubeError, match="does not cover"):
            select_channels(axis, window, redshift)


def test_a_missing_range_is_named_in_both_frames(muse: Path) -> None:
    with pytest.raises(CubeError) as caught:
        open_cube(muse, redshift=0.008, rest_window=(4960.0, 5050.0))
    message = str(caught.value)
    # The file's pixels reach from 4999.375 to 5059.375 A; 5050 * 1.008 = 5090.4, 5059.4 / 1.008 = 5019.2.
    assert "5019.2-5050.0 A rest frame (5059.4-5090.4 A observed)" in message
    assert "at redshift 0.008" in message
    assert "4999.4-5059.4 A (observed, air)" in message
    assert "4960.0-" not in message.partition("missing")[0].partition("0.008:")[2]
    assert muse.name in message


def test_both_ends_can_be_missing(muse: Path) -> None:
    with pytest.raises(CubeError, match=r"4748\.1-4999\.4 A rest frame .* and 5059\.4-7101\.7 A"):
        open_cube(muse)


def test_half_a_sample_may_be_missing_and_is_recorded(muse: Path) -> None:
    cube = opened(muse, rest_window=(4999.375 - 0.9 * TOLERANCE, 5030.0))
    assert cube.uncovered_angstrom == pytest.approx([0.9 * TOLERANCE, 0.0])
    assert cube.first_channel == 0
    with pytest.raises(CubeError, match="does not cover"):
        opened(muse, rest_window=(4999.375 - 1.1 * TOLERANCE, 5030.0))


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"ctype": None}, "no spectral axis .* set CTYPE3 to 'AWAV'"),
        ({"ctype": "PIXEL"}, "CTYPE3 = 'PIXEL'"),
        ({"cunit": None}, "CUNIT3 is missing"),
        ({"cunit": "m"}, r"5e\+13 .* Angstrom if its unit is 'm'"),
        ({"cunit": "furlong"}, "spectral axis"),
        ({"step": 0.0}, "CD3_3 and CDELT3 are missing or zero"),
    ],
)
def test_a_bad_axis_is_refused(tmp_path: Path, cards: dict[str, Any], message: str) -> None:
    path = cubes.write_muse_cube(tmp_path / "a.fits", *cubes.spectra(), cubes.muse_cards(**cards))
    with pytest.raises(CubeError, match=message) as caught:
        opened(path)
    assert str(path) in str(caught.value)
