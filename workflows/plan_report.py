"""What `plan` prints: a table, what is in the way, and the same as plain data."""

from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from galprote.model.errors import GalproteError
from galprote.model.wording import count
from galprote.pipeline.config import SurveyConfig
from galprote.pipeline.plan import ChunkPlan
from galprote.workflows.capacity import capacity
from galprote.workflows.planning import PlannedGalaxy, plan_exit_code
from galprote.workflows.words import CANNOT_RUN, GALAXY_STATES, of_galaxy

GIB = 2**30


def plan_table(survey: SurveyConfig, plans: list[PlannedGalaxy]) -> list[RenderableType]:
    """What a run would do, and what is in its way."""
    table = Table(title="Plan")
    for name in ("galaxy", "state", "channels", "ny x nx", "chunks", "workers", "to read", "peak memory"):
        table.add_column(name, justify="left" if name in {"galaxy", "state"} else "right")
    for item in plans:
        if item.plan is None:
            table.add_row(item.name, Text(CANNOT_RUN, style="red"), *["-"] * 6)
            continue
        chunks = item.plan
        of = f" of {item.channels_in_file}" if item.channels_in_file else ""
        table.add_row(
            item.name,
            item.state,
            f"{chunks.channels}{of}",
            f"{chunks.ny} x {chunks.nx}",
            _chunk_words(item, chunks),
            str(chunks.workers),
            f"{chunks.read_bytes / GIB:.2f} GiB",
            f"{chunks.peak_bytes / GIB:.2f} GiB",
        )
    parts: list[RenderableType] = [table]
    for item in plans:
        if item.problem:
            parts.append(Text.assemble((CANNOT_RUN, "red"), f" {of_galaxy(item.name, item.problem)}"))
    parts += [f"Before the fit of {item.name}: {'; '.join(item.steps)}" for item in plans if item.steps]
    parts += [f"Masks of {item.name}: {'; '.join(item.masks)}" for item in plans if item.masks]
    parts.append(f"Output: {survey.output}")
    parts.append(f"Weights: {survey.model.checkpoint or 'the shipped ones'}, in {survey.model.precision}")
    usable = [item for item in plans if not item.problem]
    kinds = dict.fromkeys(tuple(name.removeprefix(item.name) for name in item.products) for item in usable)
    for kind in kinds:
        names = [item.name for item in usable if item.products == tuple(item.name + ending for ending in kind)]
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
    return f"Memory budget: {available.worker_bytes / GIB:.1f} GiB for each of {count(available.workers, 'worker')}"


def plan_dict(survey: SurveyConfig, plans: list[PlannedGalaxy]) -> dict[str, Any]:
    """The same as plain data."""
    try:
        budget = capacity(survey).budget_bytes
    except GalproteError:
        budget = None
    return {
        "output": str(survey.output),
        "checkpoint": None if survey.model.checkpoint is None else str(survey.model.checkpoint),
        "precision": survey.model.precision,
        "memory_bytes": budget,
        "galaxies": [asdict(item) for item in plans],
    }


def plan_words(plans: list[PlannedGalaxy]) -> str:
    """The plan in a line."""
    states = [item.state for item in plans if not item.problem]
    told = [f"{states.count(state):,} {state}" for state in GALAXY_STATES if state in states]
    troubled = sum(bool(item.problem) for item in plans)
    told += [f"{troubled:,} {CANNOT_RUN}"] if troubled else []
    refused = "; run would refuse, and compute nothing" if plan_exit_code(plans) == 2 else ""
    return f"{count(len(plans), 'galaxy', 'galaxies')}: {', '.join(told)}{refused}"


def _chunk_words(item: PlannedGalaxy, plan: ChunkPlan) -> str:
    done = f", {item.chunks_done:,} done" if item.chunks_done and item.state != "done" else ""
    return f"{len(plan.chunks):,} of {count(plan.rows, 'row')}{done}"
