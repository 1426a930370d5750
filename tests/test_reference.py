"""The generated pages of the documentation say what the code says, and leave nothing out."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import zarr
from astropy.io import fits
from pydantic import BaseModel

from docs.reference import commands, keys, pages, products
from galprote.model.training_config import TrainingConfig
from galprote.pipeline import cluster_config
from galprote.pipeline.config import GalaxyConfig, SurveyConfig, read_survey
from galprote.pipeline.layout import all_product_files
from galprote.pipeline.products import EVERY_MAP
from galprote.pipeline.quality import Status
from galprote.workflows.cli import app
from tests import surveys

DOCS = Path(pages.DOCS)


def page(name: str) -> str:
    return (DOCS / name).read_text()


def rows(text: str) -> Iterator[list[str]]:
    """Cells of every row of every table."""
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_generated_pages_are_those_that_the_code_makes_now() -> None:
    stale = ", ".join(path.name for path in pages.stale_pages())
    assert not stale, f"{stale}: `make docs-pages` writes them anew"


def test_a_page_without_its_markers_is_told() -> None:
    with pytest.raises(ValueError, match=r"expected \['maps'\], found \[\]"):
        pages.filled("# Products\n", {"maps": lambda: ""})
    with pytest.raises(ValueError, match="no line <!-- end -->"):
        pages.filled("<!-- generated: maps x -->\n", {"maps": lambda: ""})


def every_path(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    """Path, model and name of every key, however deep: by pydantic's own schema, not by the code that is tested."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", section, name
        stack = [field.annotation]
        while stack:
            annotation = stack.pop()
            stack += getattr(annotation, "__args__", ())
            if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not GalaxyConfig:
                yield from every_path(annotation, f"{prefix}{name}.")


@pytest.mark.parametrize(
    ("root", "name"),
    [(SurveyConfig, "configuration.md"), (GalaxyConfig, "configuration.md"), (TrainingConfig, "training-keys.md")],
)
def test_every_key_is_in_the_page_with_a_meaning(root: type[BaseModel], name: str) -> None:
    described = {cells[0].strip("`"): cells for cells in rows(page(name)) if len(cells) == 4}
    canonical: dict[tuple[type[BaseModel], str], str] = {}
    for path, owner, key in every_path(root):
        path = path.replace("cluster.cpu.", "cluster.gpu.")  # noqa: PLW2901 - one table for both
        first = canonical.setdefault((owner, key), path)  # a section that is met twice is described once
        assert first in described, f"{path} is not in {name}"
        value, default, meaning = described[first][1:]
        assert value, f"{first}: what may it be?"
        assert default, f"{first}: what is it by default?"
        assert re.search(r"\w{2}", meaning), f"{first}: what does it mean? Give it a docstring"


def test_ranges_defaults_and_choices_are_the_models() -> None:
    text = page("configuration.md").replace("\N{NO-BREAK SPACE}", " ")
    described = {cells[0].strip("`"): cells[1:] for cells in rows(text) if len(cells) == 4}
    assert described["redshift"][:2] == ["number, \\> -0.01, ≤ 0.5", "required"]
    assert described["max_filled"][:2] == ["number, ≥ 0, ≤ 0.5", "`0.15`"]
    assert described["binning.snr_window"][:2] == ["[number, number]", "`[5300.0, 5500.0]`"]
    assert described["binning.covariance"][:2] == ["number, ≥ 0, ≤ 10; or `measure`", "`measure`"]
    assert described["chunks.memory"][:2] == ["size, such as `4GiB`; or `null`", "`null`"]
    assert described["masks.stars"][0] == "[section](#masksstars); or `null`"
    assert described["cluster.type"][0].count("`") == 2 * len(cluster_config.CLUSTER_TYPES)
    trained = {cells[0].strip("`"): cells[1:] for cells in rows(page("training-keys.md")) if len(cells) == 4}
    assert trained["appraisal.noise"][:2] == ["[section](#noise)", "`{flagged: 0.5}`"]  # not what `noise` has


def test_every_map_bit_and_file_is_in_the_page_of_products() -> None:
    text = page("products.md")
    maps = {cells[0]: cells for cells in rows(text.split("## Status bits")[0]) if len(cells) == 4}
    for product in EVERY_MAP:
        name = product.name.removesuffix("_error")
        cells = maps.get(f"`{name}` ±") or maps[f"`{name}`"]
        assert cells[1] == f"`{product.extension.removesuffix('_ERR')}`"
        assert product.dtype == "float32" or cells[2] == product.dtype
        if product.name.endswith("_error"):
            assert cells[0].endswith("±")
    bits = {cells[0]: cells for cells in rows(text) if len(cells) == 4 and cells[0].isdigit()}
    assert {int(bit) for bit in bits} == {int(bit) for bit in Status}
    for bit in Status:
        assert bits[str(int(bit))][1] == f"`{str(bit.name).lower()}`"
    for file in all_product_files("NAME"):
        assert f"| `{file}` |" in text, f"{file} is not in the table of files"


def test_notes_are_on_maps_that_exist() -> None:
    assert products.NOTES.keys() <= {product.name for product in EVERY_MAP}


@pytest.fixture(scope="module")
def products_of_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Stores of a galaxy in spaxels and of one in bins."""
    folder = tmp_path_factory.mktemp("reference")
    cube = surveys.write_cube(folder / "cube.fits", (8, 6))
    galaxies = [
        {"name": "A", "cube": str(cube)},
        {"name": "B", "cube": str(cube), "binning": {"method": "square", "size": 2, "snr_min": 0}},
    ]
    survey = surveys.write_survey(folder, galaxies, surveys.write_checkpoint(folder / "weights.safetensors"))
    surveys.run_here(survey)
    return [read_survey(survey).output / f"{name}.zarr" for name in ("A", "B")]


def test_attributes_are_those_of_stores(products_of_runs: list[Path]) -> None:
    found = {name for store in products_of_runs for name in dict(zarr.open_group(store, mode="r").attrs)}
    assert found | {"failed_rows"} == products.ATTRIBUTES.keys()


def test_keywords_are_those_of_fits_files(products_of_runs: list[Path]) -> None:
    cards: set[str] = set()
    for store in products_of_runs:
        with fits.open(store.with_name(store.name.replace(".zarr", "_MAPS.fits"))) as hdus:
            cards |= {*hdus[0].header, *hdus[1].header}
    named = {word for keyword, _ in products.ATTRIBUTES.values() for word in re.findall(r"[A-Z][A-Z0-9_]+", keyword)}
    assert len(named) > 15
    assert named <= cards


def test_every_command_and_option_is_in_the_page_of_commands() -> None:
    text = page("commands.md")
    group = typer.main.get_command(app)
    assert len(group.commands) >= 11  # type: ignore[attr-defined]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert f"galprote-pipeline {name}" in section
        for parameter in commands.parameters(command):
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert commands.is_argument(parameter) or f"`{option}`" in section
            assert parameter.help, f"{name}: {parameter.name} has no help"


def test_docstrings_of_attributes_are_found_through_inheritance() -> None:
    found = keys.attribute_docstrings(cluster_config.SlurmCluster)
    assert found["account"].startswith("Account")
    assert found["interface"].startswith("Network interface")
    assert found["dashboard"].startswith("Where the Dask dashboard")
