"""What size costs: many small cubes, or one as large as PHANGS-MUSE's largest, with every process's memory watched.

    python benchmarks/scale.py many --json scale-many.json       200 cubes of 12 x 12 spaxels
    python benchmarks/scale.py huge --json scale-huge.json       3761 x 1190 x 1012, light in the middle 120 x 120 only
    python benchmarks/scale.py scheduler --json scale-scheduler.json    what Dask and the dispatcher cost a chunk

The large cube is a file with holes: 36 GB by its length, much less on the disk. Reading a hole costs the copy alone.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits
from dask.delayed import delayed
from distributed import Client, LocalCluster

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.processes import run_survey
from galprote.model.checkpoint import load_checkpoint
from galprote.pipeline.config import read_survey
from galprote.pipeline.mock import MockConfig, make_mock
from galprote.pipeline.plan import CHUNKS_PER_WORKER, DRIVER_BYTES, WORKER_BYTES
from galprote.workflows.capacity import capacity
from galprote.workflows.cluster import Nobody
from galprote.workflows.dispatch import Dispatcher
from galprote.workflows.planning import plan_survey
from galprote.workflows.stop import StopRequest

HUGE = (3761, 1190, 1012)


def watch(survey: Path) -> dict[str, Any]:
    """Run a survey; gives times, and peaks of memory (proportional) of driver, any worker and all together."""
    found = run_survey(survey)
    peaks = {"driver": found.peaks.command, "worker": found.peaks.child, "all": found.peaks.every}
    record = json.loads((survey.parent / "out" / "run.json").read_text())
    return {
        "exit_code": found.exit_code,
        "seconds": round(found.seconds, 1),
        "first_chunk_seconds": round(min(found.times("chunks/*.npz"), default=found.seconds), 1),
        "first_galaxy_seconds": round(min(found.times("out/*.zarr"), default=found.seconds), 1),
        "chunks": sum(galaxy["chunks_done"] for galaxy in record["galaxies"]),
        "fitted": sum(galaxy["fitted"] for galaxy in record["galaxies"]),
        **{f"peak_{name}_mib": round(value / 2**20) for name, value in peaks.items()},
    }


def make_survey(folder: Path, cubes: list[Path], products: dict[str, bool], **more: Any) -> Path:
    """Write a survey of cubes."""
    galaxies = [{"name": path.stem, "cube": str(path), "products": products} for path in cubes]
    survey = {
        "output": "out",
        "defaults": {"redshift": 0.008, "foreground": {"ebv": 0.03}},
        "galaxies": galaxies,
        "model": {"device": "cpu"},
    }
    path = folder / "survey.yaml"
    path.write_text(yaml.safe_dump(survey | more))
    return path


def many(folder: Path, number: int) -> tuple[Path, dict[str, Any]]:
    """The same small cube under many names."""
    shape = (12, 12)
    first = make_mock(MockConfig(shape=shape), folder / "first.fits", load_checkpoint().decoder)
    cubes = [folder / f"G{index:03d}.fits" for index in range(number)]
    for path in cubes:
        os.link(first, path)
    return make_survey(folder, cubes, {"figure": False}), {"cubes": number, "shape": shape}


def huge(folder: Path, _: int) -> tuple[Path, dict[str, Any]]:
    """A cube with holes and a bright middle."""
    middle = make_mock(MockConfig(shape=(120, 120)), folder / "middle.fits", load_checkpoint().decoder)
    path = folder / "HUGE.fits"
    with fits.open(middle, memmap=True) as hdus, path.open("wb") as file:
        file.write(hdus[0].header.tostring().encode())
        for name in ("DATA", "STAT"):
            header = hdus[name].header.copy()
            header.update({"NAXIS1": HUGE[2], "NAXIS2": HUGE[1], "NAXIS3": HUGE[0]})
            file.write(header.tostring().encode())
            start, values = file.tell(), hdus[name].data
            y, x = (HUGE[1] - 120) // 2, (HUGE[2] - 120) // 2
            for channel in range(min(HUGE[0], len(values))):
                for row in range(120):
                    file.seek(start + 4 * ((channel * HUGE[1] + y + row) * HUGE[2] + x))
                    file.write(np.ascontiguousarray(values[channel, row], dtype=">f4").tobytes())
            file.seek(start + -(-int(np.prod(HUGE, dtype=np.int64)) * 4 // 2880) * 2880)
        file.truncate()
    about = {"shape": HUGE, "file_bytes": path.stat().st_size, "on_disk_bytes": path.stat().st_blocks * 512}
    return make_survey(folder, [path], {"fits": False, "figure": False}), about


class Nothing:
    """A galaxy whose chunks are chains of five tasks that do nothing, as many as a real chunk's."""

    def __init__(self, chunks: int) -> None:
        self.name, self.chunks, self.left = "NOTHING", deque(range(chunks)), chunks
        self.step = delayed(lambda *_: None, pure=False)

    def submit(self, client: Client, index: int, attempt: int, where: list[str] | None) -> Any:
        """Five tasks: two read, one prepares, one predicts, one writes."""
        prepared = self.step(self.step(index), self.step(index))
        return client.compute(self.step(self.step(prepared)))

    def done(self, _: Any) -> None:
        """One less."""
        self.left -= 1

    def hopeless(self) -> None:
        """Never."""

    def may_publish(self) -> bool:
        """Never: the run ends when no chunk is left."""
        return False


