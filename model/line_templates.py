"""Absorption lines of a decoder's templates at any velocity and dispersion, on logarithmic samples.

A spectrum over its continuum, minus one, is all that kinematics need. The templates' lines are a mean and a few
principal components. A velocity of whole samples moves them by indexing; for the rest, and for the dispersion, every
moved and broadened component is a combination of some twenty spectra,

    line_k(x - delta; sigma) = sum_m c_m(delta, sigma) E_mk(x),

with factors that are Chebyshev polynomials in delta and in ln(sigma^2 + sigma_0^2). The E_mk come from a singular value
decomposition over exact shifts and broadenings, which are a phase and a Gaussian factor of the Fourier transform.

Shapes: B spectra, K components (the mean first), P polynomials, M terms, N padded samples, G templates.
"""

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.polynomial import chebyshev, legendre
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from galprote.model.decoder import FINE_EDGES, Decoder
from galprote.model.grids import EDGES
from galprote.model.kinematics import C_KMS

#: Width of a sample, km/s: about a channel of MUSE, well below the width of its lines.
SAMPLE_KMS: Final = 60.0
#: Samples of a spectrum, from the blue end of the model's window to the red one, and samples of margin on either side.
SAMPLES: Final = int(np.log(EDGES[-1] / EDGES[0]) * C_KMS / SAMPLE_KMS)
MARGIN: Final = 33
PADDED: Final = SAMPLES + 2 * MARGIN

#: Rest-frame edges of a spectrum's samples, air, Angstrom, float64 (SAMPLES + 1,).
LOG_EDGES: Final[NDArray[np.float64]] = EDGES[0] * np.exp(np.arange(SAMPLES + 1) * SAMPLE_KMS / C_KMS)
#: Centres of the padded samples, Angstrom, float64 (PADDED,).
PADDED_CENTRES: Final[NDArray[np.float64]] = EDGES[0] * np.exp(
    (np.arange(-MARGIN, SAMPLES + MARGIN) + 0.5) * SAMPLE_KMS / C_KMS
)

#: Largest dispersion, km/s: kernels of that width still fit into the margin.
LARGEST_DISPERSION: Final = 450.0

#: Degree of the polynomials that stand for the continuum.
CONTINUUM_DEGREE: Final = 8
POLYNOMIALS: Final = CONTINUUM_DEGREE + 1
#: Components besides the mean; with these, lines come back to 0.1 % rms of the continuum.
COMPONENTS: Final = 15

#: Chebyshev orders in velocity and in dispersion; sigma_0 in km/s, near the width of the instrument's lines.
VELOCITY_ORDERS: Final = 8
DISPERSION_ORDERS: Final = 12
SOFTENING_KMS: Final = 60.0
#: Root mean square of what the expansion may miss, in units of the continuum.
TOLERANCE: Final = 2e-6

_FINER: Final = 4
_LOG_RANGE: Final = float(np.log1p((LARGEST_DISPERSION / SOFTENING_KMS) ** 2))


class Factors(NamedTuple):
    """Factors of the terms at B velocities and dispersions, each (B, M) float32.

    Attributes
    ----------
    value : Tensor
        Give the lines.
    by_velocity, by_square : Tensor
        Give their derivatives by the velocity, per km/s, and by the squared dispersion, per (km/s)^2.
    """

    value: Tensor
    by_velocity: Tensor
    by_square: Tensor


