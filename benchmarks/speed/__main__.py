"""Measure how fast galprote is on this machine, or compare two such measurements.

    python -m benchmarks.speed [--quick] [--only model,reading] [--json FILE] [--markdown FILE] [--folder DIR]
    python -m benchmarks.speed compare OLD.json [NEW.json] [--tolerance 0.1]

Without NEW.json the same parts are measured now. Exit code 1: something got slower by more than the tolerance, or a
part failed; 2: wrong usage.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import bins, inference, machine, preparing, reading, rivals, runs, stages
from benchmarks.speed.compare import TOLERANCE, compare, report
from benchmarks.speed.figures import Part
from benchmarks.speed.setup import Setup
from benchmarks.speed.table import markdown

#: In the order in which they run: `stages` uses what `runs` found.
PARTS: dict[str, Callable[[Setup], Part]] = {
    "model": inference.measure,
    "preparing": preparing.measure,
    "reading": reading.measure,
    "rivals": rivals.measure,
    "runs": runs.measure,
    "scaling": runs.scaling,
    "bins": bins.measure,
    "stages": stages.measure,
}
#: Disk that the parts need together, bytes.
DISK, QUICK_DISK = 9 << 30, 1 << 30


def measure(names: Sequence[str], folder: Path | None, *, quick: bool) -> dict[str, Any]:
    """Run parts of the benchmark; what they write is removed."""
    torch.set_num_threads(1)
    needed = QUICK_DISK if quick else DISK
    place = folder or Path(tempfile.gettempdir())
    free = shutil.disk_usage(place).free
    _say(f"needs {needed >> 30} GiB in {place} while it runs; {free >> 30} GiB are free")
    if free < needed:
        sys.exit(f"{place}: {free / 2**30:.1f} GiB free, {needed >> 30} GiB needed; name another place by --folder")
    rates = machine.rates(quick=quick)
    parts: dict[str, Any] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="galprote-speed-", dir=place) as temporary:
        setup = Setup(Path(temporary), quick, rates)
        for name in names:
            began = time.perf_counter()
            try:
                part = PARTS[name](setup)
            except Exception as error:  # what the others found is not to be lost
                traceback.print_exc()
                part = Part(name, "failed", lacking=[f"{name}: {error}"])
                failed.append(name)
            parts[name] = part.as_dict()
            _say(f"{name}: {time.perf_counter() - began:.0f} s")
    after = machine.rates(quick=quick)
    end = {name: after[name] / rate for name, rate in rates.items()}
    found = {"quick": quick, "rates": rates, "rates_at_the_end": end, "failed": failed, "parts": parts}
    return machine.about() | found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, or compare; gives the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.speed", description=__doc__, formatter_class=raw)
    parser.add_argument("verb", nargs="?", choices=("measure", "compare"), default="measure")
    parser.add_argument("files", nargs="*", type=Path, metavar="OLD.json [NEW.json]")
    parser.add_argument("--quick", action="store_true", help="everything small, in less than a minute: for trying")
    parser.add_argument("--only", help=f"parts, separated by commas, of {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--markdown", type=Path, help="write the table")
    parser.add_argument("--folder", type=Path, help="where temporary data go (default: the system's place)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="share by which a figure may get worse")
    options = parser.parse_args(words)
    names = options.only.split(",") if options.only else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"--only {','.join(unknown)}: expected some of {','.join(PARTS)}")
    if len(options.files) not in ((1, 2) if options.verb == "compare" else (0,)):
        parser.error("compare takes one or two JSON files, measure none")
    if not options.tolerance >= 0:
        parser.error(f"--tolerance {options.tolerance}: expected a share of at least 0")
    for path in (options.json, options.markdown):
        if path and not path.parent.is_dir():
            parser.error(f"{path}: no such folder")
    loaded = [_read(path, parser) for path in options.files]
    if len(loaded) == 1 and not options.only:  # what was measured then
        names = list(loaded[0]["parts"])
    ordered = [name for name in PARTS if name in names]
    quick = options.quick or (len(loaded) == 1 and loaded[0]["quick"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and remove what was written
    results = loaded[1] if len(loaded) == 2 else measure(ordered, options.folder, quick=quick)
    if options.json and len(loaded) < 2:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    table = markdown(results)
    if options.markdown:
        options.markdown.write_text(table)
    if options.verb == "measure":
        print(table)
        return int(bool(results.get("failed")))
    changes = compare(loaded[0], results, options.tolerance)
    print(report(loaded[0], results, changes))
    return int(bool(results.get("failed")) or any(change.slower for change in changes))


def _read(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return found if {"parts", "rates", "machine"} <= set(found) else parser.error(f"{path}: not of this benchmark")
    except (OSError, ValueError) as error:
        parser.error(f"{path}: not a file of --json: {error}")


if __name__ == "__main__":
    sys.exit(main())
