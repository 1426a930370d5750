"""The shipped surveys are right, and surveys are merged, resolved and refused as documented."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import astropy.units as u
import numpy as np
import pytest
import yaml
from astropy.coordinates import LSRK, SkyCoord
from pydantic import BaseModel

from galprote.pipeline.cluster_config import LocalCluster
from galprote.pipeline.config import GalaxyConfig, SurveyConfig, read_survey
from galprote.pipeline.mock import MockConfig

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHIPPED = sorted(CONFIGS.glob("*.yaml"))
SPEED_OF_LIGHT_KMS = 299_792.458


class Row(NamedTuple):
    """A galaxy in the PHANGS sample table (v1p6), and its optical velocity in another catalogue."""

    v_lsr_kms: float
    ra_deg: float
    dec_deg: float
    ebv: float
    optical_kms: float  # heliocentric c z of the 50 Mpc Galaxy Catalog (Ohlson et al. 2024, AJ 167, 31)


# 50MGC has 921 km/s for NGC3351, 140 more than all others: left out.
TABLE = {
    "IC5332": Row(699, 353.61, -36.10, 0.0144, 701.0),
    "NGC0628": Row(651, 24.17, 15.78, 0.0607, 657.0),
    "NGC1087": Row(1502, 41.60, -0.50, 0.0298, 1523.5),
    "NGC1300": Row(1545, 49.92, -19.41, 0.0261, 1578.2),
    "NGC1365": Row(1613, 53.40, -36.14, 0.0176, 1638.3),
    "NGC1385": Row(1477, 54.37, -24.50, 0.0173, 1497.1),
    "NGC1433": Row(1057, 55.51, -47.22, 0.0078, 1075.5),
    "NGC1512": Row(871, 60.98, -43.35, 0.0091, 897.7),
    "NGC1566": Row(1483, 65.00, -54.94, 0.0079, 1501.9),
    "NGC1672": Row(1318, 71.43, -59.25, 0.0201, 1338.8),
    "NGC2835": Row(867, 139.47, -22.35, 0.0859, 885.0),
    "NGC3351": Row(775, 160.99, 11.70, 0.0239, np.nan),
    "NGC3627": Row(715, 170.06, 12.99, 0.0287, 716.0),
    "NGC4254": Row(2388, 184.71, 14.42, 0.0334, 2407.0),
    "NGC4303": Row(1560, 185.48, 4.47, 0.0193, 1566.0),
    "NGC4321": Row(1572, 185.73, 15.82, 0.0228, 1574.0),
    "NGC4535": Row(1954, 188.58, 8.20, 0.0168, 1962.1),
    "NGC5068": Row(667, 199.73, -21.04, 0.0896, 668.0),
    "NGC7496": Row(1639, 347.45, -43.43, 0.0084, 1650.3),
}


def barycentric_kms(row: Row) -> float:
    """Radial velocity with respect to the barycentre, in the convention that v_LSR has."""
    at_rest = SkyCoord(
        row.ra_deg * u.deg,
        row.dec_deg * u.deg,
        distance=10 * u.Mpc,
        pm_ra_cosdec=0 * u.mas / u.yr,
        pm_dec=0 * u.mas / u.yr,
        radial_velocity=0 * u.km / u.s,
    )
    return row.v_lsr_kms - float(at_rest.transform_to(LSRK()).radial_velocity.to_value("km/s"))


def radio_to_redshift(v_kms: float) -> float:
    """The radio convention is v = c (1 - nu / nu_0), hence 1 + z = 1 / (1 - v / c)."""
    beta = v_kms / SPEED_OF_LIGHT_KMS
    return beta / (1 - beta)


def write(folder: Path, survey: dict[str, Any] | str) -> Path:
    path = folder / "survey.yaml"
    path.write_text(survey if isinstance(survey, str) else yaml.safe_dump(survey))
    return path


def a_survey(**changes: Any) -> dict[str, Any]:
    """The least that is valid, with changes to its only galaxy; None takes a key away."""
    galaxy = {"name": "NGC1", "cube": "a.fits", "redshift": 0.01, "foreground": {"ebv": 0.1}} | changes
    return {
        "output": "maps",
        "galaxies": [{key: value for key, value in galaxy.items() if value is not None}],
    }


# ---- the shipped surveys


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_surveys_are_valid_and_stay_out_of_the_sources(path: Path) -> None:
    survey = read_survey(path)
    assert len({galaxy.name for galaxy in survey.galaxies}) == len(survey.galaxies)
    assert survey.output.is_absolute()
    for galaxy in survey.galaxies:
        assert galaxy.foreground.source, f"{galaxy.name}: E(B-V) of unknown origin"
        assert galaxy.mock or Path(str(galaxy.cube)).is_absolute()
    if path.name != "survey.yaml":  # a template, to be copied
        assert survey.output.resolve() == CONFIGS.parent / "output" / path.stem  # which git ignores


def test_shipped_surveys_are_the_seven() -> None:
    names = ["a478", "califa", "demo", "manga", "mauve", "phangs", "survey"]
    assert [path.stem for path in SHIPPED] == names


def test_phangs_has_the_19_galaxies_with_their_foreground_dust() -> None:
    galaxies = {galaxy.name: galaxy for galaxy in read_survey(CONFIGS / "phangs.yaml").galaxies}
    assert galaxies.keys() == TABLE.keys()
    assert len(galaxies) == 19
    for name, galaxy in galaxies.items():
        assert galaxy.foreground.ebv == TABLE[name].ebv
        assert (galaxy.foreground.law, galaxy.foreground.r_v, galaxy.foreground.source) == ("O94", 3.1, "SF11")
        assert Path(str(galaxy.cube)).name == f"{name}_PHANGS_DATACUBE_native.fits"


def test_phangs_redshifts_follow_from_the_velocities_beside_them() -> None:
    text = (CONFIGS / "phangs.yaml").read_text()
    beside = dict(re.findall(r"name: (\w+),.*# v_LSR +(\d+)$", text, flags=re.MULTILINE))
    assert {name: float(v) for name, v in beside.items()} == {n: row.v_lsr_kms for n, row in TABLE.items()}
    for galaxy in read_survey(CONFIGS / "phangs.yaml").galaxies:
        expected = radio_to_redshift(barycentric_kms(TABLE[galaxy.name]))
        if galaxy.name == "NGC4254":  # measured, 3 km/s more
            assert galaxy.redshift == 0.008026
            assert abs(galaxy.redshift - expected) * SPEED_OF_LIGHT_KMS < 5
        else:
            assert galaxy.redshift == pytest.approx(expected, abs=1e-6)  # 0.3 km/s: the last digit


def test_the_lsr_of_the_comment_is_astropys() -> None:
    apex = SkyCoord("18h", "30d", frame="fk4", equinox="B1900").icrs
    for row in TABLE.values():
        towards = SkyCoord(row.ra_deg, row.dec_deg, unit="deg").separation(apex)
        assert barycentric_kms(row) == pytest.approx(row.v_lsr_kms - 20 * np.cos(towards.rad), abs=0.05)


def test_sample_table_velocities_are_lsr_and_of_the_radio_convention() -> None:
    rows = [row for row in TABLE.values() if np.isfinite(row.optical_kms)]
    optical = np.array([row.optical_kms for row in rows])
    bary = np.array([barycentric_kms(row) for row in rows])
    radio = SPEED_OF_LIGHT_KMS * np.array([radio_to_redshift(v) for v in bary])
    rms = {
        "radio": np.sqrt(np.mean((optical - radio) ** 2)),
        "optical": np.sqrt(np.mean((optical - bary) ** 2)),
        "as it is": np.sqrt(np.mean([(row.optical_kms - row.v_lsr_kms) ** 2 for row in rows])),
    }
    assert rms == pytest.approx({"radio": 3.7, "optical": 8.9, "as it is": 17.3}, abs=0.1)
    # The excess over the optical convention is proportional to v^2 / c with factor one: that *is* the convention.
    second_order = bary**2 / SPEED_OF_LIGHT_KMS
    factor = np.sum(second_order * (optical - bary)) / np.sum(second_order**2)
    assert factor == pytest.approx(1, abs=0.15)


def test_demo_analyses_the_mock_with_its_own_redshift_and_dust() -> None:
    (galaxy,) = read_survey(CONFIGS / "demo.yaml").galaxies
    assert galaxy.mock is not None
    assert galaxy.mock.shape == (100, 100)
    assert (galaxy.redshift, galaxy.foreground.ebv) == (galaxy.mock.redshift, galaxy.mock.ebv)
    assert (galaxy.foreground.law, galaxy.foreground.r_v) == ("O94", 3.1)  # those that mocks are made with
    assert galaxy.products.residual


def test_a478_reads_the_cube_that_make_fetches() -> None:
    spaxels, bins = read_survey(CONFIGS / "a478.yaml").galaxies
    fetched = re.search(r"^MINICUBE := (\S+)$", (CONFIGS.parent / "Makefile").read_text(), flags=re.MULTILINE)
    assert fetched
    for galaxy in (spaxels, bins):
        assert Path(str(galaxy.cube)).resolve() == CONFIGS.parent / fetched[1]
        assert galaxy.redshift == 0.0863
    assert (spaxels.binning.on, bins.binning.target_snr) == (False, 25)


# ---- the template


def uncommented(text: str) -> str:
    """The template with all its `#key: value` lines switched on."""
    return re.sub(r"^( *)#((?:- )?[A-Za-z_]+:(?: .*)?)$", r"\1\2", text, flags=re.MULTILINE)


def test_template_defaults_are_those_of_the_models(tmp_path: Path) -> None:
    text = (CONFIGS / "survey.yaml").read_text()
    survey = read_survey(write(tmp_path, text))
    full = read_survey(write(tmp_path, uncommented(text)))
    assert full.model_copy(update={"galaxies": full.galaxies[:2]}) == survey
    mock = full.galaxies[2]
    assert mock.mock == MockConfig()
    assert (mock.redshift, mock.foreground.ebv) == (mock.mock.redshift, mock.mock.ebv)


def sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Every model that a survey consists of, by its key."""
    found: dict[str, type[BaseModel]] = {}
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= {name: kind} | sections(kind)
    return found


