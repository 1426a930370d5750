"""The endless stream that the shipped model learns from: what PHANGS and MAUVE spectra are like, and the paper's.

Every ingredient beyond the paper has a name (`INGREDIENTS`) under which it can be left out.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Final, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, field_serializer, model_validator
from torch import Tensor

from galprote.model.artefacts import ArtefactConfig, Artefacts, Circumstances
from galprote.model.decoder import Decoder, kept_median
from galprote.model.gaps import fill_gaps
from galprote.model.grids import KEPT
from galprote.model.histories import HistoryConfig, HistorySampler
from galprote.model.kinematics import KinematicTemplates
from galprote.model.ranges import Range
from galprote.model.synthesis import NoiseConfig, Synthesizer, SyntheticSpectra

Ingredient = Literal[
    "paper", "quiet", "smooth", "bursts", "flat", "dusty", "dispersion", "velocity",
    "coloured_noise", "misjudged_noise", "calibration", "sky", "emission", "notch", "gaps", "patches",
]  # fmt: skip
INGREDIENTS: Final[tuple[Ingredient, ...]] = get_args(Ingredient)

#: Cells in log age and [M/H] on which the prior is made flat, and how often at most a rare cell is favoured.
FLAT_CELLS: Final = (13, 12)
FLAT_GAIN: Final = 6.0


class StreamConfig(BaseModel):
    """What the stream is made of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paper: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of spectra made by the paper's recipe, sections 2 and 3."""
    quiet: float = Field(default=0.15, ge=0.0, le=1.0)
    """Share of spectra with nothing but Gaussian noise: no kinematics, no artefacts, perfect calibration. What an
    appraisal's stream has besides (mismatch, correlated noise), they have too."""
    smooth: float = Field(default=0.6, ge=0.0, le=1.0)
    """Share of star-formation histories among the others; the rest are the paper's one to five populations."""
    av: Range = (1.5, 3.0)
    """A_V is continuous: from 0 to the first value for seven spectra in ten, to the second for the others (`dusty`)."""
    dispersion_kms: float = Field(default=300.0, ge=0.0, le=320.0)
    """Largest velocity dispersion; uniform from 0, and exactly 0 for one in six."""
    velocity_kms: float = Field(default=150.0, ge=0.0, le=200.0)
    """Largest error of the redshift: half of the spectra uniform, half normal with a quarter of it."""
    histories: HistoryConfig = HistoryConfig()
    artefacts: ArtefactConfig = ArtefactConfig()
    without: frozenset[Ingredient] = frozenset()
    """Ingredients to leave out."""

    @field_serializer("without", when_used="json")
    def _sorted(self, without: frozenset[str]) -> list[str]:
        return sorted(without)  # the same text in every process

    @model_validator(mode="after")
    def _shares(self) -> "StreamConfig":
        if self.paper + self.quiet > 1:
            raise ValueError(f"paper + quiet = {self.paper + self.quiet:g}: these shares cannot exceed 1 together")
        return self


