"""The survey loop: check everything, then bring all galaxies through the workers; no failure stops the others."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from distributed import Client

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import Decoder
from galprote.model.errors import ConfigError, GalproteError
from galprote.model.wording import count
from galprote.pipeline.cluster_config import ExistingCluster
from galprote.pipeline.config import GalaxyConfig, SurveyConfig, find_cube
from galprote.pipeline.graph import ModelReference, describe_model
from galprote.pipeline.links import refuse_links
from galprote.pipeline.mock import make_mock, truth_path
from galprote.pipeline.plan import CHUNKS_PER_GPU, CHUNKS_PER_WORKER, DRIVER_BYTES
from galprote.pipeline.provenance import NUMERIC_VERSION
from galprote.pipeline.store import GalaxyStore
from galprote.pipeline.whole_files import write_text
from galprote.workflows.capacity import capacity, is_local
from galprote.workflows.cluster import Keeper, check_cluster, start_cluster
from galprote.workflows.dashboard import shown
from galprote.workflows.disk import disk_words
from galprote.workflows.dispatch import Dispatcher
from galprote.workflows.galaxy import GalaxyJob, check_galaxy
from galprote.workflows.lock import sole_run
from galprote.workflows.logbook import GalaxyResult, Logbook
from galprote.workflows.planning import galaxy_plan, mock_cube_path
from galprote.workflows.progress import RunProgress
from galprote.workflows.report.files import refuse_in_the_way
from galprote.workflows.reports import performance_reports
from galprote.workflows.stop import StoppedError, StopRequest, is_disk_full
from galprote.workflows.survey_inputs import inputs_in_the_way, refuse_missing
from galprote.workflows.words import of_galaxy
from galprote.workflows.work import GalaxyWork, begin_galaxy
from galprote.workflows.workers import check_workers, gpu_workers, patience_of, try_out


def load_model(survey: SurveyConfig) -> tuple[ModelReference, Decoder]:
    """Load the survey's checkpoint once, to check it; describe it for the workers, and give its templates."""
    path = survey.model.checkpoint
    checkpoint = load_checkpoint(path)
    return describe_model(checkpoint, path, capacity(survey).device, survey.model.precision), checkpoint.decoder


def run_survey(
    survey: SurveyConfig,
    progress: RunProgress,
    *,
    overwrite: bool = False,
    command: str = "",
    stop: StopRequest | None = None,
    reported: Callable[[Path | None], None] = lambda _: None,
) -> list[GalaxyResult]:
    """Run a survey.

    Parameters
    ----------
    survey : SurveyConfig
    progress : RunProgress
    overwrite : bool
        Whether products made with other settings may be replaced.
    command : str
        What goes on with the survey after an interruption, for the record.
    stop : StopRequest, optional
        By which it can be asked to stop.
    reported : callable
        Told at the end where the report's first page is; None if it was not written.

    Returns
    -------
    list of GalaxyResult
        In the survey's order.

    Raises
    ------
    ConfigError
        Before anything is computed: no galaxy can be run, or products made with other settings are in the way.
    StoppedError
        If the run was asked to stop, the disk is full, or the workers are lost; what is finished is kept.
    """
    missing = refuse_missing(survey)
    if taken := inputs_in_the_way(survey, missing):
        raise ConfigError("\n".join(taken.values()))
    check_cluster(survey.cluster)
    refuse_links(survey.output, [galaxy.name for galaxy in survey.galaxies])
    if survey.report:
        refuse_in_the_way(survey.output, [galaxy.name for galaxy in survey.galaxies])
    model, templates = load_model(survey)
    stop = stop or StopRequest()
    with sole_run(survey.output, progress.message):
        logbook = Logbook(survey, progress, stop, command)
        try:
            with logbook.starting():
                jobs = _check(survey, missing, model, templates, logbook, stop, overwrite=overwrite)
        except KeyboardInterrupt:
            jobs, stop.patient = [], True
            stop.ask("SIGINT")
        logbook.plan(jobs)
        try:
            if jobs and not stop.requested:
                _compute(survey, jobs, model, templates, logbook, stop)
        except KeyboardInterrupt:
            stop.patient = True
            stop.ask("SIGINT")
        except GalproteError as error:
            logbook.reason = f"failed: {error}"
            raise
        except OSError as error:
            if not is_disk_full(error):
                raise
            stop.ask("disk full")
        finally:
            results = logbook.close()
            reported(logbook.report.written)
    if stop.requested and any(result.outcome == "stopped" for result in results):
        raise StoppedError(_stop_words(survey, jobs, stop.reason), results)
    return results


def _check(
    survey: SurveyConfig,
    missing: dict[str, str],
    model: ModelReference,
    templates: Decoder,
    logbook: Logbook,
    stop: StopRequest,
    *,
    overwrite: bool,
) -> list[GalaxyJob]:
    """Check all galaxies; those that cannot be used have failed already, those that exist are skipped."""
    jobs: list[GalaxyJob] = []
    failed: dict[str, Exception] = {name: ConfigError(text) for name, text in missing.items()}
    available = capacity(survey)
    in_the_way: list[str] = []
    for galaxy in survey.galaxies:
        if stop.requested:
            break
        if galaxy.name in missing:
            continue
        try:
            cube = _input_cube(survey, galaxy, model, templates, logbook)
            logbook.cubes[galaxy.name] = str(cube)
            job = check_galaxy(
                galaxy,
                cube,
                survey.output,
                partial(galaxy_plan, survey, available),
                model,
                overwrite=overwrite,
            )
        except ConfigError as error:
            in_the_way.append(str(error))
        except Exception as error:
            if is_disk_full(error):
                stop.ask("disk full")
                break
            failed[galaxy.name] = error
        else:
            if job is None:
                logbook.skipped(GalaxyStore(survey.output, galaxy.name))
            else:
                jobs.append(job)
    if in_the_way:
        raise ConfigError("\n".join(in_the_way))
    _refuse_if_all(survey, failed)
    for name, problem in failed.items():
        logbook.failed(name, problem, [])
    return jobs


