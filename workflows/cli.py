"""`galprote-pipeline`: from the command line to an exit code.

Exit codes, of every command: 0 all done; 1 some galaxies failed or lack chunks, the others are done; 2 wrong
configuration or usage, nothing computed; 3 stopped before the end; 70 a bug. docs/terminal.md has them all.
"""

import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from galprote.model.errors import GalproteError
from galprote.workflows import (
    compare_command,
    cube_commands,
    fit_command,
    init_command,
    model_commands,
    report_command,
    run_command,
    survey_commands,
    view_command,
)
from galprote.workflows.conduct import conducted, panel_of, place_of
from galprote.workflows.stop import STOPPED
from galprote.workflows.terminal import complain

app = typer.Typer(
    name="galprote-pipeline",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"galprote {version('galprote')}")
        raise typer.Exit


@app.callback(epilog="Help of a command: galprote-pipeline COMMAND -h. Exit codes, JSON, completion: docs/terminal.md.")
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Maps of stellar age, metallicity and dust from integral-field surveys."""


_commands: tuple[Callable[..., None], ...] = (
    run_command.run,
    survey_commands.status,
    survey_commands.plan,
    cube_commands.inspect,
    cube_commands.mock,
    init_command.init,
    fit_command.fit,
    report_command.report,
    view_command.view,
    compare_command.compare,
    model_commands.train,
    model_commands.appraise,
    model_commands.evaluate,
    model_commands.card,
)
for _command in sorted(_commands, key=lambda command: place_of(command.__name__)):
    app.command(rich_help_panel=panel_of(_command.__name__))(conducted(_command))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Errors that galprote raises on purpose, and those of the file system, are printed as they are; the traceback is for
    `--debug`.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        app(words, prog_name="galprote-pipeline")
    except KeyboardInterrupt:
        complain("SIGINT: stopped")
        sys.exit(STOPPED)
    except (GalproteError, OSError) as error:
        if "--debug" in words:
            traceback.print_exception(error)
        complain(f"error: {error}", style="red")
        sys.exit(2)
    except Exception as error:
        if "--debug" in words:
            raise
        advice = "This is a bug in galprote: please report it with what --debug shows."
        complain(f"unexpected {type(error).__name__}: {error}\n{advice}", style="red")
        sys.exit(70)
    raise AssertionError("typer always exits")
