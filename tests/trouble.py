"""Trouble on demand: steps of chunks that fail, wait or are counted, on workers that are threads of this process."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import xarray as xr
from astropy.io import fits
from distributed import get_worker
from distributed.diagnostics.plugin import SchedulerPlugin

from galprote.pipeline import graph
from tests import surveys


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
    found = re.fullmatch(r"(\w+)-(.+?)-(\d{5})-[0-9a-f]{8}(?:-again(\d+))?", str(worker.get_current_task()))
    assert found is not None
    name, galaxy, index, again = found.groups()
    return Step(name, galaxy, int(index), int(again or 0), worker.address)


@contextmanager
def before(step: str, do: Callable[[Step], None], module: ModuleType = graph) -> Iterator[list[Step]]:
    """Call something before `prepare_block`, `predict_block` or `finish_block` of every chunk; gives the calls.

    Other modules have other steps, such as `bin_graph` has `measure_spaxels`.
    """
    original, calls = getattr(module, step), []

    def troubled(*args: Any) -> Any:
        here = step_here()
        calls.append(here)
        do(here)
        return original(*args)

    with mock.patch.object(module, step, troubled):
        yield calls


def failing(
    *chunks: int, galaxy: str = "N1", times: int = 1000, error: Exception | None = None
) -> Callable[[Step], None]:
    """Raise in the first `times` attempts of some chunks of a galaxy."""

    def fail(here: Step) -> None:
        if here.galaxy == galaxy and here.index in chunks and here.attempt < times:
            raise error or ArithmeticError(f"chunk {here.index} is cursed")

    return fail


class Places(SchedulerPlugin):
    """Remembers which workers did what: addresses by step (`prepare`, `predict`, `write`)."""

    def __init__(self) -> None:
        self.of: dict[str, set[str]] = {}

    def transition(self, key: Any, start: str, finish: str, *args: Any, **more: Any) -> None:
        if (start, finish) == ("processing", "memory"):
            self.of.setdefault(str(key).split("-")[0], set()).add(str(more["worker"]))


def arrays(folder: Path, name: str = "N1") -> dict[str, surveys.Array]:
    """Every array of the store, with the image first, and of the FITS files."""
    found = {}
    with xr.open_zarr(folder / f"{name}.zarr") as store:
        for key, array in store.variables.items():
            found[str(key)] = array.transpose("y", "x", ...).to_numpy() if "y" in array.dims else array.to_numpy()
    for path in folder.glob(f"{name}_*.fits"):
        with fits.open(path) as hdus:
            for hdu in hdus:
                if hdu.data is not None:
                    values = np.asarray(hdu.data)
                    found[f"{path.name}[{hdu.name}]"] = np.moveaxis(values, -2, 0) if values.ndim > 1 else values
    return found
