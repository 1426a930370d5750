"""Two likelihood fits on the network's own terms: the same spectra, templates, noise, dust curve and mean values.

Each gets all that it could ask for. The spectra are Gaussian mixtures of the very templates that are fitted, without
patches, gaps or errors of the calibration; the noise is constant and told; stars are at rest and without dispersion,
which is told too, so that no kinematics has to be fitted; A_V may go from 0 to the largest that occurs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, nnls

from galprote.model.bench import CLEAN_AV
from galprote.model.decoder import Decoder
from galprote.model.grids import KEPT, WAVELENGTH

#: How closely A_V is searched, mag.
AV_TOLERANCE: Final = 1e-4

#: Where pPXF's search for the dispersion begins, km/s.
START_DISPERSION: Final = 60.0
#: A noise for samples without information that pPXF takes, in units of the flux's median: it asks for finite ones.
NO_INFORMATION: Final = 1e3

LN_FLUX_PER_MAG: Final = -0.4 * float(np.log(10.0))


@dataclass(frozen=True)
class LikelihoodFit:
    """Best fit of one spectrum.

    Attributes
    ----------
    grid : (n_metallicity, n_age) float64
        Light fractions, summing to one.
    av : float
        mag.
    """

    grid: NDArray[np.float64]
    av: float


class Rival(Protocol):
    """A fit of one spectrum at a time: flux and noise (876,) float64, in units of the flux's median."""

    def __call__(self, flux: NDArray[np.float64], noise: NDArray[np.float64]) -> LikelihoodFit: ...  # noqa: D102


class Nnls:
    """Non-negative least squares of all templates at once, with free A_V and no regularisation.

    For each A_V that a bounded one-dimensional search tries, the weights are the exact solution of Lawson and Hanson's
    algorithm. The templates are combinations of a few dozen spectra only, so each problem is first turned, by a QR
    decomposition, into one of that many equations: the same minimum in half the time.

    Parameters
    ----------
    decoder : Decoder
    """

    def __init__(self, decoder: Decoder) -> None:
        self.shape = decoder.shape
        self._coefficients = decoder.coefficients.double().numpy()
        self._components = decoder.model_components().double().numpy()[:, KEPT]
        self._curve = decoder.attenuation().double().numpy()[KEPT] * LN_FLUX_PER_MAG

    def __call__(self, flux: NDArray[np.float64], noise: NDArray[np.float64]) -> LikelihoodFit:
        """Fit one spectrum (876,) with its standard deviations (876,), both in units of the median."""
        target = flux / noise
        length = float(target @ target)

        def chi_square(av: float) -> float:
            _, inside, missed = self._weights(av, target, noise)
            return missed**2 + length - float(inside @ inside)

        # The search never tries its ends, where many a dust-free spectrum has its minimum.
        options = {"xatol": AV_TOLERANCE}
        found = minimize_scalar(chi_square, bounds=(0.0, CLEAN_AV), method="bounded", options=options)
        av = min((float(found.x), 0.0, CLEAN_AV), key=chi_square)
        return LikelihoodFit(light_fractions(self._weights(av, target, noise)[0], self.shape), av)

    def _weights(
        self, av: float, target: NDArray[np.float64], noise: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Weights of the templates, the part of the target that any of them could reach, and what is left of it."""
        scaled = self._components * (np.exp(av * self._curve) / noise)
        orthogonal, triangle = np.linalg.qr(scaled.T)
        inside = orthogonal.T @ target
        weights, missed = nnls(triangle @ self._coefficients.T, inside)
        return weights, inside, float(missed)


class Ppxf:
    """pPXF (Cappellari 2023), set up to fit populations and dust and nothing else.

    - Templates are those of the checkpoint, each of median one over the kept samples: weights are light fractions, as
      in the network's grid. They carry the instrument's resolution already.
    - Templates and spectra go through the same `log_rebin` from 948 linear to 948 logarithmic samples, so that both
      are smeared alike. The emission bands are bridged before and masked after, with every sample that touches them.
    - Kinematics are fixed at zero velocity and a dispersion (1 km/s) far below the sampling: the truth.
    - No polynomials, additive or multiplicative, and no regularisation: they would hide dust, and smooth.
    - Dust is a function of one parameter, A_V, with the curve that made the spectra (O'Donnell 1994), started in the
      middle of its range.

    Parameters
    ----------
    decoder : Decoder
    av_max : float
        Largest A_V that is tried.

    Raises
    ------
    ImportError
        If the package is not installed (`pip install 'galprote[compare]'`).
    """

    def __init__(self, decoder: Decoder, av_max: float = CLEAN_AV) -> None:
        from ppxf.ppxf import ppxf
        from ppxf.ppxf_util import log_rebin

        self._fit: Callable[..., Any] = ppxf
        self._log_rebin: Callable[..., Any] = log_rebin
        self._av_max = av_max
        self.shape = decoder.shape
        templates = decoder.templates().double().numpy()
        self._templates, log_wavelength, self._velscale = self._rebinned(templates.T)
        self._wavelength = np.exp(log_wavelength)
        kept, _, _ = self._rebinned(KEPT.astype(np.float64))
        self._good = np.flatnonzero(kept > 1 - 1e-6)
        self._curve = np.interp(self._wavelength, WAVELENGTH, decoder.attenuation().double().numpy()) * LN_FLUX_PER_MAG

    def __call__(self, flux: NDArray[np.float64], noise: NDArray[np.float64]) -> LikelihoodFit:
        """Fit one spectrum (876,) with its standard deviations (876,), both in units of the median."""
        galaxy, _, _ = self._rebinned(np.interp(WAVELENGTH, WAVELENGTH[KEPT], flux))
        sigma, _, _ = self._rebinned(np.interp(WAVELENGTH, WAVELENGTH[KEPT], noise))
        dust = {
            "start": [self._av_max / 2],
            "bounds": [[0.0, self._av_max]],
            "component": np.ones(self._templates.shape[1], dtype=bool),
            "func": lambda _, av: np.exp(av * self._curve),
        }
        with np.errstate(invalid="ignore", divide="ignore"):  # in its last step, when a fit is perfect
            found = self._fit(
                self._templates,
                galaxy,
                sigma,
                self._velscale,
                [0.0, 1.0],
                moments=-2,
                degree=-1,
                mdegree=-1,
                dust=[dust],
                goodpixels=self._good,
                lam=self._wavelength,
                quiet=True,
            )
        return LikelihoodFit(light_fractions(found.weights, self.shape), float(found.dust[0]["sol"][0]))

    def _rebinned(self, spectra: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Spectra (948,) or (948, n) on logarithmic samples, ln of these in Angstrom, and their width in km/s."""
        ends = [float(WAVELENGTH[0]), float(WAVELENGTH[-1])]
        rebinned, log_wavelength, velscale = self._log_rebin(ends, spectra)
        return rebinned, log_wavelength, float(velscale)


class MovingPpxf(Ppxf):
    """pPXF with dust that finds velocity and dispersion, too, as the network does: for observed spectra."""

    def __init__(self, decoder: Decoder, av_max: float = CLEAN_AV) -> None:
        super().__init__(decoder, av_max)
        fit = self._fit
        self._fit = lambda templates, galaxy, sigma, velscale, _, **settings: fit(
            templates, galaxy, sigma, velscale, [0.0, START_DISPERSION], **settings | {"moments": 2}
        )


def light_fractions(weights: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Weights of templates of median one as a grid that sums to one."""
    grid: NDArray[np.float64] = (weights / weights.sum()).reshape(shape)
    return grid
