"""Figures of an evaluation, one for each suite: the paper's figures 8 to 11, and what makes errors grow.

Told apart by marker and line style as much as by colour; maps of counts are perceptually uniform. No pyplot and no
user's style, so that the same results give the same picture.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from galprote.model.statistics import QUANTITIES, RESIDUAL_EDGES, Comparison, SuiteResult
from galprote.workflows.drawing_style import default_style
from galprote.workflows.example_figures import examples_figure
from galprote.workflows.trust_figures import anomalies_figure, coverage_figure

LABELS: Final = {"log_age": r"log$_{10}$ (age / yr)", "metallicity": "[M/H]", "av": r"$A_V$ (mag)"}
SHORT: Final = {"log_age": "log age", "metallicity": "[M/H]", "av": r"$A_V$"}
#: Colour (Okabe and Ito's, for every eye), marker and line of what stands beside each other.
STYLES: Final[tuple[dict[str, Any], ...]] = (
    {"color": "#0072b2", "marker": "o", "linestyle": "-"},
    {"color": "#d55e00", "marker": "s", "linestyle": "--"},
    {"color": "#009e73", "marker": "^", "linestyle": ":"},
)
COUNTS: Final = "viridis"
DPI: Final = 150
BINS: Final = 40
#: Share of the spectra outside the limits of a scatter's axes, per cent at each end.
OUTSIDE: Final = 0.2


def write_figures(results: dict[str, SuiteResult], folder: Path) -> list[Path]:
    """Write one PNG for each suite with results, named after it, and one of its example spectra, if it has any.

    Parameters
    ----------
    results : dict of SuiteResult
        By suite.
    folder : Path
        Made if need be.

    Returns
    -------
    list of Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, result in results.items():
        if not result.cases:
            continue
        with default_style():
            figures = {name: FIGURES[name](result)}
            if result.examples:
                figures[f"{name}-examples"] = examples_figure(result.examples)
            for stem, figure in figures.items():
                paths.append(folder / f"{stem}.png")
                FigureCanvasAgg(figure).print_figure(paths[-1], dpi=DPI, metadata={"Software": None})
    return paths


