"""Tables for the terminal: plans, results, truth against maps, evaluations."""

from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from galprote.model.errors import GalproteError
from galprote.model.statistics import SuiteResult
from galprote.pipeline.config import SurveyConfig
from galprote.pipeline.mock import truth_path
from galprote.pipeline.quality import NOT_FITTED, UNRELIABLE
from galprote.pipeline.truth import compare_with_truth
from galprote.workflows.capacity import capacity
from galprote.workflows.failures import ChunkFailure
from galprote.workflows.logbook import GalaxyResult
from galprote.workflows.planning import PlannedGalaxy, mock_cube_path
from galprote.workflows.trust_tables import anomalies_table, coverage_table

GIB = 2**30

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
            str(result.spaxels or "-"),
            "-" if result.fitted is None else str(result.fitted),
            "-" if result.seconds is None else f"{result.seconds:.1f} s",
            escape(result.error or "; ".join(_failure_words(failure) for failure in result.failures[:3])),
        )
    return table


def _failure_words(failure: ChunkFailure) -> str:
    return f"rows {failure.first_row}-{failure.last_row}: {failure.error}"


def truth_tables(survey: SurveyConfig, results: list[GalaxyResult]) -> list[Table]:
    """Maps against truth, for the synthetic galaxies of a survey; what is not trusted is left out."""
    tables = []
    usable = {result.name for result in results if result.outcome not in ("failed", "stopped")}
    for galaxy in survey.galaxies:
        if galaxy.mock is None or galaxy.name not in usable:
            continue
        with xr.open_zarr(survey.output / f"{galaxy.name}.zarr") as store:
            maps, untrusted = reliable_maps(store)
            rows = compare_with_truth(maps, truth_path(mock_cube_path(survey, galaxy)))
        left_out = f"; {untrusted:,} spaxels not trusted, left out" if untrusted else ""
        table = Table(title=f"{galaxy.name}: maps against truth (map minus truth{left_out})")
        for name in TRUTH_COLUMNS:
            table.add_column(name, justify="left" if name == "quantity" else "right", no_wrap=True)
        for row in rows:
            low, high = row.snr_range
            snr = f"{low:.0f}-{high:.0f}" if np.isfinite(high) else f"> {low:.0f}" if low else "all"
            numbers = (f"{value:.3f}" for value in (row.bias, row.rms, row.sigma, row.correlation))
            shares = ("-" if np.isnan(share) else f"{share:.0%}" for share in (row.within_1, row.within_2))
            table.add_row(row.quantity, snr, str(row.n), *numbers, *shares)
        tables.append(table)
    return tables


def reliable_maps(store: xr.Dataset) -> tuple[xr.Dataset, int]:
    """Maps (y, x) without what figures and reports leave out, and how many of the fitted spaxels that takes away."""
    status = store["status"].load()
    reliable = (status & int(UNRELIABLE)) == 0
    fitted = (status & int(NOT_FITTED)) == 0
    maps = store[[name for name, values in store.data_vars.items() if values.dims == ("y", "x") and name != "status"]]
    return maps.where(reliable), int((fitted & ~reliable).sum())


def plan_table(survey: SurveyConfig, plans: list[PlannedGalaxy]) -> list[Table | str]:
    """What a run would do, and what is in its way."""
    table = Table(title="Plan")
    for name in ("galaxy", "state", "channels", "ny x nx", "chunks", "workers", "to read", "peak memory"):
        table.add_column(name, justify="left" if name in {"galaxy", "state"} else "right")
    for item in plans:
        if item.plan is None:
            table.add_row(item.name, "[red]cannot run[/]", *["-"] * 6)
            continue
        chunks = item.plan
        of = f" of {item.channels_in_file}" if item.channels_in_file else ""
        table.add_row(
            item.name,
            item.state,
            f"{chunks.channels}{of}",
            f"{chunks.ny} x {chunks.nx}",
            f"{len(chunks.chunks)} of {chunks.rows} rows",
            str(chunks.workers),
            f"{chunks.read_bytes / GIB:.2f} GiB",
            f"{chunks.peak_bytes / GIB:.2f} GiB",
        )
    parts: list[Table | str] = [table]
    for item in plans:
        if item.problem:
            named = item.problem if item.problem.startswith(f"{item.name}:") else f"{item.name}: {item.problem}"
            parts.append(f"[red]cannot run[/] {escape(named)}")
    parts += [f"Before the fit of {item.name}: {escape('; '.join(item.steps))}" for item in plans if item.steps]
    parts += [f"Masks of {item.name}: {escape('; '.join(item.masks))}" for item in plans if item.masks]
    parts.append(f"Output: {escape(str(survey.output))}")
    kinds = dict.fromkeys(tuple(name.removeprefix(item.name) for name in item.products) for item in plans)
    for kind in kinds:
        names = [item.name for item in plans if item.products == tuple(item.name + ending for ending in kind)]
        parts.append(f"Products of {', '.join(names)}: {', '.join('NAME' + ending for ending in kind)}")
    return [*parts, _memory_words(survey)]


def _memory_words(survey: SurveyConfig) -> str:
    """What bounds the memory."""
    try:
        available = capacity(survey)
    except GalproteError as error:
        return str(error)
    if available.budget_bytes is not None:
        return f"Memory budget: {available.budget_bytes / GIB:.1f} GiB for all processes together"
    assert available.worker_bytes is not None
    return f"Memory budget: {available.worker_bytes / GIB:.1f} GiB for each of {available.workers} worker(s)"


def plan_dict(survey: SurveyConfig, plans: list[PlannedGalaxy]) -> dict[str, Any]:
    """The same as plain data."""
    try:
        budget = capacity(survey).budget_bytes
    except GalproteError:
        budget = None
    return {
        "output": str(survey.output),
        "memory_bytes": budget,
        "galaxies": [asdict(item) for item in plans],
    }


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
