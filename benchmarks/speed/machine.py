"""What the figures were measured on: machine, versions, commit; and how fast the machine itself is."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import numpy as np
import psutil
import torch

PACKAGES: Final = ("torch", "numpy", "scipy", "dask", "distributed", "zarr", "numcodecs", "xarray", "astropy", "ppxf")
#: Instructions that matrix products gain from, as Linux names them.
INSTRUCTIONS: Final = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_bf16", "amx_int8")
ROOT: Final = Path(__file__).parents[2]

#: Side of the matrices, and the bytes that are copied: far beyond the caches of a core.
SIDE, COPIED = 2048, 256 << 20


def about() -> dict[str, Any]:
    """Machine, versions, commit and date."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short=10", "HEAD") or "unknown",
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "instructions": [name for name in INSTRUCTIONS if name in _flags()],
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {"python": platform.python_version(), "galprote": version("galprote")} | _versions(),
    }


def rates(*, quick: bool) -> dict[str, float]:
    """What one core gives, GFLOP/s of matrix products in three precisions and GB/s copied; the same of a GPU.

    `cores` is what all cores give together, each with products of its own: less than their number times one, where
    they share a clock, or other people.
    """
    rounds = 2 if quick else 6
    found = {
        name: product_rate(dtype, "cpu", rounds)
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("int8", torch.int8))
    }
    source = np.ones(COPIED // 8)
    target = np.empty_like(source)
    found["memory"] = 2 * COPIED / _fastest(lambda: np.copyto(target, source), process_time, rounds) / 1e9
    found["cores"] = _all_cores(rounds)
    if torch.cuda.is_available():
        found["gpu"] = product_rate(torch.float32, "cuda", rounds)
        found["gpu bfloat16"] = product_rate(torch.bfloat16, "cuda", rounds)
    return found


def product_rate(dtype: torch.dtype, device: str, rounds: int) -> float:
    """GFLOP/s of a large matrix product; on a CPU of one core."""
    side = SIDE if device == "cpu" else 4 * SIDE
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    multiply = torch._int_mm if dtype == torch.int8 else torch.mm

    def product() -> None:
        multiply(matrix, matrix)
        if device == "cuda":
            torch.cuda.synchronize()

    clock = process_time if device == "cpu" else perf_counter
    return 2 * side**3 / _fastest(product, clock, rounds) / 1e9


def _fastest(job: Callable[[], Any], clock: Callable[[], float], rounds: int) -> float:
    """A ceiling: the fastest of some rounds."""
    job()
    seconds = []
    for _ in range(rounds):
        began = clock()
        job()
        seconds.append(clock() - began)
    return min(seconds)


def _all_cores(rounds: int) -> float:
    """GFLOP/s of as many processes as there are cores, by the wall."""
    code = (
        "import time, torch; torch.set_num_threads(1); a = torch.ones(2048, 2048); a @ a; print(flush=True);"
        f"input(); began = time.perf_counter(); [a @ a for _ in range({rounds})];"
        "print(time.perf_counter() - began)"
    )
    number = os.cpu_count() or 1
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(number)]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    seconds = [float(process.communicate()[0]) for process in processes]
    return sum(2 * SIDE**3 * rounds / value for value in seconds) / 1e9


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _cpu() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _flags() -> set[str]:
    return set(_cpuinfo("flags").split())


def _cpuinfo(key: str) -> str:
    """A line of Linux' description of the first core."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
