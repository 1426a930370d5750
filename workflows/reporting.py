"""Tables for the terminal: results, truth against maps, evaluations."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr
from rich.box import SIMPLE_HEAD
from rich.table import Table

from galprote.model.statistics import SuiteResult
from galprote.model.wording import count
from galprote.pipeline.config import SurveyConfig
from galprote.pipeline.mock import truth_path
from galprote.pipeline.quality import NOT_FITTED, UNRELIABLE
from galprote.pipeline.truth import TruthRow, compare_with_truth
from galprote.workflows.failures import ChunkFailure
from galprote.workflows.logbook import GalaxyResult
from galprote.workflows.planning import mock_cube_path
from galprote.workflows.trust_tables import anomalies_table, coverage_table
from galprote.workflows.words import OUTCOMES

#: The last two: shares of the spaxels whose truth lies within one and two errors.
TRUTH_COLUMNS = (
    "quantity", "S/N", "spaxels", "bias", "rms", "robust\nsigma", "corre-\nlation", "within\n1 error", "2 errors"
)  # fmt: skip


def results_table(results: list[GalaxyResult]) -> Table:
    """What became of every galaxy."""
    table = Table(title="Survey")
    for name in ("galaxy", "outcome", "spaxels", "fitted", "time", "why"):
        table.add_column(name, justify="right" if name in {"spaxels", "fitted", "time"} else "left", overflow="fold")
    for result in results:
        table.add_row(
            result.name,
            result.outcome,
            f"{result.spaxels:,}" if result.spaxels else "-",
            "-" if result.fitted is None else f"{result.fitted:,}",
            "-" if result.seconds is None else f"{result.seconds:.1f} s",
            result.error or "; ".join(_failure_words(failure) for failure in result.failures[:3]),
        )
    return table


def outcome_words(results: list[GalaxyResult]) -> str:
    """How many galaxies came to which end."""
    counts = {outcome: sum(result.outcome == outcome for result in results) for outcome in OUTCOMES}
    told = ", ".join(f"{number:,} {outcome}" for outcome, number in counts.items() if number)
    return f"{count(len(results), 'galaxy', 'galaxies')}: {told}"


def _failure_words(failure: ChunkFailure) -> str:
    return f"rows {failure.first_row}-{failure.last_row}: {failure.error}"


def _truths(survey: SurveyConfig, results: list[GalaxyResult]) -> Iterator[tuple[str, list[TruthRow], int]]:
    """Name, comparison and number of untrusted spaxels of the synthetic galaxies that have maps."""
    usable = {result.name for result in results if result.outcome not in ("failed", "stopped")}
    for galaxy in survey.galaxies:
        if galaxy.mock is None or galaxy.name not in usable:
            continue
        with xr.open_zarr(survey.output / f"{galaxy.name}.zarr") as store:
            maps, untrusted = reliable_maps(store)
            yield galaxy.name, compare_with_truth(maps, truth_path(mock_cube_path(survey, galaxy))), untrusted


def truth_rows(survey: SurveyConfig, results: list[GalaxyResult]) -> dict[str, Any]:
    """Maps against truth as plain data, by the galaxy's name."""
    return {
        name: {"untrusted": untrusted, "rows": [asdict(row) for row in rows]}
        for name, rows, untrusted in _truths(survey, results)
    }


def truth_tables(survey: SurveyConfig, results: list[GalaxyResult]) -> list[Table]:
    """Maps against truth, for the synthetic galaxies of a survey; what is not trusted is left out."""
    tables = []
    for galaxy, rows, untrusted in _truths(survey, results):
        left_out = f"; {count(untrusted, 'spaxel')} not trusted, left out" if untrusted else ""
        table = Table(title=f"{galaxy}: maps against truth (map minus truth{left_out})")
        for name in TRUTH_COLUMNS:
            table.add_column(name, justify="left" if name == "quantity" else "right", no_wrap=True)
        for row in rows:
            low, high = row.snr_range
            snr = f"{low:.0f}-{high:.0f}" if np.isfinite(high) else f"> {low:.0f}" if low else "all"
            numbers = (f"{value:.3f}" for value in (row.bias, row.rms, row.sigma, row.correlation))
            shares = ("-" if np.isnan(share) else f"{share:.0%}" for share in (row.within_1, row.within_2))
            table.add_row(row.quantity, snr, f"{row.n:,}", *numbers, *shares)
        tables.append(table)
    return tables


