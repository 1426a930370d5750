"""How every command behaves: `--quiet` and `--verbose`, JSON alone on standard output, Ctrl-C answered at once."""

import functools
import inspect
import shlex
import sys
from collections.abc import Callable
from typing import Any, Final, get_type_hints

import typer

from galprote.workflows.stop import STOPPED, StopRequest, signals_stop
from galprote.workflows.terminal import Quiet, Verbose, answer, speaking

#: What the commands are about, as `--help` groups them.
PANELS: Final[dict[str, tuple[str, ...]]] = {
    "Map": ("init", "inspect", "plan", "run", "status"),
    "Look": ("report", "view", "compare"),
    "Single spectra": ("fit",),
    "Train": ("train", "appraise", "evaluate", "card"),
    "Try out": ("mock",),
}

_requests: list[StopRequest] = []


def panel_of(name: str) -> str:
    """The group of a command."""
    return next((panel for panel, names in PANELS.items() if name in names), "Look")


def place_of(name: str) -> int:
    """Where a command stands in the list of all."""
    names = [name for group in PANELS.values() for name in group]
    return names.index(name) if name in names else len(names)


def current_stop() -> StopRequest:
    """The request that signals make to the command that runs; outside of one, a request that nobody makes."""
    return _requests[-1] if _requests else StopRequest()


def keeps(words: str, *, goes_on: bool = False) -> None:
    """Say what an interruption leaves from now on.

    Parameters
    ----------
    words : str
        Such as `nothing was written`.
    goes_on : bool
        Whether the same command goes on from there.
    """
    stop = current_stop()
    stop.kept, stop.command = words, typed() if goes_on else ""


def typed() -> str:
    """The command as it was typed."""
    return shlex.join(["galprote-pipeline", *sys.argv[1:]])


def _is_json(hint: Any) -> bool:
    """Whether a parameter's annotation makes it the option `--json`; typer takes its first name for a default."""
    return any(
        "--json" in (getattr(about, "default", None), *(getattr(about, "param_decls", None) or ()))
        for about in getattr(hint, "__metadata__", ())
    )


def conducted(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what all have: `--quiet`, `--verbose`, and an answer to signals."""

    hints = get_type_hints(command, include_extras=True)
    json = [name for name, hint in hints.items() if _is_json(hint)]

    @functools.wraps(command)
    def behave(**given: Any) -> None:
        quiet, verbose = given.pop("quiet"), given.pop("verbose")
        if quiet and verbose:
            raise typer.BadParameter("give --quiet or --verbose, not both")
        stop = StopRequest()
        stop.kept = "nothing was written"
        _requests.append(stop)
        try:
            with (
                speaking(quiet=quiet, verbose=verbose, as_json=any(given[name] for name in json)),
                signals_stop(stop, answer),
            ):
                command(**given)
        except KeyboardInterrupt:
            if not stop.requested:  # in a thread that gets no signals
                stop.hear("SIGINT", answer)
            raise typer.Exit(STOPPED) from None
        except SystemExit:  # dask_jobqueue, when it is imported, makes one of SIGINT
            if stop.requested:
                raise typer.Exit(STOPPED) from None
            raise
        finally:
            _requests.remove(stop)

    own = [value.replace(annotation=hints[name]) for name, value in inspect.signature(command).parameters.items()]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("quiet", Quiet), ("verbose", Verbose))
    ]
    last = [value for value in own if value.name == "debug"]
    parameters = [value.replace(kind=inspect.Parameter.KEYWORD_ONLY) for value in own if value.name != "debug"]
    parameters += more + [value.replace(kind=inspect.Parameter.KEYWORD_ONLY) for value in last]
    behave.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    behave.__annotations__ = {value.name: value.annotation for value in parameters}
    del behave.__wrapped__  # type: ignore[attr-defined]
    return behave
