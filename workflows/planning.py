"""What a run would do, from headers alone: galaxies, shapes, chunks, memory and products. Nothing is computed."""

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galprote.model.checkpoint import checkpoint_config, checkpoint_resolution, default_checkpoint
from galprote.model.errors import ConfigError, GalproteError
from galprote.model.grids import covered
from galprote.model.libraries import file_sha256
from galprote.pipeline.binning_config import ADAPTIVE
from galprote.pipeline.config import GalaxyConfig, SurveyConfig, find_cube
from galprote.pipeline.layout import product_files
from galprote.pipeline.mask_config import mask_inputs
from galprote.pipeline.plan import (
    BIN_MAKING_BYTES,
    CHUNKS_PER_GPU,
    CHUNKS_PER_WORKER,
    DRIVER_BYTES,
    ChunkPlan,
    even_rows,
    plan_chunks,
)
from galprote.pipeline.provenance import provenance
from galprote.pipeline.readers import open_cube
from galprote.pipeline.readers.shape import cube_shape
from galprote.pipeline.readers.unpack import is_gzip
from galprote.pipeline.spatial_masks import check_mask_files
from galprote.pipeline.spectral_masks import band_words, check_masked_share, wavelength_masks
from galprote.pipeline.store import GalaxyStore
from galprote.workflows.capacity import Capacity, capacity
from galprote.workflows.galaxy import check_files, earlier_work, recorded_headers, resolution_match
from galprote.workflows.survey_inputs import inputs_in_the_way, missing_inputs
from galprote.workflows.words import GalaxyState


@dataclass(frozen=True)
class PlannedGalaxy:
    """A galaxy as `plan` describes it: its chunks, or what is in the way.

    Attributes
    ----------
    name, source : str
    plan : ChunkPlan or None
        None if it cannot run.
    channels_in_file : int
    state : GalaxyState
        Of what is in the output folder: waiting (nothing), stopped, incomplete, done.
    products : tuple of str
        Names of files.
    problem : str
        Why it cannot run.
    refused : bool
        Whether the run as a whole would refuse because of it.
    chunks_done : int
        Chunks that are kept.
    masks, steps : tuple of str
    """

    name: str
    source: str
    plan: ChunkPlan | None
    channels_in_file: int
    state: GalaxyState
    products: tuple[str, ...]
    problem: str = ""
    refused: bool = False
    chunks_done: int = 0
    masks: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


def plan_survey(survey: SurveyConfig) -> list[PlannedGalaxy]:
    """Say what a run would do; reads headers, of cubes and weights, and computes nothing."""
    missing = missing_inputs(survey)
    taken = inputs_in_the_way(survey, missing)
    return [
        _plan_galaxy(survey, galaxy, missing.get(galaxy.name, ""), taken.get(galaxy.name, ""))
        for galaxy in survey.galaxies
    ]


def plan_exit_code(plans: list[PlannedGalaxy]) -> int:
    """What the run would end with, as far as can be seen: 0 all; 1 not all galaxies; 2 it would refuse."""
    troubled = [item for item in plans if item.problem]
    if any(item.refused for item in troubled) or len(troubled) == len(plans):
        return 2
    return 1 if troubled else 0


def _plan_galaxy(survey: SurveyConfig, galaxy: GalaxyConfig, missing: str, taken: str) -> PlannedGalaxy:
    products = product_files(galaxy.name, galaxy.products, binned=galaxy.binning.on)
    source = str(mock_cube_path(survey, galaxy)) if galaxy.mock else str(galaxy.cube)
    store, weights = GalaxyStore(survey.output, galaxy.name), survey.model.checkpoint or default_checkpoint()
    blank = PlannedGalaxy(galaxy.name, source, None, 0, _look(store), products)
    if missing or taken:
        return replace(blank, problem=missing or taken, refused=bool(taken))
    try:
        if not weights.is_file():
            raise ConfigError(f"model.checkpoint: no such file: {weights}")
        visible = checkpoint_config(weights).visible
        window, headers = covered(visible), recorded_headers(store)
        cube = find_cube(galaxy) if galaxy.cube else Path(source)
        if galaxy.mock is not None and not cube.is_file():
            shape, channels = _mock_shape(galaxy, window), 0
            blank = replace(blank, source=f"{source} (will be made)")
        else:
            shape, channels = cube_shape(cube, galaxy.redshift, window)
            if not is_gzip(cube):  # to unpack it takes long: a run does it
                opened = open_cube(cube, redshift=galaxy.redshift, rest_window=window)
                resolution_match(galaxy, opened, checkpoint_resolution(weights))
                headers = str(opened.attrs["header_sha256"])
        masks = _describe_masks(galaxy, shape[1:], visible)
        check_files(galaxy, shape[1:], window)
        state, rows = _standing(survey, galaxy, cube, headers)
        plan = galaxy_plan(survey, capacity(survey), galaxy, shape, rows)
    except ConfigError as error:  # of a run as a whole, see `survey`
        return replace(blank, problem=str(error), refused=True)
    except GalproteError as error:
        return replace(blank, problem=str(error))
    done = len(plan.chunks) if state == "done" else min(len(store.recorded_chunks()), len(plan.chunks))
    return replace(
        blank,
        plan=plan,
        channels_in_file=channels,
        state=state,
        chunks_done=done,
        masks=masks,
        steps=_describe(galaxy),
    )


