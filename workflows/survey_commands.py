"""Commands that look at a survey: `plan` before it is run, `status` while it is and afterwards."""

from pathlib import Path
from typing import Annotated

import typer

from galprote.workflows.completion import complete_output
from galprote.workflows.run_command import Cluster, Survey, read_choice
from galprote.workflows.terminal import Debug, Json, conclude, print_json, show, voice


def plan(survey: Survey, cluster: Cluster = None, as_json: Json = False, debug: Debug = False) -> None:
    """Show what a run would do: galaxies, shapes, channels, chunks, memory, products. Nothing is computed.

    Works without the cubes: it then says which are missing and where it looked. Ends with the exit code that
    the run would have, as far as can be seen.

    Example: galprote-pipeline plan survey.yaml
    """
    config = read_choice(survey, cluster)
    from galprote.workflows.plan_report import plan_dict, plan_table, plan_words
    from galprote.workflows.planning import plan_exit_code, plan_survey

    plans = plan_survey(config)
    code = plan_exit_code(plans)
    if as_json:
        print_json({"exit_code": code} | plan_dict(config, plans))
    else:
        if not voice.quiet:
            for part in plan_table(config, plans):
                show(part, wide=True)
        conclude(plan_words(plans))
    raise typer.Exit(code)


def status(
    output: Annotated[
        Path,
        typer.Argument(metavar="OUTDIR", help="The output folder of a survey.", autocompletion=complete_output),
    ],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show how far a survey is, from any shell, also while it runs elsewhere.

    Example: galprote-pipeline status output
    """
    from galprote.workflows.status import read_status, status_lines, status_table

    found = read_status(output)
    if as_json:
        print_json(found.to_dict())
        return
    lines = status_lines(found)
    if voice.quiet:
        conclude(lines[0])
        return
    for line in lines:
        conclude(line)
    show(status_table(found), wide=True)
