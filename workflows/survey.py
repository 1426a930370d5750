"""The survey loop: check everything, then one galaxy after the other; a failure of one does not stop the others."""

import fcntl
import json
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from distributed import Client

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import Decoder
from galprote.model.errors import ConfigError, GalproteError
from galprote.model.predictor import resolve_device
from galprote.pipeline.config import GalaxyConfig, SurveyConfig, find_cube
from galprote.pipeline.graph import ChunkSummary, ModelReference
from galprote.pipeline.mock import make_mock, truth_path
from galprote.pipeline.plan import CHUNKS_PER_WORKER, GPU_WORKER_BYTES, WORKER_BYTES
from galprote.pipeline.provenance import NUMERIC_VERSION
from galprote.pipeline.store import GalaxyStore, write_text
from galprote.workflows.cluster import has_gpu_workers, start_cluster
from galprote.workflows.galaxy import GalaxyJob, assumptions, check_galaxy, compute_galaxy, open_galaxy
from galprote.workflows.planning import galaxy_plan, missing_inputs, mock_cube_path
from galprote.workflows.progress import RunProgress

Outcome = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class GalaxyResult:
    """What became of a galaxy.

    Attributes
    ----------
    name : str
    outcome : {"done", "skipped", "failed"}
    spaxels, fitted : int or None
    seconds : float or None
        None where nothing was computed in this run.
    error : str
        Why it failed.
    details : str
        The traceback, for `--debug`.
    """

    name: str
    outcome: Outcome
    spaxels: int | None = None
    fitted: int | None = None
    seconds: float | None = None
    error: str = ""
    details: str = field(default="", repr=False)


def load_model(survey: SurveyConfig) -> tuple[ModelReference, Decoder]:
    """Load the survey's checkpoint once, to check it; describe it for the workers, and give its templates."""
    path = survey.model.checkpoint
    checkpoint = load_checkpoint(path)
    decoder = checkpoint.decoder
    axes = tuple(decoder.ages_gyr.tolist()), tuple(decoder.metallicities.tolist())
    config = checkpoint.model.config
    known = tuple(config.visible.tolist()), config.appraisal is not None
    return ModelReference(path, checkpoint.sha256, resolve_device(survey.model.device), *axes, *known), decoder


def run_survey(survey: SurveyConfig, progress: RunProgress, *, overwrite: bool = False) -> list[GalaxyResult]:
    """Run a survey.

    Parameters
    ----------
    survey : SurveyConfig
    progress : RunProgress
    overwrite : bool
        Whether products made with other settings may be replaced.

    Returns
    -------
    list of GalaxyResult
        In the survey's order.

    Raises
    ------
    ConfigError
        Before anything is computed: cubes or masks are missing, or products made with other settings are in the way.
    """
    problems = missing_inputs(survey)
    if problems:
        raise ConfigError("\n".join(problems))
    model, templates = load_model(survey)
    if model.device == "cuda" and (survey.cluster.workers or 1) > 1:
        raise ConfigError(
            "cluster.workers: several workers would share one GPU; leave it out, or set model.device: cpu"
        )
    with sole_run(survey.output):
        jobs, results = _check(survey, model, templates, progress, overwrite=overwrite)
        if jobs:
            with _cluster(survey, jobs, model) as client:
                if client.dashboard_link and survey.cluster.dashboard:
                    progress.message(f"Dask dashboard: {client.dashboard_link}")
                compute = partial(
                    _compute,
                    client=client,
                    model=model,
                    templates=templates,
                    progress=progress,
                    gpu=has_gpu_workers(client),
                )
                for job in jobs:
                    results[job.galaxy.name] = _attempt(job.galaxy.name, partial(compute, job), progress)
        ordered = [results[galaxy.name] for galaxy in survey.galaxies]
        write_summary(survey.output / "summary.json", ordered)
    return ordered


