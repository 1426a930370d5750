"""The tables of docs/validation.md, from what `evaluate --output` wrote.

python benchmarks/validation_tables.py benchmarks/evaluation.json benchmarks/unknown-kinds.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from galprote.model.anomalies import ANOMALIES
from galprote.model.anomaly_suite import ANOMALY_SNR
from galprote.model.coverage import HONEST, WANTED
from galprote.model.populations import APPRAISED
from galprote.model.statistics import QUANTITIES
from galprote.workflows.trust_tables import WORDS

HEADERS = ("log age", "[M/H]", "A_V", "log age, mass-weighted", "[M/H], mass-weighted", "M/L", "mass")


def main() -> None:
    """Print them."""
    results = json.loads(Path(sys.argv[1]).read_text())
    coverage(results["coverage"])
    anomalies(results["anomalies"])
    if len(sys.argv) > 2:
        unknown(json.loads(Path(sys.argv[2]).read_text()))


def coverage(cases: dict[str, Any]) -> None:
    """Per cent within one and two errors."""
    groups: dict[str, list[str]] = {}
    for name in cases:
        kind = name.split("_")[0]
        groups.setdefault(kind if kind in ("survey", "found", "true", "library") else "others", []).append(name)
    for kind, names in groups.items():
        print(f"\n{kind}\n\n| case | {' | '.join(HEADERS)} |\n|---|{'---|' * len(HEADERS)}")
        for name in names:
            shares = (cell(cases[name][key], kind) for key in APPRAISED)
            print(f"| {name.replace('_', ' ')} | {' | '.join(shares)} |")
    survey = [cases[name][key] for name in groups["survey"] for key in QUANTITIES]
    for key, (low, high) in zip(("within_1", "within_2"), WANTED, strict=True):
        shares = [entry[key] for entry in survey]
        found = f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %"
        print(f"\nsurvey, {key}: {found}, wanted {100 * low:g} to {100 * high:g}")
    below = [
        f"{name} {key} {100 * cases[name][key]['within_1']:.0f} %"
        for kind in ("others", "library")
        for name in groups.get(kind, [])
        for key in APPRAISED
        if cases[name][key]["within_1"] < HONEST
    ]
    print(f"\nless honest than {100 * HONEST:.0f} %: {'; '.join(below) or 'none'}")


def cell(entry: dict[str, float], kind: str) -> str:
    """Two shares; in bold where they miss what was wanted."""
    text = f"{100 * entry['within_1']:.0f} / {100 * entry['within_2']:.0f}"
    low, high = WANTED[0] if kind in ("survey", "found", "true") else (HONEST, 1.0)
    inside = low - 0.005 <= entry["within_1"] <= high + 0.005
    return text if inside else f"**{text}**"


def anomalies(cases: dict[str, Any]) -> None:
    """Per cent caught with 1 and 5 % false alarms."""
    print(f"\n| kind | {' | '.join(f'S/N {snr}' for snr in ANOMALY_SNR)} |\n|---|{'---|' * len(ANOMALY_SNR)}")
    for kind in ("ordinary", *ANOMALIES):
        row = [cases.get(f"snr_{snr}_{kind}") for snr in ANOMALY_SNR]
        shares = ["" if case is None else " / ".join(f"{100 * v:.0f}" for v in case["caught"].values()) for case in row]
        print(f"| {WORDS[kind]} | {' | '.join(shares)} |")


def unknown(kinds: dict[str, dict[str, list[float]]]) -> None:
    """Per cent caught of kinds that were taught, and that were not."""
    print("\n| kind | taught | not taught |\n|---|---|---|")
    for kind, values in kinds.items():
        shares = (" / ".join(f"{100 * v:.0f}" for v in values[name]) for name in ("known", "unknown"))
        print(f"| {WORDS[kind]} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
