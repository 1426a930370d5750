"""Masses behind the light: what a grid of light fractions says of mass, mass-to-light ratio and formation times.

A template holds the light of one solar mass formed, so light fractions divided by the templates' median flux are masses
formed. Of these, the part that is still in stars and remnants is the stellar mass; the gas that stars gave back is
neither stellar mass nor counted again. Means and formation times are weighted by mass formed, as pPXF's are
(`ppxf.sps_util`); stellar masses, surface densities and M/L are of the mass present.

The templates' unit must be L_sun / Angstrom per solar mass formed, the convention of MILES, E-MILES and pPXF's files.
(MILES took L_sun = 3.826e33 erg/s, 0.05 % below the IAU's.) Shapes: n spectra, Z metallicities, A ages.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.decoder import FINE_EDGES, Decoder

#: Nominal solar luminosity, erg/s (IAU 2015 resolution B3).
SOLAR_LUMINOSITY: Final = 3.828e33

#: Absolute magnitude of the Sun in V, AB system: zero is 3631 Jy (Willmer 2018, ApJS 236, 47).
SOLAR_V_AB: Final = 4.80

#: Bessell (1990, PASP 102, 1181, table 2): V from 4700 to 7000 Angstrom in steps of 100. It is a response to energy: a
#: photon counter's response times wavelength (Bessell & Murphy 2012, PASP 124, 140, appendix).
V_BAND: Final = (
    0.000, 0.030, 0.163, 0.458, 0.780, 0.967, 1.000, 0.973, 0.898, 0.792, 0.684, 0.574,
    0.461, 0.359, 0.270, 0.197, 0.135, 0.081, 0.045, 0.025, 0.017, 0.013, 0.009, 0.000,
)  # fmt: skip

#: Parsec in cm, speed of light in Angstrom/s, second of arc in radian.
PARSEC_CM: Final = 3.0856775814913673e18
SPEED_OF_LIGHT: Final = 2.99792458e18
ARCSEC: Final = np.pi / 648000.0


def remaining_mass(ages_gyr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the mass formed that is still in living stars and remnants.

    1 - 0.05 ln(1 + t / 1.4 Myr): Behroozi, Wechsler & Conroy (2013, ApJ 770, 57, equation 14), for a Chabrier IMF and
    any metallicity. Gas that stars gave back does not count.

    Kroupa's IMF keeps a little more. At 0.1, 1 and 10 Gyr the formula gives 0.79, 0.67 and 0.56. FSPS with Kroupa's
    IMF: 0.79, 0.69 and 0.59 (fit in DSPS 0.4.8). MILES' table for Salpeter's slope at solar metallicity (Vazdekis et
    al. 2012, in pPXF 8.2.6): 0.85, 0.78 and 0.72, hence 0.80, 0.71 and 0.63 for Kroupa's IMF between 0.1 and 100 M_sun,
    which returns 1.305 times the gas because it has fewer dwarfs. So behind Kroupa templates stellar masses are right
    to 2 % where stars are young and 6 to 12 % low where they are old; no other quantity here depends on it but M/L.

    Parameters
    ----------
    ages_gyr : (...) float64

    Returns
    -------
    (...) float64
        One at birth.
    """
    return np.asarray(1.0 - 0.05 * np.log1p(np.asarray(ages_gyr) * 1e3 / 1.4))


