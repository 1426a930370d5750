"""`galprote-pipeline init`: what of a folder is a cube, and the YAML file that is written."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from galprote.pipeline.config import find_cube, read_survey
from galprote.workflows.cli import app
from galprote.workflows.survey_writer import _number, _scalar
from tests.init_cubes import PHANGS, Capture, init, make_cube
from tests.surveys import call


def test_cubes_of_one_object_that_are_not_of_one_galaxy_are_kept_apart(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / "near.fits", {"OBJECT": "MOCK", "REDSHIFT": 0.008})
    make_cube(tmp_path / "same.fits", {"OBJECT": "MOCK", "REDSHIFT": 0.008})
    make_cube(tmp_path / "far.fits", {"OBJECT": "MOCK", "REDSHIFT": 0.02})
    make_cube(tmp_path / "away.fits", {"OBJECT": "MOCK", "REDSHIFT": 0.008}, CRVAL2=15.5)
    output, galaxies = init(capsys, tmp_path)
    assert {name: galaxy["redshift"] for name, galaxy in galaxies.items()} == {
        "near": 0.008,
        "far": 0.02,
        "away": 0.008,
    }
    assert "near is run with 'near.fits'; left out, of the same galaxy: 'same.fits'" in output


def test_what_is_no_cube_is_left_out_with_the_reason(capsys: Capture, tmp_path: Path) -> None:
    whole = make_cube(tmp_path / PHANGS.format("NGC4254"), {"OBJECT": "NGC 4254"}).read_bytes()
    (tmp_path / "cut.fits").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut2.fits.gz").write_bytes(gzip.compress(whole)[:200])
    (tmp_path / "text.fits").write_text("no FITS" * 1000)
    (tmp_path / "gone.fits").symlink_to(tmp_path / "nowhere")
    fits.PrimaryHDU(np.ones((3, 3))).writeto(tmp_path / "image.fits")
    Table({"a": [1]}).write(tmp_path / "table.fits")
    ours = make_cube(tmp_path / "NGC4254_RESIDUAL.fits")
    fits.setval(ours, "CREATOR", value="galprote 0.1.0")
    (tmp_path / ".hidden.fits").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.fits").mkdir()
    output, galaxies = init(capsys, tmp_path)
    assert galaxies.keys() == {"NGC4254"}
    text = re.sub(r"\s*\n#\s*", " ", (tmp_path / "survey.yaml").read_text())
    told = {
        "cut.fits": "are missing", "cut2.fits.gz": "gzip", "text.fits": "not a FITS file",
        "gone.fits": "no such file", "image.fits": "has 2 axes", "table.fits": "no image of fluxes",
        "NGC4254_RESIDUAL.fits": "a product of galprote",
    }  # fmt: skip
    for name, reason in told.items():
        (line,) = (line for line in output.splitlines() if line.startswith(f"left out '{name}'"))
        assert reason in line
        assert f"'{name}': " in text
    assert not [name for name in (".hidden", "notes", "folder.fits") if name in output + text]
    assert not (tmp_path / "maps").exists()


def test_other_names_are_left_out_together(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / PHANGS.format("NGC4254"))
    for k in range(12):
        (tmp_path / f"x{k:02d}.fits").write_text("x")
    output, _ = init(capsys, tmp_path, "--survey", "phangs")
    (line,) = (line for line in output.splitlines() if line.startswith("left out"))
    assert "'x09.fits', and 2 more: not named as phangs names its cubes" in line


def test_a_folder_without_cubes(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "NGC1" / "deep").mkdir(parents=True)
    make_cube(tmp_path / "NGC1" / PHANGS.format("NGC4254"))
    code, _, error = call(capsys, "init", tmp_path, "--survey", "phangs")
    assert code == 2
    assert f"{tmp_path}: no cube here; expected files named NAME_PHANGS_DATACUBE_native.fits" in error
    assert "folders of it, such as NGC1" in error
    for missing, why in (("nowhere", "no such folder"), ("NGC1/" + PHANGS.format("NGC4254"), "is a file")):
        code, _, error = call(capsys, "init", tmp_path / missing)
        assert code == 2
        assert why in error
    assert not list(tmp_path.glob("*.yaml"))


def test_same_folder_same_bytes_and_nothing_is_replaced_unasked(capsys: Capture, tmp_path: Path) -> None:
    for name in ("NGC4254", "NGC0628"):
        make_cube(tmp_path / PHANGS.format(name))
    init(capsys, tmp_path, "--survey", "phangs")
    path = tmp_path / "survey.yaml"
    first = path.read_bytes()
    path.write_bytes(first + b"# edited\n")
    code, _, error = call(capsys, "init", tmp_path, "--survey", "phangs")
    assert code == 2
    assert f"{path} exists" in error
    assert path.read_bytes().endswith(b"# edited\n")
    init(capsys, tmp_path, "--survey", "phangs", "--overwrite")
    assert path.read_bytes() == first
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        [PHANGS.format("NGC4254"), PHANGS.format("NGC0628"), "survey.yaml"]
    )


def test_a_yaml_elsewhere_finds_the_cubes(capsys: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "my [cubes]"
    folder.mkdir()
    for name in ("NGC4254", "NGC0628"):
        make_cube(folder / PHANGS.format(name))
    (tmp_path / "other").mkdir()
    for output in (tmp_path / "a.yaml", tmp_path / "other" / "b.yaml"):
        init(capsys, folder, "--survey", "phangs", "--output", output)
        for galaxy in read_survey(output).galaxies:
            assert find_cube(galaxy).resolve() == folder / PHANGS.format(galaxy.name)
    code, _, error = call(capsys, "init", folder, "--output", tmp_path / "no" / "c.yaml")
    assert code == 2
    assert "no such folder" in error
    assert "is a folder" in call(capsys, "init", folder, "--output", tmp_path)[2]


@pytest.mark.parametrize("file", ["a b.fits", "~x.fits", "[1].fits", "a#1: {x}, 'y'.fits", "2001-01-01.fits", "ü.fits"])
def test_odd_file_names(capsys: Capture, tmp_path: Path, file: str) -> None:
    make_cube(tmp_path / file, {"OBJECT": "2001-01-02", "REDSHIFT": 0.005, "EBVGAL": 0.02})
    make_cube(tmp_path / "{name}.fits")
    output, galaxies = init(capsys, tmp_path)
    assert galaxies.keys() == {"2001-01-02"}, "no date"
    (galaxy,) = read_survey(tmp_path / "survey.yaml").galaxies
    assert find_cube(galaxy) == tmp_path / file
    assert "characters that a survey cannot hold" in output


def test_names_for_products_are_made_of_objects(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / "a.fits", {"OBJECT": "NGC 4254 (P01)"})
    make_cube(tmp_path / "b.fits", {"OBJECT": "../etc"})
    make_cube(tmp_path / "c_DATACUBE_1.fits", {"OBJECT": "  "}, OBJECT="")
    assert init(capsys, tmp_path)[1].keys() == {"NGC4254_P01", "etc", "c"}


@settings(max_examples=50)
@given(st.text(min_size=1, max_size=20).filter(str.isprintable))
def test_text_stays_text_in_yaml(text: str) -> None:
    written = _scalar(text)
    expected = f"./{text}" if text.startswith("~") else text
    assert yaml.safe_load(f"key: {written}  # x") == {"key": expected}
    assert "{name}" in text or yaml.safe_load(f"{{key: {written}, b: 1}}") == {"key": expected, "b": 1}


@given(st.floats(-0.01, 5).filter(lambda value: value == 0 or abs(value) > 1e-6))
def test_numbers_stay_numbers_in_yaml(value: float) -> None:
    read = yaml.safe_load(_number(value))
    assert isinstance(read, float)
    assert read == pytest.approx(value, abs=1e-7)


def test_option_values_complete() -> None:
    """As a shell asks for them."""
    command = typer.main.get_command(app)
    option = next(p for p in command.commands["init"].params if p.name == "survey")  # type: ignore[attr-defined]
    context = typer.Context(command.commands["init"])  # type: ignore[attr-defined]
    found = [item.value for item in option.shell_complete(context, "ma")]
    assert found == ["mauve", "manga"]
