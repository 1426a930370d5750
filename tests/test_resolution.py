"""Line spread functions: sharper spectra come to look like the templates', blunter ones are measured up and judged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from galprote.model.checkpoint import load_checkpoint
from galprote.model.errors import CheckpointError, ConfigError, CubeError
from galprote.model.grids import EDGES, STEP, WAVELENGTH
from galprote.model.kinematics import C_KMS
from galprote.model.line_spread import FWHM_PER_SIGMA, MUSE, LineSpread, TemplateResolution
from galprote.pipeline import fit_spectra
from galprote.pipeline.config import read_survey
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.rebin import edges_of
from galprote.pipeline.resolution import (
    MOST_KMS,
    SAME_KMS,
    TOLD_KMS,
    instrument_width,
    match_resolution,
    matched_matrix,
)
from galprote.pipeline.rest_frame import PreprocessSettings, rebin_to_rest
from galprote.workflows.planning import plan_survey
from tests import cubes, surveys

Array = Any
TEMPLATES = TemplateResolution(library_fwhm=2.51)
#: Absorption lines, rest frame: centre in Angstrom, depth times width in Angstrom, own standard deviation in Angstrom.
LINES = [(centre, 0.3 + 0.4 * (k % 3), 0.6 + 0.2 * (k % 4)) for k, centre in enumerate(np.arange(4760.0, 7095.0, 9.7))]


def observed(
    edges: Array, fwhm: LineSpread | TemplateResolution, redshift: float, *, rest_frame: bool = False
) -> Array:
    """Mean flux between observed edges of a spectrum of lines, as an instrument draws it: exact, (n,).

    `rest_frame`: the line spread function is one of the rest frame, as the templates' is.
    """
    factor = 1 + redshift
    cumulative = np.array(edges, dtype=np.float64)
    for centre, area, own in LINES:
        at = np.array([centre if rest_frame else centre * factor])
        width = fwhm.fwhm_at(at)[0] / FWHM_PER_SIGMA * (factor if rest_frame else 1.0)
        sigma = np.hypot(own * factor, width)
        cumulative -= area * factor * ndtr((edges - centre * factor) / sigma)
    return np.diff(cumulative) / np.diff(edges)


def settings(wavelength: Array, redshift: float, broadening: tuple[float, ...] = ()) -> PreprocessSettings:
    wave = tuple(wavelength.tolist())
    return PreprocessSettings(wave, redshift, 0.0, "O94", 3.1, LineFilterConfig(), 5.0, 0.15, broadening=broadening)


def rebinned(wavelength: Array, flux: Array, redshift: float, broadening: tuple[float, ...] = ()) -> Array:
    column = flux.astype(np.float32)[:, None]
    good = np.ones(column.shape, bool)
    return rebin_to_rest(column, np.ones_like(column), good, settings(wavelength, redshift, broadening))[0][0]


# --- sharper ---


@pytest.mark.parametrize("redshift", [0.0, 0.03, 0.2])
@pytest.mark.parametrize(
    ("law", "step"), [({"fwhm": 1.0}, 0.4), ({"resolving_power": 4000.0}, 0.5), ({"fwhm": 1.9}, 0.9)]
)
def test_a_sharper_instrument_s_spectrum_becomes_the_templates(
    redshift: float, law: dict[str, float], step: float
) -> None:
    wavelength = np.arange(4700.0, 7150.0 + step, step) * (1 + redshift)  # wider channels at higher redshifts
    instrument = LineSpread(**law)
    flux = observed(edges_of(wavelength), instrument, redshift)
    match = match_resolution(wavelength, instrument.fwhm_at(wavelength), redshift, TEMPLATES, "test")
    assert "broadened" in match.note
    wanted = observed(EDGES * (1 + redshift), TEMPLATES, redshift, rest_frame=True)
    inside = slice(3, -3)
    as_it_was = rebinned(wavelength, flux, redshift)[inside] - wanted[inside]
    matched = rebinned(wavelength, flux, redshift, match.broadening)[inside] - wanted[inside]
    assert np.std(as_it_was) > 8e-3
    assert np.abs(matched).max() < 2e-3  # of lines 10 to 25 % deep: a twentieth of the noise at S/N 35
    assert np.std(matched) < np.std(as_it_was) / 20


def test_what_is_blunter_in_a_part_of_the_spectrum_is_left_alone_there() -> None:
    """As MaNGA's: sharper than the templates in the blue, blunter in the red."""
    wavelength = np.arange(4700.0, 7200.0, 1.0)
    fwhm = np.linspace(1.8, 5.0, wavelength.size)
    match = match_resolution(wavelength, fwhm, 0.0, TEMPLATES)
    sigma = np.array(match.broadening)
    blunter = fwhm > TEMPLATES.fwhm_at(wavelength)
    assert (sigma[blunter] == 0).all()
    assert (sigma[~blunter] > 0).all()
    assert "broadened" in match.note
    assert "blunter" in match.note
    assert match.blunter_kms == pytest.approx(75, abs=3)


