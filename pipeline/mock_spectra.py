"""From the maps of a mock galaxy to what a spectrograph records of it, one row of spaxels at a time.

Everything random in a row comes from generators seeded with the row's number, and a row is always computed in the same
pieces: the result does not depend on how rows are grouped for writing.

Shapes: n spaxels, m channels, f fine samples of the decoder, l emission lines.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from galprote.model.artefacts import NOTCH
from galprote.model.decoder import FINE_EDGES, Decoder
from galprote.model.extinction import extinction_curve
from galprote.model.grids import KEPT, STEP, kept_samples
from galprote.model.line_spread import FWHM_PER_SIGMA, MUSE
from galprote.model.masses import MassScale, mass_means, mass_per_flux, surface_density
from galprote.model.populations import grid_means
from galprote.pipeline.mock_galaxy import (
    ALL_SLICES,
    CHANNEL,
    SLICES,
    SPAXEL_ARCSEC,
    SPEED_OF_LIGHT_KMS,
    Galaxy,
    MockConfig,
)

Array = NDArray[np.float64]

#: Rest-frame air wavelengths of the emission lines, Angstrom.
EMISSION_LINES: Final = {
    "Hbeta": 4861.33,
    "[OIII]4959": 4958.91,
    "[OIII]5007": 5006.84,
    "[OI]6300": 6300.30,
    "[NII]6548": 6548.05,
    "Halpha": 6562.80,
    "[NII]6583": 6583.45,
    "[SII]6716": 6716.44,
    "[SII]6731": 6730.82,
}
#: Velocity dispersion of the gas, and its attenuation relative to that of the stars (Calzetti et al. 2000).
GAS_DISPERSION_KMS: Final = 30.0
GAS_DUST: Final = 2.0
#: Case B ratio Halpha / Hbeta at 10,000 K (Osterbrock & Ferland 2006).
BALMER_DECREMENT: Final = 2.86

#: Night-sky lines: observed air wavelength, and peak brightness in units of the sky's continuum. The last are OH lines
#: beyond the model's window.
SKY_LINES: Final = (
    (5577.34, 60.0), (5889.95, 8.0), (5895.92, 5.0), (6300.30, 40.0), (6363.78, 14.0), (6863.96, 12.0),
    (6923.22, 10.0), (6948.94, 8.0), (6978.26, 5.0), (7276.41, 14.0), (7316.28, 12.0), (7340.89, 14.0),
    (7750.65, 14.0), (7794.12, 18.0), (7821.50, 16.0), (7913.71, 20.0), (7964.65, 16.0), (7993.34, 18.0),
    (8344.60, 18.0), (8399.17, 20.0), (8430.17, 18.0), (8827.10, 18.0), (8885.85, 20.0), (8919.64, 18.0),
    (8958.10, 16.0), (9313.00, 16.0),
)  # fmt: skip
#: Residuals of the sky subtraction at a line, in units of the noise there.
SKY_RESIDUAL: Final = 2.5

#: Spaxels that are computed together: their arrays stay in a CPU's cache.
_PIECE: Final = 128
_FINE_STEP: Final = float(FINE_EDGES[1] - FINE_EDGES[0])
#: Longest run of channels with bad variance.
_LONGEST_RUN: Final = 6


@dataclass(frozen=True)
class RowSpectra:
    """Spectra and truth of the observed spaxels of one row.

    Attributes
    ----------
    columns : (n,) int64
        Where they are in the row.
    flux, variance : (n, m) float32
        1e-20 erg/s/cm2/Angstrom, and its square.
    log_age, metallicity : (n,) float32
        Light-weighted means of the populations.
    log_age_mw, metallicity_mw : (n,) float32
        The same, weighted by the mass formed.
    density : (n,) float32
        Mass of stars and remnants, M_sun/pc2.
    snr : (n,) float32
        Median true signal-to-noise ratio of the stars per model sample of 2.48 A rest frame.
    lines : (n, l) float32
        True fluxes of `EMISSION_LINES` behind all the dust, 1e-20 erg/s/cm2; zero without emission.
    """

    columns: NDArray[np.int64]
    flux: NDArray[np.float32]
    variance: NDArray[np.float32]
    log_age: NDArray[np.float32]
    metallicity: NDArray[np.float32]
    log_age_mw: NDArray[np.float32]
    metallicity_mw: NDArray[np.float32]
    density: NDArray[np.float32]
    snr: NDArray[np.float32]
    lines: NDArray[np.float32]


def population_grid(galaxy: Galaxy, y: int, columns: NDArray[np.int64], decoder: Decoder) -> NDArray[np.float32]:
    """Light fractions of some spaxels of a row: an old and a young population, smooth in log age and [M/H].

    Parameters
    ----------
    galaxy : Galaxy
    y : int
        The row.
    columns : (n,) int64
    decoder : Decoder
        Its ages and metallicities are the grid's axes.

    Returns
    -------
    (n, n_metallicity, n_age) float32
        Summing to one.
    """
    young = galaxy.young_fraction[y, columns]
    metallicity = galaxy.metallicity[y, columns]
    parts = (
        (1 - young, galaxy.log_age_old[y, columns], 0.13, metallicity),
        (young, galaxy.log_age_young[y, columns], 0.18, metallicity + 0.08),
    )
    grid = np.zeros((len(columns), *decoder.shape))
    for share, log_age, width, centre in parts:
        ages = _gaussian_cells(decoder.log_ages, log_age, width)
        metals = _gaussian_cells(decoder.metallicities, centre, 0.12)
        grid += share[:, None, None] * metals[:, :, None] * ages[:, None, :]
    return grid.astype(np.float32)


def _gaussian_cells(nodes: Array, centre: Array, sigma: float) -> Array:
    """Share of a Gaussian in the cell of each node, (n, k), rows summing to one: the nodes are not equally spaced."""
    middle = (nodes[1:] + nodes[:-1]) / 2
    edges = np.concatenate([[2 * nodes[0] - middle[0]], middle, [2 * nodes[-1] - middle[-1]]])
    share = np.diff(ndtr((edges - centre[:, None]) / sigma), axis=1)
    return np.asarray(share / share.sum(axis=1, keepdims=True))


class MockSpectra:
    """Makes the spectra of a mock galaxy row by row.

    Parameters
    ----------
    config : MockConfig
    galaxy : Galaxy
    decoder : Decoder
        Template spectra, on the CPU.
    """

    def __init__(self, config: MockConfig, galaxy: Galaxy, decoder: Decoder) -> None:
        self.config = config
        self.galaxy = galaxy
        self.decoder = decoder
        self.wavelength = config.wavelength
        self.edges = np.append(self.wavelength - CHANNEL / 2, self.wavelength[-1] + CHANNEL / 2)
        self._foreground = 10 ** (-0.4 * 3.1 * config.ebv * extinction_curve(self.wavelength))
        self._lines = np.array(list(EMISSION_LINES.values()))
        self._line_reddening = extinction_curve(self._lines) - extinction_curve(np.array([EMISSION_LINES["Halpha"]]))
        self._masses = MassScale.of(decoder)
        self._templates, self._attenuation = decoder.templates().numpy(), decoder.attenuation().numpy()
        self._extension = self._margins()
        self._sky_variance, self._residuals = self._sky()
        # What the brightest spaxel's noise leaves over when the sky's is taken away grows with the flux.
        self._gain = ((config.peak_flux / config.peak_snr) ** 2 - config.sky_noise**2) / config.peak_flux
        self._measured = kept_samples(self.wavelength / (1 + config.redshift))
        self._lost = (self.wavelength >= NOTCH[0]) & (self.wavelength <= NOTCH[1]) & config.ao_notch

    def row(self, y: int) -> RowSpectra:
        """Make one row of the cube.

        Parameters
        ----------
        y : int

        Returns
        -------
        RowSpectra
        """
        columns = np.flatnonzero(self.galaxy.inside[y])
        random = np.random.default_rng([self.config.seed, 1, y])
        places = range(0, max(len(columns), 1), _PIECE)  # of a row without any light one, empty
        pieces = [self._piece(y, columns[place : place + _PIECE], random) for place in places]
        flux, variance, *truth = (np.concatenate(part) for part in zip(*pieces, strict=True))
        self._spoil_variance(variance, np.random.default_rng([self.config.seed, 2, y]))
        flux[:, self._lost] = variance[:, self._lost] = np.nan
        return RowSpectra(columns, flux, variance, *truth)

    def _piece(self, y: int, columns: NDArray[np.int64], random: np.random.Generator) -> list[NDArray[np.float32]]:
        """Flux, variance and truth of a few spaxels, in the order of `RowSpectra`."""
        grid = population_grid(self.galaxy, y, columns, self.decoder)
        av = self.galaxy.av[y, columns]
        fine = self.decoder.fine_spectra(torch.from_numpy(grid), torch.from_numpy(av.astype(np.float32)))
        rest = fine.numpy().astype(np.float64) * self.galaxy.flux[y, columns, None]
        shift = (1 + self.config.redshift) * (1 + self.galaxy.velocity_kms[y, columns] / SPEED_OF_LIGHT_KMS)
        stars = self._observe(rest, shift) * self._foreground
        lines = self._line_fluxes(rest, shift, av, y, columns)
        light = stars + self._gas(lines, shift) * self._foreground if self.config.emission else stars
        variance = (self._sky_variance + self._gain * np.maximum(light, 0)).astype(np.float32)
        snr = np.median((stars / np.sqrt(variance))[:, self._measured], axis=1)
        flux = light + self._residuals[self.galaxy.sky_slice[y, columns]] if self.config.sky_residuals else light
        if self.config.noise:
            flux = flux + random.standard_normal(flux.shape, dtype=np.float32) * np.sqrt(variance)
        means = grid_means(grid, self.decoder.log_ages, self.decoder.metallicities)
        density = self._density(grid, av, self.galaxy.flux[y, columns])
        masses = (*mass_means(grid, self._masses), density)
        per_sample = np.sqrt(STEP * (1 + self.config.redshift) / CHANNEL)
        # The foreground's slope across a line cancels: what remains is its extinction at the centre.
        lines *= np.interp(self._lines * shift[:, None], self.wavelength, self._foreground) * self.config.emission
        return [values.astype(np.float32) for values in (flux, variance, *means, *masses, snr * per_sample, lines)]

    def _density(self, grid: NDArray[np.float32], av: Array, flux: Array) -> NDArray[np.float32]:
        """Surface density of the stars' mass (n,), M_sun/pc2."""
        dim = 10 ** (-0.4 * av[:, None] * self._attenuation)
        mixture = (grid.reshape(len(grid), len(self._templates)) @ self._templates) * dim
        per_flux = mass_per_flux(grid, np.median(mixture[:, KEPT], axis=1), self._masses)
        return surface_density(flux * 1e-20, per_flux, SPAXEL_ARCSEC**2, self.config.redshift)

    def _margins(self) -> tuple[int, int]:
        """Fine samples that the cube's ends need beyond the decoder's, on the blue and the red side."""
        fastest = self.config.rotation_kms / SPEED_OF_LIGHT_KMS
        blue = self.edges[0] / (1 + self.config.redshift) / (1 + fastest)
        red = self.edges[-1] / (1 + self.config.redshift) / (1 - fastest)
        low, high = (FINE_EDGES[0] - blue) / _FINE_STEP, (red - FINE_EDGES[-1]) / _FINE_STEP
        return max(int(np.ceil(low)), 0) + 3, max(int(np.ceil(high)), 0) + 3

    def _observe(self, rest: Array, shift: Array) -> Array:
        """Shift fine rest-frame spectra (n, f) by 1 + z and integrate them over the channels: (n, m).

        A channel's flux is the difference of the cumulative flux at its edges: flux is conserved. A cubic through the
        four nearest fine edges keeps the lines as narrow as they are.
        """
        blue, red = self._extension
        bluer, redder = _continued(rest[:, ::-1], blue, -1)[:, ::-1], _continued(rest, red, 1)
        extended = np.concatenate([bluer, rest, redder], axis=1)
        cumulative = np.zeros((len(rest), extended.shape[1] + 1))
        np.cumsum(extended, axis=1, out=cumulative[:, 1:])
        position = (self.edges / shift[:, None] - FINE_EDGES[0]) / _FINE_STEP + blue
        node = np.floor(position).astype(np.int64)
        t = position - node
        node += np.arange(len(rest))[:, None] * cumulative.shape[1]
        flat = cumulative.ravel()
        before, after, both = t + 1, t - 1, t * (t - 2)
        at_edge = flat[node] * (before * after * (t - 2) / 2) - flat[node + 1] * (before * both / 2)
        at_edge += flat[node + 2] * (before * t * after / 6) - flat[node - 1] * (after * both / 6)
        return np.asarray(np.diff(at_edge, axis=1) * (_FINE_STEP / CHANNEL * shift[:, None]))

    def _line_fluxes(self, rest: Array, shift: Array, av: Array, y: int, columns: NDArray[np.int64]) -> Array:
        """Fluxes (n, l) of the emission lines behind the galaxy's dust, before the foreground's."""
        aside = np.abs((FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2 - EMISSION_LINES["Halpha"])
        halpha = self.galaxy.halpha_ew[y, columns] * rest[:, (aside > 35) & (aside < 75)].mean(axis=1) * shift
        ratios = _line_ratios(self.galaxy.metallicity[y, columns])
        ratios *= 10 ** (-0.4 * GAS_DUST * av[:, None] * self._line_reddening)
        return np.asarray(halpha[:, None] * ratios)

    def _gas(self, fluxes: Array, shift: Array) -> Array:
        """Spectra (n, m) of the emission lines alone, from their fluxes (n, l)."""
        spectra = np.zeros((len(fluxes), len(self.wavelength)))
        spaxel, around = np.arange(len(fluxes))[:, None], np.arange(-8, 9)
        for rest_wavelength, flux in zip(self._lines, fluxes.T, strict=True):
            centre = rest_wavelength * shift
            sigma = np.hypot(MUSE.fwhm_at(centre) / FWHM_PER_SIGMA, centre * GAS_DISPERSION_KMS / SPEED_OF_LIGHT_KMS)
            channel = np.rint((centre - self.wavelength[0]) / CHANNEL).astype(np.int64)[:, None] + around
            offset = (self.wavelength[channel] - centre[:, None]) / sigma[:, None]
            half = CHANNEL / 2 / sigma[:, None]
            share = ndtr(offset + half) - ndtr(offset - half)
            spectra[spaxel, channel] += share * (flux / CHANNEL)[:, None]
        return spectra

    def _sky(self) -> tuple[Array, Array]:
        """Variance of the sky (m,), and what its subtraction leaves on each slice (ALL_SLICES, m)."""
        position, strength = np.array(SKY_LINES).T
        sigma = MUSE.fwhm_at(position)[:, None] / FWHM_PER_SIGMA
        offset = (self.wavelength - position[:, None]) / sigma
        profile = np.exp(-0.5 * offset**2)
        variance = self.config.sky_noise**2 * (1 + strength @ profile)
        # A wrong brightness leaves a line, a wrong wavelength its derivative; most of either is a whole pointing's.
        random = np.random.default_rng([self.config.seed, 3])
        shape = (ALL_SLICES // SLICES, 1, 2, len(position))
        error = 0.85 * random.standard_normal(shape) + 0.5 * random.standard_normal((shape[0], SLICES, *shape[2:]))
        error *= SKY_RESIDUAL * self.config.sky_noise * np.sqrt(1 + strength)
        brightness, wavelength = error.reshape(ALL_SLICES, 2, -1).transpose(1, 0, 2)
        return variance, brightness @ profile + wavelength @ (0.7 * offset * profile)

    def _spoil_variance(self, variance: NDArray[np.float32], random: np.random.Generator) -> None:
        """Make runs of some channels zero, negative or NaN, in place."""
        n, m = variance.shape
        runs = random.poisson(self.config.bad_variance_fraction * n * m / ((1 + _LONGEST_RUN) / 2))
        spaxel, start, length = (random.integers(0, high, runs) for high in (n, m, _LONGEST_RUN))
        value = random.choice(np.array([0.0, -1.0, np.nan], dtype=np.float32), runs)
        channel = start[:, None] + np.arange(_LONGEST_RUN)
        used = (np.arange(_LONGEST_RUN) <= length[:, None]) & (channel < m)
        rows, values = np.broadcast_to(spaxel[:, None], used.shape), np.broadcast_to(value[:, None], used.shape)
        variance[rows[used], channel[used]] = values[used]


def _continued(rest: Array, count: int, direction: int) -> Array:
    """Continue spectra (n, f) beyond their last sample by a power law, (n, count); direction -1: `rest` is reversed.

    The law goes through two means of 400 Angstrom; the step at the seam decays over 15 Angstrom.
    """
    width = int(400 / _FINE_STEP)
    centres = ((FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2)[::direction]
    outer, inner = rest[:, -width:].mean(axis=1), rest[:, -3 * width : -2 * width].mean(axis=1)
    pivot, other = centres[-width:].mean(), centres[-3 * width : -2 * width].mean()
    slope = np.log(outer / inner) / np.log(pivot / other)
    distance = _FINE_STEP * np.arange(count + 1)
    law = outer[:, None] * ((centres[-1] + direction * distance) / pivot) ** slope[:, None]
    seam = (rest[:, -1] - law[:, 0])[:, None] * np.exp(-distance[1:] / 15.0)
    return np.asarray(law[:, 1:] + seam)


def _line_ratios(metallicity: Array) -> Array:
    """Fluxes of `EMISSION_LINES` relative to Halpha before dust, (n, l): metal-rich gas is cooler."""
    hbeta = np.full(len(metallicity), 1 / BALMER_DECREMENT)
    oiii = hbeta * np.clip(0.6 * 10 ** (-0.9 * metallicity), 0.2, 4.0)
    nii = 0.33 * 10 ** (0.5 * metallicity)
    one = np.ones(len(metallicity))
    ratios = (hbeta, oiii / 2.98, oiii, 0.025 * one, nii / 3, one, nii, 0.17 * one, 0.12 * one)
    return np.stack(ratios, axis=1)
