"""Templates at any line-of-sight velocity and dispersion, as one matrix product.

Shifting and broadening are linear in the templates. Over the range of velocities and dispersions that matter, every
shifted and broadened component is a combination of a dozen spectra with factors that depend smoothly on the two:

    spectrum(c, sigma, v) = sum_m a_m(sigma, v) sum_k c_k E_mk,    a_m a Chebyshev polynomial.

The E_mk come from a singular value decomposition over a grid of exact shifts and broadenings, and are kept as
combinations of a couple of hundred common spectra.

Shapes: B spectra, K components, M terms, R common spectra, G templates, W = 948 samples.
"""

from typing import Final

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from galprote.model.decoder import FINE_EDGES, Decoder
from galprote.model.extinction import extinction_curve
from galprote.model.grids import EDGES, N_WAVELENGTH, STEP, WAVELENGTH
from galprote.model.templates import broadening_matrix

C_KMS: Final = 299_792.458

#: Ends of the range, km/s: dispersions from 0, velocities to either side.
MAX_DISPERSION: Final = 320.0
MAX_VELOCITY: Final = 200.0

#: Chebyshev orders in the squared dispersion's root (even ones only) and in the velocity.
DISPERSION_ORDERS: Final = 11
VELOCITY_ORDERS: Final = 15

#: Root mean square over the templates of what the expansion may miss, in units of the median flux.
TOLERANCE: Final = 1e-4


class KinematicTemplates(nn.Module):
    """Reddened, shifted and broadened combinations of a decoder's templates, differentiable in all of them.

    Parameters
    ----------
    n_components, n_terms, n_spectra, n_templates : int
        K, M, R and G; the buffers are filled by `from_decoder` or from a checkpoint.
    """

    coefficients: Tensor
    expansion: Tensor
    mixing: Tensor
    spectra: Tensor
    attenuation: Tensor

    def __init__(self, n_components: int, n_terms: int, n_spectra: int, n_templates: int) -> None:
        super().__init__()
        self.register_buffer("coefficients", torch.zeros(n_templates, n_components))
        self.register_buffer("expansion", torch.zeros(DISPERSION_ORDERS * VELOCITY_ORDERS, n_terms))
        self.register_buffer("mixing", torch.zeros(n_terms * n_components, n_spectra))
        self.register_buffer("spectra", torch.zeros(n_spectra, N_WAVELENGTH))
        curve = torch.from_numpy(extinction_curve(WAVELENGTH) * (-0.4 * np.log(10.0))).float()
        self.register_buffer("attenuation", curve, persistent=False)

    @classmethod
    def from_decoder(cls, decoder: Decoder) -> "KinematicTemplates":
        """Expand a decoder's components over `MAX_DISPERSION` and `MAX_VELOCITY`."""
        nodes = _moved_components(decoder)
        n_nodes, k, _ = nodes.shape
        # Components weigh as much as they carry in the templates.
        weight = decoder.coefficients.cpu().double().square().mean(dim=0).sqrt().numpy()
        weighted = (nodes * weight[None, :, None]).reshape(n_nodes, -1)
        values, vectors = np.linalg.eigh(weighted @ weighted.T)
        values, vectors = values[::-1], vectors[:, ::-1]
        missed = np.sqrt(np.maximum(values[::-1].cumsum()[::-1], 0.0) / n_nodes / N_WAVELENGTH)
        terms = int(np.argmax(missed < TOLERANCE)) or n_nodes
        left = vectors[:, :terms]
        spectra = np.einsum("nm,nkw->mkw", left, nodes).reshape(terms * k, -1)
        # Every term weighs as much as it has light: its spectra carry the singular values, its factors are unitary.
        weighted = spectra * np.tile(weight, terms)[:, None]
        values, vectors = np.linalg.eigh(weighted.T @ weighted / n_nodes)
        missed = np.sqrt(np.maximum(values, 0.0).cumsum() / N_WAVELENGTH)
        common = vectors[:, missed > TOLERANCE]
        module = cls(k, terms, common.shape[1], len(decoder.coefficients))
        basis = _chebyshev_basis_numpy(*_node_axes())
        module.coefficients.copy_(decoder.coefficients.cpu())
        module.expansion.copy_(torch.from_numpy(np.linalg.solve(basis, left)))
        module.mixing.copy_(torch.from_numpy(spectra @ common))
        module.spectra.copy_(torch.from_numpy(common.T))
        return module.to(decoder.components.device)

    def forward(self, grid_BG: Tensor, av_B: Tensor, dispersion_B: Tensor, velocity_B: Tensor) -> Tensor:
        """Spectra (B, 948) in the templates' unit: median near one, not normalised.

        Parameters
        ----------
        grid_BG : (B, G) float32
            Light fractions.
        av_B : (B,) float32
            mag.
        dispersion_B, velocity_B : (B,) float32
            km/s; clamped to the range of the expansion.
        """
        return self.redden(self.combine(grid_BG, dispersion_B, velocity_B) @ self.spectra, av_B)

    def redden(self, spectra_BW: Tensor, av_B: Tensor) -> Tensor:
        """Spectra behind so many magnitudes of dust, (B, 948)."""
        return spectra_BW * torch.exp(av_B[:, None] * self.attenuation)

    def combine(self, grid_BG: Tensor, dispersion_B: Tensor, velocity_B: Tensor) -> Tensor:
        """How much of each common spectrum a mixture without dust has, (B, R)."""
        a_BM = self._basis(dispersion_B, velocity_B) @ self.expansion
        c_BK = grid_BG @ self.coefficients
        return (a_BM[:, :, None] * c_BK[:, None, :]).flatten(1) @ self.mixing

    def _basis(self, dispersion_B: Tensor, velocity_B: Tensor) -> Tensor:
        """Products of the Chebyshev polynomials, (B, DISPERSION_ORDERS * VELOCITY_ORDERS)."""
        s_B = (dispersion_B / MAX_DISPERSION).clamp(0.0, 1.0)
        v_B = (velocity_B / MAX_VELOCITY).clamp(-1.0, 1.0)
        even = _chebyshev(2 * s_B.square() - 1, DISPERSION_ORDERS)  # T_2n(s) = T_n(2 s^2 - 1)
        return (even[:, :, None] * _chebyshev(v_B, VELOCITY_ORDERS)[:, None, :]).flatten(1)


