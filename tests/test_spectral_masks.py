"""Wavelength masks: nGIST's files are read as nGIST reads them, and what is masked has no influence on the fit."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.model.grids import EDGES, KEPT, STEP, WAVELENGTH
from galprote.pipeline.mask_config import MasksConfig
from galprote.pipeline.preprocess import SpectraBatch, preprocess
from galprote.pipeline.quality import Status
from galprote.pipeline.rebin import edges_of
from galprote.pipeline.spectral_masks import (
    MOST_MASKED,
    WIDEST_MASKED,
    WavelengthMasks,
    band_words,
    check_masked_share,
    mask_attributes,
    masked_samples,
    merged,
    read_spec_mask,
    touched,
    wavelength_masks,
)
from tests.test_preprocess import channels, options

#: Lines as nGIST's own files have them, a comment behind a line, an adaptive one, and one in a column too many.
SPEC_MASK = """# This file defines spectral ranges that are masked.
#
# Lambda [Angst.]    Width [Angst.]    Comment
4861.32              30                Hb
5577.00              10                sky

5875.60              30.5              HeI-adaptive
5890.00              30                Sky_NaD  # not the galaxy's
6300.20              30                [OI] forbidden
5895.92              20                NaD
"""


def spectra(redshift: float, n: int = 12) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Wavelength, flux (m, n) around 100 with a slope and noise of 2 %, variance."""
    wavelength = channels(redshift)
    random = np.random.default_rng(5)
    flux = (100 + 0.01 * (wavelength - 6000))[:, None] * random.normal(1, 0.02, (len(wavelength), n))
    return wavelength, flux.astype(np.float32), np.full((len(wavelength), n), 4.0, np.float32)


def fields(batch: SpectraBatch, *without: str) -> dict[str, NDArray[np.generic]]:
    return {name: values for name, values in vars(batch).items() if name not in without}


# --- files ---


def test_an_ngist_file_is_read_as_ngist_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "specMask_KIN"
    path.write_text(SPEC_MASK)
    found = read_spec_mask(path)
    assert found.observed == ((5572.0, 5582.0), (5875.0, 5905.0))
    assert found.rest == pytest.approx(
        np.array([(4846.32, 4876.32), (5860.35, 5905.92), (6285.2, 6315.2)])
    )  # HeI and NaD touch


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("5577.0 30", r"line 2 \(5577.0 30\): 2 columns: expected wavelength and width in Angstrom and a name"),
        ("5577.0", r"line 2 .*: 1 column"),
        ("Hb 4861.32 30", r"line 2 .*: expected wavelength and width in Angstrom and a name, as in"),
        ("5577.0 wide sky", "line 2 .*: expected wavelength and width"),
        ("557.7 3 sky", "line 2 .*: wavelength 557.7: expected 1000 to 30000 Angstrom"),
        ("nan 3 sky", "line 2 .*: wavelength nan"),
        ("5577.0 -30 sky", "line 2 .*: width -30: expected a positive number"),
        ("5577.0 nan sky", "line 2 .*: width nan"),
        ("5577.0,30,sky", "line 2 .*: 1 column"),
    ],
)
def test_a_line_that_is_not_understood_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "specMask_KIN"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(ConfigError, match=f"spectral mask {path}, {problem}"):
        read_spec_mask(path)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read .*No such file"):
        read_spec_mask(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"SIMPLE  =\xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot be read .*name a specMask file"):
        read_spec_mask(tmp_path / "binary")


BANDS = st.lists(st.tuples(st.integers(4000, 8000), st.integers(1, 300)), max_size=8).map(
    lambda items: [(float(first), float(first + width)) for first, width in items]
)


@given(BANDS)
def test_merging_changes_no_wavelength(bands: list[tuple[float, float]]) -> None:
    joined = merged(bands)
    points = np.arange(3999.5, 8400)

    def inside(listed: object) -> NDArray[np.bool_]:
        return np.any([(points > a) & (points < b) for a, b in listed] or [points < 0], axis=0)  # type: ignore[attr-defined]

    np.testing.assert_array_equal(inside(joined), inside(bands))
    assert all(a[1] < b[0] for a, b in pairwise(joined))


def test_a_surveys_bands_and_files_are_put_together(tmp_path: Path) -> None:
    path = tmp_path / "specMask_KIN"
    path.write_text(SPEC_MASK)
    masks = MasksConfig(observed=((5580.0, 5590.0),), rest=((5000.0, 5010.0),), spec_masks=(str(path),))
    found = wavelength_masks(masks)
    assert found.observed == ((5572.0, 5590.0), (5875.0, 5905.0))
    assert found.rest[1] == (5000.0, 5010.0)
    assert len(found.rest) == 4


