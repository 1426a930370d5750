"""Where the time goes: the steps of a chunk one by one, and those of the start."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, process_time

import dask
import numpy as np
import torch

from benchmarks.speed.figures import Better, Part, Rate
from benchmarks.speed.inference import make_predictor
from benchmarks.speed.machine import ROOT
from benchmarks.speed.setup import Opened, Setup, open_first
from galprote.model.predictor import CPU_BATCH
from galprote.pipeline.block import finish_block, predict_block, prepare_block
from galprote.pipeline.graph import CubeReader
from galprote.pipeline.quantities import quantities

#: Most chunks that are followed.
CHUNKS = 6
#: Share of a step below which its seconds are too few to be held against those of another run.
SMALL = 0.03


class Clock:
    """Seconds of steps, by the processor and by the wall."""

    def __init__(self) -> None:
        self.processor: Counter[str] = Counter()
        self.wall: Counter[str] = Counter()

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time a step."""
        wall, processor = perf_counter(), process_time()
        yield
        self.wall[step] += perf_counter() - wall
        self.processor[step] += process_time() - processor


def measure(setup: Setup) -> Part:
    """Follow chunks through a process, and start a run's driver and workers."""
    part = Part(
        "Where the time goes",
        "chunks of the 4x cube with the residual cube, one after the other in one process, from the page cache: "
        "processor time; network and appraisal apart by the difference of predictors with and without; start-up by the "
        "wall, in a fresh process",
    )
    torch.set_num_threads(1)
    opened = open_first(setup.survey("stages", setup.cube(setup.sides[4]), residual=True))
    clock, spaxels = follow(opened)
    micro = {step: 1e6 * seconds / spaxels for step, seconds in clock.processor.items()}
    part.add("all of these", sum(micro.values()), "µs/spaxel", "less", "float32")
    for step, value in sorted(micro.items(), key=lambda item: -item[1]):
        share = value / sum(micro.values())
        better: Better = "less" if share > SMALL else ""
        rate: Rate = "memory" if step in ("read", "write") else "float32"
        part.add(step, value, "µs/spaxel", better, rate, f"{share:.0%}")
    waiting = 1e6 * (clock.wall["write"] - clock.processor["write"]) / spaxels
    part.add("write: waiting for the disk", max(waiting, 0.0), "µs/spaxel", "", "disk")
    known = setup.known.get("further spaxel, maps and residual cube")
    if known:
        rest = 1e6 * known - sum(micro.values())
        part.add("Dask, publishing and the rest, from whole runs", rest, "µs/spaxel", "less", "float32")
    part.add("next bottleneck", max(micro.values()), "µs/spaxel", "", "", max(micro, key=lambda step: micro[step]))
    for step, seconds in start_up(setup).items():
        part.add(f"start: {step}", seconds, "s", "less", "float32")
    return part


def follow(opened: Opened) -> tuple[Clock, int]:
    """Take chunks from the file to the store; gives the time of each step, and the spaxels."""
    clock, spaxels, settings = Clock(), 0, opened.settings
    full = make_predictor("float32", "cpu", CPU_BATCH)
    bare = make_predictor("float32", "cpu", CPU_BATCH, errors=False)
    opened.store.begin(opened.layout.provenance, opened.plan.rows)
    opened.store.create(opened.layout.cubes, opened.plan, opened.layout.attributes)
    reader = CubeReader(opened.cube)
    for index, rows in enumerate(opened.plan.chunks[: CHUNKS + 1]):
        if index == 1:  # the first one warms up
            clock, spaxels = Clock(), 0
        with clock("read"):
            flux, variance = dask.compute(*reader.read(index, ""), scheduler="sync")
        with clock("prepare"):
            prepared = prepare_block(flux, variance, None, settings)
        with clock("predict"):
            fitted = predict_block(prepared, settings, full)
        batch = prepared.batch
        inputs = (batch.spectra, batch.noise, settings.flux_calibration_error, prepared.redshift.astype(np.float32))
        with clock("predictor"):
            found = full(*inputs, settings.template_error)
        with clock("network"):
            bare(*inputs, settings.template_error)
        with clock("quantities"):
            redshift = settings.preprocess.redshift
            quantities(found, batch.flux[batch.fitted], redshift, settings.photometry, full)
        with clock("finish"):
            products = finish_block(fitted, settings)
        with clock("write"):
            opened.store.write_chunk(index, rows, products)
        spaxels += len(batch.status)
    for seconds in (clock.processor, clock.wall):
        _split(seconds)
    return clock, spaxels


def _split(seconds: Counter[str]) -> None:
    """Turn the whole prediction into its parts."""
    whole, predictor = seconds.pop("predict"), seconds.pop("predictor")
    seconds["appraisal"] = predictor - seconds["network"]
    seconds["rest of the prediction"] = whole - predictor - seconds["quantities"]


def start_up(setup: Setup) -> dict[str, float]:
    """Seconds of the steps before the first chunk, and of the command's help."""
    survey = setup.survey("start", setup.cube(setup.sides[1]))
    began = perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.start", str(survey), str(setup.known.get("workers", 2))],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    steps: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    whole = perf_counter() - began
    began = perf_counter()
    code = "from galprote.workflows.cli import main; main(['--help'])"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    rest = {"interpreter and end": whole - sum(steps.values())}
    return steps | rest | {"galprote-pipeline --help": perf_counter() - began}