def test_flux_is_conserved_and_a_flat_spectrum_stays_flat() -> None:
    wavelength = np.arange(4700.0, 7200.0, 0.9)
    matrix = matched_matrix(wavelength, 0.01, np.full(wavelength.size, 1.1))
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-5)
    inside = (wavelength > 4850 * 1.01) & (wavelength < 7000 * 1.01)  # each channel's light is somewhere
    shares = matrix.sum(axis=0)[inside] * STEP * 1.01 / 0.9
    np.testing.assert_allclose(shares, 1.0, atol=0.02)


def test_the_variance_is_that_of_independent_channels_through_the_kernel() -> None:
    """Against noise that is drawn; neighbouring samples are correlated, and less noisy for it."""
    wavelength = np.arange(4720.0, 7130.0, 1.25)
    sigma = tuple(np.full(wavelength.size, 1.2).tolist())
    rng = np.random.default_rng(3)
    scatter = np.linspace(1.0, 2.0, wavelength.size)[:, None]
    noise = (scatter * rng.standard_normal((wavelength.size, 3000))).astype(np.float32)
    variance = np.broadcast_to(scatter**2, noise.shape).astype(np.float32)
    good = np.ones(noise.shape, bool)
    flux, stated = rebin_to_rest(noise, variance, good, settings(wavelength, 0.0, sigma))
    np.testing.assert_allclose(flux.var(axis=0) / stated[0], 1.0, atol=0.12)  # of 3000 draws: 0.026 each
    assert np.mean(flux.var(axis=0) / stated[0]) == pytest.approx(1.0, abs=0.01)
    neighbours = np.mean(flux[:, 100:-1] * flux[:, 101:], axis=0) / stated[0, 100:-1]
    assert neighbours.mean() == pytest.approx(0.45, abs=0.03)
    plain = rebin_to_rest(noise, variance, good, settings(wavelength, 0.0))[1]
    assert (stated[0] < plain[0]).all()


def test_missing_channels_stay_missing_and_their_neighbours_do_not_suffer() -> None:
    wavelength = np.arange(4720.0, 7130.0, 1.25)
    sigma = tuple(np.full(wavelength.size, 1.0).tolist())
    flux = np.full((wavelength.size, 1), 5.0, np.float32)
    good = np.ones(flux.shape, bool)
    good[800:820] = False  # 25 A
    found = rebin_to_rest(flux, np.ones_like(flux), good, settings(wavelength, 0.0, sigma))[0][0]
    gap = (wavelength[800] < WAVELENGTH) & (wavelength[819] > WAVELENGTH)
    assert np.isnan(found[gap]).all()
    assert np.isnan(found).sum() <= gap.sum() + 1
    np.testing.assert_allclose(found[~np.isnan(found)], 5.0, rtol=1e-4)


# --- equal ---


@pytest.mark.parametrize("redshift", [0.0, 0.01, 0.05, 0.1])
def test_muse_needs_nothing_up_to_a_tenth(redshift: float) -> None:
    wavelength = np.arange(4740.0, 7120.0, 1.25) * (1 + redshift)
    match = match_resolution(wavelength, MUSE.fwhm_at(wavelength), redshift, TEMPLATES, "MUSE")
    assert (match.broadening, match.note, match.blunter_kms) == ((), "", 0.0)


def test_an_unknown_line_spread_is_said_and_changes_nothing() -> None:
    wavelength = np.arange(4740.0, 7120.0, 1.25)
    match = match_resolution(wavelength, np.full(wavelength.size, np.nan), 0.0, TEMPLATES)
    assert match.broadening == ()
    assert "give `instrument`" in match.note


