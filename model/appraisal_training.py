"""Teach a finished network what its answers are worth: on spectra of known populations, and on others.

The network stands still. It fits fresh ordinary spectra, whose true populations are known, and anomalies; the appraisal
learns the quantiles of the errors, the model spectrum's error, and to tell the kinds apart. What the network says of a
spectrum is kept on disk in shards, so that a run that was killed goes on, and is gone through several times.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW

from galprote.model.appraisal import (
    QUANTILES,
    SHARES,
    TABLE_SNR,
    Appraisal,
    oddness,
)
from galprote.model.appraisal_recipe import AppraisalRecipe
from galprote.model.card import model_card
from galprote.model.checkpoint import Checkpoint, add_to_metadata, load_checkpoint, save_checkpoint
from galprote.model.errors import ConfigError
from galprote.model.grids import KEPT
from galprote.model.lessons import SHARD, Lesson, LessonMaker, joined
from galprote.model.libraries import library_sha256
from galprote.model.transformer import GalProTE

#: Spectra in a step of the optimiser.
STEP: Final = 512

#: Share of the shards that is not learned from.
HELD_OUT: Final = 0.12

#: Weight of the wider interval's loss, of the model's error, and of the kinds.
WEIGHTS: Final = (3.0, 0.3, 0.5)
WARMUP: Final = 200


class AppraisalTrainer:
    """Gives a checkpoint's network its appraisal.

    Parameters
    ----------
    checkpoint : Checkpoint
        Of a refining network; its appraisal, if it has one, is replaced.
    recipe : AppraisalRecipe
    folder : Path
        For the shards, until `clear`.
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
        decoder = checkpoint.decoder.to(self.device)
        torch.manual_seed(recipe.seed)
        config = checkpoint.model.config.model_copy(update={"appraisal": recipe.network})
        self.model = GalProTE(config, checkpoint.model.refinement.templates)
        self.model.load_state_dict(_without_appraisal(checkpoint.model), strict=False)
        self.model.to(self.device).eval()
        assert self.model.appraisal is not None
        self.appraisal: Appraisal = self.model.appraisal
        kept = torch.from_numpy(KEPT).to(self.device)
        self.appraisal.search.set_basis(decoder.templates()[:, kept])
        self.maker = LessonMaker(self.model, decoder, recipe)
        self._identity = self._identify(checkpoint)

    def run(self, report: Callable[[str], None] = lambda words: None) -> GalProTE:
        """Teach; returns the network with its appraisal."""
        self.fit(report)
        held = max(1, round(self.shards * HELD_OUT))
        self.learn(self.load(range(max(1, self.shards - held))), report)
        self.tabulate(self.load(range(self.shards - held, self.shards)))
        self.stretch(self.maker.calibration_lesson(), report)
        return self.model

    def clear(self) -> None:
        """Remove the shards, when what was learned from them is safe."""
        for path in self.folder.glob("[0-9][0-9][0-9][0-9][0-9].pt"):
            path.unlink()
        (self.folder / "recipe.txt").unlink()
        with suppress(OSError):  # what is not ours stays
            self.folder.rmdir()

    # --- what there is to learn from ---

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.recipe.spectra // SHARD)

    def fit(self, report: Callable[[str], None] = lambda words: None) -> None:
        """Let the network fit the spectra of every shard that is not there yet."""
        self._claim_folder()
        for index in range(self.shards):
            path = self._shard(index)
            if not path.exists():
                started = time.perf_counter()
                self._save(path, self.maker.lesson(index))
                speed = SHARD / (time.perf_counter() - started)
                report(f"{(index + 1) * SHARD:,} of {self.shards * SHARD:,} spectra fitted, {speed:.0f} a second")

    def load(self, shards: range) -> Lesson:
        """What is kept of some shards."""
        return joined([Lesson(**torch.load(self._shard(index), weights_only=True)) for index in shards])

    def _shard(self, index: int) -> Path:
        return self.folder / f"{index:05d}.pt"

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
        size = min(STEP, len(lesson))
        per_epoch = len(lesson) // size
        for epoch in range(self.recipe.epochs):
            order = torch.randperm(len(lesson))[: per_epoch * size].view(per_epoch, size)
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
        """Keep the distribution of the scores that ordinary spectra have around each of `TABLE_SNR`.

        Of spectra that were not learned from.
        """
        ordinary = (held.kind == 0).nonzero()[:, 0]
        inputs = (held.inputs[rows].float().to(self.device) for rows in ordinary.split(8192))
        score = torch.cat([oddness(self.appraisal.judge(part)[2]) for part in inputs]).cpu()
        levels = (torch.arange(QUANTILES) + 0.5) / QUANTILES
        for k, near in enumerate(_around(held.typical[ordinary])):
            self.appraisal.scores[k] = torch.quantile(score[near], levels).to(self.device)

    @torch.inference_mode()
    def stretch(self, fresh: Lesson, report: Callable[[str], None] = lambda words: None) -> None:
        """Stretch the intervals so that they hold their share of the errors, around each of `TABLE_SNR`.

        Conformalised quantile regression: Romano, Patterson & Candes (2019, arXiv 1905.03222).
        """
        inputs = (part.float().to(self.device) for part in fresh.inputs.split(8192))
        widths = torch.cat([self.appraisal.judge(part)[0] for part in inputs]).cpu()
        missing = fresh.errors.abs().clamp(min=1e-6).log()[:, :, None] - widths
        for k, near in enumerate(_around(fresh.typical)):
            for column, share in enumerate(SHARES):
                self.appraisal.stretch[k, :, column] = torch.quantile(missing[near, :, column], share, dim=0)
        factors = self.appraisal.stretch.exp()
        report(f"intervals stretched by {float(factors.min()):.2f} to {float(factors.max()):.2f}")

    # --- shards ---

    def _identify(self, checkpoint: Checkpoint) -> str:
        # The fitted spectra do not depend on these.
        learned = {"spectra", "epochs", "learning_rate", "weight_decay", "network", "survey", "calibration_spectra"}
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


