"""Workers with a GPU and without: who predicts, also when something goes wrong. Workers are threads here."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from distributed import Client, Scheduler, SpecCluster, Worker

from galprote.workflows import survey as surveying
from galprote.workflows.stop import StoppedError
from tests import surveys, trouble

SHAPE = (8, 4)
GALAXY = {"name": "N1", "products": {"fits": False, "figure": False}}


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_cube(tmp_path_factory.mktemp("cube") / "cube.fits", SHAPE)


@pytest.fixture
def survey(tmp_path: Path, cube: Path, checkpoint: Path) -> Path:
    return surveys.write_survey(tmp_path, [GALAXY | {"cube": str(cube)}], checkpoint, chunks={"rows": 1})


def mixed(gpus: int, plain: int, seen: dict[str, Any]) -> Callable[..., AbstractContextManager[Client]]:
    """A cluster; `seen` gets it, the addresses of those with a GPU, and which of all did what."""

    @contextmanager
    def start(**_: Any) -> Iterator[Client]:
        options = {"nthreads": 1, "dashboard": False}
        specs = {f"cpu{n}": {"cls": Worker, "options": options} for n in range(plain)}
        specs |= {f"gpu{n}": {"cls": Worker, "options": options | {"resources": {"GPU": 1}}} for n in range(gpus)}
        local = {"dashboard": False, "dashboard_address": "127.0.0.1:0", "port": 0, "host": "127.0.0.1"}
        scheduler = {"cls": Scheduler, "options": local}
        with SpecCluster(workers=specs, scheduler=scheduler) as cluster, Client(cluster) as client:
            cluster.scheduler.add_plugin(seen.setdefault("places", trouble.Places()))
            seen["cluster"] = cluster
            seen["gpu"] = {worker.address for name, worker in cluster.workers.items() if name.startswith("gpu")}
            yield client

    return start


def test_predictions_go_to_gpus_and_the_rest_anywhere(survey: Path) -> None:
    """Nothing is predicted before a worker without a GPU has prepared something."""
    helped, seen = threading.Event(), dict[str, Any]()

    def prepare(here: trouble.Step) -> None:
        if here.worker not in seen["gpu"]:
            helped.set()

    def predict(_: trouble.Step) -> None:
        assert helped.wait(30), "workers without a GPU have nothing to do"

    with trouble.before("prepare_block", prepare), trouble.before("predict_block", predict) as predicted:
        (result,) = surveys.run_here(survey, cluster=mixed(2, 2, seen))
    assert result.outcome == "done", result.details
    assert (len(predicted), seen["places"].of["predict"] <= seen["gpu"]) == (8, True)
    assert seen["places"].of["prepare"] - seen["gpu"]


@pytest.mark.parametrize("gpus", [1, 2])
def test_a_prediction_that_fails_is_tried_again_on_a_gpu(survey: Path, gpus: int) -> None:
    """On another one where there is one, but never on a worker without a GPU, of which there are more."""
    seen = dict[str, Any]()
    with trouble.before("predict_block", trouble.failing(2, 5, times=1)) as calls:
        (result,) = surveys.run_here(survey, cluster=mixed(gpus, 3, seen))
    assert (result.outcome, result.failures) == ("done", ()), result.details
    assert {call.worker for call in calls} <= seen["gpu"]
    for chunk in (2, 5):
        first, second = (call.worker for call in calls if call.index == chunk)
        assert (first != second) == (gpus == 2)


def test_a_retry_is_not_tied_to_a_worker_that_is_gone(survey: Path) -> None:
    """The only other GPU is lost while a retry waits for it: it goes back to the first one."""
    seen, busy, go_on = dict[str, Any](), threading.Event(), threading.Event()

    def predict(here: trouble.Step) -> None:
        if here.index == 2 and here.attempt == 0:
            seen["first"] = here.worker
            assert busy.wait(30)
            raise ArithmeticError("once")
        if here.worker != seen.get("first", here.worker) and not go_on.is_set():
            busy.set()
            assert go_on.wait(60)  # so that the retry has to wait behind this

    def lose() -> None:
        assert busy.wait(60)
        time.sleep(3)  # the retry is tied by now
        (name,) = (n for n, w in seen["cluster"].workers.items() if w.address in seen["gpu"] - {seen["first"]})
        seen["cluster"].worker_spec.pop(name)
        threading.Timer(1, go_on.set).start()
        seen["cluster"].sync(seen["cluster"]._correct_state)

    thread = threading.Thread(target=lose)
    thread.start()
    with trouble.before("predict_block", predict) as calls:
        (result,) = surveys.run_here(survey, cluster=mixed(2, 1, seen))
    thread.join()
    assert result.outcome == "done", result.details
    assert {call.worker for call in calls if call.index == 2} <= seen["gpu"]


def test_a_run_whose_gpus_are_lost_says_so(survey: Path) -> None:
    """It does not wait for ever, and nothing is predicted elsewhere."""
    seen = dict[str, Any]()

    def lose(here: trouble.Step) -> None:
        if here.index == 3 and "lost" not in seen:
            seen["lost"] = time.monotonic()
            seen["cluster"].loop.add_callback(seen["cluster"].scheduler.retire_workers, list(seen["gpu"]), remove=True)
            time.sleep(2)

    with (
        mock.patch.object(surveying, "patience_of", return_value=3.0),
        trouble.before("predict_block", lose) as calls,
        pytest.raises(StoppedError, match="no worker with a GPU for 3 s"),
    ):
        surveys.run_here(survey, cluster=mixed(1, 2, seen))
    assert time.monotonic() - seen["lost"] < 40
    assert {call.worker for call in calls} <= seen["gpu"]
