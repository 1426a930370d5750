"""`galprote-pipeline init`: cubes named as surveys name them, up to a survey that runs."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from galprote.model.checkpoint import default_checkpoint
from galprote.pipeline.config import find_cube, read_survey
from galprote.workflows.galaxy_table import bundled_table
from tests import surveys
from tests.init_cubes import COPT, MANGA, MAUVE, PHANGS, Capture, init, make_cube, make_manga_cube
from tests.surveys import call
from tests.test_configs import CONFIGS, uncommented

# --- surveys as they are named ---


def test_phangs(capsys: Capture, tmp_path: Path) -> None:
    for name in ("NGC0628", "NGC4254", "IC5332"):
        make_cube(tmp_path / PHANGS.format(name))
    make_cube(tmp_path / COPT.format("NGC4254"))
    make_cube(tmp_path / "NGC0628_MAPS.fits")
    output, galaxies = init(capsys, tmp_path, "--survey", "phangs")
    table = {known.name: known for known in bundled_table("phangs").values()}
    assert galaxies.keys() == {"NGC0628", "NGC4254", "IC5332"}
    survey = read_survey(tmp_path / "survey.yaml")
    for galaxy in survey.galaxies:
        known = table[galaxy.name]
        assert (galaxy.redshift, galaxy.foreground.ebv) == (known.redshift, known.ebv)
        assert galaxy.foreground.source == "SF11"
        assert find_cube(galaxy) == tmp_path / PHANGS.format(galaxy.name)
    text = (tmp_path / "survey.yaml").read_text()
    assert 'cube: "{name}_PHANGS_DATACUBE_native.fits"' in text, "one pattern for all"
    assert f"# Another cube of it, not used: {COPT.format('NGC4254')}" in text
    assert "'NGC0628_MAPS.fits': maps" in text
    assert "FILL IN" not in text
    assert "null" not in output
    code, output, error = call(capsys, "plan", tmp_path / "survey.yaml")
    assert (code, error) == (0, "")
    assert "cannot run" not in output


def test_matched_seeing_is_an_option(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / PHANGS.format("NGC4254"))
    make_cube(tmp_path / COPT.format("NGC4254"))
    _, galaxies = init(capsys, tmp_path, "--survey", "phangs", "--prefer", "copt")
    assert galaxies["NGC4254"]["cube"] == COPT.format("NGC4254")


def test_mauve(capsys: Capture, tmp_path: Path) -> None:
    for file in (MAUVE.format("NGC4192"), MAUVE.format("NGC4567_8"), PHANGS.format("NGC4321")):
        make_cube(tmp_path / file)
    packed = tmp_path / (MAUVE.format("IC3392") + ".gz")
    packed.write_bytes(gzip.compress(make_cube(tmp_path / "a").read_bytes(), mtime=0))
    make_cube(tmp_path / MAUVE.format("IC3392").replace("v3tk", "v2"))
    _, galaxies = init(capsys, tmp_path, "--survey", "mauve")
    table = {known.name: known for known in bundled_table("mauve").values()}
    assert galaxies.keys() == {"NGC4192", "NGC4567_8", "NGC4321", "IC3392"}
    for name, galaxy in galaxies.items():
        assert galaxy["redshift"] == table[name].redshift
        assert galaxy["foreground"] == {"ebv": table[name].ebv, "source": "SF11"}
    assert galaxies["NGC4192"]["redshift"] < 0
    assert galaxies["IC3392"]["cube"] == packed.name, "the newer version, though it is compressed"
    assert "SIMBAD" not in (tmp_path / "survey.yaml").read_text()
    assert call(capsys, "plan", tmp_path / "survey.yaml")[0] == 0


@pytest.mark.parametrize("given", [False, True])
def test_manga_takes_redshifts_from_drpall(capsys: Capture, tmp_path: Path, given: bool) -> None:
    folder = tmp_path / "cubes"
    folder.mkdir()
    for name in ("7443-12703", "8485-1901", "8485-1902"):
        make_manga_cube(folder / MANGA.format(name), ebv=None if name == "8485-1902" else 0.0187)
    make_manga_cube(folder / "manga-7443-12703-LOGCUBE-HYB10-MILESHC-MASTARHC2.fits")
    rows = {"plateifu": ["7443-12703", "8485-1901"], "nsa_z": [0.0402719, -9999.0], "z": [0.04, 0.0408]}
    ebv = np.array([0.0187, 0.0187], np.float32)
    drpall = (tmp_path if given else folder) / "drpall-v3_1_1.fits"
    Table(rows | {"ebvgal": ebv}).write(drpall)
    words = ["--table", drpall] if given else []
    _, galaxies = init(capsys, folder, "--survey", "manga", *words)
    assert galaxies.keys() == {"manga-7443-12703", "manga-8485-1901", "manga-8485-1902"}
    assert [galaxy["redshift"] for galaxy in galaxies.values()] == [0.0402719, 0.0408, None]
    assert [galaxy["foreground"]["ebv"] for galaxy in galaxies.values()] == [0.01608, 0.01608, None]
    text = (folder / "survey.yaml").read_text()
    assert "nsa_z of drpall-v3_1_1.fits" in text
    assert "Schlegel" in text, "EBVGAL is not on the scale of SF11"
    assert "MaNGA's data analysis pipeline" in text
    assert text.count("!!!! FILL IN") == 2


def test_manga_without_drpall_knows_no_redshift(capsys: Capture, tmp_path: Path) -> None:
    make_manga_cube(tmp_path / MANGA.format("7443-12703"))
    output, galaxies = init(capsys, tmp_path, "--survey", "manga")
    (galaxy,) = galaxies.values()
    assert galaxy["redshift"] is None
    assert galaxy["foreground"] == {"ebv": 0.01608, "source": "0.86 x SFD98"}
    assert "Fill in the redshift of manga-7443-12703" in output


# --- to the end ---


def test_the_survey_that_was_written_runs(capsys: Capture, tmp_path: Path, checkpoint: Path) -> None:
    cube = surveys.write_cube(tmp_path / PHANGS.format("NGC4303"), (4, 3))  # z = 0.005224
    init(capsys, tmp_path, "--survey", "phangs")
    path = tmp_path / "survey.yaml"
    path.write_text(path.read_text() + f"model: {{checkpoint: {json.dumps(str(checkpoint))}, device: cpu}}\n")
    (result,) = surveys.run_here(path)
    assert result.outcome == "done", result.details
    assert result.fitted
    header = fits.getheader(tmp_path / "maps" / "NGC4303_MAPS.fits")
    assert header["REDSHIFT"] == 0.005224
    assert cube.exists()
    code, _, error = call(capsys, "init", tmp_path / "maps")
    assert code == 2, "products are no cubes"
    assert "a product of galprote" in error


def test_shipped_mauve_survey_with_its_cluster_is_valid(tmp_path: Path) -> None:
    text = uncommented((CONFIGS / "mauve.yaml").read_text())
    path = tmp_path / "mauve.yaml"
    path.write_text(text)
    survey = read_survey(path)
    assert len(survey.galaxies) == 39
    assert survey.cluster.type == "slurm"
    assert survey.chunks.memory == 64 * 1024**3
    files = {galaxy.name: Path(str(galaxy.cube)).name for galaxy in survey.galaxies}
    assert files.pop("NGC4254") == PHANGS.format("NGC4254")
    assert files["NGC4567_8"] == MAUVE.format("NGC4567_8")
    assert default_checkpoint().is_file()
