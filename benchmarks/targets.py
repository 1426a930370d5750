"""Hold the shipped weights against what they were meant to reach, as a table in Markdown.

    galprote-pipeline evaluate --suite all --library OTHER.npz --output benchmarks/evaluation.json
    python benchmarks/targets.py benchmarks/evaluation.json benchmarks/paper-recipe.json

The second file is the same for weights of `configs/train/paper.yaml`.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("log_age", "metallicity", "av")
Row = tuple[str, list[float], list[float]]
"""What, what was reached for log age, [M/H], A_V, and the most that was wanted."""


def rows(ours: dict[str, Any], paper: dict[str, Any]) -> Iterator[Row]:
    """Every target; where several cases count, the worst of them."""
    blind = ours["paper"]["blind"]
    yield "`paper`, sigma", of(blind, "sigma"), [0.15, 0.13, 0.10]
    yield "`paper`, mean error", absolute(of(blind, "mean")), [0.01] * 3
    yield "`paper`, spectral MSE against the noise-free input, %", [blind["clean_mse_percent"]["mean"]], [0.02]
    for kind in ("paper", "survey"):
        for snr in (20, 35, 60, 100):
            case = ours["fits"][f"{kind}_snr_{snr}_network"]
            ratios = [case[name]["rms_over_nnls"]["ratio"] for name in NAMES]
            yield f"`fits`, {kind}'s populations, S/N {snr}, rms / NNLS's", ratios, [0.9] * 3
    for place, k in (("lowest", 0), ("highest", -1)):
        reached = [end(blind, n, k) / end(paper["paper"]["blind"], n, k) for n in NAMES[:2]]
        yield f"`paper`, bias in the {place} fifth / the paper recipe's", reached, [0.5] * 2
    yield "`dispersion` 200 km/s, rms / at 0", of(ours["dispersion"]["sigma_200"], "rms_ratio"), [1.15] * 3
    moved = [of(ours["velocity"][f"velocity_{v:+d}"], "rms_ratio") for v in (-100, 100)]
    yield "`velocity` off by 100 km/s, rms / at 0", worst(moved), [1.15] * 3
    for name in ("ao_notch", "sky", "emission"):
        yield f"`artefacts`, {name}, bias added", absolute(of(ours["artefacts"][name], "bias_added")), [0.03] * 3
    yield "`survey`, smooth histories, S/N 60, rms", of(ours["survey"]["smooth"], "rms"), [0.10, 0.05, 0.06]
    if "library" in ours:
        for snr in (35, 100):
            other = ours["library"][f"other_snr_{snr}"]
            yield f"`library`, S/N {snr}, mean error", absolute(of(other, "mean")), [0.05] * 3
            yield f"`library`, S/N {snr}, sigma / own library's", of(other, "sigma_ratio"), [1.2] * 3


def of(case: dict[str, Any], key: str) -> list[float]:
    """One number for each quantity."""
    return [case[name][key] for name in NAMES]


def end(case: dict[str, Any], name: str, k: int) -> float:
    """Bias at one end of the true values."""
    return abs(float(case[name]["fifths"][k]["mean"]))


def absolute(values: list[float]) -> list[float]:
    """Without signs."""
    return [abs(value) for value in values]


def worst(cases: list[list[float]]) -> list[float]:
    """The largest of several cases."""
    return [max(values) for values in zip(*cases, strict=True)]


def main(ours: Path, paper: Path) -> None:
    """Print the table; what was reached is bold."""
    print("| | wanted: log age / [M/H] / A_V | reached |\n|---|---|---|")
    for what, reached, wanted in rows(json.loads(ours.read_text()), json.loads(paper.read_text())):
        shown = [f"**{a:.3f}**" if a <= b else f"{a:.3f}" for a, b in zip(reached, wanted, strict=True)]
        print(f"| {what} | ≤ {' / '.join(f'{b:g}' for b in wanted)} | {' / '.join(shown)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
