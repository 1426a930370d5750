"""What is done with each command of the documentation: it is run, or why not, and what is looked at instead."""

import ast
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import typer
import yaml
from distributed.cli import dask_scheduler, dask_worker

from galprote.model.training_config import read_training_config
from galprote.pipeline.config import GalaxyConfig, SurveyConfig, choose_cluster, read_survey
from galprote.workflows.cli import app
from tests import surveys
from tests.doc_blocks import ROOT, words_of

Capture = pytest.CaptureFixture[str]
#: Options behind which stands a file that is written.
OUTPUTS = ("--json", "--output", "--report", "--figures", "--plots", "--markdown")


class Rule(NamedTuple):
    """What is done with commands that match; why they are not run, if they are not."""

    pattern: str
    do: Callable[[str, Capture], None]
    why_not: str = ""


def rule_of(command: str) -> Rule | None:
    """The first rule whose pattern begins the command, after variables."""
    plain = re.sub(r"^([A-Z_]+=\S* )+", "", command)
    return next((rule for rule in RULES if re.match(rule.pattern, plain)), None)


# --- run ---


def run_galprote(command: str, capsys: Capture) -> None:
    """Run it in this process, with Dask workers that are threads; it must end well."""

    def start(_: Any, **settings: Any) -> Any:
        return surveys.here(**settings)

    with (
        mock.patch("galprote.workflows.survey.start_cluster", start),
        mock.patch("galprote.workflows.forking.can_fork", return_value=False),
    ):
        code, output, error = surveys.call(capsys, *words_of(command)[1:])
    assert code == 0 or command == "galprote-pipeline", f"{command}\n{output}{error}"
    words = words_of(command)
    written = Path(words[words.index("--output") + 1]).exists() if "--output" in words else False
    assert output or written, f"{command} says nothing"


def run_comparison(command: str, capsys: Capture) -> None:
    """Compare maps with themselves: what is published of the galaxy is not at hand."""
    for word in words_of(command):
        if word.endswith("_MAPS.fits") and not Path(word).exists():
            shutil.copy(Path("maps", "NGC4254_MAPS.fits"), word)
    run_galprote(command, capsys)


def run_script(command: str, capsys: Capture) -> None:
    """Run a script of the repository that only reads what is committed."""
    script, *arguments = words_of(command)[1:]
    with mock.patch.object(sys, "argv", [script, *arguments]), suppress(SystemExit):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert capsys.readouterr().out


def run_code(command: str, capsys: Capture) -> None:
    """Run the text behind `python -c`."""
    code = words_of(command)[2]
    exec(compile(code, command, "exec"), {})
    (folder,) = capsys.readouterr().out.split()
    assert (Path(folder) / "gpu.yaml").is_file()


# --- look at it without running it ---


def galprote_parses(command: str, capsys: Capture) -> None:
    """The command's own parser takes it; the files of the repository that it names are there and make sense."""
    words = words_of(command)[1:]
    group: Any = typer.main.get_command(app)
    group.commands[words[0]].make_context(words[0], words[1:])
    files_exist(command, capsys)
    if words[0] == "train":
        settings = read_training_config(ROOT / words[1], library=Path(words[words.index("--library") + 1]))
        assert settings.steps > 0
    if "--cluster" in words:
        cluster = choose_cluster(words[words.index("--cluster") + 1])
        read_survey(words[1]).model_copy(update={"cluster": cluster})


def group_knows(command: str, capsys: Capture) -> None:
    """It is an option of the command itself."""
    group: Any = typer.main.get_command(app)
    assert words_of(command)[1] in {option for parameter in group.params for option in parameter.opts}


def target_exists(command: str, capsys: Capture) -> None:
    """make knows what it would do; nothing that it would install counts."""
    (target,) = [word for word in words_of(command)[1:] if "=" not in word]
    plan = dry_run(target)
    assert plan.returncode == 0, plan.stderr
    assert f"{target}:" in (ROOT / "Makefile").read_text()


