"""What `compare` found, as tables in the terminal, JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from galprote.pipeline.comparison import Statistics, robust_sigma
from galprote.pipeline.quality import status_names
from galprote.pipeline.whole_files import write_text
from galprote.workflows.comparison_folder import TABLES
from galprote.workflows.map_comparison import ComparedMap, MapComparison
from galprote.workflows.terminal import plain

COLUMNS: Final = ("quantity", "of", "S/N", "n", "mean", "sigma", "robust\nsigma", "expected\nerror", "within\n1 error",
                  "corre-\nlation", "without outliers\nmean, sigma (n)")  # fmt: skip
#: Left out of a terminal with fewer columns than the key; the files have them.
NARROW: Final[dict[int, tuple[str, ...]]] = {
    132: ("corre-\nlation", "without outliers\nmean, sigma (n)", "RA, Dec"), 100: ("n", "sigma", "group"),
}  # fmt: skip
#: Groups of outliers that the terminal names, for each quantity.
NAMED: Final = 3


def comparison_tables(found: MapComparison, width: int = 200) -> list[Table | str]:
    """What a terminal of so many columns shows."""
    reference = found.reference
    lines: list[Table | str] = [f"{found.galaxy} minus {reference.path} ({reference.kind})"]
    lines += [f"  {item.quantity.name}: {item.source}: {item.conversion}" for item in found.compared if item.conversion]
    lines += [f"  {note}" for note in reference.notes]
    if found.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items())
        lines.append(f"  spaxels left out: {reasons}")
    table = Table(title="Ours minus reference")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("quantity", "of") else "right", no_wrap=True)
    for item in found.compared:
        for number, row in enumerate(item.statistics):
            label = f"{item.quantity.label} ({item.quantity.unit})" if number == 0 else ""
            table.add_row(label, row.places if row.snr_range == (0.0, np.inf) else "", *_cells(row))
        table.add_section()
    bins = any(row.places != "spaxels" for item in found.compared for row in item.statistics)
    lines.append(_fitting(table, width, () if bins else ("of",)))
    named = _outlier_table(found)
    if named is not None:
        lines.append(_fitting(named, width))
    if width < max(NARROW):
        lines.append("  more columns in a wider terminal, and in comparison.csv and outliers.csv")
    return lines


def _fitting(table: Table, width: int, needless: Sequence[str] = ()) -> Table:
    """Leave columns out for which there is no room; numbers are never cut, words are folded."""
    narrow = [name for limit, names in NARROW.items() if width < limit for name in names]
    names = [*narrow, *needless] if narrow else []
    table.columns = [column for column in table.columns if column.header not in names]
    for column in table.columns:
        if column.justify == "right":
            words = [str(cell) for cell in column.cells]
            column.min_width = max(len(line) for word in words for line in word.split("\n"))
        else:
            column.no_wrap, column.overflow = False, "fold"
    return table


def _cells(row: Statistics) -> list[str]:
    def number(value: float, sign: str = "") -> str:
        return "-" if math.isnan(value) else f"{value:{sign}.3f}"

    return [
        range_words(row.snr_range), f"{row.n:,}", number(row.mean, "+"), number(row.sigma), number(row.robust_sigma),
        number(row.expected), "-" if math.isnan(row.within_1) else f"{row.within_1:.0%}", number(row.correlation),
        f"{number(row.clipped_mean, '+')}, {number(row.clipped_sigma)} ({row.n - row.outliers:,})"
        if row.outliers else "no outliers",
    ]  # fmt: skip


def range_words(snr_range: tuple[float, float]) -> str:
    """A range of signal-to-noise ratios as a table has it."""
    low, high = snr_range
    return f"{low:.0f}-{high:.0f}" if np.isfinite(high) else f"> {low:.0f}" if low else "all"


def _outlier_table(found: MapComparison) -> Table | None:
    """The most significant groups of outliers."""
    table = Table(title="Outliers: beyond 3 robust sigma and 3 expected errors; all of them in outliers.csv")
    for name in (
        "quantity",
        "group",
        "spaxels",
        "worst at\ny, x",
        "RA, Dec",
        "differ-\nence",
        "sigma",
        "errors",
        "S/N",
    ):
        table.add_column(name, justify="left" if name == "quantity" else "right", no_wrap=True)
    table.add_column("what our maps say of it", overflow="fold")
    for item in found.compared:
        groups = item.outliers.groups
        for group in groups[:NAMED]:
            label = f"{item.quantity.label}" if group.number == 1 else ""
            sky = "-" if math.isnan(group.ra) else f"{group.ra:.5f} {group.dec:+.5f}"
            numbers = ["-" if math.isnan(value) else f"{value:+.1f}" for value in (group.in_sigma, group.in_errors)]
            numbers.append("-" if math.isnan(group.snr) else f"{group.snr:.0f}")
            table.add_row(
                label, str(group.number), f"{group.spaxels:,}", f"{group.y}, {group.x}", sky,
                f"{group.difference:+.2f}", *numbers, words(group.flags, group.remarks),
            )  # fmt: skip
        if groups:
            table.add_section()
    return table if table.row_count else None


def words(flags: Sequence[str], remarks: Sequence[str]) -> str:
    """Flags and remarks of a group of outliers."""
    return "; ".join([*flags, *remarks]) or "no remark"


def comparison_dict(found: MapComparison) -> dict[str, Any]:
    """The same as plain data; what is not a number is null."""
    reference = found.reference
    record = {
        "galaxy": found.galaxy,
        "store": str(found.store.resolve()),
        "reference": str(reference.path.resolve()),
        "kind": reference.kind,
        "truth": reference.truth,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "difference": "ours minus reference",
        "notes": list(reference.notes),
        "left_out": found.left_out,
        "quantities": {item.quantity.name: _quantity_dict(item) for item in found.compared},
    }
    return dict(plain(record))


def _quantity_dict(item: ComparedMap) -> dict[str, Any]:
    return {
        "unit": item.quantity.unit,
        "reference_map": item.source,
        "conversion": item.conversion,
        "statistics": [asdict(row) for row in item.statistics],
        "running": {name: values.tolist() for name, values in vars(item.running).items()},
        "outlying_spaxels": int((item.outliers.labels > 0).sum()),
        "outlier_groups": [asdict(group) for group in item.outliers.groups],
    }


def write_tables(found: MapComparison, record: dict[str, Any], folder: Path) -> list[Path]:
    """Write comparison.json, comparison.csv and outliers.csv, each complete when it has its name."""
    paths = [folder / name for name in TABLES]
    write_text(paths[0], json.dumps(record, indent=1) + "\n")
    rows = [
        {"quantity": item.quantity.name, "unit": item.quantity.unit} | _flat(asdict(row))
        for item in found.compared for row in item.statistics
    ]  # fmt: skip
    write_text(paths[1], csv_text(rows))
    write_text(
        paths[2], csv_text([row for item in found.compared for row in _outlier_rows(found, item)], OUTLIER_COLUMNS)
    )
    return paths


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    low, high = row.pop("snr_range")
    return {"places": row.pop("places"), "snr_from": low, "snr_to": "" if math.isinf(high) else high} | row


OUTLIER_COLUMNS: Final = ("quantity", "group", "y", "x", "ra", "dec", "ours", "reference", "difference", "error",
                          "in_errors", "in_sigma", "snr", "trust", "status")  # fmt: skip


def _outlier_rows(found: MapComparison, item: ComparedMap) -> list[dict[str, Any]]:
    labels, maps = item.outliers.labels, found.maps
    y, x = np.nonzero(labels)
    order = np.argsort(labels[y, x], kind="stable")
    y, x = y[order], x[order]
    compared = (item.ours - item.theirs)[np.isfinite(item.ours)]
    middle, sigma = float(np.median(compared)) if compared.size else np.nan, robust_sigma(compared) or np.nan
    difference = item.ours[y, x] - item.theirs[y, x]
    nothing = np.full(len(y), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns: dict[str, Any] = {
            "group": labels[y, x], "y": y, "x": x,
            **{name: maps[name][y, x] if name in maps else nothing for name in ("ra", "dec")},
            "ours": item.ours[y, x], "reference": item.theirs[y, x], "difference": difference,
            "error": item.error[y, x], "in_errors": difference / item.error[y, x],
            "in_sigma": (difference - middle) / sigma,
            **{name: maps[name][y, x] if name in maps else nothing for name in ("snr", "trust")},
        }  # fmt: skip
    names = {int(value): " ".join(status_names(int(value))) for value in np.unique(maps["status"][y, x])}
    status = [names[int(value)] for value in maps["status"][y, x]]
    rows = zip(*columns.values(), status, strict=True)
    return [{"quantity": item.quantity.name} | dict(zip([*columns, "status"], row, strict=True)) for row in rows]


def csv_text(rows: list[dict[str, Any]], columns: Sequence[str] = ()) -> str:
    """Rows as a table; NaN is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(columns or (rows[0] if rows else ()))
    writer.writerow(names)
    writer.writerows([[_text(row[name]) for name in names] for row in rows])
    return text.getvalue()


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return "" if math.isnan(value) else f"{value:.9g}"
    return str(value)