def test_the_shipped_weights_know_how_sharp_they_are() -> None:
    found = TemplateResolution.of_metadata(load_checkpoint().metadata)
    assert found == TEMPLATES
    assert TemplateResolution.of_metadata({"training": {}}) == TemplateResolution()
    assert found.fwhm_at(np.array([5000.0, 7000.0])).tolist() == pytest.approx([2.913, 2.51], abs=1e-3)


@pytest.mark.parametrize("training", [7, {"config": []}, {"config": {"line_spread": {"fwhm": -1}}}])
def test_damaged_metadata_are_told(training: Any) -> None:
    with pytest.raises(CheckpointError, match="makes no sense"):
        TemplateResolution.of_metadata({"training": training})


# --- blunter ---


@pytest.mark.parametrize("redshift", [0.0, 0.05])
def test_a_blunt_instrument_is_told_as_a_dispersion(redshift: float) -> None:
    wavelength = np.arange(4740.0, 7120.0, 1.25) * (1 + redshift)
    match = match_resolution(wavelength, np.full(wavelength.size, 6.0), redshift, TEMPLATES, "CALIFA")
    rest = 4800.0  # the largest but a few per cent is in the blue
    extra = np.sqrt((6.0 / (1 + redshift)) ** 2 - TEMPLATES.fwhm_at(np.array([rest]))[0] ** 2) / 2.355 / rest * C_KMS
    assert match.blunter_kms == pytest.approx(extra, rel=0.04)
    assert match.broadening == ()
    assert f"up to {match.blunter_kms:.0f} km/s" in match.note
    assert "galprote-pipeline train" in match.note


def test_the_bluntest_are_refused_with_the_command_that_helps() -> None:
    wavelength = np.arange(4740.0, 7120.0, 1.25)
    limit = next(f for f in np.arange(6.0, 20.0, 0.1) if _blunter(wavelength, f) > MOST_KMS)
    assert 11 < limit < 13
    with pytest.raises(CubeError, match=r"too blunt .*galprote-pipeline train .*--library") as caught:
        match_resolution(wavelength, np.full(wavelength.size, 15.0), 0.0, TEMPLATES, "a prism")
    assert "a prism" in str(caught.value)
    match_resolution(wavelength * 1.3, np.full(wavelength.size, 15.0), 0.3, TEMPLATES)  # redshift makes it sharper


def _blunter(wavelength: Array, fwhm: float) -> float:
    rest = 4800.0
    return float(np.sqrt(fwhm**2 - TEMPLATES.fwhm_at(np.array([rest]))[0] ** 2) / 2.355 / rest * C_KMS)


@pytest.mark.parametrize(
    ("fwhm", "step", "told"),
    [(2.9, 1.25, False), (6.0, 2.0, False), (2.9, 4.0, True), (np.nan, 4.0, True), (8.0, 3.0, False)],
)
def test_channels_that_are_too_wide_for_the_lines_are_told(fwhm: float, step: float, told: bool) -> None:
    """And the limit is where the rebinning begins to smooth the spectrum."""
    wavelength = np.arange(4700.0, 7150.0, step)
    match = match_resolution(wavelength, np.full(wavelength.size, fwhm), 0.0, TEMPLATES)
    assert ("too wide for lines" in match.note) == told
    law = LineSpread(fwhm=fwhm if np.isfinite(fwhm) else 2.7)
    found = rebinned(wavelength, observed(edges_of(wavelength), law, 0.0), 0.0)
    error = np.std((found - observed(EDGES, law, 0.0))[5:-5])
    assert (error > 3e-3) == told


def test_limits_are_in_order() -> None:
    assert 0 < SAME_KMS < TOLD_KMS < MOST_KMS <= 320


def test_a_width_of_nothing_is_refused() -> None:
    wavelength = np.arange(4740.0, 7120.0, 1.25)
    with pytest.raises(CubeError, match="not positive"):
        match_resolution(wavelength, LineSpread(polynomial=(1.0, -1e-3)).fwhm_at(wavelength), 0.0, TEMPLATES, "s")


# --- in a survey ---


def _survey(folder: Path, checkpoint: Path, **galaxy: Any) -> Path:
    surveys.write_cube(folder / "cube.fits", (4, 3))
    return surveys.write_survey(folder, [{"name": "A", "cube": "cube.fits"} | galaxy], checkpoint)


