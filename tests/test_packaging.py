"""The wheel holds all of galprote and nothing else; the environment files agree; imports run one way."""

import ast
import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("model", "pipeline", "workflows")  # each may import itself and those before it
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CONDA_NAMES = {
    "torch": ["pytorch"],
    "dask": ["dask", "distributed"],  # dask[distributed]
    "matplotlib": ["matplotlib-base"],  # without Qt
    "build": ["python-build"],
    "playwright": ["playwright-python"],
}

# Runs in an interpreter without site (-S): path files are not read, so the editable install is out of reach,
# while the dependencies can be imported.
CLEAN = """
import sys
wheel, site_packages = sys.argv[1:3]
sys.path[:] = [wheel, *sys.path, *site_packages.split(":")]
"""


def source_files() -> set[str]:
    """Every file of the three layers, relative to the root."""
    files = (path for layer in LAYERS for path in (ROOT / layer).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


def modules() -> dict[str, str]:
    """Import name of every module -> its file, relative to the root."""
    names = {}
    for file in sorted(source_files()):
        path = Path(file)
        if path.suffix == ".py" and path.name != "__main__.py":
            parts = path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts
            names[".".join(("galprote", *parts))] = file
    return names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build/ left in the tree would put deleted modules into it."""
    source = tmp_path_factory.mktemp("source")
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, source / layer, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert "Package would be ignored" not in output
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel."""
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run_clean(code: str, installed: Path, *args: str) -> str:
    """Standard output of `code`, which sees the wheel and the dependencies, but not this checkout."""
    site_packages = ":".join(sysconfig.get_paths()[key] for key in ("purelib", "platlib"))
    command = [sys.executable, "-I", "-S", "-c", CLEAN + code, str(installed), site_packages, *args]
    result = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_module_imports_from_the_wheel(installed: Path) -> None:
    code = """
import importlib, json
print(json.dumps({name: importlib.import_module(name).__file__ for name in sys.argv[3:]}))
"""
    imported = json.loads(run_clean(code, installed, *modules()).splitlines()[-1])
    assert imported == {name: str(installed / "galprote" / file) for name, file in modules().items()}


def test_wheel_holds_the_source_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == {f"galprote/{file}" for file in source_files()}
    assert {f"galprote/{layer}/py.typed" for layer in LAYERS} <= packed


def test_version_is_told_everywhere_alike(wheel: Path, installed: Path) -> None:
    assert wheel.name.split("-")[1] == PROJECT["version"]
    code = "from importlib.metadata import version; print(version('galprote'))"
    assert run_clean(code, installed).strip() == PROJECT["version"]


def test_tables_of_galaxies_are_read_from_the_wheel(installed: Path) -> None:
    code = """
from galprote.workflows.galaxy_table import BUNDLED, bundled_table
print(*(f"{survey}:{len(bundled_table(survey))}" for survey in BUNDLED))
"""
    assert run_clean(code, installed).split() == ["phangs:19", "mauve:41"]


def test_command_tells_its_version_without_loading_torch(installed: Path) -> None:
    code = """
from importlib.metadata import entry_points
(entry,) = entry_points(group="console_scripts", name="galprote-pipeline")
sys.argv = ["galprote-pipeline", "--version"]
try:
    status = entry.load()()
except SystemExit as end:
    status = end.code
print("torch" in sys.modules)
sys.exit(status)
"""
    version, torch_loaded = run_clean(code, installed).splitlines()
    assert PROJECT["version"] in version.split()
    assert torch_loaded == "False", "--version must answer at once: import torch only where it is used"


def test_every_folder_with_modules_is_a_listed_package() -> None:
    folders = {Path(file).parent for file in source_files() if file.endswith(".py")}
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(".".join(("galprote", *folder.parts)) for folder in folders)


def imported_names(name: str, file: str) -> Iterator[str]:
    """Absolute dotted names that the module `name` imports anywhere in its `file`."""
    package = name if file.endswith("__init__.py") else name.rpartition(".")[0]
    for node in ast.walk(ast.parse((ROOT / file).read_text(), file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("position", range(len(LAYERS)), ids=LAYERS)
def test_imports_run_one_way(position: int) -> None:
    forbidden = {f"galprote.{layer}" for layer in LAYERS[position + 1 :]} | set(LAYERS)
    backward = [
        f"{file}: {imported}"
        for name, file in modules().items()
        if name.split(".")[1] == LAYERS[position]
        for imported in imported_names(name, file)
        if any(f"{imported}.".startswith(f"{prefix}.") for prefix in forbidden)
    ]
    assert backward == []


def requirements() -> list[Requirement]:
    """Runtime and development dependencies of pyproject.toml."""
    return [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]


def test_environment_yml_says_the_same_as_pyproject() -> None:
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda_requirements = [Requirement(entry) for entry in entries if isinstance(entry, str)]
    conda = {req.name: req.specifier for req in conda_requirements}
    expected = {"python": SpecifierSet(PROJECT["requires-python"]), "pip": SpecifierSet()}
    for req in requirements():
        expected |= dict.fromkeys(CONDA_NAMES.get(req.name, [req.name.lower()]), req.specifier)
    assert conda == expected
    assert [entry["pip"] for entry in entries if isinstance(entry, dict)] == [["-e .[binning,compare,docs]"]]


def test_constraints_pin_every_dependency_inside_its_range() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("#")[0].strip().partition("==")
        pins[canonicalize_name(name)] = version
    extras = [line for extra in ("compare", "docs") for line in PROJECT["optional-dependencies"][extra]]
    for req in [*requirements(), *map(Requirement, extras)]:
        pinned = pins.get(canonicalize_name(req.name))
        assert pinned, f"constraints.txt does not pin {req.name}"
        assert req.specifier.contains(pinned), f"constraints.txt: {req.name}=={pinned}, wanted {req.specifier}"
    torch = pins[canonicalize_name("torch")]
    assert SpecifierSet(f"=={torch}").contains(f"{torch}+cpu"), "the CPU build must satisfy the pin"
