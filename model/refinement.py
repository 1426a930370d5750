"""Predict, reconstruct, look at the residual, correct: the stages behind the four blocks.

Each stage turns the current answer into a spectrum, scales it to the observed one, and looks at what is left: projected
on the principal components of reddened, broadened templates, once as amplitudes that the noise leaves likely and once
in units of the noise, with outliers and filled samples held back. From that, the answer itself and the circumstances it
corrects the answer.

Shapes: B spectra, L = 876 samples, W windows, K principal components, G cells of the grid, H features.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from galprote.model.grids import KEPT, N_KEPT
from galprote.model.kinematics import KinematicTemplates

#: Windows in which the weight of the samples is summed up: 876 = 12 x 73.
WINDOWS: Final = 12

#: Scales that bring the answer's numbers near one: log probabilities, km/s.
LOGIT_SCALE: Final = 4.0
KMS_SCALE: Final = 100.0

#: Standardised residuals of this size count a quarter, larger ones less.
OUTLIER: Final = 4.0

#: A perfect spectrum is taken to have this much noise, relative to its median.
NOISE_FLOOR: Final = 1e-3


class RefinementConfig(BaseModel):
    """Sizes of the refining stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stages: int = Field(default=3, ge=1)
    """How many times the answer is corrected."""
    shared: bool = False
    """One set of weights for all the stages."""
    components: int = Field(default=128, ge=8, le=N_KEPT)
    """Principal components of the templates on which residuals are projected."""
    hidden: int = Field(default=640, ge=8)
    """Features of a stage's hidden layers."""
    memory: int = Field(default=192, ge=0)
    """Features that a stage hands to the next one."""

    def features(self, cells: int) -> int:
        """How many numbers a stage looks at, for a grid of so many cells."""
        return 2 * self.components + cells + 2 * WINDOWS + 8 + self.memory


@dataclass(frozen=True)
class Observation:
    """A batch as the network gets it.

    Attributes
    ----------
    flux : (B, L) float32
        Divided by the median.
    noise : (B, L) float32
        Standard deviation; infinite where a sample was filled.
    calibration : (B,) float32
        Expected scatter of the flux calibration.
    redshift : (B,) float32
        Of the galaxy; only the appraisal asks for it.
    template_error : (B,) float32
        Expected difference of the stars from the templates; only the appraisal asks for it.
    """

    flux: Tensor
    noise: Tensor
    calibration: Tensor
    redshift: Tensor
    template_error: Tensor

    # What every look at the residuals needs of the noise: worked out once, not once a stage.

    @cached_property
    def root(self) -> Tensor:
        """One over the stated standard deviation, (B, L); zero where a sample was filled."""
        return self.noise.clamp(min=NOISE_FLOOR).reciprocal()

    @cached_property
    def precision(self) -> Tensor:
        """One over the stated variance, (B, L)."""
        return self.root.square()

    @cached_property
    def known(self) -> Tensor:
        """Number of samples that were not filled, (B,), at least one."""
        return (self.root > 0).sum(1).clamp(min=1)

    @cached_property
    def typical(self) -> Tensor:
        """Stated noise of a sample, (B,)."""
        return self.known / self.root.sum(1)

    @cached_property
    def usual(self) -> Tensor:
        """Weight of the samples, (B, L): one, but less for those noisier than usual."""
        return (self.root * self.typical[:, None]).square_().clamp_(max=1.0)


@dataclass(frozen=True)
class Answer:
    """What is known so far.

    Attributes
    ----------
    grid_logits : (B, G) float32
    av : (B,) float32
        mag.
    dispersion, velocity : (B,) float32
        km/s.
    memory : (B, M) float32
    """

    grid_logits: Tensor
    av: Tensor
    dispersion: Tensor
    velocity: Tensor
    memory: Tensor