@pytest.mark.parametrize("band", [(5585.0, 5570.0), (5570.0, 5570.0), (557.0, 558.5), (5570.0, float("inf"))])
def test_bands_that_are_none_are_refused(band: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"expected \[first, last\] in Angstrom \(air\), ascending"):
        MasksConfig(observed=(band,))


# --- which samples ---


@given(redshift=st.floats(0, 0.1))
def test_a_sky_mask_moves_through_the_rest_frame_and_a_line_mask_does_not(redshift: float) -> None:
    first, last = 5570.0 * 1.05, 5600.0 * 1.05
    sky = masked_samples(WavelengthMasks(observed=((first, last),)), redshift)
    assert WAVELENGTH[sky].mean() == pytest.approx((first + last) / 2 / (1 + redshift), abs=STEP / 2)
    assert sky.sum() * STEP == pytest.approx((last - first) / (1 + redshift), abs=1.01 * STEP)
    line = masked_samples(WavelengthMasks(rest=((5000.0, 5030.0),)), redshift)
    np.testing.assert_array_equal(line, (EDGES[1:] > 5000.0) & (EDGES[:-1] < 5030.0))


def masked_in(batch: SpectraBatch) -> NDArray[np.bool_]:
    """Samples (948,) that a fit of spectra without gaps did not use, outside the emission bands."""
    used: NDArray[np.bool_] = batch.used.any(axis=0)
    return ~used & KEPT


@settings(max_examples=15, deadline=None)
@given(redshift=st.floats(0, 0.1))
def test_the_channels_of_a_sky_mask_are_those_of_the_night_sky(redshift: float) -> None:
    """In a galaxy of any redshift: the samples that are lost look at 5870 to 5900 A of the observed frame."""
    wavelength, flux, variance = spectra(redshift, 3)
    observed = (5870.0, 5900.0)
    masks = WavelengthMasks(observed=(observed,))
    batch = preprocess(flux, variance, options(wavelength, redshift, masks=masks))
    edges = EDGES * (1 + redshift)
    inside = (edges[:-1] >= observed[0]) & (edges[1:] <= observed[1])
    touching = (edges[1:] > observed[0] - 1.25) & (edges[:-1] < observed[1] + 1.25)
    assert masked_in(batch)[inside & KEPT].all()
    assert not batch.used[:, inside].any()
    assert not (masked_in(batch) & ~touching).any()
    estimate = masked_samples(masks, redshift)
    assert (masked_in(batch) ^ (estimate & KEPT)).sum() <= 2  # one sample at either end


# --- no influence ---


@settings(max_examples=15, deadline=None)
@given(redshift=st.floats(0, 0.05), frame=st.sampled_from(["observed", "rest"]), seed=st.integers(0, 99))
def test_the_flux_under_a_mask_does_not_matter(redshift: float, frame: str, seed: int) -> None:
    wavelength, flux, variance = spectra(redshift)
    random = np.random.default_rng(seed)
    first = random.uniform(4900, 6900)
    band = (first, first + random.uniform(3, 100))
    masks = WavelengthMasks(**{frame: (band,)})
    chosen = options(wavelength, redshift, masks=masks)
    scale = 1.0 if frame == "observed" else 1 + redshift
    edges = edges_of(wavelength)
    # Of the rest frame whole samples are masked: fluxes of channels that also make up others may not change.
    under = (edges[:-1] >= band[0] * scale) & (edges[1:] <= band[1] * scale)
    if frame == "rest":
        under &= (edges[:-1] >= (band[0] + 3 * STEP) * scale) & (edges[1:] <= (band[1] - 3 * STEP) * scale)
    changed, noise = flux.copy(), variance.copy()
    changed[under] = random.choice([0.0, 1e6, -50.0], (under.sum(), flux.shape[1]))
    noise[under] *= 7.0
    one, other = preprocess(flux, variance, chosen), preprocess(changed, noise, chosen)
    for name, values in fields(one, "rebinned").items():
        np.testing.assert_array_equal(values, getattr(other, name), err_msg=name)


