"""Pages of the HTML report: what they say of a run, and what becomes of them in another one."""

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml

from galprote.pipeline.quality import Status
from galprote.workflows.report.finishing import finish_report
from galprote.workflows.report.galaxy_maps import GalaxyMaps
from galprote.workflows.report.html import wrappable
from galprote.workflows.report.words import fixed_words
from tests import surveys
from tests.report_surveys import Page, copied, pages, run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def again(reported: Path, tmp_path: Path) -> Path:
    """A copy of the survey with its output, which may be changed."""
    return copied(reported, tmp_path)


def test_the_survey_s_page_tells_what_became_of_every_galaxy(reported: Path) -> None:
    page = Page(reported.parent / "out" / "report" / "index.html")
    assert page.links == ["N1.html", "N2.html"]
    assert "3 galaxies (2 done, 1 failed)" in page.text
    error = json.loads((reported.parent / "out" / "summary.json").read_text())[1]["error"]
    assert page.text.count(" ".join(error.split())) == 2  # in the table, and in that of the failures
    fitted = sum(row["fitted"] or 0 for row in json.loads((reported.parent / "out" / "summary.json").read_text()))
    assert f"Spaxels fitted {fitted}" in page.text
    assert len(page.pictures) == 6
    assert all(picture["alt"] for picture in page.pictures)
    assert sorted(pages(reported)) == ["N1.html", "N1.json", "N2.html", "N2.json"]


def test_an_error_does_not_begin_with_the_name_beside_it(again: Path) -> None:
    output = again.parent / "out"
    summary = json.loads((output / "summary.json").read_text())
    for error, shown in (("BAD: no such cube: /x/BAD: y", "no such cube: /x/BAD: y"), ("BAD:x", "BAD:x")):
        summary[1]["error"] = error
        (output / "summary.json").write_text(json.dumps(summary))
        text = Page(finish_report(output)).text
        assert f"failed {shown} " in text
        assert f"the whole galaxy {shown} " in text


def test_narrow_columns_break_long_words_at_joints_only() -> None:
    short, blank = "NGC4254_a/b", 'a "b"'
    assert str(wrappable(short)) == "NGC4254_<wbr>a/<wbr>b"
    assert str(wrappable("2026-11-30 b_2026-11-30")) == (
        '<span class="date">2026-11-30</span> b_<wbr><span class="date">2026-11-30</span>'
    )
    assert str(wrappable(blank)) == "a &quot;b&quot;"
    assert str(wrappable(f"/x_/{'f' * 25}")) == f'<span class="long">/x_/{"f" * 25}</span>'
    assert str(wrappable(f"<b/{'f' * 24}")) == f"&lt;b/<wbr>{'f' * 24}"


def test_a_galaxy_s_page_has_all_its_parts(reported: Path) -> None:
    page = Page(reported.parent / "out" / "report" / "N1.html")
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
    maps = GalaxyMaps(reported.parent / "out" / "N1.zarr")
    counts, medians = maps.counts(), maps.medians()
    assert f"{counts['fitted']} fitted, {counts['good']} of them good" in page.text
    assert fixed_words(medians[0].value) in page.text
    assert float(np.median(maps.dataset.age_lw.values[maps.good])) == pytest.approx(medians[0].value)
    assert f"low_snr 4 {int(((maps.status & Status.LOW_SNR) > 0).sum())} left out" in page.text
    assert maps.record["fingerprint"] in page.text
    changed = datetime.fromtimestamp((reported.parent / "n1.fits").stat().st_mtime, UTC)
    assert f"bytes, changed {changed:%Y-%m-%d %H:%M:%S} UTC" in page.text
    assert "Rᵥ = 3.1" in page.text
    assert all(picture["alt"] for picture in page.pictures)
    assert sum(str(picture["alt"]).startswith("Map of") for picture in page.pictures) == 8  # without errors


def test_pages_need_nothing_from_elsewhere_and_run_nothing(reported: Path) -> None:
    for path in (reported.parent / "out" / "report").glob("*.html"):
        page = Page(path)
        assert not page.tags & {"script", "iframe", "object", "embed", "b" if path.name == "N1.html" else "script"}
        assert all(str(picture["src"]).startswith("data:image/") for picture in page.pictures)
        assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", path.read_text())
        assert "default-src 'none'" in path.read_text()


def test_what_comes_from_files_is_escaped(reported: Path) -> None:
    page = Page(reported.parent / "out" / "report" / "N1.html")
    assert "<script>alert('&')</script>" in page.text  # as words: the page has no such tag
    assert "script" not in page.tags


def test_pages_do_not_depend_on_when_and_how_they_were_made(again: Path, capsys: Capture) -> None:
    """Missing pages are made by a run that finds everything done; the command makes the same ones."""
    before = pages(again)
    folder = again.parent / "out" / "report"
    (folder / "N2.html").unlink()
    (folder / "N1.json").unlink()
    (folder / "N1.html.12345678.partial").write_text("half")
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