def _around(typical: Tensor) -> Iterator[Tensor]:
    """Which spectra (n,) are near each of `TABLE_SNR`; of a small lesson, all of them."""
    half = math.log(TABLE_SNR[1] / TABLE_SNR[0]) / 2
    for snr in TABLE_SNR:
        near = (-typical.log() - math.log(snr)).abs() < half
        yield near if near.sum() >= QUANTILES else torch.ones_like(near)


def recipe_record(recipe: AppraisalRecipe) -> dict[str, Any]:
    """What is written of a recipe into a checkpoint."""
    settings = recipe.model_dump(mode="json")
    settings["stars"] = None if recipe.stars is None else recipe.stars.name
    stars = None if recipe.stars is None else library_sha256(recipe.stars)
    return {"recipe": settings, "stars_sha256": stars}


def is_appraised(path: Path, step: int, recipe: AppraisalRecipe) -> bool:
    """Whether a checkpoint is there whose network has learned so many steps, and its appraisal by this recipe."""
    if not path.is_file():
        return False
    metadata = load_checkpoint(path).metadata
    known, wanted = metadata.get("appraisal", {}), recipe_record(recipe)
    return metadata["training"].get("step") == step and all(known.get(key) == wanted[key] for key in wanted)


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
    if output.is_dir():
        raise ConfigError(f"{output}: is a folder; name the checkpoint to write")
    trainer = AppraisalTrainer(checkpoint, recipe, folder, device)
    model = trainer.run(report)
    record = {
        **recipe_record(recipe),
        "network_sha256": checkpoint.weights_sha256,
        "versions": {name: version(name) for name in ("galprote", "torch")},
    }
    metadata = {name: checkpoint.metadata[name] for name in ("training", "metrics") if name in checkpoint.metadata}
    save_checkpoint(output, model.cpu(), checkpoint.decoder, metadata | {"appraisal": record})
    card = model_card(load_checkpoint(output))
    add_to_metadata(output, output, card=card)
    trainer.clear()
    return output


def _without_appraisal(model: GalProTE) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if not name.startswith("appraisal.")}
