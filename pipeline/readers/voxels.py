"""A cube's voxels, slab by slab -> counts of what is missing or wrong in them."""

import math
from dataclasses import dataclass
from typing import Final, Protocol

import bottleneck as bn
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from galprote.model.artefacts import NOTCH
from galprote.pipeline.readers.channels import ChannelRange
from galprote.pipeline.readers.cubefile import CubeFile
from galprote.pipeline.readers.dataset import mask_flagged
from galprote.pipeline.readers.noise import METHOD, der_snr_variance
from galprote.pipeline.readers.parts import CubeParts

#: Memory for one slab of flux and variance, bytes.
SLAB_BYTES: Final = 128 << 20
#: Spectra from which the S/N of each channel is taken: enough for a median to 2 %, in 60 MB for a MUSE cube.
SNR_SPECTRA: Final = 4000


@dataclass(frozen=True)
class Band:
    """Neighbouring channels: first and last centre (observed air Angstrom), their number, a name or ''."""

    first: float
    last: float
    channels: int
    name: str = ""


@dataclass(frozen=True)
class VoxelReport:
    """What the voxels that were read hold.

    Attributes
    ----------
    fraction_read : float
        Fraction of the spaxels that were read; all counts refer to these.
    spaxels, empty_spaxels : int
        Spaxels read, and those of them without a single finite nonzero flux. The others are "with data".
    nan_bands : tuple of Band
        Wavelengths at which the flux of every spaxel with data is NaN.
    flux_nan : int
        Voxels of spaxels with data, outside of `nan_bands`, whose flux is not finite.
    joint_nan : int
        Those of them whose variance is not finite either.
    finite_flux : int
        Voxels of spaxels with data whose flux is finite.
    bad_variance : int
        Those of them whose variance is zero, negative or not finite.
    bad_variance_bands : tuple of Band
        The wavelengths of these, ascending.
    snr : tuple of float
        Median S/N of each channel of the file, ascending in wavelength; NaN where no voxel has one.
    snr_spectra : int
        Number of spectra in these medians.
    """

    fraction_read: float
    spaxels: int
    empty_spaxels: int
    nan_bands: tuple[Band, ...]
    flux_nan: int
    joint_nan: int
    finite_flux: int
    bad_variance: int
    bad_variance_bands: tuple[Band, ...]
    snr: tuple[float, ...]
    snr_spectra: int

    @property
    def empty_fraction(self) -> float:
        """Fraction of the spaxels read that hold nothing."""
        return self.empty_spaxels / self.spaxels if self.spaxels else math.nan

    @property
    def bad_variance_fraction(self) -> float:
        """Bad variances as a fraction of the voxels with finite flux."""
        return self.bad_variance / self.finite_flux if self.finite_flux else math.nan


class _Counts:
    """Sums over slabs, each (channels,)."""

    def __init__(self, channels: int) -> None:
        self.spaxels = self.empty = 0
        self.finite = np.zeros(channels, dtype=np.int64)
        self.joint = np.zeros(channels, dtype=np.int64)
        self.bad = np.zeros(channels, dtype=np.int64)
        self.snr: list[NDArray[np.float32]] = []

    def add(self, flux: NDArray[np.float32], variance: NDArray[np.float32] | None, spectra: int) -> None:
        """Count one slab, flux and variance (channels, spaxels); take the S/N of some `spectra` of it."""
        finite = np.isfinite(flux)
        filled = (finite & (flux != 0)).any(axis=0)
        self.spaxels += filled.size
        self.empty += int(filled.size - np.count_nonzero(filled))
        finite &= filled
        self.finite += np.count_nonzero(finite, axis=1)
        if variance is not None:
            self.joint += np.count_nonzero(~np.isfinite(variance) & ~finite & filled, axis=1)
            self.bad += np.count_nonzero(~(np.isfinite(variance) & (variance > 0)) & finite, axis=1)
        chosen = np.flatnonzero(filled)
        chosen = chosen[np.linspace(0, chosen.size - 1, min(spectra, chosen.size)).astype(int)]
        picked = flux[:, chosen]
        noise = der_snr_variance(picked) if variance is None else variance[:, chosen]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            self.snr.append(np.where(noise > 0, picked / np.sqrt(noise), np.nan).astype(np.float32))


