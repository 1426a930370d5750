"""A training YAML (`configs/train/*.yaml`) -> a frozen, validated TrainingConfig."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from galprote.model.appraisal_recipe import AppraisalRecipe
from galprote.model.checkpoint import default_checkpoint
from galprote.model.errors import ConfigError
from galprote.model.grids import AV_CLASSES
from galprote.model.line_spread import MUSE, LineSpread
from galprote.model.losses import LossConfig
from galprote.model.stream import StreamConfig
from galprote.model.synthesis import NoiseConfig
from galprote.model.transformer import ModelConfig
from galprote.model.wording import did_you_mean

#: Name of the checkpoint that comes with galprote.
SHIPPED: Final = Path("shipped")


class LibraryConfig(BaseModel):
    """Where the template library is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    """Folder of MILES or E-MILES files, an .npz, or pPXF's .npz: see docs/training.md."""
    fwhm: float | None = Field(default=None, gt=0)
    """Resolution in Angstrom, when the files do not tell."""


class TrainingConfig(BaseModel):
    """A training run (`configs/train/*.yaml`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    library: LibraryConfig
    line_spread: LineSpread = MUSE
    """Of the instrument whose spectra are to be fitted; MUSE's by default."""
    output: Path
    """Folder for the resumable state, the log and the checkpoint."""
    seed: int = Field(default=1, ge=0, lt=10_000_000)
    """Of everything random; the test spectra of `evaluate` have larger ones."""
    model: ModelConfig = ModelConfig()
    noise: NoiseConfig = NoiseConfig()
    """The paper's spectra."""
    stream: StreamConfig | None = None
    """The survey's spectra; null: the paper's alone."""
    start_from: Path | None = None
    """Begin with this checkpoint's weights wherever names and shapes agree; `shipped`: the one that galprote has."""
    appraisal: AppraisalRecipe | None = None
    """What the finished network learns of its errors and limits; null: its answers are bare numbers."""
    loss: LossConfig = LossConfig()
    steps: int = Field(default=6000, ge=1)
    """Steps of the optimiser, in all."""
    batch: int = Field(default=512, ge=2)
    """Spectra in a step."""
    block_steps: int | None = Field(default=None, ge=0)
    """Steps in which the blocks learn alone; then they keep their weights, and the refining stages learn. Null: all
    learn together to the end, which is slower."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Largest learning rate, of AdamW."""
    warmup: int = Field(default=200, ge=0)
    """Steps over which the learning rate rises; it then falls along a cosine to a hundredth."""
    weight_decay: float = 0.01
    """Of AdamW."""
    ema: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the running average of the weights, which is what is kept."""
    validate_every: int = Field(default=500, ge=1)
    """Steps between two validations."""
    validation_spectra: int = Field(default=4096, ge=64)
    """Spectra of a validation, the same each time."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many validations without a smaller error of the grid (paper: 3 epochs); null: never."""
    bfloat16: bool = True
    """Mixed precision."""
    tensorboard: bool = False
    """Write TensorBoard events beside `log.csv`; needs the package `tensorboard`."""

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainingConfig":
        if self.stream is not None and max(self.stream.av) > self.model.av_max:
            raise ValueError(f"stream.av reaches {max(self.stream.av)} mag, the model's av_max is {self.model.av_max}")
        paper = self.stream is None or (self.stream.paper > 0 and "paper" not in self.stream.without)
        if paper and self.model.av_max < AV_CLASSES[-1]:
            raise ValueError(f"model.av_max = {self.model.av_max}: the paper's spectra reach {AV_CLASSES[-1]} mag")
        if self.model.appraisal is not None:
            raise ValueError("model.appraisal: has its own section, appraisal, beside model")
        if self.appraisal is not None and self.model.refinement is None:
            raise ValueError("appraisal needs model.refinement: it looks at residuals of the reconstructed spectrum")
        if self.block_steps is not None and (self.model.refinement is None or self.block_steps >= self.steps):
            raise ValueError("block_steps needs model.refinement, and steps beyond it")
        return self


def read_training_config(
    path: Path,
    *,
    library: Path | None = None,
    output: Path | None = None,
    without: Collection[str] = (),
    start_from: Path | None = None,
) -> TrainingConfig:
    """Read a training YAML; relative paths in it are relative to the file.

    Parameters
    ----------
    path : Path
    library, output, start_from : Path, optional
        Replace the file's; `start_from` may be `shipped`.
    without : collection of str
        Ingredients of the stream to leave out, besides the file's.

    Raises
    ------
    ConfigError
        Naming the key, what was found and what was expected.
    """
    try:
        raw = yaml.safe_load(path.read_text())
        if without:
            raw = _leaving_out(raw, without, path)
        config = TrainingConfig.model_validate(raw)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        raise ConfigError("\n".join(_problems(path, error))) from error
    return config.model_copy(
        update={
            "library": config.library.model_copy(update={"path": library or path.parent / config.library.path}),
            "output": output or path.parent / config.output,
            "appraisal": config.appraisal
            and config.appraisal.model_copy(update={"stars": _beside(config.appraisal.stars, path)}),
            "start_from": _checkpoint(start_from, Path()) or _checkpoint(config.start_from, path.parent),
        }
    )


def read_appraisal_recipe(path: Path, *, stars: Path | None = None) -> AppraisalRecipe:
    """Read the section `appraisal` of a training YAML; `stars` replaces the file's.

    Raises
    ------
    ConfigError
        Naming the key, what was found and what was expected.
    """
    try:
        raw = yaml.safe_load(path.read_text())
        section = raw.get("appraisal") if isinstance(raw, dict) else None
        if section is None:
            raise ConfigError(f"{path}: no section `appraisal`; configs/train/survey.yaml has one")
        recipe = AppraisalRecipe.model_validate(section)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except ValidationError as error:
        raise ConfigError("\n".join(_problems(path, error, "appraisal."))) from error
    return recipe.model_copy(update={"stars": stars or _beside(recipe.stars, path)})


def _problems(path: Path, error: ValidationError, section: str = "") -> list[str]:
    root = AppraisalRecipe if section else TrainingConfig
    lines = []
    for item in error.errors():
        said = f"{path}: {section}{'.'.join(map(str, item['loc']))}: "
        if item["type"] == "extra_forbidden":
            lines.append(f"{said}unknown key{did_you_mean(item['loc'][-1], _keys(root, item['loc'][:-1]))}")
        else:
            lines.append(f"{said}{item['msg']} (found {item['input']!r})")
    return lines


def _keys(root: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at a place."""
    section = root
    for part in loc:
        field = section.model_fields.get(str(part))
        inside = (field.annotation, *get_args(field.annotation)) if field else ()
        models = [kind for kind in inside if isinstance(kind, type) and issubclass(kind, BaseModel)]
        section = models[0] if models else section
    return list(section.model_fields)


def _beside(named: Path | None, path: Path) -> Path | None:
    return None if named is None else path.parent / named


def _checkpoint(named: Path | None, folder: Path) -> Path | None:
    """A checkpoint by its name, relative to a folder."""
    if named is None:
        return None
    return default_checkpoint() if named == SHIPPED else folder / named


def _leaving_out(raw: Any, without: Collection[str], path: Path) -> Any:
    """Add ingredients to the file's `stream.without`."""
    stream = raw.get("stream") if isinstance(raw, dict) else None
    if not isinstance(stream, dict):
        raise ConfigError(f"{path}: --without {' '.join(sorted(without))}: this recipe has no stream")
    return raw | {"stream": stream | {"without": sorted({*(stream.get("without") or ()), *without})}}
