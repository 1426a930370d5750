"""Anomalies are what their names say, and the ingredients of the appraisal's stream do what they say."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from galprote.model.anomalies import ANOMALIES, TESTED, TRAINING, Anomalies
from galprote.model.appraisal import VelocitySearch
from galprote.model.artefacts import ArtefactConfig, Artefacts, Circumstances
from galprote.model.grids import KEPT, WAVELENGTH
from galprote.model.kinematics import C_KMS, KinematicTemplates
from galprote.model.stars import rough_stars
from galprote.model.stream import INGREDIENTS, StreamConfig, TrainingStream
from galprote.model.synthesis import NoiseConfig, SyntheticSpectra
from tests.libraries import synthetic_decoder

N = 200
KEPT_SAMPLES = torch.from_numpy(KEPT)
QUIET = frozenset(INGREDIENTS) - {"smooth", "bursts", "flat"}
BARE = StreamConfig(paper=0.0, quiet=0.0, without=QUIET)


@pytest.fixture(scope="module")
def search() -> VelocitySearch:
    module = VelocitySearch()
    module.set_basis(synthetic_decoder().templates()[:, KEPT_SAMPLES])
    return module


@cache
def templates() -> KinematicTemplates:
    return KinematicTemplates.from_decoder(synthetic_decoder())


@cache
def made(config: StreamConfig) -> TrainingStream:
    """Streams are slow to make."""
    return TrainingStream(synthetic_decoder(), config, NoiseConfig(), 3, templates())


def stream(config: StreamConfig, seed: int = 3) -> TrainingStream:
    made(config).generator.manual_seed(seed)
    return made(config)


def make(kind: str, snr: float = 200.0, **severity: object) -> SyntheticSpectra:
    """Without artefacts, at a high signal-to-noise ratio; of another severity from the same random numbers."""
    chosen = replace(TESTED, **severity)  # type: ignore[arg-type]
    return Anomalies(stream(BARE), rough_stars(50, 1), chosen).make(kind, N, torch.full((N,), snr))


@pytest.mark.parametrize("kind", ANOMALIES)
def test_every_kind_is_a_spectrum_of_median_one(kind: str) -> None:
    for severity in (TRAINING, TESTED):
        batch, again, other = (
            Anomalies(stream(StreamConfig(), seed), rough_stars(50, 1), severity).make(kind, N) for seed in (3, 3, 4)
        )
        assert torch.isfinite(batch.spectra).all()
        torch.testing.assert_close(batch.spectra.median(dim=1).values, torch.ones(N), atol=1e-5, rtol=0)
        assert (batch.noise > 0).all()
        assert torch.isfinite(batch.noise).any(dim=1).all()
        assert torch.equal(batch.spectra, again.spectra)
        assert torch.equal(batch.noise, again.noise)
        assert not torch.equal(batch.spectra, other.spectra)


def test_a_wrong_redshift_is_where_it_says(search: VelocitySearch) -> None:
    batch = make("redshift")
    _, found = search(batch.spectra, batch.redshift)
    assert ((found.abs() - 1000.0).abs() < search.step).float().mean() > 0.9
    assert ((found.abs() - 1000.0).abs() < 2 * search.step).float().mean() > 0.97
    assert 0.3 < (found > 0).float().mean() < 0.7


def test_the_search_finds_stars_where_the_galaxys_redshift_leaves_them(search: VelocitySearch) -> None:
    batch = make("star", snr=1000.0)
    numbers, found = search(batch.spectra, batch.redshift)
    recession = C_KMS * batch.redshift
    assert ((found + recession).abs() < 300.0).float().mean() > 0.85
    far = recession > 900.0
    assert far.sum() > 100
    here, at_star = numbers[:, 0], numbers[:, 2]
    assert (at_star > here)[far].float().mean() > 0.95
    galaxies = make("redshift", snr=1000.0, redshift_kms=(0.0, 0.0))
    numbers, _ = search(galaxies.spectra, galaxies.redshift)
    assert (numbers[:, 2] > numbers[:, 0])[C_KMS * galaxies.redshift > 900.0].float().mean() < 0.05


def test_a_star_is_at_rest() -> None:
    """Its lines lie where they are at rest, whatever the galaxy's redshift."""
    batch = make("star", snr=1000.0)
    deepest = []
    for row, redshift in zip(batch.clean.numpy(), batch.redshift.numpy(), strict=True):
        observed = WAVELENGTH * (1 + redshift)
        near = np.abs(observed - 6562.80) < 25
        depth = np.interp(observed[near], observed[near][[0, -1]], row[near][[0, -1]]) - row[near]
        if depth.max() > 0.08:
            deepest.append(observed[near][depth.argmax()])
    assert len(deepest) > 30
    assert abs(np.median(deepest) - 6562.80) < 2.5