def age_edges(ages_gyr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of the age bins that the templates stand for: today, midpoints in log age, and a little past the oldest.

    Parameters
    ----------
    ages_gyr : (n_age,) float64, increasing

    Returns
    -------
    (n_age + 1,) float64
        Gyr.
    """
    oldest = max(ages_gyr[-1] * 1.02, ages_gyr[-1] + 0.25)
    return np.concatenate([[0.0], np.sqrt(ages_gyr[1:] * ages_gyr[:-1]), [oldest]])


def v_response(wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bessell's V, response to energy, at wavelengths in Angstrom: shape kept, float64, zero outside 4700-7000."""
    table = 4700.0 + 100.0 * np.arange(len(V_BAND))
    return np.interp(wavelength, table, V_BAND, left=0.0, right=0.0)


def solar_v_luminosity() -> float:
    """Mean luminosity density of the Sun in V, L_sun / Angstrom, from its AB magnitude.

    A photon counter sees the mean of f_lambda weighted by wavelength times its response, hence by `v_response`. The
    pivot wavelength, 5477 Angstrom, turns AB's f_nu into f_lambda exactly.
    """
    wavelength = (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2
    response = v_response(wavelength)
    pivot_squared = response.sum() / (response / wavelength**2).sum()
    flux = 3631e-23 * 10 ** (-0.4 * SOLAR_V_AB) * SPEED_OF_LIGHT / pivot_squared
    return float(4 * np.pi * (10 * PARSEC_CM) ** 2 * flux / SOLAR_LUMINOSITY)


@dataclass(frozen=True)
class MassScale:
    """What one unit of light means in mass, template by template.

    The unit of light is the template's median over the 876 kept samples without dust, L_sun / Angstrom: the same in
    which grids are light fractions.

    Attributes
    ----------
    log_ages : (n_age,) float64
        log10(age / yr).
    metallicities : (n_metallicity,) float64
        [M/H].
    formed : (n_metallicity, n_age) float64
        Mass formed, M_sun per (L_sun / Angstrom).
    present : (n_metallicity, n_age) float64
        Mass now in stars and remnants, same unit.
    luminosity_v : (n_metallicity, n_age) float64
        V-band luminosity, solar V luminosities per (L_sun / Angstrom). Bessell's V is zero outside 4700-7000 Angstrom,
        and the decoder's fine samples cover 4698-7151: nothing of the band is missing.
    age_edges : (n_age + 1,) float64
        Of the age bins, Gyr.
    """

    log_ages: NDArray[np.float64]
    metallicities: NDArray[np.float64]
    formed: NDArray[np.float64]
    present: NDArray[np.float64]
    luminosity_v: NDArray[np.float64]
    age_edges: NDArray[np.float64]

    @classmethod
    def of(cls, decoder: Decoder) -> "MassScale":
        """Scale of a decoder whose library is in L_sun / Angstrom per solar mass formed."""
        formed = 1.0 / decoder.median_flux.double().cpu().numpy()
        response = v_response((FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2)
        # Through the band first, then combined: 636 numbers instead of as many spectra.
        component_v = decoder.components.double().cpu().numpy() @ (response / response.sum())
        template_v = (decoder.coefficients.double().cpu().numpy() @ component_v).reshape(decoder.shape)
        return cls(
            decoder.log_ages,
            decoder.metallicities,
            formed,
            formed * remaining_mass(decoder.ages_gyr),
            template_v / solar_v_luminosity(),
            age_edges(decoder.ages_gyr),
        )


def mass_fractions(grid: NDArray[np.floating], scale: MassScale) -> NDArray[np.float32]:
    """Fractions of the mass formed.

    Parameters
    ----------
    grid : (n, n_metallicity, n_age) float32
        Light fractions; NaN gives NaN.
    scale : MassScale

    Returns
    -------
    (n, n_metallicity, n_age) float32
        Summing to one.
    """
    mass = grid.astype(np.float64) * scale.formed
    mass /= mass.sum(axis=(1, 2), keepdims=True)
    return mass.astype(np.float32)


def mass_means(grid: NDArray[np.floating], scale: MassScale) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means weighted by mass formed (equation 39 of Cappellari 2023, MNRAS 526, 3273).

    Parameters
    ----------
    grid : (n, n_metallicity, n_age) float32
        Light fractions.
    scale : MassScale

    Returns
    -------
    log_age : (n,) float32
        Mean of log10(age / yr), not log10 of the mean age.
    metallicity : (n,) float32
        Mean [M/H].
    """
    mass = _total(grid, scale.formed)
    log_age = _total(grid, scale.formed * scale.log_ages) / mass
    metallicity = _total(grid, scale.formed * scale.metallicities[:, None]) / mass
    return log_age.astype(np.float32), metallicity.astype(np.float32)


def mass_to_light_v(grid: NDArray[np.floating], scale: MassScale) -> NDArray[np.float32]:
    """Mass in stars and remnants over V-band luminosity without dust, solar units (pPXF's `mass_to_light`).

    The V luminosities are those of MILES: with the masses of MILES' own table this gives the M/L of that table, for 150
    populations of a Salpeter slope, to 0.2 %.

    Parameters
    ----------
    grid : (n, n_metallicity, n_age) float32
        Light fractions.
    scale : MassScale

    Returns
    -------
    (n,) float32
    """
    return (_total(grid, scale.present) / _total(grid, scale.luminosity_v)).astype(np.float32)


def mass_per_flux(grid: NDArray[np.floating], norm: NDArray[np.floating], scale: MassScale) -> NDArray[np.float32]:
    """Mass in stars and remnants behind one unit of the observed median, dust undone.

    Parameters
    ----------
    grid : (n, n_metallicity, n_age) float32
        Light fractions.
    norm : (n,) float32
        Median over the kept samples of the templates so combined and reddened, before it is divided by it: 1 without
        dust and for one template, less behind dust.
    scale : MassScale

    Returns
    -------
    (n,) float32
        M_sun per (L_sun / Angstrom) of the reddened spectrum's median at rest.
    """
    return (_total(grid, scale.present) / norm.astype(np.float64)).astype(np.float32)


def surface_density(
    flux_cgs: NDArray[np.floating],
    mass_per_flux: NDArray[np.floating],
    pixel_area_arcsec2: float,
    redshift: NDArray[np.floating] | float,
) -> NDArray[np.float32]:
    """Stellar mass per area across the line of sight; not corrected for inclination.

    With L = 4 pi d_L^2 (1 + z) f per Angstrom at rest, area theta^2 d_A^2 and d_L = (1 + z)^2 d_A the distance cancels,
    and (1 + z)^5 stays. It holds for the observed redshift whatever its cause, as I_nu / nu^3 is the same for all
    observers: nearby galaxies need no correction of their motion.

    Parameters
    ----------
    flux_cgs : (n,) float
        Median over the kept samples of the observed flux density of one pixel, erg/s/cm2/Angstrom in the observer's
        frame (not multiplied by 1 + z), corrected for the Milky Way's dust.
    mass_per_flux : (n,) float32
        Of `mass_per_flux`, M_sun per (L_sun / Angstrom).
    pixel_area_arcsec2 : float
    redshift : float or (n,) float

    Returns
    -------
    (n,) float32
        M_sun / pc2.
    """
    dimming = (1.0 + np.asarray(redshift, dtype=np.float64)) ** 5
    # Luminosity density per area, L_sun / Angstrom / pc2, for each erg/s/cm2/Angstrom.
    brightness = 4 * np.pi * PARSEC_CM**2 / (SOLAR_LUMINOSITY * pixel_area_arcsec2 * ARCSEC**2) * dimming
    density = np.asarray(flux_cgs, dtype=np.float64) * brightness * np.asarray(mass_per_flux, dtype=np.float64)
    return density.astype(np.float32)


def stellar_mass(density: NDArray[np.floating], pixel_area_arcsec2: float, distance_mpc: float) -> NDArray[np.float32]:
    """Mass of pixels in M_sun from surface densities (n,) in M_sun / pc2, and the angular-diameter distance in Mpc."""
    area_pc2 = pixel_area_arcsec2 * (ARCSEC * distance_mpc * 1e6) ** 2
    return (np.asarray(density, dtype=np.float64) * area_pc2).astype(np.float32)


def formation_times(grid: NDArray[np.floating], scale: MassScale) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lookback times by which 50 % and 90 % of the mass formed had formed, counted from the oldest stars.

    Stars form uniformly in time within an age bin: a constant rate over the last T gives T / 2 and T / 10.

    Parameters
    ----------
    grid : (n, n_metallicity, n_age) float32
        Light fractions; NaN gives NaN.
    scale : MassScale

    Returns
    -------
    t50, t90 : (n,) float32
        Gyr.
    """
    mass = np.einsum("nza,za->na", grid.astype(np.float64), scale.formed)
    mass /= mass.sum(axis=1, keepdims=True)
    return _lookback(mass, 0.5, scale.age_edges), _lookback(mass, 0.1, scale.age_edges)


def _lookback(mass: NDArray[np.float64], younger: float, edges: NDArray[np.float64]) -> NDArray[np.float32]:
    """Lookback time (n,) Gyr since which the share `younger` of the mass (n, n_age) formed."""
    since = np.concatenate([np.zeros((len(mass), 1)), mass.cumsum(axis=1)], axis=1)
    # The oldest bin that begins with no more than the share: it always holds stars, so nothing is divided by zero.
    row, age_bin = np.arange(len(mass)), (since[:, 1:-1] <= younger).sum(axis=1)
    part = (younger - since[row, age_bin]) / mass[row, age_bin]
    lookback: NDArray[np.float64] = edges[age_bin] + part * np.diff(edges)[age_bin]
    return lookback.astype(np.float32)


def _total(grid: NDArray[np.floating], per_light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over a grid (n, n_metallicity, n_age) of light times a quantity per unit of light: (n,) float64."""
    return np.asarray(grid.reshape(len(grid), per_light.size).astype(np.float64) @ per_light.ravel())
