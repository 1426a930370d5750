"""The training loss (paper, section 3.5.1) and the terms that are added to it.

The paper's: mean squared error of the grid, one minus the correlation of the age and of the metallicity distributions,
squared error of A_V. Added: the cross-entropy of the grid and of the A_V classes, and the squared errors of the mean
log age and [M/H], which are what the maps show.
"""

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from galprote.model.transformer import GalProTE, Prediction


class LossConfig(BaseModel):
    """Weights of the loss's terms; zero leaves a term out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grid_mse: float = 1.0
    correlation: float = 0.1
    av: float = 10.0
    cross_entropy: float = 1.0
    av_cross_entropy: float = 0.2
    moments: float = 10.0


def marginal_correlation(predicted: Tensor, target: Tensor, axis: int) -> Tensor:
    """Pearson correlation of two (B, n_metallicity, n_age) grids summed over `axis`: (B,)."""
    a, b = predicted.sum(dim=axis), target.sum(dim=axis)
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    return (a * b).sum(dim=1) / (a.square().sum(dim=1) * b.square().sum(dim=1)).clamp(min=1e-12).sqrt()


def loss_terms(
    model: GalProTE, prediction: Prediction, grid: Tensor, av: Tensor, log_ages: Tensor, metallicities: Tensor
) -> dict[str, Tensor]:
    """Every term of the loss, averaged over the batch and without its weight.

    Parameters
    ----------
    model : GalProTE
    prediction : Prediction
    grid : (B, n_metallicity, n_age) float32
        True light fractions.
    av : (B,) float32
        True attenuation.
    log_ages : (n_age,) float32
    metallicities : (n_metallicity,) float32

    Returns
    -------
    dict of str to scalar Tensor
        Named like the fields of `LossConfig`.
    """
    log_probability = prediction.grid_logits.log_softmax(dim=1)
    predicted = log_probability.exp().view_as(grid)
    clipped = model.clip_grid(predicted.flatten(1)).view_as(grid)
    av_log_probability = prediction.av_logits.log_softmax(dim=1)
    classes = (av * 10.0).round().long().clamp(0, len(model.av_classes) - 1)
    age_error = (clipped - grid).sum(dim=1) @ log_ages
    metallicity_error = (clipped - grid).sum(dim=2) @ metallicities
    correlation = marginal_correlation(predicted, grid, 1) + marginal_correlation(predicted, grid, 2)
    return {
        "grid_mse": (predicted - grid).square().sum(dim=(1, 2)).mean(),
        "correlation": (2.0 - correlation).mean(),
        "av": (av_log_probability.exp() @ model.av_classes - av).square().mean(),
        "cross_entropy": -(grid.flatten(1) * log_probability).sum(dim=1).mean(),
        "av_cross_entropy": torch.nn.functional.nll_loss(av_log_probability, classes),
        "moments": (age_error.square() + metallicity_error.square()).mean(),
    }


def total_loss(terms: dict[str, Tensor], config: LossConfig) -> Tensor:
    """The weighted sum of the terms."""
    return torch.stack([getattr(config, name) * term for name, term in terms.items()]).sum()
