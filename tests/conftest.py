"""Settings of the whole test suite."""

import os

# Before torch is imported anywhere: small matrices gain nothing from threads, and lose much on a shared machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tables are as wide as in a pipe, whatever the terminal is from which pytest was started.
os.environ.pop("COLUMNS", None)

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every machine, and no clock: a shared runner may pause anywhere. To look for new
# counterexamples, run pytest with --hypothesis-profile=default.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that mean nothing, for surveys: nobody may change the file."""
    from tests import surveys

    path = surveys.write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    path.chmod(0o444)
    return path


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Path]:
    """A survey that was run with a report: N1 and N2 are done, BAD is no cube. Nobody may change it."""
    from tests import report_surveys

    with report_surveys.reported_survey(tmp_path_factory.mktemp("report") / "survey", checkpoint) as path:
        yield path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A survey of two galaxies, one of which has no cube; N1 is done."""
    from tests import surveys

    folder = tmp_path_factory.mktemp("manners")
    surveys.write_cube(folder / "N1.fits", (4, 3))
    products = {"residual": False, "fits": False, "figure": False}
    galaxies = [{"name": name, "cube": f"{name}.fits", "products": products} for name in ("N1", "N2")]
    survey = surveys.write_survey(folder, galaxies, checkpoint, chunks={"rows": 2})
    results = surveys.run_here(survey)
    assert [result.outcome for result in results] == ["done", "failed"]
    return survey
