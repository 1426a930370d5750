"""What the appraisal learns from: spectra that the network has fitted, ordinary ones and anomalies."""

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from galprote.model.anomalies import ANOMALIES, Anomalies
from galprote.model.appraisal import KINDS, PARTS, Appraisal, part_masks
from galprote.model.appraisal_recipe import AppraisalRecipe
from galprote.model.decoder import Decoder
from galprote.model.masses import MassScale
from galprote.model.populations import APPRAISED, derived
from galprote.model.refinement import Observation
from galprote.model.stars import read_stars, rough_stars
from galprote.model.stream import TrainingStream
from galprote.model.synthesis import SyntheticSpectra, seen_through
from galprote.model.transformer import GalProTE

#: Spectra that are fitted together, and in a shard.
FITTED: Final = 128
SHARD: Final = 6912

#: Rough stars among those of a library, and alone.
ROUGH_STARS: Final = 200
ONLY_ROUGH: Final = 1000


@dataclass(frozen=True)
class Lesson:
    """What is kept of n spectra that the network has fitted.

    Attributes
    ----------
    inputs : (n, F) float16
    errors : (n, Q) float32
        Found minus true; NaN where there is no truth.
    parts : (n, PARTS) float32
        Rms error of the model spectrum in parts of it; NaN where there is no truth.
    kind : (n,) int64
    typical : (n,) float32
        Noise of a sample, as the residuals have it.
    """

    inputs: Tensor
    errors: Tensor
    parts: Tensor
    kind: Tensor
    typical: Tensor

    def __len__(self) -> int:
        return len(self.kind)


class LessonMaker:
    """Makes spectra, lets a network fit them, and keeps what its appraisal can learn from.

    Parameters
    ----------
    model : GalProTE
        With an appraisal, which gives the inputs.
    decoder : Decoder
        Of the same checkpoint, on the model's device.
    recipe : AppraisalRecipe
    """

    def __init__(self, model: GalProTE, decoder: Decoder, recipe: AppraisalRecipe) -> None:
        assert model.appraisal is not None
        self.model = model
        self.appraisal: Appraisal = model.appraisal
        self.decoder = decoder
        self.recipe = recipe
        self.device = decoder.components.device
        self.scale = MassScale.of(decoder)
        self.stream = TrainingStream(decoder, recipe.stream, recipe.noise, recipe.seed)
        stars = rough_stars(ONLY_ROUGH if recipe.stars is None else ROUGH_STARS, recipe.seed)
        if recipe.stars is not None:
            stars = torch.cat([read_stars(recipe.stars), stars])
        self.anomalies = Anomalies(self.stream, stars)
        self._masks = part_masks().float().to(self.device)

    def lesson(self, index: int) -> Lesson:
        """Fit one shard of spectra: always the same for the same number."""
        seed = self.recipe.seed * 1_000_003 + 7919 * index + 1
        self.stream.generator.manual_seed(seed)
        each = round(SHARD * self.recipe.anomalies / len(ANOMALIES))
        parts = [self._fitted(self.stream.batch(SHARD - each * len(ANOMALIES)), 0)]
        if each:
            parts += [self._fitted(self.anomalies.make(kind, each), KINDS.index(kind)) for kind in ANOMALIES]
        return joined(parts)

    @torch.inference_mode()
    def _fitted(self, batch: SyntheticSpectra, kind: int) -> Lesson:
        batch = seen_through(batch, self.model.config.visible)
        draw = torch.rand(len(batch), generator=self.stream.generator, device=self.device)
        told = torch.where(draw < self.recipe.known_calibration, batch.calibration, self.recipe.default_calibration)
        if kind:  # what is expected of the stars must not tell the kinds apart
            batch = replace(batch, template_error=self.stream.artefacts.template_errors(len(batch)))
        return joined([self._fit(batch, told, kind, rows) for rows in torch.arange(len(batch)).split(FITTED)])

    def _fit(self, batch: SyntheticSpectra, told: Tensor, kind: int, rows: Tensor) -> Lesson:
        about = (batch.spectra, batch.noise, told, batch.redshift, batch.template_error)
        seen = Observation(*(values[rows] for values in about))
        prediction = self.model(seen.flux, seen.noise, seen.calibration)
        fit = self.model.populations(prediction)
        answer, look = self.model.reconsider(seen, prediction, fit)
        assert self.model.refinement is not None
        inputs, _ = self.appraisal.inputs(self.model.refinement, seen, answer, look)
        kinds = torch.full((len(rows),), kind)
        errors = torch.full((len(rows), len(APPRAISED)), math.nan)
        parts = torch.full((len(rows), PARTS), math.nan)
        if kind == 0:
            mixture, amplitude = self.model.refinement.mixture(answer, look)
            norm = self.model.norm(mixture)
            found, true = (
                self._quantities(*one)
                for one in ((fit.grid, fit.av, norm), (batch.grid[rows], batch.av[rows], batch.norm[rows]))
            )
            errors = found - true
            squared = (mixture * amplitude[:, None] - batch.continuum[rows]).square()
            parts = (squared @ self._masks.T / self._masks.sum(1)).sqrt().cpu()
        return Lesson(inputs.clamp(-6e4, 6e4).half().cpu(), errors, parts, kinds, look.typical.cpu())

    @torch.inference_mode()
    def calibration_lesson(self) -> Lesson:
        """Fresh spectra of the survey, on which the intervals are stretched."""
        stream = TrainingStream(self.decoder, self.recipe.survey, self.recipe.noise, 5000 + self.recipe.seed)
        parts, left = [], self.recipe.calibration_spectra
        while left > 0:
            batch = seen_through(stream.batch(min(SHARD, left)), self.model.config.visible)
            told = torch.full_like(batch.calibration, self.recipe.default_calibration)
            parts += [self._fit(batch, told, 0, rows) for rows in torch.arange(len(batch)).split(FITTED)]
            left -= len(batch)
        return joined(parts)

    def _quantities(self, grid: Tensor, av: Tensor, norm: Tensor) -> Tensor:
        values = derived(grid.cpu().numpy(), av.cpu().numpy(), norm.cpu().numpy(), self.scale)
        return torch.from_numpy(np.stack([values[name] for name in APPRAISED], axis=1))


def joined(lessons: list[Lesson]) -> Lesson:
    """One lesson of several."""
    return Lesson(**{name: torch.cat([getattr(one, name) for one in lessons]) for name in vars(lessons[0])})