def test_the_cubes_keep_what_is_masked() -> None:
    wavelength, flux, variance = spectra(0.01)
    masks = WavelengthMasks(observed=((5700.0, 5770.0),), rest=((5100.0, 5150.0),))
    plain = preprocess(flux, variance, options(wavelength, 0.01))
    masked = preprocess(flux, variance, options(wavelength, 0.01, masks=masks))
    np.testing.assert_array_equal(masked.rebinned, plain.rebinned)
    assert np.isinf(masked.noise[:, masked_in(masked)[KEPT]]).all()
    assert masked_in(masked).sum() == pytest.approx(50 / STEP + 70 / 1.01 / STEP, abs=4)


def test_masked_samples_do_not_count_as_missing() -> None:
    """A fifth of the samples is masked, a tenth missing, half of that under the masks."""
    wavelength, flux, variance = spectra(0.0)
    rest = tuple((first, first + 40.0) for first in np.arange(4800.0, 7000, 200))
    masks = WavelengthMasks(rest=rest)
    assert masked_samples(masks, 0.0)[KEPT].mean() == pytest.approx(0.2, abs=0.02)
    gaps = touched(edges_of(wavelength), tuple((first - 20, first + 20) for first in np.arange(4800.0, 6000, 200)))
    flux[gaps] = np.nan
    batch = preprocess(flux, variance, options(wavelength, max_filled=0.15, masks=masks))
    assert batch.fitted.all()
    missing = np.isnan(batch.rebinned[0]) & ~masked_samples(masks, 0.0) & KEPT
    np.testing.assert_allclose(batch.filled_fraction, missing.sum() / KEPT.sum(), atol=2e-3)
    assert not (batch.status & Status.FILLED).any()
    plain = preprocess(flux, variance, options(wavelength, max_filled=0.15))
    assert plain.filled_fraction[0] > 1.6 * batch.filled_fraction[0]


def test_without_masks_nothing_changes() -> None:
    wavelength, flux, variance = spectra(0.01)
    flux[300:330, 1:4] = np.nan
    plain = preprocess(flux, variance, options(wavelength, 0.01))
    beyond = WavelengthMasks(observed=((9000.0, 9100.0),), rest=((3700.0, 3750.0),))
    other = preprocess(flux, variance, dataclasses.replace(options(wavelength, 0.01), masks=beyond))
    for name, values in fields(plain).items():
        np.testing.assert_array_equal(values, getattr(other, name), err_msg=name)


# --- too much ---


def test_the_share_is_of_the_samples_that_the_weights_use() -> None:
    masks = WavelengthMasks(rest=((4853.0, 4867.0), (6000.0, 6100.0)))  # the former in a band that no weights use
    share = check_masked_share(masks, 0.0, KEPT, "N1")
    assert share == pytest.approx(100 / STEP / KEPT.sum(), abs=3 / KEPT.sum())
    assert check_masked_share(masks, 0.0, KEPT & (WAVELENGTH < 5900), "N1") < 3 / KEPT.sum()


def test_too_many_or_too_wide_bands_are_refused() -> None:
    many = WavelengthMasks(rest=tuple((first, first + 60.0) for first in np.arange(4800.0, 7000, 200)))
    with pytest.raises(ConfigError, match=rf"N1: masks: .* leave out 29\.\d% .*, more than {MOST_MASKED:.0%}"):
        check_masked_share(many, 0.0, KEPT, "N1")
    widest = WAVELENGTH[400:][:WIDEST_MASKED]
    wide = WavelengthMasks(rest=((widest[0], widest[-1]),))
    check_masked_share(wide, 0.0, np.ones(948, bool), "N1")
    wider = WavelengthMasks(rest=((widest[0], widest[-1] + STEP),))
    with pytest.raises(ConfigError, match=r"all from 5742 to 5941 A \(rest frame\), 81 samples, more than the 80"):
        check_masked_share(wider, 0.0, np.ones(948, bool), "N1")


def test_bands_beyond_the_window_cost_nothing() -> None:
    masks = WavelengthMasks(observed=((3000.0, 4700.0), (7300.0, 9400.0)))
    assert check_masked_share(masks, 0.0, KEPT, "N1") == 0.0


def test_bands_in_words() -> None:
    assert list(band_words(((5570.0, 5585.5), (6285.21, 6300.0)))) == ["5570-5585.5", "6285.21-6300"]
    about = mask_attributes(WavelengthMasks(rest=((5000.0, 5100.0),)), 0.0, KEPT.tolist())
    assert (about["masked_rest"], about["masked_observed"]) == ("5000-5100", "")
    assert 0.03 < float(about["masked_fraction"]) < 0.05
