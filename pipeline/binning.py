"""From maps of signal and noise to bins: which spaxels are added up. Arrays in, arrays out.

Sources: Cappellari 2025 (MNRAS 544, 1432; PowerBin, DOI 10.1093/mnras/staf1726); Cappellari & Copin 2003 (MNRAS 342,
345; Voronoi bins); Garcia-Benito et al. 2015 (A&A 576, A135, DOI 10.1051/0004-6361/201425080; the form of the noise's
correction for covariance, 1 + a log10 N).
"""

import importlib
import io
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.errors import ConfigError, CubeError
from galprote.pipeline.binning_config import ADAPTIVE, BinningConfig

#: Package and name of what makes adaptive bins.
PACKAGES: Final = {"powerbin": "powerbin", "voronoi": "vorbin"}


@dataclass(frozen=True)
class Bins:
    """Bins of an image, in the order of their centres' rows: those next to each other are read together.

    Attributes
    ----------
    index : (ny, nx) int32
        Each spaxel's bin, from 0; -1: none.
    ids : (n,) int32
        Their names: those of the file that they come from, or 0, 1, 2...
    x, y : (n,) float32
        Centres, weighted by light, pixels from 0.
    spaxels : (n,) int32
        Number of spaxels.
    rows : (n, 2) int32
        First and last image row.
    weight : (ny, nx) float32
        Light of each spaxel in a bin, by which it counts where others are missing: its signal, or one in bins that have
        none.
    light : (n,) float64
        Sum of these.
    snr : (n,) float32
        Signal-to-noise ratio per channel, after the correction for covariance.
    covariance : float
        a of 1 + a log10 N.
    """

    index: NDArray[np.int32]
    ids: NDArray[np.int32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    spaxels: NDArray[np.int32]
    rows: NDArray[np.int32]
    weight: NDArray[np.float32]
    light: NDArray[np.float64]
    snr: NDArray[np.float32]
    covariance: float

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def noise_factor(self) -> NDArray[np.float64]:
        """By how much the noise of each bin exceeds that of independent spaxels, (n,) float64."""
        return noise_factor(self.spaxels, self.covariance)

    def part(self, mine: slice) -> "Bins":
        """Some of the bins, without the image."""
        nothing = np.empty((0, 0))
        lists = {name: getattr(self, name)[mine] for name in ("ids", "x", "y", "spaxels", "rows", "light", "snr")}
        return Bins(nothing.astype(np.int32), weight=nothing.astype(np.float32), covariance=self.covariance, **lists)

    def paint(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the bins (n,) -> of the spaxels (ny, nx); NaN, or zero for integers, where there is no bin."""
        nothing = values.dtype.type(np.nan if values.dtype.kind == "f" else 0)
        return np.append(values, nothing)[self.index]


def noise_factor(spaxels: NDArray[np.integer], covariance: float) -> NDArray[np.float64]:
    """1 + a log10(N)."""
    return np.asarray(1.0 + covariance * np.log10(np.maximum(spaxels, 1)), dtype=np.float64)


def make_bins(
    signal: NDArray[np.float32],
    noise: NDArray[np.float32],
    usable: NDArray[np.bool_],
    config: BinningConfig,
    covariance: float = 0.0,
    given: NDArray[np.int32] | None = None,
) -> Bins:
    """Make bins.

    Parameters
    ----------
    signal, noise : (ny, nx) float32
        Of the spaxels, per channel, any unit.
    usable : (ny, nx) bool
        Spaxels that may be in a bin.
    config : BinningConfig
        Any method but none.
    covariance : float
        a of the noise's factor 1 + a log10(N).
    given : (ny, nx) int32, optional
        For the method `file`: the numbers that it has; those under `config.first_id` are no bins.

    Returns
    -------
    Bins

    Raises
    ------
    CubeError
        If no spaxel can be in a bin.
    ConfigError
        If the package that the method needs is not installed.
    """
    chosen = usable & np.isfinite(signal)
    if config.method == "file":
        if given is None:
            raise ValueError("the method file needs the numbers of the file")
        chosen &= given >= config.first_id
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            chosen &= signal / noise >= config.snr_min
    y, x = np.nonzero(chosen)
    if not len(y):
        raise CubeError(_nobody(config))
    numbers: NDArray[np.integer]
    if config.method in ADAPTIVE:
        numbers = _adaptive(x, y, signal[chosen], noise[chosen], config, covariance)
    elif config.method == "square":
        numbers = (y // config.size) * (signal.shape[1] // config.size + 1) + x // config.size
    else:
        assert given is not None
        numbers = given[chosen]
    return _described(numbers, x, y, signal, noise, covariance, named=config.method == "file")


def _nobody(config: BinningConfig) -> str:
    if config.method == "file":
        return (
            f"no spaxel with data has a bin in {config.file}: is it of this cube, and is first_id = {config.first_id} "
            f"right?"
        )
    low, high = config.snr_window
    return (
        f"no spaxel reaches a signal-to-noise ratio of {config.snr_min:g} per channel at {low:g}-{high:g} A (rest "
        f"frame): lower binning.snr_min, or check the cube's variances"
    )


def _adaptive(
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    signal: NDArray[np.float32],
    noise: NDArray[np.float32],
    config: BinningConfig,
    covariance: float,
) -> NDArray[np.int64]:
    """Numbers of the spaxels' bins of the wanted signal-to-noise ratio."""
    signals, variances = signal.astype(np.float64), noise.astype(np.float64) ** 2

    def snr(spaxels: Any) -> float:
        factor = 1.0 + covariance * np.log10(np.size(spaxels))
        return float(signals[spaxels].sum() / np.sqrt(variances[spaxels].sum()) / factor)

    alone = signals / np.sqrt(variances)
    if (alone >= config.target_snr).all():
        return np.arange(len(x))
    if snr(np.arange(len(x))) <= config.target_snr:  # all of it is not enough: the packages do not take that
        return np.zeros(len(x), dtype=np.int64)
    package = installed(config.method)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # VorBin says that it is superseded; bins of one spaxel have no scatter
        if config.method == "powerbin":
            places, target = np.column_stack([x, y]).astype(np.float64), float(config.target_snr) ** 2
            made = package.PowerBin(places, lambda index: snr(index) ** 2, target, pixelsize=1.0, verbose=0)
            return np.asarray(made.bin_num, dtype=np.int64)
        numbers = package.voronoi_2d_binning(
            x.astype(np.float64),
            y.astype(np.float64),
            signals,
            np.sqrt(variances),
            config.target_snr,
            pixelsize=1.0,
            plot=False,
            sn_func=lambda index, *_: snr(index),
        )[0]
    return np.asarray(numbers, dtype=np.int64)


def installed(method: str) -> Any:
    """Import the package of an adaptive method.

    Raises
    ------
    ConfigError
        If it is not there: it is no part of a plain installation, because its licence allows no commercial use.
    """
    name = PACKAGES[method]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("vorbin.voronoi_2d_binning" if method == "voronoi" else name)
    except ImportError as error:
        raise ConfigError(
            f"binning.method: {method} needs the package {name}, which is not installed here ({error}): "
            f"pip install 'galprote[binning]', or choose square, file or none"
        ) from error


def _described(
    numbers: NDArray[np.integer],
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    signal: NDArray[np.float32],
    noise: NDArray[np.float32],
    covariance: float,
    *,
    named: bool,
) -> Bins:
    """Put bins in order, and measure them; `x` and `y` are their spaxels' places."""
    names, number, count = np.unique(numbers, return_inverse=True, return_counts=True)
    flux = signal[y, x].astype(np.float64)
    weight = np.where(flux > 0, signal[y, x], np.float32(0)).astype(np.float32)
    weight[(np.bincount(number, weight) <= 0)[number]] = 1.0
    total = np.bincount(number, weight)
    centre_x, centre_y = (np.bincount(number, weight * place) / total for place in (x, y))
    order = np.lexsort((names, np.round(centre_x, 3), np.round(centre_y)))
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    index = np.full(signal.shape, -1, dtype=np.int32)
    index[y, x] = rank[number]
    weights = np.zeros(signal.shape, dtype=np.float32)
    weights[y, x] = weight
    rows = np.stack([np.full(len(names), signal.shape[0]), np.full(len(names), -1)])
    np.minimum.at(rows[0], number, y)
    np.maximum.at(rows[1], number, y)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.bincount(number, noise[y, x].astype(np.float64) ** 2)
        snr = np.bincount(number, flux) / np.sqrt(variance) / noise_factor(count, covariance)
    return Bins(
        index=index,
        ids=(names[order] if named else np.arange(len(order))).astype(np.int32),
        x=centre_x[order].astype(np.float32),
        y=centre_y[order].astype(np.float32),
        spaxels=count[order].astype(np.int32),
        rows=rows.T[order].astype(np.int32),
        weight=weights,
        light=total[order].astype(np.float64),
        snr=snr[order].astype(np.float32),
        covariance=covariance,
    )