@cache
def dry_run(target: str) -> subprocess.CompletedProcess[str]:
    """What make would do."""
    line = ["make", "--dry-run", "--old-file=pyproject.toml", "TORCH_INDEX=", target]  # does not look for a GPU
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def script_takes_it(command: str, capsys: Capture) -> None:
    """The script or module is there, and knows every option and the word of every part."""
    words = [word.removeprefix(".venv/bin/") for word in words_of(command)]
    assert words.pop(0) == "python"
    name = words[1].replace(".", "/") if words[0] == "-m" else words[0]
    found = [path for path in (name, f"{name}.py", f"{name}/__main__.py") if (ROOT / path).is_file()]
    assert found, f"{name} is not there"
    source = (ROOT / found[0]).read_text()
    for word in words:
        if word.startswith("--"):
            assert re.search(rf'"{word}"|\b{word[2:].replace("-", "_")}: ', source), f"{found[0]} knows no {word}"
    if found[0] == "benchmarks/measure.py":
        galprote_parses(shlex.join(words[1:]), capsys)
    files_exist(command, capsys)


def pytest_finds(command: str, capsys: Capture) -> None:
    """Tests with that marker are there."""
    words = words_of(command)
    marker, folder = words[words.index("-m") + 1], next(word for word in words if word.startswith("tests/"))
    assert any(f"mark.{marker}" in path.read_text() for path in (ROOT / folder).rglob("*.py"))


def dask_parses(command: str, capsys: Capture) -> None:
    """Dask's own parser takes it."""
    _, part, *words = words_of(command)
    {"scheduler": dask_scheduler, "worker": dask_worker}[part].main.make_context(part, words)


def bash_parses(command: str, capsys: Capture) -> None:
    """Bash takes it, once <placeholders> are words; files of the repository are there."""
    text = re.sub(r"<[^>]*>", "placeholder", command)
    checked = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    files_exist(command, capsys)
    for word in shlex.split(text):
        if word.endswith(".sbatch"):
            assert (ROOT / "workflows" / "slurm" / word).is_file()
        if word == ".ci/run":
            subprocess.run(["bash", "-n", ROOT / word], check=True)


def files_exist(command: str, capsys: Capture) -> None:
    """Files of the repository that are read are there; names in capitals stand for the reader's own."""
    words = words_of(command)
    for before, word in zip(["", *words], words, strict=False):
        ours = re.match(r"(configs|benchmarks|docs|model|pipeline|workflows)/[\w./-]+$", word)
        if ours and before not in OUTPUTS and not Path(word).stem.isupper():
            assert (ROOT / word).exists(), f"{word} is not there"


RULES = (
    Rule(r"galprote-pipeline run \S+ --cluster (gpu|cpu)\.yaml", galprote_parses, "needs SLURM: `make test-slurm`"),
    Rule(r"galprote-pipeline run \S+ --cluster local-cuda", galprote_parses, "needs GPUs"),
    Rule(r"galprote-pipeline run \S+ --cluster (tcp:|existing)", galprote_parses, "needs a Dask cluster"),
    Rule(r"galprote-pipeline (train|appraise)\b", galprote_parses, "minutes to hours, and a library"),
    Rule(r"galprote-pipeline evaluate\b", galprote_parses, "a quarter of an hour"),
    Rule(r"galprote-pipeline card --results benchmarks/", galprote_parses, "writes over docs/model-card.md"),
    Rule(r"galprote-pipeline view\b", galprote_parses, "serves until Ctrl-C: it has tests of its own"),
    Rule(r"galprote-pipeline compare\b.* --ppxf", galprote_parses, "minutes of pPXF"),
    Rule(r"galprote-pipeline compare\b", run_comparison),
    Rule(r"galprote-pipeline --install-completion$", group_knows, "changes the reader's shell"),
    Rule(r"galprote-pipeline( (run|plan|inspect|init|status|fit|card|report|--version|--help)\b|$)", run_galprote),
    Rule(r"python benchmarks/(targets|validation_tables)\.py", run_script),
    Rule(r"python benchmarks/variants\.py show benchmarks/curve\.json", run_script),
    Rule(r"python -c ", run_code),
    Rule(r"make ", target_exists, "minutes, or PyPI; `.ci/run` does venv, lint, docs, test and demo"),
    Rule(r"(\.venv/bin/)?python (-m (benchmarks|tests)\.|benchmarks/)", script_takes_it, "minutes to hours"),
    Rule(r"\.venv/bin/pytest ", pytest_finds, "minutes"),
    Rule(r"dask (scheduler|worker) ", dask_parses, "run until they are stopped"),
    Rule(r"(srun|sbatch|first=\$\(sbatch) ?", bash_parses, "needs SLURM"),
    Rule(r"lfs ", bash_parses, "needs Lustre"),
    Rule(r"ssh ", bash_parses, "needs another machine"),
    Rule(r"export [A-Z_]+=", bash_parses, "changes the shell alone"),
    Rule(r"(git clone <this repository>|cd galprote)", bash_parses, "needs the network"),
    Rule(r"\. \.venv/bin/activate$", bash_parses, "changes the shell alone"),
    Rule(r"\.ci/run$", bash_parses, "runs this test"),
)


