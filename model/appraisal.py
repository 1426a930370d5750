"""What a fit is worth: how far each number may be off, and whether the spectrum is one that the network knows.

Behind the last stage. It looks at what the stages look at, once more, and at what they do not need: how the residuals
hang together from sample to sample, and at which velocity the spectrum's lines fit best. One small network turns that
into intervals around every number (learned as quantiles of the errors on spectra of known populations) and into the
odds that the spectrum is something else than the light of a galaxy's stars at the given redshift.

Shapes: B spectra, L = 876 samples, N samples of the velocity search, T its templates, Q quantities, K kinds, F
features.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from galprote.model.grids import BAND_TOLERANCE, EMISSION_BANDS, KEPT, N_KEPT, N_WAVELENGTH, WAVELENGTH
from galprote.model.kinematics import C_KMS
from galprote.model.populations import APPRAISED
from galprote.model.refinement import WINDOWS, Answer, Look, Observation, Refinement, arcsinh, gated

#: Shares of the errors inside the intervals: one and two standard deviations of a Gaussian.
SHARES: Final = (0.6827, 0.9545)

#: What a spectrum can be; the first is what the network was made for.
KINDS: Final = (
    "ordinary", "star", "agn", "redshift", "blend", "dusty", "dead", "step", "sky", "noise",
)  # fmt: skip

#: Parts of the spectrum in which the model's own error is told: twelve windows, then the emission bands.
PARTS: Final = WINDOWS + len(EMISSION_BANDS)

#: Widths over which residuals are averaged, samples.
WIDTHS: Final = (3, 7, 15, 31, 63, 127)
LAGS: Final = (1, 2, 3, 5)

#: The velocity search: samples in log wavelength, templates, width of the continuum, and how far it goes, km/s.
SEARCH: Final = 1024
SEARCH_TEMPLATES: Final = 6
SEARCH_CONTINUUM: Final = 61
SEARCH_KMS: Final = 7500.0
#: Velocities within which a peak counts as the galaxy's or as a star's, km/s.
NEAR_KMS: Final = 300.0

#: Signal-to-noise ratios at which the scores of ordinary spectra and the intervals' corrections are tabulated, and the
#: number of the scores' quantiles.
TABLE_SNR: Final = (3.5, 7.0, 14.0, 28.0, 56.0, 112.0)
QUANTILES: Final = 401

#: Standardised inputs beyond this say no more.
LARGEST_INPUT: Final = 8.0

N_DIAGNOSTICS: Final = 2 + 3 * len(WIDTHS) + len(LAGS) + 1 + 4 + WINDOWS + 1 + 5 + 2


class AppraisalConfig(BaseModel):
    """Sizes of the appraising network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = Field(default=256, ge=8)
    """Features of its hidden layers."""


class Appraised(NamedTuple):
    """What the appraisal says.

    Attributes
    ----------
    log_widths : (B, Q, 2) float32
        Natural logarithm of the half-widths that hold `SHARES` of the errors.
    log_model_error : (B, PARTS) float32
        Natural logarithm of the model spectrum's rms error in parts of the spectrum, relative to the median flux.
    kind_logits : (B, K) float32
    trust : (B,) float32
        Share of ordinary spectra of this signal-to-noise ratio that look as odd as this one, or odder.
    noise_scale : (B,) float32
        Scatter of the residuals in units of the stated noise.
    shift : (B,) float32
        Velocity at which the spectrum's lines fit best, km/s, off the given redshift.
    """

    log_widths: Tensor
    log_model_error: Tensor
    kind_logits: Tensor
    trust: Tensor
    noise_scale: Tensor
    shift: Tensor


