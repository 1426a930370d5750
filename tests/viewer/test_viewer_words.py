"""The viewer's words and files: numbers, units, names, rows of a CSV file."""

import csv
import io
import re

import numpy as np
import pytest

from galprote.workflows.viewer.export_csv import selection_csv
from galprote.workflows.viewer.selection import at_point, in_box
from galprote.workflows.viewer.stored import StoredGalaxy, ViewError
from galprote.workflows.viewer.values import Numbers, numbers_of
from galprote.workflows.viewer.values_view import alike, number, table
from tests import stores


def test_numbers_have_the_digits_of_their_errors():
    assert number(9.63213, 0.0823) == "9.632 ± 0.082"
    assert number(-0.2, 0.13) == "\N{MINUS SIGN}0.20 ± 0.13"
    assert number(16177.4, 661.2) == "16,177 ± 661"
    assert number(float("nan"), 0.1) == "–"
    assert number(9.632, float("nan")) == "9.632"
    assert number(2891.3) == "2,891"
    assert number(-2.1754e-17) == "\N{MINUS SIGN}2.18e\N{MINUS SIGN}17"


def test_compared_numbers_have_the_same_decimals():
    assert alike([9.63213, 9.6300, 0.00213], 0.08) == ["9.632", "9.630", "0.002"]
    assert alike([1.5, 1.50002, -2e-5]) == ["1.500", "1.500", "0.000"]
    assert alike([16177.4, 16100.0, 77.4], 661.2) == ["16,177", "16,100", "77"]
    assert alike([2e-17, float("nan"), float("nan")]) == ["2.00e\N{MINUS SIGN}17", "–", "–"]


def test_compared_values_have_their_errors(folder):
    maps = stores.simple_maps((3, 4))
    stores.write_store(folder / "ours.zarr", maps)
    stores.write_store(
        folder / "other.zarr", maps | {"age_lw": maps["age_lw"] + 0.25, "age_lw_error": maps["age_lw_error"] * 2}
    )
    both = [StoredGalaxy(folder / f"{name}.zarr") for name in ("ours", "other")]
    selection = at_point(both[0], 1, 1)
    assert selection is not None
    ours, other = (numbers_of(galaxy, selection, 0) for galaxy in both)
    html = table(both[0], selection, ours, other, 0)
    age = next(found for found in ours if found.name == "age_lw")
    row = html.split('data-map="age_lw"')[1].split("</tr>")[0]
    errors = [float(text.split("<")[0]) for text in row.split("± ")[1:]]
    assert errors == [pytest.approx(age.error, rel=0.1), pytest.approx(2 * age.error, rel=0.1)]
    assert "\N{MINUS SIGN}0.25" in row
    region = in_box(both[0], 0, 3, 0, 2)
    assert region is not None
    means = (numbers_of(galaxy, region, 0) for galaxy in both)
    html = table(both[0], region, *means, 0)
    assert "±" not in html
    assert "<th>mean A</th><th>mean B</th>" in html


def test_numbers_of_a_region_have_the_decimals_of_their_scatter(galaxy):
    region = in_box(galaxy, 0, 9, 0, 9)
    assert region is not None
    found = [Numbers("av", 0.0930912, np.nan, 0.0781412, 0.0630812, 100),
             Numbers("stellar_mass_density", 2028.4, np.nan, 1142.2, 2235.1, 100)]  # fmt: skip
    rows = table(galaxy, region, found, [], 0).split("<tr data-map=")[1:]
    cells = [re.findall(r"<td>([^<]*)</td>", row)[:3] for row in rows]
    assert cells == [["0.093", "0.078", "0.063"], ["2,028", "1,142", "2,235"]]


def test_names_that_look_like_html_do_not_become_it(folder):
    path = folder / "A.zarr"
    group = stores.write_store(path, stores.simple_maps((3, 4)))
    group["age_lw"].attrs["long_name"] = '"><script>alert(1)</script>'
    found = StoredGalaxy(path)
    selection = at_point(found, 1, 1)
    assert selection is not None
    html = table(found, selection, numbers_of(found, selection, 0), [], 0)
    assert "<script>" not in html
    assert "9.01" in html


def test_a_csv_file_has_a_row_a_spaxel_and_every_map(galaxy):
    region = in_box(galaxy, 50, 51, 5, 6)
    assert region is not None
    text = selection_csv(galaxy, region)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert any("f" * 64 in line for line in comments)
    assert any("age_lw" in line and "dex(yr)" in line for line in comments)
    rows = list(csv.DictReader(io.StringIO("\n".join(text.splitlines()[len(comments) :]))))
    assert [(int(row["y"]), int(row["x"])) for row in rows] == [(5, 50), (5, 51), (6, 50), (6, 51)]
    assert rows[0]["flags"] == "unlike_training"
    assert rows[1]["age_lw"] == ""
    assert float(rows[2]["age_lw"]) == pytest.approx(9.06)
    wanted = galaxy.wcs.pixel_to_world(50, 6).icrs
    assert float(rows[2]["ra"]) == pytest.approx(wanted.ra.deg, abs=1e-6)
    assert set(galaxy.maps) < set(rows[0])


def test_a_csv_file_has_both_runs(folder):
    maps = stores.simple_maps((3, 4))
    stores.write_store(folder / "first.zarr", maps)
    stores.write_store(folder / "second.zarr", maps | {"age_lw": maps["age_lw"] + 0.25})
    both = [StoredGalaxy(folder / f"{name}.zarr") for name in ("first", "second")]
    both[1].about["provenance"] = str(both[1].about["provenance"]).replace("f" * 64, "e" * 64)
    selection = in_box(both[0], 1, 2, 0, 2)
    assert selection is not None
    text = selection_csv(both[0], selection, both[1])
    comments = [line for line in text.splitlines() if line.startswith("#")]
    b = comments.index(f"# columns that end in _b: run B, {both[1].path}")
    assert any("f" * 64 in line for line in comments[:b])
    assert any("e" * 64 in line for line in comments[b:])
    assert any(line.startswith("# age_lw_b: ") and "[dex(yr)]" in line for line in comments[b:])
    rows = list(csv.DictReader(text.splitlines()[len(comments) :]))
    assert len(rows) == 6
    for row in rows:
        assert float(row["age_lw_b"]) - float(row["age_lw"]) == pytest.approx(0.25, abs=1e-6)
        assert (row["snr_b"], row["status_b"], row["flags_b"]) == (row["snr"], row["status"], row["flags"])
    assert "_b" not in selection_csv(both[0], selection)


def test_a_csv_file_of_too_much_is_refused_in_words(galaxy, monkeypatch):
    monkeypatch.setattr("galprote.workflows.viewer.export_csv.MOST", 10)
    region = in_box(galaxy, 0, 10, 0, 10)
    assert region is not None
    with pytest.raises(ViewError, match=r"121 spaxels .*N1_MAPS\.fits"):
        selection_csv(galaxy, region)
