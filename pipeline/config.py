"""`survey.yaml` -> a frozen, validated SurveyConfig. The only reader of survey YAML.

A survey has `defaults` and a list of `galaxies`; each galaxy is the defaults with its own keys laid over them, section
by section. Relative paths are relative to the YAML. `{name}` in a cube's path stands for the galaxy's name.
"""

import difflib
import glob
import os
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, ValidationError, model_validator

from galprote.model.errors import ConfigError
from galprote.model.extinction import ExtinctionLaw
from galprote.pipeline.line_filter import LineFilterConfig
from galprote.pipeline.mock import MockConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ForegroundConfig(_Section):
    """Dust of the Milky Way in front of the galaxy, removed at observed wavelengths."""

    ebv: float = Field(ge=0, le=5)
    """E(B-V) in magnitudes (not A_V). There is no default: write 0 if the cube is dereddened already."""
    law: ExtinctionLaw = "O94"
    """O94 (O'Donnell 1994), CCM89 (Cardelli et al. 1989), F99 (Fitzpatrick 1999) or G23 (Gordon et al. 2023)."""
    r_v: float = Field(default=3.1, ge=2.3, le=5.6)
    """Ratio of total to selective extinction."""
    source: str = ""
    """Where the value comes from, for the record; for example `SF11`."""


class ProductsConfig(_Section):
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


class GalaxyConfig(_Section):
    """One galaxy: its cube and how to treat it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=100)
    """Name of the products' files: letters, digits and . _ + -"""
    cube: str | None = Field(default=None, min_length=1)
    """Path of the cube, or a pattern with * that only one file matches; {name} stands for the galaxy's name."""
    mock: MockConfig | None = None
    """Instead of `cube`: a synthetic galaxy, made in the output folder when the survey is run."""
    redshift: float = Field(gt=-0.01, le=0.5)
    """Barycentric (not LSR) redshift; the whole galaxy is corrected by this one."""
    foreground: ForegroundConfig
    """Dust of the Milky Way."""
    mask: str | None = Field(default=None, min_length=1)
    """FITS image whose non-zero spaxels are excluded; `file.fits[EXT]` names an extension."""
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
    line_filter: LineFilterConfig = LineFilterConfig()
    """The running median that removes bright lines and sky residuals."""
    products: ProductsConfig = ProductsConfig()
    """What to write."""

    @model_validator(mode="after")
    def _one_input(self) -> "GalaxyConfig":
        if (self.cube is None) == (self.mock is None):
            raise ValueError("give either cube or mock")
        return self


class ChunkConfig(_Section):
    """How the work is cut and what it may take."""

    memory: ByteSize = ByteSize(4 * 1024**3)
    """Memory for all processes of the run together, such as 4GiB; a plan that needs more is refused."""
    rows: int | None = Field(default=None, ge=1)
    """Image rows in a chunk; null: as many as the memory allows, up to 16."""


class ModelSection(_Section):
    """Which weights to use, and where they run."""

    checkpoint: Path | None = None
    """A checkpoint from `galprote-pipeline train`; null: the one that is shipped."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: an NVIDIA GPU where there is one."""


def _host_and_port(address: str | None) -> str | None:
    if address is not None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("expected host:port, such as 127.0.0.1:8787, or null")
    return address


class LocalCluster(_Section):
    """Worker processes on this machine."""

    type: Literal["local"] = "local"
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Worker processes; null: one for each core, as far as the memory allows; with a GPU, one."""
    dashboard: Annotated[str | None, AfterValidator(_host_and_port)] = "127.0.0.1:8787"
    """Where the Dask dashboard listens; another port is taken when this one is busy. null: no dashboard. Another host
    than 127.0.0.1 shows it, without a password, to everybody who reaches this machine."""


class SurveyConfig(_Section):
    """A survey: what `galprote-pipeline run` reads."""

    output: Path
    """Folder for the products."""
    galaxies: tuple[GalaxyConfig, ...] = Field(min_length=1)
    """The galaxies; each is laid over `defaults`."""
    chunks: ChunkConfig = ChunkConfig()
    """Memory and chunks."""
    model: ModelSection = ModelSection()
    """Weights and device."""
    cluster: LocalCluster = LocalCluster()
    """Where the work is done."""

    @model_validator(mode="after")
    def _unique(self) -> "SurveyConfig":
        names = [galaxy.name.lower() for galaxy in self.galaxies]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"galaxy names must differ (also on file systems that ignore case): {', '.join(twice)}")
        return self


_SECTIONS: tuple[type[BaseModel], ...] = (*_Section.__subclasses__(), LineFilterConfig, MockConfig)
_KEYS = {key for section in _SECTIONS for key in section.model_fields}


class _Loader(yaml.SafeLoader):
    """YAML without Python objects, in which no key may be given twice (PyYAML takes the last one silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


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
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - it is a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: an alias (*name) that contains itself") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping with `output` and `galaxies`, found {type(raw).__name__}")
    try:
        survey = SurveyConfig.model_validate(_with_defaults(path, raw))
    except ValidationError as error:
        # When a galaxy is wrong, pydantic adds that there are too few.
        items = [item for item in error.errors() if item["type"] != "too_short" or not raw["galaxies"]]
        raise ConfigError("\n".join(dict.fromkeys(_problem(path, raw, item) for item in items))) from error
    return _absolute(survey, path.resolve().parent)


