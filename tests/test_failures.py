"""What fails costs no more than it must: a chunk its own spaxels, a cube its own galaxy; another run mends it."""

import csv
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr
import yaml
from distributed import KilledWorker, WorkerPlugin
from distributed.scheduler import NoWorkerError

from galprote.pipeline.config import read_survey
from galprote.pipeline.quality import Status
from galprote.workflows.cluster import start_cluster
from galprote.workflows.stop import StoppedError
from galprote.workflows.survey import run_survey
from tests import surveys, trouble

#: Eight chunks of one row, the fifth without data.
SHAPE = (8, 5)
PRODUCTS = {"continuum_subtracted": True, "grid": True, "figure": False}
LOST = Status.FAILED | Status.NOT_COMPUTED


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_cube(tmp_path_factory.mktemp("cube") / "cube.fits", SHAPE, empty_rows=slice(4, 5))


def small(folder: Path, cube: Path, checkpoint: Path, *names: str, **chunks: Any) -> Path:
    galaxies = [{"name": name, "cube": str(cube), "products": PRODUCTS} for name in names or ("N1",)]
    return surveys.write_survey(folder, galaxies, checkpoint, chunks={"rows": 1} | chunks)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cube: Path, checkpoint: Path) -> Path:
    """The output folder of a run without trouble."""
    survey = small(tmp_path_factory.mktemp("undisturbed"), cube, checkpoint)
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.details
    return survey.parent / "out"


@pytest.fixture
def survey(tmp_path: Path, cube: Path, checkpoint: Path) -> Path:
    return small(tmp_path, cube, checkpoint)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


# --- exceptions ---


def test_an_error_that_passes_leaves_no_trace(survey: Path, undisturbed: Path) -> None:
    """The second attempt is another worker's."""
    progress = surveys.Recorder()
    with trouble.before("predict_block", trouble.failing(2, times=1)) as calls:
        (result,) = surveys.run_here(survey, progress=progress)
    assert (result.outcome, result.failures) == ("done", ())
    first, second = (call.worker for call in calls if call.index == 2)
    assert first != second
    assert len(calls) == 9, "nothing else is computed twice"
    assert progress.messages[-1] == "N1: chunk 2: ArithmeticError: chunk 2 is cursed; trying again (1 of 3)"
    assert surveys.tree(survey.parent / "out") == surveys.tree(undisturbed)
    assert rows_of(survey.parent / "out" / "failures.csv") == []


@pytest.mark.parametrize("step", ["prepare_block", "predict_block", "finish_block"])
def test_a_chunk_that_fails_again_and_again_costs_its_spaxels(
    tmp_path: Path, cube: Path, checkpoint: Path, undisturbed: Path, step: str
) -> None:
    """Flagged in every product, everything else bit for bit; another run computes this chunk and nothing else."""
    attempts = 2 if step == "finish_block" else 3
    survey, output = small(tmp_path, cube, checkpoint, attempts=attempts), tmp_path / "out"
    with trouble.before(step, trouble.failing(2, 6)) as calls:
        (result,) = surveys.run_here(survey)
    assert [sum(call.index == index for call in calls) for index in range(8)] == [1, 1, attempts, 1, 1, 1, attempts, 1]

    # What it says
    assert result.outcome == "incomplete"
    expected = {"galaxy": "N1", "step": "fit", "attempts": str(attempts)}
    told = [
        expected
        | dict.fromkeys(("chunk", "first_row", "last_row"), str(n))
        | {"error": f"ArithmeticError: chunk {n} is cursed"}
        for n in (2, 6)
    ]
    assert sorted(rows_of(output / "failures.csv"), key=lambda row: row["chunk"]) == told
    (summary,) = json.loads((output / "summary.json").read_text())
    assert summary["outcome"] == "incomplete"
    written = [{key: str(value) for key, value in failure.items()} for failure in summary["failures"]]
    assert sorted(written, key=lambda row: row["chunk"]) == told
    assert len(list((output / "N1.partial" / "chunks").iterdir())) == 6

    # What it gives
    found, whole = trouble.arrays(output), trouble.arrays(undisturbed)
    assert found.keys() == whole.keys()
    lost = np.isin(np.arange(8), (2, 6))
    for name, values in found.items():
        if values.shape[:1] != (8,) or name in ("ra", "dec"):
            assert values.tobytes() == whole[name].tobytes(), name
            continue
        assert values[~lost].tobytes() == whole[name][~lost].tobytes(), name
        if name in ("status", "N1_MAPS.fits[STATUS]"):
            assert (values[lost] == LOST).all()
        elif values.dtype.kind == "f":
            assert np.isnan(values[lost]).all(), name
        else:
            assert (values[lost] == 0).all(), name
    with xr.open_zarr(output / "N1.zarr") as store:
        assert store.attrs["failed_rows"] == [[2, 2], [6, 6]]

    # Once more, without trouble
    progress = surveys.Recorder()
    with trouble.before("predict_block", lambda _: None) as calls:
        (result,) = surveys.run_here(survey, progress=progress)
    assert result.outcome == "done", result.details
    assert sorted(call.index for call in calls) == [2, 6]
    assert progress.started["N1"] == (40, 30)
    assert re.fullmatch(
        r"done: \d+ spaxels fitted in \d+\.\d s, after an earlier run had done 30 of 40 spaxels",
        progress.outcomes["N1"],
    )
    assert surveys.tree(output) == surveys.tree(undisturbed)
    assert rows_of(output / "failures.csv") == []
    assert not (output / "N1.partial").exists()


