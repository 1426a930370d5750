"""Whole runs of `galprote-pipeline run` on mock cubes of 1, 4 and 16 times the spaxels, and with 1 and 2 workers."""

import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import Watched, run_survey
from benchmarks.speed.figures import Part
from benchmarks.speed.setup import Setup, fitted
from galprote.pipeline.config import read_survey
from galprote.pipeline.plan import ChunkPlan
from galprote.workflows.planning import plan_survey

#: Seconds between two looks at the memory: the looks take 2 % of two cores then.
MEMORY_EVERY = 1.0


@dataclass(frozen=True)
class Run:
    """A run that is over.

    Attributes
    ----------
    spaxels, fitted : int
    plan : ChunkPlan
    watched : Watched
    steady : float
        Spaxels a second from the first finished chunk to the last, without those that all workers began with.
    first, last : float
        When the first and the last chunk were finished, seconds after the start.
    """

    spaxels: int
    fitted: int
    plan: ChunkPlan
    watched: Watched
    steady: float
    first: float
    last: float


def run(setup: Setup, name: str, cube: Path, **settings: Any) -> Run:
    """Run a survey of one cube; its products are removed."""
    survey = setup.survey(name, cube, **settings)
    planned = plan_survey(read_survey(survey))[0].plan
    assert planned is not None
    watched = run_survey(survey, MEMORY_EVERY)
    if watched.exit_code:
        said = survey.with_suffix(".log").read_text()[-2000:]
        raise RuntimeError(f"galprote-pipeline run {survey}: exit code {watched.exit_code}\n{said}")
    found = Run(planned.ny * planned.nx, fitted(survey), planned, watched, *steady_rate(planned, watched))
    shutil.rmtree(survey.parent)
    return found


def steady_rate(plan: ChunkPlan, watched: Watched) -> tuple[float, float, float]:
    """Spaxels a second without start-up, and when the first and the last chunk were finished.

    The first is not a number where workers have less than three chunks each.
    """
    sizes = [(rows.stop - rows.start) * plan.nx for rows in plan.chunks]
    came = {int(path.stem): when for path, when in watched.files.items() if path.match("chunks/*.npz")}
    order = sorted(came, key=lambda index: came[index])
    if not order:
        return np.nan, np.nan, np.nan
    if len(order) < 3 * plan.workers:
        return np.nan, came[order[0]], came[order[-1]]
    spaxels = sum(sizes[index] for index in order[plan.workers :])
    seconds = came[order[-1]] - came[order[0]]
    return (spaxels / seconds if spaxels and seconds > 0 else np.nan), came[order[0]], came[order[-1]]


def measure(setup: Setup) -> Part:
    """Run cubes of all sizes, with maps only and with the residual cube."""
    workers = 0
    part = Part(
        "Whole runs",
        "`galprote-pipeline run` on mock cubes with light in all spaxels, as the plan has it by default, without the "
        "figure; wall time, other work on the machine included; without start-up: from the first finished chunk to the "
        "last; processor time is of all processes; memory (PSS, all processes) looked at once a "
        "second",
    )
    for residual, what in ((False, "maps"), (True, "maps and residual cube"))[: 1 if setup.quick else 2]:
        found = {}
        for times, side in list(setup.sides.items())[-1 if setup.quick else 0 :]:
            found[times] = run(setup, f"run{times}-{residual}", setup.cube(side), residual=residual)
            workers = max(workers, found[times].plan.workers)
            _describe(part, f"{what}, {times}x", found[times])
        _flatness(part, what, found, setup, "1,500" if residual else "2,000")
    if not setup.quick:
        holes = run(setup, "corners", setup.cube(setup.sides[4], corners=True))
        part.add("empty corners, 4x: spaxels that are fitted", 100 * holes.fitted / holes.spaxels, "%")
        part.add("empty corners, 4x: without start-up", holes.steady, "spaxels/s", "more", "cores")
    part.how += f"; {workers} workers"
    return part


def _describe(part: Part, name: str, found: Run) -> None:
    watched = found.watched
    size = f"{found.spaxels:,} spaxels, {100 * found.fitted / found.spaxels:.0f} % fitted"
    part.add(f"{name}: with start-up", found.spaxels / watched.seconds, "spaxels/s", "more", "cores", size)
    part.add(f"{name}: without start-up", found.steady, "spaxels/s", "more", "cores")
    part.add(f"{name}: processor time", 1e6 * watched.processor_seconds / found.spaxels, "µs/spaxel", "less", "float32")
    part.add(f"{name}: first chunk after", found.first, "s", "less", "cores", "target: start-up under 6 s")
    part.add(f"{name}: after the last chunk", watched.seconds - found.last, "s", "less", "cores")
    planned = found.plan.peak_bytes / 2**20
    beside = f"plan: {planned:,.0f} MiB"
    part.add(f"{name}: peak memory", watched.peaks.every / 2**20, "MiB", "less", "", beside)


def _flatness(part: Part, what: str, found: dict[int, Run], setup: Setup, target: str) -> None:
    """What further spaxels cost, and how that grows with the cube: by the wall, and in processor time."""
    least, most = min(found), max(found)
    if least == most:
        return
    walls = _further(found, "seconds")
    part.add(f"{what}: further spaxels", 1 / walls[-1], "spaxels/s", "more", "cores", f"target: {target}")
    peaks = [found[times].watched.peaks.every for times in (least, most)]
    part.add(f"{what}: peak memory, {most}x over {least}x", peaks[1] / peaks[0], "times", "less", "", "target: flat")
    costs = _further(found, "processor_seconds")
    part.add(f"{what}: processor time of a further spaxel", 1e6 * costs[-1], "µs/spaxel", "less", "float32")
    part.add(f"{what}: page faults of a further spaxel", _further(found, "page_faults")[-1], "", "less")
    setup.known[f"further spaxel, {what}"] = costs[-1]
    if len(costs) > 1:
        name = f"{what}: processor time of a further spaxel, to {most}x over to 4x"
        part.add(name, costs[-1] / costs[0], "times", "less", "", "target: 1.10")
        name = f"{what}: time of a further spaxel, to {most}x over to 4x"
        part.add(name, walls[-1] / walls[0], "times", "less", "", "target: 1.10")


def _further(found: dict[int, Run], what: str) -> list[float]:
    """What each further spaxel took, from one size to the next: the start takes the same."""
    runs = list(found.values())
    return [(getattr(b.watched, what) - getattr(a.watched, what)) / (b.spaxels - a.spaxels) for a, b in pairwise(runs)]


def scaling(setup: Setup) -> Part:
    """Run the same cube with one worker process and with two."""
    part = Part("Worker processes", "maps of the 16x cube, `cluster: {workers: N}`; wall time without start-up")
    if setup.quick:
        part.lacking.append("worker processes: left out by --quick")
        return part
    found = {n: run(setup, f"workers{n}", setup.cube(setup.sides[16]), workers=n) for n in (1, 2)}
    for n, one in found.items():
        part.add(f"{n}: without start-up", one.steady, "spaxels/s", "more", "cores" if n > 1 else "float32")
        part.add(f"{n}: processor time", 1e6 * one.watched.processor_seconds / one.spaxels, "µs/spaxel", "less")
    part.add("2 over 1", found[2].steady / found[1].steady, "times", "more")
    return part
