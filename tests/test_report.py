"""The HTML report: what its numbers are, what its pages say, and that nothing of it harms a run."""

import base64
import errno
import io
import json
import os
import re
import shutil
import signal
import threading
import time
import tracemalloc
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr
import yaml
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from galprote.model.errors import ConfigError
from galprote.model.grids import N_WAVELENGTH, WAVELENGTH
from galprote.pipeline.config import read_survey
from galprote.pipeline.map_styles import STYLES
from galprote.pipeline.quality import Kinds, Status
from galprote.workflows import run_command
from galprote.workflows.logbook import GalaxyResult
from galprote.workflows.report import files, spectra
from galprote.workflows.report.cards import read_card
from galprote.workflows.report.drawing import drawn_here
from galprote.workflows.report.examples import choose
from galprote.workflows.report.finishing import finish_report
from galprote.workflows.report.galaxy_maps import GalaxyMaps
from galprote.workflows.report.galaxy_page import make_page
from galprote.workflows.report.hatching import HATCHES, paint_map, thin
from galprote.workflows.report.limits import LIMITS
from galprote.workflows.report.lines import known_lines, spread
from galprote.workflows.report.map_picture import ticks
from galprote.workflows.report.radial import radial_profiles
from galprote.workflows.report.records import read_records
from galprote.workflows.report.residual_spectrum import residual_spectrum
from galprote.workflows.report.words import duration_words, fixed_words, flux_words, number_words
from galprote.workflows.report.writing import SurveyReport
from galprote.workflows.stop import StopRequest, signals_stop
from galprote.workflows.survey import run_survey
from tests import surveys

Capture = pytest.CaptureFixture[str]
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
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._hidden = tag == "style"
        found = dict(attrs)
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag == "img":
            self.pictures.append(found)

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Path]:
    """A survey that was run; not to be changed."""
    path = write_report_survey(tmp_path_factory.mktemp("report") / "survey", checkpoint)
    recorder = surveys.Recorder()
    results = surveys.run_here(path, progress=recorder)
    assert [result.outcome for result in results] == ["done", "failed", "done"]
    assert not [text for text in recorder.messages if "page" in text or "report" in text]
    before = surveys.tree(path.parent, without=())
    yield path
    assert surveys.tree(path.parent, without=()) == before


@pytest.fixture
def again(survey: Path, tmp_path: Path) -> Path:
    """A copy of the survey with its output, which may be changed."""
    shutil.copytree(survey.parent, tmp_path / "survey", copy_function=shutil.copy2)
    return tmp_path / "survey" / "survey.yaml"


def run(path: Path, **how: Any) -> tuple[list[GalaxyResult], list[str]]:
    recorder = surveys.Recorder()
    return surveys.run_here(path, progress=recorder, **how), recorder.messages


def pages(path: Path) -> dict[str, bytes]:
    """Pages and cards of the galaxies: all that does not tell times."""
    folder = path.parent / "out" / "report"
    return {item.name: item.read_bytes() for item in folder.iterdir() if item.name != "index.html"}


# --- pages of a run ---


def test_the_survey_s_page_tells_what_became_of_every_galaxy(survey: Path) -> None:
    page = Page(survey.parent / "out" / "report" / "index.html")
    assert page.links == ["N1.html", "N2.html"]
    assert "3 galaxies (2 done, 1 failed)" in page.text
    error = json.loads((survey.parent / "out" / "summary.json").read_text())[1]["error"]
    assert page.text.count(" ".join(error.split())) == 2  # in the table, and in that of the failures
    fitted = sum(row["fitted"] or 0 for row in json.loads((survey.parent / "out" / "summary.json").read_text()))
    assert f"Spaxels fitted {fitted}" in page.text
    assert len(page.pictures) == 6
    assert all(picture["alt"] for picture in page.pictures)
    assert sorted(pages(survey)) == ["N1.html", "N1.json", "N2.html", "N2.json"]


