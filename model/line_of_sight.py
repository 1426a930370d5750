"""Velocity and dispersion of the stars of many spectra at once, against the templates of a checkpoint.

The model of a spectrum over its continuum is that of penalised pixel fitting (Cappellari and Emsellem 2004): a
combination of the templates' lines, moved and broadened, plus a polynomial. But the combination is of principal
components with a Gaussian prior, which can be integrated over; two numbers are left, and many spectra are fitted
together:

1. The continuum is divided out (`model.line_spectra`).
2. A grid of velocities and dispersions is searched (`model.line_search`).
3. Gauss-Newton steps lead from the best node to the best fit (`model.line_fit`).
4. Errors come from the curvature there, scaled with the residuals' own scatter, and with their correlation from sample
   to sample, which rebinning leaves and no variance knows of.

The likelihood is nearly Gaussian in the *squared* dispersion, which noise may make negative. Dispersions are means and
standard deviations of sigma >= 0 with that likelihood and a flat prior.

Shapes: B spectra, L samples, N padded samples.
"""

import logging
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galprote.model.decoder import Decoder
from galprote.model.errors import ConfigError, PlanError
from galprote.model.kinematics import C_KMS
from galprote.model.line_fit import MAX_DISPERSION, SQUARE_UNIT, LineFit, Look, State
from galprote.model.line_search import LineSearch
from galprote.model.line_spectra import GAS_KMS, over_continuum, starlight
from galprote.model.line_templates import LOG_EDGES, MARGIN, PADDED_CENTRES, SAMPLE_KMS, SAMPLES, LineTemplates
from galprote.model.ranges import LARGEST_REACH, SMALLEST_REACH

logger = logging.getLogger(__name__)

CPU_BATCH: Final = 64
GPU_BATCH: Final = 1024


#: Lines must lower chi-square by as much; another velocity must be worse by as much (in -2 ln likelihood).
SIGNIFICANT: Final = 30.0
DISTINCT: Final = 4.0
#: Steps that are left at the end must be smaller than this share of the error.
CONVERGED: Final = 0.3
#: Errors without noise: what the components leave out of the templates moves velocities and dispersions by about
#: 1 km/s, and where dispersions are small, their squares by the second number, (km/s)^2.
FLOOR_KMS: Final = 1.0
FLOOR_SQUARE: Final = 60.0
#: Samples over which residuals may hang together, and the smallest share of the variance that they may leave.
LAGS: Final = 4
_LEAST_SHARE: Final = 0.3
#: Nodes of the integral over the dispersion, and its reach in standard deviations.
_NODES: Final = 257
_REACH: Final = 6.0


class Outcome(IntEnum):
    """What became of a spectrum; kinematics of all but `MEASURED` are NaN."""

    MEASURED = 0
    NO_DATA = 1
    """Too few samples, or no light."""
    NO_LINES = 2
    """The stars' lines do not stand out of the noise."""
    AMBIGUOUS = 3
    """Another velocity, 180 km/s away or more, fits about as well."""
    VELOCITY_EDGE = 4
    """The best fit is at the largest velocity that was asked for."""
    DISPERSION_EDGE = 5
    """The best fit is at the largest dispersion, 400 km/s."""
    NOT_CONVERGED = 6
    """The steps did not come to rest."""


class Kinematics(NamedTuple):
    """Kinematics of n spectra, (n,) float32 each unless said otherwise; NaN where they could not be measured.

    Attributes
    ----------
    velocity, velocity_error : NDArray
        V = c (lambda / lambda_rest - 1), km/s, positive to the red, off the redshift that the samples' edges were moved
        to: 1 + z = (1 + z_galaxy) (1 + V / c). Errors are one standard deviation.
    dispersion, dispersion_error : NDArray
        Of the stars, beyond the instrument's resolution, km/s: mean and standard deviation over sigma >= 0.
    squared_dispersion, squared_dispersion_error : NDArray
        Without that bound, (km/s)^2: may be negative, but has no bias when averaged.
    noise_scale : NDArray
        Scatter of the residuals in units of the stated noise; never NaN but without data.
    gain : NDArray
        By how much lines lower chi-square; never NaN but without data.
    outcome : (n,) int8
        `Outcome`.
    """

    velocity: NDArray[np.float32]
    velocity_error: NDArray[np.float32]
    dispersion: NDArray[np.float32]
    dispersion_error: NDArray[np.float32]
    squared_dispersion: NDArray[np.float32]
    squared_dispersion_error: NDArray[np.float32]
    noise_scale: NDArray[np.float32]
    gain: NDArray[np.float32]
    outcome: NDArray[np.int8]


