"""Trouble on demand: steps of chunks that fail, wait or are counted, on Dask workers that are threads of this process."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

from distributed import get_worker

from galprote.pipeline import graph


class Step(NamedTuple):
    """A task of a chunk, while it runs: `predict` of N1's chunk 2, for the second time (attempt 1), and where."""

    name: str
    galaxy: str
    index: int
    attempt: int
    worker: str


def step_here() -> Step:
    """The task that runs in this thread."""
    worker = get_worker()
    found = re.fullmatch(r"(\w+)-(.+?)-(\d{5})(?:-again(\d+))?", str(worker.get_current_task()))
    assert found is not None
    name, galaxy, index, again = found.groups()
    return Step(name, galaxy, int(index), int(again or 0), worker.address)


@contextmanager
def before(step: str, do: Callable[[Step], None]) -> Iterator[list[Step]]:
    """Call something before a step (`prepare_block`, `predict_block`, `finish_block`) of every chunk; gives the calls."""
    original, calls = getattr(graph, step), []

    def troubled(*args: Any) -> Any:
        here = step_here()
        calls.append(here)
        do(here)
        return original(*args)

    with mock.patch.object(graph, step, troubled):
        yield calls


def failing(
    *chunks: int, galaxy: str = "N1", times: int = 1000, error: Exception | None = None
) -> Callable[[Step], None]:
    """Raise in the first `times` attempts of some chunks of a galaxy."""

    def fail(here: Step) -> None:
        if here.galaxy == galaxy and here.index in chunks and here.attempt < times:
            raise error or ArithmeticError(f"chunk {here.index} is cursed")

    return fail
