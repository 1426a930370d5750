"""Surveys on a real SLURM, which the tests start on this machine: its jobs are lost, its maps are those of a laptop."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import surveys
from tests.slurm_here import slurm, why_not

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

ROWS = 40


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with slurm(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey that was run on this machine, without SLURM."""
    folder = tmp_path_factory.mktemp("calm")
    checkpoint = surveys.write_checkpoint(folder / "tiny.safetensors")
    surveys.write_cube(folder / "cube.fits", (ROWS, 6))
    galaxy = {"name": "N1", "cube": str(folder / "cube.fits")}
    survey = surveys.write_survey(folder, [galaxy], checkpoint, chunks={"rows": 1})
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.details
    return folder


def group(kind: str, jobs: int, **more: Any) -> dict[str, Any]:
    """A group of small jobs."""
    return {"jobs": jobs, "memory": "2GiB", "partition": kind, "walltime": "00:20:00"} | more


def section(**more: Any) -> dict[str, Any]:
    """A `cluster` section with workers of both kinds."""
    gpu = group("gpu", 2, directives=["--gres=gpu:1"])
    common = {"type": "slurm", "interface": "lo", "dashboard": "127.0.0.1:0", "performance_report": True}
    return common | {"gpu": gpu, "cpu": group("cpu", 1, cores=2, memory="3GiB")} | more


def survey_on(calm: Path, folder: Path, cluster: dict[str, Any]) -> Path:
    """The same survey on a cluster, in another folder."""
    folder.mkdir(exist_ok=True)
    content = yaml.safe_load((calm / "survey.yaml").read_text()) | {"cluster": cluster}
    path = folder / "survey.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def start(survey: Path, environment: dict[str, str], *before: str) -> "subprocess.Popen[str]":
    command = [*before, surveys.COMMAND, "run", str(survey), "--debug"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)


def ask(environment: dict[str, str], *command: str) -> str:
    """What a command of SLURM's says."""
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def until(happens: Any, process: "subprocess.Popen[str]", seconds: float = 120) -> None:
    """Wait for something while a run goes on."""
    end = time.monotonic() + seconds
    while not happens():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.05)


def products(folder: Path) -> dict[str, str]:
    """Hashes of the products, without Dask's report of the run."""
    return surveys.tree(folder / "out", without=(*surveys.RECORDS, "N1_dask.html"))


def records(survey: Path) -> int:
    return len(list((survey.parent / "out" / "N1.partial" / "chunks").glob("*.npz")))


def test_a_lost_job_is_replaced_and_the_maps_are_those_of_a_laptop(
    calm: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    survey = survey_on(calm, tmp_path, section())
    run = start(survey, environment)
    until(lambda: records(survey) >= 3, run)
    listed = ask(environment, "squeue", "-h", "-t", "R", "-o", "%i %P %b").splitlines()
    assert sorted(line.split()[1] for line in listed) == ["cpu", "gpu", "gpu"]
    assert all(("gpu" in line.split()[2]) == (line.split()[1] == "gpu") for line in listed), listed
    victim = next(line.split()[0] for line in listed if " gpu " in line)
    os.kill(run.pid, signal.SIGSTOP)  # so that the run is not over before another job is there
    ask(environment, "scancel", "--signal=KILL", "--full", victim)
    time.sleep(1)
    os.kill(run.pid, signal.SIGCONT)
    output, _ = run.communicate(timeout=250)
    assert run.returncode == 0, output
    assert products(tmp_path) == products(calm)
    assert "predict-N1" in (tmp_path / "out" / "N1_dask.html").read_text()
    assert "Dask dashboard: http://127.0.0.1:" in output
    assert not ask(environment, "squeue", "-h").strip(), "jobs are left"
    assert not list((tmp_path / "out" / ".slurm").glob(".dask-jobqueue.worker.*")), "keys are left"


def test_predictions_are_the_gpu_jobs_alone_and_strangers_are_kept_out(
    calm: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Which worker did what is asked of the run's own report; the scheduler speaks TLS."""
    survey = survey_on(calm, tmp_path, section())
    probe = tmp_path / "probe.py"
    probe.write_text(PROBE)
    command = [str(Path(surveys.COMMAND).with_name("python")), str(probe), str(survey), str(tmp_path / "places.json")]
    here = environment | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=here, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "places.json").read_text())
    predicted = {name for key, name in found["places"].items() if key.startswith("predict-")}
    assert predicted
    assert all(name.startswith("gpu-") for name in predicted)
    assert sum(key.startswith("predict-") for key in found["places"]) >= ROWS
    prepared = {name.partition("-")[0] for key, name in found["places"].items() if key.startswith("prepare-")}
    assert "cpu" in prepared
    assert found["address"].startswith("tls://")
    assert found["models"], "no worker was asked"
    assert all(not loaded for name, loaded in found["models"].items() if name.startswith("cpu")), found["models"]
    assert {found["cuda"][name] for name in found["cuda"] if name.startswith("gpu")} == {"0", "1"}
    assert products(tmp_path) == products(calm)


