"""What a telescope, the night sky and gas do to a spectrum, each effect under its own name.

Every function takes clean or already spoiled spectra (B, 948) in units of their median and gives them back with its
effect; `Circumstances` hold what is common to them: the redshift that carries observed wavelengths to the rest frame,
the noise at every sample, and which samples the pipeline would have found and filled.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from galprote.model.grids import N_WAVELENGTH, STEP, WAVELENGTH
from galprote.model.kinematics import C_KMS
from galprote.model.ranges import Count, LogRange, Range

#: Bright night-sky lines with residuals in MUSE cubes, observed air wavelengths in Angstrom.
SKY_LINES: Final = (5577.34, 5889.95, 5895.92, 6300.30, 6363.78, 6863.96, 6923.22, 6948.94, 6978.26)

#: MUSE's adaptive-optics notch, observed, Angstrom.
NOTCH: Final = (5806.25, 5963.75)

#: Nebular lines, rest air wavelength in Angstrom: those in the emission bands, which leak out of them, and faint ones.
STRONG_LINES: Final = (4861.33, 4958.91, 5006.84, 6548.05, 6562.80, 6583.45, 6716.44, 6730.82)
FAINT_LINES: Final = (4921.93, 5015.68, 5197.90, 5200.26, 5754.64, 5875.62, 6300.30, 6363.78, 6678.15, 7065.19)

#: The pipeline replaces what stands so many standard deviations out, and its neighbours.
FILTER_SIGMA: Final = 5.0


class ArtefactConfig(BaseModel):
    """Strength of every effect; its name under `stream.without` turns one off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    snr: LogRange = (5.0, 200.0)
    """Signal-to-noise ratio per sample of 2.48 A, log-uniform."""
    redshift: Range = (0.0, 0.02)
    """Of the galaxies: decides where sky lines and the notch fall in the rest frame."""
    noise_colour: float = Field(default=0.2, ge=0.0)
    """Scatter of the Legendre coefficients of log noise along the spectrum."""
    noise_misjudged: float = Field(default=0.3, ge=0.0)
    """Scatter of ln(noise stated / true noise), for half of the spectra."""
    calibration: float = Field(default=0.03, ge=0.0, le=0.2)
    """Largest scatter of the flux calibration's smooth error."""
    sky_sigma: LogRange = (0.3, 6.0)
    """Residuals at sky lines in units of the noise, log-uniform."""
    emission: LogRange = (0.003, 3.0)
    """Height of the strong nebular lines relative to the continuum, log-uniform; faint ones have a thirtieth."""
    notch_fraction: float = Field(default=0.25, ge=0.0, le=1.0)
    """Share of spectra with the notch of adaptive optics."""
    gap_fraction: float = Field(default=0.15, ge=0.0, le=1.0)
    """Share of spectra with another wide gap."""
    gap_width: Count = (16, 80)
    """Its least and largest width, samples."""
    patches: Count = (0, 6)
    """Noisy patches that nobody noticed, as the paper has them."""
    mismatch: LogRange | None = None
    """Stars that are expected not to be quite the templates', in half of the spectra: size of the details that differ,
    relative to the continuum, log-uniform. Null: never."""
    noise_correlation: float = Field(default=0.0, ge=0.0, le=0.5)
    """Largest correlation of the noise in neighbouring samples: what resampling a cube does."""
    noise_wrong: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of spectra whose stated noise is wrong by a factor of up to 5 either way."""


#: What stars have that templates have not, in units of its size: details over so many samples and their shares, slopes,
#: and the change of all lines' strength together; and the samples over which lines differ alike.
MISMATCH_WIDTHS: Final = ((3, 0.6), (9, 0.6), (101, 1.0))
MISMATCH_SLOPE: Final = 1.8
MISMATCH_LINES: Final = 18.0
MISMATCH_SCATTER: Final = 0.7
MISMATCH_REGION: Final = 41

#: Largest factor of a wrong noise.
NOISE_WRONG: Final = 5.0


@dataclass
class Circumstances:
    """What a batch's effects share.

    Attributes
    ----------
    redshift : (B, 1) float32
    noise : (B, 948) float32
        True standard deviation, in units of the median.
    known : (B, 948) bool
        False where the pipeline finds no data or replaces what it found.
    calibration : (B,) float32
        Scatter from which the calibration error was drawn; zero where there is none.
    """

    redshift: Tensor
    noise: Tensor
    known: Tensor
    calibration: Tensor


class Artefacts:
    """Draws effects from one generator.

    Parameters
    ----------
    config : ArtefactConfig
    generator : torch.Generator
    without : collection of str
        Names of effects that are left out: `coloured_noise`, `calibration`, `sky`, `emission`, `notch`, `gaps`,
        `patches`.
    """

    def __init__(self, config: ArtefactConfig, generator: torch.Generator, without: frozenset[str]) -> None:
        self.config = config
        self.generator = generator
        self.without = without
        self.device = generator.device
        #: Share of the spectra that have nebular lines, or residuals of the sky.
        self.shares = {"emission": 0.6, "sky": 0.7}
        self._wavelength = torch.from_numpy(WAVELENGTH).float().to(self.device)
        x = torch.linspace(-1.0, 1.0, N_WAVELENGTH, device=self.device)
        polynomials = [x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2, (35 * x**4 - 30 * x**2 + 3) / 8]
        self._legendre = torch.stack(polynomials)

    def redshifts(self, n: int) -> Tensor:
        """Redshifts of galaxies, (n, 1)."""
        low, high = self.config.redshift
        return low + (high - low) * self.uniform(n, 1)

    def circumstances(self, clean: Tensor, snr: Tensor | None = None, redshift: Tensor | None = None) -> Circumstances:
        """Noise and redshift of a batch; `snr` (B,) and `redshift` (B, 1) are drawn when not given."""
        n = len(clean)
        redshift = self.redshifts(n) if redshift is None else redshift
        level = self.log_uniform(self.config.snr, n, 1) if snr is None else snr[:, None]
        noise = (1 / level).repeat(1, N_WAVELENGTH)
        if "coloured_noise" not in self.without:
            shape = self.config.noise_colour * self.normal(n, 2) @ self._legendre[:2]
            photons = self.uniform(n, 1)
            noise = noise * torch.exp(shape) * (1 - photons + photons * clean.clamp(min=0.05)).sqrt()
            noise = noise * (1 + 1.5 * self.uniform(n, 1) * self._near(SKY_LINES, redshift, 4.0))
        known = torch.ones(n, N_WAVELENGTH, dtype=torch.bool, device=self.device)
        return Circumstances(redshift, noise, known, torch.zeros(n, device=self.device))

    def template_errors(self, n: int) -> Tensor:
        """By how much stars are expected to differ from the templates, (n,): not at all in half of the spectra."""
        if self.config.mismatch is None:
            return torch.zeros(n, device=self.device)
        return (self.log_uniform(self.config.mismatch, n, 1) * (self.uniform(n, 1) < 0.5))[:, 0]

    def differ(self, clean: Tensor, expected: Tensor) -> Tensor:
        """Stars that are not quite the templates'.

        Details that no template has, and, in proportion, what hides in the answer: lines all stronger or weaker, and
        slopes. The proportions are about those between two libraries, MIUSCAT's E-MILES and MILES; the size scatters
        by a factor of two about what is expected.
        """
        if self.config.mismatch is None:
            return clean
        n, m = clean.shape
        size = expected[:, None] * torch.exp(MISMATCH_SCATTER * self.normal(n, 1))
        smooth = _smoothed(clean, MISMATCH_REGION)
        lines = (clean - smooth) * (MISMATCH_LINES * self.normal(n, 1) * size).clamp(-0.4, 0.4)
        region = (clean - smooth) * self._rough(n, m, MISMATCH_REGION)
        details = region * (0.5 / (region / smooth).std(dim=1, keepdim=True).clamp(min=5e-3))
        for width, share in MISMATCH_WIDTHS:
            details = details + share * smooth * self._rough(n, m, width)
        slopes = smooth * (MISMATCH_SLOPE * self.normal(n, 2) @ self._legendre[:2])
        return clean + lines + size * (details + slopes)

    def grain(self, n: int, m: int) -> Tensor:
        """Noise of unit variance, (n, m), perhaps correlated between neighbours."""
        if self.config.noise_correlation == 0:
            return self.normal(n, m)
        white = self.normal(n, m + 2)
        wanted = self.config.noise_correlation * self.uniform(n, 1)
        # Of (b, 1, b) the neighbours' correlation is 2 b / (1 + 2 b**2).
        b = torch.where(wanted > 1e-3, (1 - (1 - 2 * wanted.square()).sqrt()) / (2 * wanted.clamp(min=1e-3)), 0.0)
        return (white[:, 1:-1] + b * (white[:, 2:] + white[:, :-2])) / (1 + 2 * b.square()).sqrt()

    def calibrate(self, flux: Tensor, around: Circumstances) -> Tensor:
        """Multiply by a smooth error of a few per cent; three spectra in ten are perfect."""
        n = len(flux)
        amplitude = self.config.calibration * self.uniform(n, 1) * (self.uniform(n, 1) > 0.3)
        if "calibration" in self.without:
            return flux
        around.calibration = amplitude[:, 0]
        order = torch.tensor([1.0, 0.5, 0.33, 0.25], device=self.device)
        return flux * (1 + (amplitude * order * self.normal(n, 4)) @ self._legendre)

    def emit(self, flux: Tensor, around: Circumstances) -> Tensor:
        """Add nebular lines in and just outside the bands; what stands out is found by the pipeline."""
        n = len(flux)
        if "emission" in self.without:
            return flux
        low, high = self.config.emission
        strong = self.log_uniform((low, high), n, len(STRONG_LINES))
        faint = self.log_uniform((low / 30, high / 30), n, len(FAINT_LINES))
        height = torch.cat([strong, faint], dim=1) * (self.uniform(n, 1) < self.shares["emission"])
        shift = 1 + 60.0 / C_KMS * self.normal(n, 1)
        width = ((1.1 / 6000) ** 2 + (self.log_uniform((20.0, 200.0), n, 1) / C_KMS) ** 2).sqrt()
        added = torch.zeros_like(flux)
        for k, line in enumerate(STRONG_LINES + FAINT_LINES):
            near = slice(*np.searchsorted(WAVELENGTH, (line - 40.0, line + 40.0)))
            offset = (self._wavelength[near] - line * shift) / (line * width)
            added[:, near] += height[:, k : k + 1] * torch.exp(-0.5 * offset.square())
        self._notice(added > FILTER_SIGMA * around.noise + 0.02, around)
        return flux + added

    def sky(self, flux: Tensor, around: Circumstances) -> Tensor:
        """Add residuals of either sign at the sky lines' observed wavelengths."""
        n = len(flux)
        if "sky" in self.without:
            return flux
        strength = self.log_uniform(self.config.sky_sigma, n, 1) * (self.uniform(n, 1) < self.shares["sky"])
        added = torch.zeros_like(flux)
        low, high = self.config.redshift
        for line in SKY_LINES:
            near = slice(*np.searchsorted(WAVELENGTH, (line / (1 + high) - 10.0, line / (1 + low) + 10.0)))
            offset = (self._wavelength[near] - line / (1 + around.redshift)) / 1.3
            profile = (self.normal(n, 1) + self.normal(n, 1) * offset) * torch.exp(-0.5 * offset.square())
            added[:, near] += strength * around.noise[:, near] * profile
        self._notice(added.abs() > FILTER_SIGMA * around.noise, around)
        return flux + added

    def spoil(self, flux: Tensor) -> Tensor:
        """Noisy patches that nobody notices, as the paper has them."""
        low, high = self.config.patches
        if "patches" in self.without or high == 0:
            return flux
        n, m = flux.shape
        number = low + (high - low + 1) * self.uniform(n, 1)
        index = torch.arange(m, device=self.device)
        sigma = torch.zeros_like(flux)
        for k in range(high):
            width = 3 + 12 * self.uniform(n, 1)
            offset = index - self.uniform(n, 1) * (m - width)
            inside = (offset >= 0) & (offset < width) & (number > k + 1)
            sigma = torch.where(inside, 0.25 * self.uniform(n, 1), sigma)
        return flux + sigma * self.normal(n, m)

    def lose(self, around: Circumstances) -> None:
        """Lose samples: the notch of adaptive optics, other gaps, and the sky lines that a mask takes out."""
        n = len(around.known)
        observed = self._wavelength * (1 + around.redshift)
        inside = (observed > NOTCH[0] - STEP) & (observed < NOTCH[1] + STEP)
        notch = inside & (self.uniform(n, 1) < self.config.notch_fraction)
        low, high = self.config.gap_width
        width = low + (high - low) * self.uniform(n, 1)
        start = self.uniform(n, 1) * (N_WAVELENGTH + width) - width
        index = torch.arange(N_WAVELENGTH, device=self.device)
        gap = (index >= start) & (index < start + width) & (self.uniform(n, 1) < self.config.gap_fraction)
        masked = self._near(SKY_LINES, around.redshift, 6.0).bool() & (self.uniform(n, 1) < 0.15)
        if "notch" not in self.without:
            around.known &= ~notch
        if "gaps" not in self.without:
            around.known &= ~gap
        if "sky" not in self.without:
            around.known &= ~masked

    def stated_noise(self, around: Circumstances) -> Tensor:
        """The noise as the observer states it (B, 948): misjudged by a factor, or one value for the whole spectrum."""
        n = len(around.noise)
        factor = torch.exp(self.config.noise_misjudged * self.normal(n, 1) * (self.uniform(n, 1) < 0.5))
        if self.config.noise_wrong > 0:
            wrong = self.log_uniform((1 / NOISE_WRONG, NOISE_WRONG), n, 1)
            factor = torch.where(self.uniform(n, 1) < self.config.noise_wrong, wrong, factor)
        flat = self.uniform(n, 1) < 0.25
        middle = around.noise.median(dim=1, keepdim=True).values.expand_as(around.noise)
        return factor * torch.where(flat, middle, around.noise)

    def _notice(self, outstanding: Tensor, around: Circumstances) -> None:
        """Nine times in ten the pipeline's filter finds an outlier and takes its neighbours along."""
        found = outstanding & (self.uniform(len(outstanding), 1) < 0.9)
        grown = found.clone()
        grown[:, 1:] |= found[:, :-1]
        grown[:, :-1] |= found[:, 1:]
        around.known &= ~grown

    def _near(self, lines: tuple[float, ...], redshift: Tensor, half_width: float) -> Tensor:
        """One within so many Angstrom of an observed line, zero elsewhere, (B, 948)."""
        observed = self._wavelength * (1 + redshift)
        near = torch.zeros_like(observed)
        for line in lines:
            near = torch.maximum(near, ((observed - line).abs() < half_width).float())
        return near

    def _rough(self, n: int, m: int, width: int) -> Tensor:
        """Random fields of unit variance, (n, m), smooth over so many samples."""
        field = _smoothed(self.normal(n, m + 2 * width), width)[:, width:-width]
        return field / field.std(dim=1, keepdim=True)

    def uniform(self, *shape: int) -> Tensor:
        """Random numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal random numbers."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def log_uniform(self, ends: tuple[float, float], *shape: int) -> Tensor:
        """Random numbers of which the logarithm is uniform."""
        low, high = ends
        return low * (high / low) ** self.uniform(*shape)


def _smoothed(values: Tensor, width: int) -> Tensor:
    """Running mean over an odd number of samples, the ends repeated: (n, m)."""
    padded = torch.nn.functional.pad(values[:, None], (width // 2, width // 2), mode="replicate")
    return torch.nn.functional.avg_pool1d(padded, width, 1)[:, 0]