def test_what_fails_twice_is_mended_by_the_third_run(survey: Path, undisturbed: Path) -> None:
    output = survey.parent / "out"
    for lost in ((1, 5), (5,)):
        with trouble.before("predict_block", trouble.failing(*lost)):
            (result,) = surveys.run_here(survey)
        assert sorted(failure.chunk for failure in result.failures) == list(lost)
        assert (trouble.arrays(output)["status"][list(lost)] == LOST).all()
        assert sorted(row["chunk"] for row in rows_of(output / "failures.csv")) == [str(index) for index in lost]
    surveys.run_here(survey)
    assert surveys.tree(output) == surveys.tree(undisturbed)


def test_a_galaxy_of_which_nothing_works_fails_alone(
    tmp_path: Path, cube: Path, checkpoint: Path, undisturbed: Path
) -> None:
    survey, output = small(tmp_path, cube, checkpoint, "BAD", "N1"), tmp_path / "out"
    progress = surveys.Recorder()
    with trouble.before("predict_block", trouble.failing(*range(8), galaxy="BAD")) as calls:
        bad, good = surveys.run_here(survey, progress=progress)
    assert (bad.outcome, good.outcome) == ("failed", "done")
    assert "chunks failed, and none succeeded: ArithmeticError: chunk" in bad.error
    assert sum(call.galaxy == "BAD" for call in calls) < 3 * 8, "it was given up before every chunk was tried in vain"
    assert {path.name for path in output.glob("BAD*")} == {"BAD.partial"}
    made = {name: sums for name, sums in surveys.tree(output).items() if not name.startswith("BAD")}
    assert made == surveys.tree(undisturbed)
    assert {row["galaxy"] for row in rows_of(output / "failures.csv")} == {"BAD"}
    assert surveys.run_here(survey)[0].outcome == "done"


# --- workers that die ---


def test_three_deaths_condemn_a_chunk_and_the_third_is_lonely(survey: Path, undisturbed: Path) -> None:
    """Workers are threads here: the scheduler's word for their death is raised instead."""
    begun, company = set[int](), []

    def die(here: trouble.Step) -> None:
        begun.add(here.index)
        if here.index == 3:
            company.append(begun - {int(path.stem) for path in ledger.glob("*.npz")} - {3})
            raise KilledWorker("predict", SimpleNamespace(address="tcp://dead"), 0)  # type: ignore[arg-type]

    ledger = survey.parent / "out" / "N1.partial" / "chunks"
    with trouble.before("predict_block", die):
        (result,) = surveys.run_here(survey)
    assert [failure.chunk for failure in result.failures] == [3]
    assert (result.failures[0].attempts, len(company), company[2]) == (3, 3, set())
    assert len(begun) == 8, "the others come first"
    assert (trouble.arrays(survey.parent / "out")["status"][3] == LOST).all()
    surveys.run_here(survey)
    assert surveys.tree(survey.parent / "out") == surveys.tree(undisturbed)


@pytest.mark.slow
def test_a_chunk_that_kills_its_workers_is_found_out(survey: Path, undisturbed: Path) -> None:
    """Real processes, with the run's own settings; a neighbour is always under way when the chunk strikes."""

    class Deadly(WorkerPlugin):
        def setup(self, worker: Any) -> None:

            from distributed import get_worker

            from galprote.pipeline import graph

            original = graph.finish_block

            def finish(*args: Any) -> Any:
                if "-00003" in str(get_worker().get_current_task()):
                    os._exit(9)
                return original(*args)

            graph.finish_block = finish

    @contextmanager
    def deadly(*args: Any, **more: Any) -> Iterator[Any]:
        with start_cluster(*args, **more) as (client, keeper):
            client.register_plugin(Deadly())
            yield client, keeper

    content = yaml.safe_load(survey.read_text())
    survey.write_text(yaml.safe_dump(content | {"cluster": {"workers": 2, "dashboard": None}}))
    progress = surveys.Recorder()
    with mock.patch("galprote.workflows.survey.start_cluster", deadly):
        (result,) = run_survey(read_survey(survey), progress)
    assert [failure.chunk for failure in result.failures] == [3], progress.messages
    assert progress.messages[-1] == "N1: chunk 3: its worker died; given up after 3 attempts"
    surveys.run_here(survey)
    assert surveys.tree(survey.parent / "out") == surveys.tree(undisturbed)


def test_a_chunk_is_not_blamed_for_a_lack_of_workers(survey: Path, undisturbed: Path) -> None:
    """The run ends, to be gone on with."""
    error = NoWorkerError("predict", 300.0)
    with (
        trouble.before("predict_block", trouble.failing(3, error=error)) as calls,
        pytest.raises(StoppedError, match=r"stopped \(no worker came back within 300 s\)"),
    ):
        surveys.run_here(survey)
    assert sum(call.index == 3 for call in calls) == 1
    assert not (survey.parent / "out" / "N1.zarr").exists()
    surveys.run_here(survey)
    assert surveys.tree(survey.parent / "out") == surveys.tree(undisturbed)