def test_the_survey_s_instrument_wins_over_the_file_s(tmp_path: Path, checkpoint: Path) -> None:
    plain, _ = surveys.first_job(_survey(tmp_path / "a", checkpoint))
    assert plain.settings.preprocess.broadening == ()
    sharp, _ = surveys.first_job(_survey(tmp_path / "b", checkpoint, instrument={"fwhm": 1.0}))
    broadening = np.array(sharp.settings.preprocess.broadening)
    assert broadening.shape == plain.cube.wavelength.shape
    assert (broadening > 0.8).all()
    assert sharp.layout.fingerprint != plain.layout.fingerprint
    assert replace(sharp.settings.preprocess, broadening=()) == plain.settings.preprocess
    assert isinstance(hash(sharp.settings.preprocess), int)
    with pytest.raises(CubeError, match=r"cube.fits: the instrument is too blunt"):
        surveys.first_job(_survey(tmp_path / "c", checkpoint, instrument={"resolving_power": 300}))


def test_the_plan_says_that_an_instrument_is_too_blunt(tmp_path: Path, checkpoint: Path) -> None:
    good, bad = (_survey(tmp_path / str(fwhm), checkpoint, instrument={"fwhm": fwhm}) for fwhm in (6.0, 20.0))
    assert plan_survey(read_survey(good))[0].problem == ""
    assert "too blunt" in plan_survey(read_survey(bad))[0].problem


def test_a_run_says_what_the_instrument_means(tmp_path: Path, checkpoint: Path) -> None:
    progress = surveys.Recorder()
    survey = _survey(tmp_path, checkpoint, instrument={"fwhm": 6.0})
    (result,) = surveys.run_here(survey, progress=progress)
    assert result.outcome == "done"
    assert any("blunter than the templates (the survey's `instrument`" in text for text in progress.messages)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"fwhm": 2.0, "resolving_power": 1800}, "give one of"),
        ({"fwhm": -1.0}, r"instrument\.fwhm"),
        ({"sigma": 1.0}, "sigma"),
    ],
)
def test_a_wrong_section_is_refused(tmp_path: Path, checkpoint: Path, section: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_survey(_survey(tmp_path, checkpoint, instrument=section))


def test_the_width_to_believe() -> None:
    wavelength = np.array([5000.0, 6000.0])
    told = np.array([2.0, 3.0])
    assert instrument_width(wavelength, told, "file", None) == (pytest.approx(told), "file")
    fwhm, source = instrument_width(wavelength, told, "file", LineSpread(resolving_power=2000))
    assert fwhm.tolist() == [2.5, 3.0]
    assert source == "the survey's `instrument`"


def test_fit_spectra_takes_an_instrument(checkpoint: Path) -> None:
    """A sharp spectrum with its FWHM gives what the templates' resolution gives; without it, something else."""
    wavelength = np.arange(4720.0, 7130.0, 0.6)
    laws = LineSpread(fwhm=1.2), TemplateResolution()  # the latter is the random weights'
    sharp, same = (observed(edges_of(wavelength), law, 0.0)[None] for law in laws)
    variance = np.full(sharp.shape, 1e-6)
    found = [
        fit_spectra(wavelength, flux, variance, checkpoint=checkpoint, fwhm=fwhm).grid
        for flux, fwhm in ((same, None), (sharp, 1.2), (sharp, None), (same, MUSE.fwhm_at(wavelength)))
    ]
    distance = [np.abs(grid - found[0]).sum() for grid in found]
    assert distance[3] == 0.0
    assert 0 < distance[1] < distance[2] / 5
    with pytest.raises(ValueError, match="fwhm: expected one positive width"):
        fit_spectra(wavelength, same, variance, checkpoint=checkpoint, fwhm=[1.0, 2.0])
    with pytest.raises(CubeError, match="too blunt"):
        fit_spectra(wavelength, same, variance, checkpoint=checkpoint, fwhm=20.0)


def test_other_instruments_cubes_in_muse_s_layout_are_not_taken_for_muse(tmp_path: Path) -> None:
    flux, variance = cubes.spectra()
    cube = cubes.opened(cubes.write_muse_cube(tmp_path / "a.fits", flux, variance, primary={"INSTRUME": "KOALA"}))
    assert np.isnan(cube.lsf_fwhm).all()