class LineTemplates:
    """The lines of a decoder's templates.

    Parameters
    ----------
    decoder : Decoder
    device : torch.device

    Attributes
    ----------
    terms : (M, K, N) float32
        E_mk. Components are scaled to what they carry in the templates: their factors in a template are near one.
    polynomials : (P, N) float32
        Legendre polynomials over the padded samples.
    """

    def __init__(self, decoder: Decoder, device: torch.device) -> None:
        lines = _principal_lines(decoder)
        moved = _moved(lines, *_nodes())
        flat = moved.reshape(len(moved), -1)
        values, vectors = np.linalg.eigh(flat @ flat.T)
        values, vectors = values[::-1], vectors[:, ::-1]
        missed = np.sqrt(np.maximum(values[::-1].cumsum()[::-1], 0.0) / flat.size)
        n_terms = int(np.argmax(missed < TOLERANCE)) or len(values)
        left = vectors[:, :n_terms]
        terms = (left.T @ flat).reshape(n_terms, *moved.shape[1:])
        polynomials = legendre.legvander(np.linspace(-1, 1, PADDED), CONTINUUM_DEGREE).T
        self.terms = torch.from_numpy(terms).float().to(device)
        self.polynomials = torch.from_numpy(np.ascontiguousarray(polynomials)).float().to(device)
        self._expansion = torch.from_numpy(np.linalg.solve(_basis_at_nodes(), left)).to(device)
        # The polynomials as another term, so that one matrix product makes all that a fit combines.
        self._all = torch.zeros(n_terms + 1, POLYNOMIALS + len(lines), PADDED, device=device)
        self._all[:-1, POLYNOMIALS:] = self.terms
        self._all[-1, :POLYNOMIALS] = self.polynomials

    def factors(self, delta_B: Tensor, square_B: Tensor) -> Factors:
        """Factors of the terms.

        Parameters
        ----------
        delta_B : (B,) float64
            Velocity c ln(1 + V / c), km/s, at most half a sample to either side.
        square_B : (B,) float64
            Square of the dispersion, (km/s)^2, from 0 to that of `LARGEST_DISPERSION`.
        """
        t_B, by_square_B = log_square(square_B)
        v_BO, dv_BO = chebyshev_polynomials(2 * delta_B / SAMPLE_KMS, VELOCITY_ORDERS)
        s_BO, ds_BO = chebyshev_polynomials(t_B, DISPERSION_ORDERS)
        return Factors(
            self._combined(s_BO, v_BO),
            self._combined(s_BO, dv_BO * (2 / SAMPLE_KMS)),
            self._combined(ds_BO * by_square_B[:, None], v_BO),
        )

    def _combined(self, dispersion_BO: Tensor, velocity_BO: Tensor) -> Tensor:
        product: Tensor = (dispersion_BO[:, :, None] * velocity_BO[:, None, :]).flatten(1) @ self._expansion
        return product.float()

    def basis(self, factors_BM: Tensor) -> Tensor:
        """Polynomials and moved lines, (B, P + K, N)."""
        with_polynomials = torch.nn.functional.pad(factors_BM, (0, 1), value=1.0)
        basis: Tensor = (with_polynomials @ self._all.flatten(1)).unflatten(1, self._all.shape[1:])
        return basis

    def combined(self, factors_BM: Tensor, weights_BK: Tensor) -> Tensor:
        """Combinations of the components with weights of their own, (B, N)."""
        products = (factors_BM[:, :, None] * weights_BK[:, None, :]).flatten(1)
        combined: Tensor = products @ self.terms.flatten(0, 1)
        return combined


def log_square(square_B: Tensor) -> tuple[Tensor, Tensor]:
    """Squared dispersions on the Chebyshev polynomials' axis, from -1 to 1, and the derivative by them."""
    t_B = 2 * torch.log1p(square_B / SOFTENING_KMS**2) / _LOG_RANGE - 1
    return t_B, 2 / _LOG_RANGE / (square_B + SOFTENING_KMS**2)


def chebyshev_polynomials(x_B: Tensor, orders: int) -> tuple[Tensor, Tensor]:
    """Chebyshev polynomials and their derivatives, (B, orders) each."""
    value, slope = [torch.ones_like(x_B), x_B], [torch.zeros_like(x_B), torch.ones_like(x_B)]
    for _ in range(2, orders):
        slope.append(2 * value[-1] + 2 * x_B * slope[-1] - slope[-2])
        value.append(2 * x_B * value[-1] - value[-2])
    return torch.stack(value, dim=1), torch.stack(slope, dim=1)