def test_dust_is_more_than_the_network_knows() -> None:
    ordinary = stream(BARE)
    zero = torch.zeros(N)
    most = ordinary.observe(ordinary.populations(N), torch.full((N,), 3.0), zero, zero, torch.full((N,), 200.0))

    def colour(batch: SyntheticSpectra) -> torch.Tensor:
        return batch.spectra[:, -50:].mean(1) / batch.spectra[:, :50].mean(1)

    assert colour(make("dusty", av=(4.0, 5.0))).median() > 1.15 * colour(most).median()
    dusty = [colour(make("dusty", av=(av, av))) for av in (3.0, 4.0, 6.0)]
    assert (dusty[0] < dusty[1]).all()
    torch.testing.assert_close((dusty[2] / dusty[1]).log(), 2 * (dusty[1] / dusty[0]).log(), atol=0.03, rtol=0.05)


def test_a_blend_is_of_two(search: VelocitySearch) -> None:
    alone, blend = (make("blend", snr=1000.0, blend_kms=(2000.0, 2000.0), blend_share=(x, x)) for x in (0.0, 0.4))
    numbers, found = search(alone.spectra, alone.redshift)
    here = found.abs() < 300.0
    assert (here | ((found.abs() - 2000.0).abs() < 300.0)).float().mean() > 0.97
    assert 0.35 < here.float().mean() < 0.65
    mixed, _ = search(blend.spectra, blend.redshift)
    assert (mixed[:, 0] < numbers[:, 0])[here].float().mean() > 0.9


def test_a_nucleus_has_broad_lines() -> None:
    faint, bright = (make("agn", snr=1000.0, broad_ew=(width, width)) for width in (1e-3, 100.0))
    wave = torch.from_numpy(WAVELENGTH[KEPT])
    wing = ((wave - 6562.8).abs() > 35) & ((wave - 6562.8).abs() < 60)
    more = bright.spectra / faint.spectra
    excess = more[:, wing].mean(1) / more[:, (wave > 6200) & (wave < 6300)].mean(1)
    assert excess.quantile(0.1) > 1.02
    assert excess.median() > 1.5


def test_the_skys_lines_are_where_they_were_observed() -> None:
    """So bright that the pipeline takes them out, as far as the sky's redshift is the galaxy's."""
    batch = make("sky")
    observed = torch.from_numpy(WAVELENGTH[KEPT]) * (1 + batch.redshift[:, None])
    gone = torch.isinf(batch.noise)
    for line in (5577.34, 6300.30):
        near = (observed - line).abs() < 1.3
        assert near.sum() > N / 2
        assert gone[near].float().mean() > 0.99
    assert gone.float().mean() < 0.15


def test_dead_channels_record_nothing() -> None:
    batch = make("dead", dead_runs=(1, 1), dead_width=(30, 30))
    still = (batch.spectra.diff(dim=1).abs() < 1e-6) & torch.isfinite(batch.noise[:, 1:])
    silent = (batch.spectra < 0.65).sum(dim=1)
    assert (still.sum(dim=1) > 20).float().mean() > 0.3  # half of them have noise of their own
    assert (silent > 15).float().mean() > 0.8


def test_a_step_has_its_size() -> None:
    small, large = (make("step", snr=1000.0, step=(size, size)) for size in (0.001, 0.2))
    ratio = (large.spectra / small.spectra).numpy()  # the same random numbers, but for the size
    ends = ratio[:, -20:].mean(axis=1) / ratio[:, :20].mean(axis=1)
    assert (np.abs(np.abs(ends - 1) - 0.2) < 0.01).mean() > 0.9
    assert 0.3 < (ends > 1).mean() < 0.7


def test_noise_is_noise() -> None:
    batch = make("noise")
    scatter = batch.spectra.diff(dim=1).abs().median(dim=1).values / 0.9539
    assert (1 / scatter < 2.0).float().mean() > 0.95
    claimed = 1 / batch.noise.median(dim=1).values
    assert (claimed > 3 / scatter).float().mean() > 0.2  # variances that are far too small


# --- what the appraisal's stream has besides ---


