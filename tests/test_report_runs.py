"""The HTML report harms no run: its errors cost a line, its files and others' are not mixed up."""

import errno
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from galprote.model.errors import ConfigError
from galprote.pipeline.config import read_survey
from galprote.workflows import run_command
from galprote.workflows.logbook import GalaxyResult
from galprote.workflows.report import files
from galprote.workflows.report.cards import read_card
from galprote.workflows.report.finishing import finish_report
from galprote.workflows.report.records import read_records, seconds_taken
from galprote.workflows.report.writing import SurveyReport
from galprote.workflows.stop import StopRequest, signals_stop
from galprote.workflows.survey import run_survey
from tests import surveys
from tests.report_surveys import Page, copied, pages, run, write_report_survey

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def again(reported: Path, tmp_path: Path) -> Path:
    """A copy of the survey with its output, which may be changed."""
    return copied(reported, tmp_path)


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


def test_later_runs_keep_the_time_that_a_galaxy_took(again: Path) -> None:
    output = again.parent / "out"
    took = {galaxy.name: galaxy.seconds for galaxy in read_records(output).galaxies}
    assert took["N1"]
    assert took["BAD"] is None
    for _ in range(2):
        results, _ = run(again)
        assert [(result.outcome, result.seconds) for result in results][::2] == [("skipped", None)] * 2
        assert {galaxy.name: galaxy.seconds for galaxy in read_records(output).galaxies} == pytest.approx(took)
    shutil.rmtree(output / "N1.zarr")
    run(again, overwrite=True)
    assert read_records(output).galaxies[0].seconds not in (None, took["N1"])
    (output / "run.json").write_text('{"galaxies": [[], {"name": "N1", "seconds": "3"}, {"seconds": 3}]}')
    assert seconds_taken(output) == {}


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
        if f"/{name}." in os.readlink(f"/proc/self/fd/{number}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(number)

    def make(store: Path, *_: Any) -> tuple[str, dict[str, Any]]:
        page = output / "report" / store.stem
        return page.with_suffix(".html").read_text(), json.loads(page.with_suffix(".json").read_text())

    with (
        mock.patch("galprote.workflows.report.galaxy_page.make_page", make),
        mock.patch("os.fsync", fsync),
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
