"""The templates in compact form: from an age-metallicity grid and A_V to a spectrum.

The templates are kept as principal components on a grid four times finer than the model's, and somewhat wider, so that
the same few hundred kilobytes serve the model's own samples, the native channels of a cube and synthetic cubes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galprote.model.extinction import extinction_curve
from galprote.model.grids import EDGES, KEPT, N_WAVELENGTH, STEP, WAVELENGTH

#: Fine samples in one model sample, and model samples of margin on either side.
FINE: Final = 4
MARGIN: Final = 20

#: Edges of the fine samples, Angstrom, float64 (3953,).
FINE_EDGES: Final[NDArray[np.float64]] = (
    EDGES[0] - MARGIN * STEP + np.arange((N_WAVELENGTH + 2 * MARGIN) * FINE + 1) * (STEP / FINE)
)

#: Largest rms error of any template's reconstruction that a checkpoint may have.
MAX_RECONSTRUCTION_ERROR: Final = 1e-3


@dataclass(frozen=True)
class Decoder:
    """Template spectra and how they combine (paper, section 1.2 and equation of section 4.2.1).

    Attributes
    ----------
    ages_gyr : (n_age,) float64
    metallicities : (n_metallicity,) float64
        [M/H].
    coefficients : (n_metallicity * n_age, k) float32
        Components of each template, which is normalised to a median of one over the 876 kept samples: grid weights are
        therefore fractions of light.
    components : (k, 3952) float32
        Principal components on the fine grid.
    median_flux : (n_metallicity, n_age) float32
        The median that each template was divided by (library's unit per solar mass formed): light to mass.
    library : str
        Name of the template library.
    """

    ages_gyr: NDArray[np.float64]
    metallicities: NDArray[np.float64]
    coefficients: Tensor
    components: Tensor
    median_flux: Tensor
    library: str

    @property
    def shape(self) -> tuple[int, int]:
        """Number of metallicities and ages."""
        return len(self.metallicities), len(self.ages_gyr)

    @property
    def log_ages(self) -> NDArray[np.float64]:
        """log10 of the ages in years, (n_age,)."""
        return np.log10(self.ages_gyr) + 9.0

    def templates(self) -> Tensor:
        """Templates on the model's wavelengths, (n_metallicity * n_age, 948) float32, median one, no dust."""
        return self.coefficients @ self.model_components()

    def model_components(self) -> Tensor:
        """Principal components on the model's wavelengths, (k, 948) float32."""
        inner = self.components[:, MARGIN * FINE : -MARGIN * FINE]
        return inner.reshape(inner.shape[0], N_WAVELENGTH, FINE).mean(dim=2)

    def attenuation(self) -> Tensor:
        """O'Donnell (1994) A(wavelength) / A_V at the model's wavelengths, (948,) float32 (section 2.1)."""
        return torch.from_numpy(extinction_curve(WAVELENGTH)).to(self.components)

    def to(self, device: torch.device | str) -> "Decoder":
        """Move the tensors to a device."""
        return Decoder(
            self.ages_gyr,
            self.metallicities,
            self.coefficients.to(device),
            self.components.to(device),
            self.median_flux.to(device),
            self.library,
        )

    def fine_spectra(self, grid: Tensor, av: Tensor) -> Tensor:
        """Spectra on the fine grid, in units of the median of the kept samples.

        Parameters
        ----------
        grid : (n, n_metallicity, n_age) float32
            Light fractions.
        av : (n,) float32
            Attenuation in magnitudes.

        Returns
        -------
        (n, 3952) float32
        """
        centres = (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2
        curve = torch.from_numpy(extinction_curve(centres)).to(self.components)
        spectra = (grid.flatten(1) @ self.coefficients) @ self.components
        spectra = spectra * torch.exp(-0.4 * np.log(10.0) * av[:, None] * curve)
        inner = spectra[:, MARGIN * FINE : -MARGIN * FINE]
        model = inner.reshape(len(spectra), N_WAVELENGTH, FINE).mean(dim=2)
        return spectra / kept_median(model)[:, None]


def kept_median(spectra: Tensor) -> Tensor:
    """Median over the 876 kept samples of (n, 948) spectra: (n,)."""
    kept = torch.from_numpy(KEPT).to(spectra.device)
    return spectra[:, kept].median(dim=1).values


def build_decoder(
    flux: NDArray[np.float64],
    ages_gyr: NDArray[np.float64],
    metallicities: NDArray[np.float64],
    library: str,
    *,
    tolerance: float = 0.5 * MAX_RECONSTRUCTION_ERROR,
) -> Decoder:
    """Compress templates into as few principal components as the tolerance allows.

    Parameters
    ----------
    flux : (n_metallicity, n_age, 3952) float64
        Templates on the fine grid at the model's resolution, any unit.
    ages_gyr, metallicities : (n_age,), (n_metallicity,) float64
    library : str
        Name for the record.
    tolerance : float
        Largest rms error of a reconstructed template, relative to its median.

    Returns
    -------
    Decoder
    """
    n_templates = flux.shape[0] * flux.shape[1]
    fine = flux.reshape(n_templates, -1).astype(np.float64)
    inner = fine[:, MARGIN * FINE : -MARGIN * FINE].reshape(n_templates, N_WAVELENGTH, FINE).mean(axis=2)
    median = np.median(inner[:, KEPT], axis=1)
    fine = fine / median[:, None]
    # Left singular vectors from the small Gram matrix: far quicker than a decomposition of the spectra themselves.
    left = np.linalg.eigh(fine @ fine.T)[1][:, ::-1]
    right = left.T @ fine
    squared = np.sum(right**2, axis=1)
    # What the components from the k-th on add to each template: the squared error of keeping only those before.
    lost = np.cumsum((left**2 * squared)[:, ::-1], axis=1)[:, ::-1] / fine.shape[1]
    enough = lost.max(axis=0) <= tolerance**2
    k = max(1, int(np.argmax(enough))) if enough.any() else n_templates
    return Decoder(
        ages_gyr,
        metallicities,
        torch.from_numpy(np.ascontiguousarray(left[:, :k], dtype=np.float32)),
        torch.from_numpy(right[:k].astype(np.float32)),
        torch.from_numpy(median.reshape(flux.shape[:2]).astype(np.float32)),
        library,
    )