def test_a_galaxy_s_page_has_all_its_parts(survey: Path) -> None:
    page = Page(survey.parent / "out" / "report" / "N1.html")
    assert page.links == ["index.html", "N2.html"]  # the one that failed has no page
    parts = (
        "Maps",
        "Radial profiles",
        "Mean residual spectrum",
        "Distributions",
        "Best fit",
        "Median fit",
        "Worst fit",
    )
    for part in (*parts, "Flags", "Provenance", "not fitted"):
        assert part in page.text
    assert "Missing" not in page.text
    maps = GalaxyMaps(survey.parent / "out" / "N1.zarr")
    counts, medians = maps.counts(), maps.medians()
    assert f"{counts['fitted']} fitted, {counts['good']} of them good" in page.text
    assert fixed_words(medians[0].value) in page.text
    assert float(np.median(maps.dataset.age_lw.values[maps.good])) == pytest.approx(medians[0].value)
    assert f"low_snr 4 {int(((maps.status & Status.LOW_SNR) > 0).sum())} left out" in page.text
    assert maps.record["fingerprint"] in page.text
    assert all(picture["alt"] for picture in page.pictures)
    assert sum(str(picture["alt"]).startswith("Map of") for picture in page.pictures) == 8  # without errors


def test_pages_need_nothing_from_elsewhere_and_run_nothing(survey: Path) -> None:
    for path in (survey.parent / "out" / "report").glob("*.html"):
        page = Page(path)
        assert not page.tags & {"script", "iframe", "object", "embed", "b" if path.name == "N1.html" else "script"}
        assert all(str(picture["src"]).startswith("data:image/") for picture in page.pictures)
        assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", path.read_text())
        assert "default-src 'none'" in path.read_text()


def test_what_comes_from_files_is_escaped(survey: Path) -> None:
    page = Page(survey.parent / "out" / "report" / "N1.html")
    assert "<script>alert('&')</script>" in page.text  # as words: the page has no such tag
    assert "script" not in page.tags


def test_pages_do_not_depend_on_when_and_how_they_were_made(again: Path, capsys: Capture) -> None:
    """Missing pages are made by a run that finds everything done; the command makes the same ones."""
    before = pages(again)
    folder = again.parent / "out" / "report"
    (folder / "N2.html").unlink()
    (folder / "N1.json").unlink()
    (folder / ".N1.html.12345678.partial").write_text("half")
    results, _ = run(again)
    assert [result.outcome for result in results] == ["skipped", "failed", "skipped"]
    assert pages(again) == before
    shutil.rmtree(folder)
    weights = yaml.safe_load(again.read_text())["model"]["checkpoint"]
    code, out, _ = surveys.call(capsys, "report", again.parent / "out", "--json", "--checkpoint", weights)
    assert code == 0
    told = json.loads(out)
    assert sorted(told["pages"]) == ["N1", "N2"]
    assert told["failed"] == {}
    assert Path(told["index"]).is_file()
    assert pages(again) == before
    code, out, _ = surveys.call(capsys, "report", again.parent / "out", "--missing")
    assert (code, out.count("MB")) == (0, 0)


def test_a_galaxy_that_leaves_the_survey_keeps_its_page_but_is_not_listed(again: Path) -> None:
    content = yaml.safe_load(again.read_text())
    content["galaxies"] = content["galaxies"][2:]
    again.write_text(yaml.safe_dump(content))
    before = pages(again)["N1.html"]
    run(again)
    assert pages(again)["N1.html"] == before
    folder = again.parent / "out" / "report"
    assert Page(folder / "index.html").links == ["N2.html"]
    assert Page(folder / "N2.html").links == ["index.html"]


def test_overwritten_products_get_another_page(again: Path) -> None:
    content = yaml.safe_load(again.read_text())
    content["defaults"]["snr_min"] = 30.0
    again.write_text(yaml.safe_dump(content))
    before = {name: json.loads(pages(again)[f"{name}.json"])["fingerprint"] for name in ("N1", "N2")}
    results, _ = run(again, overwrite=True)
    assert [result.outcome for result in results] == ["done", "failed", "done"]
    for name, old in before.items():
        made = GalaxyMaps(again.parent / "out" / f"{name}.zarr").record["fingerprint"]
        assert made != old
        page = Page(again.parent / "out" / "report" / f"{name}.html")
        assert made in page.text
        assert old not in page.text


def test_without_a_report_nothing_is_written(again: Path) -> None:
    content = yaml.safe_load(again.read_text()) | {"report": False}
    again.write_text(yaml.safe_dump(content))
    shutil.rmtree(again.parent / "out" / "report")
    run(again)
    assert not (again.parent / "out" / "report").exists()


# --- what must not harm a run ---


