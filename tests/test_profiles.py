"""The SLURM profiles are right, and docs/hpc.md speaks of this code: its keys, its commands, its messages."""

import ast
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from dask import config as dask_config
from dask_jobqueue.slurm import SLURMJob

from galprote.pipeline.cluster_config import (
    SlurmAllocationCluster,
    SlurmCluster,
    WorkerGroup,
)
from galprote.pipeline.config import choose_cluster
from galprote.workflows.cli import app
from galprote.workflows.slurm_cluster import DEFAULTS, SlurmConfig, SrunJob, job_options

ROOT = Path(__file__).resolve().parents[1]
PROFILES = ROOT / "workflows" / "slurm"
YAMLS = sorted(PROFILES.glob("*.yaml"))
SCRIPTS = sorted(PROFILES.glob("*.sbatch"))
HPC = (ROOT / "docs" / "hpc.md").read_text(encoding="utf-8")

#: A heading of docs/hpc.md -> the sections whose keys its tables explain.
EXPLAINED = {
    "slurm` and `slurm-allocation": ("slurm", "slurm-allocation"),
    "local": ("local",),
    "local-cuda": ("local-cuda",),
    "existing": ("existing",),
}


def slurm_profile(name: str) -> SlurmConfig:
    found = choose_cluster(str(PROFILES / name))
    assert isinstance(found, SlurmCluster | SlurmAllocationCluster)
    return found


def job_script(config: SlurmConfig, group: WorkerGroup | None, folder: Path, job_class: type = SLURMJob) -> str:
    """The script of a group's job, as a run would submit it."""
    assert group is not None
    with dask_config.set({"jobqueue.galprote": DEFAULTS}):
        options = job_options(config, group, folder)
        job = job_class("tls://10.0.0.1:8786", name="gpu-0", config_name="galprote", protocol="tls://", **options)
    return str(job.job_script())


def directives(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]


def worker_command(script: str) -> list[str]:
    return shlex.split(script.strip().splitlines()[-1])


# --- the profiles ---


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.name)
def test_profile_is_valid(path: Path) -> None:
    assert choose_cluster(str(path)).type in ("slurm", "slurm-allocation")


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.name)
def test_profile_is_valid_as_a_section_of_a_survey(path: Path, tmp_path: Path) -> None:
    section = tmp_path / "section.yaml"
    section.write_text(yaml.safe_dump({"cluster": yaml.safe_load(path.read_text())}))
    assert choose_cluster(str(section)) == choose_cluster(str(path))


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.name)
def test_every_key_to_be_edited_has_a_comment(path: Path) -> None:
    # Groups, and keys of several lines, have theirs on the lines below or above.
    bare = [
        line
        for line in path.read_text().splitlines()
        if re.match(r" *(interface|account|jobs|cores|memory|partition):", line) and "EDIT" not in line
    ]
    bare = [line for line in bare if "the default" not in line]
    assert bare == []


