"""Teach a finished network what its answers are worth: on spectra of known populations, and on others.

The network stands still. It fits fresh ordinary spectra, whose true populations are known, and anomalies; the appraisal
learns the quantiles of the errors, the model spectrum's error, and to tell the kinds apart. What the network says of a
spectrum is kept on disk in shards, so that a run that was killed goes on, and is gone through several times.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from galprote.model.anomalies import ANOMALIES, Anomalies
from galprote.model.appraisal import (
    KINDS,
    PARTS,
    QUANTILES,
    SHARES,
    TABLE_SNR,
    Appraisal,
    oddness,
    part_masks,
)
from galprote.model.appraisal_recipe import AppraisalRecipe
from galprote.model.card import model_card
from galprote.model.checkpoint import Checkpoint, add_to_metadata, load_checkpoint, save_checkpoint
from galprote.model.errors import ConfigError
from galprote.model.grids import KEPT
from galprote.model.libraries import library_sha256
from galprote.model.masses import MassScale
from galprote.model.populations import APPRAISED, derived
from galprote.model.refinement import Observation
from galprote.model.stars import read_stars, rough_stars
from galprote.model.stream import TrainingStream
from galprote.model.synthesis import SyntheticSpectra, seen_through
from galprote.model.transformer import GalProTE

#: Spectra that are fitted together, in a shard, and in a step of the optimiser.
FITTED: Final = 128
SHARD: Final = 6912
STEP: Final = 512

#: Share of the shards that is not learned from.
HELD_OUT: Final = 0.12

#: Rough stars among those of a library, and alone.
ROUGH_STARS: Final = 200
ONLY_ROUGH: Final = 1000

#: Weight of the wider interval's loss, of the model's error, and of the kinds.
WEIGHTS: Final = (3.0, 0.3, 0.5)
WARMUP: Final = 200


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


class AppraisalTrainer:
    """Gives a checkpoint's network its appraisal.

    Parameters
    ----------
    checkpoint : Checkpoint
        Of a refining network; its appraisal, if it has one, is replaced.
    recipe : AppraisalRecipe
    folder : Path
        For the shards; emptied at the end.
    device : str or torch.device

    Raises
    ------
    ConfigError
        If the network has no refining stages, or the folder holds another recipe's shards.
    """

    def __init__(
        self, checkpoint: Checkpoint, recipe: AppraisalRecipe, folder: Path, device: str | torch.device = "cpu"
    ) -> None:
        if checkpoint.model.refinement is None:
            raise ConfigError("appraisal: the network has no refining stages; train one with `refinement` first")
        self.recipe = recipe
        self.folder = folder
        self.device = torch.device(device)
        self.decoder = checkpoint.decoder.to(self.device)
        self.scale = MassScale.of(checkpoint.decoder)
        torch.manual_seed(recipe.seed)
        config = checkpoint.model.config.model_copy(update={"appraisal": recipe.network})
        self.model = GalProTE(config, checkpoint.model.refinement.templates)
        self.model.load_state_dict(_without_appraisal(checkpoint.model), strict=False)
        self.model.to(self.device).eval()
        assert self.model.appraisal is not None
        self.appraisal: Appraisal = self.model.appraisal
        kept = torch.from_numpy(KEPT).to(self.device)
        self.appraisal.search.set_basis(self.decoder.templates()[:, kept])
        self.stream = TrainingStream(self.decoder, recipe.stream, recipe.noise, recipe.seed)
        stars = rough_stars(ONLY_ROUGH if recipe.stars is None else ROUGH_STARS, recipe.seed)
        if recipe.stars is not None:
            stars = torch.cat([read_stars(recipe.stars), stars])
        self.anomalies = Anomalies(self.stream, stars)
        self._masks = part_masks().float().to(self.device)
        self._identity = self._identify(checkpoint)

    def run(self, report: Callable[[str], None] = lambda words: None) -> GalProTE:
        """Teach; returns the network with its appraisal."""
        shards = -(-self.recipe.spectra // SHARD)
        self._claim_folder()
        for index in range(shards):
            path = self.folder / f"{index:05d}.pt"
            if not path.exists():
                started = time.perf_counter()
                self._save(path, self.lesson(index))
                speed = SHARD / (time.perf_counter() - started)
                report(f"{(index + 1) * SHARD:,} of {shards * SHARD:,} spectra fitted, {speed:.0f} a second")
        held = max(1, round(shards * HELD_OUT))
        self.learn(self._load(range(max(1, shards - held))), report)
        self.tabulate(self._load(range(shards - held, shards)))
        for path in self.folder.glob("*"):
            path.unlink()
        self.folder.rmdir()
        return self.model

    # --- what there is to learn from ---

    def lesson(self, index: int) -> Lesson:
        """Fit one shard of spectra: always the same for the same number."""
        seed = self.recipe.seed * 1_000_003 + 7919 * index + 1
        self.stream.generator.manual_seed(seed)
        each = round(SHARD * self.recipe.anomalies / len(ANOMALIES))
        parts = [self._fitted(self.stream.batch(SHARD - each * len(ANOMALIES)), 0)]
        if each:
            parts += [self._fitted(self.anomalies.make(kind, each), KINDS.index(kind)) for kind in ANOMALIES]
        return _joined(parts)

    @torch.inference_mode()
    def _fitted(self, batch: SyntheticSpectra, kind: int) -> Lesson:
        batch = seen_through(batch, self.model.config.visible)
        draw = torch.rand(len(batch), generator=self.stream.generator, device=self.device)
        told = torch.where(draw < self.recipe.known_calibration, batch.calibration, self.recipe.default_calibration)
        return _joined([self._fit(batch, told, kind, rows) for rows in torch.arange(len(batch)).split(FITTED)])

    def _fit(self, batch: SyntheticSpectra, told: Tensor, kind: int, rows: Tensor) -> Lesson:
        seen = Observation(batch.spectra[rows], batch.noise[rows], told[rows], batch.redshift[rows])
        prediction = self.model(seen.flux, seen.noise, seen.calibration)
        fit = self.model.populations(prediction)
        answer, look = self.model.reconsider(seen, prediction, fit)
        assert self.model.refinement is not None
        inputs, _ = self.appraisal.inputs(self.model.refinement, seen, answer, look)
        kinds = torch.full((len(rows),), kind)
        errors = torch.full((len(rows), len(APPRAISED)), math.nan)
        parts = torch.full((len(rows), PARTS), math.nan)
        if kind == 0:
            norm = self.model.norm(look.mixture)
            found, true = (
                self._quantities(*one)
                for one in ((fit.grid, fit.av, norm), (batch.grid[rows], batch.av[rows], batch.norm[rows]))
            )
            errors = found - true
            squared = (look.mixture * look.amplitude[:, None] - batch.continuum[rows]).square()
            parts = (squared @ self._masks.T / self._masks.sum(1)).sqrt().cpu()
        return Lesson(inputs.clamp(-6e4, 6e4).half().cpu(), errors, parts, kinds, look.typical.cpu())

    def _quantities(self, grid: Tensor, av: Tensor, norm: Tensor) -> Tensor:
        values = derived(grid.cpu().numpy(), av.cpu().numpy(), norm.cpu().numpy(), self.scale)
        return torch.from_numpy(np.stack([values[name] for name in APPRAISED], axis=1))

    # --- how it is learned ---

    def learn(self, lesson: Lesson, report: Callable[[str], None] = lambda words: None) -> None:
        """Go through the lesson several times."""
        torch.manual_seed(self.recipe.seed)
        sample = lesson.inputs[:50_000].float()
        self.appraisal.input_mean.copy_(sample.mean(0))
        self.appraisal.input_scale.copy_(sample.std(0).clamp(min=1e-3))
        self.appraisal.train()
        optimizer = AdamW(
            self.appraisal.parameters(), lr=self.recipe.learning_rate, weight_decay=self.recipe.weight_decay
        )
        per_epoch = len(lesson) // STEP
        for epoch in range(self.recipe.epochs):
            order = torch.randperm(len(lesson))[: per_epoch * STEP].view(per_epoch, STEP)
            total = 0.0
            for k, rows in enumerate(order):
                done = (epoch * per_epoch + k) / (per_epoch * self.recipe.epochs)
                warm = min(1.0, (epoch * per_epoch + k + 1) / WARMUP)
                for group in optimizer.param_groups:
                    group["lr"] = self.recipe.learning_rate * warm * (0.01 + 0.495 * (1 + math.cos(math.pi * done)))
                loss = self.loss(lesson, rows)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.appraisal.parameters(), 1.0)
                optimizer.step()
                total += float(loss.detach())
            report(f"epoch {epoch + 1} of {self.recipe.epochs}, loss {total / per_epoch:.4f}")
        self.appraisal.eval()

    def loss(self, lesson: Lesson, rows: Tensor) -> Tensor:
        """Quantile loss of the errors' logarithms (Koenker & Bassett 1978), and cross-entropy of the kinds."""
        widths, parts, kinds = self.appraisal.judge(lesson.inputs[rows].float().to(self.device))
        kind = lesson.kind[rows].to(self.device)
        known = kind == 0
        errors = lesson.errors[rows].to(self.device)[known].abs().clamp(min=1e-4).log()
        share = torch.tensor(SHARES, device=self.device)
        difference = errors[:, :, None] - widths[known]
        quantile = torch.maximum(share * difference, (share - 1) * difference).mean(dim=(0, 1))
        model = (lesson.parts[rows].to(self.device)[known].clamp(min=1e-5).log() - parts[known]).square().mean()
        return quantile[0] + WEIGHTS[0] * quantile[1] + WEIGHTS[1] * model + WEIGHTS[2] * F.cross_entropy(kinds, kind)

    @torch.inference_mode()
    def tabulate(self, held: Lesson) -> None:
        """Keep, around each of `TABLE_SNR`, what spectra that were not learned from show.

        The distribution of ordinary spectra's scores, and by how much the intervals must be stretched to hold their
        share of the errors (conformalised quantile regression: Romano, Patterson & Candes 2019, arXiv 1905.03222).
        """
        ordinary = (held.kind == 0).nonzero()[:, 0]
        judged = [self.appraisal.judge(held.inputs[rows].float().to(self.device)) for rows in ordinary.split(8192)]
        score = torch.cat([oddness(kinds) for _, _, kinds in judged]).cpu()
        errors = held.errors[ordinary].abs().clamp(min=1e-6).log()
        missing = errors[:, :, None] - torch.cat([widths for widths, _, _ in judged]).cpu()
        place = -held.typical[ordinary].log()
        levels = (torch.arange(QUANTILES) + 0.5) / QUANTILES
        half = math.log(TABLE_SNR[1] / TABLE_SNR[0]) / 2
        for k, snr in enumerate(TABLE_SNR):
            near = (place - math.log(snr)).abs() < half
            if near.sum() < QUANTILES:  # a small lesson: all of them
                near = torch.ones_like(near)
            self.appraisal.scores[k] = torch.quantile(score[near], levels).to(self.device)
            for column, share in enumerate(SHARES):
                self.appraisal.stretch[k, :, column] = torch.quantile(missing[near, :, column], share, dim=0)

    # --- shards ---

    def _identify(self, checkpoint: Checkpoint) -> str:
        # The fitted spectra do not depend on these.
        learned = {"spectra", "epochs", "learning_rate", "weight_decay", "network"}
        settings: dict[str, Any] = self.recipe.model_dump(mode="json", exclude=learned)
        settings["stars"] = None if self.recipe.stars is None else library_sha256(self.recipe.stars)
        settings["weights"] = checkpoint.weights_sha256
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _claim_folder(self) -> None:
        record = self.folder / "recipe.txt"
        if record.exists() and record.read_text() != self._identity:
            raise ConfigError(f"{self.folder}: spectra of another recipe; choose another output, or delete the folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        record.write_text(self._identity)

    def _save(self, path: Path, lesson: Lesson) -> None:
        partial = path.with_suffix(".partial")
        torch.save(vars(lesson), partial)
        partial.replace(path)

    def _load(self, shards: range) -> Lesson:
        paths = [self.folder / f"{index:05d}.pt" for index in shards]
        return _joined([Lesson(**torch.load(path, weights_only=True)) for path in paths])


def appraised_checkpoint(
    checkpoint: Checkpoint,
    recipe: AppraisalRecipe,
    output: Path,
    device: str | torch.device = "cpu",
    report: Callable[[str], None] = lambda words: None,
) -> Path:
    """Give a checkpoint's network its appraisal, and write it.

    Parameters
    ----------
    checkpoint : Checkpoint
    recipe : AppraisalRecipe
    output : Path
        The checkpoint to write; spectra are kept in `<output>.spectra/` while it is made.
    device : str or torch.device
    report : callable
        Told how far it is.

    Returns
    -------
    Path
    """
    folder = output.with_name(output.name + ".spectra")
    model = AppraisalTrainer(checkpoint, recipe, folder, device).run(report)
    settings = recipe.model_dump(mode="json")
    settings["stars"] = None if recipe.stars is None else recipe.stars.name
    record = {
        "recipe": settings,
        "stars_sha256": None if recipe.stars is None else library_sha256(recipe.stars),
        "network_sha256": checkpoint.weights_sha256,
        "versions": {name: version(name) for name in ("galprote", "torch")},
    }
    metadata = {name: checkpoint.metadata[name] for name in ("training", "metrics") if name in checkpoint.metadata}
    save_checkpoint(output, model.cpu(), checkpoint.decoder, metadata | {"appraisal": record})
    card = model_card(load_checkpoint(output))
    add_to_metadata(output, output, card=card)
    return output


def _joined(lessons: list[Lesson]) -> Lesson:
    return Lesson(**{name: torch.cat([getattr(one, name) for one in lessons]) for name in vars(lessons[0])})


def _without_appraisal(model: GalProTE) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.startswith("appraisal.")}
