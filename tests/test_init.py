"""`galprote-pipeline init`: a survey is written from a folder of cubes, and nothing unknown is ever taken for zero."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from galprote.model.checkpoint import default_checkpoint
from galprote.pipeline.config import find_cube, read_survey
from galprote.workflows.cli import app
from galprote.workflows.galaxy_table import BUNDLED, bundled_table, canonical_name, identity, read_table
from galprote.workflows.survey_writer import _number, _scalar
from tests import cubes, surveys
from tests.surveys import call
from tests.test_configs import CONFIGS, SPEED_OF_LIGHT_KMS, uncommented

Capture = pytest.CaptureFixture[str]
PHANGS = "{}_PHANGS_DATACUBE_native.fits"
COPT = "{}_PHANGS_DATACUBE_copt_0.92asec.fits"
MAUVE = "{}_DATACUBE_FINAL_WCS_Pall_mad_red_v3tk.fits"
MANGA = "manga-{}-LOGCUBE.fits"
#: What a bundled table and the smallest cube have in common: 4740 A to 7240 A.
CHANNELS, FIRST = 2000, 4740.0


def make_cube(path: Path, primary: dict[str, Any] | None = None, **cards: Any) -> Path:
    """A MUSE cube of one spaxel: only its headers matter."""
    flux = np.ones((CHANNELS, 1, 1), np.float32)
    return cubes.write_muse_cube(
        path, flux, flux, cubes.muse_cards(FIRST) | cards, primary={"OBJECT": "P01"} | (primary or {})
    )


def make_manga_cube(path: Path, ebv: float | None = 0.0187) -> Path:
    """MaNGA's HDUs and keywords: vacuum wavelengths in logarithmic steps, inverse variances, a mask."""
    flux = np.ones((4563, 2, 2), np.float32)
    hdus = fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(flux, name=name) for name in ("FLUX", "IVAR"))])
    hdus.append(fits.ImageHDU(np.zeros(flux.shape, np.int32), name="MASK"))
    hdus[0].header["PLATEIFU"] = path.name.removeprefix("manga-").removesuffix("-LOGCUBE.fits")
    if ebv is not None:
        hdus[0].header["EBVGAL"] = ebv
    cards = cubes.celestial_cards() | {"CTYPE3": "WAVE-LOG", "CUNIT3": "Angstrom", "CRPIX3": 1.0}
    hdus["FLUX"].header.update(cards | {"CRVAL3": 3621.59598486, "CD3_3": 0.833903, "BUNIT": "1E-17 erg/s/cm^2/Ang"})
    hdus.writeto(path)
    return path


def init(capsys: Capture, folder: Path, *words: object) -> tuple[str, dict[str, Any]]:
    """Standard output without line breaks in cells, and the galaxies of the YAML by name, as they stand there."""
    code, output, error = call(capsys, "init", folder, *words)
    assert code == 0, error
    written = next(line.removeprefix("Wrote ") for line in output.splitlines() if line.startswith("Wrote "))
    raw = yaml.safe_load(Path(written).read_text())
    return output, {galaxy["name"]: galaxy for galaxy in raw["galaxies"]}


# ---- the tables


def test_bundled_tables_and_shipped_surveys_agree() -> None:
    for survey, pair in (("phangs", set()), ("mauve", {"NGC4567", "NGC4568"})):
        table = bundled_table(survey)
        galaxies = read_survey(CONFIGS / f"{survey}.yaml").galaxies
        assert {galaxy.name for galaxy in galaxies} == {known.name for known in table.values()} - pair
        for galaxy in galaxies:
            known = table[identity(galaxy.name)]
            assert (known.redshift, known.ebv) == (galaxy.redshift, galaxy.foreground.ebv)
            assert known.ebv_source == galaxy.foreground.source == "SF11"
            assert known.redshift_source