def reliable_maps(store: xr.Dataset) -> tuple[xr.Dataset, int]:
    """Maps (y, x) without what figures and reports leave out, and how many of the fitted spaxels that takes away."""
    status = store["status"].load()
    reliable = (status & int(UNRELIABLE)) == 0
    fitted = (status & int(NOT_FITTED)) == 0
    maps = store[[name for name, values in store.data_vars.items() if values.dims == ("y", "x") and name != "status"]]
    return maps.where(reliable), int((fitted & ~reliable).sum())


#: Columns of an evaluation's table that only some suites have, by the key under which a quantity holds them.
VARIATIONS = {"bias_added": "bias\nadded", "sigma_ratio": "sigma\nratio", "rms_ratio": "rms\nratio"}
RIVALS = {"rms_over_nnls": "rms / NNLS's", "rms_over_ppxf": "rms / pPXF's"}
UNITS = {
    "log_age": "log age",
    "metallicity": "[M/H]",
    "av": "A_V",
    "dispersion": "sigma km/s",
    "velocity": "V km/s",
    "spectral_mse_percent": "MSE %",
    "clean_mse_percent": "clean MSE %",
    "point_to_point_percent": "residual %",
}


def evaluation_tables(results: dict[str, SuiteResult]) -> list[Table]:
    """Errors of a checkpoint, a table for each suite, none wider than 100 columns."""
    own = {"coverage": coverage_table, "anomalies": anomalies_table}
    tables = []
    for name, result in results.items():
        if result.cases:
            tables.append(own[name](result.cases) if name in own else evaluation_table(name, result.cases))
    return tables


def evaluation_table(suite: str, cases: dict[str, Any]) -> Table:
    """One suite's errors."""
    entries = [values for case in cases.values() for values in case.values() if isinstance(values, dict)]
    extras = [key for key in (*VARIATIONS, *RIVALS) if any(key in values for values in entries)]
    # There is no room for all: beside another fit, the means at the ends are left to the JSON.
    parts = any("fifths" in values for values in entries) and not set(extras) & set(RIVALS)
    table = Table(title=f"{suite}: predicted minus true", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    if parts:
        table.caption = "low and high 5th: mean error in the lowest and highest fifth of the true values"
    for name in ("case", "quantity"):
        table.add_column(name, no_wrap=True)
    headers = ["mean", "sigma", "rms", *(("low\n5th", "high\n5th") if parts else ())]
    for name in headers + [(VARIATIONS | RIVALS)[key] for key in extras]:
        table.add_column(name, justify="right", no_wrap=True)
    for name, case in cases.items():
        labels = [name.replace("_", " "), f"n = {case['spectra']}"]
        if "seconds_per_spectrum" in case:
            labels.append(f"{case['seconds_per_spectrum'] * 1e3:.3g} ms each")
        rows = [(key, values) for key, values in case.items() if isinstance(values, dict)]
        for k, (key, values) in enumerate(rows):
            label = labels[k] if k < len(labels) else ""
            table.add_row(label, UNITS.get(key, key), *_numbers(key, values, parts), *_extras(values, extras))
        table.add_section()
    return table


def _numbers(quantity: str, values: dict[str, Any], parts: bool) -> list[str]:
    """Mean, sigma, rms and the means in the lowest and highest fifth."""
    digits = 1 if quantity in {"dispersion", "velocity"} else 3
    ends = [values["fifths"][k]["mean"] for k in (0, -1)] if "fifths" in values else [None, None]
    shown = [f"{values['mean']:+.{digits}f}", f"{values['sigma']:.{digits}f}"]
    shown.append(f"{values['rms']:.{digits}f}" if "rms" in values else "")
    return shown + ["" if end is None else f"{end:+.{digits}f}" for end in ends if parts]


def _extras(values: dict[str, Any], keys: list[str]) -> list[str]:
    """What changed against a base case, and ratios to a rival's with their interval."""
    shown = []
    for key in keys:
        value = values.get(key)
        if isinstance(value, dict):
            shown.append(f"{value['ratio']:.2f} ({value['low']:.2f}-{value['high']:.2f})")
        elif value is None:
            shown.append("")
        else:
            shown.append(f"{value:+.3f}" if key == "bias_added" else f"{value:.2f}")
    return shown
