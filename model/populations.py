"""What a fit says of each spectrum: mean age, metallicity, attenuation, and the model's spectrum."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.masses import MassScale, mass_means, mass_per_flux, mass_to_light_v

#: Numbers that get an interval: dex, dex, mag, dex, dex; log10 of the mass-to-light ratio in V, and of the mass for a
#: given flux, dex.
APPRAISED: Final = (
    "log_age", "metallicity", "av", "log_age_mw", "metallicity_mw", "log_mass_to_light", "log_mass",
)  # fmt: skip


@dataclass(frozen=True)
class Populations:
    """Stellar populations of n spectra; a spectrum that was not fitted has NaN everywhere.

    Errors are standard deviations: 68 % of the true values lie within one, 95 % within two. Errors, `trust` and
    `noise_scale` are NaN when the weights have no appraisal.

    Attributes
    ----------
    log_age, log_age_error : (n,) float32
        Light-weighted mean of log10(age / yr).
    metallicity, metallicity_error : (n,) float32
        Light-weighted mean [M/H].
    av, av_error : (n,) float32
        Attenuation by dust inside the galaxy, mag, O'Donnell (1994) with R_V = 3.1.
    log_age_mw, log_age_mw_error, metallicity_mw, metallicity_mw_error : (n,) float32
        The same means weighted by the mass formed.
    mass_to_light, mass_to_light_error : (n,) float32
        Mass in stars and remnants over the V-band luminosity without dust, solar units.
    t50, t90 : (n,) float32
        Lookback times by which 50 % and 90 % of the mass had formed, Gyr.
    trust : (n,) float32
        Share of ordinary spectra of this signal-to-noise ratio that look as odd as this one, or odder.
    noise_scale : (n,) float32
        Scatter of the residuals in units of the stated noise; the errors are for the noise that the residuals show.
    grid : (n, n_metallicity, n_age) float32
        Light fractions, summing to one.
    model_flux : (n, 948) float64
        Model spectrum at rest-frame `galprote.model.grids.WAVELENGTH`, emission bands included, in the input's unit.
    dispersion, velocity : (n,) float32
        What the model spectrum was made with, km/s: beyond the instrument's resolution, and off the assumed redshift,
        positive to the red. Zero from a plain network, which knows neither. No measurement: of a refining network's
        answer they are the part that takes care of the rest.
    status : (n,) int32
        Bits of `galprote.pipeline.quality.Status`; zero is a good fit without remarks.
    """

    log_age: NDArray[np.float32]
    log_age_error: NDArray[np.float32]
    metallicity: NDArray[np.float32]
    metallicity_error: NDArray[np.float32]
    av: NDArray[np.float32]
    av_error: NDArray[np.float32]
    log_age_mw: NDArray[np.float32]
    log_age_mw_error: NDArray[np.float32]
    metallicity_mw: NDArray[np.float32]
    metallicity_mw_error: NDArray[np.float32]
    mass_to_light: NDArray[np.float32]
    mass_to_light_error: NDArray[np.float32]
    t50: NDArray[np.float32]
    t90: NDArray[np.float32]
    trust: NDArray[np.float32]
    noise_scale: NDArray[np.float32]
    grid: NDArray[np.float32]
    model_flux: NDArray[np.floating]
    dispersion: NDArray[np.float32]
    velocity: NDArray[np.float32]
    status: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.log_age)


def grid_means(
    grid: NDArray[np.floating], log_ages: NDArray[np.float64], metallicities: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Light-weighted mean log age and [M/H] of (n, n_metallicity, n_age) grids: two (n,) float32 arrays."""
    log_age = grid.sum(axis=1, dtype=np.float64) @ log_ages
    metallicity = grid.sum(axis=2, dtype=np.float64) @ metallicities
    return log_age.astype(np.float32), metallicity.astype(np.float32)


def derived(
    grid: NDArray[np.floating], av: NDArray[np.floating], norm: NDArray[np.floating], scale: MassScale
) -> dict[str, NDArray[np.float32]]:
    """Everything that has an interval, by the names of `APPRAISED`, each (n,) float32.

    Parameters
    ----------
    grid : (n, n_metallicity, n_age) float
        Light fractions.
    av : (n,) float
        mag.
    norm : (n,) float
        Median of the mixture of templates behind its dust (`galprote.model.masses.mass_per_flux`).
    scale : MassScale
    """
    log_age, metallicity = grid_means(grid, scale.log_ages, scale.metallicities)
    log_age_mw, metallicity_mw = mass_means(grid, scale)
    values = (
        log_age,
        metallicity,
        av.astype(np.float32),
        log_age_mw,
        metallicity_mw,
        np.log10(mass_to_light_v(grid, scale)),
        np.log10(mass_per_flux(grid, norm, scale)),
    )
    return dict(zip(APPRAISED, values, strict=True))
