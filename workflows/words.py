"""The words for what becomes of things: one list, from which messages, tables and records take them."""

from typing import Final, Literal, get_args

#: What became of a galaxy.
Outcome = Literal["done", "skipped", "incomplete", "failed", "stopped"]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

#: All that can be the matter with a galaxy, in the order of its life.
GalaxyState = Literal["waiting", "running", "publishing", "done", "incomplete", "failed", "skipped", "stopped"]
GALAXY_STATES: Final[tuple[GalaxyState, ...]] = get_args(GalaxyState)

#: States in which a galaxy needs nothing more.
OVER: Final[frozenset[str]] = frozenset({"done", "skipped"})

#: What a run is at until it has checked its galaxies.
STARTING: Final = "starting"

#: What `plan` calls a galaxy that `run` would not compute.
CANNOT_RUN: Final = "cannot run"


def of_galaxy(name: str, text: str) -> str:
    """A message with the name of the galaxy that it is about before it, once."""
    return text if text.startswith(f"{name}: ") else f"{name}: {text}"
