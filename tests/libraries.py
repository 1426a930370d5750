"""An analytic template library, and the decoder made from it: stands in for a real one wherever a test needs spectra.

No attempt at real stars, but the right trends, each with its own dependence on age and metallicity so that the two can
be told apart: slopes redden with age, Balmer lines are deepest near half a Gyr, metal lines deepen with both, molecular
bands show in old and metal-rich populations, helium in the youngest.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from galprote.model.decoder import FINE_EDGES, Decoder, build_decoder
from galprote.model.grids import AGES_GYR, METALLICITIES

BALMER = (4861.33, 6562.80)
HELIUM = (4921.93, 5015.68, 5875.62, 6678.15)
#: Rest wavelength, FWHM in Angstrom, depth in an old population of solar metallicity.
METALS = (
    (4920.5, 3.2, 0.14), (4957.5, 3.4, 0.16), (5015.0, 4.0, 0.16), (5167.3, 3.6, 0.30), (5172.7, 3.4, 0.34),
    (5183.6, 3.6, 0.32), (5227.2, 3.2, 0.14), (5269.8, 3.6, 0.24), (5328.3, 3.4, 0.20), (5371.5, 3.2, 0.15),
    (5406.0, 3.4, 0.15), (5446.9, 3.2, 0.13), (5528.4, 3.0, 0.10), (5615.6, 3.2, 0.11), (5709.4, 3.2, 0.09),
    (5782.2, 3.0, 0.08), (6065.5, 3.0, 0.07), (6102.7, 3.0, 0.08), (6122.2, 3.2, 0.11), (6162.2, 3.2, 0.12),
    (6191.6, 3.0, 0.07), (6230.7, 3.0, 0.07), (6336.1, 3.0, 0.06), (6393.6, 3.0, 0.06), (6439.1, 3.0, 0.08),
    (6494.9, 3.4, 0.12), (6643.6, 3.0, 0.05), (6717.7, 3.0, 0.05), (6767.8, 3.0, 0.05), (7065.2, 3.0, 0.03),
)  # fmt: skip
SODIUM = ((5889.95, 3.2, 0.30), (5895.92, 3.2, 0.25))
#: Band heads of TiO, degraded to the red: wavelength, length in Angstrom, depth.
TITANIUM_OXIDE = ((4955.0, 90.0, 0.04), (5167.0, 110.0, 0.05), (5847.0, 110.0, 0.03), (6158.0, 110.0, 0.05),
                  (6651.0, 130.0, 0.05), (7053.0, 130.0, 0.09))  # fmt: skip


def fine_wavelength() -> NDArray[np.float64]:
    """Centres of the decoder's fine samples, Angstrom (3952,)."""
    return (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2


def gaussians(lines: tuple[tuple[float, float, float], ...]) -> NDArray[np.float64]:
    """Sum of absorption lines (3952,)."""
    wavelength = fine_wavelength()
    return np.sum([depth * np.exp(-4 * np.log(2) * ((wavelength - x) / w) ** 2) for x, w, depth in lines], axis=0)


def iron_forest() -> NDArray[np.float64]:
    """180 weak lines at fixed random places, denser in the blue (3952,)."""
    random = np.random.default_rng(2718)
    position = 4690 + 2470 * random.random(180) ** 1.4
    depth = random.uniform(0.01, 0.06, 180) * (5000 / position) ** 3
    return gaussians(tuple((x, 3.0, d) for x, d in zip(position, depth, strict=True)))


def band_heads() -> NDArray[np.float64]:
    """Sum of the molecular bands, with heads of MUSE's resolution (3952,)."""
    wavelength = fine_wavelength()
    total = np.zeros_like(wavelength)
    for head, length, depth in TITANIUM_OXIDE:
        offset = wavelength - head
        total += depth * expit(offset / 1.1) * np.exp(-np.maximum(offset, 0) / length)
    return total


def synthetic_flux() -> NDArray[np.float64]:
    """Templates (12, 53, 3952) float64 on the fine grid, luminosity per solar mass."""
    wavelength = fine_wavelength()
    log_age = np.log10(AGES_GYR)[None, :, None]
    metallicity = METALLICITIES[:, None, None]
    maturity = 1 / (1 + np.exp(-(log_age + 0.25) / 0.35))
    colour = -2.6 + 2.7 * maturity + 0.45 * maturity * metallicity
    x = np.log(wavelength / 5900)
    flux = np.exp(colour * x - 1.2 * maturity * x**2)
    iron = maturity**0.7 * 10 ** (0.42 * metallicity)
    magnesium = maturity**1.3 * 10 ** (0.34 * metallicity)
    sodium = maturity**1.6 * 10 ** (0.55 * metallicity)
    metals = tuple(line for line in METALS if not 5160 < line[0] < 5190)
    triplet = tuple(line for line in METALS if 5160 < line[0] < 5190)
    flux = flux * np.exp(-iron * (gaussians(metals) + iron_forest()))
    flux *= np.exp(-magnesium * (gaussians(triplet) + gaussians(((5160.0, 70.0, 0.10),))) - sodium * gaussians(SODIUM))
    flux *= np.exp(-np.clip(log_age, 0, None) * 10 ** (0.6 * metallicity) * band_heads())
    flux *= np.exp(-np.exp(-(((log_age + 1.5) / 0.5) ** 2)) * gaussians(tuple((line, 4.0, 0.08) for line in HELIUM)))
    peak = np.exp(-0.5 * ((log_age + 0.3 + 0.1 * metallicity) / 0.5) ** 2)
    narrow, broad = (gaussians(tuple((line, width, 1.0) for line in BALMER)) for width in (5.0, 28.0))
    flux *= np.exp(-(0.10 + 0.25 * peak) * narrow - 0.22 * peak * broad)
    return flux * AGES_GYR[None, :, None] ** -0.75


@cache
def synthetic_decoder() -> Decoder:
    """The decoder of the analytic library: the full 12 x 53 grid, made in about a second, the same every time."""
    return build_decoder(synthetic_flux(), AGES_GYR, METALLICITIES, "synthetic")