def test_a_page_that_fails_costs_a_line_and_no_galaxy(tmp_path: Path, checkpoint: Path) -> None:
    path = write_report_survey(tmp_path / "survey", checkpoint)
    with mock.patch("galprote.workflows.report.galaxy_page.make_page", side_effect=MemoryError("too <i>much</i>")):
        results, messages = run(path)
    assert [result.outcome for result in results] == ["done", "failed", "done"]
    words = "its page in the report could not be made (MemoryError: too <i>much</i>); its products are not affected"
    assert [text for text in messages if "page" in text] == [f"{name}: {words}" for name in ("N1", "N2")]
    page = Page(path.parent / "out" / "report" / "index.html")
    assert page.links == []
    assert page.text.count("its page could not be made") == 2


def test_a_page_that_is_not_ours_is_not_replaced(again: Path) -> None:
    index = again.parent / "out" / "report" / "index.html"
    index.write_text("<html>mine</html>")
    said: list[str] = []
    report = SurveyReport(read_survey(again), said.append)
    assert report.finish(StopRequest()) is None  # it came while the run was under way
    assert index.read_text() == "<html>mine</html>"
    assert [text for text in said if "not a page of galprote's" in text and str(index) in text]
    index.unlink()
    assert report.finish(StopRequest()) == index


@pytest.mark.parametrize("name", ["index.html", "N1.html"])
def test_pages_of_others_are_refused_before_anything_is_computed(again: Path, name: str, capsys: Capture) -> None:
    page = again.parent / "out" / "report" / name
    page.write_text("<html>mine</html>")
    before = surveys.tree(again.parent, without=())
    with pytest.raises(ConfigError, match=rf"{name}: not a page of galprote's.*set report: false"):
        run(again)
    code, _, errors = surveys.call(capsys, "report", again.parent / "out")
    assert (code, "not a page of galprote's" in errors) == (2, True)
    assert surveys.tree(again.parent, without=()) == before
    shutil.rmtree(page.parent)
    page.parent.write_text("a file")
    with pytest.raises(ConfigError, match="report's folder"):
        run(again)


@pytest.mark.parametrize("written", [True, False])
def test_a_report_is_only_announced_if_it_was_written(again: Path, written: bool, capsys: Capture) -> None:
    config, page = read_survey(again), again.parent / "out" / "report" / "index.html"
    done = [GalaxyResult("N1", "done")]
    reports = [page if written else None]
    run_command._report(config, done, 0, reports, as_json=True, debug=False)
    assert json.loads(capsys.readouterr().out)["report"] == (str(page) if written else None)
    run_command._report(config, done, 0, reports, as_json=False, debug=False)
    assert (f"Report: {page}" in capsys.readouterr().out) is written


def test_a_run_tells_where_its_report_is(again: Path) -> None:
    reports: list[Path | None] = []
    run_survey(read_survey(again), surveys.Recorder(), reported=reports.append)
    assert reports == [again.parent / "out" / "report" / "index.html"]
    with mock.patch("galprote.workflows.report.finishing.make_index", side_effect=ValueError("odd")):
        run_survey(read_survey(again), surveys.Recorder(), reported=reports.append)
    assert reports[1:] == [None]


def test_links_are_refused_before_anything_is_computed(again: Path, tmp_path: Path) -> None:
    page = again.parent / "out" / "report" / "N1.html"
    page.unlink()
    page.symlink_to(tmp_path / "elsewhere.html")
    with pytest.raises(ConfigError, match=r"N1\.html is a link to .*set report: false"):
        run(again)
    page.unlink()
    other = page.with_name("N2.html")
    other.rename(page)
    other.symlink_to(page)
    with pytest.raises(files.ReportError, match="is a link"):
        files.write_page(other, "x")


