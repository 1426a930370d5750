"""Star-formation histories beyond the paper's one to five random populations.

A history is a main episode - exponential, delayed, rising, constant or cut short, by one formula - and bursts on top of
it, with an age-metallicity relation. It is drawn in mass and turned into light by the templates' luminosities.

Shapes: B histories, A ages, Z metallicities.
"""

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from galprote.model.decoder import Decoder
from galprote.model.masses import age_edges
from galprote.model.ranges import Count, LogRange


class HistoryConfig(BaseModel):
    """Priors of the smooth and bursty histories; ages in Gyr."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: LogRange = (0.1, 14.0)
    """Age of the oldest stars, log-uniform for half of the histories, uniform for the others."""
    timescale: LogRange = (0.3, 20.0)
    """Of the exponential, log-uniform; three histories in ten rise instead of falling."""
    quenched: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share whose star formation ended before today."""
    bursts: Count = (0, 4)
    """Least and largest number of bursts; none half of the time (`bursts` under `stream.without`: never)."""
    burst_mass: LogRange = (0.003, 1.0)
    """Mass of a burst in units of the main episode's, log-uniform."""
    burst_width: LogRange = (0.02, 0.3)
    """Standard deviation in log age, log-uniform."""
    enrichment: float = Field(default=0.8, ge=0.0)
    """Largest increase of [M/H] from the first to the last stars."""
    metallicity_scatter: LogRange = (0.02, 0.25)
    """Standard deviation of [M/H] at one age."""


class HistorySampler:
    """Draws histories as light-fraction grids.

    Parameters
    ----------
    decoder : Decoder
        Its ages, metallicities and luminosities.
    config : HistoryConfig
    generator : torch.Generator
        Source of every random number, on the decoder's device.
    """

    def __init__(self, decoder: Decoder, config: HistoryConfig, generator: torch.Generator) -> None:
        self.config = config
        self.generator = generator
        self.device = decoder.components.device
        ages = decoder.ages_gyr
        self._ages = torch.from_numpy(ages).float().to(self.device)
        self._log_ages = self._ages.log10()
        self._widths = torch.from_numpy(np.diff(age_edges(ages))).float().to(self.device)
        self._metallicities = torch.from_numpy(decoder.metallicities).float().to(self.device)
        self._light = decoder.median_flux / decoder.median_flux.amax()

    def draw(self, n: int, *, bursts: bool = True) -> Tensor:
        """Light-fraction grids (n, Z, A) of `n` histories."""
        mass_BA = self._main(n)
        if bursts:
            mass_BA = mass_BA + self._bursts(n)
        grid = mass_BA[:, None, :] * self._enrichment(n, mass_BA) * self._light
        return grid / grid.sum(dim=(1, 2), keepdim=True)

    def _main(self, n: int) -> Tensor:
        """Mass in each age bin, summing to one, (n, A): (T - t)**a exp(-(T - t) / tau), zero outside T > t > t_q."""
        low, high = self.config.start
        start = torch.where(
            self._uniform(n) < 0.5, low * (high / low) ** self._uniform(n), low + (high - low) * self._uniform(n)
        )
        tau = self._log_uniform(self.config.timescale, n)
        tau = torch.where(self._uniform(n) < 0.3, -tau, tau)
        power = torch.randint(0, 3, (n, 1), generator=self.generator, device=self.device).float()
        end = torch.where(self._uniform(n) < self.config.quenched, start * self._uniform(n), 0.0)
        elapsed = start - self._ages
        rate = elapsed.clamp(min=1e-3) ** power * torch.exp((-elapsed / tau).clamp(-20.0, 20.0))
        # A bin that the episode's ends cut in two counts with the part inside.
        inside = ((elapsed / self._widths + 0.5).clamp(0, 1)) * (((self._ages - end) / self._widths + 0.5).clamp(0, 1))
        mass = rate * inside * self._widths
        nearest = torch.nn.functional.one_hot((self._ages - start).abs().argmin(dim=1), len(self._ages))
        total = mass.sum(dim=1, keepdim=True)
        return torch.where(total > 0, mass / total.clamp(min=1e-20), nearest.float())

    def _bursts(self, n: int) -> Tensor:
        """Mass formed in bursts, (n, A), in units of the main episode's."""
        low, high = self.config.bursts
        number = torch.randint(low, high + 1, (n, 1), generator=self.generator, device=self.device)
        number = torch.where(self._uniform(n) < 0.5, number, 0)
        total = torch.zeros(n, len(self._ages), device=self.device)
        for k in range(high):
            centre = self._log_ages[0] + (self._log_ages[-1] - self._log_ages[0]) * self._uniform(n)
            width = self._log_uniform(self.config.burst_width, n)
            shape = torch.exp(-0.5 * ((self._log_ages - centre) / width).square()) * self._widths
            shape = shape / shape.sum(dim=1, keepdim=True).clamp(min=1e-20)
            total += torch.where(number > k, self._log_uniform(self.config.burst_mass, n), 0.0) * shape
        return total

    def _enrichment(self, n: int, mass_BA: Tensor) -> Tensor:
        """Share of each metallicity at each age, (n, Z, A): a rise with the mass formed, and scatter around it."""
        formed = mass_BA.flip(1).cumsum(dim=1).flip(1)
        formed = formed / formed[:, :1].clamp(min=1e-20)
        low, high = float(self._metallicities[0]), float(self._metallicities[-1])
        # Six in ten today between -0.8 and the top, where discs are; the others anywhere.
        disc = self._uniform(n) < 0.6
        today = torch.where(disc, -0.8 + (high + 0.1 + 0.8) * self._uniform(n), low + (high - low) * self._uniform(n))
        rise = self.config.enrichment * self._uniform(n)
        mean = (today - rise * (1 - formed)).clamp(low, high)
        scatter = self._log_uniform(self.config.metallicity_scatter, n)
        # A Gaussian over the library's uneven [M/H] grid: integrated between the midpoints of its neighbours.
        middle = (self._metallicities[1:] + self._metallicities[:-1]) / 2
        below = torch.special.ndtr((middle[None, :, None] - mean[:, None, :]) / scatter[:, :, None])
        ends = torch.zeros_like(below[:, :1]), torch.ones_like(below[:, :1])
        return torch.cat([below, ends[1]], dim=1) - torch.cat([ends[0], below], dim=1)

    def _uniform(self, n: int) -> Tensor:
        return torch.rand((n, 1), generator=self.generator, device=self.device)

    def _log_uniform(self, ends: tuple[float, float], n: int) -> Tensor:
        low, high = ends
        return low * (high / low) ** self._uniform(n)
