"""Surveys with a report: one that is run, what its pages hold, and stores that are changed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import zarr

from galprote.workflows.logbook import GalaxyResult
from tests import surveys

SHAPE = (12, 10)


class Page(HTMLParser):
    """What a page holds: links, pictures, text without styles, tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self._hidden = False
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._apart(tag)
        self._hidden = tag == "style"
        found = dict(attrs)
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag == "img":
            self.pictures.append(found)

    def handle_endtag(self, tag: str) -> None:
        self._apart(tag)
        self._hidden = False

    def _apart(self, tag: str) -> None:
        """Words on both sides of a tag are two, unless it is within a word."""
        self.words += [" "] if tag not in ("wbr", "span") else []

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def write_report_survey(folder: Path, checkpoint: Path, **sections: Any) -> Path:
    """A survey of three galaxies, the middle one of which fails, with a report."""
    folder.mkdir()
    surveys.write_cube(folder / "n1.fits", SHAPE, faint=2)
    (folder / "bad.fits").write_text("no cube <b>at all</b>")
    surveys.write_cube(folder / "n2.fits", SHAPE, seed=2)
    galaxies: list[dict[str, Any]] = [{"name": name, "cube": f"{name.lower()}.fits"} for name in ("N1", "BAD", "N2")]
    galaxies[0]["foreground"] = {"ebv": 0.02, "source": "<script>alert('&')</script>"}
    settings: dict[str, Any] = {"report": True} | sections
    return surveys.write_survey(folder, galaxies, checkpoint, **settings)


@contextmanager
def reported_survey(folder: Path, checkpoint: Path) -> Iterator[Path]:
    """A survey that was run; not to be changed."""
    path = write_report_survey(folder, checkpoint)
    recorder = surveys.Recorder()
    results = surveys.run_here(path, progress=recorder)
    assert [result.outcome for result in results] == ["done", "failed", "done"]
    assert not [text for text in recorder.messages if "page" in text or "report" in text]
    before = surveys.tree(path.parent, without=())
    yield path
    assert surveys.tree(path.parent, without=()) == before


def copied(survey: Path, folder: Path) -> Path:
    """A copy of a survey with its output, which may be changed."""
    shutil.copytree(survey.parent, folder / "survey", copy_function=shutil.copy2)
    return folder / "survey" / "survey.yaml"


def run(path: Path, **how: Any) -> tuple[list[GalaxyResult], list[str]]:
    recorder = surveys.Recorder()
    return surveys.run_here(path, progress=recorder, **how), recorder.messages


def pages(path: Path) -> dict[str, bytes]:
    """Pages and cards of the galaxies: all that does not tell times."""
    folder = path.parent / "out" / "report"
    return {item.name: item.read_bytes() for item in folder.iterdir() if item.name != "index.html"}


def change(store: Path, **maps: Any) -> None:
    """Change maps, and attributes in capitals, of a store."""
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    for name, value in maps.items():
        if name.isupper():
            group.attrs[name.lower()] = value
        else:
            array = group[name]
            assert isinstance(array, zarr.Array)
            array[...] = value
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        zarr.consolidate_metadata(store, zarr_format=3)