def test_a_run_that_is_stopped_makes_no_further_pages_but_says_how_far_it_came(again: Path) -> None:
    output = again.parent / "out"
    (output / "report" / "N1.html").unlink()
    record = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(record | {"state": "stopped: SIGINT"}))
    said: list[str] = []
    report, stop = SurveyReport(read_survey(again), said.append), StopRequest()
    stop.ask("SIGINT")
    report.wait(stop)
    report.finish(stop)
    page = Page(output / "report" / "index.html")
    assert page.links == ["N2.html"]
    assert "The last run: stopped: SIGINT" in page.text
    assert said == [f"report: 1 page is missing: galprote-pipeline report --missing {output}"]
    report.finish(StopRequest())
    assert Page(output / "report" / "index.html").links == ["N1.html", "N2.html"]


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_between_missing_pages_is_heeded_and_twice_ends_at_once(again: Path, presses: int) -> None:
    output = again.parent / "out"
    for name in ("N1", "N2"):
        (output / "report" / f"{name}.json").unlink()
    made, said = [], []
    stop, sleeping = StopRequest(), threading.Event()

    def make(_: Path, name: str, *__: Any) -> int:
        made.append(name)
        for _ in range(presses):
            os.kill(os.getpid(), signal.SIGINT)
            sleeping.wait(0.3)  # a press is another one after 0.1 s
        sleeping.wait(5.0 * (presses - 1))
        return 1

    report, since = SurveyReport(read_survey(again), said.append), time.monotonic()
    with mock.patch("galprote.workflows.report.writing.write_galaxy_page", make), signals_stop(stop, said.append):
        if presses == 1:
            assert report.finish(stop) == output / "report" / "index.html"
        else:
            with pytest.raises(KeyboardInterrupt):
                report.finish(stop)
    assert time.monotonic() - since < 3
    assert made == ["N1"]
    assert said[0] == "report: making the page of N1 (1 of 2)"
    assert said[1].startswith("SIGINT: finishing the page of N1 (once more: stop at once)")
    last = (
        "SIGINT: stopping at once" if presses == 2 else "report: 1 page is missing: galprote-pipeline report --missing"
    )
    assert said[2].startswith(last)


def test_a_page_of_other_products_is_not_linked(again: Path) -> None:
    card = again.parent / "out" / "report" / "N1.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"fingerprint": "another"}))
    finish_report(again.parent / "out")
    assert Page(again.parent / "out" / "report" / "index.html").links == ["N2.html"]
    card.write_text("{")
    assert read_card(again.parent / "out", "N1") is None


def test_a_card_that_lacks_something_is_made_again(again: Path, capsys: Capture) -> None:
    output = again.parent / "out"
    card = output / "report" / "N1.json"
    whole = json.loads(card.read_text())
    assert read_card(output, "N1") == whole
    wrong = [{key: value for key, value in whole.items() if key != left} for left in whole
             if left not in ("links", "snr_highest")]  # fmt: skip
    wrong += [whole | {"counts": {"fitted": 3}}, whole | {"medians": {}}, whole | {"redshift": "0.1"}]
    for content in wrong:
        card.write_text(json.dumps(content))
        assert read_card(output, "N1") is None, set(whole) - set(content)
    before = pages(again)["N1.html"]
    weights = yaml.safe_load(again.read_text())["model"]["checkpoint"]
    code, out, _ = surveys.call(capsys, "report", output, "--missing", "--json", "--checkpoint", weights)
    assert (code, list(json.loads(out)["pages"])) == (0, ["N1"])
    assert json.loads(card.read_text()) == whole
    assert pages(again)["N1.html"] == before


def test_a_store_that_cannot_be_read_costs_its_page(again: Path, capsys: Capture) -> None:
    output = again.parent / "out"

    def make(store: Path, *_: Any) -> tuple[str, dict[str, Any]]:
        if store.stem == "N1":
            raise ZeroDivisionError("odd")
        return (output / "report" / "N2.html").read_text(), json.loads((output / "report" / "N2.json").read_text())

    with mock.patch("galprote.workflows.report.galaxy_page.make_page", make):
        code, out, errors = surveys.call(capsys, "report", output, "--json")
    told = json.loads(out)
    assert (code, list(told["pages"]), told["failed"]) == (1, ["N2"], {"N1": "ZeroDivisionError: odd"})
    assert "N1: no page: ZeroDivisionError: odd" in errors


