"""Labelled synthetic spectra: the paper's fixed set of 111,936 and an endless stream like it (sections 2.1 to 3.3).

Everything is drawn and computed with torch on the decoder's device, vectorised over a batch, from one seeded generator:
the same seed gives the same spectra.

Shapes: B spectra, W = 948 samples, L = 876 kept samples, G = n_metallicity * n_age templates.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from galprote.model.decoder import Decoder, kept_median
from galprote.model.gaps import fill_gaps, seen_median
from galprote.model.grids import AV_CLASSES, KEPT
from galprote.model.ranges import Count

#: Table 1: populations in a spectrum and how many spectra per template there are of each, for one value of A_V.
PAPER_MIX: Final = ((1, 3), (2, 2), (3, 2), (4, 2), (5, 2))
MAX_POPULATIONS: Final = 5


class NoiseConfig(BaseModel):
    """What is done to a clean spectrum (section 3.2); fluxes are in units of its median."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels: tuple[float, ...] = Field(default=(0.0, 0.02, 0.04), min_length=1)
    """Standard deviations of the Gaussian noise; each spectrum gets one of them."""
    patches: Count = (15, 25)
    """Least and largest number of patches in a spectrum."""
    patch_width: Count = (3, 15)
    """Least and largest width of a patch, in samples."""
    patch_noise: float = Field(default=0.25, ge=0.0)
    """Largest standard deviation of the noise in a noisy patch; the other half of the patches becomes their median."""
    gap_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the spectra with one wide gap, filled as the pipeline fills it (not in the paper: the notch of MUSE's
    adaptive optics is 63 samples wide)."""
    gap_width: Count = (16, 80)
    """Least and largest width of the wide gap, in samples."""
    flagged: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the spectra in which it is known what was filled (not in the paper; a refining network uses it)."""


@dataclass(frozen=True)
class SyntheticSpectra:
    """A batch of spectra with their truth.

    Attributes
    ----------
    spectra : (B, 876) float32
        What the model sees: noisy, emission bands removed, divided by the median.
    clean : (B, 948) float32
        Without noise, in units of the median of its kept samples.
    grid : (B, n_metallicity, n_age) float32
        Light fractions, summing to one.
    av : (B,) float32
        Attenuation in magnitudes.
    dispersion, velocity : (B,) float32
        Kinematics of the stars, km/s: beyond the instrument's resolution, and off the assumed redshift.
    noise : (B, 876) float32
        Standard deviation of the noise as the observer states it, in units of the median; infinite where a sample was
        filled and says nothing.
    calibration : (B,) float32
        Expected scatter of the flux calibration's smooth error.
    continuum : (B, 948) float32
        The stars' light as it was calibrated: without noise, gas and sky, in the unit of `spectra`.
    norm : (B,) float32
        The median that `spectra` was divided by, in the unit of the templates' mixture behind its dust: light to mass.
    redshift : (B,) float32
        Of the galaxy, which places the night sky's lines.
    template_error : (B,) float32
        Expected difference of the stars from the templates, relative.
    """

    spectra: Tensor
    clean: Tensor
    grid: Tensor
    av: Tensor
    dispersion: Tensor
    velocity: Tensor
    noise: Tensor
    calibration: Tensor
    continuum: Tensor
    norm: Tensor
    redshift: Tensor
    template_error: Tensor

    def __len__(self) -> int:
        return len(self.av)

    def rescaled(self, spectra: Tensor, factor: Tensor) -> "SyntheticSpectra":
        """Other spectra (B, 876) of the same light, and all in units of `factor` (B, 1)."""
        return replace(
            self,
            spectra=spectra / factor,
            noise=self.noise / factor,
            continuum=self.continuum / factor,
            norm=self.norm * factor[:, 0],
        )


def seen_through(batch: SyntheticSpectra, visible: NDArray[np.bool_]) -> SyntheticSpectra:
    """Spectra as a network sees them that uses only a part of the samples: the others are filled like gaps.

    Parameters
    ----------
    batch : SyntheticSpectra
    visible : (948,) bool
        From `galprote.model.grids.visible_samples`.
    """
    if visible[KEPT].all():
        return batch
    used = torch.from_numpy(visible[KEPT]).to(batch.spectra.device).expand_as(batch.spectra)
    known = replace(batch, noise=torch.where(used, batch.noise, torch.inf))
    return known.rescaled(fill_gaps(batch.spectra, used), seen_median(batch.spectra, used[0])[:, None])


