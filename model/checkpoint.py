"""One safetensors file <-> network, template decoder and provenance. No pickle is ever read or written.

The file's header carries a JSON text under the key `galprote`: the model's sizes, the grids, the template library, how
the weights were trained and what they reached. Large matrices are stored in half precision and used in single.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from galprote.model.checkpoint_file import empty_templates, grid_axis, read_checkpoint_file, require_sizes
from galprote.model.decoder import FINE_EDGES, Decoder
from galprote.model.errors import CheckpointError
from galprote.model.grids import WAVELENGTH
from galprote.model.libraries import file_sha256
from galprote.model.line_spread import TemplateResolution
from galprote.model.transformer import GalProTE, ModelConfig

FORMAT: Final = 1
#: Tensors with more elements than this are stored in half precision, except those with such names: what is taken from
#: an observed spectrum must be better than its noise.
HALF_PRECISION_ABOVE: Final = 4096
SINGLE_PRECISION: Final = ("model.refinement.templates.", "model.refinement.components")


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and all that inference needs.

    Attributes
    ----------
    model : GalProTE
        In evaluation mode, single precision, on the CPU.
    decoder : Decoder
    metadata : dict
        The JSON metadata: `training` (configuration, library, seed, steps), `metrics`.
    sha256 : str
        Hash of the file's bytes.
    weights_sha256 : str
        Hash of all tensors: the same whatever the metadata say.
    """

    model: GalProTE
    decoder: Decoder
    metadata: dict[str, Any]
    sha256: str
    weights_sha256: str


def default_checkpoint() -> Path:
    """Path of the checkpoint that is shipped with galprote."""
    return Path(str(files("galprote.model"))) / "weights" / "galprote.safetensors"


def save_checkpoint(path: Path, model: GalProTE, decoder: Decoder, metadata: dict[str, Any]) -> None:
    """Write a checkpoint, under a temporary name first.

    Parameters
    ----------
    path : Path
    model : GalProTE
    decoder : Decoder
    metadata : dict
        JSON-able `training` and `metrics`.
    """
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors = {name: _stored(name, tensor) for name, tensor in state.items()}
    tensors |= {
        "decoder.coefficients": decoder.coefficients.cpu(),
        "decoder.components": decoder.components.cpu(),
        "decoder.median_flux": decoder.median_flux.cpu(),
    }
    text = {
        "format": FORMAT,
        "model": model.config.model_dump(mode="json"),
        "wavelength": _wavelength_axis(),
        "ages_gyr": decoder.ages_gyr.tolist(),
        "metallicities": decoder.metallicities.tolist(),
        "library": decoder.library,
        **metadata,
    }
    _write(path, tensors, text)


def add_to_metadata(path: Path, output: Path, **entries: Any) -> None:
    """Write a copy of a checkpoint with more in its metadata; weights and everything else stay to the bit.

    Parameters
    ----------
    path : Path
    output : Path
        May be `path` itself.
    **entries
        JSON-able; replace what has the same name.

    Raises
    ------
    CheckpointError
        If `path` is not a galprote checkpoint.
    """
    known = load_checkpoint(path).metadata
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _write(output, tensors, known | entries)


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={"galprote": json.dumps(metadata, sort_keys=True)})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.chmod(0o644)  # safetensors makes it private; a checkpoint is for the whole group
    os.replace(partial, path)


def _wavelength_axis() -> dict[str, Any]:
    return {"first": float(WAVELENGTH[0]), "last": float(WAVELENGTH[-1]), "n": len(WAVELENGTH), "medium": "air"}


def _stored(name: str, tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    large = tensor.is_floating_point() and tensor.numel() > HALF_PRECISION_ABOVE
    if large and not name.startswith(SINGLE_PRECISION):
        tensor = tensor.half()
    return tensor.contiguous()


def load_checkpoint(path: str | Path | None = None) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    path : str or Path, optional
        The shipped one by default.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        If the file is missing, not a galprote checkpoint, or inconsistent with itself.
    """
    path = default_checkpoint() if path is None else Path(path)
    return _assemble(path, *read_checkpoint_file(path))


def checkpoint_config(path: Path) -> ModelConfig:
    """Sizes and window of a checkpoint's network, from its header alone.

    Raises
    ------
    CheckpointError
        If the file is not a galprote checkpoint.
    """
    metadata, _ = read_checkpoint_file(path, tensors=False)
    return _config(path, metadata)


def checkpoint_resolution(path: Path) -> TemplateResolution:
    """How sharp a checkpoint's templates are, from its header alone.

    Raises
    ------
    CheckpointError
        If the file is not a galprote checkpoint.
    """
    metadata, _ = read_checkpoint_file(path, tensors=False)
    return TemplateResolution.of_metadata(metadata)


def _config(path: Path, metadata: dict[str, Any]) -> ModelConfig:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: checkpoint format {metadata.get('format')!r:.60}; this galprote reads {FORMAT}")
    try:
        return ModelConfig.model_validate(metadata.get("model"))
    except (ValidationError, OverflowError) as error:
        raise CheckpointError(f"{path}: inconsistent checkpoint: {error}") from error


def _tensors_sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _assemble(path: Path, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    """Put the parts together, and refuse parts that do not fit."""
    config = _config(path, metadata)
    weights = _tensors_sha256(tensors)
    try:
        require_sizes(path, config, tensors)
        model = GalProTE(config, empty_templates(tensors) if config.refinement else None)
        decoder = _decoder(path, metadata, tensors)
        state = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        model.load_state_dict({k: v.long() if k.endswith("num_batches_tracked") else v for k, v in state.items()})
    except (LookupError, ArithmeticError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: inconsistent checkpoint: {error}") from error
    if metadata.get("wavelength") != _wavelength_axis():
        raise CheckpointError(
            f"{path}: made for the wavelengths {metadata.get('wavelength')}, not {_wavelength_axis()}"
        )
    grid = (config.n_metallicity, config.n_age)
    sizes = (decoder.shape, decoder.median_flux.shape, decoder.coefficients.shape, decoder.components.shape)
    components = len(decoder.components)
    if sizes != (grid, grid, (grid[0] * grid[1], components), (components, len(FINE_EDGES) - 1)):
        raise CheckpointError(f"{path}: the decoder's shapes do not match the model's {grid[0]} x {grid[1]} grid")
    if not (decoder.median_flux > 0).all():
        raise CheckpointError(f"{path}: inconsistent checkpoint: decoder.median_flux must be positive everywhere")
    model.eval()
    return Checkpoint(model, decoder, metadata, file_sha256(path), weights)


def _decoder(path: Path, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> Decoder:
    return Decoder(
        grid_axis(path, metadata, "ages_gyr", positive=True),
        grid_axis(path, metadata, "metallicities"),
        tensors["decoder.coefficients"],
        tensors["decoder.components"],
        tensors["decoder.median_flux"],
        str(metadata["library"]),
    )
