"""A checkpoint -> damaged checkpoints: bytes, metadata, tensors; from a seed."""

import copy
import json
import pickle
import random
import struct
from collections.abc import Callable
from typing import Any, Final

import torch

from tests.fuzz.harness import places

Header = dict[str, Any]
METADATA_VALUES: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 1, 3, 10**9, 10**30, 1.5, float("nan"), float("inf"), "", "x", [], [1, 2], [[1], [2, 3]], {},
    {"a": 1},
    [float("nan")] * 53, [-1.0] * 53, list(range(53)), ["a"] * 12, "9" * 5000, [None], [10**400],
)  # fmt: skip
DTYPES: Final = ("F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL", "F8_E4M3", "X9")


class Trap:
    """What a pickle runs when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('the pickle was run')",)


def split(raw: bytes) -> tuple[Header, bytes]:
    """JSON header and data of a safetensors file."""
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join(header: Any, data: bytes) -> bytes:
    """The file again."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _tensor(random_: random.Random, header: Header) -> dict[str, Any]:
    found: dict[str, Any] = header[random_.choice([name for name in header if name != "__metadata__"])]
    return found


def metadata_value(random_: random.Random, raw: bytes) -> bytes:
    header, data = split(raw)
    metadata = json.loads(header["__metadata__"]["galprote"])
    tops = [(metadata, key) for key in metadata]
    container, key = random_.choice(random_.choice((tops, places(metadata, []), places(metadata["model"], []))))
    if random_.random() < 0.25:
        del container[key]
    else:
        container[key] = copy.deepcopy(random_.choice(METADATA_VALUES))
    header["__metadata__"]["galprote"] = json.dumps(metadata)
    return join(header, data)


def metadata_text(random_: random.Random, raw: bytes) -> bytes:
    header, data = split(raw)
    text = header["__metadata__"]["galprote"]
    where = random_.randrange(len(text))
    header["__metadata__"] = random_.choice(
        (
            {"galprote": text[:where]}, {"galprote": ""}, {"galprote": "[" * 100_000}, {"galprote": "[]"},
            {"galprote": "null"}, {"galprote": "5"}, {"galprote": '"x"'}, {}, {"other": "x"},
            {"galprote": text[:where] + random_.choice('{}[]",:0x') + text[where + 1 :]},
        )
    )  # fmt: skip
    return join(header, data)


def no_metadata(random_: random.Random, raw: bytes) -> bytes:
    header, data = split(raw)
    del header["__metadata__"]
    return join(header, data)


def tensor_entry(random_: random.Random, raw: bytes) -> bytes:
    """Another type, shape or place of a tensor, as the file's own header says it."""
    header, data = split(raw)
    tensor = _tensor(random_, header)
    kind = random_.choice(("dtype", "shape", "offsets"))
    if kind == "dtype":
        tensor["dtype"] = random_.choice(DTYPES)
    elif kind == "shape":
        shape = list(tensor["shape"])
        tensor["shape"] = random_.choice((shape[::-1], [*shape, 1], shape[1:], [], [10**12], [-1], [0], "x", None))
    else:
        backwards = tensor["data_offsets"][::-1]
        tensor["data_offsets"] = random_.choice(([0, 0], [0, 10**18], [-5, 5], [8, 4], [], None, backwards))
    return join(header, data)


def _rewrite(raw: bytes, change: Callable[[dict[str, torch.Tensor]], None]) -> bytes:
    from safetensors.torch import load, save

    tensors = load(raw)
    change(tensors)
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, split(raw)[0]["__metadata__"])


def tensor_type(random_: random.Random, raw: bytes) -> bytes:
    """A consistent file with a tensor of another type or shape, one too many or too few."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        name = random_.choice(sorted(tensors))
        kinds = ("int", "double", "bool", "bfloat", "flat", "extra", "missing", "longer", "renamed", "empty")
        kind = random_.choice(kinds)
        types = {"int": torch.int64, "double": torch.float64, "bool": torch.bool, "bfloat": torch.bfloat16}
        if kind in types:
            other = torch.int32 if tensors[name].dtype == types[kind] else types[kind]
            tensors[name] = tensors[name].to(other)
        elif kind == "flat":
            tensors[name] = tensors[name].reshape(-1, 1)
        elif kind == "extra":
            tensors[f"{name}.more"] = torch.ones(3)
        elif kind == "longer":
            tensors[name] = torch.cat([tensors[name].reshape(-1), torch.ones(1, dtype=tensors[name].dtype)])
        elif kind == "empty":
            tensors[name] = tensors[name].reshape(-1)[:0]
        else:
            moved = tensors.pop(name)
            if kind == "renamed":
                tensors[f"x{name}"] = moved

    return _rewrite(raw, change)


def not_finite(random_: random.Random, raw: bytes) -> bytes:
    """One NaN or infinity in any of the weights."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        name = random_.choice([name for name in sorted(tensors) if tensors[name].is_floating_point()])
        flat = tensors[name].reshape(-1)
        flat[random_.randrange(flat.numel())] = random_.choice((torch.nan, torch.inf, -torch.inf))

    return _rewrite(raw, change)


def header_bytes(random_: random.Random, raw: bytes) -> bytes:
    damaged = bytearray(raw)
    for _ in range(random_.choice((1, 3, 20))):
        damaged[random_.randrange(min(len(raw), random_.choice((8, 500, 20_000))))] = random_.randrange(256)
    return bytes(damaged)


def truncated(random_: random.Random, raw: bytes) -> bytes:
    return raw[: random_.choice((0, 1, 7, 8, 9, 500, random_.randrange(len(raw)), len(raw) - 1))]


def appended(random_: random.Random, raw: bytes) -> bytes:
    return raw + random_.randbytes(random_.choice((1, 8, 4096)))


def pickled(random_: random.Random, raw: bytes) -> bytes:
    import io

    box = io.BytesIO()
    torch.save({"weights": torch.ones(3)}, box)
    trap = pickle.dumps(Trap())
    framed = struct.pack("<Q", len(trap)) + trap
    return random_.choice((trap, box.getvalue(), trap + raw, framed, random_.randbytes(3000)))


Damage = Callable[[random.Random, bytes], bytes]
DAMAGES: Final[tuple[Damage, ...]] = (
    metadata_value, metadata_value, metadata_text, no_metadata, tensor_entry, tensor_entry, tensor_type, not_finite,
    header_bytes, truncated, appended, pickled,
)  # fmt: skip


def damaged_checkpoint(raw: bytes, seed: int) -> tuple[str, bytes]:
    """Name of a kind of damage, and the file with it; the same for the same seed."""
    random_ = random.Random(f"checkpoint-{seed}")
    damage = DAMAGES[seed % len(DAMAGES)]
    return damage.__name__, damage(random_, raw)
