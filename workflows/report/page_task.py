"""What a worker, or whoever makes a report, does for a galaxy. What it takes is imported when it runs."""

import json
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import dask

from galprote.workflows.report.files import card_file, page_file, write_page, write_whole

#: matplotlib's settings are the process's: one page at a time.
_ONE: Lock = Lock()


@dataclass(frozen=True)
class PageResult:
    """What became of a galaxy's page.

    Attributes
    ----------
    bytes : int
        Of the page that was made.
    fits_missing : str
        Why it has no fits; empty if it has, or cannot have any.
    kept : bool
        Whether the page that was there stays: it is of the same products, and has the fits.
    """

    bytes: int
    fits_missing: str
    kept: bool


def write_galaxy_page(output: Path, name: str, cube: Path | None, checkpoint: Path | None) -> PageResult:
    """Make a galaxy's page and write it, unless it would only lack fits that the one which is there has.

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
    PageResult

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
    missing = str(card["fits_missing"])
    if missing and _has_fits(output, name, card):
        return PageResult(0, missing, kept=True)
    card_file(output, name).unlink(missing_ok=True)
    write_page(page_file(output, name), text)
    write_whole(card_file(output, name), json.dumps(card, indent=1, sort_keys=True) + "\n")
    return PageResult(len(text.encode()), missing, kept=False)


def _has_fits(output: Path, name: str, card: dict[str, Any]) -> bool:
    """Whether there is a page of the same products, as pages look now, with fits."""
    from galprote.workflows.report.cards import read_card

    there = read_card(output, name)
    if there is None or there["fits_missing"]:
        return False
    return all(there[key] == card[key] for key in ("fingerprint", "failed_rows"))
