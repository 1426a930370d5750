"""Where the work is done: what a cluster offers, workers with and without GPUs, other people's clusters, encryption."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import pytest
from distributed import Client, LocalCluster, Worker

from galprote.model.errors import ConfigError, PlanError
from galprote.pipeline.config import SurveyConfig, read_survey
from galprote.pipeline.plan import GPU_WORKER_BYTES, WORKER_BYTES
from galprote.workflows import capacity as capacities
from galprote.workflows import cluster as clusters
from galprote.workflows import workers
from galprote.workflows.capacity import capacity, visible_gpus
from galprote.workflows.planning import galaxy_plan
from galprote.workflows.survey import run_survey
from tests import surveys, trouble

GIB = 1024**3


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_cube(tmp_path_factory.mktemp("cube") / "cube.fits", (8, 4))


def configured(
    folder: Path, cube: Path | str, checkpoint: Path | str, device: str = "cpu", **sections: Any
) -> SurveyConfig:
    galaxies = [{"name": "N1", "cube": str(cube), "products": {"fits": False, "figure": False, "residual": False}}]
    sections = {"chunks": {"rows": 1}, "model": {"checkpoint": str(checkpoint), "device": device}} | sections
    return read_survey(surveys.write_survey(folder, galaxies, Path(checkpoint), **sections))


@contextmanager
def gpus(*names: str, cores: int = 2, memory: int = 64 * GIB) -> Iterator[None]:
    """A machine with some GPUs."""
    with (
        mock.patch.object(capacities, "visible_gpus", return_value=list(names)),
        mock.patch.object(clusters, "visible_gpus", return_value=list(names)),
        mock.patch.object(
            capacities, "resolve_device", lambda wanted: "cuda" if wanted == "auto" and names else wanted
        ),
        mock.patch.object(capacities, "available_cores", return_value=cores),
        mock.patch.object(capacities, "MEMORY_LIMIT", memory),
    ):
        yield


@pytest.mark.parametrize(
    ("cores", "memory", "budget"),
    [(1, 64, 4), (2, 64, 4), (8, 64, 14), (64, 64, 32), (64, 1024, 112), (16, 6, 4)],
)
def test_memory_of_a_run_on_cores(tmp_path: Path, cores: int, memory: int, budget: int) -> None:
    """4 GiB, or 1.75 GiB a core up to half of the machine's."""
    survey = configured(tmp_path, "a.fits", "b", cluster={"type": "local"})
    with gpus(cores=cores, memory=memory * GIB):
        found = capacity(survey)
    assert (found.device, found.workers, found.idle_bytes) == ("cpu", cores, WORKER_BYTES)
    assert (found.budget_bytes, found.worker_bytes) == (budget * GIB, None)


def test_memory_of_a_run_on_gpus(tmp_path: Path) -> None:
    """5 GiB a GPU; what the survey says comes first."""
    with gpus("0", "1", "2", memory=256 * GIB):
        found = capacity(configured(tmp_path, "a.fits", "b", "auto", cluster={"type": "local"}))
        assert (found.device, found.workers, found.budget_bytes) == ("cuda", 3, 15 * GIB)
        assert found.idle_bytes == GPU_WORKER_BYTES
        told = configured(tmp_path, "a.fits", "b", "auto", cluster={"type": "local"}, chunks={"memory": "9GiB"})
        assert capacity(told).budget_bytes == 9 * GIB
        more = {"type": "local-cuda", "gpus": 2, "cpu_workers": 3}
        assert capacity(configured(tmp_path, "a.fits", "b", "cuda", cluster=more)).workers == 5
        with pytest.raises(ConfigError, match="4 workers would share 3 GPU"):
            capacity(configured(tmp_path, "a.fits", "b", "auto", cluster={"workers": 4}))
        with pytest.raises(PlanError, match=r"local-cuda needs 4 NVIDIA GPUs, found 3 here"):
            capacity(configured(tmp_path, "a.fits", "b", cluster={"type": "local-cuda", "gpus": 4}))


