"""What `compare --ppxf` found: tables in the terminal, JSON, CSV, and a figure."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from galprote.pipeline.compared_quantities import BY_NAME
from galprote.pipeline.map_styles import INK, style_of
from galprote.pipeline.whole_files import appearing, write_text
from galprote.workflows.comparison_report import csv_text
from galprote.workflows.drawing_style import default_style
from galprote.workflows.ppxf_comparison import QUANTITIES, Array, PpxfComparison
from galprote.workflows.terminal import plain

OURS, THEIRS, GREY = "#0072b2", "#d55e00", "#666666"
DPI: Final = 120


def ppxf_dict(found: PpxfComparison) -> dict[str, Any]:
    """Everything as plain data; what is not a number is null."""
    ratio = float(np.mean(found.seconds)) / found.network_seconds
    clock = float(np.mean(found.clock_seconds)) / found.network_clock_seconds
    return dict(
        plain(
            {
                "spectra": len(found.seconds),
                "asked": found.asked,
                "seed": found.seed,
                "places": found.places,
                "reference": found.reference_name,
                "ppxf_seconds": float(np.mean(found.seconds)),
                "ppxf_clock_seconds": float(np.mean(found.clock_seconds)),
                "network_seconds": found.network_seconds,
                "network_clock_seconds": found.network_clock_seconds,
                "ratio": ratio,
                "clock_ratio": clock,
                "batch": found.batch,
                "about": found.about,
                "differences": {name: _differences(found, name) for name in QUANTITIES},
                "fits": _rows(found),
            }
        )
    )


def _differences(found: PpxfComparison, name: str) -> dict[str, dict[str, float]]:
    pairs = {"galprote minus pPXF": found.ours[name] - found.ppxf[name]}
    if np.isfinite(found.reference[name]).any():
        what = "truth" if found.truth else "reference"
        pairs[f"galprote minus {what}"] = found.ours[name] - found.reference[name]
        pairs[f"pPXF minus {what}"] = found.ppxf[name] - found.reference[name]
    return {label: _numbers(difference) for label, difference in pairs.items()}


def _numbers(difference: Array) -> dict[str, float]:
    known = difference[np.isfinite(difference)]
    if not known.size:
        return {"n": 0, "mean": np.nan, "sigma": np.nan, "rms": np.nan, "median": np.nan}
    return {
        "n": int(known.size),
        "mean": float(known.mean()),
        "sigma": float(known.std()),
        "rms": float(np.sqrt(np.mean(known**2))),
        "median": float(np.median(known)),
    }


def _rows(found: PpxfComparison) -> list[dict[str, Any]]:
    columns: dict[str, Any] = {"y": found.y, "x": found.x, "bin_id": found.bins, "snr": found.snr}
    for name in QUANTITIES:
        columns |= {
            f"{name}_galprote": found.ours[name],
            f"{name}_error": found.ours_error[name],
            f"{name}_ppxf": found.ppxf[name],
            f"{name}_reference": found.reference[name],
        }
    columns |= {"ppxf_seconds": found.seconds, "ppxf_clock_seconds": found.clock_seconds}
    lists = {name: np.asarray(values).tolist() for name, values in columns.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def ppxf_tables(found: PpxfComparison) -> list[Table | str]:
    """What the terminal shows."""
    record = ppxf_dict(found)
    table = Table(title=f"{found.galaxy}: {record['spectra']:,} {found.places}, fitted by both")
    for name in ("quantity", "difference", "n", "mean", "sigma", "rms", "median"):
        table.add_column(name, justify="left" if name in ("quantity", "difference") else "right", no_wrap=True)
    for name in QUANTITIES:
        label = f"{BY_NAME[name].label} ({BY_NAME[name].unit})"
        for words, row in record["differences"][name].items():
            numbers = [row["mean"], row["sigma"], row["rms"], row["median"]]
            signs = ("+", "", "", "+")
            cells = ["-" if value is None else f"{value:{sign}.3f}" for value, sign in zip(numbers, signs, strict=True)]
            table.add_row(label, words, f"{row['n']:,}", *cells)
            label = ""
        table.add_section()
    about = found.about
    times = (
        f"One thread each, processor time (wall clock): pPXF {about['ppxf']} with dust and kinematics "
        f"{record['ppxf_seconds']:.3f} s ({record['ppxf_clock_seconds']:.3f} s) a spectrum; galprote with errors and "
        f"trust, {about['precision']}, batches of {found.batch}: {1e3 * found.network_seconds:.3f} ms "
        f"({1e3 * found.network_clock_seconds:.3f} ms); ratio {record['ratio']:,.0f} ({record['clock_ratio']:,.0f}). "
        f"{about['machine']}. The same spectra, masks, noise and templates; reading and preprocessing are in neither."
    )
    return [table, times, *([about["note"]] if "note" in about else [])]


def write_ppxf(found: PpxfComparison, record: dict[str, Any], folder: Path) -> list[Path]:
    """Write ppxf.csv, ppxf.json and ppxf.png, each complete when it has its name."""
    paths = [folder / name for name in ("ppxf.csv", "ppxf.json", "ppxf.png")]
    write_text(paths[0], csv_text(_rows(found)))
    write_text(paths[1], json.dumps(record, indent=1) + "\n")
    with appearing(paths[2]) as partial, default_style():
        ppxf_figure(found).savefig(partial, format="png", dpi=DPI, metadata={"Software": None})
    return paths


def ppxf_figure(found: PpxfComparison) -> Figure:
    """Draw one against the other; below, with a reference, what both are off it, along S/N."""
    rows = 2 if found.reference_name else 1
    figure = Figure(figsize=(12.6, 0.9 + 3.9 * rows), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, len(QUANTITIES), squeeze=False)
    count = f"{len(found.seconds):,} {found.places}"
    title = f"{found.galaxy}: galprote and pPXF {found.about['ppxf']} on the same {count}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, weight="bold", color=INK)
    for column, name in enumerate(QUANTITIES):
        _draw_pairs(axes[0, column], found, name)
        if rows > 1 and np.isfinite(found.reference[name]).any():
            _draw_errors(axes[1, column], found, name)
        elif rows > 1:
            axes[1, column].set_visible(False)
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=10, labelcolor=INK, color="#999999")
    return figure


def _draw_pairs(axes: Axes, found: PpxfComparison, name: str) -> None:
    ours, theirs = found.ours[name], found.ppxf[name]
    both = np.concatenate([ours, theirs])
    both = both[np.isfinite(both)]
    low, high = (float(both.min()), float(both.max())) if both.size else (0.0, 1.0)
    room = 0.08 * (high - low) or 0.1
    ends = (low - room, high + room)
    axes.plot(ends, ends, color=GREY, lw=0.9)
    axes.errorbar(theirs, ours, yerr=found.ours_error[name], fmt="none", ecolor="#bbbbbb", elinewidth=0.9, zorder=1)
    points = axes.scatter(theirs, ours, c=found.snr, cmap="viridis", s=28, zorder=2, edgecolor="white", linewidth=0.5)
    label = style_of(name).label
    axes.set(xlim=ends, ylim=ends, xlabel=f"{label}, pPXF", ylabel="galprote")
    row = _numbers(ours - theirs)
    axes.set_title(
        f"galprote − pPXF: mean {row['mean']:+.3f}, rms {row['rms']:.3f}", loc="left", fontsize=11, color=INK
    )
    if name == QUANTITIES[-1]:
        axes.figure.colorbar(points, ax=axes, label="S/N per 2.48 Å", pad=0.02).outline.set_visible(False)


def _draw_errors(axes: Axes, found: PpxfComparison, name: str) -> None:
    what = "truth" if found.truth else "reference"
    axes.axhline(0.0, color=GREY, lw=0.9)
    for values, colour, marker, who in ((found.ppxf, THEIRS, "s", "pPXF"), (found.ours, OURS, "o", "galprote")):
        difference = values[name] - found.reference[name]
        label = f"{who}: rms {_numbers(difference)['rms']:.3f}"
        axes.scatter(
            found.snr, difference, color=colour, marker=marker, s=26, label=label, edgecolor="white", linewidth=0.5
        )
    axes.set(xlabel="S/N per 2.48 Å", ylabel=f"minus {what}  ({BY_NAME[name].unit})")
    axes.margins(y=0.15)
    axes.legend(frameon=False, fontsize=9.5, loc="best", labelcolor=INK)
