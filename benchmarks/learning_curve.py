"""Draw how the errors of a training run fell with the number of spectra it had seen.

python benchmarks/learning_curve.py runs/survey/log.csv docs/images/learning-curve.png
"""

import csv
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

BATCH = 512
CURVES = {
    "log_age_rms": ("log age (dex)", "#0072b2", "o"),
    "metallicity_rms": ("[M/H] (dex)", "#d55e00", "s"),
    "av_rms": ("$A_V$ (mag)", "#009e73", "^"),
}


def main(log: Path, output: Path) -> None:
    """Read the log, write the figure."""
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    million = [int(row["step"]) * BATCH / 1e6 for row in rows]
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, (label, colour, marker) in CURVES.items():
        axes.plot(million, [float(row[name]) for row in rows], color=colour, marker=marker, markersize=4, label=label)
    axes.set(xscale="log", yscale="log", xlabel="training spectra (million)", ylabel="validation error (rms)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 4])
    axes.set_yticks([0.15, 0.2, 0.25, 0.3, 0.4])
    axes.legend(frameon=False)
    FigureCanvasAgg(figure).print_figure(output, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
