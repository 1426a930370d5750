"""From spectra to their lines: over a smooth continuum, with the weight of every sample.

Shapes: B spectra, L samples (`model.line_templates.LOG_EDGES`), P polynomials.
"""

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galprote.model.grids import EMISSION_BANDS
from galprote.model.kinematics import C_KMS
from galprote.model.line_templates import MARGIN, POLYNOMIALS

#: How fast the gas may move against the stars, km/s: bands are that much wider on either side.
GAS_KMS: Final = 200.0
#: Besides the emission lines of the model's table 2: fainter ones, and sodium, which absorbs between the stars.
FAINT_BANDS: Final = (
    ("[NI]5200", 5195.0, 5203.5),
    ("HeI5876", 5871.0, 5880.0),
    ("NaD", 5886.0, 5900.0),
    ("[OI]6364", 6359.5, 6368.0),
    ("HeI6678", 6674.0, 6682.5),
)

#: Samples that a spectrum must have, and the smallest continuum in units of the median flux.
MIN_SAMPLES: Final = 200
MIN_CONTINUUM: Final = 0.1
#: Fluxes beyond so many times the median are damage, and count as missing; the continuum does without those beyond the
#: second number, lines of gas perhaps.
LARGEST_FLUX: Final = 30.0
LARGEST_LIGHT: Final = 4.0
#: No sample counts more than so many typical ones, nor as if its signal-to-noise ratio were larger: single precision
#: could not add up what the others say.
LARGEST_WEIGHT: Final = 100.0
LARGEST_SNR: Final = 1e4
#: Samples noisier than this, in units of the median noise, do not help with the continuum; nor do peaks so far above
#: it, in robust standard deviations.
NOISY: Final = 3.0
PEAK: Final = 5.0
_ROUNDS: Final = 3

#: From a median of absolute deviations to a standard deviation, for a Gaussian.
MAD_SIGMA: Final = 1.4826


class Lines(NamedTuple):
    """Spectra over their continuum, minus one.

    Attributes
    ----------
    depth : (B, L) float32
        Zero where there are no data.
    weight : (B, L) float32
        Inverse variance; zero where there are no data.
    """

    depth: Tensor
    weight: Tensor


def starlight(centres: NDArray[np.float64], margin_kms: float) -> NDArray[np.bool_]:
    """Tell which samples see nothing but stars.

    Parameters
    ----------
    centres : (n,) float64
        Rest-frame air wavelengths, Angstrom.
    margin_kms : float
        How much wider than listed bands are, on either side. The night sky's bands do not count: the sky is elsewhere
        in each galaxy's frame.

    Returns
    -------
    (n,) bool
    """
    clear = np.ones(centres.shape, dtype=bool)
    for name, first, last in EMISSION_BANDS + FAINT_BANDS:
        if not name.startswith("sky"):
            clear &= (centres < first * (1 - margin_kms / C_KMS)) | (centres > last * (1 + margin_kms / C_KMS))
    return clear


def over_continuum(
    flux_BL: Tensor, variance_BL: Tensor, clear_L: Tensor, polynomials_PN: Tensor
) -> tuple[Lines, Tensor]:
    """Divide spectra by a polynomial continuum.

    Parameters
    ----------
    flux_BL, variance_BL : (B, L) float32
        A sample counts where its flux is finite and its variance finite and positive.
    clear_L : (L,) bool
        Samples without gas at any velocity.
    polynomials_PN : (P, N) float32
        On the padded samples.

    Returns
    -------
    Lines
    enough : (B,) bool
        Spectra with data and light; the others have no weight.
    """
    valid_BL = flux_BL.isfinite() & variance_BL.isfinite() & (variance_BL > 0)
    scale_B = torch.where(valid_BL, flux_BL, torch.nan).nanmedian(dim=1).values
    enough_B = (valid_BL.sum(1) >= MIN_SAMPLES) & (scale_B > 0)
    scale_B1 = torch.where(enough_B, scale_B, 1.0)[:, None]
    valid_BL = valid_BL & enough_B[:, None] & (flux_BL.abs() < LARGEST_FLUX * scale_B1)
    relative_BL = torch.where(valid_BL, flux_BL, 0.0) / scale_B1
    noise_BL = torch.where(valid_BL, variance_BL, 1.0).sqrt() / scale_B1
    typical_B1 = torch.where(valid_BL, noise_BL, torch.nan).nanmedian(dim=1, keepdim=True).values
    used_BL = valid_BL & clear_L & ~(noise_BL > NOISY * typical_B1) & (relative_BL.abs() < LARGEST_LIGHT)
    continuum_BL = _continuum(relative_BL, used_BL, polynomials_PN[:, MARGIN:-MARGIN])
    depth_BL = torch.where(valid_BL, relative_BL / continuum_BL - 1, 0.0)
    weight_BL = torch.where(valid_BL, (continuum_BL / noise_BL).square(), torch.nan)
    most_B1 = LARGEST_WEIGHT * weight_BL.nanmedian(dim=1, keepdim=True).values
    weight_BL = torch.minimum(weight_BL, most_B1).clamp(max=LARGEST_SNR**2)
    return Lines(depth_BL, weight_BL.nan_to_num(0.0)), enough_B


def _continuum(flux_BL: Tensor, used_BL: Tensor, polynomials_PL: Tensor) -> Tensor:
    """Polynomials of least squares; peaks (sky, cosmic rays, gas) are left out in turn."""
    pairs_LQ = (polynomials_PL[:, None] * polynomials_PL).flatten(0, 1).T.contiguous()
    some = 1e-4 * torch.eye(POLYNOMIALS, dtype=torch.float64, device=flux_BL.device)
    for turn in range(_ROUNDS):
        share_BL = used_BL.float()
        gram_BPP = (share_BL @ pairs_LQ).unflatten(1, (POLYNOMIALS, -1)).double() + some
        right_BP = ((share_BL * flux_BL) @ polynomials_PL.T).double()
        factors_BP = torch.cholesky_solve(right_BP[:, :, None], torch.linalg.cholesky_ex(gram_BPP).L)[:, :, 0]
        continuum_BL = factors_BP.float() @ polynomials_PL
        if turn < _ROUNDS - 1:
            above_BL = flux_BL - continuum_BL
            used_BL = used_BL & ~(above_BL > PEAK * robust_scatter(above_BL, used_BL))
    return continuum_BL.clamp(min=MIN_CONTINUUM)


def robust_scatter(residual_BL: Tensor, used_BL: Tensor) -> Tensor:
    """Standard deviation around zero from the median absolute residual, (B, 1); NaN without samples."""
    absolute_BL = torch.where(used_BL, residual_BL.abs(), torch.nan)
    return MAD_SIGMA * absolute_BL.nanmedian(dim=1, keepdim=True).values


def with_neighbours(marked_BL: Tensor) -> Tensor:
    """Marks (B, L) bool, and one more on either side."""
    padded = torch.nn.functional.pad(marked_BL, (1, 1))
    return padded[:, 2:] | padded[:, 1:-1] | padded[:, :-2]
