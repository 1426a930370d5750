"""Survey files that people write: defaults, paths, what is refused and how it is said."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from galprote.model.errors import ConfigError
from galprote.model.extinction import EXTINCTION_LAWS
from galprote.pipeline.config import GalaxyConfig, find_cube, read_survey
from galprote.pipeline.mock import MockConfig


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


# ---- laws of the defaults

PARTS: dict[str, st.SearchStrategy[Any]] = {
    "redshift": st.floats(0, 0.4),
    "cube": st.sampled_from(["one.fits", "two.fits"]),
    "masks": st.fixed_dictionaries(
        {},
        optional={
            "files": st.sampled_from([["mask.fits"], ["mask.fits[2]", "other.fits"]]),
            "stars": st.sampled_from([{"catalogue": "a.csv"}, {"catalogue": "b.csv", "radius_arcsec": 2.0}]),
            "observed": st.sampled_from([[], [[5570.0, 5585.0]]]),
        },
    ),
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


MASKS = {
    "files": ["masks/{name}.fits[BAD]", "/far/other.fits"],
    "stars": {"catalogue": "gaia_{name}.csv"},
    "regions": ["{name}.reg"],
    "trust": {"store": "../first/{name}.zarr"},
    "spec_masks": ["specMask_{name}"],
}


def test_relative_paths_start_at_the_yaml_and_name_is_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    raw = a_survey(cube="../cubes/{name}_{name}.fits", masks=MASKS)
    write(tmp_path / "here", raw | {"model": {"checkpoint": "w.safetensors"}})
    survey = read_survey("../here/survey.yaml")
    (galaxy,) = survey.galaxies
    here = tmp_path / "here"
    assert survey.output == here / "maps"
    assert Path(str(galaxy.cube)).resolve() == tmp_path / "cubes" / "NGC1_NGC1.fits"
    assert galaxy.masks.files == (str(here / "masks" / "NGC1.fits[BAD]"), "/far/other.fits")
    assert galaxy.masks.stars is not None
    assert galaxy.masks.stars.catalogue == str(here / "gaia_NGC1.csv")
    assert galaxy.masks.regions == (str(here / "NGC1.reg"),)
    assert galaxy.masks.trust is not None
    assert galaxy.masks.trust.store == str(tmp_path / "first" / "NGC1.zarr")
    assert galaxy.masks.spec_masks == (str(here / "specMask_NGC1"),)
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
        (
            {"redshift": 2406.0},
            "galaxies[0].redshift = 2406.0: input should be less than or equal to 0.5; write its "
            "barycentric redshift (z, not a velocity)",
        ),
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
        ({"defaults": {"snr": 3}}, "defaults.snr: unknown key; did you mean snr_min?"),
        ({"defaults": {"bining": {}}}, "defaults.bining: unknown key; did you mean binning?"),
        ({"defaults": {"binning": {"methd": 1}}}, "defaults.binning.methd: unknown key; did you mean method?"),
        ({"defaults": {"binning": {"method": "powerbn"}}}, "; did you mean powerbin?"),
        ({"bining": {}}, "bining: unknown key; did you mean binning, of a galaxy or of defaults?"),
        ({"snr_min": 3}, "snr_min: unknown key here: snr_min belongs to a galaxy or to defaults"),
        ({"default": {}}, "default: unknown key; did you mean defaults?"),
        ({"clustr": {}}, "clustr: unknown key; did you mean cluster?"),
        ({"cluster": {"type": "slrm"}}, "; did you mean slurm?"),
        ({"model": {"precision": "int4"}}, "; did you mean int8?"),
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
        ("", "expected a mapping with `output` and `galaxies`, found nothing"),
        ("- NGC1\n", "expected a mapping with `output` and `galaxies`, found a list"),
        ("2020-01-01\n", "expected a mapping with `output` and `galaxies`, found a date"),
        ("output: maps\ngalaxies: []\n", "galaxies: an empty list; expected at least one galaxy"),
        ("output: maps\ngalaxies:\n", "galaxies: expected a list, found nothing"),
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
