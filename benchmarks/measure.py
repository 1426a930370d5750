"""Wall time and peak memory of a command with all its child processes.

    python benchmarks/measure.py galprote-pipeline run configs/demo.yaml

Memory is sampled ten times a second: the resident memory of all processes together (shared pages counted in each), and
their proportional share of it (PSS), which counts shared pages once.
"""

import subprocess
import sys
import time

import psutil


def tree_memory(process: psutil.Process) -> tuple[int, int, int]:
    """Resident and proportional memory of a process and its descendants, bytes, and their number."""
    resident = proportional = number = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            memory = member.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        resident, proportional, number = resident + memory.rss, proportional + memory.pss, number + 1
    return resident, proportional, number


def main(command: list[str]) -> int:
    """Run a command and print its wall time and memory; returns its exit code."""
    began = time.perf_counter()
    process = psutil.Popen(command)
    peak = (0, 0, 0)
    while process.poll() is None:
        try:
            peak = tuple(map(max, peak, tree_memory(process)))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    code = process.wait()
    seconds = time.perf_counter() - began
    resident, proportional, number = peak
    print(
        f"wall {seconds:.1f} s, peak memory {resident / 2**30:.2f} GiB resident, {proportional / 2**30:.2f} GiB "
        f"proportional, {number} processes, exit code {code}"
    )
    return code


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