def test_mauve_is_40_galaxies_of_the_virgo_cluster() -> None:
    table = {known.name: known for known in bundled_table("mauve").values()}
    assert len(table.keys() - {"NGC4567_8"}) == 40
    pair = table["NGC4567_8"]
    for value in ("redshift", "ebv"):
        parts = [getattr(table[name], value) for name in ("NGC4567", "NGC4568")]
        assert getattr(pair, value) == pytest.approx(np.mean(parts), abs=6e-5)
    velocities = np.array([SPEED_OF_LIGHT_KMS * known.redshift for known in table.values() if known.redshift])
    # Virgo: 1,100 km/s, with a dispersion of 600 to 750 km/s for late types (Binggeli et al. 1993, A&AS 98, 275).
    assert np.mean(velocities) == pytest.approx(1100, abs=2.5 * 750 / np.sqrt(40))
    assert 500 < np.std(velocities) < 950
    assert all(known.ebv and 0.015 < known.ebv < 0.045 for known in table.values())
    assert sum(known.remark.startswith("SIMBAD") for known in table.values()) == 5, "as docs/surveys.md says"


def test_tables_agree_on_the_galaxies_that_they_share() -> None:
    phangs, mauve = (bundled_table(survey) for survey in ("phangs", "mauve"))
    shared = {known.name for known in phangs.values()} & {known.name for known in mauve.values()}
    assert shared == {"NGC4254", "NGC4321", "NGC4535"}
    for name in shared:
        one, other = phangs[name], mauve[name]
        assert one.redshift is not None
        assert other.redshift is not None
        assert abs(one.redshift - other.redshift) * SPEED_OF_LIGHT_KMS < 10
        assert one.ebv == pytest.approx(other.ebv, abs=0.0005)


@pytest.mark.parametrize("survey", BUNDLED)
def test_bundled_tables_have_no_value_without_a_source(survey: str) -> None:
    for known in bundled_table(survey).values():
        assert known.redshift is not None
        assert known.ebv
        assert known.redshift_source.endswith(f"(bundled table {survey})")
        assert not known.redshift_source.startswith(" ")


@pytest.mark.parametrize(
    ("spelt", "canonical"),
    [
        ("NGC 628", "NGC628"), ("ngc0628", "NGC628"), ("NGC_00628", "NGC628"), ("IC5332", "IC5332"),
        ("Messier 99", "M99"), ("m 099", "M99"), ("NGC4567/8", "NGC4567-8"), ("NGC4567_8", "NGC4567-8"),
        ("manga-7443-12703", "7443-12703"), ("7443-12703", "7443-12703"), ("ESO 97-G13", "ESO97-G13"),
        ("2MASX J1+2", "2MASXJ1+2"), ("--", ""),
    ],
)  # fmt: skip
def test_names_are_spelt_in_many_ways(spelt: str, canonical: str) -> None:
    assert canonical_name(spelt) == canonical


def test_galaxies_are_found_by_their_messier_numbers() -> None:
    phangs, mauve = (bundled_table(survey) for survey in ("phangs", "mauve"))
    assert phangs[identity("Messier 74")].name == "NGC0628"
    assert phangs[identity("M99")].name == mauve[identity("m 99")].name == "NGC4254"
    assert mauve[identity("M58")].name == "NGC4579"
    assert identity("M87") == "M87", "nobody's alias"


# ---- surveys as they are named


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


# ---- unknown and doubtful values


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


# ---- one's own table


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


@pytest.mark.parametrize("ending", ["csv", "ecsv", "fits", "txt", "vot"])
def test_own_tables(capsys: Capture, tmp_path: Path, ending: str) -> None:
    make_cube(tmp_path / "a.fits", {"OBJECT": "ESO 97-G13", "REDSHIFT": 0.3})
    make_cube(tmp_path / "b.fits", {"OBJECT": "NGC4254"})
    make_cube(tmp_path / "c.fits", {"OBJECT": "m99"})
    path = tmp_path / f"mine.{ending}"
    table = Table({"Galaxy": ["ESO97-G13", "M99"], "z": [0.001448, 0.008], "EBV": [1.2, 0.05]})
    kinds = {"txt": "ascii.basic", "vot": "votable"}
    table.write(path, **({"format": kinds[ending]} if ending in kinds else {}))
    _, galaxies = init(capsys, tmp_path, "--table", path)
    assert galaxies.keys() == {"ESO97-G13", "NGC4254"}, "M99 is the same galaxy"
    assert galaxies["ESO97-G13"]["redshift"] == 0.001448
    assert galaxies["ESO97-G13"]["foreground"] == {"ebv": 1.2, "source": path.name}
    assert galaxies["NGC4254"]["redshift"] == 0.008, "by another name"