class VoxelSource(Protocol):
    """What can be scanned."""

    wavelength: NDArray[np.float64]
    """(n,), observed air Angstrom, ascending."""
    shape: tuple[int, int, int]
    """(wavelength, y, x)."""

    def read(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Flux and variance (n, rows, x); None without variances."""


class FileVoxels:
    """The voxels of a cube in a FITS file.

    Parameters
    ----------
    file : CubeFile
    parts : CubeParts
    """

    def __init__(self, file: CubeFile, parts: CubeParts) -> None:
        self.wavelength = parts.axis.wavelength[:: parts.axis.step]
        self.shape = parts.shape
        first = 0 if parts.axis.step == 1 else self.wavelength.size - 1
        channels = ChannelRange(first, parts.axis.step, self.wavelength, (0.0, 0.0))
        self._flux = file.slabs(parts.flux, parts, channels, "value", 1.0)
        noise = parts.variance
        self._noise = file.slabs(noise, parts, channels, parts.variance_kind, 1.0) if noise else None
        self._flags = file.slabs(parts.flags, parts, channels, "flag", 1.0) if parts.flags else None

    def read(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Flux and variance (n, rows, x), NaN where a flag is set."""
        flux, noise = self._flux[:, rows], self._noise[:, rows] if self._noise else None
        if self._flags is None:
            return flux, noise
        bad = self._flags[:, rows]
        return mask_flagged(flux, bad), None if noise is None else mask_flagged(noise, bad)


class DatasetVoxels:
    """The voxels of an opened Dataset.

    Parameters
    ----------
    cube : xarray.Dataset
        From `open_cube`, with all channels.
    """

    def __init__(self, cube: xr.Dataset) -> None:
        self.wavelength = np.asarray(cube["wavelength"].values)
        self.shape = cube["flux"].shape[0], cube["flux"].shape[1], cube["flux"].shape[2]
        self._cube = cube
        self._estimated = cube.attrs["variance_source"] == METHOD

    def read(self, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Flux and variance (n, rows, x)."""
        block = self._cube.isel(y=rows)
        return block["flux"].values, None if self._estimated else block["variance"].values


def scan_voxels(source: VoxelSource, sample: int | None) -> VoxelReport:
    """Count what is missing or wrong in the voxels of a cube.

    Parameters
    ----------
    source : VoxelSource
    sample : int or None
        Number of slabs to read, evenly spaced over the cube; None reads all.

    Returns
    -------
    VoxelReport
        Memory is bounded by `SLAB_BYTES`, about twice over, whatever the size of the cube.
    """
    wavelength, shape = source.wavelength, source.shape
    blocks = _row_blocks(shape, sample)
    counts = _Counts(wavelength.size)
    for rows in blocks:
        flux, variance = source.read(rows)
        count = flux.shape[1] * flux.shape[2]
        flat = None if variance is None else variance.reshape(-1, count)
        counts.add(flux.reshape(-1, count), flat, math.ceil(SNR_SPECTRA / len(blocks)))
    with_data = counts.spaxels - counts.empty
    empty_channel = (counts.finite == 0) & (with_data > 0)
    snr = np.concatenate(counts.snr, axis=1)
    return VoxelReport(
        fraction_read=counts.spaxels / (shape[1] * shape[2]),
        spaxels=counts.spaxels,
        empty_spaxels=counts.empty,
        nan_bands=bands(wavelength, empty_channel),
        flux_nan=int((with_data - counts.finite)[~empty_channel].sum()),
        joint_nan=int(counts.joint[~empty_channel].sum()),
        finite_flux=int(counts.finite.sum()),
        bad_variance=int(counts.bad.sum()),
        bad_variance_bands=bands(wavelength, counts.bad > 0),
        snr=tuple(bn.nanmedian(snr, axis=1).tolist()) if snr.shape[1] else (math.nan,) * wavelength.size,
        snr_spectra=snr.shape[1],
    )


def bands(wavelength: NDArray[np.float64], flagged: NDArray[np.bool_]) -> tuple[Band, ...]:
    """Group flagged channels into runs of neighbours.

    Parameters
    ----------
    wavelength : (n,) float64
        Observed air wavelengths, Angstrom, ascending.
    flagged : (n,) bool
        Channels to group.

    Returns
    -------
    tuple of Band
        In ascending order; the one that adaptive optics leave out is named.
    """
    padded = np.concatenate([[False], flagged, [False]]).astype(np.int8)
    starts, stops = np.flatnonzero(np.diff(padded) == 1), np.flatnonzero(np.diff(padded) == -1)
    return tuple(
        Band(first, last, int(stop - start), "AO sodium notch" if _is_notch(first, last) else "")
        for start, stop in zip(starts, stops, strict=True)
        for first, last in [(float(wavelength[start]), float(wavelength[stop - 1]))]
    )


def _is_notch(first: float, last: float) -> bool:
    """Tell the notch by its overlap: its ends differ by tens of Angstrom between the instrument's modes."""
    overlap = min(last, NOTCH[1]) - max(first, NOTCH[0])
    return overlap > 0.5 * (NOTCH[1] - NOTCH[0]) and overlap > 0.5 * (last - first)


def _row_blocks(shape: tuple[int, int, int], sample: int | None) -> list[slice]:
    channels, height, width = shape
    rows = min(max(1, SLAB_BYTES // (channels * width * 8)), 64, height)
    starts = list(range(0, height, rows))
    if sample is not None and sample < len(starts):
        starts = [starts[i] for i in np.linspace(0, len(starts) - 1, max(sample, 1)).round().astype(int)]
    return [slice(start, min(start + rows, height)) for start in starts]
