"""Small surveys for the end-to-end tests: a checkpoint with random weights, cubes of template spectra, YAML files."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from distributed import Client, LocalCluster
from numpy.typing import NDArray

from galprote.model.checkpoint import save_checkpoint
from galprote.model.decoder import FINE_EDGES
from galprote.model.kinematics import KinematicTemplates
from galprote.model.refinement import RefinementConfig
from galprote.model.transformer import GalProTE, ModelConfig
from galprote.pipeline.block import BlockSettings
from galprote.pipeline.config import find_cube, read_survey
from galprote.pipeline.graph import ModelReference
from galprote.pipeline.layout import StoreLayout
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.store import GalaxyStore
from galprote.workflows.capacity import capacity
from galprote.workflows.cli import main
from galprote.workflows.cluster import Nobody
from galprote.workflows.galaxy import check_galaxy, open_galaxy
from galprote.workflows.logbook import GalaxyResult
from galprote.workflows.planning import galaxy_plan
from galprote.workflows.stop import StopRequest, signals_stop
from galprote.workflows.survey import load_model, run_survey
from tests import cubes
from tests.libraries import synthetic_decoder

REDSHIFT = 0.005
FIRST_CHANNEL, CHANNELS = 4766.0, 1902
#: A cube in chunks of one row is seconds of work: a signal meets it in the middle.
LONG = (40, 6)
#: What `galprote-pipeline` is, whichever folder the tests are run from.
COMMAND = str(Path(sys.executable).with_name("galprote-pipeline"))

Array = NDArray[Any]


def random_model(seed: int, *, refined: bool, **sizes: Any) -> GalProTE:
    """A small network whose answers mean nothing, but differ from spectrum to spectrum."""
    refinement = RefinementConfig(stages=2, components=16, hidden=32, memory=8) if refined else None
    templates = KinematicTemplates.from_decoder(synthetic_decoder()) if refined else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = ModelConfig(channels=2, projection_rank=8, av_max=3.0, refinement=refinement, **sizes)
        model = GalProTE(config, templates)
        if model.refinement is not None:
            model.refinement.set_components(synthetic_decoder().templates())
            for stage in model.refinement.stages:
                torch.nn.init.normal_(stage.last.weight, std=0.1)  # new stages correct nothing
                torch.nn.init.constant_(stage.last.bias[637], 1.5)  # dispersions that are not all clamped to zero
    return model


def write_checkpoint(path: Path, seed: int = 7, *, refined: bool = False, **sizes: Any) -> Path:
    """Write a checkpoint with random weights: 6 MB, a second."""
    model = random_model(seed, refined=refined, **sizes)
    with torch.no_grad():  # sharper than new weights are, so that maps and status bits vary
        for name, weights in model.named_parameters():
            if name.endswith("weight") and weights.ndim > 1 and not name.startswith("refinement."):
                weights.mul_(2.0)
    save_checkpoint(path, model, synthetic_decoder(), {"training": {}, "metrics": {}})
    return path


def spectra(n: int, *, seed: int = 1, snr: float = 40.0) -> tuple[Array, Array]:
    """Flux (median around 1000) and variance of `n` spectra, (channels, n) float32."""
    rng = np.random.default_rng(seed)
    decoder = synthetic_decoder()
    pure = 8  # so many different populations; brightness and noise differ from spaxel to spaxel
    grid = torch.from_numpy(rng.dirichlet(np.full(636, 0.01), pure).astype(np.float32)).reshape(pure, 12, 53)
    av = torch.from_numpy(rng.uniform(0, 1.5, pure).astype(np.float32))
    fine = decoder.fine_spectra(grid, av).numpy()
    observed = FIRST_CHANNEL + 1.25 * np.arange(CHANNELS)
    centres = (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2 * (1 + REDSHIFT)
    native = np.stack([np.interp(observed, centres, row) for row in fine], axis=1)
    flux = native[:, rng.integers(0, pure, n)] * 10 ** rng.uniform(2.7, 3.3, n)
    variance = np.broadcast_to((flux.mean(axis=0) / snr) ** 2, flux.shape)
    flux += np.sqrt(variance) * rng.standard_normal(flux.shape)
    return flux.astype(np.float32), variance.astype(np.float32)


def write_cube(
    path: Path, shape: tuple[int, int] = (12, 6), *, seed: int = 1, empty_rows: slice = slice(0), faint: int = 0
) -> Path:
    """Write a cube in MUSE's layout: template spectra, a NaN corner, `empty_rows`, and `faint` noisy first columns."""
    ny, nx = shape
    flux, variance = (values.reshape(CHANNELS, ny, nx) for values in spectra(ny * nx, seed=seed))
    flux[:, empty_rows], variance[:, empty_rows] = np.nan, np.nan
    flux[:, -1, -2:], variance[:, -1, -2:] = np.nan, np.nan
    variance[:, :, :faint] *= 400.0
    variance[700:724, ny // 2, nx // 2] = 12 * (0.0, -4.0)  # over one per cent of the channels
    path.parent.mkdir(parents=True, exist_ok=True)
    return cubes.write_muse_cube(path, flux, variance, cubes.muse_cards(FIRST_CHANNEL))


def write_survey(folder: Path, galaxies: list[dict[str, Any]], checkpoint: Path, **sections: Any) -> Path:
    """Write a survey's YAML: a local cluster of one worker without a dashboard, if not said otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    survey = {
        "output": "out",
        "defaults": {"redshift": REDSHIFT, "foreground": {"ebv": 0.02}},
        "galaxies": galaxies,
        "model": {"checkpoint": str(checkpoint), "device": "cpu"},
        "cluster": {"workers": 1, "dashboard": None},
        "report": False,
    } | sections
    path = folder / "survey.yaml"
    path.write_text(yaml.safe_dump(survey))
    return path


def long_survey(folder: Path, cube: Path, checkpoint: Path, *others: Path) -> Path:
    """Write the YAML of a survey in chunks of one row, on two worker processes."""
    galaxies = [{"name": f"N{n}", "cube": str(path)} for n, path in enumerate((cube, *others), 1)]
    cluster = {"workers": 2, "dashboard": None}
    return write_survey(folder, galaxies, checkpoint, chunks={"rows": 1}, cluster=cluster)


class Recorder:
    """A progress display that only remembers."""

    def __init__(self) -> None:
        self.started: dict[str, tuple[int, int]] = {}
        self.steps: list[tuple[str, str, int, int]] = []
        self.chunks: dict[str, int] = {}
        self.outcomes: dict[str, str] = {}
        self.messages: list[str] = []

    def start(self, name: str, spaxels: int, done: int, what: str = "spaxels") -> None:
        self.started[name] = (spaxels, done)
        self.steps.append((name, what, spaxels, done))

    def advance(self, name: str, spaxels: int, fitted: int) -> None:
        self.chunks[name] = self.chunks.get(name, 0) + 1

    def finish(self, name: str, outcome: str) -> None:
        self.outcomes[name] = outcome

    def message(self, text: str) -> None:
        self.messages.append(text)


@contextmanager
def threads(**_: Any) -> Iterator[Client]:
    """A Dask cluster in this process: starts in a fraction of a second."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def here(**settings: Any) -> Iterator[tuple[Client, Nobody]]:
    """What `galprote.workflows.cluster.start_cluster` gives, in this process."""
    with threads(**settings) as client:
        yield client, Nobody()


def run_here(
    survey: Path,
    *,
    overwrite: bool = False,
    progress: Recorder | None = None,
    cluster: Callable[..., AbstractContextManager[Client]] = threads,
) -> list[GalaxyResult]:
    """Run a survey with Dask workers that are threads of this process."""

    @contextmanager
    def start(_: Any, **settings: Any) -> Iterator[tuple[Client, Nobody]]:
        with cluster(**settings) as client:
            yield client, Nobody()

    stop, progress = StopRequest(), progress or Recorder()
    with mock.patch("galprote.workflows.survey.start_cluster", start), signals_stop(stop, progress.message):
        return run_survey(read_survey(survey), progress, overwrite=overwrite, stop=stop)


@dataclass(frozen=True)
class FirstJob:
    """A galaxy that is opened."""

    plan: ChunkPlan
    store: GalaxyStore
    cube: xr.Dataset
    settings: BlockSettings
    layout: StoreLayout


def first_job(survey: Path) -> tuple[FirstJob, ModelReference]:
    """The first galaxy of a survey, opened and checked but not begun."""
    config = read_survey(survey)
    galaxy, (model, templates) = config.galaxies[0], load_model(config)
    make_plan = partial(galaxy_plan, config, capacity(config))
    config.output.mkdir(exist_ok=True)
    job = check_galaxy(galaxy, find_cube(galaxy), config.output, make_plan, model, overwrite=False)
    assert job is not None
    opened = open_galaxy(job, model, templates)
    return FirstJob(job.plan, job.store, opened.cube, opened.settings, opened.layout), model


#: Files of a run that name times, hosts, or other galaxies.
RECORDS = ("summary.json", "failures.csv", "run.json", ".lock")


def tree(folder: Path, *, without: tuple[str, ...] = RECORDS) -> dict[str, str]:
    """Hashes of all files under a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in without and ".slurm" not in path.parts
    }


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in this process."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    output = capsys.readouterr()
    return int(stop.value.code or 0), output.out, output.err
