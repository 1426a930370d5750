"""`survey.yaml` -> a frozen, validated SurveyConfig. The only reader of survey YAML.

A survey has `defaults` and a list of `galaxies`; each galaxy is the defaults with its own keys laid over them, section
by section. Relative paths are relative to the YAML. `{name}` in a cube's or mask's path stands for the galaxy's name.
"""

import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import ByteSize, Field, TypeAdapter, ValidationError, model_validator

from galprote.model.errors import ConfigError
from galprote.model.extinction import ExtinctionLaw
from galprote.model.precision import Precision
from galprote.pipeline.binning_config import BinningConfig
from galprote.pipeline.cluster_config import CLUSTER_TYPES, AnyCluster, ClusterConfig, LocalCluster
from galprote.pipeline.instrument_config import InstrumentConfig
from galprote.pipeline.kinematics_config import KinematicsConfig
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.mask_config import MasksConfig, change_paths
from galprote.pipeline.mock_galaxy import MockConfig
from galprote.pipeline.problems import kind_of, problem, unknown_key
from galprote.pipeline.section import Section
from galprote.pipeline.yaml_loader import count_values, read_yaml
from galprote.pipeline.zarr_path import is_store


class ForegroundConfig(Section):
    """Dust of the Milky Way in front of the galaxy, removed at observed wavelengths."""

    ebv: float = Field(ge=0, le=5)
    """E(B-V) in magnitudes (not A_V). There is no default: write 0 if the cube is dereddened already."""
    law: ExtinctionLaw = "O94"
    """O94 (O'Donnell 1994), CCM89 (Cardelli et al. 1989), F99 (Fitzpatrick 1999) or G23 (Gordon et al. 2023)."""
    r_v: float = Field(default=3.1, ge=2.3, le=5.6)
    """Ratio of total to selective extinction."""
    source: str = ""
    """Where the value comes from, for the record; for example `SF11`. It may be filled in or changed later: maps that
    are done are not refused, and keep the record that they were made with."""


class ProductsConfig(Section):
    """What to write for each galaxy besides the Zarr store with the maps."""

    residual: bool = True
    """Residual cube (observed minus model) on the model's rest-frame wavelengths."""
    continuum_subtracted: bool = False
    """Observed minus model on the cube's own channels, for emission-line work, and its error."""
    grid: bool = False
    """The 12 x 53 grid of light fractions of every spaxel: its star-formation history."""
    fits: bool = True
    """The same as FITS files."""
    figure: bool = True
    """A figure of the maps."""


class GalaxyConfig(Section):
    """One galaxy: its cube and how to treat it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=100)
    """Name of the products' files: letters, digits and . _ + -"""
    cube: str | None = Field(default=None, min_length=1)
    """Path of the cube (FITS, or a Zarr store NAME.zarr), or a pattern with * that one matches; {name} stands for the
    galaxy's name."""
    mock: MockConfig | None = None
    """Instead of `cube`: a synthetic galaxy, made in the output folder when the survey is run."""
    redshift: float = Field(gt=-0.01, le=0.5)
    """Barycentric (not LSR) redshift; the whole galaxy is corrected by this one."""
    foreground: ForegroundConfig
    """Dust of the Milky Way."""
    masks: MasksConfig = MasksConfig()
    """Spaxels and wavelengths to leave out."""
    binning: BinningConfig = BinningConfig()
    """Spaxels that are added up before they are fitted."""
    kinematics: KinematicsConfig = KinematicsConfig()
    """How the stars move beyond the galaxy's redshift."""
    snr_min: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """Spaxels whose median signal-to-noise ratio per 2.48 A sample is lower are not fitted."""
    max_filled: float = Field(default=0.15, ge=0, le=0.5)
    """Spaxels with a larger share of samples missing are not fitted."""
    flux_calibration_error: float = Field(default=0.01, ge=0, le=0.03)
    """Expected scatter of a smooth error of the cube's flux calibration along the spectrum, relative; 0: perfect."""
    template_error: float = Field(default=0.01, ge=0, le=0.01)
    """Expected difference of the stars' spectra from the templates, relative: the errors allow for it. 0 for synthetic
    cubes made of the weights' own templates."""
    pixel_scale_arcsec: float | None = Field(default=None, gt=0, le=60)
    """Side of a spaxel, for surface densities; null: from the cube's WCS."""
    instrument: InstrumentConfig = InstrumentConfig()
    """Its line spread function; all null: from the cube, or from what is known of its format."""
    line_filter: LineFilterConfig = LineFilterConfig()
    """The running median that removes bright lines and sky residuals."""
    products: ProductsConfig = ProductsConfig()
    """What to write."""

    @model_validator(mode="after")
    def _one_input(self) -> "GalaxyConfig":
        if (self.cube is None) == (self.mock is None):
            raise ValueError("give either cube or mock")
        return self


