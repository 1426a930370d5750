"""`galprote-pipeline init`: nothing unknown is ever taken for zero, and nothing doubtful for a value."""

import re
from pathlib import Path
from typing import Any

import pytest

from galprote.workflows.galaxy_table import bundled_table
from tests.init_cubes import PHANGS, Capture, init, make_cube
from tests.surveys import call
from tests.test_configs import SPEED_OF_LIGHT_KMS


def test_unknown_values_are_null_and_refused_by_name(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / "a.fits", {"OBJECT": "ESO 97-G13"})
    make_cube(tmp_path / "b.fits", {"OBJECT": "NGC 4254"})
    output, galaxies = init(capsys, tmp_path)
    assert galaxies["ESO97-G13"]["redshift"] is None
    assert galaxies["ESO97-G13"]["foreground"]["ebv"] is None
    assert galaxies["NGC4254"]["redshift"] == 0.008026
    text = (tmp_path / "survey.yaml").read_text()
    assert "2 VALUES ARE UNKNOWN" in text
    assert len(re.findall(r"null.*# !!!! FILL IN", text)) == 2
    assert "Fill in the redshift of ESO97-G13:" in output
    for command in ("plan", "run"):
        code, _, error = call(capsys, command, tmp_path / "survey.yaml")
        assert code == 2
        lines = error.splitlines()
        assert len(lines) == 2
        assert "galaxies[0].redshift = null: unknown for ESO97-G13; write its barycentric redshift" in lines[0]
        assert "galaxies[0].foreground.ebv = null: unknown for ESO97-G13; write the Milky Way's E(B-V)" in lines[1]
        assert all("or remove the galaxy" in line for line in lines)
    filled = text.replace("redshift: null", "redshift: 0.00145").replace("ebv: null", "ebv: 1.2")
    (tmp_path / "survey.yaml").write_text(filled)
    assert call(capsys, "plan", tmp_path / "survey.yaml")[0] == 0


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ((1571.0, ""), "looks like a velocity in km/s; z = v/c would be 0.005240"),
        ((0.0052, "LSRK, radio"), "relative to the local standard of rest"),
        ((0.0, ""), "placeholder"),
        ((7.5, ""), "out of range"),
        (("unknown", ""), "is no number"),
    ],
)
def test_doubtful_header_redshifts_are_not_used(
    capsys: Capture, tmp_path: Path, card: tuple[Any, str], told: str
) -> None:
    make_cube(tmp_path / "a.fits", {"OBJECT": "X1", "REDSHIFT": card})
    output, galaxies = init(capsys, tmp_path)
    assert galaxies["X1"]["redshift"] is None
    assert told in " ".join(output.split())
    assert told in re.sub(r"\s*\n\s*#\s*", " ", (tmp_path / "survey.yaml").read_text())


def test_header_redshifts_are_used_and_named(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / "a.fits", {"OBJECT": "X1", "REDSHIFT": 0.0052})
    make_cube(tmp_path / "b.fits", {"OBJECT": "X2", "MED_VEL": 1571.0})
    make_cube(tmp_path / "c.fits", {"OBJECT": "X3", "MED_VEL": -999.0})
    _, galaxies = init(capsys, tmp_path)
    assert galaxies["X1"]["redshift"] == 0.0052
    assert galaxies["X2"]["redshift"] == pytest.approx(1571.0 / SPEED_OF_LIGHT_KMS, abs=1e-6)
    assert galaxies["X3"]["redshift"] is None
    assert "redshift: 0.0052  # the header's REDSHIFT" in (tmp_path / "survey.yaml").read_text()


@pytest.mark.parametrize(("difference_kms", "told"), [(40.0, False), (60.0, True)])
def test_header_and_table_that_disagree_are_told(
    capsys: Capture, tmp_path: Path, difference_kms: float, told: bool
) -> None:
    header = 0.008026 + difference_kms / SPEED_OF_LIGHT_KMS
    make_cube(tmp_path / PHANGS.format("NGC4254"), {"REDSHIFT": header})
    output, galaxies = init(capsys, tmp_path, "--survey", "phangs")
    assert galaxies["NGC4254"]["redshift"] == 0.008026
    text = (tmp_path / "survey.yaml").read_text()
    assert ("ATTENTION" in text) == told
    if told:
        for value in (f"{header:.6f}", "0.008026", "60 km/s apart"):
            assert value in output
            assert value in text


def test_wavelengths_of_another_frame_are_told(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / PHANGS.format("NGC4254"), SPECSYS="TOPOCENT")
    make_cube(tmp_path / PHANGS.format("NGC4321"), SPECSYS="BARYCENT")
    output, _ = init(capsys, tmp_path, "--survey", "phangs")
    assert "NGC4254: the cube's wavelengths are not barycentric (SPECSYS = TOPOCENT)" in output
    assert "NGC4321:" not in output


def test_a_cube_that_misses_the_window_is_told(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / "a.fits", {"OBJECT": "X1", "REDSHIFT": 0.3})
    output, _ = init(capsys, tmp_path)
    assert "X1: the cube does not cover" in output
    assert "ATTENTION: the cube does not cover" in (tmp_path / "survey.yaml").read_text()


def test_the_headers_object_helps_and_contradicts(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / PHANGS.format("NGC4321"), {"OBJECT": "M 99"})
    make_cube(tmp_path / PHANGS.format("mygal"), {"OBJECT": "NGC 1365 "})
    output, galaxies = init(capsys, tmp_path, "--survey", "phangs")
    assert "NGC4321: the header's OBJECT is 'M 99': is this NGC4321?" in output
    assert galaxies["mygal"]["redshift"] == bundled_table("phangs")["NGC1365"].redshift