def test_template_shows_every_key() -> None:
    raw = yaml.safe_load(uncommented((CONFIGS / "survey.yaml").read_text()))
    assert raw.keys() == SurveyConfig.model_fields.keys() | {"defaults"}
    places = [raw["defaults"], *raw["galaxies"]]
    assert set().union(*places) == set(GalaxyConfig.model_fields)
    models = sections(SurveyConfig)
    known = {"mock", "foreground", "line_filter", "masks", "stars", "products", "chunks", "model", "cluster"}
    assert known < models.keys()
    models["cluster"] = LocalCluster  # the other back-ends are in docs/hpc.md
    text = (CONFIGS / "survey.yaml").read_text()
    for name in ("stars", "trust"):  # whose default is null: shown beside it
        shown = re.search(rf"#{name}: null +# \{{(.+?)\}}: ", text)
        assert shown
        assert set(re.findall(r"(\w+): ", shown[1])) == set(models[name].model_fields), name
    for name in models.keys() - {"galaxies", "gpu", "cpu", "stars", "trust"}:
        shown = set().union(*(place[name] for place in (raw, *places) if name in place))
        assert shown == set(models[name].model_fields), name


def test_template_explains_every_setting() -> None:
    """Where it occurs first."""
    explained = {"defaults", "galaxies", "chunks", "model", "cluster"}
    for line in uncommented((CONFIGS / "survey.yaml").read_text()).splitlines():
        setting = re.match(r" *(?:- )?([A-Za-z_]+):(?: |$)", line)
        if setting and setting[1] not in explained:
            assert " # " in line, line
            explained.add(setting[1])