class ChunkConfig(Section):
    """How the work is cut and what it may take."""

    memory: ByteSize | None = None
    """Memory for all processes of a run on this machine together, such as 4GiB; a plan that needs more is refused.
    null: 4 GiB, or on a larger machine 1.75 GiB a core (5 GiB a GPU) up to half of its memory."""
    rows: int | None = Field(default=None, ge=1)
    """Image rows in a chunk; null: as many as the memory allows, up to 16."""
    attempts: int = Field(default=3, ge=1, le=100)
    """How often a chunk is tried, on another worker where there is one, before its spaxels are flagged and the rest of
    the galaxy is finished without it."""
    deaths: int = Field(default=3, ge=1, le=1000)
    """How many workers may die while they work on a chunk before it is given up; the last time it is tried alone."""


class ModelSection(Section):
    """Which weights to use, and where they run."""

    checkpoint: Path | None = None
    """A checkpoint from `galprote-pipeline train`; null: the one that is shipped."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: an NVIDIA GPU where there is one."""
    precision: Precision = "float32"
    """Of the network's largest layers: int8 is faster on processors with VNNI or AMX, bfloat16 on GPUs and AMX; log
    ages, metallicities and A_V move by 0.001 in the median, and one in a thousand by 0.03."""


class SurveyConfig(Section):
    """A survey: what `galprote-pipeline run` reads."""

    output: Path
    """Folder for the products."""
    galaxies: tuple[GalaxyConfig, ...] = Field(min_length=1)
    """The galaxies; each is laid over `defaults`."""
    report: bool = True
    """HTML pages to look at, in the folder `report` of the output."""
    chunks: ChunkConfig = ChunkConfig()
    """Memory and chunks."""
    model: ModelSection = ModelSection()
    """Weights and device."""
    cluster: ClusterConfig = LocalCluster()
    """Where the work is done."""

    @model_validator(mode="after")
    def _unique(self) -> "SurveyConfig":
        names = [galaxy.name.lower() for galaxy in self.galaxies]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"galaxy names must differ (also on file systems that ignore case): {', '.join(twice)}")
        return self


#: Problems that are told, and values in `defaults`: what is beyond is no survey that somebody wrote.
MAX_PROBLEMS: Final = 100
MAX_DEFAULTS: Final = 1000
#: What file systems take, in bytes.
LONGEST_NAME: Final = 255
LONGEST_PATH: Final = 3000


