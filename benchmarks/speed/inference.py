"""The model: spectra a second against the batch, and beside what the machine's matrix products would allow."""

from collections.abc import Callable
from functools import lru_cache, partial
from time import perf_counter, process_time
from typing import Any, Final, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.figures import Part, Rate, in_turns
from benchmarks.speed.machine import SIDE
from benchmarks.speed.setup import Setup
from galprote.model.checkpoint import Checkpoint, load_checkpoint
from galprote.model.precision import Precision
from galprote.model.predictor import CPU_BATCH, GPU_BATCH, Predictor

#: What `Predictor` computes in.
PRECISIONS: Final[dict[str, tuple[Precision, ...]]] = {
    "cpu": ("float32", "int8", "bfloat16"),
    "cuda": ("float32", "bfloat16"),
}
BATCHES: Final = {"cpu": (1, 16, CPU_BATCH, 4 * CPU_BATCH), "cuda": (GPU_BATCH // 4, GPU_BATCH, 4 * GPU_BATCH)}
#: Fewest spectra that are timed at once.
SPECTRA: Final = {"cpu": 4 * CPU_BATCH, "cuda": 16 * GPU_BATCH}
KINDS: Final = {True: "with errors and trust", False: "the fit alone"}


def make_predictor(precision: Precision, device: str, batch: int, *, errors: bool = True) -> Predictor:
    """A predictor of the shipped weights.

    Parameters
    ----------
    precision : Precision
    device : {"cpu", "cuda"}
    batch : int
        Spectra at once.
    errors : bool
        Whether it gives errors and trust besides.
    """
    return Predictor(_weights(device, errors), device, batch, precision)


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


class Operations(NamedTuple):
    """Floating-point operations for a spectrum.

    Attributes
    ----------
    all : float
    fewer_bits : float
        Of the layers that take `precision`; zero where the machine counts its integers as other operations.
    """

    all: float
    fewer_bits: float

    @classmethod
    def of(cls, setup: Setup, *, errors: bool) -> "Operations":
        """Count them: 8-bit products are not among those that PyTorch counts."""
        whole, rest = (
            flops(make_predictor(precision, "cpu", CPU_BATCH, errors=errors), setup)
            for precision in ("float32", "int8")
        )
        return cls(whole, whole - rest)

    def seconds(self, rate: float, low_rate: float) -> float:
        """What matrix products at these rates, GFLOP/s, would take."""
        return ((self.all - self.fewer_bits) / rate + self.fewer_bits / low_rate) / 1e9


def measure(setup: Setup) -> Part:
    """Time the model on one core, and on a GPU if there is one."""
    part = Part(
        "Model",
        "`Predictor` on prepared spectra of a mock cube; one core (process time), in turns with the matrix product; "
        "operations are those of matrix products and convolutions",
    )
    torch.set_num_threads(1)
    counts = {errors: Operations.of(setup, errors=errors) for errors in KINDS}
    for errors, count in counts.items():
        note = f"{count.fewer_bits / count.all:.0%} of them may be in fewer bits" if count.fewer_bits else ""
        part.add(f"operations a spectrum, {KINDS[errors]}", count.all / 1e6, "MFLOP", "less", "", note)
    _measure_on(part, setup, "cpu", counts)
    if torch.cuda.is_available():
        _measure_on(part, setup, "cuda", counts)
    else:
        part.lacking.append("GPU: none here")
    return part


def _measure_on(part: Part, setup: Setup, device: str, counts: dict[bool, Operations]) -> None:
    where = "core" if device == "cpu" else "GPU"
    for precision in PRECISIONS[device]:
        rate: Rate = "gpu" if device == "cuda" else "float32"
        low = setup.rates[f"gpu {precision}".removesuffix(" float32") if device == "cuda" else precision]
        for batch in BATCHES[device][1:3] if setup.quick else BATCHES[device]:
            n = batch if setup.quick else max(batch, SPECTRA[device] if batch > 1 else 64)
            seconds, gflops = _seconds(setup, precision, device, batch, n)
            for errors, kind in KINDS.items():
                ceiling = 1 / counts[errors].seconds(gflops, gflops if precision == "float32" else low)
                speed = n / seconds[kind]
                at = f"{gflops:,.0f}" + ("" if precision == "float32" else f" and {low:,.0f}")
                beside = f"{speed / ceiling:.0%} of {ceiling:,.0f} (matrix products at {at} GFLOP/s)"
                name = f"{where}, {precision}, {batch} at once, {kind}"
                part.add(name, speed, "spectra/s", "more", rate, beside)


def _seconds(setup: Setup, precision: Precision, device: str, batch: int, n: int) -> tuple[dict[str, float], float]:
    """Seconds for n spectra with errors and without, and GFLOP/s of products in float32 at the same time."""
    spectra, noise = setup.spectra(n)
    jobs: dict[str, Callable[[], Any]] = {
        kind: partial(make_predictor(precision, device, batch, errors=errors), spectra, noise, 0.01)
        for errors, kind in KINDS.items()
    }
    rounds = 2 if setup.quick else 5
    if device == "cuda":  # a product is too short there to be timed by itself
        return in_turns(jobs, perf_counter, rounds), setup.rates["gpu"]
    matrix = torch.ones(SIDE, SIDE)
    seconds = in_turns(jobs | {"product": partial(torch.mm, matrix, matrix)}, process_time, rounds)
    return seconds, 2 * SIDE**3 / seconds["product"] / 1e9
