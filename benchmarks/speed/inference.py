"""The model: spectra a second against the batch, and beside what the machine's matrix products would allow."""

from collections.abc import Callable
from functools import lru_cache, partial
from time import perf_counter, process_time
from typing import Any, Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.figures import Part, Rate, in_turns
from benchmarks.speed.machine import SIDE
from benchmarks.speed.setup import Setup
from galprote.model.checkpoint import Checkpoint, load_checkpoint
from galprote.model.predictor import CPU_BATCH, GPU_BATCH, Predictor

#: What `Predictor` can compute in.
PRECISIONS: Final[tuple[str, ...]] = ("float32",)
BATCHES: Final = {"cpu": (1, 16, CPU_BATCH, 4 * CPU_BATCH), "cuda": (GPU_BATCH // 4, GPU_BATCH, 4 * GPU_BATCH)}
#: Fewest spectra that are timed at once.
SPECTRA: Final = {"cpu": 4 * CPU_BATCH, "cuda": 16 * GPU_BATCH}
KINDS: Final = {True: "with errors and trust", False: "the fit alone"}


def make_predictor(precision: str, device: str, batch: int, *, errors: bool = True) -> Predictor:
    """A predictor of the shipped weights.

    Parameters
    ----------
    precision : str
        Of `PRECISIONS`.
    device : {"cpu", "cuda"}
    batch : int
        Spectra at once.
    errors : bool
        Whether it gives errors and trust besides.
    """
    assert precision in PRECISIONS
    return Predictor(_weights(device, errors), device, batch)


@lru_cache(maxsize=4)
def _weights(_: str, errors: bool) -> Checkpoint:
    """The shipped weights; others for each device, to which a predictor moves them."""
    checkpoint = load_checkpoint()
    if not errors:
        checkpoint.model.appraisal = None
    return checkpoint


def flops(predictor: Predictor, setup: Setup) -> float:
    """Floating-point operations of matrix products and convolutions for a spectrum."""
    spectra, noise = setup.spectra(predictor.batch)
    with FlopCounterMode(display=False) as counter:
        predictor(spectra, noise, 0.01)
    return counter.get_total_flops() / len(spectra)


def measure(setup: Setup) -> Part:
    """Time the model on one core, and on a GPU if there is one."""
    part = Part(
        "Model",
        "`Predictor` on prepared spectra of a mock cube; one core (process time), in turns with the matrix product; "
        "operations are those of matrix products and convolutions",
    )
    torch.set_num_threads(1)
    counts = {errors: flops(make_predictor("float32", "cpu", CPU_BATCH, errors=errors), setup) for errors in KINDS}
    for errors, count in counts.items():
        part.add(f"operations a spectrum, {KINDS[errors]}", count / 1e6, "MFLOP", "less")
    _measure_on(part, setup, "cpu", counts)
    if torch.cuda.is_available():
        _measure_on(part, setup, "cuda", counts)
    else:
        part.lacking.append("GPU: none here")
    return part


def _measure_on(part: Part, setup: Setup, device: str, counts: dict[bool, float]) -> None:
    where = "core" if device == "cpu" else "GPU"
    for precision in PRECISIONS:
        rate: Rate = "gpu" if device == "cuda" else "bfloat16" if precision == "bfloat16" else "float32"
        for batch in BATCHES[device][1:3] if setup.quick else BATCHES[device]:
            n = batch if setup.quick else max(batch, SPECTRA[device] if batch > 1 else 64)
            seconds, gflops = _seconds(setup, precision, device, batch, n)
            for errors, kind in KINDS.items():
                speed, ceiling = n / seconds[kind], gflops * 1e9 / counts[errors]
                beside = f"{speed / ceiling:.0%} of {ceiling:,.0f} (matrix products at {gflops:,.0f} GFLOP/s)"
                name = f"{where}, {precision}, {batch} at once, {kind}"
                part.add(name, speed, "spectra/s", "more", rate, beside)


def _seconds(setup: Setup, precision: str, device: str, batch: int, n: int) -> tuple[dict[str, float], float]:
    """Seconds for n spectra with errors and without, and GFLOP/s of matrix products at the same time."""
    spectra, noise = setup.spectra(n)
    jobs: dict[str, Callable[[], Any]] = {
        kind: partial(make_predictor(precision, device, batch, errors=errors), spectra, noise, 0.01)
        for errors, kind in KINDS.items()
    }
    rounds = 2 if setup.quick else 5
    if device == "cuda":  # a product is too short there to be timed by itself
        return in_turns(jobs, perf_counter, rounds), setup.rates["gpu" if precision == "float32" else "gpu bfloat16"]
    matrix = torch.ones(SIDE, SIDE, dtype=getattr(torch, precision))
    seconds = in_turns(jobs | {"product": partial(torch.mm, matrix, matrix)}, process_time, rounds)
    return seconds, 2 * SIDE**3 / seconds["product"] / 1e9
