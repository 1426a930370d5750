"""From the answer to a spectrum finer than the model's, at any velocity and dispersion: for a cube's own channels.

`model.kinematics` serves the network: few terms, the model's own samples. Here the templates' components are kept as
Fourier transforms over the logarithm of wavelength, where a velocity is a phase and a dispersion a Gaussian factor:
exact for every pair of them, nothing to expand beforehand, and a spectrum costs one inverse transform.

Shapes: n spectra, K components, N samples on the logarithmic axis, F frequencies.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.sparse import csr_array

from galprote.model.decoder import FINE_EDGES, Decoder
from galprote.model.extinction import extinction_curve
from galprote.model.gaps import fill_gaps
from galprote.model.grids import EDGES, KEPT
from galprote.model.kinematics import C_KMS, MAX_DISPERSION, MAX_VELOCITY
from galprote.model.medians import row_median

#: Samples that carry the spectrum, at most half as wide as the decoder's fine ones; and all, with the way back from the
#: red end to the blue one, for which a Fourier transform wants a bridge.
CARRIED: Final = 7600
PERIOD: Final = 8192

#: Frequencies that are kept. The others hold 5e-5 of a spectrum (rms, the most of 636 templates): digits that the
#: decoder has lost, for the templates' lines are eight samples wide.
FREQUENCIES: Final = 2049

#: Of the frequencies, so many phases are made one by one.
_FINE: Final = 64

#: Spectra that are made together, always so many: the last bits may depend on the number.
ROWS: Final = 64

_LN_STEP: Final = float(np.log(FINE_EDGES[-1] / FINE_EDGES[0]) / CARRIED)

#: Edges of the logarithmic samples, Angstrom, float64 (CARRIED + 1,): from one end of the fine grid to the other.
LOG_EDGES: Final[NDArray[np.float64]] = FINE_EDGES[0] * np.exp(_LN_STEP * np.arange(CARRIED + 1))


class Reconstruction:
    """Makes spectra of a decoder's templates.

    Parameters
    ----------
    decoder : Decoder
        On the CPU.
    visible : (948,) bool
        Samples that the network uses, which decide the scale; by default all but the emission bands.
    """

    def __init__(self, decoder: Decoder, visible: NDArray[np.bool_] = KEPT) -> None:
        self._coefficients = decoder.coefficients.float()
        components = _on_log_edges(decoder.components.double().numpy(), LOG_EDGES)
        transforms = torch.fft.rfft(torch.from_numpy(_bridged(components)))[:, :FREQUENCIES]
        self._transforms = torch.view_as_real(transforms).flatten(1).float().contiguous()
        centres = np.sqrt(LOG_EDGES[1:] * LOG_EDGES[:-1])
        self._curve = torch.from_numpy(-0.4 * np.log(10.0) * extinction_curve(centres)).float()
        self._step = 2 * np.pi / (PERIOD * _LN_STEP)
        self._omega = (self._step * torch.arange(FREQUENCIES, dtype=torch.float64)).float()
        self._model = _overlap(LOG_EDGES, EDGES)[KEPT]
        self._used = torch.from_numpy(visible[KEPT])

    def __call__(
        self,
        grid: NDArray[np.float32],
        av: NDArray[np.float32],
        dispersion: NDArray[np.float32],
        velocity: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Spectra between `LOG_EDGES`, in units of the median of what the network would see of them.

        Parameters
        ----------
        grid : (n, n_metallicity, n_age) float32
            Light fractions.
        av : (n,) float32
            mag.
        dispersion, velocity : (n,) float32
            km/s, positive to the red; clamped to the range of `model.kinematics`.

        Returns
        -------
        (n, CARRIED) float32
            Mean flux density in each sample. What is moved in from beyond the ends is made up.
        """
        spectra = np.empty((len(av), CARRIED), dtype=np.float32)
        for rows, columns, median in self.columns(grid, av, dispersion, velocity):
            np.divide(columns.T, median[:, None], out=spectra[rows])
        return spectra

    def columns(
        self,
        grid: NDArray[np.float32],
        av: NDArray[np.float32],
        dispersion: NDArray[np.float32],
        velocity: NDArray[np.float32],
    ) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.float32]]]:
        """Make spectra, a few at a time, wavelength first and in the templates' unit, for what is to be made of them.

        Parameters
        ----------
        grid, av, dispersion, velocity
            As when called.

        Yields
        ------
        rows : slice
            Which of the n spectra.
        spectra : (CARRIED, k) float32
        median : (k,) float32
            Of what the network would see of them.
        """
        for start in range(0, len(av), ROWS):
            rows = slice(start, min(start + ROWS, len(av)))
            padded = [torch.from_numpy(_padded(values[rows])) for values in (grid, av, dispersion, velocity)]
            spectra = np.ascontiguousarray(self._moved(*padded).numpy().T)
            model = torch.from_numpy(np.ascontiguousarray((self._model @ spectra).T))
            # The pipeline's median: of an even number of samples the mean of the middle two.
            median = row_median(fill_gaps(model, self._used.expand_as(model)).numpy())
            k = rows.stop - start
            yield rows, spectra if k == ROWS else np.ascontiguousarray(spectra[:, :k]), median[:k]

    @torch.inference_mode()
    def _moved(
        self, grid: torch.Tensor, av: torch.Tensor, dispersion: torch.Tensor, velocity: torch.Tensor
    ) -> torch.Tensor:
        transforms = torch.view_as_complex(
            ((grid.flatten(1) @ self._coefficients) @ self._transforms).unflatten(1, (-1, 2))
        )
        width = dispersion.clamp(0.0, MAX_DISPERSION)[:, None] / C_KMS
        narrowed = transforms * torch.exp(-0.5 * (width * self._omega).square())
        shift = torch.log1p(velocity.double().clamp(-MAX_VELOCITY, MAX_VELOCITY)[:, None] / C_KMS)
        # The dust stands still, as in `model.kinematics`: its curve is smooth.
        spectra = torch.fft.irfft(narrowed.mul_(self._turned(shift)), n=PERIOD)[:, :CARRIED]
        reddened: torch.Tensor = spectra * torch.exp(av[:, None] * self._curve)
        return reddened

    def _turned(self, shift: torch.Tensor) -> torch.Tensor:
        """Phases of shifts (n, 1) in ln wavelength, complex (n, F).

        The frequencies are multiples of one: each phase is the product of two of a few, made in double precision.
        """
        fine, coarse = (
            torch.polar(torch.ones(1, dtype=torch.float64), -shift * (step * self._step)).to(torch.complex64)
            for step in (torch.arange(_FINE).double(), torch.arange(0, FREQUENCIES, _FINE).double())
        )
        return (coarse[:, :, None] * fine[:, None, :]).flatten(1)[:, :FREQUENCIES]


