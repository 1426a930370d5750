"""Names of the report's files, and how they are written: whole, by no one but galprote, and through no link."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from galprote.model.errors import ConfigError, GalproteError
from galprote.pipeline.whole_files import write_text

FOLDER: Final = "report"
#: Raise it when pages look different for the same products: they are then made again.
PAGE_VERSION: Final = 3
#: What the first lines of each page hold: a file without it is not replaced.
MARK: Final = '<meta name="generator" content="galprote'
#: As `GalaxyConfig.name` demands: names are read back from files here, and become paths.
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


class ReportError(GalproteError):
    """A page cannot be made or written."""


def report_folder(output: Path) -> Path:
    """The folder of a survey's report."""
    return output / FOLDER


def index_file(output: Path) -> Path:
    """The survey's page."""
    return output / FOLDER / "index.html"


def page_name(name: str) -> str:
    """Name of a galaxy's page. No galaxy's name begins with _, so that one called `index` gets a page, too."""
    return f"{'_' if name.lower() == 'index' else ''}{name}.html"


def page_file(output: Path, name: str) -> Path:
    """A galaxy's page."""
    return output / FOLDER / page_name(name)


def card_file(output: Path, name: str) -> Path:
    """What the survey's page says of a galaxy, beside the galaxy's own page."""
    return output / FOLDER / f"{name}.json"


def is_name(text: str) -> bool:
    """Whether a text can be a galaxy's name."""
    return NAME.fullmatch(text) is not None


def report_paths(output: Path, names: Iterable[str]) -> list[Path]:
    """All that a report writes."""
    pages = [path for name in names for path in (page_file(output, name), card_file(output, name))]
    return [report_folder(output), index_file(output), *pages]


def refuse_in_the_way(output: Path, names: Iterable[str]) -> None:
    """Refuse what is in the way where the report will be: symbolic links, and pages that galprote did not write.

    Raises
    ------
    ConfigError
        Naming every link and what it leads to, and every such page.
    """
    problems: list[str] = []
    for path in report_paths(output, names):
        if path.is_symlink():
            words = "the report is not written through links; remove it, or set report: false"
            problems.append(f"{path} is a link to {path.readlink()}: {words}")
        elif path == report_folder(output):
            if path.exists() and not path.is_dir():
                problems.append(f"{path}: the report's folder would be here: move this file away, or set report: false")
        elif path.suffix == ".html" and is_foreign(path):
            problems.append(f"{path}: not a page of galprote's: move it away, or set report: false")
    if problems:
        raise ConfigError("\n".join(problems))


def is_foreign(page: Path) -> bool:
    """Whether something that galprote did not write has a page's name."""
    try:
        with page.open(encoding="utf-8", errors="replace") as file:
            return MARK not in file.read(2000)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except IsADirectoryError:
        return True


def write_page(path: Path, text: str) -> None:
    """Write a page.

    Raises
    ------
    ReportError
        If a file that is not galprote's, or a link, has its name.
    OSError
        If the disk is full, for example; nothing of the page is left then.
    """
    for place in (path.parent, path):
        if place.is_symlink():
            raise ReportError(f"{place} is a link: the report is not written through links")
    if is_foreign(path):
        raise ReportError(f"{path}: not a page of galprote's: move it away, and make the report again")
    write_whole(path, text)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, in a folder that need not be there; it appears when it is complete, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text, shared=True)


def sweep(output: Path) -> None:
    """Remove what a killed process had half written; nobody may be writing now."""
    for orphan in report_folder(output).glob("*.partial"):
        orphan.unlink(missing_ok=True)