@pytest.mark.parametrize("name", ["N2.html", "index.html"])
def test_a_full_disk_stops_the_command_in_words(again: Path, name: str, capsys: Capture) -> None:
    """No space where a file is written to the disk; that exception names no file."""
    output = again.parent / "out"
    real = os.fsync

    def fsync(number: int) -> None:
        if f".{name}." in os.readlink(f"/proc/self/fd/{number}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(number)

    def make(store: Path, *_: Any) -> tuple[str, dict[str, Any]]:
        page = output / "report" / store.stem
        return page.with_suffix(".html").read_text(), json.loads(page.with_suffix(".json").read_text())

    with (
        mock.patch("galprote.workflows.report.galaxy_page.make_page", make),
        mock.patch("galprote.workflows.report.files.os.fsync", fsync),
    ):
        code, out, errors = surveys.call(capsys, "report", output, "--json")
    told = json.loads(out)
    assert code == 3
    assert told["index"] is None
    assert list(told["pages"]) == (["N1"] if name == "N2.html" else ["N1", "N2"])
    assert f"no space left on the disk ({output / 'report' / name}); finished pages are kept" in errors
    assert not list(output.rglob("*.partial"))


def test_a_galaxy_called_index_has_a_page_of_its_own() -> None:
    output = Path("out")
    assert files.page_file(output, "Index") == output / "report" / "_Index.html"
    assert not files.is_name("_Index")
    assert not files.is_name("../N1")


def test_records_name_no_paths(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"galaxies": [{"name": "../../etc/x"}, {"name": "N1"}]}))
    assert [galaxy.name for galaxy in read_records(tmp_path).galaxies] == ["N1"]
    with pytest.raises(ConfigError, match="no such folder"):
        read_records(tmp_path / "none")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json: cannot be read"):
        read_records(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(ConfigError, match="no survey was run there"):
        read_records(tmp_path)


# --- galaxies of all kinds ---


def make(store: Path) -> str:
    """Text of a page made without the cube."""
    text, card = make_page(store, None, None)
    json.dumps(card, allow_nan=False)
    path = store.with_suffix(".html")
    path.write_text(text)
    return Page(path).text


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


@pytest.fixture
def store(survey: Path, tmp_path: Path) -> Path:
    """A copy of a galaxy's store."""
    return Path(shutil.copytree(survey.parent / "out" / "N1.zarr", tmp_path / "N1.zarr"))


def test_a_galaxy_without_good_spaxels_has_a_page(store: Path) -> None:
    change(store, status=int(Status.LOW_SNR), age_lw=np.nan, snr=2.0)
    text = make(store)
    assert "No spaxel is good" in text
    assert text.count("Missing: no spaxel is good") == 2
    assert f"not fitted ({SHAPE[0] * SHAPE[1]})" in text


def test_a_galaxy_without_sky_or_cube_or_errors_has_a_page_that_says_so(store: Path) -> None:
    nothing = dict.fromkeys(("age_lw_error", "metallicity_lw_error", "av_error", "trust", "noise_scale"), np.nan)
    change(store, WCS_HEADER="", FAILED_ROWS=[[4, 5]], FLUX_UNIT_ASSUMED=True, **nothing)
    text = make(store)
    assert "The cube has no sky coordinates" in text
    assert "Rows 4 to 5 could not be computed" in text
    assert "The weights give no errors and no trust" in text
    assert "was assumed" in text
    assert "Missing: it is not known where the cube is" in text
    assert "Error of age" not in text
    assert {found.unit for found in radial_profiles(GalaxyMaps(store))} == {"spaxels"}


def test_a_cube_that_comes_back_is_used(again: Path) -> None:
    cube, away = again.parent / "n1.fits", again.parent / "away.fits"
    cube.rename(away)
    output = again.parent / "out"
    record = (output / "run.json").read_text()
    elsewhere = next(row["cube"] for row in json.loads(record)["galaxies"] if row["name"] == "N1")
    (output / "run.json").write_text(record.replace(elsewhere, str(cube)))
    (output / "report" / "N1.json").unlink()
    report = SurveyReport(read_survey(again), lambda _: None)
    report.finish(StopRequest())
    assert "the cube n1.fits is not where it was" in Page(output / "report" / "N1.html").text
    away.rename(cube)
    report.finish(StopRequest())
    assert "Best fit" in Page(output / "report" / "N1.html").text


def test_bins_have_a_page(tmp_path: Path, checkpoint: Path) -> None:
    surveys.write_cube(tmp_path / "n1.fits", SHAPE)
    galaxy = {"name": "N1", "cube": "n1.fits", "binning": {"method": "square", "size": 2}}
    path = surveys.write_survey(tmp_path, [galaxy], checkpoint, report=True)
    run(path)
    page, maps = Page(tmp_path / "out" / "report" / "N1.html"), GalaxyMaps(tmp_path / "out" / "N1.zarr")
    assert maps.bins
    assert f"{maps.bins} bins;" in page.text
    assert "good bins" in page.text
    assert re.search(r"Worst fit Bin \d+ \(row", page.text)


# --- numbers ---


def test_the_mean_residual_spectrum_is_that_of_the_cube(survey: Path) -> None:
    maps = GalaxyMaps(survey.parent / "out" / "N2.zarr")
    found = residual_spectrum(maps)
    assert found is not None
    assert (found.spectra, found.of, found.what) == (int(maps.good.sum()), int(maps.good.sum()), "spaxels")
    relative = maps.dataset.residual.values[:, maps.good] / maps.dataset.flux.values[maps.good]
    np.testing.assert_allclose(found.mean, np.nanmean(relative, axis=1), rtol=1e-5, atol=1e-7)
    low, high = np.nanpercentile(relative, (16, 84), axis=1, method="inverted_cdf")
    for mine, true in ((found.low, low), (found.high, high)):  # within a cell of the histogram
        assert np.all(np.abs(mine - true) < 0.03 * np.hypot(true, 0.005) + 1e-4)


def test_some_blocks_of_a_large_cube_are_read(store: Path) -> None:
    """Of many spectra a part, spread over the image, and no more than a block at a time."""
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    del group["residual"]
    array = group.create_array(
        "residual", shape=(N_WAVELENGTH, *SHAPE), chunks=(N_WAVELENGTH, 1, 5), dtype="float32", fill_value=np.nan,
        dimension_names=("wavelength", "y", "x"),
    )  # fmt: skip
    array[...] = 7.0
    change(store, status=0, flux=100.0)
    maps = GalaxyMaps(store)
    with mock.patch.object(zarr.Array, "__getitem__", autospec=True, side_effect=zarr.Array.__getitem__) as read:
        found = residual_spectrum(maps, most=30)
    sizes = [np.prod([part.stop - part.start for part in call.args[1][1:]]) for call in read.mock_calls
             if isinstance(call.args[1], tuple) and len(call.args[1]) == 3]  # fmt: skip
    assert sizes == 6 * [5]
    assert found is not None
    assert (found.spectra, found.of) == (30, SHAPE[0] * SHAPE[1])
    np.testing.assert_allclose(found.mean, 0.07, rtol=1e-6)
    np.testing.assert_allclose(found.high, 0.07, rtol=0.02)


def test_examples_are_the_ends_and_the_middle_of_the_scatter(store: Path) -> None:
    scatter = np.arange(SHAPE[0] * SHAPE[1], dtype=float).reshape(SHAPE) + 1
    snr = np.full(SHAPE, 30.0)
    snr[0] = 19.0  # too low: the smallest scatter does not count
    change(store, status=0, noise_scale=scatter, snr=snr)
    change_status(store, SHAPE[0] - 1, Status.UNLIKE_TRAINING)
    found = choose(GalaxyMaps(store))
    assert found is not None
    places = {example.title: (example.row, example.column) for example in found.chosen}
    assert places["Best fit"] == (1, 0)
    assert places["Worst fit"] == (SHAPE[0] - 2, SHAPE[1] - 1)
    assert places["Median fit"] == (1 + (SHAPE[0] - 2) // 2, 0)
    assert "S/N of at least 20" in found.rule


def change_status(store: Path, row: int, bit: Status) -> None:
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    array = group["status"]
    assert isinstance(array, zarr.Array)
    array[row] = int(bit)


def test_profiles_are_medians_of_rings_around_the_brightest_spaxel(store: Path) -> None:
    y, x = np.indices(SHAPE)
    radius = np.hypot(y - 6, x - 4)
    change(store, status=0, flux=1000 * np.exp(-radius / 3), age_lw=9.5 - 0.1 * radius)
    maps = GalaxyMaps(store)
    (age, *_) = radial_profiles(maps)
    assert age.unit == "arcsec"
    known = np.isfinite(age.median)
    width = age.radius[1] - age.radius[0]
    # MUSE's spaxels are 0.2 arcsec wide.
    assert np.abs(age.median[known] - (9.5 - 0.1 * age.radius[known] / 0.2)).max() <= 0.1 * width / 0.2


def test_profiles_of_a_large_galaxy_need_the_memory_of_a_few_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    side = 1000
    place = np.arange(side, dtype=np.float32)
    radius = np.hypot(place[:, None] - 600, place - 400)
    noise = np.random.default_rng(2).random((side, side), dtype=np.float32)
    noise[::3] = np.nan
    maps = {"status": np.zeros((side, side), np.int32), "flux": np.exp(-radius / 50), "age_lw": noise, "av": radius}
    about = {"galaxy": "N1", "wcs_header": "", "provenance": "{}"}
    dataset = xr.Dataset({name: (("y", "x"), values) for name, values in maps.items()}, attrs=about)
    monkeypatch.setattr("galprote.workflows.report.galaxy_maps.open_maps", lambda store: dataset)
    galaxy = GalaxyMaps(Path("N1.zarr"))
    tracemalloc.start()
    try:
        age, av = radial_profiles(galaxy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * noise.nbytes
    half = (age.radius[1] - age.radius[0]) / 2
    np.testing.assert_allclose(age.median, 0.5, atol=0.02)
    np.testing.assert_allclose(age.high - age.low, 0.68, atol=0.03)
    assert (np.abs(av.median - av.radius) < 0.5 * half).all()
    assert ((av.low > av.radius - half) & (av.high < av.radius + half)).all()


# --- pictures ---


def image_of(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA"))


def kinds_of(shape: tuple[int, int], **where: Any) -> Kinds:
    found = {name: np.zeros(shape, dtype=bool) for name in Kinds._fields}
    for name, place in where.items():
        found[name][place] = True
    return Kinds(**found)


def test_values_have_the_colours_of_the_scale_with_the_first_row_below() -> None:
    style, shape = STYLES["age_lw"], (2, 3)
    values = np.array([[8.0, 9.05, 10.1], [np.nan, 7.0, 11.0]], dtype=np.float32)
    maps = thin(kinds_of(shape), np.ones(shape, dtype=bool))
    picture = image_of(paint_map(values, style, LIMITS["age_lw"], maps, pixels=30))
    assert picture.shape[:2] == (20, 30)
    palette = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in style.palette()])
    below, above = picture[15], picture[5]
    for column, place in ((5, 0), (15, 128), (25, 255)):
        assert np.abs(below[column, :3].astype(int) - palette[place]).max() <= 6
    assert above[5, 3] == 0  # nothing: transparent
    np.testing.assert_array_equal(above[15, :3], palette[0])  # beyond the ends: the last colours
    np.testing.assert_array_equal(above[25, :3], palette[255])


def test_a_fit_s_chart_has_the_model_s_line_where_its_numbers_are() -> None:
    model = 3 + np.sin(np.arange(N_WAVELENGTH) / 120) + 1e-3 * np.arange(N_WAVELENGTH)
    one = np.ones((1, N_WAVELENGTH))
    light = {"grid": np.full((1, 12, 53), 1 / 636), "log_age": [9.0], "log_age_error": [0.1], "metallicity": [0.0],
             "metallicity_error": [0.1]}  # fmt: skip
    fit: Any = SimpleNamespace(
        flux=3.5 * one, error=0.1 * one, model=model[None], used=one > 0, bands=one[0] < 0, masked=one < 0,
        replaced=one < 0, populations=SimpleNamespace(**light), log_ages=np.linspace(7, 10.1, 53),
        metallicities=np.linspace(-2, 0.4, 12),
    )  # fmt: skip
    with drawn_here():
        svg = spectra.draw_fit(fit, "Fit", "words").svg
    found = re.search(r'<path d="([^"]*)"[^>]*style="[^"]*stroke: #d55e00; stroke-width: 1.2', svg)
    assert found is not None
    x, y = np.array(re.findall(r"[ML] (\S+) (\S+)", found[1]), dtype=float).T
    right = spectra.WIDTH - 3.15  # inches; of 4.3, the panel has 2.45 above 1.75
    wavelength = np.interp(x / 72, (spectra.LEFT, right), spectra._ENDS)
    values = np.interp(wavelength, WAVELENGTH, model) / 3.5
    seen = np.append(model / 3.5, 1.0)
    low = seen.min() - 0.22 * np.ptp(seen)
    wanted = 72 * (4.3 - 1.75 - 2.45 * (values - low) / (1.28 * np.ptp(seen)))
    assert len(x) > 50
    assert np.ptp(y) > 100
    np.testing.assert_allclose(y, wanted, atol=0.15)


def test_each_kind_of_spaxel_has_a_pattern_of_its_own_also_in_grey() -> None:
    shape = (4, 40)
    kinds = kinds_of(
        shape, unfitted=np.s_[:, :10], masked=np.s_[:, 10:20], untrusted=np.s_[:, 20:30], doubtful=np.s_[:, 30:]
    )
    maps = thin(kinds, np.ones(shape, dtype=bool))
    picture = image_of(paint_map(np.full(shape, 9.0, np.float32), STYLES["age_lw"], LIMITS["age_lw"], maps, pixels=840))
    grey = np.asarray(Image.fromarray(picture).convert("L")).astype(float)
    parts = [grey[:, start : start + 210] for start in range(0, 840, 210)]
    patterns = [part > part.mean() for part in parts]
    assert all(np.ptp(part) > 60 for part in parts)  # lines are seen on their ground
    for one, pattern in enumerate(patterns):
        for other in patterns[one + 1 :]:
            assert (pattern != other).mean() > 0.1
    assert len({hatch.words for hatch in HATCHES}) == 4


def test_large_maps_are_thinned_to_means_and_majorities() -> None:
    shape = (1000, 700)
    data = np.ones(shape, dtype=bool)
    data[:3] = False
    kinds = kinds_of(shape, masked=np.s_[3:5, :], unfitted=np.s_[6:9, 0:2])
    maps = thin(kinds, data)
    assert maps.step == 3
    assert maps.data.shape == (334, 234)
    assert not maps.data[0].any()
    assert maps.kinds.masked[1].all()  # two rows of three
    assert maps.kinds.unfitted[2, 0]
    assert maps.kinds.unfitted.sum() == 1
    values = np.where(data, np.indices(shape)[1], np.nan).astype(np.float32)
    mean = maps.mean(values)
    np.testing.assert_allclose(mean[5, :233], 1 + 3 * np.arange(233))
    assert np.isnan(mean[0]).all()
    assert len(paint_map(mean, STYLES["flux"], (1, 700), maps)) < 200_000


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=12).map(sorted),
    st.lists(st.floats(0.5, 8), min_size=12, max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_names_keep_their_order_and_do_not_overlap(places: list[float], widths: list[float]) -> None:
    widths = widths[: len(places)]
    centres = spread(places, widths, 0.0, 100.0)
    left, right = np.array(centres) - np.array(widths) / 2, np.array(centres) + np.array(widths) / 2
    assert np.all(left[1:] >= right[:-1] - 1e-6)
    assert left[0] >= -1e-6
    assert right[-1] <= 100 + 1e-6  # twelve names of 8 fit
    alone = spread([50.0], [4.0], 0.0, 100.0)
    assert alone == [50.0]


def test_lines_of_the_sky_move_against_the_galaxy_s() -> None:
    lines = {line.name: line for line in known_lines(0.01, 4750, 7100)}
    assert lines["Hα"].wavelength == 6562.80
    assert not lines["Hα"].sky
    assert lines["sky 5577"].wavelength == pytest.approx(5577.34 / 1.01)
    assert lines["sky 5577"].sky
    assert "sky OH" not in {line.name for line in known_lines(0.01, 4750, 6700)}


def test_numbers_in_words() -> None:
    assert [number_words(value) for value in (0, 0.0359, -1, 1234.5, 2.5e-7, 1e6, np.nan)] == [
        "0", "0.0359", "−1", "1,230", "2.5 × 10⁻⁷", "10⁶", "–",
    ]  # fmt: skip
    assert fixed_words(-0.254) == "−0.25"
    assert flux_words("10**-20 erg Angstrom-1 s-1 cm-2") == "10⁻²⁰ erg s⁻¹ cm⁻² Å⁻¹"
    assert flux_words("counts $<b>") == "counts $<b>"
    assert [duration_words(value) for value in (None, 9.96, 125.0, 7260.0)] == ["–", "10.0 s", "2 min", "2 h 1 min"]
    assert ticks((0, 1.5), log=False) == [0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert ticks((8, 300), log=True) == [10, 20, 50, 100, 200]
    assert ticks((6.9, 44.2), log=True) == [7, 10, 20, 30]
    assert ticks((1, 1e4), log=True) == [1, 10, 100, 1000, 1e4]