def _canvas(rows: int, columns: int, title: str, size: tuple[float, float] = (4.0, 3.3)) -> tuple[Figure, Any]:
    figure = Figure(figsize=(size[0] * columns, size[1] * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=13)
    return figure, figure.subplots(rows, columns, squeeze=False)


# --- (a) the paper's figures 8 to 12 ---


def paper_figure(result: SuiteResult) -> Figure:
    """Histograms, confusion matrices, errors against the spectral MSE, and the residuals of single samples."""
    comparison = result.comparisons["blind"]
    figure, axes = _canvas(4, 3, f"The paper's protocol: {len(comparison):,} spectra")
    _residuals(axes[3, 0], comparison)
    axes[3, 1].hist(100 * comparison.mse, bins=BINS, color="#bbbbbb")
    axes[3, 1].set(xlabel="MSE (%)", ylabel="spectra")
    axes[3, 2].set_axis_off()
    for row, name in zip(axes[:3], QUANTITIES, strict=True):
        _histogram(row[0], comparison, name)
        image = _confusion(row[1], comparison, name)
        figure.colorbar(image, ax=row[1], label="share of the true bin")
        counts = _error_against_mse(row[2], comparison, name)
        figure.colorbar(counts, ax=row[2], label="spectra")
    return figure


def _residuals(axes: Axes, comparison: Comparison) -> None:
    axes.stairs(comparison.counts, 100 * RESIDUAL_EDGES, color=STYLES[0]["color"], fill=True)
    axes.set(xlabel="seen minus fitted (% of the median; ends: beyond)", ylabel="samples", yscale="log")


def _edges(comparison: Comparison, name: str) -> Any:
    both = np.concatenate([comparison.truth[name], comparison.found[name]])
    # A_V has classes: bins are centred on them.
    width = 0.1 if name == "av" else np.ptp(both) / BINS
    return np.arange(both.min() - width / 2, both.max() + width, width) if width else np.array([-0.5, 0.5])


def _histogram(axes: Axes, comparison: Comparison, name: str) -> None:
    edges = _edges(comparison, name)
    axes.hist(comparison.truth[name], edges, color="#bbbbbb", label="true")
    axes.hist(comparison.found[name], edges, histtype="step", color=STYLES[0]["color"], linewidth=1.6, label="found")
    axes.set(xlabel=LABELS[name], ylabel="spectra")
    axes.legend(frameon=False)


def _confusion(axes: Axes, comparison: Comparison, name: str) -> Any:
    """Of each bin of the truth, how the answers are spread."""
    edges = _edges(comparison, name)
    count, _, _ = np.histogram2d(comparison.truth[name], comparison.found[name], [edges, edges])
    share = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    image = axes.pcolormesh(
        edges, edges, np.where(count > 0, share, np.nan).T, cmap=COUNTS, norm=LogNorm(1e-3, 1.0), rasterized=True
    )
    axes.plot(edges[[0, -1]], edges[[0, -1]], color="black", linewidth=0.8, linestyle="--")
    axes.set(xlabel=f"true {LABELS[name]}", ylabel=f"found {LABELS[name]}", aspect="equal")
    return image


def _error_against_mse(axes: Axes, comparison: Comparison, name: str) -> Any:
    """Found minus true against the difference of the input and the fitted spectrum, with the running median."""
    mse, error = 100 * comparison.mse, comparison.error(name)
    right = float(np.percentile(mse, 100 - OUTSIDE))
    reach = float(np.percentile(np.abs(error), 100 - OUTSIDE)) or 1.0
    counts = axes.hexbin(
        mse, error, gridsize=(45, 28), extent=(0, right, -reach, reach), cmap=COUNTS, norm=LogNorm(), mincnt=1
    )
    for part in np.array_split(np.argsort(mse), 12):
        axes.plot(np.median(mse[part]), np.median(error[part]), "D", color="white", markeredgecolor="black", ms=4.5)
    axes.axhline(0, color="black", linewidth=0.8, linestyle="--")
    axes.set(xlabel="MSE (%)", ylabel=f"error of {SHORT[name]}", xlim=(0, right), ylim=(-reach, reach))
    axes.set_title(f"mean {error.mean():+.3f}, sigma {error.std():.3f}", fontsize=10)
    return counts


# --- (b) to (g) ---


def survey_figure(result: SuiteResult) -> Figure:
    """Scatter and the biases at the ends of the range against the signal-to-noise ratio."""
    cases = {float(name.removeprefix("snr_")): case for name, case in result.cases.items() if name != "smooth"}
    figure, axes = _canvas(2, 3, f"Survey stream: {_number(result):,} spectra at each signal-to-noise ratio")
    for (above, below), name in zip(axes.T, QUANTITIES, strict=True):
        snr = list(cases)
        above.plot(snr, [case[name]["rms"] for case in cases.values()], **STYLES[0], label="root mean square")
        above.plot(snr, [case[name]["sigma"] for case in cases.values()], **STYLES[1], label="sigma")
        if "smooth" in result.cases:
            above.plot(
                60, result.cases["smooth"][name]["rms"], "*", color="black", ms=11, label="smooth histories, rms"
            )
        for (label, part), look in zip(
            (("lowest fifth", 0), ("all", None), ("highest fifth", -1)), STYLES, strict=True
        ):
            below.plot(snr, [_mean(case[name], part) for case in cases.values()], **look, label=label)
        above.set(ylabel=f"error of {SHORT[name]}", ylim=(0, None))
        below.set(ylabel=f"mean error of {SHORT[name]}", xlabel="S/N per 2.48 Å")
        below.axhline(0, color="black", linewidth=0.8)
        for panel in (above, below):
            _log_snr(panel, snr)
    axes[0, 0].legend(frameon=False, fontsize=9)
    axes[1, 0].legend(frameon=False, fontsize=9, title="of the true values")
    return figure


def library_figure(result: SuiteResult) -> Figure:
    """Running median and the central 68 % of the errors against the truth, the own library beside the other."""
    ratios = sorted({name.rsplit("_", 1)[1] for name in result.cases}, key=float)
    figure, axes = _canvas(len(ratios), 3, "A library that the network does not know, and its own")
    for row, snr in zip(axes, ratios, strict=True):
        for panel, name in zip(row, QUANTITIES, strict=True):
            for library, look in zip(("own", "other"), STYLES, strict=False):
                comparison = result.comparisons[f"{library}_snr_{snr}"]
                x, low, middle, high = _running(comparison.truth[name], comparison.error(name))
                panel.plot(x, middle, **look, label=f"{library}: median, central 68 %")
                for edge in (low, high):
                    panel.plot(x, edge, color=look["color"], linestyle=look["linestyle"], linewidth=0.8)
            panel.axhline(0, color="black", linewidth=0.8)
            panel.set(xlabel=f"true {LABELS[name]}", ylabel=f"error of {SHORT[name]}")
            panel.set_title(f"S/N {snr}", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncol=2, frameon=False)
    return figure


def kinematics_figure(result: SuiteResult) -> Figure:
    """Growth of the errors, and the bias that is added, against what the stars do."""
    values = [float(name.rsplit("_", 1)[1]) for name in result.cases]
    what = "velocity off the assumed redshift" if min(values) < 0 else "velocity dispersion"
    figure, axes = _canvas(1, 2, f"{what.capitalize()}: the same {_number(result):,} spectra, S/N 35", (5.2, 3.8))
    for name, look in zip(QUANTITIES, STYLES, strict=True):
        cases = [case[name] for case in result.cases.values()]
        axes[0, 0].plot(values, [case.get("rms_ratio") or 1.0 for case in cases], **look, label=SHORT[name])
        axes[0, 1].plot(values, [case["mean"] for case in cases], **look, label=SHORT[name])
    axes[0, 0].axhline(1, color="black", linewidth=0.8)
    axes[0, 0].set(ylabel="rms error / rms error at 0", xlabel=f"{what} (km/s)")
    axes[0, 1].axhline(0, color="black", linewidth=0.8)
    axes[0, 1].set(ylabel="mean error (dex, dex, mag)", xlabel=f"{what} (km/s)")
    axes[0, 0].legend(frameon=False)
    return figure


def artefacts_figure(result: SuiteResult) -> Figure:
    """Bias that each artefact adds, and how much the errors grow."""
    names = [name for name, case in result.cases.items() if "bias_added" in case["log_age"]]
    figure, axes = _canvas(1, 2, f"Artefacts, each alone: the same {_number(result):,} spectra, S/N 35", (5.2, 4.2))
    place = np.arange(len(names))[::-1]
    for k, (name, look) in enumerate(zip(QUANTITIES, STYLES, strict=True)):
        cases = [result.cases[case][name] for case in names]
        spot = {"color": look["color"], "marker": look["marker"], "linestyle": "none", "label": SHORT[name]}
        axes[0, 0].plot([case["bias_added"] for case in cases], place + 0.18 * (1 - k), **spot)
        axes[0, 1].plot([case["rms_ratio"] or np.nan for case in cases], place + 0.18 * (1 - k), **spot)
    axes[0, 0].axvspan(-0.03, 0.03, color="#eeeeee", zorder=0)
    axes[0, 0].axvline(0, color="black", linewidth=0.8)
    axes[0, 1].axvline(1, color="black", linewidth=0.8)
    axes[0, 0].set(xlabel="bias added (dex, dex, mag); grey: 0.03", yticks=place)
    axes[0, 0].set_yticklabels([name.replace("_", " ") for name in names])
    axes[0, 1].set(xlabel="rms error / rms error without", yticks=place, yticklabels=[])
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside lower center", ncol=3, frameon=False)
    return figure


def fits_figure(result: SuiteResult) -> Figure:
    """Root mean square errors of the network and the likelihood fits against the signal-to-noise ratio."""
    kinds = list(dict.fromkeys(name.split("_")[0] for name in result.cases))
    fits = dict.fromkeys(name.split("_")[3] for name in result.cases)
    ratios = sorted({int(name.split("_")[2]) for name in result.cases})
    titles = {"network": "network", "nnls": "NNLS", "ppxf": "pPXF"}
    figure, axes = _canvas(len(kinds), 3, "The same spectra, the same templates, one core", (4.2, 3.6))
    for kind, row in zip(kinds, axes, strict=True):
        for panel, name in zip(row, QUANTITIES, strict=True):
            for fit, look in zip(fits, STYLES, strict=False):
                cases = [result.cases[f"{kind}_snr_{snr}_{fit}"] for snr in ratios]
                seconds = np.mean([case["seconds_per_spectrum"] for case in cases])
                label = f"{titles[fit]}: {1e3 * seconds:.3g} ms each, n = {cases[0]['spectra']}"
                panel.plot(ratios, [case[name]["rms"] for case in cases], **look, label=label)
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter(ScalarFormatter())
            panel.yaxis.set_minor_formatter(ScalarFormatter())
            panel.set(ylabel=f"rms error of {SHORT[name]}", xlabel="S/N per 2.48 Å", title=f"{kind}'s populations")
            _log_snr(panel, ratios)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncol=3, frameon=False)
    return figure


def _number(result: SuiteResult) -> int:
    return max(int(case["spectra"]) for case in result.cases.values())


def _mean(values: dict[str, Any], part: int | None) -> float:
    """Mean error of all or of a fifth."""
    return float(values["mean"] if part is None or "fifths" not in values else values["fifths"][part]["mean"])


def _log_snr(axes: Axes, ratios: Iterable[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(list(ratios))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _running(truth: Any, error: Any, parts: int = 10) -> tuple[Any, Any, Any, Any]:
    """Median truth, and 16th, 50th, 84th percentile of the errors, in equal parts of the truth."""
    groups = np.array_split(np.argsort(truth, kind="stable"), parts)
    rows = [(np.median(truth[part]), *np.percentile(error[part], [16, 50, 84])) for part in groups if len(part)]
    x, low, middle, high = np.array(rows).T
    return x, low, middle, high


FIGURES: Final[dict[str, Callable[[SuiteResult], Figure]]] = {
    "paper": paper_figure,
    "survey": survey_figure,
    "library": library_figure,
    "dispersion": kinematics_figure,
    "velocity": kinematics_figure,
    "artefacts": artefacts_figure,
    "fits": fits_figure,
    "coverage": coverage_figure,
    "anomalies": anomalies_figure,
}