def square_nodes() -> NDArray[np.float64]:
    """Squared dispersions at the Chebyshev nodes, (km/s)^2 (DISPERSION_ORDERS,)."""
    squares: NDArray[np.float64] = SOFTENING_KMS**2 * np.expm1(
        (chebyshev.chebpts1(DISPERSION_ORDERS) + 1) / 2 * _LOG_RANGE
    )
    return squares


def chebyshev_at_nodes(orders: int) -> NDArray[np.float64]:
    """Chebyshev polynomials at their own nodes, (nodes, orders)."""
    return np.asarray(chebyshev.chebvander(chebyshev.chebpts1(orders), orders - 1), dtype=np.float64)


def _nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared dispersions, (km/s)^2, and velocities, km/s, of the exact nodes."""
    return square_nodes(), SAMPLE_KMS / 2 * chebyshev.chebpts1(VELOCITY_ORDERS)


def _basis_at_nodes() -> NDArray[np.float64]:
    return np.asarray(np.kron(chebyshev_at_nodes(DISPERSION_ORDERS), chebyshev_at_nodes(VELOCITY_ORDERS)))


def _principal_lines(decoder: Decoder) -> NDArray[np.float64]:
    """Mean and principal components of the templates' lines, (K, `_FINER` N), on samples finer than a spectrum's.

    A component is scaled by its standard deviation over the templates. At the ends the lines fade out.
    """
    steps = np.arange(-MARGIN * _FINER, (SAMPLES + MARGIN) * _FINER + 1)
    edges = EDGES[0] * np.exp(steps * SAMPLE_KMS / _FINER / C_KMS)
    components = decoder.components.cpu().double().numpy()
    cumulative = np.zeros((len(components), len(FINE_EDGES)))
    np.cumsum(components * np.diff(FINE_EDGES), axis=1, out=cumulative[:, 1:])
    fine = np.diff(CubicSpline(FINE_EDGES, cumulative, axis=1)(edges), axis=1) / np.diff(edges)
    templates = decoder.coefficients.cpu().double().numpy() @ fine
    polynomials = np.linalg.qr(legendre.legvander(np.linspace(-1, 1, fine.shape[1]), CONTINUUM_DEGREE))[0]
    lines = templates / ((templates @ polynomials) @ polynomials.T) - 1
    mean = lines.mean(axis=0)
    vectors = np.linalg.eigh((lines - mean) @ (lines - mean).T)[1]
    largest = vectors[:, ::-1][:, :COMPONENTS].T @ (lines - mean) / np.sqrt(len(lines))
    from_end = np.minimum(np.arange(fine.shape[1]), np.arange(fine.shape[1])[::-1])
    fade = np.sin(np.clip(from_end / (4.0 * _FINER), 0.0, 1.0) * np.pi / 2) ** 2
    return np.asarray(np.concatenate([mean[None], largest]) * fade)


def _moved(
    lines: NDArray[np.float64], squares: NDArray[np.float64], velocities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Exact shifts and broadenings, averaged over samples, (squares x velocities, K, N)."""
    n = lines.shape[1]
    period = n + 4 * MARGIN * _FINER  # zeros, so that nothing comes in from the other end
    omega = 2 * np.pi * np.fft.rfftfreq(period, SAMPLE_KMS / _FINER)
    transforms = np.fft.rfft(lines, n=period, axis=1)
    nodes = []
    for square in squares:
        for velocity in velocities:
            factor = np.exp(-0.5 * square * omega**2 - 1j * velocity * omega)
            fine = np.fft.irfft(transforms * factor, n=period, axis=1)[:, :n]
            nodes.append(fine.reshape(len(lines), -1, _FINER).mean(axis=2))
    return np.stack(nodes)