def _on_log_edges(components: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean flux densities on the fine samples to those between other edges, (K, 3952) -> (K, n)."""
    cumulative = np.zeros((len(components), len(FINE_EDGES)))
    np.cumsum(components * np.diff(FINE_EDGES), axis=1, out=cumulative[:, 1:])
    inside = np.clip(edges, FINE_EDGES[0], FINE_EDGES[-1])  # rounding may have left it
    return np.asarray(np.diff(CubicSpline(FINE_EDGES, cumulative, axis=1)(inside), axis=1) / np.diff(edges))


def _bridged(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append what leads back from the last value to the first, (K, CARRIED) -> (K, PERIOD)."""
    t = np.linspace(0.0, 1.0, PERIOD - CARRIED)
    smooth = t**2 * (3 - 2 * t)
    first, last = components[:, :1], components[:, -1:]
    return np.concatenate([components, last + (first - last) * smooth], axis=1)


def _overlap(input_edges: NDArray[np.float64], output_edges: NDArray[np.float64]) -> csr_array:
    """Shares of narrow samples in wide ones, sparse (n_output, n_input) float32: good enough for a median."""
    first = np.searchsorted(input_edges, output_edges[:-1], side="right") - 1
    reach = int((np.searchsorted(input_edges, output_edges[1:]) - first).max())
    columns = np.minimum(first[:, None] + np.arange(reach), len(input_edges) - 2)
    low = np.maximum(input_edges[columns], output_edges[:-1, None])
    high = np.minimum(input_edges[columns + 1], output_edges[1:, None])
    share = (np.maximum(high - low, 0.0) / np.diff(output_edges)[:, None]).astype(np.float32)
    rows = np.broadcast_to(np.arange(len(first))[:, None], columns.shape)
    return csr_array((share.ravel(), (rows.ravel(), columns.ravel())), shape=(len(first), len(input_edges) - 1))


def _padded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same with `ROWS` rows, the missing ones zero."""
    padded = np.zeros((ROWS, *values.shape[1:]), dtype=np.float32)
    padded[: len(values)] = values
    return padded