def test_profiles_keep_jobs_from_being_requeued() -> None:
    for path in YAMLS:
        config = slurm_profile(path.name)
        if isinstance(config, SlurmCluster):
            for group in filter(None, (config.gpu, config.cpu)):
                assert "--no-requeue" in group.directives, path.name


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_batch_script_is_bash(path: Path) -> None:
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_batch_script_is_warned_and_may_be_started_again(path: Path) -> None:
    lines = path.read_text().splitlines()
    commands = [index for index, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    found = directives("\n".join(lines[: commands[0]]))  # SLURM reads none behind the first command
    assert found == directives(path.read_text())
    assert {"--signal=B:TERM@300", "--requeue", "--open-mode=append"} <= set(found)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_batch_script_runs_a_profile_that_exists(path: Path) -> None:
    (line,) = re.findall(r"galprote-pipeline run .*", path.read_text())
    words = shlex.split(line.removesuffix(" &"))
    check_command(words)
    assert (PROFILES / words[-1]).is_file()


def test_allocation_is_large_enough_for_its_steps() -> None:
    config = slurm_profile("allocation.yaml")
    asked = dict(
        item.removeprefix("--").split("=", 1)
        for item in directives((PROFILES / "allocation.sbatch").read_text())
        if "=" in item
    )
    groups = [group for group in (config.gpu, config.cpu) if group is not None]
    assert config.gpu is not None
    assert int(asked["nodes"]) == 1
    assert int(asked["cpus-per-task"]) > sum(group.jobs * group.cores for group in groups)
    assert int(asked["mem"].removesuffix("G")) * 2**30 > sum(group.jobs * group.memory for group in groups)
    assert asked["gres"] == f"gpu:{config.gpu.jobs}"


def test_profiles_are_in_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["galprote.workflows"]
    packed = {path for pattern in patterns for path in (ROOT / "workflows").glob(pattern)}
    assert {*YAMLS, *SCRIPTS} <= packed
    assert {path.name for path in PROFILES.iterdir()} == {path.name for path in (*YAMLS, *SCRIPTS)}


# --- the jobs that come of them ---


def test_job_of_the_gpu_group(tmp_path: Path) -> None:
    prologue = ("module load cuda", "source env/bin/activate")
    config = slurm_profile("gpu.yaml").model_copy(update={"prologue": prologue, "account": "stars"})
    script = job_script(config, config.gpu, tmp_path)
    asked = directives(script)
    assert {"-p gpu", "-A stars", "-t 04:00:00", "--cpus-per-task=4", "--mem=16G", "--gres=gpu:1"} <= set(asked)
    lines = script.strip().splitlines()
    assert lines[-3:-1] == list(prologue)
    command = worker_command(script)
    assert command[command.index("--resources") + 1] == "GPU=1"
    assert command[command.index("--interface") + 1] == config.interface
    assert "--nworkers" not in command  # one worker has the GPU


def test_job_of_the_cpu_group_has_a_worker_for_each_core_and_no_gpu(tmp_path: Path) -> None:
    config = slurm_profile("gpu.yaml")
    script = job_script(config, config.cpu, tmp_path)
    assert not any("gres" in line or "gpu" in line for line in directives(script))
    command = worker_command(script)
    assert command[command.index("--nworkers") + 1] == "8"
    assert command[command.index("--nthreads") + 1] == "1"
    assert "--resources" not in command


def test_directives_are_left_out_where_the_profile_says_so(tmp_path: Path) -> None:
    config = slurm_profile("gpu-only.yaml")
    script = job_script(config, config.gpu, tmp_path)
    assert "--mem=" not in script
    assert {"--gpus-per-task=1", "--mem-per-gpu=32G", "-n 1"} <= set(directives(script))
    assert "GPU=1" in worker_command(script)


def test_job_in_the_text_is_the_one_that_is_made(tmp_path: Path) -> None:
    config = slurm_profile("gpu-only.yaml")
    made = [
        line for line in directives(job_script(config, config.gpu, tmp_path)) if not line.startswith(("-e ", "-o "))
    ]
    shown = re.findall(r"^#SBATCH (.*)$", sections()["Profiles"], re.MULTILINE)
    assert shown == made


def test_memory_of_the_gpu_only_profile_is_what_slurm_is_asked_for() -> None:
    gpu = slurm_profile("gpu-only.yaml").gpu
    assert gpu is not None
    assert f"--mem-per-gpu={int(gpu.memory) // 2**30}G" in gpu.directives


def test_python_may_be_a_command_of_several_words(tmp_path: Path) -> None:
    config = slurm_profile("container.yaml")
    command = worker_command(job_script(config, config.gpu, tmp_path))
    assert config.python is not None
    wrapper = shlex.split(config.python)
    assert len(wrapper) > 2
    assert command[: len(wrapper) + 2] == [*wrapper, "-m", "distributed.cli.dask_worker"]


def test_script_with_a_wrapper_runs_its_words(tmp_path: Path) -> None:
    config = slurm_profile("container.yaml").model_copy(
        update={"python": 'printf "%s|" "two words" "$WHO"', "scratch": "$LOCAL"}
    )
    script = tmp_path / "job.sh"
    script.write_text(job_script(config, config.gpu, tmp_path))
    environment = {"WHO": "a job", "LOCAL": "/local/1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=True)
    words = done.stdout.split("|")
    assert words[:4] == ["two words", "a job", "-m", "distributed.cli.dask_worker"]
    assert words[words.index("--local-directory") + 1] == "/local/1"


def test_step_of_an_allocation(tmp_path: Path) -> None:
    config = slurm_profile("allocation.yaml")
    script = job_script(config, config.gpu, tmp_path, SrunJob)
    assert "GPU=1" in worker_command(script)
    assert config.cpu is not None
    assert "--gres=none" in config.cpu.directives


# --- docs/hpc.md ---


def sections() -> dict[str, str]:
    """Text below each third-level heading of docs/hpc.md, by the heading without its outer backticks."""
    parts = re.split(r"^#{2,3} (.*)$", HPC, flags=re.MULTILINE)
    return {title.strip("`"): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_profile_is_documented() -> None:
    for path in (*YAMLS, *SCRIPTS):
        assert f"`{path.name}`" in HPC


def test_yaml_in_the_text_is_right(tmp_path: Path) -> None:
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", HPC, re.DOTALL)]
    clusters = [block.get("cluster", block) for block in blocks if "cluster" in block or "type" in block]
    assert len(clusters) == 3
    for index, cluster in enumerate(clusters):
        path = tmp_path / f"{index}.yaml"
        path.write_text(yaml.safe_dump(cluster))
        assert choose_cluster(str(path)).type == cluster["type"]


def test_internal_links_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.*)$", HPC, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    links = re.findall(r"\]\(#([^)]*)\)", HPC)
    assert links
    assert set(links) <= anchors
    assert all((ROOT / "docs" / name).is_file() for name in re.findall(r"\]\((?!#|http)([^)#]+)", HPC))


def commands() -> Iterator[str]:
    """Every command line of galprote-pipeline in docs/hpc.md, in blocks and in sentences."""
    yield from re.findall(r"^ {4,}(?:\w+=\S+ )*(galprote-pipeline .*?)(?: #.*)?$", HPC, re.MULTILINE)
    yield from re.findall(r"(?<!`)`(?:\w+=\S+ )*(galprote-pipeline [^`\n]+)`(?!`)", HPC)


def check_command(words: list[str]) -> None:
    """Have typer parse a command, without running it."""
    assert words[0] == "galprote-pipeline"
    if words[1:] == ["--version"]:
        return
    group: Any = typer.main.get_command(app)
    assert words[1] in group.commands, words
    group.commands[words[1]].make_context(words[1], words[2:])  # raises on what it does not know, or one word too many


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_commands_in_the_text_exist(line: str) -> None:
    check_command(shlex.split(line))


def test_commands_are_found() -> None:
    assert len(set(commands())) > 8
    with pytest.raises(Exception, match="No such option"):  # typer may have a click of its own
        check_command(["galprote-pipeline", "run", "survey.yaml", "--no-such-option"])


def text_of_the_code() -> str:
    """Every constant piece of text in pipeline/ and workflows/, one a line."""
    pieces = []
    for layer in ("pipeline", "workflows"):
        for path in (ROOT / layer).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    pieces.append(node.value)
    return "\n".join(pieces)


def test_messages_in_the_table_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(.*?)` \|", sections()["Messages, and what to do"], re.MULTILINE)
    code = text_of_the_code()
    assert len(rows) > 20
    for row in rows:
        # Where values stand, and where messages are put together of several.
        pieces = [piece.strip() for piece in re.split(r"[…:;()]|'s YAML", row)]
        lost = [piece for piece in pieces if len(piece) > 3 and piece not in code]
        assert lost == [], row
