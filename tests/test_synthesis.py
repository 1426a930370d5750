"""The paper's synthetic data: counts, labels, noise and reproducibility."""

import itertools

import numpy as np
import pytest
import torch

from galprote.model.decoder import Decoder, kept_median
from galprote.model.grids import KEPT
from galprote.model.synthesis import NoiseConfig, Synthesizer, smoothed_templates_matrix
from tests.libraries import synthetic_decoder

QUIET = NoiseConfig(levels=(0.0,), patches=(0, 0))


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return synthetic_decoder()


def first(synthesizer: Synthesizer, n: int) -> torch.Tensor:
    return next(synthesizer.stream(n)).spectra


def test_the_paper_set_has_111936_spectra_as_in_table_1(decoder: Decoder) -> None:
    synthesizer = Synthesizer(decoder, QUIET, 1)
    count, cells, av = 0, [], []
    for batch in synthesizer.paper_set(batch=8192):
        count += len(batch.av)
        cells.append((batch.grid > 0).sum((1, 2)))
        av.append(batch.av)
    assert count == 111_936
    attenuations, numbers = torch.cat(av).unique(return_counts=True)
    np.testing.assert_allclose(attenuations, np.arange(16) / 10, atol=1e-6)
    assert (numbers == 6_996).all()
    # One population covers at most the nine cells of its neighbourhood; three of eleven spectra are single ones.
    assert (torch.cat(cells) <= 9).sum() >= 3 * 636 * 16
    assert torch.cat(cells).max() <= 45


def test_labels_make_the_spectrum(decoder: Decoder) -> None:
    batch = next(Synthesizer(decoder, QUIET, 3).stream(64))
    torch.testing.assert_close(batch.grid.sum((1, 2)), torch.ones(64))
    spectra = batch.grid.flatten(1) @ decoder.templates()
    spectra = spectra * 10 ** (-0.4 * batch.av[:, None] * decoder.attenuation())
    torch.testing.assert_close(batch.clean, spectra / kept_median(spectra)[:, None])
    torch.testing.assert_close(batch.spectra, batch.clean[:, torch.from_numpy(KEPT)], atol=1e-6, rtol=1e-6)


def test_section_3_1_spreads_and_weights_a_population(decoder: Decoder) -> None:
    spread = smoothed_templates_matrix(decoder).unflatten(1, decoder.shape).unflatten(0, decoder.shape)
    total = spread.sum((2, 3))
    torch.testing.assert_close(total[0], torch.full((53,), 0.7))
    torch.testing.assert_close(total[-1], torch.full((53,), 1.4))
    middle = spread[6, 20] / total[6, 20]
    side = float(np.exp(-0.5 / 0.7**2) / (1 + 2 * np.exp(-0.5 / 0.7**2)))
    assert middle[6, 20] == pytest.approx((1 - 2 * side) ** 2, abs=1e-6)
    assert middle[5, 20] == pytest.approx(side * (1 - 2 * side), abs=1e-6)
    assert middle[5:8, 19:22].sum() == pytest.approx(1.0, abs=1e-6)


def test_the_noise_has_the_level_that_was_asked_for(decoder: Decoder) -> None:
    synthesizer = Synthesizer(decoder, NoiseConfig(levels=(0.04,), patches=(0, 0)), 5)
    batch = next(synthesizer.stream(256))
    deviation = batch.spectra - batch.clean[:, torch.from_numpy(KEPT)]
    assert deviation.std().item() == pytest.approx(0.04, rel=0.03)


def test_patches_are_noise_or_the_patchs_median(decoder: Decoder) -> None:
    synthesizer = Synthesizer(decoder, NoiseConfig(levels=(0.0,), patches=(1, 1), patch_width=(15, 15)), 7)
    flux = torch.linspace(0.5, 1.5, 948).repeat(400, 1)
    spoiled, medians = synthesizer._patch(flux)
    changed = spoiled - flux
    widths = (changed != 0).sum(1)
    assert ((widths >= 14) & (widths <= 15)).all()  # the sample that is the median stays
    values = torch.where(changed != 0, flux + changed, torch.nan)
    constant = torch.tensor([len(row[~row.isnan()].unique()) == 1 for row in values])
    assert 0.4 < constant.float().mean().item() < 0.6
    assert torch.equal(medians.any(1), constant)  # and it is known which
    assert (medians.sum(1)[constant] == 15).all()
    middles = torch.tensor([row[~row.isnan()][0] for row in values[constant]])
    centres = torch.tensor([flux[0, row != 0].mean() for row in changed[constant]])
    torch.testing.assert_close(middles, centres, atol=1e-5, rtol=0)


def test_number_of_patches(decoder: Decoder) -> None:
    noise = NoiseConfig(levels=(0.0,), patches=(15, 25), patch_width=(3, 3))
    changed = Synthesizer(decoder, noise, 8)._patch(torch.arange(948.0).repeat(200, 1))[0] - torch.arange(948.0)
    touched = (changed != 0).sum(1)
    assert touched.max() <= 75
    assert touched.float().mean() == pytest.approx(20 * 2.5, rel=0.1)  # a median patch keeps its middle sample


def test_wide_gaps_are_filled_as_the_pipeline_fills_them(decoder: Decoder) -> None:
    noise = NoiseConfig(levels=(0.0,), patches=(0, 0), gap_fraction=1.0, gap_width=(63, 63))
    flux = torch.ones(16, 948)
    filled, lost = Synthesizer(decoder, noise, 9)._gap(flux)
    torch.testing.assert_close(filled, flux)
    assert (lost.sum(1) == 63).all()
    curved = torch.linspace(-1, 1, 948).square().repeat(16, 1)
    filled, lost = Synthesizer(decoder, noise, 9)._gap(curved)
    assert torch.equal(filled[~lost], curved[~lost])
    assert ((filled != curved).sum(1) > 50).all()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(decoder: Decoder) -> None:
    noise = NoiseConfig(gap_fraction=0.5)
    assert torch.equal(first(Synthesizer(decoder, noise, 11), 64), first(Synthesizer(decoder, noise, 11), 64))
    assert not torch.equal(first(Synthesizer(decoder, noise, 11), 64), first(Synthesizer(decoder, noise, 12), 64))


def test_the_stream_never_repeats(decoder: Decoder) -> None:
    one, two = itertools.islice(Synthesizer(decoder, QUIET, 1).stream(8), 2)
    assert not torch.equal(one.grid, two.grid)


def test_spectra_have_median_one(decoder: Decoder) -> None:
    spectra = first(Synthesizer(decoder, NoiseConfig(gap_fraction=0.5), 13), 64)
    torch.testing.assert_close(spectra.median(1).values, torch.ones(64))
