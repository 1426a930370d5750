"""The tutorial is executed, on a smaller galaxy, and so is the Python of its page."""

import contextlib
import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from galprote.workflows.cli import main
from tests import surveys

DOCS = Path(__file__).parents[1] / "docs"
CELLS = json.loads((DOCS / "tutorial.ipynb").read_text())["cells"]


#: What a smaller galaxy needs.
SMALLER = {"SIZE = 80": "SIZE = 30", "radius > 5)": "radius > 2)", "grid: true": "grid: true, figure: false"}
run = subprocess.run


def in_this_process(words: list[str], *more: Any, **settings: Any) -> Any:
    """What `subprocess.run` gives, without the seconds that galprote and its workers take to start."""
    if words[0] != "galprote-pipeline":
        return run(words, *more, **settings)

    @contextlib.contextmanager
    def start(_: Any, **settings: Any) -> Iterator[tuple[Any, Any]]:
        with surveys.threads(**settings) as client:
            yield client, surveys.Nobody()

    output = io.StringIO()
    with (
        mock.patch("galprote.workflows.survey.start_cluster", start),
        contextlib.redirect_stdout(output),
        pytest.raises(SystemExit) as stop,
    ):
        main(words[1:])
    return subprocess.CompletedProcess(words, int(stop.value.code or 0), output.getvalue(), output.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def space(folder: Path) -> dict[str, Any]:
    """What the tutorial leaves: its variables, and what it printed."""
    mpl.use("Agg")
    printed, space = io.StringIO(), {}
    with (
        contextlib.chdir(folder),
        mock.patch("subprocess.run", in_this_process),
        contextlib.redirect_stdout(printed),
    ):
        for number, cell in enumerate(CELLS):
            if cell["cell_type"] == "code":
                source = "".join(cell["source"])
                for old, new in (
                    ("SIZE = 80", "SIZE = 30"),
                    ("> 5)", "> 2)"),
                    ("grid: true", "grid: true, figure: false"),
                ):
                    source = source.replace(old, new)
                exec(compile(source, f"tutorial.ipynb, cell {number}", "exec"), space)
                assert "Traceback" not in printed.getvalue()
    space["figures"], space["printed"] = [plt.figure(number) for number in plt.get_fignums()], printed.getvalue()
    plt.close("all")
    return space


def test_the_tutorial_finds_what_it_says(space: dict[str, Any]) -> None:
    assert space["SIZE"] == 30
    assert space["maps"].sizes["y"] == 30
    assert len(space["figures"]) == 6
    # The disc of the mock: its centre, its gradient.
    assert space["maps"].galprote.pixel(space["centre"]) == pytest.approx((14.5, 14.5), abs=0.5)
    assert space["true_gradient"] < -0.1
    assert space["gradient"] == pytest.approx(space["true_gradient"], abs=0.06)
    # The middle of the galaxy is old, and its fit good.
    fit = space["fit"]
    assert 9.6 < fit.populations.log_age[0] < 10.1
    off = ((fit.flux - fit.model) / fit.flux)[fit.used]
    assert np.sqrt(np.mean(off**2)) < 0.01
    # Star formation: the shares of the mass add up.
    rate, maps = space["rate"], space["maps"]
    assert float((rate * np.diff(maps["age_edge"])).sum()) == pytest.approx(1, abs=1e-4)
    # Over the other image: the same age at the centre.
    over = space["over"]
    row, column = (round(value) for value in over.galprote.pixel(space["centre"]))
    wanted = space["part"]["age_lw"].sel(y=14, x=14)
    assert float(over["age_lw"][row, column]) == pytest.approx(float(wanted), abs=0.15)
    assert "the same ages: True" in space["printed"]


def test_the_committed_notebook_was_executed_and_is_small() -> None:
    assert (DOCS / "tutorial.ipynb").stat().st_size < 700_000
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 6


def test_the_python_of_the_page_runs(space: dict[str, Any], folder: Path) -> None:
    text = (DOCS / "xarray.md").read_text()
    changes = {
        "output/demo/DEMO.zarr": "maps/MOCK.zarr",
        "output/demo/mock/DEMO_12f630b1_DATACUBE.fits": "cube.fits",
        "hst.fits[SCI]": "hst.fits",
        "[50], [50]": "[15], [15]",
        "[49, 50, 51], [50, 50, 50]": "[14, 15, 16], [15, 15, 15]",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 6
    own: dict[str, Any] = {}
    with contextlib.chdir(folder):
        for block in blocks:
            exec(compile(block, "xarray.md", "exec"), own)
    plt.close("all")
    assert own["part"].sizes["y"] == 30
    assert np.isfinite(own["one"].populations.log_age).all()
