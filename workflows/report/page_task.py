"""What a worker, or whoever makes a report, does for a galaxy. What it takes is imported when it runs."""

import json
from pathlib import Path
from threading import Lock

import dask

from galprote.workflows.report.files import card_file, page_file, write_page, write_whole

#: matplotlib's settings are the process's: one page at a time.
_ONE: Lock = Lock()


def write_galaxy_page(output: Path, name: str, cube: Path | None, checkpoint: Path | None) -> int:
    """Make a galaxy's page and write it.

    The page's card, which says of which products it is, goes first and comes last: without it a page is made again.

    Parameters
    ----------
    output : Path
        The survey's output folder, with a finished `<name>.zarr`.
    name : str
    cube : Path or None
        The galaxy's cube, if it is known where that is.
    checkpoint : Path or None
        The weights; None: the shipped ones.

    Returns
    -------
    int
        Size of the page, bytes.

    Raises
    ------
    GalproteError
        If the store is not a finished one, or a file that is not galprote's is in the way.
    OSError
        If the disk is full, for example.
    """
    from galprote.workflows.report.galaxy_page import make_page

    # On a worker Dask would send every read as a task of its own to the cluster, and wait for its turn.
    with _ONE, dask.config.set(scheduler="synchronous"):
        text, card = make_page(output / f"{name}.zarr", cube, checkpoint)
    card_file(output, name).unlink(missing_ok=True)
    write_page(page_file(output, name), text)
    write_whole(card_file(output, name), json.dumps(card, indent=1, sort_keys=True) + "\n")
    return len(text.encode())
