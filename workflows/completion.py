"""What the shell offers behind Tab, from names of files alone: nothing is imported for it, nothing opened."""

import os
from collections.abc import Callable, Iterator
from typing import Final

#: Folders deep that are looked through, and names that are looked at, before the shell's own completion takes over.
DEPTH: Final = 2
MOST: Final = 2000

#: What `evaluate --suite` takes.
SUITES: Final = (
    "paper", "survey", "library", "dispersion", "velocity", "artefacts", "fits", "coverage", "anomalies", "all",
)  # fmt: skip

#: What `--cluster` takes besides addresses and files.
CLUSTERS: Final = ("local", "local-cuda")


def complete_yaml(incomplete: str) -> list[str]:
    """YAML files; of none, nothing: then the shell completes by itself."""
    return _matching(incomplete, lambda path: path.endswith((".yaml", ".yml")))


def complete_cluster(incomplete: str) -> list[str]:
    """Back-ends, and YAML files."""
    return [name for name in CLUSTERS if name.startswith(incomplete)] + complete_yaml(incomplete)


def complete_cube(incomplete: str) -> list[str]:
    """FITS files and Zarr stores."""
    return _matching(incomplete, lambda path: path.endswith((".fits", ".fits.gz", ".fit", ".zarr")))


def complete_store(incomplete: str) -> list[str]:
    """Zarr stores."""
    return _matching(incomplete, lambda path: path.endswith(".zarr"))


def complete_output(incomplete: str) -> list[str]:
    """Folders in which a survey was run."""
    return _matching(incomplete, lambda path: os.path.isfile(os.path.join(path, "run.json")))


def complete_weights(incomplete: str) -> list[str]:
    """Checkpoints."""
    return _matching(incomplete, lambda path: path.endswith(".safetensors"))


def complete_suite(incomplete: str) -> list[str]:
    """Suites of `evaluate`."""
    return [name for name in SUITES if name.startswith(incomplete)]


def complete_map(incomplete: str) -> list[str]:
    """Names of maps."""
    from galprote.pipeline.products import MAPS

    return [item.name for item in MAPS if item.name.startswith(incomplete)]


def _matching(incomplete: str, wanted: Callable[[str], bool]) -> list[str]:
    folder, start = os.path.split(incomplete)
    left = [MOST]
    return sorted(path for path in _walk(folder, start, DEPTH, left) if wanted(path))


def _walk(folder: str, start: str, depth: int, left: list[int]) -> Iterator[str]:
    """Paths that begin like this, as they would be typed, folders' contents too; hidden ones only where asked for."""
    try:
        entries = sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(start) or (entry.name.startswith(".") and not start.startswith(".")):
            continue
        left[0] -= 1
        if left[0] < 0:
            return
        path = os.path.join(folder, entry.name)
        yield path
        if depth and entry.is_dir() and not entry.name.endswith((".zarr", ".partial")):
            yield from _walk(path, "", depth - 1, left)
