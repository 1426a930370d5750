"""Figures of the suites `coverage` and `anomalies`."""

from typing import Any, Final, cast

import numpy as np
from matplotlib.figure import Figure, SubFigure

from galprote.model.anomalies import ANOMALIES
from galprote.model.anomaly_suite import ANOMALY_SNR
from galprote.model.coverage import HONEST, WANTED
from galprote.model.populations import APPRAISED
from galprote.model.statistics import QUANTITIES, SuiteResult
from galprote.workflows.trust_tables import COLUMNS, WORDS

#: Colours (Okabe and Ito's, for every eye) and markers of the quantities.
LOOKS: Final = (
    ("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#56b4e9", "D"), ("#e69f00", "v"), ("#cc79a7", "P"),
    ("#000000", "x"),
)  # fmt: skip
GREY: Final = "#e6e6e6"


def coverage_figure(result: SuiteResult) -> Figure:
    """Shares within one and two errors, case by case, and errors in units of themselves."""
    cases = [name for name in result.cases if not name.startswith(("found", "true"))]
    figure = Figure(figsize=(13, 10), layout="constrained")
    upper, lower = cast("list[SubFigure]", figure.subfigures(2, 1, height_ratios=(1.25, 1)))
    for axes, key, (low, high), level in zip(
        upper.subplots(2, 1, sharex=True), ("within_1", "within_2"), WANTED, (0.683, 0.954), strict=True
    ):
        axes.axhspan(100 * low, 100 * high, color=GREY, zorder=0)
        axes.axhline(100 * level, color="black", linewidth=0.8)
        if key == "within_1":
            axes.axhline(100 * HONEST, color="black", linewidth=0.8, linestyle=":")
        for name, (colour, marker) in zip(APPRAISED, LOOKS, strict=True):
            shares = [100 * result.cases[case][name][key] for case in cases]
            axes.plot(shares, color=colour, marker=marker, linestyle="none", markersize=5, label=COLUMNS[name])
        axes.set_ylabel(f"% within {key[-1]} error{'s' if key[-1] == '2' else ''}")
    axes.set_xticks(range(len(cases)), [case.replace("_", " ") for case in cases], rotation=60, ha="right", fontsize=8)
    upper.axes[0].legend(ncol=len(APPRAISED), frameon=False, fontsize=9, loc="lower left")
    upper.suptitle("Shares of true values within the errors (grey: wanted of the survey's; dotted: of the others)")
    fifths, spread = lower.subplots(1, 2)
    for name, (colour, marker) in zip(QUANTITIES, LOOKS[:3], strict=True):
        for kind, line in (("found", "-"), ("true", ":")):
            parts = [result.cases[f"{kind}_{name}_{k}"][name]["within_1"] for k in range(1, 6)]
            label = f"{COLUMNS[name]}, {kind}"
            fifths.plot(range(1, 6), 100 * np.array(parts), color=colour, marker=marker, linestyle=line, label=label)
    fifths.axhspan(100 * WANTED[0][0], 100 * WANTED[0][1], color=GREY, zorder=0)
    fifths.set(xlabel="fifth of the values, lowest to highest", ylabel="% within 1 error", xticks=range(1, 6))
    fifths.legend(frameon=False, fontsize=9, ncol=2)
    _pulls(spread, result)
    return figure


def _pulls(axes: Any, result: SuiteResult) -> None:
    """Errors in units of the stated ones, of all the survey's spectra."""
    edges = np.linspace(-4, 4, 65)
    judged = [part for name, part in result.judged.items() if name.startswith("survey")]
    for name, (colour, _) in zip(QUANTITIES, LOOKS[:3], strict=True):
        pulls = np.concatenate([(one.found[name] - one.true[name]) / one.sigma[name] for one in judged])
        axes.stairs(
            np.histogram(pulls, edges, density=True)[0], edges, color=colour, label=COLUMNS[name], linewidth=1.5
        )
    axes.plot(edges, np.exp(-0.5 * edges**2) / np.sqrt(2 * np.pi), color="black", linewidth=0.8, label="Gaussian")
    axes.set(xlabel="(found - true) / error, survey", ylabel="density")
    axes.legend(frameon=False, fontsize=9)


def anomalies_figure(result: SuiteResult) -> Figure:
    """Share of each kind caught against the share of ordinary spectra flagged."""
    figure = Figure(figsize=(4.2 * len(ANOMALY_SNR), 4.4), layout="constrained")
    figure.suptitle("Spectra that are no galaxy's stars: caught against false alarms")
    alarms = np.logspace(-3, -0.3, 60)
    for axes, snr in zip(figure.subplots(1, len(ANOMALY_SNR), sharey=True), ANOMALY_SNR, strict=True):
        ordinary = result.trust[f"snr_{snr}_ordinary"]
        limits = np.quantile(ordinary, alarms)
        for kind, (colour, marker) in zip(ANOMALIES, (*LOOKS, ("#999999", "<"), ("#f0e442", ">")), strict=True):
            trust = result.trust.get(f"snr_{snr}_{kind}")
            if trust is None:
                continue
            caught = [100 * np.mean(trust <= limit) for limit in limits]
            axes.plot(100 * alarms, caught, color=colour, marker=marker, markevery=12, markersize=4, label=WORDS[kind])
        axes.axhline(90, color="black", linewidth=0.8, linestyle=":")
        axes.axvline(5, color="black", linewidth=0.8, linestyle=":")
        axes.set(xscale="log", xlabel="% of ordinary spectra flagged", title=f"S/N {snr}", ylim=(0, 102))
    figure.axes[0].set_ylabel("% caught")
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncol=5, frameon=False, fontsize=9
    )
    return figure
