"""The README's Python is run as it stands, on products and a cube of the names that it uses."""

import re
from pathlib import Path

import matplotlib as mpl
import pytest

from galprote.model.checkpoint import default_checkpoint, load_checkpoint
from galprote.pipeline.mock import MockConfig, make_mock
from tests import surveys

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo was run, on a smaller galaxy."""
    folder = tmp_path_factory.mktemp("readme")
    make_mock(MockConfig(shape=(28, 28)), folder / "cube.fits", load_checkpoint().decoder)
    galaxy = {"name": "DEMO", "cube": str(folder / "cube.fits"), "redshift": 0.008, "products": {"fits": False}}
    survey = surveys.write_survey(folder, [galaxy], default_checkpoint(), output="output/demo")
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.details
    return folder


def test_python_blocks_run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    mpl.use("Agg")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    spaces: list[dict[str, object]] = []
    for block in blocks:
        spaces.append({})
        exec(compile(block, "README.md", "exec"), spaces[-1])
    assert 0 < float(capsys.readouterr().out) < 1.5
    result = spaces[1]["result"]
    assert len(result.log_age) == 16  # type: ignore[attr-defined]
