"""The axes of the model: wavelength samples, emission-line bands, ages, metallicities and attenuations.

Source: Anwar et al. (2025), sections 2 and 3.3, table 2.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

N_WAVELENGTH: Final = 948

#: Rest-frame air wavelengths of the model's samples (bin centres), Angstrom, float64 (948,).
WAVELENGTH: Final[NDArray[np.float64]] = np.linspace(4749.37, 7100.49, N_WAVELENGTH)

#: Width of a sample, Angstrom.
STEP: Final = float(WAVELENGTH[1] - WAVELENGTH[0])

#: Edges of the samples, Angstrom, float64 (949,).
EDGES: Final[NDArray[np.float64]] = np.append(WAVELENGTH - STEP / 2, WAVELENGTH[-1] + STEP / 2)

#: Emission-line and sky bands removed from every spectrum (table 2): name, first and last wavelength in Angstrom.
EMISSION_BANDS: Final = (
    ("Hbeta", 4853.64, 4866.06),
    ("[OIII]4959", 4952.95, 4965.37),
    ("[OIII]5007", 5000.12, 5012.54),
    ("sky OH 5540", 5526.46, 5553.78),
    ("sky OH 6250", 6243.96, 6256.38),
    ("[OI]6300", 6293.60, 6306.02),
    ("[NII]+Halpha", 6546.85, 6589.05),
    ("[SII]", 6710.70, 6738.02),
)

#: Slack on the bands' ends: table 2 is rounded, and only inclusive ends give the paper's 72 removed samples.
BAND_TOLERANCE: Final = 0.6


def kept_samples(wavelength: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which samples lie outside the emission-line bands.

    Parameters
    ----------
    wavelength : (n,) float64
        Rest-frame air wavelengths, Angstrom.

    Returns
    -------
    (n,) bool
        False inside a band of table 2.
    """
    kept = np.ones(wavelength.shape, dtype=bool)
    for _, first, last in EMISSION_BANDS:
        kept &= (wavelength < first - BAND_TOLERANCE) | (wavelength > last + BAND_TOLERANCE)
    return kept


#: True for the 876 samples that the model sees, bool (948,).
KEPT: Final[NDArray[np.bool_]] = kept_samples(WAVELENGTH)


def visible_samples(
    window: tuple[float, float] | None = None, masks: tuple[tuple[float, float], ...] = ()
) -> NDArray[np.bool_]:
    """Tell which samples carry information to a network that is to see only a part of the spectrum.

    Parameters
    ----------
    window : (float, float), optional
        First and last rest-frame air wavelength, Angstrom; all by default.
    masks : tuple of (float, float)
        Bands to leave out besides those of table 2, Angstrom.

    Returns
    -------
    (948,) bool
        False outside the window, and where a sample touches a mask or lies in an emission band.
    """
    visible = KEPT.copy()
    if window is not None:
        visible &= (EDGES[:-1] >= window[0] - 1e-6) & (EDGES[1:] <= window[1] + 1e-6)
    for first, last in masks:
        visible &= (EDGES[1:] < first) | (EDGES[:-1] > last)
    return visible


def covered(visible: NDArray[np.bool_]) -> tuple[float, float]:
    """First and last rest-frame wavelength that a spectrum must reach for visible samples (948,), Angstrom."""
    first, last = np.flatnonzero(visible)[[0, -1]]
    return float(EDGES[first]), float(EDGES[last + 1])


#: Number of samples that the model sees.
N_KEPT: Final = int(KEPT.sum())

#: Ages of the E-MILES BaSTI templates, Gyr (53,).
AGES_GYR: Final[NDArray[np.float64]] = np.array(
    [0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9]
    + [1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 3.75]
    + [4.0 + 0.5 * i for i in range(21)]
)

#: Metallicities [M/H] of the E-MILES BaSTI templates (12,).
METALLICITIES: Final[NDArray[np.float64]] = np.array(
    [-2.27, -1.79, -1.49, -1.26, -0.96, -0.66, -0.35, -0.25, 0.06, 0.15, 0.26, 0.4]
)

#: Distance of the attenuation classes, mag.
AV_STEP: Final = 0.1

#: The paper's attenuation classes, A_V in magnitudes (16,).
AV_CLASSES: Final[NDArray[np.float64]] = np.arange(16) / 10.0
