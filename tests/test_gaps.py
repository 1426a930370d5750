"""Laws of the filling of gaps."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from galprote.model.gaps import _fill_rows, fill_gaps


@given(st.integers(0, 2**31), st.integers(0, 60), st.integers(1, 90))
def test_what_stands_in_a_gap_does_not_matter(seed: int, start: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    flux = torch.rand(3, 120, generator=generator) + 0.5
    valid = torch.ones(3, 120, dtype=torch.bool)
    valid[1, start : start + width] = False
    spoiled = torch.where(valid, flux, torch.nan)
    assert torch.equal(fill_gaps(flux, valid), fill_gaps(spoiled, valid))


def test_spectra_with_the_same_gaps_are_filled_as_each_alone() -> None:
    """To the bit, and whatever the others' gaps are: some patterns are common, some are of one spectrum."""
    generator = torch.Generator().manual_seed(3)
    flux = torch.rand(60, 200, generator=generator)
    valid = torch.ones(60, 200, dtype=torch.bool)
    valid[:, 40:55] = False
    valid[10:30, 90:93] = valid[10:30, 190:] = False
    valid[40:] &= torch.rand(20, 200, generator=generator) > 0.05
    valid[59] = False
    filled = fill_gaps(flux, valid)
    assert all(torch.equal(filled[i], fill_gaps(flux[[i]], valid[[i]])[0]) for i in range(60))
    assert torch.equal(filled[40:59], _fill_rows(flux[40:59], valid[40:59]))
    assert torch.equal(filled[:30], _fill_rows(flux[:30], valid[:30]))
    assert torch.equal(fill_gaps(flux, valid[0].expand(60, 200)), fill_gaps(flux, valid[0].repeat(60, 1)))


def test_valid_samples_and_complete_spectra_stay() -> None:
    flux = torch.rand(2, 50)
    valid = torch.ones(2, 50, dtype=torch.bool)
    assert torch.equal(fill_gaps(flux, valid), flux)
    valid[0, 20:30] = False
    filled = fill_gaps(flux, valid)
    assert torch.equal(filled[valid], flux[valid])


def test_a_flat_spectrum_is_restored() -> None:
    valid = torch.ones(1, 80, dtype=torch.bool)
    valid[0, :5] = valid[0, 30:50] = valid[0, 52:53] = valid[0, 75:] = False
    flux = torch.where(valid, 3.0, torch.nan)
    torch.testing.assert_close(fill_gaps(flux, valid), torch.full((1, 80), 3.0))


def test_the_line_joins_the_means_on_either_side() -> None:
    flux = torch.cat([torch.full((1, 30), 1.0), torch.full((1, 9), torch.nan), torch.full((1, 30), 2.0)], dim=1)
    filled = fill_gaps(flux, ~torch.isnan(flux))
    torch.testing.assert_close(filled[0, 30:39], 1 + torch.arange(1, 10) / 10)


def test_a_gap_at_an_end_continues_the_nearest_mean() -> None:
    flux = torch.cat([torch.full((1, 10), torch.nan), torch.arange(20.0)[None]], dim=1)
    filled = fill_gaps(flux, ~torch.isnan(flux))
    torch.testing.assert_close(filled[0, :10], torch.full((10,), torch.arange(15.0).mean()))


def test_nothing_to_anchor_on_gives_zero() -> None:
    flux = torch.full((1, 10), torch.nan)
    assert torch.equal(fill_gaps(flux, ~torch.isnan(flux)), torch.zeros(1, 10))