class TrainingStream:
    """Fresh labelled spectra for ever.

    Parameters
    ----------
    decoder : Decoder
    config : StreamConfig or None
        None: the paper's recipe alone.
    noise : NoiseConfig
        Of the paper's spectra.
    seed : int
    templates : KinematicTemplates, optional
        Of the same decoder, when they are already at hand.
    """

    def __init__(
        self,
        decoder: Decoder,
        config: StreamConfig | None,
        noise: NoiseConfig,
        seed: int,
        templates: KinematicTemplates | None = None,
    ) -> None:
        self.config = config
        self.paper = Synthesizer(decoder, noise, seed)
        self.generator = self.paper.generator
        self.device = self.paper.device
        if config is not None:
            self.templates = templates or KinematicTemplates.from_decoder(decoder)
            self._without: frozenset[str] = frozenset(config.without)
            self._artefacts = Artefacts(config.artefacts, self.generator, self._without)
            self._nothing = Artefacts(config.artefacts, self.generator, frozenset(INGREDIENTS))
            self._histories = HistorySampler(decoder, config.histories, self.generator)
            self._kept = torch.from_numpy(KEPT).to(self.device)
            self._log_ages = torch.from_numpy(decoder.log_ages).float().to(self.device)
            self._metallicities = torch.from_numpy(decoder.metallicities).float().to(self.device)
            self._favour = None if "flat" in self._without else self._favours()

    @property
    def artefacts(self) -> Artefacts:
        """What is done to the survey's spectra; only with a configuration."""
        return self._artefacts

    def batches(self, size: int) -> Iterator[SyntheticSpectra]:
        """Give batches of `size` spectra for ever."""
        while True:
            yield self.batch(size)

    def batch(self, size: int) -> SyntheticSpectra:
        """Make one batch: the paper's spectra, the quiet ones, the others."""
        if self.config is None:
            return self.paper.make(*self.paper.draw(size))
        n_paper = 0 if "paper" in self._without else round(size * self.config.paper)
        n_quiet = 0 if "quiet" in self._without else round(size * self.config.quiet)
        n_survey = size - n_paper - n_quiet
        parts = []
        if n_paper:
            parts.append(self.paper.make(*self.paper.draw(n_paper)))
        if n_quiet:
            av = self.circumstances(n_quiet)[0]
            parts.append(self.quiet(self.populations(n_quiet), av))
        if n_survey:
            parts.append(self.observe(self.populations(n_survey), *self.circumstances(n_survey)))
        return joined(*parts)

    def quiet(self, grid: Tensor, av: Tensor, snr: Tensor | None = None) -> SyntheticSpectra:
        """Make spectra with Gaussian noise of one known size and nothing else (see `observe`)."""
        zero = torch.zeros_like(av)
        return self._seen(self._nothing, grid, av, zero, zero, snr, known_noise=True)

    def populations(self, n: int) -> Tensor:
        """Light-fraction grids (n, n_metallicity, n_age), flat in mean log age and [M/H] as far as they reach."""
        if self._favour is None:
            return self._mixture(n)
        candidates = self._mixture(2 * n)
        chance = self._favour[self._cells(candidates)]
        # Weighted sampling without replacement (Efraimidis and Spirakis 2006): the largest u**(1 / weight).
        draw = torch.rand(2 * n, generator=self.generator, device=self.device).log() / chance
        return candidates[draw.topk(n).indices.sort().values]

    def circumstances(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """A_V in mag, dispersion and velocity in km/s, each (n,)."""
        config, artefacts = self.config, self._artefacts
        assert config is not None
        low, high = config.av
        dusty = (artefacts.uniform(n) < 0.3) & ("dusty" not in self._without)
        av = artefacts.uniform(n) * torch.where(dusty, high, low)
        dispersion = config.dispersion_kms * artefacts.uniform(n) * (artefacts.uniform(n) > 1 / 6)
        wide = config.velocity_kms * (2 * artefacts.uniform(n) - 1)
        narrow = (config.velocity_kms / 4 * artefacts.normal(n)).clamp(-config.velocity_kms, config.velocity_kms)
        velocity = torch.where(artefacts.uniform(n) < 0.5, wide, narrow)
        zero = torch.zeros_like(av)
        return (
            av,
            zero if "dispersion" in self._without else dispersion,
            zero if "velocity" in self._without else velocity,
        )

    def observe(
        self, grid: Tensor, av: Tensor, dispersion: Tensor, velocity: Tensor, snr: Tensor | None = None
    ) -> SyntheticSpectra:
        """Make the spectra of given populations as a telescope would see them.

        Parameters
        ----------
        grid : (B, n_metallicity, n_age) float32
        av, dispersion, velocity : (B,) float32
        snr : (B,) float32, optional
            Drawn when not given.
        """
        return self._seen(
            self._artefacts, grid, av, dispersion, velocity, snr, known_noise="misjudged_noise" in self._without
        )

    def _seen(
        self,
        effects: Artefacts,
        grid: Tensor,
        av: Tensor,
        dispersion: Tensor,
        velocity: Tensor,
        snr: Tensor | None,
        *,
        known_noise: bool,
    ) -> SyntheticSpectra:
        mixture = self.templates(grid.flatten(1), av, dispersion, velocity)
        norm = kept_median(mixture)
        clean = mixture / norm[:, None]
        expected = effects.template_errors(len(clean))
        stars = effects.differ(clean, expected)
        around = effects.circumstances(stars, snr)
        seen = self.exposed(effects, stars, around, known_noise=known_noise)
        return replace(
            seen,
            clean=clean,
            grid=grid,
            av=av,
            dispersion=dispersion,
            velocity=velocity,
            norm=seen.norm * norm,
            template_error=expected,
        )

    def exposed(
        self,
        effects: Artefacts,
        light: Tensor,
        around: Circumstances,
        *,
        known_noise: bool,
        damage: Callable[[Tensor, Circumstances], Tensor] | None = None,
    ) -> SyntheticSpectra:
        """What is recorded of light (B, 948) of median one, whatever it comes from: without a truth of its own.

        Parameters
        ----------
        effects : Artefacts
        light : (B, 948) float32
        around : Circumstances
        known_noise : bool
            Whether the noise is stated truthfully.
        damage : callable, optional
            What the detector does to the flux at last.
        """
        continuum = effects.calibrate(light, around)
        flux = effects.emit(continuum, around)
        flux = effects.sky(flux, around)
        flux = flux + around.noise * effects.grain(*light.shape)
        flux = effects.spoil(flux)
        if damage is not None:
            flux = damage(flux, around)
        effects.lose(around)
        flux = fill_gaps(flux, around.known & self._kept)[:, self._kept]
        median = flux.median(dim=1, keepdim=True).values
        noise = around.noise if known_noise else effects.stated_noise(around)
        noise = torch.where(around.known, noise, torch.inf)[:, self._kept]
        nothing = torch.zeros_like(median[:, 0])
        grid = nothing[:, None, None].expand(-1, *self.paper.decoder.shape)
        return SyntheticSpectra(
            flux / median,
            light,
            grid,
            nothing,
            nothing,
            nothing,
            noise / median,
            around.calibration,
            continuum / median,
            median[:, 0],
            around.redshift[:, 0],
            nothing,
        )

    def _mixture(self, n: int) -> Tensor:
        config = self.config
        assert config is not None
        n_smooth = 0 if "smooth" in self._without else round(n * config.smooth)
        smooth = self._histories.draw(n_smooth, bursts="bursts" not in self._without)
        if n_smooth == n:
            return smooth
        return torch.cat([smooth, self.paper.draw(n - n_smooth)[0]]) if n_smooth else self.paper.draw(n)[0]

    def _cells(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Cell of each grid's mean log age and [M/H]."""
        means = (grid.sum(dim=1) @ self._log_ages, grid.sum(dim=2) @ self._metallicities)
        cells = []
        for mean, axis, number in zip(means, (self._log_ages, self._metallicities), FLAT_CELLS, strict=True):
            place = (mean - axis[0]) / (axis[-1] - axis[0])
            cells.append((place * number).long().clamp(0, number - 1))
        return cells[0], cells[1]

    def _favours(self) -> Tensor:
        """How much more often than it comes a cell is kept, (13, 12)."""
        ages, metallicities = self._cells(self._mixture(30_000))
        count = torch.zeros(FLAT_CELLS, device=self.device)
        count.index_put_((ages, metallicities), torch.ones(len(ages), device=self.device), accumulate=True)
        rare = count[count > 0].median() / count.clamp(min=1.0)
        return rare.clamp(1 / FLAT_GAIN, FLAT_GAIN)


def joined(*parts: SyntheticSpectra) -> SyntheticSpectra:
    """One batch of several."""
    return SyntheticSpectra(
        **{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(SyntheticSpectra)}
    )
