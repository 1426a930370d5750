"""Template libraries at the model's resolution and sampling (paper, section 2, equations 1 and 2).

How a library is read is `model/libraries.py`'s business; here its spectra are brought to the line spread function of
MUSE, or of another instrument, and integrated over the samples of the decoder's fine grid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.sparse import csr_array
from scipy.special import ndtr

from galprote.model.decoder import FINE_EDGES, MAX_RECONSTRUCTION_ERROR, Decoder, build_decoder
from galprote.model.errors import LibraryError
from galprote.model.line_spread import FWHM_PER_SIGMA, MUSE, LineSpread


@dataclass(frozen=True)
class TemplateLibrary:
    """Simple stellar population spectra on a complete age-metallicity grid.

    Attributes
    ----------
    flux : (n_metallicity, n_age, n) float32 or float64
        Luminosity per Angstrom per solar mass formed, any unit.
    wavelength : (n,) float64
        Air wavelengths, Angstrom, increasing.
    ages_gyr : (n_age,) float64, increasing
    metallicities : (n_metallicity,) float64, increasing
        [M/H].
    fwhm : float
        Full width at half maximum of the library's line spread function, Angstrom.
    name : str
    """

    flux: NDArray[np.floating]
    wavelength: NDArray[np.float64]
    ages_gyr: NDArray[np.float64]
    metallicities: NDArray[np.float64]
    fwhm: float
    name: str

    def __post_init__(self) -> None:
        expected = (len(self.metallicities), len(self.ages_gyr), len(self.wavelength))
        if self.flux.shape != expected:
            raise LibraryError(f"{self.name}: flux has shape {self.flux.shape}, axes say {expected}")
        for label, axis in (
            ("wavelength", self.wavelength),
            ("age", self.ages_gyr),
            ("metallicity", self.metallicities),
        ):
            if not np.all(np.diff(axis) > 0):
                raise LibraryError(f"{self.name}: {label} must increase strictly; sort the library")
        if not np.all(np.isfinite(self.flux)):
            raise LibraryError(f"{self.name}: some template fluxes are not finite")


def broadening_matrix(edges: NDArray[np.float64], sigma: NDArray[np.float64]) -> csr_array:
    """Gaussian smoothing with a width that varies along the spectrum, as a sparse matrix.

    Parameters
    ----------
    edges : (n + 1,) float64
        Edges of uniform samples, Angstrom.
    sigma : (n,) float64
        Standard deviation at each sample, Angstrom; 0 leaves the sample alone.

    Returns
    -------
    (n, n) csr_array
        Rows sum to one: the kernel is integrated over the samples, which holds for widths below one sample too.
    """
    n = len(sigma)
    step = edges[1] - edges[0]
    reach = int(np.ceil(5 * sigma.max() / step)) + 1
    offsets = np.arange(-reach, reach + 1)
    width = np.maximum(sigma, 1e-6 * step)[:, None]
    kernel = ndtr((offsets + 0.5) * step / width) - ndtr((offsets - 0.5) * step / width)
    columns = np.arange(n)[:, None] + offsets
    kernel[(columns < 0) | (columns >= n)] = 0.0
    kernel /= kernel.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(n)[:, None], columns.shape)
    inside = kernel > 0
    return csr_array((kernel[inside], (rows[inside], columns[inside])), shape=(n, n))


def match_library(library: TemplateLibrary, line_spread: LineSpread = MUSE) -> NDArray[np.float64]:
    """Bring a library to an instrument's resolution on the decoder's fine grid (equations 1 and 2).

    Where the library is blunter than the instrument it is left alone.

    Returns
    -------
    (n_metallicity, n_age, 3952) float64
        Mean flux density over each fine sample.

    Raises
    ------
    LibraryError
        If the library does not cover the fine grid.
    """
    first, last = library.wavelength[0], library.wavelength[-1]
    padding = 8.0
    if first > FINE_EDGES[0] - padding or last < FINE_EDGES[-1] + padding:
        raise LibraryError(
            f"{library.name}: covers {first:.1f}-{last:.1f} A; the model needs "
            f"{FINE_EDGES[0] - padding:.1f}-{FINE_EDGES[-1] + padding:.1f} A"
        )
    step = (FINE_EDGES[1] - FINE_EDGES[0]) / 2
    pad = int(np.ceil(padding / step / 2)) * 2 - 2
    edges = FINE_EDGES[0] + step * np.arange(-pad, 2 * (len(FINE_EDGES) - 1) + pad + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    sigma = np.sqrt(np.maximum(line_spread.fwhm_at(centres) ** 2 - library.fwhm**2, 0.0)) / FWHM_PER_SIGMA
    broaden = broadening_matrix(edges, sigma)
    flux = library.flux.reshape(-1, len(library.wavelength)).astype(np.float64)
    spline = CubicSpline(library.wavelength, flux, axis=1)
    cumulative = spline.antiderivative()(edges)
    smooth = (broaden @ (np.diff(cumulative, axis=1) / step).T).T[:, pad:-pad]
    fine = smooth.reshape(len(flux), -1, 2).mean(axis=2)
    result: NDArray[np.float64] = fine.reshape(*library.flux.shape[:2], -1)
    return result


def verified_decoder(library: TemplateLibrary, line_spread: LineSpread = MUSE) -> Decoder:
    """Make the decoder of a library: matched in resolution, integrated over samples, compressed, and all checked.

    Raises
    ------
    LibraryError
        If the library does not cover the fine grid, or a template comes back with more than 0.1 % rms error.
    """
    flux = match_library(library, line_spread)
    decoder = build_decoder(flux, library.ages_gyr, library.metallicities, library.name)
    wanted = flux.reshape(len(decoder.coefficients), -1) / decoder.median_flux.double().numpy().reshape(-1, 1)
    found = (decoder.coefficients @ decoder.components).double().numpy()
    worst = float(((wanted - found) ** 2).mean(axis=1).max() ** 0.5)
    if worst > MAX_RECONSTRUCTION_ERROR:
        raise LibraryError(f"{library.name}: the decoder's worst template is off by {worst:.2%} rms; at most 0.1 %")
    return decoder
