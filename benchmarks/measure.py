"""Wall time and peak memory of a command with all its child processes.

    python benchmarks/measure.py galprote-pipeline run configs/demo.yaml

Memory is sampled ten times a second: the resident memory of all processes together (shared pages counted in each), and
their proportional share of it (PSS), which counts shared pages once.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.processes import watch


def main(command: list[str]) -> int:
    """Run a command and print its wall time and memory; returns its exit code."""
    found = watch(command)
    peaks = found.peaks
    print(
        f"wall {found.seconds:.1f} s, processors {found.processor_seconds:.1f} s, peak memory "
        f"{peaks.resident / 2**30:.2f} GiB resident, {peaks.every / 2**30:.2f} GiB proportional, "
        f"{peaks.processes} processes, exit code {found.exit_code}"
    )
    return found.exit_code


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