def _refuse_if_all(survey: SurveyConfig, failed: dict[str, Exception]) -> None:
    """Raise ConfigError if no galaxy can be run, as `plan` says; a bug is told as a failure, with its traceback."""
    known = all(isinstance(error, GalproteError | OSError) for error in failed.values())
    if known and len(failed) == len(survey.galaxies):
        raise ConfigError("\n".join(of_galaxy(name, str(error)) for name, error in failed.items()))


def _input_cube(
    survey: SurveyConfig, galaxy: GalaxyConfig, model: ModelReference, templates: Decoder, logbook: Logbook
) -> Path:
    """The galaxy's cube; a synthetic one is made unless it is there, made by this code with the same templates."""
    if galaxy.mock is None:
        return find_cube(galaxy)
    path = mock_cube_path(survey, galaxy)
    made_with, record = path.with_suffix(".checkpoint"), f"{model.sha256} {NUMERIC_VERSION}"
    there = path.is_file() and truth_path(path).is_file() and made_with.is_file()
    if not there or made_with.read_text(encoding="utf-8") != record:
        logbook.say(f"{galaxy.name}: making a synthetic cube, {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        made_with.unlink(missing_ok=True)
        make_mock(galaxy.mock, path, templates)
        write_text(made_with, record)
    return path


def _compute(
    survey: SurveyConfig,
    jobs: list[GalaxyJob],
    model: ModelReference,
    templates: Decoder,
    logbook: Logbook,
    stop: StopRequest,
) -> None:
    """Bring galaxies through the workers."""
    with ExitStack() as stack:
        if survey.cluster.dashboard is not None:
            stack.enter_context(shown(logbook.monitor))
        stop.patient = is_local(survey.cluster)  # half a cluster is not easily taken down; a queue may take hours
        client, keeper = stack.enter_context(_cluster(survey, jobs, model, logbook))
        stop.patient = True
        check_workers(client, survey.cluster, model.device, survey.output, keeper, stop, logbook.say)
        if stop.requested:
            return
        gpu = gpu_workers(client) > 0
        if isinstance(survey.cluster, ExistingCluster) and survey.model.device == "auto" and gpu:
            model = replace(model, device="cuda")
            try_out(client, model.device, survey.output)
        if survey.cluster.performance_report:
            logbook.reports = stack.enter_context(performance_reports(survey.output))
        per_gpu = CHUNKS_PER_GPU if model.device == "cuda" else CHUNKS_PER_WORKER
        dispatcher = Dispatcher(
            client,
            keeper,
            stop,
            attempts=survey.chunks.attempts,
            deaths=survey.chunks.deaths,
            per_worker=CHUNKS_PER_WORKER,
            per_gpu=per_gpu,
            gpu=gpu,
            patience=patience_of(survey.cluster),
            on_workers=logbook.monitor.workers,
            on_watch=logbook.write,
            say=logbook.say,
        )
        begin = partial(begin_galaxy, model=model, templates=templates, listener=logbook, gpu=gpu)
        logbook.report.client = client
        with _opened(jobs, begin, logbook, stop) as galaxies:
            dispatcher.run(galaxies)
        logbook.report.wait(stop)


@contextmanager
def _opened(
    jobs: list[GalaxyJob], begin: partial[GalaxyWork], logbook: Logbook, stop: StopRequest
) -> Iterator[Iterator[GalaxyWork | None]]:
    """Galaxies one after the other, each opened while the one before is computed: a compressed cube takes its time."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="open")

    def galaxies() -> Iterator[GalaxyWork | None]:
        ahead = pool.submit(begin, jobs[0])
        for index, job in enumerate(jobs):
            current = ahead
            if index + 1 < len(jobs):
                ahead = pool.submit(begin, jobs[index + 1])
            while not current.done():
                yield None
            try:
                work = current.result()
            except Exception as error:
                if is_disk_full(error):
                    stop.ask("disk full")
                    return
                logbook.failed(job.galaxy.name, error, [])
                continue
            logbook.began(work)
            yield work

    try:
        yield galaxies()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _cluster(
    survey: SurveyConfig, jobs: list[GalaxyJob], model: ModelReference, logbook: Logbook
) -> Iterator[tuple[Client, Keeper]]:
    """Workers for all the galaxies: as many as the one that needs most memory allows."""
    available = capacity(survey)
    under_way = CHUNKS_PER_GPU if available.device == "cuda" else CHUNKS_PER_WORKER
    worker_bytes = available.idle_bytes + max(job.plan.work_bytes(under_way) for job in jobs)
    workers = min(available.workers, sum(len(job.plan.chunks) for job in jobs))
    if available.budget_bytes is not None:
        workers = max(1, min(workers, (available.budget_bytes - DRIVER_BYTES) // worker_bytes))
    if not isinstance(survey.cluster, ExistingCluster):
        logbook.say(f"Starting {count(workers, 'worker')}")
    with start_cluster(
        survey.cluster,
        workers=workers,
        worker_bytes=worker_bytes,
        device=model.device,
        output=survey.output,
        say=logbook.say,
    ) as (client, keeper):
        logbook.dashboard(client, survey.cluster)
        yield client, keeper


def _stop_words(survey: SurveyConfig, jobs: list[GalaxyJob], reason: str) -> str:
    if reason == "disk full":
        return disk_words(survey.output, jobs)
    return f"stopped ({reason})"