@dataclass(frozen=True)
class Look:
    """An answer's spectrum beside the observed one.

    Attributes
    ----------
    common : (B, R) float32
        What the model is made of: common spectra of the templates.
    residual : (B, L) float32
        Observed minus scaled model.
    scale : (B,) float32
        Of the model, near one.
    stated : (B, L) float32
        Residuals in units of the stated noise; zero where a sample was filled.
    excess : (B,) float32
        Robust scatter of the residuals in units of the stated noise.
    weight : (B, L) float32
        Up to one; less for noisy samples and outliers.
    typical : (B,) float32
        Noise of a sample, as the residuals have it.
    """

    common: Tensor
    residual: Tensor
    scale: Tensor
    stated: Tensor
    excess: Tensor
    weight: Tensor
    typical: Tensor

    @property
    def standardised(self) -> Tensor:
        """Residuals in units of the noise as they have it, (B, L)."""
        return self.stated / self.excess[:, None]


class Stage(nn.Module):
    """One correction: two gated layers and a linear one."""

    def __init__(self, config: RefinementConfig, cells: int) -> None:
        super().__init__()
        inputs = config.features(cells)
        self.memory = config.memory
        self.first = nn.Linear(inputs, 2 * config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in range(2))
        self.second = nn.Linear(config.hidden, 2 * config.hidden)
        self.last = nn.Linear(config.hidden, cells + 3 + config.memory)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features_BF: Tensor, answer: Answer) -> Answer:
        """Correct an answer."""
        h_BH = self.norms[0](gated(self.first(features_BF)))
        h_BH = h_BH + self.norms[1](gated(self.second(h_BH)))
        change = self.last(h_BH).float()
        cells = answer.grid_logits.shape[1]
        return replace(
            answer,
            grid_logits=torch.add(answer.grid_logits, change[:, :cells], alpha=LOGIT_SCALE),
            av=answer.av + change[:, cells],
            dispersion=answer.dispersion + KMS_SCALE * change[:, cells + 1],
            velocity=answer.velocity + KMS_SCALE * change[:, cells + 2],
            memory=change[:, cells + 3 :],
        )


def gated(x_B2H: Tensor) -> Tensor:
    """One half times the other's activation (Shazeer 2020, SwiGLU): what a residual means depends on the answer."""
    value_BH, gate_BH = x_B2H.chunk(2, dim=1)
    return value_BH * F.silu(gate_BH)


def times(value: Tensor, factor: Tensor) -> Tensor:
    """A product; in the memory of the first factor, which is lost, where nobody asks for gradients."""
    return value * factor if torch.is_grad_enabled() else value.mul_(factor)


def arcsinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine to single precision; `torch.asinh` takes thirty times as long on a CPU."""
    size = x.abs().clamp(max=1e18)  # its square is to be a number
    return torch.log1p(size + size.square() / (1 + (1 + size.square()).sqrt())).copysign(x)


class Refinement(nn.Module):
    """The stages, with the templates and the components they look through.

    Parameters
    ----------
    config : RefinementConfig
    templates : KinematicTemplates
    """

    components: Tensor
    scatter: Tensor
    kept: Tensor
    _seen: tuple[Tensor, Tensor] | None = None

    def __init__(self, config: RefinementConfig, templates: KinematicTemplates) -> None:
        super().__init__()
        self.config = config
        self.templates = templates
        cells = templates.coefficients.shape[0]
        self.stages = nn.ModuleList(Stage(config, cells) for _ in range(1 if config.shared else config.stages))
        self.register_buffer("components", torch.zeros(N_KEPT, config.components))
        self.register_buffer("scatter", torch.ones(config.components))
        self.register_buffer("kept", torch.from_numpy(KEPT), persistent=False)

    def set_components(self, clean_NW: Tensor) -> None:
        """Take the principal components of noise-free spectra (N, 948), their median one."""
        spectra = clean_NW[:, self.kept]
        spectra = spectra - spectra.mean(dim=0)
        values, vectors = torch.linalg.eigh((spectra.T @ spectra / len(spectra)).double().cpu())
        number = self.config.components
        self.components.copy_(vectors[:, -number:].flip(1))
        self.scatter.copy_(values[-number:].flip(0).clamp(min=1e-12).sqrt())

    def forward(self, seen: Observation, answer: Answer) -> tuple[Answer, ...]:
        """Answers after every stage."""
        answers = []
        for k in range(self.config.stages):
            # A residual is a small difference: the mixed precision of training is for the stages' own layers only.
            with torch.autocast(seen.flux.device.type, enabled=False):
                features_BF = self.features(seen, answer)
            answer = self.stages[0 if self.config.shared else k](features_BF, answer)
            answers.append(answer)
        return tuple(answers)

    def look(self, seen: Observation, answer: Answer) -> Look:
        """Turn an answer into a spectrum and subtract it."""
        probability_BG = answer.grid_logits.softmax(dim=1)
        common_BR = self.templates.combine(probability_BG, answer.dispersion, answer.velocity)
        spectra_RL, curve_L = self._seen or self._seen_of_templates()
        model_BL = times(common_BR @ spectra_RL, torch.exp(answer.av[:, None] * curve_L))
        weighted_BL = seen.precision * model_BL
        square_B = (weighted_BL * model_BL).sum(1)
        scale_B = (times(weighted_BL, seen.flux).sum(1) / square_B).clamp(0.2, 5.0)
        residual_BL = torch.addcmul(seen.flux, scale_B[:, None], model_BL, value=-1)
        with torch.no_grad():
            z_BL = residual_BL * seen.root
            # Robust without sorting: for Gaussian noise the mean root of |z| is 0.822.
            excess_B = (z_BL.abs().sqrt_().sum(1) / seen.known / 0.822).square()
            excess_B = excess_B.clamp(0.05, 100.0)
            # Outliers count less: as if the model were right there.
            odd_BL = (z_BL / (OUTLIER * excess_B[:, None])).square_().add_(1).square_()
            weight_BL = torch.div(seen.usual, odd_BL, out=odd_BL)
        return Look(common_BR, residual_BL, scale_B, z_BL, excess_B, weight_BL, seen.typical * excess_B)

    def mixture(self, answer: Answer, look: Look) -> tuple[Tensor, Tensor]:
        """Templates as an answer mixes, moves and reddens them.

        Returns
        -------
        mixture : (B, 948) float32
            In the templates' unit.
        amplitude : (B,) float32
            What it is to be multiplied by to fit the observed spectrum.
        """
        mixture_BW = self.templates.redden(look.common @ self.templates.spectra, answer.av)
        return mixture_BW, look.scale * torch.exp(-answer.av * self.templates.attenuation.mean())

    def settle(self) -> None:
        """Work out, once the weights are final, what every look asks of the templates."""
        self._seen = self._seen_of_templates()

    def _seen_of_templates(self) -> tuple[Tensor, Tensor]:
        """Common spectra (R, L), and what dust of one magnitude does to the logarithm of their shape (L,).

        That it dims, the scale would only undo.
        """
        curve_W = self.templates.attenuation
        return self.templates.spectra[:, self.kept].contiguous(), curve_W[self.kept] - curve_W.mean()

    def features(self, seen: Observation, answer: Answer) -> Tensor:
        """What a stage looks at, (B, F)."""
        return self.describe(seen, answer, self.look(seen, answer))

    def describe(self, seen: Observation, answer: Answer, look: Look) -> Tensor:
        """The numbers that tell an answer's residual, its circumstances and the answer itself, (B, F)."""
        weight_BL, typical_B = look.weight, look.typical
        projected_BK = (look.residual * weight_BL) @ self.components
        # The components' amplitudes that noise of this size leaves likely, in units of their scatter (Wiener's filter).
        likely_BK = projected_BK * self.scatter / (self.scatter.square() + typical_B[:, None].square())
        noisy_BK = projected_BK / typical_B[:, None]
        windows_BW = weight_BL.unflatten(1, (WINDOWS, -1)).mean(2)
        rough_BW = (look.stated * weight_BL).unflatten(1, (WINDOWS, -1)).mean(2) / look.excess[:, None]
        numbers = torch.stack(
            [
                answer.av,
                answer.dispersion / KMS_SCALE,
                answer.velocity / KMS_SCALE,
                typical_B.log() / 2 + 2,
                look.excess.log(),
                seen.calibration * 50,
                seen.calibration.sign(),
                look.scale.log() * 10,
            ],
            dim=1,
        )
        logits_BG = answer.grid_logits.log_softmax(dim=1).clamp(min=-15.0) / LOGIT_SCALE + 2.0
        return torch.cat(
            [
                arcsinh(3 * likely_BK),
                arcsinh(noisy_BK),
                logits_BG,
                windows_BW,
                arcsinh(10 * rough_BW),
                numbers,
                answer.memory,
            ],
            dim=1,
        )
