"""Signal and noise of every spaxel of a block, from which bins are made. Arrays in, arrays out."""

from dataclasses import dataclass

import bottleneck
import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.quality import Status
from galprote.pipeline.rest_frame import LARGEST_FLUX, is_variance

#: Share of the window's channels that a spaxel must have.
ENOUGH_CHANNELS = 0.5


@dataclass(frozen=True)
class SpaxelMeasures:
    """What is known of a block's spaxels before they are binned.

    Attributes
    ----------
    signal, noise : (rows, columns) float32
        Medians of flux and standard deviation per channel in the window; NaN where too many channels are missing.
    status : (rows, columns) int32
        Bits of `Status`: why a spaxel can be in no bin, or 0.
    """

    signal: NDArray[np.float32]
    noise: NDArray[np.float32]
    status: NDArray[np.int32]

    @property
    def snr(self) -> NDArray[np.float32]:
        """Signal-to-noise ratio per channel."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.signal / self.noise)


def channels_in(wavelength: NDArray[np.float64], window: tuple[float, float], redshift: float) -> NDArray[np.bool_]:
    """Channels (m,) whose observed wavelengths lie in a rest-frame window."""
    rest = wavelength / (1 + redshift)
    return np.asarray((rest >= window[0]) & (rest <= window[1]))


def measure_spaxels(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    excluded: NDArray[np.int32] | None,
    channels: NDArray[np.bool_],
) -> SpaxelMeasures:
    """Measure the spaxels of a block.

    Parameters
    ----------
    flux, variance : (m, rows, columns) float32
    excluded : (rows, columns) int32 or None
        Bits of `Status` of spaxels that are left out.
    channels : (m,) bool
        Where signal and noise are measured.

    Returns
    -------
    SpaxelMeasures
    """
    status = np.zeros(flux.shape[1:], dtype=np.int32) if excluded is None else excluded.astype(np.int32)
    seen = np.zeros(flux.shape[1:], dtype=bool)
    for plane in flux:  # a copy of all of the block is not worth a map
        seen |= np.abs(plane) < LARGEST_FLUX
    status[~seen] |= np.int32(Status.NO_DATA)
    part, noise = flux[channels], variance[channels]
    good = (np.abs(part) < LARGEST_FLUX) & is_variance(noise)
    part, noise = (np.where(good, values, np.float32(np.nan)) for values in (part, np.sqrt(np.where(good, noise, 1))))
    enough = good.mean(axis=0) >= ENOUGH_CHANNELS
    signal, sigma = (np.where(enough, bottleneck.nanmedian(values, axis=0), np.nan) for values in (part, noise))
    return SpaxelMeasures(signal.astype(np.float32), sigma.astype(np.float32), status)
