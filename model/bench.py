"""Where the test spectra of every suite come from and how they are fitted.

Test spectra are made by the generators that also feed training, with seeds that no training uses. Within a suite the
cases share populations and random numbers as far as they go: what differs between two cases is what they are named
after.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import torch
from torch import Tensor

from galprote.model.artefacts import ArtefactConfig
from galprote.model.decoder import Decoder
from galprote.model.grids import KEPT
from galprote.model.kinematics import KinematicTemplates
from galprote.model.other_library import OtherLibrary
from galprote.model.populations import grid_means
from galprote.model.predictor import Predictions, Predictor
from galprote.model.statistics import Comparison, joined_comparisons, residual_counts
from galprote.model.stream import INGREDIENTS, StreamConfig, TrainingStream
from galprote.model.synthesis import NoiseConfig, SyntheticSpectra, seen_through

#: Seed of the paper's test spectra; the others follow. No training uses any of them.
TEST_SEED: Final = 20_250_301
FLAGGED_SEED, POPULATION_SEED, OBSERVATION_SEED, FITS_SEED = (TEST_SEED + k for k in (1, 2, 3, 4))

#: Spectra in a case, and in one go.
CASE: Final = 3000
CHUNK: Final = 512

#: Largest A_V of clean spectra, mag: the paper's.
CLEAN_AV: Final = 1.5

Parameters = tuple[Tensor, Tensor, Tensor, Tensor]
"""Grids (n, n_metallicity, n_age), A_V in mag, dispersion and velocity in km/s (n,)."""


def clean_config(*extra: str, artefacts: ArtefactConfig | None = None) -> StreamConfig:
    """The survey stream's populations without any of its circumstances but those named."""
    kept = {"smooth", "bursts", "flat", *extra}
    return StreamConfig(
        paper=0.0,
        av=(CLEAN_AV, CLEAN_AV),
        artefacts=artefacts or ArtefactConfig(),
        without=frozenset(name for name in INGREDIENTS if name not in kept),
    )


@dataclass(frozen=True)
class Bench:
    """What a suite works with.

    Attributes
    ----------
    predictor : Predictor
    other : OtherLibrary, optional
        A template library that the network does not know.
    stars : (S, M) float32, optional
        Spectra of stars (`galprote.model.stars`).
    limit : int, optional
        At most so many spectra in a case.
    """

    predictor: Predictor
    other: OtherLibrary | None = None
    stars: Tensor | None = None
    limit: int | None = None
    _streams: dict[StreamConfig, TrainingStream] = field(default_factory=dict)

    @property
    def decoder(self) -> Decoder:
        """The checkpoint's templates."""
        return self.predictor.checkpoint.decoder

    @cached_property
    def templates(self) -> KinematicTemplates:
        """The checkpoint's templates, movable; made anew, so that the network's copy of them is tested too."""
        return KinematicTemplates.from_decoder(self.decoder)

    def number(self, wanted: int) -> int:
        """How many spectra to use of so many."""
        return wanted if self.limit is None else min(wanted, self.limit)

    def stream(self, config: StreamConfig) -> TrainingStream:
        """The generator of test spectra from the checkpoint's templates."""
        if config not in self._streams:
            self._streams[config] = TrainingStream(
                self.decoder, config, NoiseConfig(), POPULATION_SEED, templates=self.templates
            )
        return self._streams[config]

    def compare(
        self, batches: Iterator[SyntheticSpectra], *, calibration: float = 0.0, decoder: Decoder | None = None
    ) -> Comparison:
        """Fit spectra that were made from a decoder's templates, by default the checkpoint's."""
        return joined_comparisons(
            compare(self.predictor, batch, decoder or self.decoder, calibration) for batch in batches
        )


def predict(
    predictor: Predictor, batch: SyntheticSpectra, calibration: float, template_error: float = 0.0
) -> Predictions:
    """What the network says of a batch; it sees the spectra and their stated noise."""
    seen = seen_through(batch, predictor.model.config.visible)
    return predictor(seen.spectra.numpy(), seen.noise.numpy(), calibration, seen.redshift.numpy(), template_error)


def compare(predictor: Predictor, batch: SyntheticSpectra, decoder: Decoder, calibration: float = 0.0) -> Comparison:
    """Fit a batch and put the answers beside its truth, which is on the grid of `decoder`."""
    answer, own = predict(predictor, batch, calibration), predictor.checkpoint.decoder
    found = dict(zip(("log_age", "metallicity"), grid_means(answer.grid, own.log_ages, own.metallicities), strict=True))
    means = grid_means(batch.grid.numpy(), decoder.log_ages, decoder.metallicities)
    truth = dict(zip(found, means, strict=True)) | {"av": batch.av.numpy()}
    found["av"] = answer.av
    if predictor.model.refinement is not None:
        found |= {"dispersion": answer.dispersion, "velocity": answer.velocity}
        truth |= {"dispersion": batch.dispersion.numpy(), "velocity": batch.velocity.numpy()}
    seen = batch.spectra.numpy().astype(np.float64)
    model = (answer.model * answer.gain[:, None]).astype(np.float64)
    residual = seen - model[:, KEPT]
    return Comparison(
        {name: values.astype(np.float64) for name, values in truth.items()},
        {name: values.astype(np.float64) for name, values in found.items()},
        np.mean(residual**2, axis=1),
        np.mean((batch.clean.numpy() - answer.model.astype(np.float64))[:, KEPT] ** 2, axis=1),
        residual.mean(axis=1),
        residual_counts(residual),
    )


def parameters(stream: TrainingStream, n: int) -> Parameters:
    """Draw what n spectra show: the same for the same populations, and for a larger n the same kind."""
    stream.generator.manual_seed(POPULATION_SEED)
    return stream.populations(n), *stream.circumstances(n)


def observed(stream: TrainingStream, wanted: Parameters, snr: float) -> Iterator[SyntheticSpectra]:
    """Observe populations at one signal-to-noise ratio, always with the same random numbers."""
    stream.generator.manual_seed(OBSERVATION_SEED)
    for grid, *rest in zip(*(values.split(CHUNK) for values in wanted), strict=True):
        av, dispersion, velocity = rest
        yield stream.observe(grid, av, dispersion, velocity, torch.full_like(av, float(snr)))
