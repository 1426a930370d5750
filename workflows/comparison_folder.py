"""The folder of a comparison: its name, whether it can be written, and what an earlier comparison left there."""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from galprote.model.errors import ConfigError
from galprote.pipeline.compared_quantities import BY_NAME

#: What every comparison of maps writes, beside a figure for each quantity.
TABLES: Final = ("comparison.json", "comparison.csv", "outliers.csv")


def comparison_folder(output: Path | None, store: Path, reference: Path | None) -> Path:
    """Where a comparison is written, by default OUT/compare/NAME-vs-REFERENCE; nothing is made yet.

    Another run's maps have the name of its folder, too: NAME-vs-THATOUT-NAME.

    Raises
    ------
    ConfigError
        If it is a file, nothing can be written there, or the default folder has the comparison with another reference.
    """
    name = _stem(store).removesuffix("_MAPS")
    folder = output or store.parent / "compare" / f"{name}-vs-{_reference_name(store, reference)}"
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder}: is a file; name a folder")
    before = _record(folder).get("reference")
    if output is None and reference is not None and before not in (None, str(reference.resolve())):
        raise ConfigError(f"{folder}: has the comparison with {before}; name another folder with --output")
    _require_writable(folder)
    return folder


def _reference_name(store: Path, reference: Path | None) -> str:
    if reference is None:
        return "ppxf"
    place = reference.resolve().parent
    run = reference.suffix == ".zarr" or (place / f"{_stem(reference).removesuffix('_MAPS')}.zarr").is_dir()
    other = run and place != store.resolve().parent
    return f"{place.name}-{_stem(reference)}" if other and place.name else _stem(reference)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".fits").removesuffix(".zarr")


def _require_writable(folder: Path) -> None:
    """Try to make the folder and a file in it; what was made for that is removed again."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    probe = folder / ".probe.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}; name another with --output") from error
    finally:
        with suppress(OSError):
            for place in missing:
                place.rmdir()


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Make the folder, and say which one it is if the disk has no more room while it is written.

    Raises
    ------
    ConfigError
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        text = f"{folder}: {error.strerror}; what has its final name there is whole: make room, and compare again"
        raise ConfigError(text) from error


def clear_comparison(folder: Path) -> None:
    """Remove the tables and figures that an earlier comparison of maps wrote there, and nothing else."""
    quantities = _record(folder).get("quantities")
    if not isinstance(quantities, dict):
        return
    figures = [f"{name}.png" for name in quantities if name in BY_NAME]
    for name in (*figures, *reversed(TABLES)):  # the record last: it says which are ours
        (folder / name).unlink(missing_ok=True)


def _record(folder: Path) -> dict[str, Any]:
    """The comparison.json of a folder; empty if there is none of ours."""
    try:
        found = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and "reference" in found else {}
