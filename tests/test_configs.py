"""The shipped surveys are right, and surveys are merged, resolved and refused as documented."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import astropy.units as u
import numpy as np
import pytest
import yaml
from astropy.coordinates import LSRK, SkyCoord
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from galprote.model.errors import ConfigError
from galprote.model.extinction import EXTINCTION_LAWS
from galprote.pipeline.cluster_config import LocalCluster
from galprote.pipeline.config import GalaxyConfig, SurveyConfig, find_cube, read_survey
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


def test_shipped_surveys_are_the_four() -> None:
    assert [path.name for path in SHIPPED] == ["a478.yaml", "demo.yaml", "phangs.yaml", "survey.yaml"]


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
    (galaxy,) = read_survey(CONFIGS / "a478.yaml").galaxies
    fetched = re.search(r"^MINICUBE := (\S+)$", (CONFIGS.parent / "Makefile").read_text(), flags=re.MULTILINE)
    assert fetched
    assert Path(str(galaxy.cube)).resolve() == CONFIGS.parent / fetched[1]
    assert galaxy.redshift == 0.0863


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
    assert {"mock", "foreground", "line_filter", "products", "chunks", "model", "cluster"} < models.keys()
    models["cluster"] = LocalCluster  # the other back-ends are in docs/hpc.md
    for name in models.keys() - {"galaxies", "gpu", "cpu"}:
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


# ---- laws of the defaults

PARTS: dict[str, st.SearchStrategy[Any]] = {
    "redshift": st.floats(0, 0.4),
    "cube": st.sampled_from(["one.fits", "two.fits"]),
    "mask": st.sampled_from(["mask.fits", "mask.fits[2]"]),
    "snr_min": st.floats(0, 50),
    "max_filled": st.floats(0, 0.5),
    "flux_calibration_error": st.floats(0, 0.03),
    "foreground": st.fixed_dictionaries(
        {},
        optional={
            "ebv": st.floats(0, 2),
            "law": st.sampled_from(EXTINCTION_LAWS),
            "r_v": st.floats(2.5, 5.5),
            "source": st.sampled_from(["SF11", "SFD98"]),
        },
    ),
    "line_filter": st.fixed_dictionaries(
        {}, optional={"window": st.sampled_from([11, 21, 41]), "threshold": st.floats(1, 9)}
    ),
    "products": st.fixed_dictionaries({}, optional={"residual": st.booleans(), "grid": st.booleans()}),
}
PARTIAL = st.fixed_dictionaries({}, optional=PARTS)
REQUIRED: dict[str, Any] = {"redshift": 0.01, "cube": "a.fits", "foreground": {"ebv": 0.1}}


def leaves(value: dict[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, below in value.items():
        found |= leaves(below, (*above, key)) if isinstance(below, dict) else {(*above, key): below}
    return found


def nested(values: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        section = tree
        for key in path[:-1]:
            section = section.setdefault(key, {})
        section[path[-1]] = value
    return tree


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("surveys")


def resolved(folder: Path, galaxy: dict[str, Any], **survey: Any) -> GalaxyConfig:
    raw = {"output": "maps", "galaxies": [{"name": "NGC1"} | galaxy], **survey}
    return read_survey(write(folder, raw)).galaxies[0]


@given(defaults=PARTIAL, own=PARTIAL)
def test_own_value_wins_then_the_defaults_then_the_models(
    folder: Path, defaults: dict[str, Any], own: dict[str, Any]
) -> None:
    """Leaf by leaf: a section that a galaxy gives in part keeps the rest of the defaults."""
    expected = leaves(REQUIRED) | leaves(defaults) | leaves(own)
    below = nested(leaves(REQUIRED) | leaves(defaults))
    assert resolved(folder, own, defaults=below) == resolved(folder, nested(expected))


@given(own=PARTIAL)
@pytest.mark.parametrize("empty", [{}, None])
def test_empty_defaults_change_nothing(folder: Path, empty: object, own: dict[str, Any]) -> None:
    galaxy = nested(leaves(REQUIRED) | leaves(own))
    assert resolved(folder, galaxy, defaults=empty) == resolved(folder, galaxy)


@given(defaults=PARTIAL)
def test_a_galaxy_that_repeats_the_defaults_is_the_defaults(folder: Path, defaults: dict[str, Any]) -> None:
    defaults = nested(leaves(REQUIRED) | leaves(defaults))
    assert resolved(folder, defaults, defaults=defaults) == resolved(folder, {}, defaults=defaults)


def test_own_cube_replaces_a_default_mock_and_the_reverse(tmp_path: Path) -> None:
    rest = {"redshift": 0.01, "foreground": {"ebv": 0.03}}
    own_cube = resolved(tmp_path, {"cube": "a.fits"}, defaults=rest | {"mock": {"seed": 3}})
    assert own_cube.mock is None
    assert own_cube.cube == str(tmp_path / "a.fits")
    own_mock = resolved(tmp_path, {"mock": {"seed": 3}}, defaults=rest | {"cube": "a.fits"})
    assert own_mock.cube is None
    assert own_mock.mock == MockConfig(seed=3)


# ---- paths


def test_relative_paths_start_at_the_yaml_and_name_is_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    raw = a_survey(cube="../cubes/{name}_{name}.fits", mask="masks/{name}.fits[BAD]")
    write(tmp_path / "here", raw | {"model": {"checkpoint": "w.safetensors"}})
    survey = read_survey("../here/survey.yaml")
    (galaxy,) = survey.galaxies
    here = tmp_path / "here"
    assert survey.output == here / "maps"
    assert Path(str(galaxy.cube)).resolve() == tmp_path / "cubes" / "NGC1_NGC1.fits"
    assert galaxy.mask == str(here / "masks" / "NGC1.fits[BAD]")
    assert survey.model.checkpoint == here / "w.safetensors"


def test_absolute_and_home_paths_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    raw = a_survey(cube="~/cubes/{name}.fits") | {"output": "/somewhere/maps"}
    survey = read_survey(write(tmp_path, raw))
    assert survey.output == Path("/somewhere/maps")
    assert survey.galaxies[0].cube == str(tmp_path / "home" / "cubes" / "NGC1.fits")


def test_a_pattern_must_match_one_cube(tmp_path: Path) -> None:
    galaxy = resolved(tmp_path, REQUIRED | {"cube": "{name}_copt_*.fits"})
    with pytest.raises(ConfigError, match=rf"NGC1: no such cube: {tmp_path}/NGC1_copt_\*\.fits"):
        find_cube(galaxy)
    only = tmp_path / "NGC1_copt_0.92asec.fits"
    only.touch()
    assert find_cube(galaxy) == only
    (tmp_path / "NGC1_copt_1.05asec.fits").touch()
    with pytest.raises(ConfigError, match=r"NGC1: 2 files match .*0\.92asec\.fits.*1\.05asec\.fits.*name one"):
        find_cube(galaxy)


def test_a_cube_whose_name_looks_like_a_pattern_is_found(tmp_path: Path) -> None:
    cube = tmp_path / "NGC1_[final]*.fits"
    cube.touch()
    assert find_cube(resolved(tmp_path, REQUIRED | {"cube": cube.name})) == cube


def test_a_missing_cube_is_named_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"NGC1: no such cube: {tmp_path / 'a.fits'}"):
        find_cube(resolved(tmp_path, REQUIRED))


# ---- what is refused, and how it is said


def refusal(folder: Path, survey: dict[str, Any] | str) -> str:
    path = write(folder, survey)
    with pytest.raises(ConfigError) as caught:
        read_survey(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).replace(f"{path}: ", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"redshif": 0.01}, "galaxies[0].redshif: unknown key"),
        ({"foreground": {"evb": 0.1, "ebv": 0.1}}, "galaxies[0].foreground.evb: unknown key"),
        ({"mock": {"sneed": 1}, "cube": None}, "galaxies[0].mock.sneed: unknown key"),
        ({"foreground": {"law": "O94"}}, "galaxies[0].foreground.ebv: missing; it has no default"),
        ({"foreground": None}, "galaxies[0].foreground: missing; it has no default"),
        ({"redshift": None}, "galaxies[0].redshift: missing; it has no default"),
        ({"redshift": -0.2}, "galaxies[0].redshift = -0.2: input should be greater than -0.01"),
        ({"redshift": 2406.0}, "galaxies[0].redshift = 2406.0: input should be less than or equal to 0.5"),
        ({"redshift": float("nan")}, "galaxies[0].redshift = nan: "),
        ({"foreground": {"ebv": -0.1}}, "galaxies[0].foreground.ebv = -0.1: input should be greater than"),
        ({"foreground": {"ebv": 0.1, "law": "CCM98"}}, "galaxies[0].foreground.law = 'CCM98': input should be 'O94'"),
        ({"line_filter": {"window": 30}}, "galaxies[0].line_filter.window = 30: must be odd"),
        ({"name": "../NGC1"}, "galaxies[0].name = '../NGC1': string should match pattern"),
        ({"name": "a/b"}, "galaxies[0].name = 'a/b': string should match pattern"),
        ({"name": ".hidden"}, "galaxies[0].name = '.hidden': string should match pattern"),
        ({"name": "NGC 1"}, "galaxies[0].name = 'NGC 1': string should match pattern"),
        ({"name": "NGC1\n"}, "galaxies[0].name = 'NGC1\\n': string should match pattern"),
        ({"mock": {"seed": 1}}, "galaxies[0]: give either cube or mock"),
        ({"cube": None}, "galaxies[0]: give either cube or mock"),
    ],
)
def test_a_wrong_galaxy_is_refused_with_file_key_and_value(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert message in refusal(tmp_path, a_survey(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk": {}}, "chunk: unknown key"),
        ({"chunks": {"memory": "much"}}, "chunks.memory = 'much': "),
        ({"chunks": {"rows": 0}}, "chunks.rows = 0: input should be greater than or equal to 1"),
        ({"model": {"device": "gpu"}}, "model.device = 'gpu': input should be 'auto', 'cpu' or 'cuda'"),
        (
            {"cluster": {"type": "pbs"}},
            "cluster: input tag 'pbs' found using 'type' does not match any of the expected tags",
        ),
        ({"cluster": {"type": "slurm"}}, "cluster.interface: missing; it has no default"),
        ({"cluster": {"type": "slurm", "interface": "ib0"}}, "cluster: give gpu, cpu, or both"),
        ({"cluster": {"type": "existing"}}, "cluster: give either address or scheduler_file"),
        ({"cluster": {"workrs": 2}}, "cluster.workrs: unknown key; did you mean workers?"),
        ({"cluster": {"dashboard": "8787"}}, "cluster.dashboard = '8787': expected host:port"),
        ({"output": None}, "output = None: "),
        ({"defaults": {"name": "NGC1"}}, "defaults.name: unknown key; expected one of cube, mock, "),
        ({"defaults": {"snr": 3}}, "defaults.snr: unknown key; expected one of cube, mock, "),
        ({"defaults": [1]}, "defaults: expected a mapping, found [1]"),
    ],
)
def test_a_wrong_survey_is_refused_with_file_key_and_value(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert message in refusal(tmp_path, a_survey() | changes)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    raw = a_survey(redshift=-1, snr_min=-1) | {"modle": {}}
    message = refusal(tmp_path, raw)
    assert all(key in message for key in ("galaxies[0].redshift", "galaxies[0].snr_min", "modle"))


@pytest.mark.parametrize("other", ["NGC1", "ngc1"])
def test_two_galaxies_of_one_name_are_refused(tmp_path: Path, other: str) -> None:
    raw = a_survey()
    raw["galaxies"] += [raw["galaxies"][0] | {"name": other, "cube": "b.fits"}]
    assert "galaxy names must differ (also on file systems that ignore case): ngc1" in refusal(tmp_path, raw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output: [maps\n", "not valid YAML: while parsing a flow sequence"),
        ("output:\tmaps\n\tgalaxies: 1\n", "not valid YAML: "),
        ("", "expected a mapping with `output` and `galaxies`, found NoneType"),
        ("- NGC1\n", "expected a mapping with `output` and `galaxies`, found list"),
        ("output: maps\n", "galaxies: missing; it has no default"),
    ],
)
def test_what_is_no_survey_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_python_tags_are_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    text = f"output: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{trap}']]\n"
    assert "only plain values" in refusal(tmp_path, text)
    assert not trap.exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file or directory"):
        read_survey(tmp_path / "nowhere.yaml")
    (tmp_path / "latin1.yaml").write_bytes("# é\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin1\.yaml: not valid YAML: "):
        read_survey(tmp_path / "latin1.yaml")


def test_one_mistake_is_one_line(tmp_path: Path) -> None:
    assert "\n" not in refusal(tmp_path, a_survey(redshift=-0.2))


def test_a_mistake_in_the_defaults_is_told_once_and_where_it_is(tmp_path: Path) -> None:
    raw = a_survey(foreground={"ebv": 0.1}) | {"defaults": {"foreground": {"r_w": 3.1}}}
    raw["galaxies"] += [raw["galaxies"][0] | {"name": "NGC2"}]
    assert refusal(tmp_path, raw) == "defaults.foreground.r_w: unknown key; did you mean r_v?"


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    text = yaml.safe_dump(a_survey()) + "output: elsewhere\n"
    assert "'output' is given twice" in refusal(tmp_path, text)


def test_a_folder_whose_name_looks_like_a_pattern_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "run[1]"
    folder.mkdir()
    (folder / "NGC1_copt_1.fits").touch()
    assert find_cube(resolved(folder, REQUIRED | {"cube": "{name}_*.fits"})) == folder / "NGC1_copt_1.fits"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cube": ""}, "galaxies[0].cube = '': string should have at least 1 character"),
        ({"flux_calibration_error": 0.04}, "galaxies[0].flux_calibration_error = 0.04: input should be less than or"),
        ({"flux_calibration_error": -0.01}, "galaxies[0].flux_calibration_error = -0.01: input should be greater"),
        ({"snr_min": float("inf")}, "galaxies[0].snr_min = inf: input should be a finite number"),
        ({"line_filter": 31}, "galaxies[0].line_filter: expected a mapping, found 31"),
    ],
)
def test_values_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert message in refusal(tmp_path, a_survey(**changes))


@pytest.mark.parametrize("defaults", [[], 0, "", {"one": 2, "a": 3}])
def test_defaults_that_are_no_settings_are_refused(tmp_path: Path, defaults: object) -> None:
    assert "defaults" in refusal(tmp_path, a_survey() | {"defaults": defaults})