def _chebyshev(x_B: Tensor, orders: int) -> Tensor:
    polynomials = [torch.ones_like(x_B), x_B]
    while len(polynomials) < orders:
        polynomials.append(2 * x_B * polynomials[-1] - polynomials[-2])
    return torch.stack(polynomials[:orders], dim=1)


def _node_axes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dispersions and velocities of the exact nodes, km/s."""
    even = np.sort(chebyshev.chebpts1(DISPERSION_ORDERS))
    return MAX_DISPERSION * np.sqrt((even + 1) / 2), MAX_VELOCITY * chebyshev.chebpts1(VELOCITY_ORDERS)


def _chebyshev_basis_numpy(dispersion: NDArray[np.float64], velocity: NDArray[np.float64]) -> NDArray[np.float64]:
    even = chebyshev.chebvander(2 * (dispersion / MAX_DISPERSION) ** 2 - 1, DISPERSION_ORDERS - 1)
    return np.kron(even, chebyshev.chebvander(velocity / MAX_VELOCITY, VELOCITY_ORDERS - 1)).astype(np.float64)


def _moved_components(decoder: Decoder) -> NDArray[np.float64]:
    """Components at every node, on the model's samples: (nodes, K, 948)."""
    dispersions, velocities = _node_axes()
    components = decoder.components.cpu().double().numpy()
    return np.concatenate([move(components, dispersion, velocities) for dispersion in dispersions])


def move(fine: NDArray[np.float64], dispersion: float, velocities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Broaden and shift spectra exactly.

    Parameters
    ----------
    fine : (K, 3952) float64
        On the decoder's fine grid.
    dispersion : float
        km/s.
    velocities : (v,) float64
        km/s; positive to the red.

    Returns
    -------
    (v, K, 948) float64
    """
    step = FINE_EDGES[1] - FINE_EDGES[0]
    centres = (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2
    broad = (broadening_matrix(FINE_EDGES, centres * dispersion / C_KMS) @ fine.T).T
    cumulative = np.concatenate([np.zeros((len(fine), 1)), broad.cumsum(axis=1) * step], axis=1)
    spline = CubicSpline(FINE_EDGES, cumulative, axis=1)
    edges = EDGES[None, :] / (1 + velocities[:, None] / C_KMS)
    moved: NDArray[np.float64] = np.moveaxis(np.diff(spline(edges), axis=2), 1, 0) / STEP
    return moved