def _look(store: GalaxyStore) -> GalaxyState:
    """What there is of a galaxy, whatever it was made with."""
    if store.final.exists():
        return "incomplete" if store.finished_gaps() else "done"
    return "stopped" if store.partial.exists() else "waiting"


def _standing(survey: SurveyConfig, galaxy: GalaxyConfig, cube: Path, headers: str) -> tuple[GalaxyState, int | None]:
    """What there is of a galaxy, and the rows of a chunk to go on with.

    Raises
    ------
    ConfigError
        If it was made with something else: the run would refuse.
    """
    store = GalaxyStore(survey.output, galaxy.name)
    if galaxy.mock is not None and not cube.is_file():
        return _look(store), None
    weights = file_sha256(survey.model.checkpoint or default_checkpoint())
    record = provenance(galaxy, cube, headers, weights, survey.model.precision)
    finished, rows = earlier_work(store, record, overwrite=False)
    return ("done" if finished else _look(store)), rows


def _describe(galaxy: GalaxyConfig) -> tuple[str, ...]:
    """What is done before a galaxy is fitted, in words."""
    bins, moving = galaxy.binning, galaxy.kinematics
    target = f"to S/N {bins.target_snr:g} per channel"
    about = {"square": f"of {bins.size} x {bins.size} spaxels", "file": f"of {Path(bins.file or '').name}"}
    words = [f"bins: {bins.method} {about.get(bins.method, target)} (the cube is read twice)"] if bins.on else []
    words += [f"kinematics: {moving.method}{f' {Path(moving.map).name}' if moving.map else ''}"] if moving.on else []
    return tuple(words)


def _describe_masks(galaxy: GalaxyConfig, shape: tuple[int, int], visible: NDArray[np.bool_]) -> tuple[str, ...]:
    """Check a galaxy's masks as far as that goes without the cube's data, and say what they are."""
    check_mask_files(galaxy.masks, shape)
    words = [f"{item.key} {Path(item.path).name}" for item in mask_inputs(galaxy.masks)]
    bands = wavelength_masks(galaxy.masks)
    share = check_masked_share(bands, galaxy.redshift, visible, galaxy.name)
    for frame, listed in (("observed", bands.observed), ("rest", bands.rest)):
        if listed:
            words.append(f"{', '.join(band_words(listed))} A ({frame} frame)")
    return (*words, f"{share:.1%} of the model's samples") if bands.observed or bands.rest else tuple(words)


def _mock_shape(galaxy: GalaxyConfig, window: tuple[float, float]) -> tuple[int, int, int]:
    assert galaxy.mock is not None
    channels = int((window[1] - window[0]) * (1 + galaxy.redshift) / 1.25) + 5
    return (channels, *galaxy.mock.shape)


def mock_cube_path(survey: SurveyConfig, galaxy: GalaxyConfig) -> Path:
    """Where a galaxy's synthetic cube is made; another name for other settings, so that an old cube is never taken."""
    assert galaxy.mock is not None
    settings = hashlib.sha256(galaxy.mock.model_dump_json().encode()).hexdigest()[:8]
    return survey.output / "mock" / f"{galaxy.name}_{settings}_DATACUBE.fits"


def galaxy_plan(
    survey: SurveyConfig, available: Capacity, galaxy: GalaxyConfig, shape: tuple[int, int, int], rows: int | None
) -> ChunkPlan:
    """Plan one galaxy within the survey's memory, or within that of each worker of a cluster.

    Parameters
    ----------
    survey : SurveyConfig
    available : Capacity
    galaxy : GalaxyConfig
    shape : (int, int, int)
        Channels to read, ny, nx.
    rows : int or None
        Rows in a chunk of the unfinished run to go on with.
    """
    make = partial(
        plan_chunks,
        shape,
        rows=rows or survey.chunks.rows,
        continuum=galaxy.products.continuum_subtracted or galaxy.kinematics.method == "measure",
        worker_bytes=available.idle_bytes,
        under_way=CHUNKS_PER_GPU if available.device == "cuda" else CHUNKS_PER_WORKER,
        step_bytes=BIN_MAKING_BYTES * shape[1] * shape[2] if galaxy.binning.method in ADAPTIVE else 0,
        where=galaxy.name,
    )
    if available.budget_bytes is not None:
        return make(budget_bytes=available.budget_bytes, workers=available.workers)
    assert available.worker_bytes is not None
    one = make(budget_bytes=DRIVER_BYTES + available.worker_bytes, workers=1, key="the memory of a worker")
    if rows is None and survey.chunks.rows is None:  # the image shared out evenly among all workers
        fewer = min(one.rows, even_rows(shape[1], shape[2], available.workers))
        one = replace(one, rows=fewer, chunk_bytes=one.chunk_bytes // one.rows * fewer)
    workers = max(1, min(available.workers, len(one.chunks)))
    return replace(one, workers=workers, peak_bytes=DRIVER_BYTES + workers * available.worker_bytes)
