"""Template libraries: reading, resolution, compression."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits

from galprote.model.decoder import FINE, FINE_EDGES, MARGIN, build_decoder, kept_median
from galprote.model.errors import LibraryError
from galprote.model.extinction import EXTINCTION_LAWS, extinction_curve
from galprote.model.grids import EDGES, WAVELENGTH
from galprote.model.libraries import read_library
from galprote.model.line_spread import MUSE, LineSpread
from galprote.model.templates import (
    FWHM_PER_SIGMA,
    TemplateLibrary,
    broadening_matrix,
    match_library,
    verified_decoder,
)
from tests.libraries import synthetic_decoder

WAVE = np.arange(4600.0, 7250.0, 0.9)


def small_library(flux: np.ndarray, fwhm: float = 2.51) -> TemplateLibrary:
    return TemplateLibrary(flux, WAVE, np.array([1.0, 5.0]), np.array([-0.5, 0.2]), fwhm, "test")


def centres() -> np.ndarray:
    return (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2


@pytest.mark.parametrize("line", [4900.0, 5500.0, 6200.0])
def test_a_narrow_line_gets_the_width_of_muse(line: float) -> None:
    sigma = 2.51 / FWHM_PER_SIGMA
    profile = np.exp(-0.5 * ((WAVE - line) / sigma) ** 2)
    fine = match_library(small_library(np.broadcast_to(profile, (2, 2, len(WAVE)))))[0, 0]
    mean = np.average(centres(), weights=fine)
    width = np.sqrt(np.average((centres() - mean) ** 2, weights=fine) - (FINE_EDGES[1] - FINE_EDGES[0]) ** 2 / 12)
    assert mean == pytest.approx(line, abs=0.01)
    assert width * FWHM_PER_SIGMA == pytest.approx(MUSE.fwhm_at(np.array([line]))[0], rel=0.01)
    assert fine.sum() * (FINE_EDGES[1] - FINE_EDGES[0]) == pytest.approx(sigma * np.sqrt(2 * np.pi), rel=1e-3)


def test_a_library_blunter_than_muse_is_left_alone() -> None:
    slope = np.broadcast_to(1 + 1e-4 * (WAVE - 5000), (2, 2, len(WAVE)))
    np.testing.assert_allclose(match_library(small_library(slope, 5.0))[0, 0], 1 + 1e-4 * (centres() - 5000), rtol=1e-8)


def test_broadening_conserves_flux_and_zero_width_changes_nothing() -> None:
    matrix = broadening_matrix(np.arange(101.0), np.zeros(100))
    assert (matrix != np.eye(100)).sum() == 0
    wide = broadening_matrix(np.arange(101.0), np.full(100, 2.0))
    np.testing.assert_allclose(np.asarray(wide.sum(axis=1)), 1.0)
    assert (wide @ np.eye(100)[:, 50]).sum() == pytest.approx(1.0, abs=1e-6)


def test_muse_resolution_is_equation_1() -> None:
    np.testing.assert_allclose(MUSE.fwhm_at(np.array([4750.0, 7100.0])), [2.9997, 2.4743], atol=1e-4)


@pytest.mark.parametrize(
    ("law", "fwhm"), [({"fwhm": 3.5}, 3.5), ({"resolving_power": 1500}, 3.6667), ({"polynomial": [2.0, 3e-4]}, 3.65)]
)
def test_another_instrument_widens_a_line_as_its_law_says(law: dict[str, object], fwhm: float) -> None:
    line_spread = LineSpread.model_validate(law)
    profile = np.exp(-0.5 * ((WAVE - 5500.0) / (2.51 / FWHM_PER_SIGMA)) ** 2)
    fine = match_library(small_library(np.broadcast_to(profile, (2, 2, len(WAVE)))), line_spread)[0, 0]
    width = np.sqrt(np.average((centres() - 5500.0) ** 2, weights=fine))
    assert width * FWHM_PER_SIGMA == pytest.approx(fwhm, rel=0.01)


@pytest.mark.parametrize("law", [{}, {"fwhm": 2.0, "resolving_power": 2000}, {"fwhm": -1.0}])
def test_a_line_spread_function_has_one_law(law: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"give one of|greater than 0"):
        LineSpread.model_validate(law)


def test_every_template_is_decoded_within_a_permille() -> None:
    rng = np.random.default_rng(1)
    lines = rng.uniform(4650, 7200, 60)
    depth = rng.uniform(0, 0.4, (2, 2, 60))
    flux = 1 - (depth[..., None] * np.exp(-0.5 * ((WAVE - lines[:, None]) / 3) ** 2)).sum(2)
    library = small_library(flux)
    decoder = verified_decoder(library)
    wanted = match_library(library).reshape(4, -1)
    found = (decoder.coefficients @ decoder.components).double().numpy() * decoder.median_flux.numpy().reshape(4, 1)
    assert (np.sqrt(np.mean((found / wanted - 1) ** 2, axis=1)) < 1e-3).all()


def test_a_decoder_that_loses_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    flux = np.random.default_rng(2).uniform(0.5, 1.5, (2, 2, len(WAVE)))
    rough = partial(build_decoder, tolerance=1.0)
    monkeypatch.setattr("galprote.model.templates.build_decoder", rough)
    with pytest.raises(LibraryError, match=r"off by .* at most 0.1 %"):
        verified_decoder(small_library(flux))


def test_fine_and_model_samples_agree() -> None:
    decoder = synthetic_decoder()
    assert FINE_EDGES[MARGIN * FINE] == pytest.approx(EDGES[0])
    assert FINE_EDGES[-1 - MARGIN * FINE] == pytest.approx(EDGES[-1])
    grid = torch.zeros(1, *decoder.shape)
    grid[0, 5, 30] = 1.0
    fine = decoder.fine_spectra(grid, torch.tensor([0.7]))[0, MARGIN * FINE : -MARGIN * FINE]
    model = decoder.templates()[5 * 53 + 30] * 10 ** (-0.4 * 0.7 * decoder.attenuation())
    model = model / kept_median(model[None])
    torch.testing.assert_close(fine.reshape(-1, FINE).mean(1), model, atol=2e-5, rtol=0)


@pytest.mark.parametrize("law", EXTINCTION_LAWS)
def test_extinction_is_one_in_v_and_reddens(law: str) -> None:
    curve = extinction_curve(np.array([4750.0, 5494.5, 7100.0]), law)  # type: ignore[arg-type]
    assert curve[1] == pytest.approx(1.0, abs=0.03)
    assert curve[0] > curve[1] > curve[2] > 0.5


def test_odonnell_values() -> None:
    # O'Donnell (1994), equation 3 with y = 1e4 / 5500 - 1.82 for R_V = 3.1, evaluated by hand.
    y = 1e4 / 5500 - 1.82
    a = 1 + 0.104 * y - 0.609 * y**2 + 0.701 * y**3
    b = 1.952 * y + 2.908 * y**2 - 3.989 * y**3
    assert extinction_curve(np.array([5500.0]))[0] == pytest.approx(a + b / 3.1, abs=1e-6)


def test_a_library_must_cover_the_window() -> None:
    library = TemplateLibrary(
        np.ones((2, 2, 100)), np.linspace(4900, 7200, 100), np.array([1.0, 2.0]), np.array([0.0, 0.1]), 2.5, "short"
    )
    with pytest.raises(LibraryError, match=r"short: covers 4900.0-7200.0 A; the model needs"):
        match_library(library)


def test_ppxf_and_plain_npz_give_the_same_library(tmp_path: Path) -> None:
    flux = np.random.default_rng(0).uniform(0.5, 1.5, (2, 3, 50))
    wave, ages, metals = np.linspace(4000, 8000, 50), np.array([1.0, 2.0, 5.0]), np.array([-0.4, 0.2])
    np.savez(tmp_path / "plain.npz", flux=flux, wave=wave, age=ages, metallicity=metals)
    np.savez(
        tmp_path / "ppxf.npz",
        templates=np.moveaxis(flux, (2, 1, 0), (0, 1, 2)),
        lam=wave,
        ages=ages,
        metals=metals,
        fwhm=np.full(50, 2.51),
    )
    plain, ppxf = read_library(tmp_path / "plain.npz"), read_library(tmp_path / "ppxf.npz")
    np.testing.assert_array_equal(plain.flux, ppxf.flux)
    assert plain.fwhm == ppxf.fwhm == 2.51


def write_folder(folder: Path, pairs: list[tuple[str, str]], imf: str = "ch1.30") -> None:
    folder.mkdir(exist_ok=True)
    for z, age in pairs:
        header = fits.Header({"CRVAL1": 4000.0, "CDELT1": 0.9, "CRPIX1": 1.0})
        value = float(z.replace("m", "-").replace("p", "")) + 10 * float(age)
        fits.writeto(folder / f"E{imf}Z{z}T{age}_iTp0.00_baseFe.fits", np.full(40, value, "f4"), header)


def test_a_folder_of_miles_files_is_read_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "lib", [(z, t) for z in ("m2.27", "p0.06") for t in ("00.0300", "14.0000")])
    library = read_library(tmp_path / "lib")
    np.testing.assert_allclose(library.metallicities, [-2.27, 0.06])
    np.testing.assert_allclose(library.ages_gyr, [0.03, 14.0])
    np.testing.assert_allclose(library.flux[:, :, 0], [[-1.97, 137.73], [0.36, 140.06]], rtol=1e-6)
    assert library.wavelength[1] == pytest.approx(4000.9)


def test_holes_and_mixtures_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "holes", [("m2.27", "00.0300"), ("m2.27", "14.0000"), ("p0.06", "14.0000")])
    with pytest.raises(LibraryError, match=r"1 of 4 age-metallicity pairs have no file.*0.06.*0.03"):
        read_library(tmp_path / "holes")
    write_folder(tmp_path / "mixed", [("p0.06", "14.0000")])
    write_folder(tmp_path / "mixed", [("p0.06", "14.0000")], imf="ku1.30")
    with pytest.raises(LibraryError, match="several libraries or IMFs"):
        read_library(tmp_path / "mixed")


def test_what_is_not_a_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="no such template library"):
        read_library(tmp_path / "none.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LibraryError, match="no file named like"):
        read_library(tmp_path / "empty")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(LibraryError, match=r"arrays \['x'\]"):
        read_library(tmp_path / "other.npz")


def test_wavelengths_of_the_model_are_the_papers() -> None:
    assert (len(WAVELENGTH), WAVELENGTH[0], WAVELENGTH[-1]) == (948, 4749.37, 7100.49)
