"""Errors of many fits in a few numbers: mean, scatter, what happens at the ends of the range, ratios of two fits.

Everywhere an error is predicted minus true.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: What every fit is judged by: dex, dex, mag.
QUANTITIES: Final = ("log_age", "metallicity", "av")
#: What a fit with kinematics is judged by too, km/s.
KINEMATICS: Final = ("dispersion", "velocity")

#: Parts into which the spectra are sorted by their true value.
PARTS: Final = 5

#: Resamples behind an interval, and their seed.
RESAMPLES: Final = 2000
BOOTSTRAP_SEED: Final = 20_250_399


@dataclass(frozen=True)
class Comparison:
    """Fits of n spectra beside their truth.

    Attributes
    ----------
    truth, found : dict of (n,) float64
        By the names of `QUANTITIES`, and of `KINEMATICS` where there are any: the light-weighted means of log10(age /
        yr) and [M/H], A_V in mag, km/s.
    mse : (n,) float64
        Mean squared difference of the spectrum as seen and the fitted one, both of median one.
    clean_mse : (n,) float64
        The same against the spectrum before anything was done to it.
    residual : (n,) float64
        Mean difference of the spectrum as seen and the fitted one.
    counts : (120,) int64
        Of the differences in all single samples, between `RESIDUAL_EDGES`.
    """

    truth: dict[str, NDArray[np.float64]]
    found: dict[str, NDArray[np.float64]]
    mse: NDArray[np.float64]
    clean_mse: NDArray[np.float64]
    residual: NDArray[np.float64]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.mse)

    def error(self, name: str) -> NDArray[np.float64]:
        """Found minus true, (n,)."""
        return self.found[name] - self.truth[name]


def joined_comparisons(parts: Iterable[Comparison]) -> Comparison:
    """One comparison of several."""
    parts = list(parts)
    mse, clean_mse, residual = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("mse", "clean_mse", "residual")
    )
    return Comparison(
        {name: np.concatenate([part.truth[name] for part in parts]) for name in parts[0].truth},
        {name: np.concatenate([part.found[name] for part in parts]) for name in parts[0].found},
        mse,
        clean_mse,
        residual,
        np.sum([part.counts for part in parts], axis=0),
    )


#: Bins of single samples' residuals: edges, of spectra with a median of one; what is beyond counts in the end bins.
RESIDUAL_EDGES: Final[NDArray[np.float64]] = np.linspace(-0.3, 0.3, 121)


def residual_counts(residual: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many single samples of residuals (n, 876) lie between `RESIDUAL_EDGES`: (120,)."""
    inside = np.clip(residual, RESIDUAL_EDGES[0], np.nextafter(RESIDUAL_EDGES[-1], 0.0))
    return np.histogram(inside, RESIDUAL_EDGES)[0]


@dataclass(frozen=True)
class Example:
    """One spectrum with its fit.

    Attributes
    ----------
    label : str
    seen : (876,) float32
        As the network saw it, median one.
    model : (948,) float32
        As it was fitted.
    true_grid, found_grid : (n_metallicity, n_age) float32
    log_ages, metallicities : (n_age,), (n_metallicity,) float64
        Axes of the grids.
    truth, found : dict of float
        By the names of `QUANTITIES`.
    """

    label: str
    seen: NDArray[np.float32]
    model: NDArray[np.float32]
    true_grid: NDArray[np.float32]
    found_grid: NDArray[np.float32]
    log_ages: NDArray[np.float64]
    metallicities: NDArray[np.float64]
    truth: dict[str, float]
    found: dict[str, float]


@dataclass(frozen=True)
class SuiteResult:
    """What one suite found.

    Attributes
    ----------
    cases : dict
        Case to quantity to numbers, JSON-able; `spectra` of a case is their number.
    comparisons : dict of Comparison
        The spectra behind the cases, for figures.
    remarks : list of str
        What the reader has to know: above all why something was left out.
    examples : list of Example
        Single spectra, for figures.
    judged : dict
        Errors beside the network's own statement of them (`galprote.model.coverage.Judged`), for figures.
    trust : dict of (n,) float64
        For figures.
    """

    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    judged: dict[str, Any] = field(default_factory=dict)
    trust: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def add(
        self, case: str, comparison: Comparison, *, kinematics: bool = False, against: str | None = None
    ) -> dict[str, Any]:
        """Enter a case; `against` names an earlier one of which this is a variation."""
        names = QUANTITIES + (KINEMATICS if kinematics else ())
        table: dict[str, Any] = {"spectra": len(comparison)}
        for name in names:
            if name in comparison.found:
                table[name] = error_summary(comparison.truth[name], comparison.found[name])
        if against is not None:
            for name in QUANTITIES:
                table[name] |= variation(table[name], self.cases[against][name])
        self.cases[case] = table
        self.comparisons[case] = comparison
        return table


def summary(errors: NDArray[np.float64]) -> dict[str, float]:
    """Mean, standard deviation about it, and root mean square of errors (n,)."""
    return {
        "mean": float(errors.mean()),
        "sigma": float(errors.std()),
        "rms": float(np.sqrt(np.mean(errors**2))),
    }


def error_summary(truth: NDArray[np.float64], found: NDArray[np.float64]) -> dict[str, Any]:
    """Errors of all, and of each fifth of the true values from the lowest to the highest.

    Parameters
    ----------
    truth, found : (n,) float64

    Returns
    -------
    dict
        `mean`, `sigma`, `rms`; where the truth is not the same for all, `fifths`: a list of dict with `from`, `to`
        (true values), `mean`, `sigma`.
    """
    result: dict[str, Any] = summary(found - truth)
    if len(truth) < PARTS or np.ptp(truth) == 0:
        return result
    # Sorted and cut, rather than cut at quantiles: of a value that many share, each part gets its number of spectra.
    parts = np.array_split(np.argsort(truth, kind="stable"), PARTS)
    result["fifths"] = [
        {
            "from": float(truth[part].min()),
            "to": float(truth[part].max()),
            "mean": float((found[part] - truth[part]).mean()),
            "sigma": float((found[part] - truth[part]).std()),
        }
        for part in parts
    ]
    return result


def variation(one: Mapping[str, float], base: Mapping[str, float]) -> dict[str, float | None]:
    """What changed against a base case: `bias_added`, `sigma_ratio`, `rms_ratio` (none where the base has no error)."""
    return {
        "bias_added": one["mean"] - base["mean"],
        "sigma_ratio": one["sigma"] / base["sigma"] if base["sigma"] else None,
        "rms_ratio": one["rms"] / base["rms"] if base["rms"] else None,
    }


def rms_ratio(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """Ratio of two fits' root mean square errors on the same spectra, with its 68 % interval.

    Parameters
    ----------
    one, other : (n,) float64
        Errors, in the same order.

    Returns
    -------
    float
        RMS of `one` over RMS of `other`; NaN when both are zero.
    (float, float)
        16th and 84th percentile of the ratio when the spectra are drawn again with replacement, each with both of its
        errors.
    """
    squares = np.stack([one, other]) ** 2
    random = np.random.default_rng(BOOTSTRAP_SEED)
    count = random.multinomial(len(one), np.full(len(one), 1 / len(one)), size=RESAMPLES)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(squares[0].sum() / squares[1].sum())
        resampled = np.sqrt((count @ squares[0]) / (count @ squares[1]))
    low, high = np.percentile(resampled, [16, 84])
    return float(ratio), (float(low), float(high))