class KinematicFitter:
    """Measures kinematics of spectra with the templates of a checkpoint.

    Every batch has the same number of rows, as in `model.predictor`: a spectrum's answer does not depend on its
    neighbours.

    Parameters
    ----------
    decoder : Decoder
        The templates, at the spectra's resolution.
    device : {"cpu", "cuda"} or torch.device
    max_velocity_kms : float
        Velocities to either side that are looked for.
    batch : int, optional
        Spectra in a batch; 64 on a CPU, 1024 on a GPU.

    Attributes
    ----------
    edges : (L + 1,) float64
        Rest-frame edges of the samples, air, Angstrom: equal steps of 60 km/s in the logarithm. Spectra are to be
        rebinned in one step, flux-conserving, onto `edges` times 1 + z.

    Raises
    ------
    ConfigError
        If `max_velocity_kms` is out of range.
    """

    def __init__(
        self,
        decoder: Decoder,
        device: str | torch.device = "cpu",
        *,
        max_velocity_kms: float = 500.0,
        batch: int | None = None,
    ) -> None:
        if not SMALLEST_REACH <= max_velocity_kms <= LARGEST_REACH:
            raise ConfigError(
                f"max_velocity_kms = {max_velocity_kms:g}: expected {SMALLEST_REACH:g} to {LARGEST_REACH:g} km/s; for "
                "larger velocities, correct the redshift"
            )
        self.device = torch.device(device)
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = False  # ten bits would not do
        self.batch = batch or (CPU_BATCH if self.device.type == "cpu" else GPU_BATCH)
        self.edges = LOG_EDGES
        self._templates = LineTemplates(decoder, self.device)
        clear = starlight(PADDED_CENTRES[MARGIN:-MARGIN], GAS_KMS + max_velocity_kms)
        self._clear = torch.from_numpy(clear).to(self.device)
        self._search = LineSearch(self._templates, self._clear, int(np.ceil(max_velocity_kms / SAMPLE_KMS)))
        stars = torch.from_numpy(starlight(PADDED_CENTRES, GAS_KMS)).to(self.device)
        self._max_velocity = C_KMS * float(np.log1p(max_velocity_kms / C_KMS))
        self._fit = LineFit(self._templates, self._search, stars, self._max_velocity)

    def __call__(self, flux: NDArray[np.float32], variance: NDArray[np.float32]) -> Kinematics:
        """Measure.

        Parameters
        ----------
        flux, variance : (n, L) float32
            Mean flux density between `edges`, and its variance, in any unit. Samples whose flux is not finite or whose
            variance is not finite and positive do not count.

        Raises
        ------
        ValueError
            If the arrays have another shape.
        PlanError
            If not even one spectrum fits into the device's memory.
        """
        for name, array in (("flux", flux), ("variance", variance)):
            if array.shape != (len(flux), SAMPLES):
                raise ValueError(f"{name}: shape {array.shape}, expected (n, {SAMPLES}), one row for each spectrum")
        n = len(flux)
        numbers = np.empty((len(Kinematics._fields) - 1, n), dtype=np.float32)
        outcome = np.empty(n, dtype=np.int8)
        start = 0
        while start < n:
            rows = slice(start, start + self.batch)
            try:
                found, what = self._batch(self._padded(flux[rows]), self._padded(variance[rows]))
            except torch.OutOfMemoryError as error:
                self._halve(error)
                continue
            numbers[:, rows] = found[:, : n - start].cpu().numpy()
            outcome[rows] = what[: n - start].cpu().numpy()
            start = rows.stop
        return Kinematics._make([*numbers, outcome])

    def _padded(self, rows: NDArray[np.float32]) -> Tensor:
        padded = np.full((self.batch, SAMPLES), np.nan, dtype=np.float32)
        padded[: len(rows)] = rows
        return torch.from_numpy(padded).to(self.device)

    def _halve(self, error: Exception) -> None:
        if self.batch == 1:
            raise PlanError(f"{self.device}: out of memory for a single spectrum: {error}") from error
        torch.cuda.empty_cache()
        self.batch //= 2
        logger.warning("%s: out of memory; kinematics are now in batches of %d spectra", self.device, self.batch)

    @torch.inference_mode()
    def _batch(self, flux_BL: Tensor, variance_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers (fields, B) in the order of `Kinematics`, and outcomes (B,)."""
        lines, enough_B = over_continuum(flux_BL, variance_BL, self._clear, self._templates.polynomials)
        found = self._search(lines)
        lines = lines._replace(weight=lines.weight * ~found.gross)
        state, look = self._fit(lines, found.shift, found.square)
        scatter_B = (look.residual.double().square().sum(1) / look.known.sum(1).clamp(min=1)).sqrt()
        error_B2 = torch.hypot(_errors(look, scatter_B), _floor(state))
        velocity_B = state.velocity + look.step[:, 0]
        square_B = state.square + look.step[:, 1] * state.damping
        outcome_B = self._outcome(state, look, velocity_B, error_B2)
        outcome_B[~(velocity_B + square_B + error_B2.sum(1)).isfinite()] = Outcome.NOT_CONVERGED
        noise_B = state.noise * scatter_B
        outcome_B[found.rival < DISTINCT * noise_B.square()] = Outcome.AMBIGUOUS
        outcome_B[~(look.gain >= SIGNIFICANT)] = Outcome.NO_LINES
        outcome_B[~enough_B] = Outcome.NO_DATA
        by_unit = (SQUARE_UNIT**0.5 * part for part in positive_root(square_B, error_B2[:, 1]))
        measured = [C_KMS * torch.expm1(velocity_B / C_KMS), error_B2[:, 0], *by_unit]
        measured += [square_B * SQUARE_UNIT, error_B2[:, 1] * SQUARE_UNIT]
        always = [noise_B, look.gain]
        values = [torch.where(outcome_B == Outcome.MEASURED, value, torch.nan) for value in measured]
        values += [torch.where(enough_B, value, torch.nan) for value in always]
        return torch.stack(values).float(), outcome_B

    def _outcome(self, state: State, look: Look, velocity_B: Tensor, error_B2: Tensor) -> Tensor:
        """What the fit itself says."""
        left_B2 = look.step.abs() > CONVERGED * error_B2
        held_B = (state.square <= 0) & (look.step[:, 1] < 0)
        outcome_B = torch.zeros_like(velocity_B, dtype=torch.int8)
        outcome_B[left_B2[:, 0] | (left_B2[:, 1] & ~held_B)] = Outcome.NOT_CONVERGED
        outcome_B[state.square >= MAX_DISPERSION**2 / SQUARE_UNIT] = Outcome.DISPERSION_EDGE
        outcome_B[velocity_B.abs() >= self._max_velocity] = Outcome.VELOCITY_EDGE
        return outcome_B


def _floor(state: State) -> Tensor:
    """Errors of velocity and squared dispersion without noise, (B, 2)."""
    square_B = torch.hypot(
        2 * FLOOR_KMS * (state.square * SQUARE_UNIT).sqrt(), torch.full_like(state.square, FLOOR_SQUARE)
    )
    return torch.stack([torch.full_like(square_B, FLOOR_KMS), square_B / SQUARE_UNIT], dim=1)


def _errors(look: Look, scatter_B: Tensor) -> Tensor:
    """Standard deviations of velocity and squared dispersion, (B, 2).

    The estimate is a sum over the residuals with known weights; its variance is what residuals of the measured
    autocorrelation give in that sum (a sandwich estimate: White 1980, Newey and West 1987).
    """
    influence_B2N = (look.slopes - torch.bmm(look.solved.mT.float(), look.basis)) * look.known[:, None]
    z_BN, known_BN = look.residual, look.known.float()
    middle_B22 = look.curvature.clone()
    for lag in range(1, LAGS + 1):
        pairs_B = (known_BN[:, lag:] * known_BN[:, :-lag]).sum(1).clamp(min=1)
        correlation_B = (z_BN[:, lag:] * z_BN[:, :-lag]).sum(1) / pairs_B / scatter_B.square().clamp(min=1e-12)
        product_B22 = torch.bmm(influence_B2N[:, :, lag:], influence_B2N[:, :, :-lag].mT).double()
        middle_B22 += correlation_B[:, None, None] * (product_B22 + product_B22.mT)
    inverse_B22 = torch.linalg.inv_ex(look.curvature).inverse
    variance_B2 = torch.bmm(torch.bmm(inverse_B22, middle_B22), inverse_B22).diagonal(dim1=1, dim2=2)
    white_B2 = inverse_B22.diagonal(dim1=1, dim2=2)
    return torch.maximum(variance_B2, _LEAST_SHARE * white_B2).sqrt() * scatter_B[:, None]


def positive_root(square_B: Tensor, error_B: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of sigma >= 0, flat a priori, where sigma^2 is measured with a Gaussian error.

    Parameters
    ----------
    square_B, error_B : (B,) float64
        The square may be negative.
    """
    low_B1 = (square_B - _REACH * error_B).clamp(min=0.0).sqrt()[:, None]
    high_B1 = (square_B.clamp(min=0.0) + _REACH * error_B).sqrt()[:, None]
    share = torch.linspace(0.0, 1.0, _NODES, dtype=square_B.dtype, device=square_B.device)
    sigma_BS = low_B1 + (high_B1 - low_B1) * share
    log_BS = -0.5 * ((sigma_BS.square() - square_B[:, None]) / error_B[:, None]).square()
    density_BS = (log_BS - log_BS.amax(1, keepdim=True)).exp()
    density_BS[:, [0, -1]] /= 2  # trapezoids
    density_BS /= density_BS.sum(1, keepdim=True)
    mean_B = (density_BS * sigma_BS).sum(1)
    return mean_B, (density_BS * (sigma_BS - mean_B[:, None]).square()).sum(1).sqrt()
