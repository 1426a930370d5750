"""Distributions of a comparison: those of both maps, and that of their difference, with and without outliers."""

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from galprote.pipeline.map_styles import INK
from galprote.workflows.map_comparison import ComparedMap

OURS, THEIRS = "#0072b2", "#d55e00"
TITLE: Final[dict[str, Any]] = {"loc": "left", "fontsize": 11, "color": INK, "pad": 6}


def draw_distributions(axes: Axes, item: ComparedMap, reference: str, label: str) -> None:
    """PDFs of both maps, over the spaxels that are compared."""
    pairs = item.pairs
    low, high = ends_of(np.concatenate([pairs.ours, pairs.theirs]))
    edges = np.linspace(low, high, int(np.clip(2.5 * len(pairs) ** (1 / 3), 10, 60)) + 1)
    for values, colour, name, dashes in (
        (pairs.theirs, THEIRS, reference, "--"), (pairs.ours, OURS, "galprote", "-"),
    ):  # fmt: skip
        counts = np.histogram(values, edges)[0] / max(len(values), 1) / (edges[1] - edges[0])
        words = f"{name}\n{values.mean():.2f} ± {values.std():.2f}"
        axes.stairs(counts, edges, color=colour, lw=1.8, ls=dashes, label=words)
        axes.stairs(counts, edges, color=colour, alpha=0.12, fill=True)
    axes.set(xlim=(low, high), ylim=(0, None), xlabel=label, ylabel="probability density")
    axes.set_title("Distributions: mean ± sigma", **TITLE)
    axes.margins(y=0.15)
    axes.legend(frameon=False, fontsize=9, loc="best", labelcolor=INK)


def draw_differences(axes: Axes, item: ComparedMap) -> None:
    """PDF of the difference, over the spaxels that are compared; what is no outlier is shaded."""
    difference, row = item.pairs.difference, item.statistics[0]
    odd = item.outliers.labels[np.isfinite(item.ours)] > 0
    low, high = ends_of(np.append(difference, 0.0))
    edges = np.linspace(low, high, int(np.clip(2.5 * len(difference) ** (1 / 3), 10, 60)) + 1)
    scale = max(len(difference), 1) * (edges[1] - edges[0])
    kept = np.histogram(difference[~odd], edges)[0] / scale
    every = np.histogram(difference, edges)[0] / scale
    axes.axvline(0.0, color="#666666", lw=0.9)
    axes.stairs(every, edges, color=INK, lw=1.2, label=f"all\n{row.mean:+.2f} ± {row.sigma:.2f}")
    words = f"no outliers\n{row.clipped_mean:+.2f} ± {row.clipped_sigma:.2f}" if odd.any() else None
    axes.stairs(kept, edges, color=OURS, alpha=0.3, fill=True, label=words)
    axes.set(xlim=(low, high), ylim=(0, None), xlabel=f"difference  ({item.quantity.unit})")
    axes.set_title("Difference: mean ± sigma", **TITLE)
    axes.legend(
        fontsize=9, loc="best", labelcolor=INK, handlelength=1.2, facecolor="white", edgecolor="none", framealpha=0.8
    )


def ends_of(values: NDArray[np.float64]) -> tuple[float, float]:
    """Where histograms begin and end: a hundredth of a per cent may lie beyond."""
    low, high = (float(end) for end in np.percentile(values, (0.05, 99.95)))
    room = 0.04 * (high - low) or 0.5
    return low - room, high + room
