"""Numbers of `compare`: known offsets, scatters, slopes and blobs come back."""

from typing import Any

import numpy as np
import pytest

from galprote.pipeline.comparison import Pairs, compare_pairs, outlying, robust_sigma, running
from galprote.pipeline.comparison_bins import pairs_in_bins
from galprote.pipeline.outliers import find_outliers
from tests.map_files import smooth_maps

SHAPE = (40, 50)


def pairs(n: int = 20_000, *, offset: float = 0.3, scatter: float = 0.2, error: float = 0.2) -> Pairs:
    rng = np.random.default_rng(5)
    theirs = rng.uniform(8, 10, n)
    ours = theirs + offset + scatter * rng.standard_normal(n)
    return Pairs(ours, theirs, np.full(n, error), rng.uniform(5, 60, n))


# --- numbers ---


def test_offset_and_scatter_come_back() -> None:
    """To four times their statistical errors; Gaussian errors of the right size cover 68 and 95 %."""
    everything, *split = compare_pairs(pairs(offset=0.3), "spaxels")
    n = everything.n
    assert everything.mean == pytest.approx(0.3, abs=4 * 0.2 / n**0.5)
    assert everything.median == pytest.approx(0.3, abs=4 * 1.25 * 0.2 / n**0.5)
    assert everything.sigma == pytest.approx(0.2, abs=4 * 0.2 / (2 * n) ** 0.5)
    assert everything.robust_sigma == pytest.approx(0.2, abs=4 * 1.65 * 0.2 / (2 * n) ** 0.5)
    assert everything.rms == pytest.approx((0.3**2 + 0.2**2) ** 0.5, abs=0.006)
    assert everything.expected == 0.2
    assert everything.correlation == pytest.approx((1 / 3) ** 0.5 / (1 / 3 + 0.04) ** 0.5, abs=0.01)
    assert sum(row.n for row in split) == n
    assert [row.snr_range for row in split] == [(0, 10), (10, 20), (20, 40), (40, np.inf)]
    centred = compare_pairs(pairs(offset=0.0), "spaxels")[0]
    assert centred.within_1 == pytest.approx(0.683, abs=0.015)
    assert centred.within_2 == pytest.approx(0.954, abs=0.007)


def test_the_running_difference_follows_a_slope() -> None:
    """Ours is drawn to the middle by a tenth: the difference runs from +0.1 to -0.1, within sigma of 0.05."""
    rng = np.random.default_rng(1)
    theirs = rng.uniform(8, 10, 30_000)
    found = running(Pairs(theirs - 0.1 * (theirs - 9) + 0.05 * rng.standard_normal(30_000), theirs, theirs, theirs))
    assert len(found.centre) == 24
    assert found.n.sum() == 30_000
    np.testing.assert_allclose(found.median, -0.1 * (found.centre - 9), atol=0.01)
    np.testing.assert_allclose(found.high - found.low, 0.1, atol=0.012)


def test_pairs_of_one_value_stay_together() -> None:
    """Bins have one value in many spaxels: no part begins in the middle of one."""
    theirs = np.repeat([1.0, 2.0, 3.0], [500, 3, 400])
    found = running(Pairs(theirs + 1, theirs, theirs, theirs))
    assert found.n.sum() == len(theirs)
    assert set(found.n) <= {500, 503, 403, 3, 400}
    assert len(running(Pairs(*[np.zeros(0)] * 4)).centre) == 0


def test_outliers_exceed_both_sigma_and_error() -> None:
    difference = np.array([*np.linspace(-0.1, 0.1, 99), 1.0])
    assert np.flatnonzero(outlying(difference, np.full(100, 0.1))).tolist() == [99]
    assert not outlying(difference, np.full(100, 0.5)).any()  # no more than two errors
    assert np.flatnonzero(outlying(difference, np.full(100, np.nan))).tolist() == [99]  # no errors known
    assert not outlying(np.zeros(9), np.zeros(9)).any()
    assert np.isnan(robust_sigma(np.zeros(0)))


