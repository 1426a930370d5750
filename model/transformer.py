"""GalProTE: four parallel attention-convolution-transformer blocks (Anwar et al. 2025, section 3.4).

Tensor names carry their shape: B spectra, L wavelength samples (876), C channels of the convolution, S pooled samples
(L / pool), G cells of the metallicity-age grid, A attenuation classes.
"""

from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from galprote.model.appraisal import Appraisal, AppraisalConfig, Appraised
from galprote.model.attention import SelfAttention
from galprote.model.gaps import seen_median
from galprote.model.grids import AV_STEP, EDGES, KEPT, N_KEPT, visible_samples
from galprote.model.kinematics import MAX_DISPERSION, MAX_VELOCITY, KinematicTemplates
from galprote.model.refinement import KMS_SCALE, Answer, Look, Observation, Refinement, RefinementConfig

#: Light fractions that are taken to be none.
LEAST_LIGHT: Final = 1e-7


class ModelConfig(BaseModel):
    """Sizes of the network.

    The paper gives the kernels, the three heads, the two linear output layers and the sizes of the outputs. Where it is
    silent the choices are: 8 channels; pooling by 4, so that three heads divide the 219 pooled samples; the channels
    are the encoder's tokens; a feed-forward layer twice as wide as a token; softmax over the whole grid; linear maps of
    equation 3 factorised at rank 128, since noise-free spectra span under a hundred dimensions (null: full rank).
    The input is standardised by the mean training spectrum and one scatter, kept with the weights.

    With `refinement` the blocks' answer is only the first: stages correct it against the reconstructed spectrum.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_metallicity: int = 12
    """Metallicities of the grid."""
    n_age: int = 53
    """Ages of the grid."""
    kernels: tuple[int, ...] = Field(default=(11, 21, 31, 61), min_length=1)
    """Widths of the convolutions, samples, odd: one block for each."""
    channels: int = Field(default=8, ge=1)
    """Channels of a convolution, which are the encoder's tokens."""
    pool: int = Field(default=4, ge=1)
    """Samples that are averaged behind the convolution; divides 876."""
    heads: int = Field(default=3, ge=1)
    """Heads of the encoder layer; they divide the pooled samples."""
    feedforward: int = Field(default=438, ge=1)
    """Features of the encoder's feed-forward layer."""
    projection_rank: int | None = Field(default=128, ge=1)
    """Rank of the linear maps of equation 3; null: full rank."""
    clip: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Grid weights under this share of the largest are set to zero (section 3.4.3)."""
    av_readout: Literal["argmax", "mean"] = "mean"
    """A_V of the most probable class (paper), or the mean over the classes, which has the smaller rms error."""
    av_max: float = Field(default=1.5, gt=0.0, le=5.0)
    """Largest A_V; the classes are 0.1 mag apart."""
    refinement: RefinementConfig | None = None
    """Stages behind the blocks; null: the paper's plain network."""
    appraisal: AppraisalConfig | None = None
    """Intervals and trust behind the stages; null: the network's answers are bare numbers."""
    window: tuple[float, float] | None = None
    """Rest-frame wavelengths to use, Angstrom, within 4748 to 7102; what is outside counts as a gap, and cubes need not
    reach there."""
    masks: tuple[tuple[float, float], ...] = ()
    """Bands to leave out besides the paper's, Angstrom, first and last; they count as gaps."""

    @model_validator(mode="after")
    def _divides(self) -> "ModelConfig":
        if N_KEPT % self.pool or (N_KEPT // self.pool) % self.heads:
            raise ValueError(f"pool and heads must divide {N_KEPT} samples, one after the other")
        for first, last in (*self.masks, *((self.window,) if self.window else ())):
            if not EDGES[0] - 1 <= first < last <= EDGES[-1] + 1:
                raise ValueError(
                    f"[{first:g}, {last:g}]: window and masks must be [first, last] in Angstrom, ascending, within "
                    f"{EDGES[0]:.0f} to {EDGES[-1]:.0f}"
                )
        if self.visible.sum() < N_KEPT // 4:
            raise ValueError(
                f"window and masks leave {self.visible.sum()} of {N_KEPT} samples; at least a quarter is needed"
            )
        if any(kernel % 2 == 0 or kernel < 1 for kernel in self.kernels):
            raise ValueError("kernels must be odd and positive, so that the convolution keeps the spectrum's length")
        if self.appraisal is not None and self.refinement is None:
            raise ValueError("appraisal needs refinement: it looks at the residuals of the reconstructed spectrum")
        if self.refinement is not None and self.av_readout == "argmax":
            raise ValueError("av_readout: argmax is for the plain network; stages need a continuous A_V: mean")
        return self

    @property
    def visible(self) -> NDArray[np.bool_]:
        """Samples that are used, (948,)."""
        return visible_samples(self.window, self.masks)

    @property
    def tokens(self) -> int:
        """Pooled samples S."""
        return N_KEPT // self.pool

    @property
    def av_classes(self) -> int:
        """Number of A_V classes A."""
        return round(self.av_max / AV_STEP) + 1


class Prediction(NamedTuple):
    """What the network says.

    Attributes
    ----------
    grid_logits : (B, G), of the blocks
    av_logits : (B, A), of the blocks
    answers : after every stage of the refinement; none in a plain network
    """

    grid_logits: Tensor
    av_logits: Tensor
    answers: tuple[Answer, ...] = ()


class Fit(NamedTuple):
    """The answer.

    Attributes
    ----------
    grid : (B, n_metallicity, n_age) float32
        Light fractions, clipped.
    av : (B,) float32
        mag.
    dispersion, velocity : (B,) float32
        With which the spectrum is reconstructed, km/s; zero in a plain network, which knows neither.
    """

    grid: Tensor
    av: Tensor
    dispersion: Tensor
    velocity: Tensor


class Block(nn.Module):
    """One of the parallel blocks (section 3.4.2, figure 3)."""

    def __init__(self, config: ModelConfig, kernel: int) -> None:
        super().__init__()
        self.pool = config.pool
        self.attention = SelfAttention(config.projection_rank)
        self.convolution = nn.Conv1d(1, config.channels, kernel, padding=kernel // 2)
        self.normalisation = nn.BatchNorm1d(config.channels)
        self.encoder = nn.TransformerEncoderLayer(
            config.tokens, config.heads, config.feedforward, dropout=0.0, batch_first=True, norm_first=True
        )

    def forward(self, x_BL: Tensor) -> Tensor:
        """Features (B, C * S)."""
        x_BL = self.attention(x_BL) + x_BL  # equation 4
        x_BCL = F.relu(self.normalisation(self._convolve(x_BL)))  # equation 5
        x_BCS = x_BCL.unflatten(2, (self.pool, -1)).mean(2)  # equation 6
        encoded: Tensor = self.encoder(x_BCS)  # equation 7
        return encoded.flatten(1)

    def _convolve(self, x_BL: Tensor) -> Tensor:
        """Convolution (B, C, L); of each pooled sample first the first positions, then the second, and so on.

        One kernel for each position under the pool, all in one convolution with the pool's stride: the same sums, in
        less than half the time of a convolution with few channels.
        """
        weight, bias, pool = self.convolution.weight, self.convolution.bias, self.pool
        assert bias is not None
        shifted = torch.stack([F.pad(weight, (p, pool - 1 - p)) for p in range(pool)], dim=1).flatten(0, 1)
        padding = weight.shape[2] // 2
        x_BPS: Tensor = F.conv1d(x_BL[:, None, :], shifted, bias.repeat_interleave(pool), pool, padding)
        x_BCL: Tensor = x_BPS.unflatten(1, (-1, pool)).flatten(2)
        return x_BCL


class GalProTE(nn.Module):
    """The network: a spectrum's 876 samples to a metallicity-age grid and an attenuation.

    Parameters
    ----------
    config : ModelConfig
    templates : KinematicTemplates, optional
        What the refinement reconstructs spectra with; a plain network needs none.
    """

    input_mean: Tensor
    input_scale: Tensor
    av_classes: Tensor
    _kept: Tensor
    _used: Tensor
    heads: nn.Module | None
    """All heads in one map, in the copy that is made for inference."""

    def __init__(self, config: ModelConfig, templates: KinematicTemplates | None = None) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config, kernel) for kernel in config.kernels)
        width = len(config.kernels) * config.channels * config.tokens
        self.grid_head = nn.Linear(width, config.n_metallicity * config.n_age)
        self.av_head = nn.Linear(width, config.av_classes)
        self.heads = None
        self.refinement: Refinement | None = None
        if config.refinement is not None:
            if templates is None:
                raise ValueError("a network with refinement needs templates")
            self.kinematic_head = nn.Linear(width, 2)
            self.refinement = Refinement(config.refinement, templates)
        self.appraisal: Appraisal | None = None
        if config.appraisal is not None and self.refinement is not None:
            cells = config.n_metallicity * config.n_age
            self.appraisal = Appraisal(config.appraisal, self.refinement.config.features(cells))
        self.register_buffer("_kept", torch.from_numpy(np.flatnonzero(KEPT)), persistent=False)
        self.register_buffer("_used", torch.from_numpy(config.visible[KEPT]), persistent=False)
        self.register_buffer("input_mean", torch.zeros(N_KEPT))
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("av_classes", torch.arange(config.av_classes) * AV_STEP, persistent=False)

    def forward(
        self,
        spectra_BL: Tensor,
        noise_BL: Tensor | None = None,
        calibration_B: Tensor | None = None,
        *,
        refine: bool = True,
    ) -> Prediction:
        """Logits of the grid's cells and of the attenuation classes, and what the refinement makes of them.

        Parameters
        ----------
        spectra_BL : (B, 876) float32
            Rest-frame spectra without the emission bands, divided by their median.
        noise_BL : (B, 876) float32, optional
            Standard deviation in the same unit, infinite where a sample was filled. A refining network needs it.
        calibration_B : (B,) float32, optional
            Expected scatter of the flux calibration's smooth error; zero by default.
        refine : bool
            False: only the blocks' answer, which is all there is while they are trained.
        """
        x_BL = (spectra_BL - self.input_mean) / self.input_scale
        features = torch.cat([block(x_BL) for block in self.blocks], dim=1)
        grid_logits, av_logits, *kinematics = self._read_out(features)
        if self.refinement is None:
            return Prediction(grid_logits, av_logits)
        if noise_BL is None:
            raise ValueError("a network with refinement needs the noise")
        if calibration_B is None:
            calibration_B = torch.zeros_like(spectra_BL[:, 0])
        dispersion_B, velocity_B = (KMS_SCALE * kinematics[0]).unbind(1)
        start = Answer(
            grid_logits,
            self._mean_av(av_logits),
            dispersion_B,
            velocity_B,
            torch.zeros(len(spectra_BL), self.refinement.config.memory, device=spectra_BL.device),
        )
        if not refine:
            return Prediction(grid_logits, av_logits, (start,))
        nothing_B = torch.zeros_like(calibration_B)
        observation = Observation(spectra_BL, noise_BL, calibration_B, nothing_B, nothing_B)
        answers = self.refinement(observation, start)
        return Prediction(grid_logits, av_logits, (start, *answers))

    def every_head(self) -> list[nn.Linear]:
        """Of the grid, of A_V and, before a refinement, of the kinematics."""
        return [self.grid_head, self.av_head, *([self.kinematic_head] if self.refinement is not None else [])]

    def _read_out(self, features: Tensor) -> tuple[Tensor, ...]:
        """What every head says, float32."""
        if self.heads is None:
            return tuple(head(features).float() for head in self.every_head())
        joined: Tensor = self.heads(features)
        parts = torch.split(joined, [head.out_features for head in self.every_head()], dim=1)
        return tuple(part.contiguous() for part in parts)  # products round otherwise for rows that are not aligned

    def settle(self) -> None:
        """Work out, once the weights are final and on their device, what does not depend on the spectra."""
        if self.refinement is not None:
            self.refinement.settle()
        if self.appraisal is not None:
            self.appraisal.search.settle()

    def norm(self, spectra_BW: Tensor) -> Tensor:
        """Median of what the network would see of spectra (B, 948): (B,)."""
        return seen_median(spectra_BW.index_select(1, self._kept), self._used)

    def reconsider(self, seen: Observation, prediction: Prediction, fit: Fit) -> tuple[Answer, Look]:
        """The fit as it is given away, in the form of an answer, with what it leaves of the spectrum."""
        assert self.refinement is not None
        logits_BG = fit.grid.flatten(1).clamp(min=LEAST_LIGHT).log()
        answer = Answer(logits_BG, fit.av, fit.dispersion, fit.velocity, prediction.answers[-1].memory)
        return answer, self.refinement.look(seen, answer)

    def appraise(self, seen: Observation, answer: Answer, look: Look) -> Appraised | None:
        """What the fit is worth; None from a network without appraisal."""
        if self.appraisal is None or self.refinement is None:
            return None
        appraised: Appraised = self.appraisal(self.refinement, seen, answer, look)
        return appraised

    def freeze_blocks(self) -> None:
        """Keep all weights but the refinement's, and the statistics of the normalisation."""
        for name, module in self.named_children():
            if name != "refinement":
                module.requires_grad_(requires_grad=False).eval()

    def score_excess(self) -> Tensor:
        """How far the last training batch went beyond the attention's series, all blocks together."""
        attentions = [module for module in self.modules() if isinstance(module, SelfAttention)]
        return torch.stack([attention.excess for attention in attentions]).sum()

    def clip_grid(self, grid_BG: Tensor) -> Tensor:
        """Section 3.4.3: drop weights under 5 % of the largest and normalise the rest to a sum of one."""
        kept = torch.where(grid_BG >= self.config.clip * grid_BG.amax(dim=1, keepdim=True), grid_BG, 0.0)
        return kept / kept.sum(dim=1, keepdim=True)

    def populations(self, prediction: Prediction) -> Fit:
        """The answer: clipped grids of light fractions, A_V and kinematics."""
        shape = (self.config.n_metallicity, self.config.n_age)
        if prediction.answers:
            last = prediction.answers[-1]
            grid_BG = self.clip_grid(last.grid_logits.softmax(dim=1))
            av_B = last.av.clamp(0.0, float(self.av_classes[-1]))
            dispersion_B = last.dispersion.clamp(0.0, MAX_DISPERSION)
            velocity_B = last.velocity.clamp(-MAX_VELOCITY, MAX_VELOCITY)
            return Fit(grid_BG.unflatten(1, shape), av_B, dispersion_B, velocity_B)
        grid_BG = self.clip_grid(prediction.grid_logits.softmax(dim=1))
        if self.config.av_readout == "argmax":
            av_B = self.av_classes[prediction.av_logits.argmax(dim=1)]
        else:
            av_B = self._mean_av(prediction.av_logits)
        zero_B = torch.zeros_like(av_B)
        return Fit(grid_BG.unflatten(1, shape), av_B, zero_B, zero_B)

    def _mean_av(self, av_logits: Tensor) -> Tensor:
        return av_logits.softmax(dim=1) @ self.av_classes
