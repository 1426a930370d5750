"""Train GalProTE on an endless stream of synthetic spectra: one YAML, resumable at any point, reproducible by seed.

Paper, section 3.5. The paper goes through one fixed set of spectra until early stopping; a stream draws fresh
populations from the same distribution and has nothing to over-fit.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.optim import AdamW

from galprote.model.appraisal_training import appraised_checkpoint, is_appraised
from galprote.model.card import model_card
from galprote.model.checkpoint import add_to_metadata, load_checkpoint, save_checkpoint
from galprote.model.errors import ConfigError, LibraryError
from galprote.model.kinematics import KinematicTemplates
from galprote.model.libraries import file_sha256, library_sha256, read_library
from galprote.model.losses import GridAxes, loss_terms, total_loss
from galprote.model.stream import TrainingStream
from galprote.model.synthesis import SyntheticSpectra, seen_through
from galprote.model.templates import verified_decoder
from galprote.model.training_config import TrainingConfig
from galprote.model.training_log import Progress, append_to_log, check_tensorboard, shorten_log
from galprote.model.transformer import GalProTE

#: A run that is killed loses at most so much work.
SAVE_SECONDS: Final = 60.0


class Trainer:
    """A training run that can be stopped and taken up again.

    Parameters
    ----------
    config : TrainingConfig
    device : str or torch.device
    """

    def __init__(self, config: TrainingConfig, device: str | torch.device = "cpu") -> None:
        if config.tensorboard:
            check_tensorboard()
        if config.start_from is not None and not config.start_from.is_file():
            raise ConfigError(f"start_from: {config.start_from}: no such checkpoint; name a file, or: shipped")
        self.config = config
        self.device = torch.device(device)
        library = read_library(config.library.path, fwhm=config.library.fwhm)
        self.decoder = verified_decoder(library, config.line_spread).to(self.device)
        shape = (config.model.n_metallicity, config.model.n_age)
        if self.decoder.shape != shape:
            raise LibraryError(
                f"{library.name}: {self.decoder.shape[0]} metallicities x {self.decoder.shape[1]} ages, but the model "
                f"has {shape[0]} x {shape[1]}; set model.n_metallicity and model.n_age"
            )
        torch.manual_seed(config.seed)
        refined = config.model.refinement is not None
        self.templates = KinematicTemplates.from_decoder(self.decoder) if refined or config.stream else None
        self.model = GalProTE(config.model, self.templates).to(self.device)
        self.average = copy.deepcopy(self.model)
        self.optimizer = self._optimizer()
        self.stream = self._stream(config.seed)
        self.axes = GridAxes.of(self.decoder)
        self.step = 0
        self.stale = 0
        self.best = math.inf
        #: Weights that `start_from` does not have, or has in another shape: they begin at random.
        self.new_weights: list[str] = []
        self._standardise()
        if config.start_from is not None:
            self._start_from(config.start_from)

    @property
    def state_path(self) -> Path:
        """The resumable state."""
        return self.config.output / "state.pt"

    def run(
        self,
        report: Callable[[Progress], None] = lambda progress: None,
        tell: Callable[[str], None] = lambda words: None,
        *,
        resume: bool = True,
    ) -> Path:
        """Train to the end and write the checkpoint.

        Parameters
        ----------
        report : callable
            Called with a `Progress` after every validation.
        tell : callable
            Told how far the appraisal is.
        resume : bool
            Go on from the last state in the output folder, if there is one.

        Returns
        -------
        Path
            The checkpoint, `galprote.safetensors` in the output folder.
        """
        self.config.output.mkdir(parents=True, exist_ok=True)
        if resume and self.state_path.exists():
            self.load_state()
        shorten_log(self.config.output, self.step)
        started, first = time.perf_counter(), self.step
        saved = started
        metrics: dict[str, float] = {}
        visible = self.config.model.visible
        batches = (seen_through(batch, visible) for batch in self.stream.batches(self.config.batch))
        while self.step < self.config.steps and not self._stalled():
            self.train_step(next(batches))
            if time.perf_counter() - saved > SAVE_SECONDS:
                self.save_state()
                saved = time.perf_counter()
            if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
                metrics = self.validate()
                self._watch(metrics["answer_mse"])
                self.save_state()
                speed = (self.step - first) * self.config.batch / (time.perf_counter() - started)
                row = {"step": self.step, **metrics, "spectra_per_second": speed}
                append_to_log(self.config.output, row, tensorboard=self.config.tensorboard)
                self.write_checkpoint(metrics)
                report(Progress(self.step, self.config.steps, speed, metrics))
        path = self.config.output / "galprote.safetensors"
        if not metrics:
            if self.config.appraisal is not None and is_appraised(path, self.step, self.config.appraisal):
                return path
            self.write_checkpoint(self.validate())
        self._describe(path)
        if self.config.appraisal is not None:
            appraised_checkpoint(load_checkpoint(path), self.config.appraisal, path, self.device, tell)
            self._describe(path)
        return path

    def train_step(self, batch: SyntheticSpectra) -> float:
        """One step of the optimiser; returns the loss."""
        if self.step == self.config.block_steps:
            # The stages learn behind the blocks that are kept: the averaged ones.
            self.model.load_state_dict(self.average.state_dict())
            self.optimizer = self._optimizer()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._schedule(self.step)
        self.model.train()
        if self._refining and self.config.block_steps is not None:
            self.model.freeze_blocks()
            loss = total_loss(self._terms(self.model, batch), self.config.loss)
        else:
            loss = total_loss(self._terms(self.model, batch), self.config.loss) + self.model.score_excess()
        if not math.isfinite(float(loss.detach())):
            raise ConfigError(
                f"step {self.step + 1}: the loss is not finite, training diverged; lower learning_rate or lengthen "
                f"warmup, in another output folder ({self.config.output} holds the last state that was in order)"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self._average_weights()
        return float(loss.detach())

    def validate(self) -> dict[str, float]:
        """Errors of the averaged weights on a fixed set of fresh spectra."""
        self.average.eval()
        totals: dict[str, float] = {}
        errors: list[Tensor] = []
        with torch.inference_mode():
            for batch in self._validation_batches():
                for name, term in self._terms(self.average, batch).items():
                    totals[name] = totals.get(name, 0.0) + float(term) * len(batch.av) / self.config.validation_spectra
                errors.append(self._errors(batch))
        table = torch.cat(errors).square().mean(dim=0)
        for column, name in enumerate(("log_age", "metallicity", "av")):
            totals[f"{name}_rms"] = float(table[column].sqrt())
        return totals | {"answer_mse": float(table[3])}

    def save_state(self) -> None:
        """Write all that a resumed run needs, under a temporary name first."""
        partial = self.state_path.with_suffix(".partial")
        torch.save(
            {
                "config": self._recipe(),
                "device": self.device.type,
                "step": self.step,
                "stale": self.stale,
                "best": self.best,
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.stream.generator.get_state(),
            },
            partial,
        )
        partial.replace(self.state_path)

    def load_state(self) -> None:
        """Take up a stopped run.

        Raises
        ------
        ConfigError
            If the state belongs to another configuration.
        """
        state = torch.load(self.state_path, weights_only=True, map_location=self.device)
        known, wanted = json.loads(state["config"]), json.loads(self._recipe())
        changed = [key for key in wanted if known.get(key) != wanted[key]]
        if state["device"] != self.device.type:
            changed.append(f"device ({state['device']}, now {self.device.type})")
        if changed:
            raise ConfigError(
                f"{self.state_path}: made by another training configuration; changed: {', '.join(changed)}. "
                "Choose another output folder, go back to the old settings, or delete the file to begin anew"
            )
        self.step, self.stale, self.best = state["step"], state["stale"], state["best"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.stream.generator.set_state(state["generator"].cpu())

    def _recipe(self) -> str:
        """All that decides the weights, as JSON: the library by its content, wherever it lies."""
        settings = self.config.model_dump(mode="json", exclude={"output", "tensorboard", "appraisal"})
        settings["library"]["path"] = library_sha256(self.config.library.path)
        if self.config.start_from is not None:
            settings["start_from"] = file_sha256(self.config.start_from)
        return json.dumps(settings)

    def write_checkpoint(self, metrics: dict[str, float]) -> None:
        """Write the averaged weights as a checkpoint."""
        settings = self.config.model_dump(mode="json", exclude={"output", "appraisal"})
        settings["library"]["path"] = self.config.library.path.name
        if self.config.start_from is not None:
            settings["start_from"] = load_checkpoint(self.config.start_from).weights_sha256
        training = {
            "config": settings,
            "step": self.step,
            "spectra": self.step * self.config.batch,
            "library_sha256": library_sha256(self.config.library.path),
            "versions": {name: version(name) for name in ("galprote", "torch")},
        }
        metadata = {"training": training, "metrics": {"validation": metrics}}
        save_checkpoint(self.config.output / "galprote.safetensors", self.average, self.decoder, metadata)

    def _terms(self, model: GalProTE, batch: SyntheticSpectra) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bfloat16):
            prediction = model(batch.spectra, batch.noise, batch.calibration, refine=self._refining)
        return loss_terms(model, prediction, batch, self.axes, self.config.loss)

    def _errors(self, batch: SyntheticSpectra) -> Tensor:
        """Errors of log age, [M/H], A_V and of the whole grid in single precision: (B, 4)."""
        prediction = self.average(batch.spectra, batch.noise, batch.calibration, refine=self._refining)
        fit = self.average.populations(prediction)
        difference = fit.grid - batch.grid
        age = difference.sum(dim=1) @ self.axes.log_ages
        metallicity = difference.sum(dim=2) @ self.axes.metallicities
        whole = difference.square().sum(dim=(1, 2)).sqrt()
        return torch.stack([age, metallicity, fit.av - batch.av, whole], dim=1)

    def _validation_batches(self) -> Iterator[SyntheticSpectra]:
        """The same spectra at every validation, from a seed that training does not use."""
        fixed = self._stream(self.config.seed + 1_000_003)
        left = self.config.validation_spectra
        while left > 0:
            yield seen_through(fixed.batch(min(512, left)), self.config.model.visible)
            left -= 512

    def _stream(self, seed: int) -> TrainingStream:
        return TrainingStream(self.decoder, self.config.stream, self.config.noise, seed, self.templates)

    def _standardise(self) -> None:
        """Set the network's input mean and scale, and what the refinement looks through, from a few spectra."""
        batch = seen_through(self._stream(self.config.seed + 2_000_003).batch(4096), self.config.model.visible)
        spectra = batch.spectra
        for model in (self.model, self.average):
            model.input_mean.copy_(spectra.mean(dim=0))
            model.input_scale.copy_((spectra - spectra.mean(dim=0)).std())
            if model.refinement is not None:
                model.refinement.set_components(batch.clean)

    def _describe(self, path: Path) -> Path:
        """Put the model card into the checkpoint and beside it."""
        card = model_card(load_checkpoint(path))
        add_to_metadata(path, path, card=card)
        (self.config.output / "model-card.md").write_text(card)
        return path

    def _start_from(self, path: Path) -> None:
        """Take over what a checkpoint has learned and what it looks through, but not its templates."""
        known = load_checkpoint(path).model.state_dict()
        own = self.model.state_dict()
        fitting = {
            name: value
            for name, value in known.items()
            if name in own and own[name].shape == value.shape and not name.startswith("refinement.templates.")
        }
        learned = dict(self.model.named_parameters()).keys()
        self.new_weights = sorted(learned - fitting.keys())
        if self.new_weights == sorted(learned):
            raise ConfigError(f"start_from: {path}: none of its weights has a name and shape of this model")
        for model in (self.model, self.average):
            model.load_state_dict(fitting, strict=False)

    @property
    def _refining(self) -> bool:
        """Whether the refining stages, if there are any, are in use yet."""
        return self.config.block_steps is None or self.step >= self.config.block_steps

    def _optimizer(self) -> AdamW:
        return AdamW(
            self.model.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay, fused=True
        )

    def _schedule(self, step: int) -> float:
        """Factor of the learning rate: up, and down along a cosine; once for the blocks, once for the stages."""
        first, last = 0, self.config.steps
        if self.config.block_steps is not None:
            first, last = (self.config.block_steps, last) if self._refining else (0, self.config.block_steps)
        step -= first
        if step < self.config.warmup:
            return (step + 1) / self.config.warmup
        done = (step - self.config.warmup) / max(1, last - first - self.config.warmup)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

    def _average_weights(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
            for average, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
                if average.is_floating_point():
                    average.lerp_(buffer, 1 - decay)
                else:
                    average.copy_(buffer)

    def _watch(self, grid_error: float) -> None:
        """Count validations without gain; while the blocks learn alone there is no stopping before the stages' turn."""
        if self.config.block_steps is not None and self.step <= self.config.block_steps:
            return
        self.stale = 0 if grid_error < self.best else self.stale + 1
        self.best = min(self.best, grid_error)

    def _stalled(self) -> bool:
        return self.config.patience is not None and self.stale >= self.config.patience
