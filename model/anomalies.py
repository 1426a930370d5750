"""Spectra that are not the light of a galaxy's stars at the given redshift, for teaching the network its limits.

Each kind is made, like ordinary spectra, of light, a sky, noise and what the pipeline finds and fills.

Shapes: B spectra, 948 samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from galprote.model.appraisal import KINDS
from galprote.model.artefacts import FILTER_SIGMA, Circumstances
from galprote.model.decoder import FINE_EDGES, kept_median
from galprote.model.extinction import extinction_curve
from galprote.model.grids import WAVELENGTH
from galprote.model.kinematics import C_KMS
from galprote.model.stars import at_velocity
from galprote.model.stream import TrainingStream
from galprote.model.synthesis import SyntheticSpectra

ANOMALIES: Final = KINDS[1:]

#: Broad lines of active nuclei: rest wavelength in Angstrom, equivalent width relative to that of Hbeta.
BROAD_LINES: Final = ((4861.33, 1.0), (5875.62, 0.15), (6562.80, 4.0))
#: Blends of iron lines: centre, width in Angstrom, relative strength (Boroson & Green 1992, ApJS 80, 109).
IRON: Final = ((4924.0, 12.0, 0.2), (5018.0, 12.0, 0.3), (5190.0, 50.0, 0.6), (5300.0, 60.0, 0.6))

#: Lines of the unsubtracted night sky: the brightest, and OH bands; observed air wavelength, relative brightness.
NIGHT: Final = (
    (5577.34, 60.0), (5889.95, 8.0), (5895.92, 5.0), (6300.30, 40.0), (6363.78, 14.0), (6498.7, 4.0), (6533.0, 3.0),
    (6553.6, 3.0), (6577.3, 3.0), (6827.5, 3.0), (6863.96, 12.0), (6923.22, 10.0), (6948.94, 8.0), (6978.26, 5.0),
    (7003.9, 3.0), (5202.8, 2.0), (5915.3, 1.5), (5932.9, 2.0), (5953.4, 2.0), (6170.0, 1.5), (6257.9, 2.0),
)  # fmt: skip


@dataclass(frozen=True)
class Severity:
    """How far anomalies go. Training sees more than what is tested, milder and worse.

    Attributes
    ----------
    redshift_kms : (float, float)
        Least and largest error of the redshift.
    blend_kms : (float, float)
    blend_share : (float, float)
        Share of the light of the fainter of the two.
    av : (float, float)
        mag.
    step : (float, float)
        Relative, either way.
    dead_runs : (int, int)
    dead_width : (int, int)
        Samples.
    host : (float, float)
        Share of stars in the continuum of an active nucleus.
    broad_ew : (float, float)
        Equivalent width of the broad Hbeta, Angstrom; log-uniform.
    """

    redshift_kms: tuple[float, float] = (350.0, 6000.0)
    blend_kms: tuple[float, float] = (500.0, 6000.0)
    blend_share: tuple[float, float] = (0.15, 0.5)
    av: tuple[float, float] = (3.1, 6.0)
    step: tuple[float, float] = (0.03, 0.3)
    dead_runs: tuple[int, int] = (1, 6)
    dead_width: tuple[int, int] = (4, 60)
    host: tuple[float, float] = (0.0, 0.8)
    broad_ew: tuple[float, float] = (5.0, 150.0)


TRAINING: Final = Severity()
TESTED: Final = Severity(
    redshift_kms=(1000.0, 1000.0),
    blend_kms=(700.0, 5000.0),
    blend_share=(0.3, 0.5),
    av=(3.0, 5.0),
    step=(0.05, 0.2),
    dead_runs=(1, 4),
    dead_width=(6, 40),
    host=(0.0, 0.5),
    broad_ew=(20.0, 100.0),
)

Damage = Callable[[Tensor, Circumstances], Tensor]


class Anomalies:
    """Draws anomalous spectra from a stream's generator.

    Parameters
    ----------
    stream : TrainingStream
        With a configuration: what it does to ordinary spectra is done to these.
    stars : (S, M) float32
        From `galprote.model.stars`.
    severity : Severity
    """

    def __init__(self, stream: TrainingStream, stars: Tensor, severity: Severity = TRAINING) -> None:
        self.stream = stream
        self.stars = stars.to(stream.device)
        self.severity = severity
        self.effects = stream.artefacts
        centres = (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2
        self._curve = torch.from_numpy(extinction_curve(centres) * (-0.4 * np.log(10.0))).float().to(stream.device)
        self._wavelength = torch.from_numpy(WAVELENGTH).float().to(stream.device)

    def make(self, kind: str, n: int, snr: Tensor | None = None) -> SyntheticSpectra:
        """Make spectra of one of `ANOMALIES`; `snr` (n,) is drawn when not given, and always for `noise`."""
        redshift = self.effects.redshifts(n)
        light, damage = getattr(self, f"_{kind}")(redshift)
        light = light / kept_median(light)[:, None]
        if kind == "noise":
            snr = 0.1 * 15 ** self._uniform(n)
        around = self.effects.circumstances(light, snr, redshift)
        if kind == "noise":
            return self._brighter(light, around, damage)
        return self.stream.exposed(self.effects, light, around, known_noise=False, damage=damage)

    def _brighter(self, light: Tensor, around: Circumstances, damage: Damage | None) -> SyntheticSpectra:
        """Noise, with an offset that makes the median positive: other spectra are not fitted at all."""
        noise = self.stream.exposed(self.effects, light, around, known_noise=False, damage=damage)
        # Of the stated signal-to-noise ratio one half is right, the other as if the variance were far too small.
        claimed = torch.where(self._uniform(len(light), 1) < 0.5, 1.0, 0.02 + 0.2 * self._uniform(len(light), 1))
        positive = noise.norm[:, None].abs().clamp(min=0.05)
        flux = noise.spectra * noise.norm[:, None]
        flux = flux - flux.median(dim=1, keepdim=True).values + positive
        sigma = noise.noise * noise.norm[:, None] * claimed
        return noise.__class__(**(vars(noise) | {"spectra": flux / positive, "noise": sigma / positive}))

    # --- the kinds ---

    def _star(self, redshift: Tensor) -> tuple[Tensor, Damage | None]:
        """A star of the Milky Way, within 100 km/s of rest."""
        drawn = torch.randint(
            len(self.stars), (len(redshift),), generator=self.effects.generator, device=redshift.device
        )
        chosen = self.stars[drawn]
        velocity = 60.0 * self.effects.normal(len(redshift), 1)
        dim = 10 ** (-0.4 * 0.5 * self._uniform(len(redshift), 1) * (5500.0 / self._wavelength - 1))
        return at_velocity(chosen, (1 + redshift) / (1 + velocity / C_KMS)) * dim, None

    def _agn(self, redshift: Tensor) -> tuple[Tensor, Damage | None]:
        """A power law with broad lines and iron, over the light of its galaxy."""
        n, severity = len(redshift), self.severity
        slope = -0.5 + 3.0 * self._uniform(n, 1)
        x = self._wavelength
        power = (x / 5900.0) ** -slope
        fwhm = self.effects.log_uniform((1500.0, 12_000.0), n, 1)
        width = self.effects.log_uniform(severity.broad_ew, n, 1)
        offset = 1 + 500.0 / C_KMS * self.effects.normal(n, 1)
        noticed = torch.zeros(n, len(x), dtype=torch.bool, device=x.device)
        lines = torch.zeros_like(power)
        for centre, relative in BROAD_LINES:
            sigma = centre * fwhm / C_KMS / 2.355
            strength = width * relative * 10 ** (0.1 * self.effects.normal(n, 1))
            line = strength / (sigma * 2.507) * torch.exp(-0.5 * ((x - centre * offset) / sigma).square())
            lines = lines + line
            # The running median of 77 Angstrom follows what is broader than half of it.
            noticed |= (line > 0.3) & (sigma * 2.355 < 40.0)
        iron = torch.zeros_like(x)
        for centre, spread, share in IRON:
            iron = iron + share / (spread * 2.507) * torch.exp(-0.5 * ((x - centre) / spread).square())
        iron = iron * width * self._uniform(n, 1)
        host = severity.host[0] + (severity.host[1] - severity.host[0]) * self._uniform(n, 1)
        nucleus = power * (1 + lines + iron)

        def filtered(flux: Tensor, around: Circumstances) -> Tensor:
            around.known &= ~noticed
            return flux

        return host * self._galaxy(n, torch.zeros_like(host)) + (1 - host) * nucleus, filtered

    def _redshift(self, redshift: Tensor) -> tuple[Tensor, Damage | None]:
        """A galaxy of another redshift."""
        return self._galaxy(len(redshift), self._signed(self.severity.redshift_kms, len(redshift))), None

    def _blend(self, redshift: Tensor) -> tuple[Tensor, Damage | None]:
        """Two galaxies, of which one has the redshift."""
        n = len(redshift)
        low, high = self.severity.blend_share
        share = low + (high - low) * self._uniform(n, 1)
        share = torch.where(self._uniform(n, 1) < 0.5, share, 1 - share)
        other = self._galaxy(n, self._signed(self.severity.blend_kms, n))
        return (1 - share) * self._galaxy(n, torch.zeros_like(share)) + share * other, None

    def _dusty(self, redshift: Tensor) -> tuple[Tensor, Damage | None]:
        """More dust than the network knows."""
        low, high = self.severity.av
        n = len(redshift)
        return self._galaxy(n, torch.zeros(n, 1, device=redshift.device), low + (high - low) * self._uniform(n)), None

    def _dead(self, redshift: Tensor) -> tuple[Tensor, Damage | None]:
        """Channels that record nothing, and a variance that does not tell."""
        n, severity = len(redshift), self.severity
        (low, high), (least, most) = severity.dead_runs, severity.dead_width
        index = torch.arange(len(self._wavelength), device=redshift.device)
        number = low + (high - low + 1) * self._uniform(n, 1)
        dead = torch.zeros(n, len(index), dtype=torch.bool, device=redshift.device)
        for k in range(high):
            width = least + (most - least + 1) * self._uniform(n, 1)
            offset = index - self._uniform(n, 1) * (len(index) - width)
            dead |= (offset >= 0) & (offset < width) & (number > k + (k > 0))
        level = torch.where(self._uniform(n, 1) < 0.6, 0.0, 0.6 * self._uniform(n, 1))
        noisy = (self._uniform(n, 1) < 0.5).float()

        def damage(flux: Tensor, around: Circumstances) -> Tensor:
            silent = level + noisy * around.noise * self.effects.normal(*flux.shape)
            return torch.where(dead, silent, flux)

        return self._galaxy(n, torch.zeros(n, 1, device=redshift.device)), damage

    def _step(self, redshift: Tensor) -> tuple[Tensor, Damage | None]:
        """A step in the flux calibration."""
        n = len(redshift)
        place = 4950.0 + 1950.0 * self._uniform(n, 1)
        size = self.effects.log_uniform(self.severity.step, n, 1)
        size = torch.where(self._uniform(n, 1) < 0.5, size, -size)
        return self._galaxy(n, torch.zeros_like(size)) * (1 + size * (self._wavelength > place)), None

    def _sky(self, redshift: Tensor) -> tuple[Tensor, Damage | None]:
        """The night sky where nothing, or not all, was subtracted: sunlight, airglow and their lines."""
        n = len(redshift)
        sun = self._sunlight(n, redshift)
        glow = (self._wavelength / 5900.0) ** (2.0 * self._uniform(n, 1) - 0.5)
        share = self._uniform(n, 1)
        brightness = self.effects.log_uniform((0.05, 1.0), n, 1)
        observed = self._wavelength * (1 + redshift)
        lines = torch.zeros_like(observed)
        for centre, height in NIGHT:
            scatter = torch.exp(0.3 * self.effects.normal(n, 1))
            lines += height * scatter * torch.exp(-0.5 * ((observed - centre) / 1.15).square())
        added = brightness * lines

        def damage(flux: Tensor, around: Circumstances) -> Tensor:
            found = added > FILTER_SIGMA * around.noise + 0.02
            found[:, 1:] |= found[:, :-1].clone()
            found[:, :-1] |= found[:, 1:].clone()
            around.known &= ~found
            return flux + added

        return share * sun + (1 - share) * glow, damage

    def _noise(self, redshift: Tensor) -> tuple[Tensor, Damage | None]:
        """Next to no light."""
        return torch.ones(len(redshift), len(self._wavelength), device=redshift.device), None

    # --- what they are made of ---

    def _galaxy(self, n: int, velocity: Tensor, av: Tensor | None = None) -> Tensor:
        """Ordinary light (n, 948) of median one at any velocity (n, 1) km/s, with some dispersion."""
        grid = self.stream.populations(n)
        drawn, dispersion, _ = self.stream.circumstances(n)
        decoder = self.stream.paper.decoder
        fine = grid.flatten(1) @ decoder.coefficients @ decoder.components
        fine = fine * torch.exp((drawn if av is None else av)[:, None] * self._curve)
        step = float(FINE_EDGES[1] - FINE_EDGES[0])
        sigma = (dispersion.square() + 30.0**2).sqrt()[:, None] / C_KMS * 5900.0 / step
        padded = torch.nn.functional.pad(fine[:, None], (64, 64), mode="replicate")[:, 0]
        frequency = torch.fft.rfftfreq(padded.shape[1], device=fine.device) * 2 * np.pi
        smooth = torch.fft.irfft(
            torch.fft.rfft(padded) * torch.exp(-0.5 * (sigma * frequency).square()), n=padded.shape[1]
        )[:, 64:-64]
        smooth = torch.nn.functional.avg_pool1d(smooth[:, None], 5, 1, padding=2, count_include_pad=False)[:, 0]
        first = float(FINE_EDGES[0]) + step / 2
        place = ((self._wavelength / (1 + velocity / C_KMS) - first) / step).clamp(0, fine.shape[1] - 1.001)
        below = place.long()
        share = place - below
        light = smooth.gather(1, below) * (1 - share) + smooth.gather(1, below + 1) * share
        return light / kept_median(light)[:, None]

    def _sunlight(self, n: int, redshift: Tensor) -> Tensor:
        """A population of the Sun's colour and lines, as good as the Sun here, at rest."""
        decoder = self.stream.paper.decoder
        age = int(np.abs(decoder.ages_gyr - 5.0).argmin())
        metallicity = int(np.abs(decoder.metallicities).argmin())
        one = decoder.coefficients[metallicity * decoder.shape[1] + age] @ decoder.components
        step = float(FINE_EDGES[1] - FINE_EDGES[0])
        place = (self._wavelength * (1 + redshift) - float(FINE_EDGES[0])) / step - 0.5
        place = place.clamp(0, len(one) - 1.001)
        below = place.long()
        light = one[below] * (1 - (place - below)) + one[below + 1] * (place - below)
        return light / kept_median(light)[:, None]

    def _signed(self, size: tuple[float, float], n: int) -> Tensor:
        value = size[0] + (size[1] - size[0]) * self._uniform(n, 1)
        return torch.where(self._uniform(n, 1) < 0.5, value, -value)

    def _uniform(self, *shape: int) -> Tensor:
        return self.effects.uniform(*shape)