def prepare(folder: Path, checkpoint: Path) -> None:
    """Stand-ins for everything that readers are supposed to have: cubes, a survey, spectra, profiles, weights."""
    from galprote.model.checkpoint import load_checkpoint
    from galprote.pipeline.mock import MockConfig, make_mock
    from tests import spectra

    (folder / "cubes").mkdir()
    cube = folder / "cubes" / "NGC4254_PHANGS_DATACUBE_native.fits"
    config = MockConfig(name="NGC4254", shape=(8, 8), redshift=0.008026, rotation_kms=30.0, empty_corners=False)
    weights = load_checkpoint(checkpoint)
    make_mock(config, cube, weights.decoder)
    cube.with_name(f"{cube.stem}_TRUTH.fits").unlink()
    galaxy = {"name": "NGC4254", "cube": f"cubes/{cube.name}", "redshift": 0.008026, "foreground": {"ebv": 0.0334}}
    surveys.write_survey(folder, [galaxy], checkpoint, output="maps")
    (folder / "output").symlink_to("maps")
    spectra.write_text(
        folder / "spectrum.txt", [], wave := spectra.linear(), light := spectra.light(wave), 0.02 * light
    )
    spectra.write_sdss(folder / "spectrum.fits")
    spectra.write_sdss(folder / "spec-2488-54149-0465.fits")
    spectra.write_desi(folder / "coadd-main-bright-100.fits", rows=18, row=17)
    (folder / "runs" / "survey").mkdir(parents=True)
    (folder / "runs" / "survey" / "galprote.safetensors").symlink_to(checkpoint)
    for profile in (ROOT / "workflows" / "slurm").glob("*.yaml"):
        (folder / profile.name).write_text(profile.read_text())
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (folder / name).touch()
    results = json.loads((ROOT / "benchmarks" / "evaluation.json").read_text())
    results["about"]["weights_sha256"] = weights.weights_sha256  # as if these had been measured
    (folder / "results.json").write_text(json.dumps(results))
    existing = {"type": "existing", "scheduler_file": "shared/scheduler.json", "worker_memory": "4GiB"}
    (folder / "existing.yaml").write_text(yaml.safe_dump(existing))
    for name in ("configs", "benchmarks"):
        os.symlink(ROOT / name, folder / name)


def python_runs(text: str, where: str) -> None:
    """Python of the documentation is Python."""
    ast.parse(text, where)


def read_sections(text: str, folder: Path) -> bool:
    """Whether YAML is one of ours; the program's own reader takes it, with what a survey lacks filled in."""
    raw = yaml.safe_load(text)
    path = folder / "block.yaml"
    if "type" in raw:
        path.write_text(text)
        choose_cluster(str(path))
    elif raw.keys() <= SurveyConfig.model_fields.keys() | GalaxyConfig.model_fields.keys() | {"defaults"}:
        whole = {
            "output": "x",
            "galaxies": [{"name": "X", "cube": "x.fits", "redshift": 0.01, "foreground": {"ebv": 0}}],
        }
        whole |= {key: value for key, value in raw.items() if key not in GalaxyConfig.model_fields}
        own = {key: value for key, value in raw.items() if key in GalaxyConfig.model_fields}
        path.write_text(yaml.safe_dump(whole | {"defaults": whole.get("defaults", {}) | own}))
        read_survey(path)
    else:
        return False
    return True