def test_pairs_without_an_error_count_for_themselves_only() -> None:
    """A spaxel whose errors are 0 says nothing of the shares within them; the others still do."""
    known = pairs(offset=0.0)
    error = known.error.copy()
    error[::1000] = 0.0
    found = compare_pairs(Pairs(known.ours, known.theirs, error, known.snr), "spaxels")[0]
    assert found.within_1 == pytest.approx(0.683, abs=0.015)
    assert found.within_2 == pytest.approx(0.954, abs=0.007)


# --- outliers, named ---


def test_a_planted_blob_is_named_at_its_place() -> None:
    maps: dict[str, Any] = smooth_maps(SHAPE)
    maps["status"][20, 33] = 4096 | 16384  # a star beside it
    theirs = maps["age_lw"].astype(float)
    rng = np.random.default_rng(2)
    ours = theirs + 0.05 * rng.standard_normal(SHAPE)
    ours[18:22, 29:32] += 1.0
    ours[19, 30] += 0.5
    ours[35, 5] -= 0.9
    ours[20, 33] = np.nan
    maps["status"][18:22, 29:32] |= 1024
    found = find_outliers(ours, theirs, np.full(SHAPE, 0.1), maps)
    first, second = found.groups[:2]
    assert (first.spaxels, first.y, first.x) == (12, 19, 30)
    assert first.difference == pytest.approx(1.0 + 0.5 / 12, abs=0.06)
    assert first.in_errors == pytest.approx(10.4, abs=0.6)
    assert first.flags == ("age_boundary",)
    assert "beside spaxels flagged star_like" in first.remarks
    assert (second.y, second.x, second.spaxels) == (35, 5, 1)
    assert second.difference < 0
    assert second.remarks == ("faint, S/N 8",)
    assert (found.labels[18:22, 29:32] == 1).all()
    assert np.isnan(first.ra)


def test_a_group_of_many_bins_says_how_many() -> None:
    shape = (60, 60)
    ours = 0.01 * np.random.default_rng(1).standard_normal(shape)
    ours[:35, :35] += 2.0
    about: dict[str, Any] = {"status": np.zeros(shape, int), "bin_id": np.arange(3600).reshape(shape)}
    assert "1,225 bins" in find_outliers(ours, np.zeros(shape), np.full(shape, 0.1), about).groups[0].remarks


def test_where_most_differ_by_nothing_there_are_no_sigma() -> None:
    """Two runs of one cube: half of the spaxels are the same, so a deviation has no scale, and is not called one."""
    maps: dict[str, Any] = smooth_maps(SHAPE)
    theirs = maps["age_lw"].astype(float)
    ours = theirs.copy()
    ours[30, 30], ours[20:22, 20] = theirs[30, 30] + 3.0, theirs[20:22, 20] - 0.5
    found = find_outliers(ours, theirs, np.full(SHAPE, 0.1), maps)
    assert [(group.y, group.x, group.spaxels) for group in found.groups] == [(30, 30, 1), (20, 20, 2)]  # by squares
    assert np.isnan([group.in_sigma for group in found.groups]).all()
    assert found.groups[0].in_errors == pytest.approx(30)


def test_bins_without_light_are_averaged_by_area() -> None:
    ours, nothing = np.array([1.0, 3.0, 1.0, 3.0, 9.0]), np.zeros(5)
    pairs = Pairs(ours, nothing, nothing + 0.1, nothing + 20)
    light = np.array([3.0, 1.0, -3.0, np.nan, 1.0])  # the last spaxel is in no bin
    found = pairs_in_bins(pairs, nothing + 0.1, nothing, np.array([5, 5, 7, 7, -1], dtype=np.int32), light)
    assert found.ours.tolist() == [1.5, 2.0]
    assert found.error == pytest.approx(0.1 * np.hypot([0.75, 0.5], [0.25, 0.5]))
