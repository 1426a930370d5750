"""What a fit says of each spectrum: mean age, metallicity, attenuation, and the model's spectrum."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Populations:
    """Stellar populations of n spectra; a spectrum that was not fitted has NaN everywhere.

    Attributes
    ----------
    log_age : (n,) float32
        Light-weighted mean of log10(age / yr).
    metallicity : (n,) float32
        Light-weighted mean [M/H].
    av : (n,) float32
        Attenuation by dust inside the galaxy, mag, O'Donnell (1994) with R_V = 3.1.
    grid : (n, n_metallicity, n_age) float32
        Light fractions, summing to one.
    model_flux : (n, 948) float64
        Model spectrum at rest-frame `galprote.model.grids.WAVELENGTH`, emission bands included, in the input's unit.
    dispersion, velocity : (n,) float32
        What the model spectrum was made with, km/s: beyond the instrument's resolution, and off the assumed redshift,
        positive to the red. Zero from a plain network, which knows neither. No measurement: of a refining network's
        answer they are the part that takes care of the rest.
    status : (n,) uint16
        Bits of `galprote.pipeline.quality.Status`; zero is a good fit without remarks.
    """

    log_age: NDArray[np.float32]
    metallicity: NDArray[np.float32]
    av: NDArray[np.float32]
    grid: NDArray[np.float32]
    model_flux: NDArray[np.floating]
    dispersion: NDArray[np.float32]
    velocity: NDArray[np.float32]
    status: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.log_age)


def grid_means(
    grid: NDArray[np.float32], log_ages: NDArray[np.float64], metallicities: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Light-weighted mean log age and [M/H] of (n, n_metallicity, n_age) grids: two (n,) float32 arrays."""
    log_age = grid.sum(axis=1, dtype=np.float64) @ log_ages
    metallicity = grid.sum(axis=2, dtype=np.float64) @ metallicities
    return log_age.astype(np.float32), metallicity.astype(np.float32)