@pytest.mark.parametrize(
    ("groups", "device", "workers_", "worker_gib"),
    [
        ({"cpu": {"jobs": 3, "cores": 4, "memory": "8GiB"}}, "cpu", 12, 2),
        ({"gpu": {"jobs": 2, "cores": 4, "memory": "24GiB"}}, "cuda", 2, 24),
        (
            {"gpu": {"jobs": 2, "cores": 4, "memory": "24GiB"}, "cpu": {"jobs": 1, "cores": 8, "memory": "32GiB"}},
            "cuda", 10, 4,
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["slurm", "slurm-allocation"])
def test_memory_of_slurms_workers(
    tmp_path: Path, kind: str, groups: dict[str, Any], device: str, workers_: int, worker_gib: int
) -> None:
    """A worker for each core of a job without a GPU, one for each GPU; chunks fit into the smallest."""
    survey = configured(tmp_path, "a.fits", "b", "auto", cluster={"type": kind, "interface": "lo"} | groups, chunks={})
    found = capacity(survey)
    assert (found.device, found.workers, found.budget_bytes) == (device, workers_, None)
    assert found.worker_bytes == worker_gib * GIB
    for shape in ((1900, 300, 300), (3600, 1000, 900)):
        plan = galaxy_plan(survey, found, survey.galaxies[0], shape, None)
        under_way = 3 if device == "cuda" else 2
        assert found.idle_bytes + under_way * plan.chunk_bytes <= found.worker_bytes
        assert plan.workers == min(workers_, len(plan.chunks))


def test_a_gpu_that_no_group_has(tmp_path: Path) -> None:
    cluster = {"type": "slurm", "interface": "lo", "cpu": {"jobs": 1, "memory": "8GiB"}}
    survey = configured(tmp_path, "a.fits", "b", "cuda", cluster=cluster)
    with pytest.raises(ConfigError, match="the cluster section has no gpu group"):
        capacity(survey)


@pytest.mark.parametrize(
    ("named", "found"),
    [("", []), ("-1", []), ("0,1", ["0", "1"]), ("3", ["3"]), ("GPU-8a, GPU-9b", ["GPU-8a", "GPU-9b"])],
)
def test_gpus_are_those_that_the_environment_leaves(
    monkeypatch: pytest.MonkeyPatch, named: str, found: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == found


# --- several GPUs on this machine ---


@pytest.mark.slow
def test_every_gpu_has_a_worker_of_its_own(tmp_path: Path, cube: Path, checkpoint: Path) -> None:
    """Pretended GPUs: their workers predict, the worker without one only helps, and never loads the model."""
    cluster = {"type": "local-cuda", "cpu_workers": 1, "dashboard": None}
    survey = configured(tmp_path, cube, checkpoint, cluster=cluster, chunks={"rows": 1, "memory": "8GiB"})
    seen: dict[str, Any] = {}
    places = trouble.Places()

    def environment(dask_worker: Worker) -> tuple[str | None, Any, int]:
        import os

        return (
            os.environ.get("CUDA_VISIBLE_DEVICES"),
            dask_worker.state.total_resources.get("GPU"),
            dask_worker.state.nthreads,
        )

    def loaded() -> int:
        from galprote.model.predictor import _load

        return int(_load.cache_info().currsize)

    @contextmanager
    def watched(*args: Any, **more: Any) -> Iterator[Any]:
        with clusters.start_cluster(*args, **more) as (client, keeper):
            client.wait_for_workers(3)
            seen["workers"] = client.run(environment)
            client.cluster.scheduler.add_plugin(places)  # through the client a copy would go
            yield client, keeper
            seen["loaded"] = client.run(loaded)

    with gpus("0", "1"), mock.patch("galprote.workflows.survey.start_cluster", watched):
        (result,) = run_survey(survey, surveys.Recorder())
    assert result.outcome == "done", result.details
    by_gpu = {about[0]: (address, *about[1:]) for address, about in seen["workers"].items()}
    assert {name: about[1:] for name, about in by_gpu.items()} == {"0": (1, 3), "1": (1, 3), "": (None, 1)}
    by_address, plain, gpu = set(seen["workers"]), by_gpu[""][0], {by_gpu["0"][0], by_gpu["1"][0]}
    assert places.of["predict"] <= gpu
    assert plain in places.of["prepare"], "it has nothing to do"
    assert {address: seen["loaded"][address] == 1 for address in by_address} == {
        address: address in places.of["predict"] for address in by_address
    }


# --- somebody else's cluster ---


@contextmanager
def somebodys() -> Iterator[str]:
    """The address of a scheduler with one worker without a GPU."""
    options = {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, host="127.0.0.1", protocol="tcp", **options
    ) as cluster:
        yield str(cluster.scheduler_address)


def test_somebody_elses_cluster_does_the_work(tmp_path: Path, cube: Path, checkpoint: Path) -> None:
    with somebodys() as address:
        survey = configured(tmp_path, cube, checkpoint, cluster={"type": "existing", "address": address})
        (result,) = run_survey(survey, surveys.Recorder())
        assert result.outcome == "done", result.details
        with Client(address) as client:
            assert client.scheduler_info()["workers"], "it is not ours to stop"


def test_somebody_elses_cluster_without_gpus(tmp_path: Path, cube: Path, checkpoint: Path) -> None:
    began = time.monotonic()
    with somebodys() as address:
        cluster = {"type": "existing", "address": address, "patience": 2}
        survey = configured(tmp_path, cube, checkpoint, "cuda", cluster=cluster)
        with pytest.raises(ConfigError, match=r"no worker has a GPU: 1 worker, none with the resource GPU"):
            run_survey(survey, surveys.Recorder())
    assert time.monotonic() - began < 30


def test_nobody_at_the_address(tmp_path: Path, cube: Path, checkpoint: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    for cluster in ({"address": address}, {"scheduler_file": "no.json"}, {"address": "nonsense://127.0.0.1:1"}):
        survey = configured(tmp_path, cube, checkpoint, cluster={"type": "existing", "patience": 1} | cluster)
        with pytest.raises(ConfigError, match=r"no scheduler answers at|no such file"):
            run_survey(survey, surveys.Recorder())
        with pytest.raises(ValueError, match="No client"):
            Client.current()
        assert dask.config.get("scheduler", None) is None
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"numeric_version": -1}, "has another version of galprote; install the same one everywhere"),
        ({"sees_output": False}, "does not see .*out; choose a folder that all nodes share"),
    ],
)
def test_workers_that_are_not_fit(
    tmp_path: Path, cube: Path, checkpoint: Path, changed: dict[str, Any], told: str
) -> None:
    original = workers._describe_worker
    survey = surveys.write_survey(tmp_path, [{"name": "N1", "cube": str(cube)}], checkpoint)
    with (
        mock.patch.object(workers, "_describe_worker", lambda probe: original(probe) | changed),
        pytest.raises(ConfigError, match=f"cluster: the worker .* on {os.uname().nodename} {told}"),
    ):
        surveys.run_here(survey)
    assert not list((tmp_path / "out").glob(".probe*"))
    assert not list((tmp_path / "out").glob("N1*")), "nothing was begun"


# --- encryption ---


def test_strangers_are_refused_with_tls(tmp_path: Path, cube: Path, checkpoint: Path) -> None:
    survey = configured(tmp_path, cube, checkpoint, cluster={"workers": 1, "tls": True, "dashboard": None})
    with clusters.start_cluster(
        survey.cluster, workers=1, worker_bytes=GIB, device="cpu", output=tmp_path, say=print
    ) as (client, _):
        address = str(client.scheduler.address)
        assert address.startswith("tls://")
        assert all(name.startswith("tls://") for name in client.scheduler_info()["workers"])
        for stranger in (address, address.replace("tls://", "tcp://")):
            with pytest.raises((OSError, TypeError, TimeoutError, RuntimeError)):
                Client(stranger, timeout=2, set_as_default=False)
        assert client.submit(sum, [3, 4]).result(timeout=60) == 7