def smoothed_templates_matrix(decoder: Decoder) -> Tensor:
    """Section 3.1 as a matrix: what one drawn population becomes on the grid.

    Row g is the weight that population g carries after the metallicity prior (0.7 at the lowest to 1.4 at the highest
    [M/H], linear between) and the normalised 3x3 Gaussian of 0.7 bins, reflected at the borders.

    Returns
    -------
    (G, G) float32
    """
    n_z, n_age = decoder.shape

    def blur(size: int) -> NDArray[np.float64]:
        side = np.exp(-0.5 / 0.7**2)
        matrix = np.eye(size)
        for step in (-1, 1):
            target = np.clip(np.arange(size) + step, 0, size - 1)
            np.add.at(matrix, (np.arange(size), target), side)
        blurred: NDArray[np.float64] = matrix / (1 + 2 * side)
        return blurred

    metallicity = decoder.metallicities
    prior = np.interp(metallicity, [metallicity[0], metallicity[-1]], [0.7, 1.4])
    matrix = np.kron(blur(n_z) * prior[:, None], blur(n_age))
    return torch.from_numpy(matrix.astype(np.float32)).to(decoder.components)


def der_snr(flux: Tensor) -> Tensor:
    """Noise of (B, n) spectra from their own scatter, (B,) (DER_SNR; Stoehr et al. 2008)."""
    second = (2 * flux[:, 2:-2] - flux[:, :-4] - flux[:, 4:]).abs()
    return (1.482602 / 6**0.5) * second.median(dim=1).values


