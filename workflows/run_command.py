"""`galprote-pipeline run`: from a survey to maps, an exit code, and what became of every galaxy."""

import atexit
import gc
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from galprote.workflows.completion import complete_cluster, complete_yaml
from galprote.workflows.conduct import current_stop
from galprote.workflows.stop import STOPPED, StoppedError
from galprote.workflows.terminal import Debug, Json, complain, conclude, out, print_json, set_logs, show, voice

if TYPE_CHECKING:
    from galprote.pipeline.config import SurveyConfig
    from galprote.workflows.logbook import GalaxyResult

Survey = Annotated[
    Path,
    typer.Argument(metavar="SURVEY.yaml", help="The survey: see configs/survey.yaml.", autocompletion=complete_yaml),
]

Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="Where to work instead of what the survey says: local, local-cuda, a scheduler's tcp://HOST:PORT, or a "
        "YAML file with the section.",
        autocompletion=complete_cluster,
    ),
]


def read_choice(survey: Path, cluster: str | None) -> "SurveyConfig":
    """The survey, on another cluster if one is named."""
    from galprote.pipeline.config import choose_cluster, read_survey

    config = read_survey(survey)
    return config if cluster is None else config.model_copy(update={"cluster": choose_cluster(cluster)})


def run(
    survey: Survey,
    overwrite: Annotated[bool, typer.Option(help="Replace products that were made with other settings.")] = False,
    cluster: Cluster = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Map every galaxy of a survey.

    What is done is never computed twice: run the same command again after an interruption.

    Example: galprote-pipeline run survey.yaml
    """
    stop = current_stop()
    stop.kept, stop.command = "nothing was under way", _command(survey, cluster, overwrite=overwrite)
    atexit.register(gc.freeze)  # or Python would look through a million objects for garbage before it ends: 0.8 s
    config = read_choice(survey, cluster)
    _prepare(config)

    gc.disable()  # imports make no garbage, and looking for it takes a fifth of their time
    from galprote.workflows.progress import make_progress
    from galprote.workflows.survey import run_survey

    gc.enable()
    set_logs()
    stop.listen_again()  # dask_jobqueue takes SIGINT for itself when it is imported
    reports: list[Path | None] = []
    try:
        with make_progress(out(), quiet=voice.quiet) as progress:
            results = run_survey(
                config, progress, overwrite=overwrite, command=stop.command, stop=stop, reported=reports.append
            )
    except StoppedError as stopped:
        if any(result.outcome != "stopped" for result in stopped.results) or as_json:
            _report(config, stopped.results, STOPPED, reports, as_json=as_json, debug=debug)
        complain(f"{stopped}{stop.resume_words()}")
        raise typer.Exit(STOPPED) from None
    code = 1 if any(result.outcome in ("failed", "incomplete") for result in results) else 0
    _report(config, results, code, reports, as_json=as_json, debug=debug)
    raise typer.Exit(code)


def _command(survey: Path, cluster: str | None, *, overwrite: bool) -> str:
    """What goes on with the run, from any folder."""
    choice = str(Path(cluster).resolve()) if cluster and Path(cluster).is_file() else cluster
    words = ["galprote-pipeline", "run", str(survey.resolve()), *(["--overwrite"] if overwrite else [])]
    return shlex.join([*words, *(["--cluster", choice] if choice else [])])


def _prepare(config: "SurveyConfig") -> None:
    """Look whether the inputs are there; begin to import what workers need while this process imports its own."""
    from galprote.workflows.forking import can_fork, start_server
    from galprote.workflows.preloading import preload_torch
    from galprote.workflows.survey_inputs import refuse_missing

    refuse_missing(config)
    if can_fork(config):
        start_server()
    preload_torch()


def _report(
    config: "SurveyConfig",
    results: list["GalaxyResult"],
    code: int,
    reports: list[Path | None],
    *,
    as_json: bool,
    debug: bool,
) -> None:
    """Say what became of every galaxy, and where the report is, if it was written."""
    page = next(iter(reports), None)
    from galprote.workflows.reporting import outcome_words, results_table, truth_rows, truth_tables

    if debug:
        for result in results:
            if result.details:
                complain(f"{result.name}:\n{result.details}")
    if as_json:
        truth = truth_rows(config, results)
        print_json(_document(config, results, code, page) | ({"truth": truth} if truth else {}))
        return
    if not voice.quiet:
        for table in truth_tables(config, results):
            show(table)
        show(results_table(results))
    conclude(f"{outcome_words(results)}. Products: {config.output}")
    if page is not None and not voice.quiet:
        conclude(f"Report: {page}")


def _document(config: "SurveyConfig", results: list["GalaxyResult"], code: int, page: Path | None) -> dict[str, Any]:
    from galprote.workflows.logbook import result_dict

    return {
        "exit_code": code,
        "output": str(config.output),
        "command": current_stop().command,
        **({"report": page} if config.report else {}),
        "galaxies": [result_dict(result) for result in results],
    }
