"""Tables for the terminal: plans, results, truth against maps, evaluations."""

from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr
from rich.markup import escape
from rich.table import Table

from galprote.pipeline.config import SurveyConfig
from galprote.pipeline.mock import truth_path
from galprote.pipeline.truth import compare_with_truth
from galprote.workflows.planning import PlannedGalaxy, mock_cube_path
from galprote.workflows.survey import GalaxyResult

GIB = 2**30


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
            str(result.fitted) if result.outcome == "done" else "-",
            f"{result.seconds:.1f} s" if result.outcome == "done" else "-",
            escape(result.error),
        )
    return table


def truth_tables(survey: SurveyConfig, results: list[GalaxyResult]) -> list[Table]:
    """Maps against truth, for the synthetic galaxies of a survey."""
    tables = []
    usable = {result.name for result in results if result.outcome != "failed"}
    for galaxy in survey.galaxies:
        if galaxy.mock is None or galaxy.name not in usable:
            continue
        table = Table(title=f"{galaxy.name}: maps against truth (map minus truth)")
        for name in ("quantity", "S/N", "spaxels", "bias", "rms", "robust sigma", "correlation"):
            table.add_column(name, justify="left" if name == "quantity" else "right", no_wrap=True)
        with xr.open_zarr(survey.output / f"{galaxy.name}.zarr") as maps:
            rows = compare_with_truth(maps, truth_path(mock_cube_path(survey, galaxy)))
        for row in rows:
            low, high = row.snr_range
            snr = f"{low:.0f}-{high:.0f}" if np.isfinite(high) else f"> {low:.0f}" if low else "all"
            numbers = (f"{value:.3f}" for value in (row.bias, row.rms, row.sigma, row.correlation))
            table.add_row(row.quantity, snr, str(row.n), *numbers)
        tables.append(table)
    return tables


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
    parts.append(f"Output: {escape(str(survey.output))}")
    kinds = dict.fromkeys(tuple(name.removeprefix(item.name) for name in item.products) for item in plans)
    for kind in kinds:
        names = [item.name for item in plans if item.products == tuple(item.name + ending for ending in kind)]
        parts.append(f"Products of {', '.join(names)}: {', '.join('NAME' + ending for ending in kind)}")
    parts.append(f"Memory budget: {int(survey.chunks.memory) / GIB:.1f} GiB for all processes together")
    return parts


def plan_dict(survey: SurveyConfig, plans: list[PlannedGalaxy]) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "output": str(survey.output),
        "memory_bytes": int(survey.chunks.memory),
        "galaxies": [asdict(item) for item in plans],
    }


def evaluation_table(results: dict[str, Any]) -> Table:
    """Errors of a checkpoint, suite by suite."""
    table = Table(title="Evaluation (predicted minus true)")
    for name in ("suite", "quantity", "mean", "sigma", "rms"):
        table.add_column(name, justify="left" if name in {"suite", "quantity"} else "right")
    for suite, quantities in results.items():
        for quantity, values in quantities.items():
            if isinstance(values, dict):
                rms = f"{values['rms']:.4f}" if "rms" in values else ""
                table.add_row(suite, quantity, f"{values['mean']:+.4f}", f"{values['sigma']:.4f}", rms)
    return table
