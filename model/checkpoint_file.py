"""The bytes of a checkpoint -> metadata and tensors that hang together, from files of which nothing good is known.

Nothing here runs what is in the file: safetensors holds numbers and a JSON text, pickles are refused. Sizes are
compared before anything of that size is made.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from galprote.model.errors import CheckpointError
from galprote.model.kinematics import KinematicTemplates
from galprote.model.transformer import ModelConfig

#: What weights are stored as; counters of batches are the only integers.
_FLOATS: Final = (torch.float16, torch.float32)
_COUNTER: Final = "num_batches_tracked"


def read_checkpoint_file(path: Path, *, tensors: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read metadata and tensors of a checkpoint.

    Parameters
    ----------
    path : Path
    tensors : bool
        Whether to read the tensors, too.

    Returns
    -------
    metadata : dict
    tensors : dict of str to Tensor
        Single precision, finite; as stored if they are counters.

    Raises
    ------
    CheckpointError
        If the file is missing, no safetensors file with galprote's metadata, or its tensors are not finite floats.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("galprote")
            found = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    except (SafetensorError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error}); other formats are refused") from error
    if header is None:
        raise CheckpointError(f"{path}: safetensors file without galprote metadata")
    try:
        metadata = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its galprote metadata are not JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: its galprote metadata are {type(metadata).__name__}, expected a mapping")
    return metadata, {name: _single(path, name, tensor) for name, tensor in found.items()}


def _single(path: Path, name: str, tensor: Tensor) -> Tensor:
    if name.endswith(_COUNTER):
        if tensor.dtype != torch.int64 or tensor.ndim:
            raise CheckpointError(f"{path}: {name} is {_kind(tensor)}, expected one int64")
        return tensor.float()
    if tensor.dtype not in _FLOATS:
        raise CheckpointError(f"{path}: {name} is {_kind(tensor)}; weights are float16 or float32")
    tensor = tensor.float()
    # The extremes are not finite if any number is not: a tenth of the time of looking at each.
    if tensor.numel() and not all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor)):
        raise CheckpointError(f"{path}: weights that are not finite ({name}); the file is damaged or training diverged")
    return tensor


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def grid_axis(path: Path, metadata: dict[str, Any], name: str, *, positive: bool = False) -> NDArray[np.float64]:
    """Return an axis of the grid from the metadata, (n,) float64.

    Raises
    ------
    CheckpointError
        If it is no list of finite, ascending numbers.
    """
    found = metadata.get(name)
    numbers = isinstance(found, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in found)
    try:
        axis = np.array(found if numbers else [], dtype=np.float64)
    except OverflowError:  # an integer of hundreds of digits
        axis = np.array([])
    good = axis.size > 0 and np.isfinite(axis).all() and (np.diff(axis) > 0).all() and not (positive and axis[0] <= 0)
    if not good:
        what = "positive, ascending numbers" if positive else "ascending numbers"
        raise CheckpointError(f"{path}: inconsistent checkpoint: {name} = {found!r:.60}, expected a list of {what}")
    return axis


def empty_templates(tensors: dict[str, Tensor]) -> KinematicTemplates:
    """Room for the reconstruction's templates, which have the sizes of their library."""
    templates, components = tensors["model.refinement.templates.coefficients"].shape
    terms = tensors["model.refinement.templates.expansion"].shape[1]
    common = len(tensors["model.refinement.templates.spectra"])
    return KinematicTemplates(components, terms, common, templates)


def require_sizes(path: Path, config: ModelConfig, tensors: dict[str, Tensor]) -> None:
    """Compare the sizes in the metadata with the tensors roughly, before the network takes memory.

    Raises
    ------
    CheckpointError
        If the metadata describe a network far larger than what is in the file.
    """
    longest = max((max(tensor.shape, default=1) for tensor in tensors.values() if tensor.numel()), default=0)
    sizes = config.model_dump(exclude={"window", "masks", "kernels"})
    numbers = [*config.kernels, *_integers(sizes)]
    parts = len(config.kernels) + (config.refinement.stages if config.refinement else 0)
    if max(numbers) > longest or parts > len(tensors):
        raise CheckpointError(
            f"{path}: inconsistent checkpoint: sizes up to {max(numbers):,} and {parts:,} blocks and stages, but the "
            f"tensors ({len(tensors)}) are no longer than {longest:,}"
        )


def _integers(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _integers(item)]
    return [value] if isinstance(value, int) else []