def read_survey(path: str | Path) -> SurveyConfig:
    """Read and validate a survey.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    SurveyConfig
        With absolute paths.

    Raises
    ------
    ConfigError
        Every problem on a line of its own: file, key, what was found and what was expected.
    """
    path = Path(path)
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping with `output` and `galaxies`, found {kind_of(raw)}")
    try:
        survey = SurveyConfig.model_validate(_with_defaults(path, raw))
    except ValidationError as error:
        # When a galaxy is wrong, pydantic adds that there are too few.
        items = [item for item in error.errors() if item["type"] != "too_short" or not raw.get("galaxies")]
        lines = list(dict.fromkeys(problem(path, raw, item) for item in items[:MAX_PROBLEMS]))
        more = [f"{path}: and {len(items) - MAX_PROBLEMS:,} more"] if len(items) > MAX_PROBLEMS else []
        raise ConfigError("\n".join(lines + more)) from error
    try:
        return _absolute(survey, path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _with_defaults(path: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """Lay every galaxy over the defaults, before validation."""
    raw = dict(raw)
    defaults = raw.pop("defaults", None)
    defaults = {} if defaults is None else defaults
    if not isinstance(defaults, dict):
        raise ConfigError(f"{path}: defaults: expected a mapping, found {defaults!r:.60}")
    known = [field for field in GalaxyConfig.model_fields if field != "name"]
    unknown = [key for key in defaults if key not in known]
    if unknown:
        raise ConfigError("\n".join(unknown_key(path, ("defaults", key)) for key in unknown))
    if count_values(defaults) > MAX_DEFAULTS:
        raise ConfigError(f"{path}: defaults: more than {MAX_DEFAULTS:,} values, which every galaxy would get")
    if isinstance(raw.get("cluster"), dict):
        raw["cluster"] = {"type": "local"} | raw["cluster"]
    galaxies = raw.get("galaxies")
    if isinstance(galaxies, list):
        raw["galaxies"] = [_merge(defaults, galaxy) if isinstance(galaxy, dict) else galaxy for galaxy in galaxies]
    return raw


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `under`, mappings merged key by key. A galaxy's own cube replaces a default mock, and so on."""
    merged = dict(under)
    for one, other in (("cube", "mock"), ("mock", "cube")):
        if one in over and other not in over:
            merged.pop(other, None)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _absolute(survey: SurveyConfig, folder: Path) -> SurveyConfig:
    """Make all paths absolute, relative to the YAML's folder."""

    def place(text: str | Path | None) -> Path | None:
        return None if text is None else Path(os.path.normpath(folder / _home(text)))

    def place_pattern(text: str) -> str:
        """Only the text is a pattern; a * or [ in the name of the survey's folder is not."""
        literal = Path(os.path.normpath(folder / _home(text)))
        if literal.is_file() or is_store(literal) or not glob.has_magic(text):
            return str(literal)
        return str(Path(glob.escape(str(folder))) / _home(text))

    def place_named(name: str) -> Callable[[str], str]:
        return lambda text: str(place(text.replace("{name}", name)))

    galaxies = tuple(
        galaxy.model_copy(
            update={
                "cube": place_pattern(galaxy.cube.replace("{name}", galaxy.name)) if galaxy.cube else None,
                "masks": change_paths(galaxy.masks, place_named(galaxy.name)),
                "binning": _placed(galaxy.binning, "file", place_named(galaxy.name)),
                "kinematics": _placed(galaxy.kinematics, "map", place_named(galaxy.name)),
            }
        )
        for galaxy in survey.galaxies
    )
    model = survey.model.model_copy(update={"checkpoint": place(survey.model.checkpoint)})
    update = {"output": place(survey.output), "galaxies": galaxies, "model": model}
    return survey.model_copy(update=update | {"cluster": _absolute_cluster(survey.cluster, folder)})


AnySection = TypeVar("AnySection", bound=Section)


def _placed(section: AnySection, key: str, place: Callable[[str], str]) -> AnySection:
    """The same section with the path of a key made absolute."""
    given = getattr(section, key)
    return section if given is None else section.model_copy(update={key: place(given)})


def _absolute_cluster(cluster: AnyCluster, folder: Path) -> AnyCluster:
    """Make its paths absolute, but for those on the nodes."""
    files = ("scheduler_file", "tls_ca", "tls_cert", "tls_key")
    given = {name: _home(value) for name in files if (value := getattr(cluster, name, None)) is not None}
    return cluster.model_copy(update={name: Path(os.path.normpath(folder / path)) for name, path in given.items()})


def choose_cluster(choice: str) -> AnyCluster:
    """Make the `cluster` section that `--cluster` names.

    Parameters
    ----------
    choice : str
        A back-end that needs no settings (`local`, `local-cuda`), the address of a scheduler (`tcp://...`, `tls://...`),
        or a YAML file that holds the keys of a `cluster` section.

    Raises
    ------
    ConfigError
        If it is none of them, or the file is wrong.
    """
    if "://" in choice:
        raw: Any = {"type": "existing", "address": choice}
    elif choice in CLUSTER_TYPES:
        raw = {"type": choice}
    elif Path(choice).is_file():
        raw = read_yaml(Path(choice))
    else:
        raise ConfigError(
            f"--cluster {choice}: no such file, and neither local, local-cuda nor an address such as tcp://10.0.0.1:8786"
        )
    path = Path(choice)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected the keys of a section `cluster`, found {kind_of(raw)}")
    if isinstance(raw.get("cluster"), dict) and len(raw) == 1:
        raw = raw["cluster"]
    try:
        cluster: AnyCluster = TypeAdapter(ClusterConfig).validate_python(raw)
    except ValidationError as error:
        items = [item | {"loc": ("cluster", *item["loc"])} for item in error.errors()]
        lines = dict.fromkeys(problem(path, {"cluster": raw, "galaxies": []}, item) for item in items)
        if choice in CLUSTER_TYPES:
            lines["write the section into the survey's YAML or a file: profiles are in docs/hpc.md"] = None
        raise ConfigError("\n".join(lines)) from error
    return _absolute_cluster(cluster, path.resolve().parent)


def _home(text: str | Path) -> Path:
    """Expand ~, and refuse what no file system takes."""
    if any(len(part.encode()) > LONGEST_NAME for part in Path(text).parts) or len(str(text)) > LONGEST_PATH:
        raise ConfigError(f"{str(text)[:60]}...: a path with a name of more than {LONGEST_NAME} bytes, or too long")
    try:
        return Path(text).expanduser() if str(text).startswith("~") else Path(text)
    except RuntimeError as error:
        raise ConfigError(f"{text}: no such user's folder; a name that begins with ~ is written ./~name") from error


def find_cube(galaxy: GalaxyConfig) -> Path:
    """Find the one file that a galaxy's `cube` names.

    Raises
    ------
    ConfigError
        If no file or more than one matches.
    """
    pattern = str(galaxy.cube)
    if Path(pattern).is_file() or is_store(pattern):
        return Path(pattern)
    matching = sorted(glob.glob(pattern))
    found = [path for path in matching if is_store(path) or not Path(path).is_dir()]
    if not found:
        hint = f" ({matching[0]} is a folder; name one FITS file, or a Zarr store: NAME.zarr)" if matching else ""
        raise ConfigError(f"{galaxy.name}: no such cube: {pattern}{hint}")
    if len(found) > 1:
        raise ConfigError(f"{galaxy.name}: {len(found)} files match {pattern} ({found[0]}, {found[1]}, ...); name one")
    return Path(found[0])
