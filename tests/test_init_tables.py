"""`galprote-pipeline init`: bundled tables and one's own, and which of their values are used."""

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from galprote.pipeline.config import read_survey
from galprote.workflows.galaxy_table import BUNDLED, bundled_table, canonical_name, identity, read_table
from tests.init_cubes import PHANGS, Capture, init, make_cube
from tests.surveys import call
from tests.test_configs import CONFIGS, SPEED_OF_LIGHT_KMS

# --- bundled tables ---


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


# --- one's own table ---


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
        (
            "# A page\n\nWords, and `code`: more words.\n\n- a list\n",
            "plain text with a line of column names); expected columns",
        ),
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
    assert "reader_cls" not in error
    assert not (tmp_path / "survey.yaml").exists()


def test_a_damaged_table(capsys: Capture, tmp_path: Path) -> None:
    make_cube(tmp_path / "a.fits")
    Table({"name": ["A"], "z": [0.01]}).write(tmp_path / "mine.fits")
    whole = (tmp_path / "mine.fits").read_bytes()
    (tmp_path / "mine.fits").write_bytes(whole[:3000])
    code, _, error = call(capsys, "init", tmp_path, "--table", tmp_path / "mine.fits")
    assert code == 2
    assert "mine.fits: cannot be read as a table (FITS, " in error
    (tmp_path / "mine.fits").rename(tmp_path / "drpall-v3_1_1.fits")
    output, galaxies = init(capsys, tmp_path)
    assert galaxies.keys() == {"P01"}
    assert "left out 'drpall-v3_1_1.fits': cannot be read as a table" in output


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