class Synthesizer:
    """Draws populations, makes their spectra and spoils them.

    Parameters
    ----------
    decoder : Decoder
        The templates.
    noise : NoiseConfig
    seed : int
        Seed of every random choice.
    """

    def __init__(self, decoder: Decoder, noise: NoiseConfig, seed: int) -> None:
        self.decoder = decoder
        self.noise = noise
        self.device = decoder.components.device
        self.generator = torch.Generator(device=self.device).manual_seed(seed)
        self._templates = decoder.templates()
        self._spread = smoothed_templates_matrix(decoder)
        self._curve = decoder.attenuation() * (-0.4 * float(np.log(10.0)))
        self._kept = torch.from_numpy(KEPT).to(self.device)
        self._av = torch.from_numpy(AV_CLASSES.astype(np.float32)).to(self.device)

    # --- what there is: populations and attenuations ---

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Draw grids and attenuations as the paper's set has them (sections 2.1, 2.2, 3.1).

        Returns
        -------
        grid : (n, n_metallicity, n_age) float32
        av : (n,) float32
        """
        share = torch.tensor([float(count) for _, count in PAPER_MIX], device=self.device)
        populations = 1 + torch.multinomial(share, n, replacement=True, generator=self.generator)
        av = self._av[self._integers(0, len(self._av), (n,))]
        return self._grids(populations, self._integers(0, len(self._templates), (n, MAX_POPULATIONS))), av

    def paper_set(self, batch: int = 1024) -> Iterator[SyntheticSpectra]:
        """Give the paper's fixed set (table 1) in random order: every template three times plus the combinations.

        Yields
        ------
        SyntheticSpectra
            16 x 11 x n_templates spectra in all: 111,936 for the paper's 636 templates.
        """
        n_templates = len(self._templates)
        per_av = torch.cat([torch.full((count * n_templates,), k) for k, count in PAPER_MIX]).to(self.device)
        populations = per_av.repeat(len(self._av))
        first = torch.arange(len(per_av), device=self.device) % n_templates
        drawn = self._integers(0, n_templates, (len(populations), MAX_POPULATIONS))
        first = first.repeat(len(self._av))
        drawn[:, 0] = torch.where(populations == 1, first, drawn[:, 0])
        av = self._av.repeat_interleave(len(per_av))
        order = torch.randperm(len(populations), generator=self.generator, device=self.device)
        level = torch.arange(len(order), device=self.device) % len(self.noise.levels)
        for chunk, levels in zip(order.split(batch), level.split(batch), strict=True):
            yield self.make(self._grids(populations[chunk], drawn[chunk]), av[chunk], levels)

    def stream(self, batch: int) -> Iterator[SyntheticSpectra]:
        """Give fresh batches for ever."""
        while True:
            yield self.make(*self.draw(batch))

    def _grids(self, populations: Tensor, members: Tensor) -> Tensor:
        """Random weights for the first `populations` members of each row, after section 3.1's processing."""
        weights = torch.rand(members.shape, generator=self.generator, device=self.device)
        weights = weights * (torch.arange(MAX_POPULATIONS, device=self.device) < populations[:, None])
        sparse = torch.zeros(len(members), len(self._templates), device=self.device)
        sparse.scatter_add_(1, members, weights)
        grid = sparse @ self._spread
        grids: Tensor = (grid / grid.sum(dim=1, keepdim=True)).unflatten(1, self.decoder.shape)
        return grids

    # --- what is seen: spectra and noise ---

    def clean(self, grid: Tensor, av: Tensor) -> Tensor:
        """Noise-free spectra (B, 948) of grids and attenuations, median of the kept samples one."""
        return self._reddened(grid, av) / self.norm(grid, av)[:, None]

    def norm(self, grid: Tensor, av: Tensor) -> Tensor:
        """Median of the kept samples of a mixture of templates behind its dust, (B,)."""
        return kept_median(self._reddened(grid, av))

    def _reddened(self, grid: Tensor, av: Tensor) -> Tensor:
        return (grid.flatten(1) @ self._templates) * torch.exp(av[:, None] * self._curve)

    def make(self, grid: Tensor, av: Tensor, level: Tensor | None = None) -> SyntheticSpectra:
        """Make the noisy spectra of given populations.

        Parameters
        ----------
        grid : (B, n_metallicity, n_age) float32
        av : (B,) float32
        level : (B,) int64, optional
            Which of the noise levels each spectrum gets; drawn when not given.
        """
        norm = self.norm(grid, av)
        clean = self._reddened(grid, av) / norm[:, None]
        if level is None:
            level = self._integers(0, len(self.noise.levels), (len(av),))
        sigma = torch.tensor(self.noise.levels, device=self.device)[level]
        flux = clean + sigma[:, None] * self._normal(clean.shape)
        flux, masked = self._patch(flux)
        flux, lost = self._gap(flux)
        flux = flux[:, self._kept]
        median = flux.median(dim=1, keepdim=True).values
        flux = flux / median
        # The paper's network is told nothing about patches; in a share of the spectra the medians are known.
        flagged = self._uniform((len(av), 1)) < self.noise.flagged
        filled = (lost | (masked & flagged))[:, self._kept]
        noise = torch.where(filled, torch.inf, der_snr(flux)[:, None])
        rest = torch.zeros_like(av)
        return SyntheticSpectra(
            flux, clean, grid, av, rest, rest, noise, rest, clean / median, norm * median[:, 0], rest, rest
        )

    def _patch(self, flux: Tensor) -> tuple[Tensor, Tensor]:
        """Spoil random patches: noise in one half of them, their median in place of the other (section 3.2).

        Returns the flux and which samples are medians.
        """
        n, m = flux.shape
        low, high = self.noise.patches
        if high == 0:
            return flux, torch.zeros_like(flux, dtype=torch.bool)
        number = self._integers(low, high + 1, (n, 1))
        width = self._integers(self.noise.patch_width[0], self.noise.patch_width[1] + 1, (n, high))
        start = (self._uniform((n, high)) * (m - width + 1)).long()
        offset = torch.arange(self.noise.patch_width[1], device=self.device)
        used = (torch.arange(high, device=self.device) < number)[:, :, None]
        inside = used & (offset < width[:, :, None])
        index = (start[:, :, None] + offset).clamp(max=m - 1)
        values = flux.gather(1, index.flatten(1)).view_as(index)
        masked = self._uniform((n, high)) < 0.5
        order = torch.where(inside, values, torch.inf).sort(dim=2).values
        middle = order.gather(2, ((width - 1) // 2)[:, :, None])
        sigma = self.noise.patch_noise * self._uniform((n, high))
        noisy = values + sigma[:, :, None] * self._normal(values.shape)
        change = torch.where(masked[:, :, None], middle, noisy)
        # Where patches overlap one of them must win whatever the order of a parallel scatter: the last one.
        rank = torch.where(inside, torch.arange(high, device=self.device)[:, None] + 1, 0)
        winner = torch.zeros(n, m, dtype=rank.dtype, device=self.device)
        winner.scatter_reduce_(1, index.flatten(1), rank.flatten(1), "amax")
        wins = inside & (winner.gather(1, index.flatten(1)).view_as(index) == rank)
        delta = torch.where(wins, change - values, 0.0)
        median = (wins & masked[:, :, None]).flatten(1).float()
        medians = torch.zeros_like(flux).scatter_add(1, index.flatten(1), median)
        return flux.scatter_add(1, index.flatten(1), delta.flatten(1)), medians > 0

    def _gap(self, flux: Tensor) -> tuple[Tensor, Tensor]:
        """Lose one wide run of samples in some of the spectra, and fill it as the pipeline does."""
        if self.noise.gap_fraction == 0:
            return flux, torch.zeros_like(flux, dtype=torch.bool)
        n, m = flux.shape
        width = self._integers(self.noise.gap_width[0], self.noise.gap_width[1] + 1, (n, 1))
        start = (self._uniform((n, 1)) * (m - width + 1)).long()
        hit = self._uniform((n, 1)) < self.noise.gap_fraction
        index = torch.arange(m, device=self.device)
        lost = hit & (index >= start) & (index < start + width)
        return fill_gaps(flux, ~lost), lost

    def _integers(self, low: int, high: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(low, high, shape, generator=self.generator, device=self.device)

    def _uniform(self, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device)

    def _normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)
