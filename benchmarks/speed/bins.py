"""Bins: as many as published maps of two galaxies have, end to end and the fit by itself."""

from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits

from benchmarks.speed.figures import Part
from benchmarks.speed.runs import Run, run
from benchmarks.speed.setup import Setup

#: Bins of a galaxy's maps in PHANGS-MUSE, and the seconds that the paper needs for them (Anwar et al. 2025).
GALAXIES: Final = {"NGC4254": (64_985, 245), "NGC5068": (37_690, 148)}
QUICK: Final = {"NGC4254": (500, 245)}
#: nGIST 7.3 on two cores of such a machine: bins, seconds for all, bins a second of its stellar populations.
NGIST: Final = (332, 561, 0.75)


def measure(setup: Setup) -> Part:
    """Fit a cube's spaxels in so many bins."""
    part = Part(
        "Bins",
        "`galprote-pipeline run` with `binning: {method: file}` on the largest mock cube, so many bins of neighbours "
        "in a row, all products but the figure; wall time; the fit: from the last sum of bins to the last chunk of "
        "fits",
    )
    side = max(setup.sides.values())
    for name, (number, paper) in (QUICK if setup.quick else GALAXIES).items():
        path = write_bins(setup.folder / f"{name}_bins.fits", side, number)
        binning = {"method": "file", "file": str(path), "covariance": 0}
        found = run(setup, f"bins-{name}", setup.cube(side), residual=True, binning=binning)
        seconds, fit = found.watched.seconds, _fit_seconds(found)
        spaxels = f"{found.spaxels:,} spaxels"
        part.add(f"{name}, {number:,} bins: end to end", seconds, "s", "less", "cores", spaxels)
        part.add(f"{name}: of that the fit", fit, "s", "less", "cores", f"paper, RTX 4090: {paper} s")
        beside = f"nGIST 7.3, stellar populations, both cores: {NGIST[2]} bins/s, 825 MB"
        part.add(f"{name}: the fit", number / fit, "bins/s", "more", "cores", beside)
        beside = f"nGIST 7.3: {NGIST[0]} bins in {NGIST[1]} s"
        part.add(f"{name}: bins a second, end to end", number / seconds, "bins/s", "more", "cores", beside)
        planned = found.plan.peak_bytes / 2**20
        memory = found.watched.peaks.every / 2**20
        part.add(f"{name}: peak memory", memory, "MiB", "less", "", f"plan: {planned:,.0f} MiB")
    return part


def write_bins(path: Path, side: int, number: int) -> Path:
    """An image of bin numbers: runs of neighbours in reading order, as even as they can be."""
    numbers = np.arange(side * side) * number // (side * side)
    fits.PrimaryHDU(numbers.reshape(side, side).astype(np.int32)).writeto(path, overwrite=True)
    return path


def _fit_seconds(found: Run) -> float:
    """From the last sum of bins to the last chunk of fits."""
    return found.last - max(found.watched.times("bins/sums-*.npz"))