def _with_defaults(path: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """Lay every galaxy over the defaults, before validation."""
    raw = dict(raw)
    defaults = raw.pop("defaults", None)
    defaults = {} if defaults is None else defaults
    if not isinstance(defaults, dict):
        raise ConfigError(f"{path}: defaults: expected a mapping, found {defaults!r}")
    known = [field for field in GalaxyConfig.model_fields if field != "name"]
    unknown = [key for key in defaults if key not in known]
    if unknown:
        raise ConfigError(f"{path}: defaults.{unknown[0]}: unknown key; expected one of {', '.join(known)}")
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


def _problem(path: Path, raw: dict[str, Any], item: Any) -> str:
    """One validation error as `file: galaxies[3].redshift = -0.2: what was expected`."""
    loc = item["loc"]
    if (
        loc[:1] == ("galaxies",)
        and _given(raw.get("defaults"), loc[2:])
        and not _given(raw["galaxies"][loc[1]], loc[2:])
    ):
        loc = ("defaults", *loc[2:])  # told once, where it is written
    where = ""
    for part in loc:
        where += f"[{part}]" if isinstance(part, int) else f".{part}"
    where = where.removeprefix(".") or "survey"
    if item["type"] == "missing":
        return f"{path}: {where}: missing; it has no default"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), sorted(_KEYS - {loc[-1]}), n=1)
        return f"{path}: {where}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    if item["type"] in ("model_type", "tuple_type"):
        wanted = "a list" if item["type"] == "tuple_type" else "a mapping"
        return f"{path}: {where}: expected {wanted}, found {item['input']!r:.60}"
    found = item["input"]
    shown = f" = {found!r}" if isinstance(found, str | int | float | bool | None) else ""
    message = item["msg"].removeprefix("Value error, ")
    return f"{path}: {where}{shown}: {message[0].lower()}{message[1:]}"


def _given(section: Any, keys: tuple[Any, ...]) -> bool:
    """Whether nested mappings have a value there."""
    for key in keys:
        if not isinstance(section, dict) or key not in section:
            return False
        section = section[key]
    return bool(keys)


def _absolute(survey: SurveyConfig, folder: Path) -> SurveyConfig:
    """Make all paths absolute, relative to the YAML's folder."""

    def place(text: str | Path | None) -> Path | None:
        return None if text is None else Path(os.path.normpath(folder / Path(text).expanduser()))

    def place_pattern(text: str) -> str:
        """Only the text is a pattern; a * or [ in the name of the survey's folder is not."""
        literal = Path(os.path.normpath(folder / Path(text).expanduser()))
        if literal.is_file() or not glob.has_magic(text):
            return str(literal)
        return str(Path(glob.escape(str(folder))) / Path(text).expanduser())

    galaxies = tuple(
        galaxy.model_copy(
            update={
                "cube": place_pattern(galaxy.cube.replace("{name}", galaxy.name)) if galaxy.cube else None,
                "mask": str(place(galaxy.mask.replace("{name}", galaxy.name))) if galaxy.mask else None,
            }
        )
        for galaxy in survey.galaxies
    )
    model = survey.model.model_copy(update={"checkpoint": place(survey.model.checkpoint)})
    return survey.model_copy(update={"output": place(survey.output), "galaxies": galaxies, "model": model})


def find_cube(galaxy: GalaxyConfig) -> Path:
    """Find the one file that a galaxy's `cube` names.

    Raises
    ------
    ConfigError
        If no file or more than one matches.
    """
    pattern = str(galaxy.cube)
    if Path(pattern).is_file():
        return Path(pattern)
    found = sorted(glob.glob(pattern))
    if not found:
        raise ConfigError(f"{galaxy.name}: no such cube: {pattern}")
    if len(found) > 1:
        raise ConfigError(f"{galaxy.name}: {len(found)} files match {pattern} ({found[0]}, {found[1]}, ...); name one")
    return Path(found[0])