class VelocitySearch(nn.Module):
    """How much of a spectrum's lines templates explain, velocity by velocity, from -7500 to 7500 km/s.

    A free combination of a few templates at each velocity, as redshift surveys do it (Bolton et al. 2012, AJ 144, 144),
    but of spectra divided by their continuum.
    """

    basis: Tensor
    below: Tensor
    share: Tensor
    taper: Tensor
    _moved: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        kept = np.log(WAVELENGTH[KEPT])
        grid = np.linspace(kept[0], kept[-1], SEARCH)
        #: km/s in a sample, and how many there are to either side.
        self.step = float(C_KMS * (grid[1] - grid[0]))
        self.reach = int(SEARCH_KMS / self.step)
        place = np.interp(grid, kept, np.arange(N_KEPT))
        below = np.minimum(place.astype(np.int64), N_KEPT - 2)
        edge = np.minimum(np.arange(SEARCH), np.arange(SEARCH)[::-1]) / 40.0
        taper = np.sin(np.clip(edge, 0.0, 1.0) * np.pi / 2) ** 2
        for name, values in (("share", place - below), ("taper", taper)):
            self.register_buffer(name, torch.from_numpy(values).float(), persistent=False)
        self.register_buffer("below", torch.from_numpy(below), persistent=False)
        self.register_buffer("basis", torch.zeros(SEARCH_TEMPLATES, SEARCH))

    def lines(self, flux_BL: Tensor) -> Tensor:
        """Spectra over their continuum minus one, (B, N), tapered at the ends."""
        flux_BN = flux_BL.index_select(1, self.below).lerp(flux_BL.index_select(1, self.below + 1), self.share)
        half = SEARCH_CONTINUUM // 2
        padded = F.pad(flux_BN[:, None], (half, half), mode="replicate")[:, 0]
        continuum_BN = (between_ends(cumulative(padded), SEARCH_CONTINUUM) / SEARCH_CONTINUUM).clamp(min=0.05)
        lines_BN: Tensor = (flux_BN / continuum_BN - 1).clamp(-2.0, 2.0) * self.taper
        return lines_BN

    def set_basis(self, templates_GL: Tensor) -> None:
        """Take the first principal directions of templates (G, 876)."""
        lines_GN = self.lines(templates_GL).double()
        self.basis.copy_(torch.linalg.svd(lines_GN, full_matrices=False).Vh[:SEARCH_TEMPLATES])

    def moved(self) -> Tensor:
        """Templates at every velocity, (T * V, N): with so few velocities cheaper than Fourier transforms."""
        return F.pad(self.basis, (self.reach, self.reach)).unfold(1, SEARCH, 1).flip(1).flatten(0, 1)

    def settle(self) -> None:
        """Move the templates once and for all."""
        self._moved = self.moved()

    def forward(self, flux_BL: Tensor, redshift_B: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers for the appraisal (B, 5), and the velocity of the best fit (B,) in km/s."""
        lines_BN = self.lines(flux_BL)
        moved = self.moved() if self._moved is None else self._moved
        power_BV = (lines_BN @ moved.T).square().unflatten(1, (SEARCH_TEMPLATES, -1)).sum(1)
        power_BV = power_BV / lines_BN.square().sum(1, keepdim=True).clamp(min=1e-12)
        velocity_V = self.step * torch.arange(-self.reach, self.reach + 1, device=flux_BL.device)
        at_rest_V = velocity_V.abs() < NEAR_KMS
        star_BV = (velocity_V + C_KMS * redshift_B[:, None]).abs() < NEAR_KMS
        here_B = power_BV[:, at_rest_V].amax(1)
        star_B = torch.where(star_BV, power_BV, 0.0).amax(1)
        away_B = torch.where(at_rest_V, 0.0, power_BV).amax(1)
        best_B = velocity_V[power_BV.argmax(1)]
        numbers = [torch.log(value + 1e-3) / 2 for value in (here_B, away_B, star_B)]
        numbers += [best_B / 2000, (C_KMS * redshift_B).clamp(max=SEARCH_KMS) / 2000]
        return torch.stack(numbers, dim=1), best_B


class Appraisal(nn.Module):
    """The appraising network.

    Parameters
    ----------
    config : AppraisalConfig
    features : int
        Numbers that a stage of the network looks at.
    """

    input_mean: Tensor
    input_scale: Tensor
    scores: Tensor
    stretch: Tensor

    def __init__(self, config: AppraisalConfig, features: int) -> None:
        super().__init__()
        self.search = VelocitySearch()
        inputs = features + N_DIAGNOSTICS
        self.first = nn.Linear(inputs, 2 * config.hidden)
        self.second = nn.Linear(config.hidden, 2 * config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in range(2))
        self.widths = nn.Linear(config.hidden, 2 * len(APPRAISED))
        self.parts = nn.Linear(config.hidden, PARTS)
        self.kinds = nn.Linear(config.hidden, len(KINDS))
        self.register_buffer("input_mean", torch.zeros(inputs))
        self.register_buffer("input_scale", torch.ones(inputs))
        self.register_buffer("scores", torch.zeros(len(TABLE_SNR), QUANTILES))
        self.register_buffer("stretch", torch.zeros(len(TABLE_SNR), len(APPRAISED), 2))

    def inputs(self, refinement: Refinement, seen: Observation, answer: Answer, look: Look) -> tuple[Tensor, Tensor]:
        """All that the network looks at, (B, F), and the velocity at which the lines fit best (B,)."""
        found_BS, shift_B = self.search(seen.flux, seen.redshift)
        expected_B2 = torch.stack([200 * seen.template_error, seen.template_error.sign()], dim=1)
        parts = [refinement.describe(seen, answer, look), residual_numbers(seen, look), found_BS, expected_B2]
        return torch.cat(parts, dim=1), shift_B

    def judge(self, inputs_BF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log widths (B, Q, 2), log model errors (B, PARTS) and the kinds' logits (B, K)."""
        x_BF = ((inputs_BF - self.input_mean) / self.input_scale).clamp(-LARGEST_INPUT, LARGEST_INPUT)
        h_BH = self.norms[0](gated(self.first(x_BF)))
        h_BH = h_BH + self.norms[1](gated(self.second(h_BH)))
        return (self.widths(h_BH).unflatten(1, (-1, 2)), self.parts(h_BH), self.kinds(h_BH))

    def forward(self, refinement: Refinement, seen: Observation, answer: Answer, look: Look) -> Appraised:
        """Appraise answers."""
        inputs_BF, shift_B = self.inputs(refinement, seen, answer, look)
        widths, parts, kinds = self.judge(inputs_BF)
        widths = widths + between(self.stretch, look.typical)
        return Appraised(widths, parts, kinds, self.trust(oddness(kinds), look.typical), look.excess, shift_B)

    def trust(self, score_B: Tensor, typical_B: Tensor) -> Tensor:
        """Share of ordinary spectra with at least this score, between tables for two signal-to-noise ratios."""
        scores_BQ = between(self.scores, typical_B)
        rank_B = torch.searchsorted(scores_BQ.contiguous(), score_B[:, None].contiguous())[:, 0]
        return 1 - rank_B.float() / QUANTILES


def between(table: Tensor, typical_B: Tensor) -> Tensor:
    """Values of a table (len(TABLE_SNR), ...) at signal-to-noise ratios 1 / typical, linear in their logarithm."""
    first, second = math.log(TABLE_SNR[0]), math.log(TABLE_SNR[1])
    place_B = (-typical_B.clamp(min=1e-6).log() - first) / (second - first)
    # A spectrum that overflows must not stop the others.
    place_B = place_B.nan_to_num().clamp(0, len(TABLE_SNR) - 1.001)
    low_B = place_B.long()
    share_B = (place_B - low_B).view(-1, *[1] * (table.ndim - 1))
    return table[low_B] * (1 - share_B) + table[low_B + 1] * share_B


def sigmas(widths: NDArray[np.floating]) -> NDArray[np.float32]:
    """One error for both intervals (..., 2): between the narrower one and half of the wider one, (...) float32."""
    return np.asarray(np.sqrt(widths[..., 0] * widths[..., 1] / 2), dtype=np.float32)


def oddness(kind_logits: Tensor) -> Tensor:
    """Log odds that a spectrum is not ordinary, (B,)."""
    return kind_logits[:, 1:].logsumexp(dim=1) - kind_logits[:, 0]


def residual_numbers(seen: Observation, look: Look) -> Tensor:
    """How residuals hang together, one row a spectrum."""
    z_BL = look.standardised.clamp(-50.0, 50.0)
    known_BL = (seen.root > 0).float()
    count_B = known_BL.sum(1).clamp(min=1.0)
    numbers = [look.excess.log(), (z_BL.square().sum(1) / count_B + 1e-6).log()]
    total_BL, number_BL = cumulative(z_BL), cumulative(known_BL)
    for width in WIDTHS:
        mean_BL = between_ends(total_BL, width) / between_ends(number_BL, width).clamp(min=1.0).sqrt()
        numbers += [(mean_BL.square().mean(1) + 1e-6).log(), arcsinh(mean_BL.amax(1)), arcsinh(mean_BL.amin(1))]
    for lag in LAGS:
        both_B = (known_BL[:, lag:] * known_BL[:, :-lag]).sum(1).clamp(min=1.0)
        numbers.append((z_BL[:, lag:] * z_BL[:, :-lag]).clamp(-25.0, 25.0).sum(1) / both_B)
    numbers.append(1 - count_B / N_KEPT)
    relative_BL = look.residual * known_BL
    total_BL = cumulative(relative_BL)
    for width in (7, 31):
        part_BL = between_ends(total_BL, width) / width
        numbers += [arcsinh(10 * part_BL.amax(1)), arcsinh(10 * part_BL.amin(1))]
    sums_BL = (z_BL * look.weight).cumsum(1)
    numbers.append(((sums_BL.amax(1) - sums_BL.amin(1)) / count_B.sqrt()).log1p())
    windows_BW = arcsinh(30 * (relative_BL * look.weight).unflatten(1, (WINDOWS, -1)).mean(2))
    return torch.cat([torch.stack(numbers, dim=1), windows_BW], dim=1)


def cumulative(values_BL: Tensor) -> Tensor:
    """Sums over all samples before each, (B, L + 1) float32: of numbers near one, good to 1e-5."""
    return F.pad(values_BL.cumsum(1), (1, 0))


def between_ends(total_BL: Tensor, width: int) -> Tensor:
    """Sums over every `width` neighbouring samples of what was summed up (B, L + 1): (B, L + 1 - width)."""
    return total_BL[:, width:] - total_BL[:, :-width]


def part_masks() -> Tensor:
    """Which of the 948 samples belong to each part of the spectrum, (PARTS, 948) bool."""
    window = np.arange(N_WAVELENGTH) * WINDOWS // N_WAVELENGTH
    masks = [(window == k) & KEPT for k in range(WINDOWS)]
    for _, first, last in EMISSION_BANDS:
        masks.append(~KEPT & (first - BAND_TOLERANCE <= WAVELENGTH) & (last + BAND_TOLERANCE >= WAVELENGTH))
    return torch.from_numpy(np.stack(masks))
