"""Single spectra with their fits: the paper's figures 5 to 7."""

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from galprote.model.grids import KEPT, WAVELENGTH
from galprote.model.statistics import Example

SEEN: Final[dict[str, Any]] = {"color": "#999999", "linewidth": 0.6}
FITTED: Final[dict[str, Any]] = {"color": "#d55e00", "linewidth": 1.0}


def examples_figure(examples: list[Example]) -> Figure:
    """Spectrum, fit and residual, and the grid beside the true one, for each example."""
    figure = Figure(figsize=(14.0, 3.4 * len(examples)), layout="constrained")
    for part, example in zip(figure.subfigures(len(examples), 1, squeeze=False)[:, 0], examples, strict=True):
        layout = [["spectrum", "found", "true"], ["residual", "found", "true"]]
        axes = part.subplot_mosaic(layout, width_ratios=[2.6, 1, 1], height_ratios=[2.2, 1])
        axes["residual"].sharex(axes["spectrum"])
        _spectrum(axes["spectrum"], axes["residual"], example)
        grids = {"found": (example.found_grid, example.found), "true": (example.true_grid, example.truth)}
        top = max(float(grid.max()) for grid, _ in grids.values())
        for name, (grid, means) in grids.items():
            image = _grid(axes[name], example, grid, means, top)
            axes[name].set_title(f"{name}: $A_V$ = {means['av']:.2f} mag", fontsize=10)
        part.colorbar(image, ax=[axes["found"], axes["true"]], label="share of the light")
    return figure


def _spectrum(above: Axes, below: Axes, example: Example) -> None:
    model = example.model[KEPT]
    above.plot(WAVELENGTH[KEPT], example.seen, **SEEN, label="seen")
    above.plot(WAVELENGTH[KEPT], model, **FITTED, label="fitted")
    above.set(ylabel="flux / median", title=example.label)
    above.tick_params(labelbottom=False)
    above.legend(frameon=False, ncol=2)
    below.plot(WAVELENGTH[KEPT], example.seen - model, **SEEN)
    below.axhline(0, color="black", linewidth=0.8)
    below.set(xlabel="rest-frame wavelength (Å)", ylabel="residual", xlim=(WAVELENGTH[0], WAVELENGTH[-1]))


def _grid(axes: Axes, example: Example, grid: Any, means: dict[str, float], top: float) -> Any:
    edges = _edges(example.log_ages), _edges(example.metallicities)
    image = axes.pcolormesh(*edges, grid, cmap="viridis", norm=Normalize(0, top), rasterized=True)
    axes.plot(means["log_age"], means["metallicity"], "o", color="white", markeredgecolor="black", label="mean")
    axes.set(xlabel=r"log$_{10}$ (age / yr)", ylabel="[M/H]")
    axes.legend(frameon=False, labelcolor="white", loc="lower left")
    return image


def _edges(centres: Any) -> Any:
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
