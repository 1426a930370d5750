"""Linear maps in fewer bits: integers of eight bits, or bfloat16, each for the machines that are quick with them.

Weights get one scale for every output, inputs one for every row, so that the answer for a spectrum does not depend on
its neighbours. Sums of products of integers are exact: every processor that has the instructions gives the same ones.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn

from galprote.model.precision import Precision

#: Largest integer of a scaled weight or input, and what is added to inputs to make them unsigned.
LARGEST: Final = 127
OFFSET: Final = 128

#: Smallest step between scaled integers: one over it is still a number in single precision, and nothing times it is.
SMALLEST: Final = torch.finfo(torch.float32).tiny


@cache
def has_integers() -> bool:
    """Whether this machine's processor multiplies 8-bit integers faster than it multiplies numbers (VNNI, AMX)."""
    # Before 2026 PyTorch did not tell: then without them.
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(able.get(name, False) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


class Int8Linear(nn.Module):
    """A linear map with weights and inputs rounded to 8 bits, in float32 from outside.

    On processors with `has_integers` oneDNN takes a fourth of the time, or less, that float32 takes. Elsewhere the
    integers are multiplied as float32 numbers. No time is saved, but the sums are the same while they stay below 2^24:
    always with up to 1,040 inputs, and in the shipped network.

    Parameters
    ----------
    weight : (M, N) float32
    bias : (M,) float32 or None
    """

    integers: Tensor
    scale: Tensor
    zero: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scale = (weight.detach().abs().amax(dim=1) / LARGEST).clamp(min=SMALLEST)
        integers = (weight.detach() / scale[:, None]).round()
        self.packed = weight.device.type == "cpu" and has_integers()
        if self.packed:
            integers = torch.ops.onednn.qlinear_prepack(integers.to(torch.int8), None)
        self.register_buffer("integers", integers, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int64), persistent=False)
        self.register_buffer("bias", torch.zeros_like(scale) if bias is None else bias.detach(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., N) float32 to (..., M) float32."""
        rows = x.reshape(-1, x.shape[-1])
        largest = torch.maximum(rows.amax(dim=1, keepdim=True), -rows.amin(dim=1, keepdim=True))
        size = largest.div_(LARGEST).clamp_(min=SMALLEST)
        rounded = (rows * size.reciprocal()).round_()
        if self.packed:
            product: Tensor
            unsigned = rounded.to(torch.int8).view(torch.uint8).bitwise_xor_(OFFSET)
            product = torch.ops.onednn.qlinear_pointwise(
                unsigned, 1.0, OFFSET, self.integers, self.scale, self.zero, None, 1.0, 0, torch.float32, "none", [], ""
            )
        else:
            product = nn.functional.linear(rounded, self.integers).mul_(self.scale)
        torch.addcmul(self.bias, product, size, out=product)
        return product.reshape(*x.shape[:-1], len(self.bias))


class Bfloat16Linear(nn.Module):
    """A linear map in bfloat16, its sums in float32: for GPUs, and processors with AMX.

    Parameters
    ----------
    weight : (M, N) float32
    bias : (M,) float32 or None
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().bfloat16(), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().bfloat16(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., N) float32 to (..., M) float32."""
        return nn.functional.linear(x.bfloat16(), self.weight, self.bias).float()


def linear(weight: Tensor, bias: Tensor | None, precision: Precision) -> nn.Module:
    """A linear map of a trained one's weight (M, N) and bias (M,)."""
    if precision == "int8":
        return Int8Linear(weight, bias)
    if precision == "bfloat16":
        return Bfloat16Linear(weight, bias)
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device)
    plain.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        plain.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return plain
