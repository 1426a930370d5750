"""The trained network as it is run: the same sums in fewer passes, and fewer bits where they are known to do no harm.

The plain modules are the reference, and what training uses. Here the normalisation is folded into the convolution, the
convolution is a matrix product over short pieces of the spectrum whose result is pooled before it is rearranged, and
what does not depend on the spectra is worked out once.

Tensor names carry their shape: B spectra, L = 876 samples, C channels, S pooled samples, N pieces, K heads.
"""

import copy
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from galprote.model.precision import Precision
from galprote.model.quantised import linear
from galprote.model.transformer import Block, GalProTE

#: Pooled samples in a piece of the convolution: longer ones multiply more zeros, shorter ones copy more samples.
PIECE: Final = 8


class FoldedConvolution(nn.Module):
    """Equations 5 and 6: convolution, normalisation, ReLU and pooling, as a product with a banded matrix.

    Parameters
    ----------
    block : Block
        Trained.
    """

    band: Tensor

    def __init__(self, block: Block) -> None:
        super().__init__()
        convolution, norm, pool = block.convolution, block.normalisation, block.pool
        assert convolution.bias is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain_C = norm.weight / (norm.running_var + norm.eps).sqrt() / pool
        weight_CK = convolution.weight[:, 0] * gain_C[:, None]
        bias_C = (convolution.bias - norm.running_mean) * gain_C + norm.bias / pool
        self.channels, width = weight_CK.shape
        self.padding, self.pool, self.step = width // 2, pool, PIECE * pool
        self.window = self.step + width - 1
        # Rows: position under the pool, channel, pooled sample; columns: samples of the piece.
        band = weight_CK.new_zeros(pool, self.channels, PIECE, self.window)
        for position in range(pool):
            for sample in range(PIECE):
                first = sample * pool + position
                band[position, :, sample, first : first + width] = weight_CK
        bias = bias_C[None, :, None, None].expand(pool, -1, PIECE, 1)
        # Always in float32: in 8 bits it would err more than all the other maps together. The bias is the factor of a
        # column of ones: to add it to each piece would take as long as the product.
        self.register_buffer("band", torch.cat([band, bias], dim=3).flatten(0, 2), persistent=False)

    def forward(self, x_BL: Tensor) -> Tensor:
        """Pooled channels (B, C, S)."""
        tokens = x_BL.shape[1] // self.pool
        pieces = -(-tokens // PIECE)
        padded = F.pad(x_BL, (self.padding, pieces * self.step + self.padding - x_BL.shape[1]))
        windows_BNW = padded.new_ones(len(padded), pieces, self.window + 1)
        windows_BNW[:, :, :-1] = padded.unfold(1, self.window, self.step)
        product = F.relu_(windows_BNW.flatten(0, 1) @ self.band.T)
        positions = product.view(len(padded), pieces, self.pool, -1).unbind(2)
        pooled_BN = positions[0] + positions[1] if self.pool > 1 else positions[0]
        for position in positions[2:]:
            pooled_BN += position
        pooled_BCS: Tensor = pooled_BN.unflatten(2, (self.channels, PIECE)).transpose(1, 2).flatten(2)
        return pooled_BCS[:, :, :tokens]


class FoldedEncoder(nn.Module):
    """Equation 7, in evaluation: `torch.nn.TransformerEncoderLayer` with its linear maps in another precision."""

    def __init__(self, encoder: nn.TransformerEncoderLayer, precision: Precision) -> None:
        super().__init__()
        attention = encoder.self_attn
        self.heads = attention.num_heads
        self.norms = nn.ModuleList([encoder.norm1, encoder.norm2])
        self.maps = nn.ModuleList(
            linear(weight, bias, precision)
            for weight, bias in (
                (attention.in_proj_weight, attention.in_proj_bias),
                (attention.out_proj.weight, attention.out_proj.bias),
                (encoder.linear1.weight, encoder.linear1.bias),
                (encoder.linear2.weight, encoder.linear2.bias),
            )
        )

    def forward(self, x_BCS: Tensor) -> Tensor:
        """Encode the channels (B, C, S) as tokens."""
        into, out, up, down = self.maps
        parts = into(self.norms[0](x_BCS)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        context_BKCD = F.scaled_dot_product_attention(*parts.unbind(0))
        x_BCS = x_BCS + out(context_BKCD.transpose(1, 2).flatten(2))
        encoded: Tensor = x_BCS + down(F.relu(up(self.norms[1](x_BCS)), inplace=True))
        return encoded


class FoldedBlock(nn.Module):
    """A block in evaluation."""

    def __init__(self, block: Block, precision: Precision) -> None:
        super().__init__()
        self.attention = copy.deepcopy(block.attention)
        for name in ("reduce",) if self.attention.reduce is not None else ("query", "key", "value"):
            wide = getattr(self.attention, name)
            setattr(self.attention, name, linear(wide.weight, wide.bias, precision))
        self.convolution = FoldedConvolution(block)
        self.encoder = FoldedEncoder(block.encoder, precision)

    def forward(self, x_BL: Tensor) -> Tensor:
        """Features (B, C * S)."""
        encoded: Tensor = self.encoder(self.convolution(self.attention(x_BL) + x_BL))
        return encoded.flatten(1)


@torch.no_grad()
def for_inference(model: GalProTE, precision: Precision) -> GalProTE:
    """Copy a trained network into the form in which it is run.

    Parameters
    ----------
    model : GalProTE
        On its device; it is left as it is.
    precision : {"float32", "bfloat16", "int8"}
        Of the linear maps of the blocks, of the heads and of the first layer of every stage. Convolutions, the other
        layers of the stages, the reconstruction of spectra and the appraisal are in float32 whatever it is: with these
        in 8 bits, too, one answer in a thousand would move by 0.09 dex.

    Returns
    -------
    GalProTE
        With the same answers, to rounding in float32, and within the bounds of the tests in fewer bits.
    """
    fast = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    fast.blocks = nn.ModuleList(FoldedBlock(block, precision) for block in fast.blocks)  # type: ignore[arg-type]
    weights, biases = zip(*((head.weight, head.bias) for head in fast.every_head()), strict=True)
    fast.heads = linear(torch.cat(weights), torch.cat(biases), precision)
    if fast.refinement is not None:
        for stage in fast.refinement.stages:
            first = stage.first
            assert isinstance(first, nn.Linear)
            stage.first = linear(first.weight, first.bias, precision)
    fast.settle()
    return fast.eval()
