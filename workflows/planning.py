"""What a run would do, from headers alone: galaxies, shapes, chunks, memory and products. Nothing is computed."""

import hashlib
from collections.abc import Container
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galprote.model.checkpoint import checkpoint_config, checkpoint_resolution, default_checkpoint
from galprote.model.errors import ConfigError, GalproteError
from galprote.model.grids import covered
from galprote.pipeline.binning_config import ADAPTIVE
from galprote.pipeline.config import GalaxyConfig, SurveyConfig, find_cube
from galprote.pipeline.images import split_extension
from galprote.pipeline.layout import all_product_files, product_files
from galprote.pipeline.mask_config import mask_inputs, missing_masks
from galprote.pipeline.plan import (
    BIN_MAKING_BYTES,
    CHUNKS_PER_GPU,
    CHUNKS_PER_WORKER,
    DRIVER_BYTES,
    ChunkPlan,
    even_rows,
    plan_chunks,
)
from galprote.pipeline.readers import open_cube
from galprote.pipeline.readers.shape import cube_shape
from galprote.pipeline.readers.unpack import is_gzip
from galprote.pipeline.spatial_masks import check_mask_files
from galprote.pipeline.spectral_masks import band_words, check_masked_share, wavelength_masks
from galprote.pipeline.store import GalaxyStore
from galprote.workflows.capacity import Capacity, capacity
from galprote.workflows.galaxy import check_files, resolution_match


@dataclass(frozen=True)
class PlannedGalaxy:
    """A galaxy as `plan` describes it: its chunks, or what is in the way."""

    name: str
    source: str
    plan: ChunkPlan | None
    channels_in_file: int
    state: str
    products: tuple[str, ...]
    problem: str = ""
    masks: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


def plan_survey(survey: SurveyConfig) -> list[PlannedGalaxy]:
    """Say what a run would do; reads headers, of cubes and weights, and computes nothing."""
    return [_plan_galaxy(survey, galaxy) for galaxy in survey.galaxies]


def _plan_galaxy(survey: SurveyConfig, galaxy: GalaxyConfig) -> PlannedGalaxy:
    products = product_files(galaxy.name, galaxy.products, binned=galaxy.binning.on)
    source = str(mock_cube_path(survey, galaxy)) if galaxy.mock else str(galaxy.cube)
    store = GalaxyStore(survey.output, galaxy.name)
    state = "finished" if store.final.exists() else "begun" if store.partial.exists() else "new"
    try:
        _require_inputs(survey, galaxy)
        visible = checkpoint_config(survey.model.checkpoint or default_checkpoint()).visible
        window = covered(visible)
        if galaxy.mock is not None and not Path(source).is_file():
            shape, channels = _mock_shape(galaxy, window), 0
            source += " (will be made)"
        else:
            cube = find_cube(galaxy) if galaxy.cube else Path(source)
            shape, channels = cube_shape(cube, galaxy.redshift, window)
            if not is_gzip(cube):  # to unpack it takes long: a run does it
                opened = open_cube(cube, redshift=galaxy.redshift, rest_window=window)
                resolution_match(galaxy, opened, checkpoint_resolution(survey.model.checkpoint or default_checkpoint()))
        masks = _describe_masks(galaxy, shape[1:], visible)
        check_files(galaxy, shape[1:], window)
        plan = galaxy_plan(survey, capacity(survey), galaxy, shape, None)
    except GalproteError as error:
        return PlannedGalaxy(galaxy.name, source, None, 0, state, products, str(error))
    return PlannedGalaxy(galaxy.name, source, plan, channels, state, products, masks=masks, steps=_describe(galaxy))


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


def _require_inputs(survey: SurveyConfig, galaxy: GalaxyConfig) -> None:
    """Raise ConfigError if a galaxy's mask or the survey's weights are missing."""
    missing = [*missing_masks(galaxy.masks), *missing_files(galaxy)]
    if missing:
        raise ConfigError("\n".join(f"{galaxy.name}: {text}" for text in missing))
    if survey.model.checkpoint is not None and not survey.model.checkpoint.is_file():
        raise ConfigError(f"{galaxy.name}: no such checkpoint: {survey.model.checkpoint}")


def _mock_shape(galaxy: GalaxyConfig, window: tuple[float, float]) -> tuple[int, int, int]:
    assert galaxy.mock is not None
    channels = int((window[1] - window[0]) * (1 + galaxy.redshift) / 1.25) + 5
    return (channels, *galaxy.mock.shape)


def mock_cube_path(survey: SurveyConfig, galaxy: GalaxyConfig) -> Path:
    """Where a galaxy's synthetic cube is made; another name for other settings, so that an old cube is never taken."""
    assert galaxy.mock is not None
    settings = hashlib.sha256(galaxy.mock.model_dump_json().encode()).hexdigest()[:8]
    return survey.output / "mock" / f"{galaxy.name}_{settings}_DATACUBE.fits"


def missing_files(galaxy: GalaxyConfig) -> list[str]:
    """Say which of the other files of a galaxy are not there."""
    wanted = {
        "file of bins (binning.file)": galaxy.binning.file,
        "map of velocities (kinematics.map)": galaxy.kinematics.map,
    }
    return [
        f"no such {what}: {path}" for what, path in wanted.items() if path and not split_extension(path)[0].is_file()
    ]


def missing_inputs(survey: SurveyConfig) -> dict[str, str]:
    """Galaxies whose cube or mask is not there, with a message about each."""
    problems: dict[str, list[str]] = {}
    for galaxy in survey.galaxies:
        if galaxy.cube is not None:
            try:
                find_cube(galaxy)
            except ConfigError as error:
                problems.setdefault(galaxy.name, []).append(str(error))
        for text in [*missing_masks(galaxy.masks), *missing_files(galaxy)]:
            problems.setdefault(galaxy.name, []).append(f"{galaxy.name}: {text}")
    return {name: "\n".join(texts) for name, texts in problems.items()}


def inputs_in_the_way(survey: SurveyConfig, missing: Container[str]) -> list[str]:
    """Every cube that has the place of a product, as messages; cubes of `missing` galaxies are not there."""
    products = {survey.output.resolve() / file for galaxy in survey.galaxies for file in all_product_files(galaxy.name)}
    there = [galaxy for galaxy in survey.galaxies if galaxy.cube is not None and galaxy.name not in missing]
    cubes = {galaxy.name: find_cube(galaxy).resolve() for galaxy in there}
    return [
        f"{name}: the cube {cube} has the name of a product; choose another output folder"
        for name, cube in cubes.items()
        if cube in products
    ]


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
