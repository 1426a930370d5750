"""Files that appear under their names when they are complete and on the disk, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def appearing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Give the name under which to write a file; it gets its own when the block ends, and none if it fails.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    shared : bool
        Whether others may be writing the same file: then every writer's temporary name differs.

    Raises
    ------
    OSError
        With the file's name, if the disk is full, for example; no part of the file is left.
    """
    own = f".{uuid4().hex[:8]}" if shared else ""
    partial = path.with_name(f"{path.name}{own}.partial")
    try:
        yield partial
        to_disk(partial)
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk does not know the file
        raise


def to_disk(path: Path) -> None:
    """Return when a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    """Write a text file as a whole: see `appearing`."""
    with appearing(path, shared=shared) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