def test_what_is_off_draws_no_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes from before give what they gave: the same as effects that know nothing of all this."""
    source = stream(StreamConfig(), 9)
    off = [source.batch(200) for _ in range(2)]

    def stated_noise(self: Artefacts, around: Circumstances) -> torch.Tensor:
        n = len(around.noise)
        factor = torch.exp(self.config.noise_misjudged * self.normal(n, 1) * (self.uniform(n, 1) < 0.5))
        middle = around.noise.median(dim=1, keepdim=True).values.expand_as(around.noise)
        return factor * torch.where(self.uniform(n, 1) < 0.25, middle, around.noise)

    before: dict[str, Callable[..., torch.Tensor]] = {
        "template_errors": lambda self, n: torch.zeros(n),
        "differ": lambda self, clean, expected: clean,
        "grain": lambda self, n, m: self.normal(n, m),
        "stated_noise": stated_noise,
    }
    for name, function in before.items():
        monkeypatch.setattr(Artefacts, name, function)
    source = stream(StreamConfig(), 9)
    for known in off:
        plain = source.batch(200)
        for name in vars(known):
            assert torch.equal(getattr(known, name), getattr(plain, name)), name


def bare(without: frozenset[str] = QUIET, **settings: object) -> SyntheticSpectra:
    artefacts = ArtefactConfig.model_validate({"snr": (50.0, 50.0), **settings})
    return stream(BARE.model_copy(update={"artefacts": artefacts, "without": without}), 5).batch(600)


def in_noise(batch: SyntheticSpectra) -> torch.Tensor:
    return (batch.spectra - batch.continuum[:, KEPT_SAMPLES]) / batch.noise


def test_the_streams_noise_correlates() -> None:
    for most, mean in ((0.0, 0.0), (0.4, 0.2)):
        noise = in_noise(bare(noise_correlation=most))
        assert abs(float(noise.std()) - 1) < 0.01
        assert abs(float((noise[:, 1:] * noise[:, :-1]).mean()) - mean) < 0.02


def test_the_streams_noise_is_wrong_where_it_is_misjudged() -> None:
    right = in_noise(bare(noise_wrong=0.5)).std(dim=1)
    torch.testing.assert_close(right, torch.ones(600), atol=0.12, rtol=0)
    wrong = in_noise(bare(QUIET - {"misjudged_noise"}, noise_misjudged=0.0, noise_wrong=0.5)).std(dim=1)
    assert 0.35 < float((wrong.log().abs() > 0.12).float().mean()) < 0.55
    assert wrong.min() < 0.3
    assert wrong.max() > 3.5
    assert float(wrong.log().abs().max()) < 1.8  # a factor of five, and noise


def test_the_streams_stars_differ_where_that_is_expected() -> None:
    batch = bare(mismatch=(1e-3, 1e-2))
    difference = (batch.continuum / batch.clean).log().std(dim=1)
    expected = batch.template_error
    none = expected == 0
    assert 0.4 < float(none.float().mean()) < 0.6
    assert difference[none].max() < 1e-6
    slope = np.polyfit(expected[~none].log(), difference[~none].log(), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.2)
    assert 1.0 < float((difference / expected)[~none].median()) < 4.0


def test_noise_correlates_as_much_as_it_says() -> None:
    effects = stream(StreamConfig(artefacts=ArtefactConfig(noise_correlation=0.4))).artefacts
    grain = effects.grain(400, 2000)
    correlation = (grain[:, 1:] * grain[:, :-1]).mean(dim=1)
    assert abs(float(grain.square().mean()) - 1) < 0.01
    assert abs(float(correlation.mean()) - 0.2) < 0.02
    assert float(correlation.max()) < 0.5
    assert abs(float((grain[:, 3:] * grain[:, :-3]).mean())) < 0.01


def test_wrong_noise_is_wrong_by_up_to_five() -> None:
    effects = stream(StreamConfig(artefacts=ArtefactConfig(noise_misjudged=0.0, noise_wrong=0.5))).artefacts
    around = effects.circumstances(torch.ones(2000, 948), torch.full((2000,), 50.0))
    factor = (effects.stated_noise(around) / around.noise).median(dim=1).values
    wrong = (factor.log().abs() > 0.05).float().mean()
    assert 0.4 < wrong < 0.6
    assert 4.0 < factor.max() < 5.01
    assert 0.19 < factor.min() < 0.25


def test_stars_differ_as_much_as_expected() -> None:
    effects = stream(StreamConfig(artefacts=ArtefactConfig(mismatch=(0.002, 0.002)))).artefacts
    clean = synthetic_decoder().templates()[::4]
    clean = clean / clean[:, KEPT_SAMPLES].median(dim=1, keepdim=True).values
    assert torch.equal(effects.differ(clean, torch.zeros(len(clean))), clean)
    change = [
        (effects.differ(clean, torch.full((len(clean),), size)) / clean - 1).std(dim=1).median()
        for size in (0.001, 0.004)
    ]
    assert 2.5 < float(change[1] / change[0]) < 6.0
    expected = effects.template_errors(3000)
    assert expected.unique().tolist() == pytest.approx([0.0, 0.002])
    assert 0.45 < float((expected > 0).float().mean()) < 0.55


def test_kilometres_are_kilometres(search: VelocitySearch) -> None:
    step = float(np.log(WAVELENGTH[KEPT][-1] / WAVELENGTH[KEPT][0]) / 1023 * C_KMS)
    assert search.step == pytest.approx(step)
