"""The training loss (paper, section 3.5.1) and the terms that are added to it.

The paper's: mean squared error of the grid, one minus the correlation of the age and metallicity distributions,
squared error of A_V. Added: the cross-entropy of the grid and of the A_V classes; the squared errors of the mean log
age and [M/H], which are what the maps show; the ranked probability score, which knows that bins have an order; and the
squared errors of the kinematics. A refining network is judged after every stage.
"""

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from galprote.model.decoder import Decoder
from galprote.model.grids import AV_STEP
from galprote.model.refinement import KMS_SCALE
from galprote.model.synthesis import SyntheticSpectra
from galprote.model.transformer import GalProTE, Prediction

#: Noise at which errors count once; they count more in better spectra, within these bounds.
NOISE_REFERENCE = 0.03
NOISE_WEIGHTS = (0.4, 4.0)


class LossConfig(BaseModel):
    """Weights of the loss's terms; zero leaves a term out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grid_mse: float = 1.0
    """Squared error of the grid (paper)."""
    correlation: float = 0.1
    """One minus the correlation of the age, and of the metallicity distribution (paper)."""
    av: float = 10.0
    """Squared error of A_V (paper)."""
    cross_entropy: float = 1.0
    """Cross-entropy of the grid."""
    av_cross_entropy: float = 0.2
    """Cross-entropy of the A_V classes."""
    moments: float = 10.0
    """Squared errors of the mean log age and [M/H], which are what the maps show."""
    ranked: float = 0.0
    """Ranked probability score, which knows that bins have an order."""
    kinematics: float = 0.0
    """Squared errors of dispersion and velocity, of refining networks."""
    noise_weight: float = Field(default=0.0, ge=0.0, le=2.0)
    """Power of the signal-to-noise ratio with which squared errors count."""
    early_stages: float = Field(default=0.4, ge=0.0)
    """Weight of every answer but the last of a refining network."""


@dataclass(frozen=True)
class GridAxes:
    """Axes of the grid: `log_ages` (n_age,) and `metallicities` (n_metallicity,) float32."""

    log_ages: Tensor
    metallicities: Tensor

    @classmethod
    def of(cls, decoder: Decoder) -> "GridAxes":
        """Axes of a decoder, on its device."""
        axes = (torch.from_numpy(axis).float() for axis in (decoder.log_ages, decoder.metallicities))
        return cls(*(axis.to(decoder.components.device) for axis in axes))


def marginal_correlation(predicted: Tensor, target: Tensor, axis: int) -> Tensor:
    """Pearson correlation of two (B, n_metallicity, n_age) grids summed over `axis`: (B,)."""
    a, b = predicted.sum(dim=axis), target.sum(dim=axis)
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    return (a * b).sum(dim=1) / (a.square().sum(dim=1) * b.square().sum(dim=1)).clamp(min=1e-12).sqrt()


def ranked_score(predicted: Tensor, target: Tensor, axes: GridAxes) -> Tensor:
    """Continuous ranked probability score of the age and of the metallicity distribution, in dex, (B,)."""
    total = torch.zeros_like(predicted[:, 0, 0])
    for axis, centres in ((1, axes.log_ages), (2, axes.metallicities)):
        difference = (predicted - target).sum(dim=axis).cumsum(dim=1)[:, :-1]
        total = total + difference.square() @ centres.diff()
    return total


def grid_terms(
    model: GalProTE, logits: Tensor, batch: SyntheticSpectra, axes: GridAxes, weight: Tensor
) -> dict[str, Tensor]:
    """Terms that judge a grid, averaged over the batch; `weight` (B,) is that of the squared errors."""
    log_probability = logits.log_softmax(dim=1)
    predicted = log_probability.exp().view_as(batch.grid)
    clipped = model.clip_grid(predicted.flatten(1)).view_as(batch.grid)
    age_error = (clipped - batch.grid).sum(dim=1) @ axes.log_ages
    metallicity_error = (clipped - batch.grid).sum(dim=2) @ axes.metallicities
    correlation = marginal_correlation(predicted, batch.grid, 1) + marginal_correlation(predicted, batch.grid, 2)
    return {
        "grid_mse": (predicted - batch.grid).square().sum(dim=(1, 2)).mean(),
        "correlation": (2.0 - correlation).mean(),
        "cross_entropy": -(batch.grid.flatten(1) * log_probability).sum(dim=1).mean(),
        "moments": (weight * (age_error.square() + metallicity_error.square())).mean(),
        "ranked": ranked_score(predicted, batch.grid, axes).mean(),
    }


def loss_terms(
    model: GalProTE, prediction: Prediction, batch: SyntheticSpectra, axes: GridAxes, config: LossConfig
) -> dict[str, Tensor]:
    """Every term of the loss without its weight.

    Parameters
    ----------
    model : GalProTE
    prediction : Prediction
    batch : SyntheticSpectra
        The truth.
    axes : GridAxes
    config : LossConfig

    Returns
    -------
    dict of str to scalar Tensor
        Named like the fields of `LossConfig`.
    """
    middle = torch.where(batch.noise.isinf(), torch.nan, batch.noise).nanmedian(dim=1).values.clamp(min=1e-4)
    weight = (NOISE_REFERENCE / middle).pow(config.noise_weight).clamp(*NOISE_WEIGHTS)
    av_log_probability = prediction.av_logits.log_softmax(dim=1)
    terms = {"av_cross_entropy": -(av_labels(batch.av, model.av_classes) * av_log_probability).sum(dim=1).mean()}
    if not prediction.answers:
        terms |= grid_terms(model, prediction.grid_logits, batch, axes, weight)
        terms["av"] = (weight * (av_log_probability.exp() @ model.av_classes - batch.av).square()).mean()
        return terms
    for number, answer in enumerate(prediction.answers, 1):
        share = 1.0 if number == len(prediction.answers) else config.early_stages
        parts = grid_terms(model, answer.grid_logits, batch, axes, weight)
        parts["av"] = (weight * (answer.av - batch.av).square()).mean()
        motion = (answer.dispersion - batch.dispersion).square() + (answer.velocity - batch.velocity).square()
        parts["kinematics"] = (weight * motion / KMS_SCALE**2).mean()
        for name, part in parts.items():
            terms[name] = terms.get(name, torch.zeros_like(part)) + share * part
    return terms


def av_labels(av: Tensor, classes: Tensor) -> Tensor:
    """A continuous A_V as a share of the two classes beside it, (B, A)."""
    return (1 - (av[:, None].clamp(max=float(classes[-1])) - classes).abs() / AV_STEP).clamp(min=0.0)


def total_loss(terms: dict[str, Tensor], config: LossConfig) -> Tensor:
    """The weighted sum of the terms."""
    return torch.stack([getattr(config, name) * term for name, term in terms.items()]).sum()
