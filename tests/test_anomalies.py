"""Anomalies are what their names say, and the ingredients of the appraisal's stream do what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from galprote.model.anomalies import ANOMALIES, TESTED, TRAINING, Anomalies
from galprote.model.appraisal import VelocitySearch
from galprote.model.artefacts import ArtefactConfig
from galprote.model.grids import KEPT, WAVELENGTH
from galprote.model.kinematics import C_KMS, KinematicTemplates
from galprote.model.stars import rough_stars
from galprote.model.stream import INGREDIENTS, StreamConfig, TrainingStream
from galprote.model.synthesis import NoiseConfig, SyntheticSpectra
from tests.libraries import synthetic_decoder

N = 200
QUIET = frozenset(INGREDIENTS) - {"smooth", "bursts", "flat"}


@pytest.fixture(scope="module")
def templates() -> KinematicTemplates:
    return KinematicTemplates.from_decoder(synthetic_decoder())


@pytest.fixture(scope="module")
def search() -> VelocitySearch:
    module = VelocitySearch()
    module.set_basis(synthetic_decoder().templates()[:, torch.from_numpy(KEPT)])
    return module


def stream(templates: KinematicTemplates, config: StreamConfig, seed: int = 3) -> TrainingStream:
    return TrainingStream(synthetic_decoder(), config, NoiseConfig(), seed, templates)


def maker(templates: KinematicTemplates, *, quiet: bool = False, **severity: object) -> Anomalies:
    config = StreamConfig(paper=0.0, without=QUIET if quiet else frozenset())  # type: ignore[arg-type]
    chosen = replace(TESTED, **severity)  # type: ignore[arg-type]
    return Anomalies(stream(templates, config), rough_stars(50, 1), chosen)


def make(templates: KinematicTemplates, kind: str, snr: float = 200.0, **severity: object) -> SyntheticSpectra:
    """Without artefacts, at a high signal-to-noise ratio."""
    return maker(templates, quiet=True, **severity).make(kind, N, torch.full((N,), snr))


@pytest.mark.parametrize("kind", ANOMALIES)
def test_every_kind_is_a_spectrum_of_median_one(templates: KinematicTemplates, kind: str) -> None:
    for severity in (TRAINING, TESTED):
        makers = [Anomalies(stream(templates, StreamConfig()), rough_stars(50, 1), severity) for _ in range(2)]
        batch, again = (one.make(kind, N) for one in makers)
        assert torch.isfinite(batch.spectra).all()
        torch.testing.assert_close(batch.spectra.median(dim=1).values, torch.ones(N), atol=1e-5, rtol=0)
        assert (batch.noise > 0).all()
        assert torch.equal(batch.spectra, again.spectra)
        assert torch.equal(batch.noise, again.noise)


def test_a_wrong_redshift_is_where_it_says(templates: KinematicTemplates, search: VelocitySearch) -> None:
    batch = make(templates, "redshift")
    _, found = search(batch.spectra, batch.redshift)
    assert ((found.abs() - 1000.0).abs() < 1.5 * search.step).float().mean() > 0.9
    assert 0.3 < (found > 0).float().mean() < 0.7


def test_a_star_is_at_rest(templates: KinematicTemplates) -> None:
    """Its lines lie where they are at rest, whatever the galaxy's redshift."""
    batch = make(templates, "star", snr=1000.0)
    light = batch.clean.numpy() if batch.clean.shape[1] == len(WAVELENGTH) else batch.continuum.numpy()
    deepest = []
    for row, redshift in zip(light, batch.redshift.numpy(), strict=True):
        observed = WAVELENGTH * (1 + redshift)
        near = np.abs(observed - 6562.80) < 25
        depth = np.interp(observed[near], observed[near][[0, -1]], row[near][[0, -1]]) - row[near]
        if depth.max() > 0.08:
            deepest.append(observed[near][depth.argmax()])
    assert len(deepest) > 30
    assert abs(np.median(deepest) - 6562.80) < 2.5


def test_dust_is_more_than_the_network_knows(templates: KinematicTemplates) -> None:
    ordinary = stream(templates, StreamConfig(paper=0.0, without=QUIET))  # type: ignore[arg-type]
    grid = ordinary.populations(N)
    most = ordinary.observe(grid, torch.full((N,), 3.0), torch.zeros(N), torch.zeros(N), torch.full((N,), 200.0))

    def colour(batch: SyntheticSpectra) -> float:
        return float((batch.spectra[:, -50:].mean(1) / batch.spectra[:, :50].mean(1)).median())

    assert colour(make(templates, "dusty", av=(4.0, 5.0))) > 1.15 * colour(most)