@contextmanager
def sole_run(output: Path) -> Iterator[None]:
    """Make the output folder and keep other runs out of it; the system forgets the lock when the process ends.

    Raises
    ------
    ConfigError
        If another run is working there, or the folder cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"output = {output}: cannot be made: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise ConfigError(f"output = {output}: another run is working there ({lock.read().strip()})") from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield


def _check(
    survey: SurveyConfig, model: ModelReference, templates: Decoder, progress: RunProgress, *, overwrite: bool
) -> tuple[list[GalaxyJob], dict[str, GalaxyResult]]:
    """Check all galaxies; those that cannot be used have failed already, those that exist are skipped."""
    jobs: list[GalaxyJob] = []
    results: dict[str, GalaxyResult] = {}
    in_the_way: list[str] = []
    for galaxy in survey.galaxies:
        name = galaxy.name
        try:
            cube = _input_cube(survey, galaxy, model, templates, progress)
            job = check_galaxy(
                galaxy,
                cube,
                survey.output,
                partial(galaxy_plan, survey, model.device),
                model,
                overwrite=overwrite,
            )
        except ConfigError as error:
            in_the_way.append(str(error))
        except Exception as error:
            results[name] = _failure(name, error, progress)
        else:
            if job is None:
                results[name] = _skipped(GalaxyStore(survey.output, name), progress)
            else:
                jobs.append(job)
    if in_the_way:
        raise ConfigError("\n".join(in_the_way))
    return jobs, results


def _skipped(store: GalaxyStore, progress: RunProgress) -> GalaxyResult:
    store.sweep()
    progress.finish(store.name, "done already, with the same input, settings and weights")
    return GalaxyResult(store.name, "skipped", spaxels=store.finished_spaxels())


def _input_cube(
    survey: SurveyConfig, galaxy: GalaxyConfig, model: ModelReference, templates: Decoder, progress: RunProgress
) -> Path:
    """The galaxy's cube; a synthetic one is made unless it is there, made by this code with the same templates."""
    if galaxy.mock is None:
        return find_cube(galaxy)
    path = mock_cube_path(survey, galaxy)
    made_with, record = path.with_suffix(".checkpoint"), f"{model.sha256} {NUMERIC_VERSION}"
    there = path.is_file() and truth_path(path).is_file() and made_with.is_file()
    if not there or made_with.read_text(encoding="utf-8") != record:
        progress.message(f"{galaxy.name}: making a synthetic cube, {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        made_with.unlink(missing_ok=True)
        make_mock(galaxy.mock, path, templates)
        write_text(made_with, record)
    return path


def _cluster(survey: SurveyConfig, jobs: list[GalaxyJob], model: ModelReference) -> Any:
    """Workers for all the galaxies: as many as the one that needs most memory allows."""
    workers = min(job.plan.workers for job in jobs)
    idle = GPU_WORKER_BYTES if model.device == "cuda" else WORKER_BYTES
    worker_bytes = idle + CHUNKS_PER_WORKER * max(job.plan.chunk_bytes for job in jobs)
    return start_cluster(survey.cluster, workers=workers, worker_bytes=worker_bytes, device=model.device)


def _attempt(name: str, compute: Callable[[], GalaxyResult], progress: RunProgress) -> GalaxyResult:
    """Compute a galaxy; whatever goes wrong is its own failure, not the survey's."""
    try:
        return compute()
    except Exception as error:
        return _failure(name, error, progress)


def _compute(
    job: GalaxyJob, *, client: Client, model: ModelReference, templates: Decoder, progress: RunProgress, gpu: bool
) -> GalaxyResult:
    name, began = job.galaxy.name, time.perf_counter()
    opened = open_galaxy(job, model, templates)
    for note in assumptions(opened.cube, opened.settings, model):
        progress.message(f"{name}: {note}")

    def on_chunk(summary: ChunkSummary) -> None:
        progress.advance(name, summary.spaxels, summary.fitted)

    start = partial(progress.start, name)
    fitted = compute_galaxy(job, opened, client, model, gpu=gpu, on_start=start, on_chunk=on_chunk)
    seconds = time.perf_counter() - began
    progress.finish(name, f"{fitted} spaxels fitted in {seconds:.1f} s")
    return GalaxyResult(name, "done", job.plan.ny * job.plan.nx, fitted, seconds)


def _failure(name: str, error: Exception, progress: RunProgress) -> GalaxyResult:
    text = str(error) if isinstance(error, GalproteError) else f"{type(error).__name__}: {error}"
    progress.finish(name, f"failed: {text}")
    return GalaxyResult(name, "failed", error=text, details="".join(traceback.format_exception(error)))


def write_summary(path: Path, results: list[GalaxyResult]) -> None:
    """Write what became of every galaxy as JSON."""
    rows = [{key: value for key, value in asdict(result).items() if key != "details"} for result in results]
    write_text(path, json.dumps(rows, indent=1) + "\n")
