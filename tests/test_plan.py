"""The plan's laws: chunks tile a cube once, the budget holds, more memory is never worse."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from galprote.model.errors import PlanError
from galprote.pipeline.block import BlockSettings, prepare_block
from galprote.pipeline.line_filter_config import LineFilterConfig
from galprote.pipeline.plan import DRIVER_BYTES, WORKER_BYTES, ChunkPlan, plan_chunks, spaxel_bytes
from galprote.pipeline.rest_frame import PreprocessSettings
from tests import surveys

MIB = 1024**2
shapes = st.tuples(st.integers(50, 4000), st.integers(1, 2000), st.integers(1, 2000))
budgets = st.integers(0, 64 * 1024).map(lambda mebibytes: mebibytes * MIB)
workers = st.integers(1, 64)
maybe_rows = st.none() | st.integers(1, 40)


def planned(shape: tuple[int, int, int], budget: int, count: int, rows: int | None, continuum: bool) -> ChunkPlan:
    """The plan; a refusal is no example."""
    try:
        return plan_chunks(shape, budget_bytes=budget, workers=count, rows=rows, continuum=continuum)
    except PlanError:
        assume(False)
        raise


@given(shapes, budgets, workers, maybe_rows, st.booleans())
def test_chunks_tile_the_image_once_within_the_budget(
    shape: tuple[int, int, int], budget: int, count: int, rows: int | None, continuum: bool
) -> None:
    plan = planned(shape, budget, count, rows, continuum)
    covered = [row for part in plan.chunks for row in range(part.start, part.stop)]
    assert covered == list(range(shape[1]))
    assert plan.peak_bytes <= budget
    assert 1 <= plan.workers <= count
    assert plan.workers <= len(plan.chunks), "a worker without work"
    assert plan.rows == min(rows, shape[1]) if rows else plan.rows >= 1
    assert plan.read_bytes == 8 * np.prod(shape, dtype=np.int64)


@given(shapes, budgets, st.integers(0, 4096), workers, maybe_rows)
def test_more_memory_is_never_worse(
    shape: tuple[int, int, int], budget: int, more: int, count: int, rows: int | None
) -> None:
    """Workers before rows: an additional core is worth more than taller chunks."""
    less = planned(shape, budget, count, rows, continuum=False)
    plenty = plan_chunks(shape, budget_bytes=budget + more * MIB, workers=count, rows=rows)
    assert (plenty.workers, plenty.rows) >= (less.workers, less.rows)


@given(st.tuples(st.integers(50, 4000), st.integers(100, 2000), st.integers(1, 500)), budgets, workers)
def test_the_peak_does_not_grow_with_the_rows_of_the_cube(shape: tuple[int, int, int], budget: int, count: int) -> None:
    channels, ny, nx = shape
    rows = 2
    assume(ny >= rows * count)  # else there are fewer chunks than workers
    plan = planned(shape, budget, count, rows, continuum=False)
    longer = plan_chunks((channels, 50 * ny, nx), budget_bytes=budget, workers=count, rows=rows)
    assert longer.peak_bytes == plan.peak_bytes


@given(shapes, workers, st.integers(1, 40))
def test_a_refusal_names_what_is_needed_and_what_there_is(shape: tuple[int, int, int], count: int, rows: int) -> None:
    channels, ny, nx = shape
    needed = DRIVER_BYTES + WORKER_BYTES + 2 * min(rows, ny) * nx * spaxel_bytes(channels, continuum=False, grid=636)
    plan_chunks(shape, budget_bytes=needed, workers=count, rows=rows)
    with pytest.raises(PlanError) as refused:
        plan_chunks(shape, budget_bytes=needed - 1, workers=count, rows=rows, where="NGC0628")
    text = str(refused.value)
    assert text.startswith("NGC0628: one worker")
    assert f"{needed / 2**30:.2f} GiB" in text
    assert "raise chunks.memory" in text
    assert ("lower chunks.rows" in text) == (min(rows, ny) > 1)


@pytest.mark.parametrize("continuum", [False, True])
def test_a_spaxel_takes_no_more_than_planned(continuum: bool) -> None:
    """Preprocessing, where memory peaks, with the gaps that take its slower way; per spaxel, so constants cancel."""
    wavelength = tuple(surveys.FIRST_CHANNEL + 1.25 * np.arange(surveys.CHANNELS))
    preprocess = PreprocessSettings(wavelength, surveys.REDSHIFT, 0.02, "O94", 3.1, LineFilterConfig(), 5.0, 0.25)
    settings = BlockSettings(preprocess, residual=True, continuum_subtracted=continuum, grid=True)
    peaks = []
    for n in (150, 450):
        flux, variance = (values[:, None, :] for values in surveys.spectra(n))
        flux[5::200], variance[5::200] = np.nan, np.nan
        tracemalloc.start()
        prepare_block(flux.copy(), variance.copy(), None, settings)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 300 < spaxel_bytes(surveys.CHANNELS, continuum=continuum, grid=636)