def test_dead_channels_record_nothing(templates: KinematicTemplates) -> None:
    batch = make(templates, "dead", dead_runs=(1, 1), dead_width=(30, 30))
    still = (batch.spectra.diff(dim=1).abs() < 1e-6) & torch.isfinite(batch.noise[:, 1:])
    silent = (batch.spectra < 0.65).sum(dim=1)
    assert (still.sum(dim=1) > 20).float().mean() > 0.3  # half of them have noise of their own
    assert (silent > 15).float().mean() > 0.8


def test_a_step_has_its_size(templates: KinematicTemplates) -> None:
    small, large = (make(templates, "step", snr=1000.0, step=(size, size)) for size in (0.001, 0.2))
    ratio = (large.spectra / small.spectra).numpy()  # the same random numbers, but for the size
    ends = ratio[:, -20:].mean(axis=1) / ratio[:, :20].mean(axis=1)
    assert (np.abs(np.abs(ends - 1) - 0.2) < 0.01).mean() > 0.9
    assert 0.3 < (ends > 1).mean() < 0.7


def test_noise_is_noise(templates: KinematicTemplates) -> None:
    batch = make(templates, "noise")
    scatter = batch.spectra.diff(dim=1).abs().median(dim=1).values / 0.9539
    assert (1 / scatter < 2.0).float().mean() > 0.95
    claimed = 1 / batch.noise.median(dim=1).values
    assert (claimed > 3 / scatter).float().mean() > 0.2  # variances that are far too small


# --- what the appraisal's stream has besides ---


def batch_with(templates: KinematicTemplates, artefacts: ArtefactConfig, **without: object) -> SyntheticSpectra:
    return stream(templates, StreamConfig(artefacts=artefacts, **without), seed=9).batch(300)  # type: ignore[arg-type]


def test_what_is_off_draws_no_random_numbers(templates: KinematicTemplates) -> None:
    """Recipes from before give what they gave."""
    plain = batch_with(templates, ArtefactConfig())
    off = batch_with(templates, ArtefactConfig(mismatch=None, noise_correlation=0.0, noise_wrong=0.0))
    assert all(torch.equal(one, two) for one, two in zip(vars(plain).values(), vars(off).values(), strict=True))
    assert not plain.template_error.any()


def test_noise_correlates_as_much_as_it_says(templates: KinematicTemplates) -> None:
    effects = stream(templates, StreamConfig(artefacts=ArtefactConfig(noise_correlation=0.4))).artefacts
    grain = effects.grain(400, 2000)
    correlation = (grain[:, 1:] * grain[:, :-1]).mean(dim=1)
    assert abs(float(grain.square().mean()) - 1) < 0.01
    assert abs(float(correlation.mean()) - 0.2) < 0.02
    assert float(correlation.max()) < 0.5
    assert abs(float((grain[:, 3:] * grain[:, :-3]).mean())) < 0.01


def test_wrong_noise_is_wrong_by_up_to_five(templates: KinematicTemplates) -> None:
    effects = stream(templates, StreamConfig(artefacts=ArtefactConfig(noise_misjudged=0.0, noise_wrong=0.5))).artefacts
    around = effects.circumstances(torch.ones(2000, 948), torch.full((2000,), 50.0))
    factor = (effects.stated_noise(around) / around.noise).median(dim=1).values
    wrong = (factor.log().abs() > 0.05).float().mean()
    assert 0.4 < wrong < 0.6
    assert 4.0 < factor.max() < 5.01
    assert 0.19 < factor.min() < 0.25


def test_stars_differ_as_much_as_expected(templates: KinematicTemplates) -> None:
    effects = stream(templates, StreamConfig(artefacts=ArtefactConfig(mismatch=(0.002, 0.002)))).artefacts
    clean = synthetic_decoder().templates()[::4]
    clean = clean / clean[:, torch.from_numpy(KEPT)].median(dim=1, keepdim=True).values
    assert torch.equal(effects.differ(clean, torch.zeros(len(clean))), clean)
    change = [
        (effects.differ(clean, torch.full((len(clean),), size)) / clean - 1).std(dim=1).median()
        for size in (0.001, 0.004)
    ]
    assert 2.5 < float(change[1] / change[0]) < 6.0
    expected = effects.template_errors(3000)
    assert expected.unique().tolist() == pytest.approx([0.0, 0.002])
    assert 0.45 < float((expected > 0).float().mean()) < 0.55


def test_kilometres_are_kilometres(templates: KinematicTemplates, search: VelocitySearch) -> None:
    step = float(np.log(WAVELENGTH[KEPT][-1] / WAVELENGTH[KEPT][0]) / 1023 * C_KMS)
    assert search.step == pytest.approx(step)
    del templates