#: Runs a survey and notes, in the scheduler's process, which worker did what and holds a model.
PROBE = """
import json, os, sys
from unittest import mock
from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin
from galprote.pipeline.config import read_survey
from galprote.workflows import survey as module
from galprote.workflows.dispatch import Dispatcher
from tests import surveys

class Places(SchedulerPlugin):
    def __init__(self):
        self.of = {}
    def transition(self, key, start, finish, *args, **more):
        if start == "processing" and finish == "memory":
            self.of[str(key)] = places.scheduler.workers[more["worker"]].name

places, found = Places(), {}
original = Dispatcher.run

def loaded():
    from galprote.model.predictor import _load
    return _load.cache_info().currsize

def visible():
    return os.environ.get("CUDA_VISIBLE_DEVICES")

def run(self, galaxies):
    places.scheduler = self.client.cluster.scheduler
    places.scheduler.add_plugin(places)
    wanted = 4  # two jobs with a GPU, one with two cores
    self.client.wait_for_workers(wanted, timeout=100)
    original(self, galaxies)
    names = {a: about["name"] for a, about in self.client.scheduler_info(n_workers=-1)["workers"].items()}
    found["models"] = {names[a]: n for a, n in self.client.run(loaded).items()}
    found["cuda"] = {names[a]: n for a, n in self.client.run(visible).items()}
    found["address"] = self.client.scheduler.address

if __name__ == "__main__":
    with mock.patch.object(Dispatcher, "run", run):
        (result,) = module.run_survey(read_survey(sys.argv[1]), surveys.Recorder())
    assert result.outcome == "done", result
    json.dump(found | {"places": places.of}, open(sys.argv[2], "w"))
"""


def test_inside_one_allocation(calm: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    steps = {kind: {"memory": "2GiB", "jobs": 1} for kind in ("gpu", "cpu")}
    steps["gpu"]["directives"] = ["--gres=gpu:1"]
    survey = survey_on(calm, tmp_path, {"type": "slurm-allocation", "interface": "lo", "dashboard": None} | steps)
    run = start(survey, environment, "salloc", "-p", "gpu", "-n", "4", "--mem=8G", "--gres=gpu:2")
    output, _ = run.communicate(timeout=250)
    assert run.returncode == 0, output
    assert products(tmp_path) == products(calm)


def test_the_time_limits_warning_stops_in_good_order(calm: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """The run is a job itself; SLURM sends its warning, and the next job goes on."""
    survey = survey_on(calm, tmp_path, section())
    script = tmp_path / "driver.sh"
    script.write_text(
        "#!/bin/bash\n#SBATCH --signal=B:TERM@60\n#SBATCH --mem=1G\n"
        f"trap 'kill -TERM $driver; wait $driver; exit $?' TERM\n"
        f"{surveys.COMMAND} run {survey} & driver=$!\nwait $driver\n"
    )
    log = tmp_path / "driver.log"
    job = ask(environment, "sbatch", "--parsable", f"--output={log}", str(script)).strip()
    end = time.monotonic() + 120
    while records(survey) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    ask(environment, "scancel", "--batch", "--signal=TERM", job)
    while job in ask(environment, "squeue", "-h", "-o", "%i").split() and time.monotonic() < end:
        time.sleep(0.2)
    text = log.read_text()
    assert "SIGTERM: finishing the chunks under way" in text, text
    assert f"galprote-pipeline run {survey}" in text
    kept = records(survey)
    assert 3 <= kept < ROWS
    progress = surveys.Recorder()
    content = yaml.safe_load(survey.read_text())
    survey.write_text(yaml.safe_dump(content | {"cluster": {"workers": 1, "dashboard": None}}))
    surveys.run_here(survey, progress=progress)
    assert progress.chunks["N1"] == ROWS - kept, "finished chunks were computed again"
    assert products(tmp_path) == products(calm)


def test_what_slurm_refuses_is_said_at_once(calm: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    for cluster, words in (
        (section(gpu=group("gpu", 1, directives=["--gres=tpu:1"])), "Invalid generic resource (gres) specification"),
        (section(cpu=group("nowhere", 1)), "invalid partition specified: nowhere"),
        (section(interface="ib7"), "cluster.interface: no ib7 with an IPv4 address here; there are lo (127.0.0.1)"),
    ):
        run = start(survey_on(calm, tmp_path, cluster), environment)
        output, _ = run.communicate(timeout=100)
        assert run.returncode == 2, output
        assert words in " ".join(output.split()), output
        assert not ask(environment, "squeue", "-h").strip(), "jobs are left"


def test_jobs_without_a_worker_end_the_run_with_their_log(
    calm: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    cluster = section(prologue=["echo no such module >&2; exit 1"], cpu=None)
    run = start(survey_on(calm, tmp_path, cluster), environment)
    output, _ = run.communicate(timeout=250)
    assert run.returncode == 2, output
    assert "cluster.gpu: 5 jobs ended before their workers could connect" in output
    assert "no such module" in output
