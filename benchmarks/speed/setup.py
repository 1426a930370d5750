"""What the parts measure with: mock cubes, surveys of them, prepared spectra. Made once, removed with their folder."""

import json
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
import yaml
from numpy.typing import NDArray

from galprote.model.checkpoint import Checkpoint, load_checkpoint
from galprote.pipeline.block import BlockSettings, PreparedBlock, prepare_block
from galprote.pipeline.config import find_cube, read_survey
from galprote.pipeline.graph import CubeReader, ModelReference
from galprote.pipeline.layout import StoreLayout
from galprote.pipeline.mock import MockConfig, make_mock
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.store import GalaxyStore
from galprote.workflows.capacity import capacity
from galprote.workflows.galaxy import check_galaxy, open_galaxy
from galprote.workflows.planning import galaxy_plan
from galprote.workflows.survey import load_model

#: Sides of the square mock cubes of 1, 4 and 16 times the spaxels.
SIDES: Final = {1: 64, 4: 128, 16: 256}
QUICK_SIDES: Final = {1: 12, 4: 24}


class Opened(NamedTuple):
    """A galaxy that is opened, but not begun."""

    plan: ChunkPlan
    store: GalaxyStore
    cube: xr.Dataset
    settings: BlockSettings
    layout: StoreLayout
    model: ModelReference


class Chunk(NamedTuple):
    """A chunk of a cube: flux and variance (m, rows, nx) float32, what it is prepared with, and it prepared."""

    flux: NDArray[np.float32]
    variance: NDArray[np.float32]
    settings: BlockSettings
    prepared: PreparedBlock


@dataclass(eq=False)
class Setup:
    """What all parts share.

    Attributes
    ----------
    folder : Path
        Temporary.
    quick : bool
        Whether everything is small.
    rates : dict of str to float
        The machine's own.
    known : dict of str to float
        What one part tells another.
    """

    folder: Path
    quick: bool
    rates: dict[str, float]
    known: dict[str, float] = field(default_factory=dict)

    @property
    def sides(self) -> dict[int, int]:
        """Sides of the mock cubes, by how many times the spaxels of the first they have."""
        return QUICK_SIDES if self.quick else SIDES

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The shipped weights."""
        return load_checkpoint()

    @lru_cache(maxsize=8)  # noqa: B019 - one setup a process
    def cube(self, side: int, *, corners: bool = False) -> Path:
        """A mock cube with light in all spaxels, or with empty corners as those of PHANGS."""
        path = self.folder / f"mock{side}{'corners' if corners else ''}.fits"
        # A spaxel at the edge has S/N 5 by default: half of those with light would be too faint to be fitted.
        config = MockConfig(shape=(side, side), empty_corners=corners, sky_noise=4.0)
        return make_mock(config, path, self.checkpoint.decoder)

    def survey(self, name: str, cube: Path, *, residual: bool = False, workers: int | None = None, **more: Any) -> Path:
        """A survey of one cube, in a folder of its own."""
        folder = self.folder / name
        folder.mkdir()
        galaxy = {"name": "MOCK", "cube": str(cube), "products": {"residual": residual, "figure": False}} | more
        survey = {
            "output": "out",
            "defaults": {"redshift": 0.008, "foreground": {"ebv": 0.03}},
            "galaxies": [galaxy],
            "cluster": {"workers": workers} if workers else {},
        }
        path = folder / "survey.yaml"
        path.write_text(yaml.safe_dump(survey))
        return path

    @cached_property
    def chunk(self) -> Chunk:
        """The first chunk of the cube of 4 times the spaxels."""
        opened = open_first(self.survey("chunk", self.cube(self.sides[4])))
        flux, variance = (part.compute(scheduler="sync") for part in CubeReader(opened.cube).read(0, ""))
        return Chunk(flux, variance, opened.settings, prepare_block(flux, variance, None, opened.settings))

    def spectra(self, n: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """So many spectra as the model gets them, and their noise, both (n, 876) float32."""
        batch = self.chunk.prepared.batch
        rows = np.arange(n) % len(batch.spectra)
        return batch.spectra[rows], batch.noise[rows]


def open_first(survey: Path) -> Opened:
    """Open the galaxy of a survey, as a run does."""
    config = read_survey(survey)
    model, templates = load_model(config)
    config.output.mkdir(exist_ok=True)
    make_plan = partial(galaxy_plan, config, capacity(config))
    galaxy = config.galaxies[0]
    job = check_galaxy(galaxy, find_cube(galaxy), config.output, make_plan, model, overwrite=False)
    assert job is not None
    opened = open_galaxy(job, model, templates)
    return Opened(job.plan, job.store, opened.cube, opened.settings, opened.layout, model)


def fitted(survey: Path) -> int:
    """Spaxels that a run has fitted."""
    record = json.loads((survey.parent / "out" / "run.json").read_text())
    return sum(int(galaxy["fitted"]) for galaxy in record["galaxies"])