def test_own_table_wins_and_gaps_are_filled_from_the_bundled_one(capsys: Capture, tmp_path: Path) -> None:
    for name in ("NGC4254", "NGC0628", "NGC1365"):
        make_cube(tmp_path / PHANGS.format(name))
    path = tmp_path / "mine.csv"
    path.write_text("name,redshift,ebv\nngc 4254,0.00801,\nNGC628,,0\nNGC1365,1639,0.02\n")
    output, galaxies = init(capsys, tmp_path, "--survey", "phangs", "--table", path)
    bundled = bundled_table("phangs")
    assert galaxies["NGC4254"]["redshift"] == 0.00801
    assert galaxies["NGC4254"]["foreground"]["ebv"] == bundled["NGC4254"].ebv
    assert galaxies["NGC0628"]["redshift"] == bundled["NGC628"].redshift
    assert galaxies["NGC0628"]["foreground"]["ebv"] == 0, "it was said"
    assert "NGC0628: E(B-V) = 0 (mine.csv): right only if the cube is dereddened already" in output
    assert galaxies["NGC1365"]["redshift"] == bundled["NGC1365"].redshift
    assert "redshift = 1639 in mine.csv is no redshift; if it is a velocity in km/s, z = v/c = 0.005467" in output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such table"),
        ("galaxy,distance\nA,1\n", "expected columns name, redshift and ebv"),
        ("name,z\nNGC1,0.01\nNGC 1,0.02\n", "NGC 1 is there twice, with different values"),
        ("name,z\nNGC4254,0.01\nM99,0.02\n", "M99 is there twice, with different values"),
        ("", "expected columns name, redshift and ebv"),
    ],
)
def test_tables_that_cannot_be_used(capsys: Capture, tmp_path: Path, text: str | None, told: str) -> None:
    make_cube(tmp_path / "a.fits")
    if text is not None:
        (tmp_path / "mine.csv").write_text(text)
    code, _, error = call(capsys, "init", tmp_path, "--table", tmp_path / "mine.csv")
    assert code == 2
    assert error.startswith(f"error: {tmp_path / 'mine.csv'}: ")
    assert told in error
    assert not (tmp_path / "survey.yaml").exists()


def test_a_damaged_table(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / "a.fits")
    Table({"name": ["A"], "z": [0.01]}).write(tmp_path / "mine.fits")
    whole = (tmp_path / "mine.fits").read_bytes()
    (tmp_path / "mine.fits").write_bytes(whole[:3000])
    code, _, error = call(capsys, "init", tmp_path, "--table", tmp_path / "mine.fits")
    assert code == 2
    assert "mine.fits: astropy cannot read it as a table" in error
    (tmp_path / "mine.fits").rename(tmp_path / "drpall-v3_1_1.fits")
    output, galaxies = init(capsys, tmp_path)
    assert galaxies.keys() == {"P01"}
    assert "left out 'drpall-v3_1_1.fits': astropy cannot read it as a table" in output


def test_velocities_with_a_unit_are_refused(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / "a.fits")
    table = Table({"name": ["A"], "z": [1571.0]}, units={"z": "km/s"})
    table.write(tmp_path / "mine.ecsv")
    code, _, error = call(capsys, "init", tmp_path, "--table", tmp_path / "mine.ecsv")
    assert code == 2
    assert "column z is in km / s" in error


def test_masked_values_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("name,z,ebv\nA,0.1,0.02\nB,,\nC,nan,-1\n")
    known = read_table(tmp_path / "mine.csv")
    assert (known["A"].redshift, known["A"].ebv) == (0.1, 0.02)
    assert (known["B"].redshift, known["B"].ebv, known["B"].remark) == (None, None, "")
    assert (known["C"].redshift, known["C"].ebv) == (None, None)
    assert known["C"].remark == "ebv = -1 in mine.csv is no E(B-V)"


# ---- the folder and the file


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


# ---- to the end


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