def scheduler(chunks: int = 3000) -> dict[str, Any]:
    """Time of the dispatcher's and the scheduler's process for a chunk, with two workers that have nothing to do."""
    options = {"attempts": 3, "deaths": 3, "per_worker": 2, "per_gpu": 3, "gpu": False, "patience": None}
    listen = {"on_workers": lambda *_: None, "on_watch": lambda: None, "say": print}
    work = Nothing(chunks)
    with (
        LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        began, used = time.perf_counter(), time.process_time()
        Dispatcher(client, Nobody(), StopRequest(), **options, **listen).run(iter([work]))
        seconds, used = time.perf_counter() - began, time.process_time() - used
    assert work.left == 0
    return {
        "chunks": chunks,
        "tasks": 5 * chunks,
        "milliseconds_a_chunk": round(1000 * seconds / chunks, 2),
        "driver_cpu_milliseconds_a_chunk": round(1000 * used / chunks, 2),
        "driver_cpu_microseconds_a_task": round(1e6 * used / (5 * chunks)),
    }


def main() -> None:
    """Make the input, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("many", "huge", "scheduler"))
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="for input and products, removed at the end")
    arguments = parser.parse_args()
    if arguments.what == "scheduler":
        _show(scheduler(), arguments.json)
        return
    folder = Path(tempfile.mkdtemp(prefix="scale-", dir=arguments.folder))
    try:
        survey, about = (many if arguments.what == "many" else huge)(folder, arguments.number)
        config = read_survey(survey)
        plans = [item.plan for item in plan_survey(config) if item.plan is not None]
        each = WORKER_BYTES + max(plan.work_bytes(CHUNKS_PER_WORKER) for plan in plans)
        workers = min(capacity(config).workers, sum(len(plan.chunks) for plan in plans))
        bounds = {"driver": DRIVER_BYTES, "worker": each, "all": DRIVER_BYTES + workers * each}
        planned = {f"planned_{name}_mib": round(value / 2**20) for name, value in bounds.items()}
        found = about | planned | {"workers": workers, "rows": plans[0].rows} | watch(survey)
    finally:
        shutil.rmtree(folder)
    _show(found, arguments.json)


def _show(found: dict[str, Any], path: Path | None) -> None:
    text = json.dumps(found, indent=1)
    print(text)
    if path:
        path.write_text(text + "\n")


if __name__ == "__main__":
    main()
