"""What the viewer selects, and what it reads of it; its page is clicked in test_viewer_browser."""

from types import SimpleNamespace

import numpy as np
import pytest

from galprote.model.grids import KEPT, WAVELENGTH
from galprote.pipeline.quality import NOT_FITTED, UNRELIABLE
from galprote.workflows.viewer.chunked import read_mean
from galprote.workflows.viewer.look import lines_of, look_at
from galprote.workflows.viewer.refitting import Refit
from galprote.workflows.viewer.selection import Selection, at_point, in_box, in_lasso, outline
from galprote.workflows.viewer.stored import StoredGalaxy
from galprote.workflows.viewer.values import numbers_of
from galprote.workflows.viewer.values_view import table, title
from tests import stores
from tests.viewer_galaxies import SHAPE, always

# --- selections ---


def test_a_point_selects_the_spaxel_that_it_lies_in(galaxy):
    for x, y, wanted in ((50.4, 5.4, (5, 50)), (49.6, 4.6, (5, 50)), (-0.4, 0, (0, 0)), (89.4, 29.4, (29, 89))):
        selection = at_point(galaxy, x, y)
        assert selection is not None
        assert selection.kind == "spaxel"
        assert (selection.y.tolist(), selection.x.tolist()) == ([wanted[0]], [wanted[1]])
    assert at_point(galaxy, -0.6, 3) is None
    assert at_point(galaxy, 3, 29.6) is None


def test_a_box_selects_the_spaxels_whose_middles_it_holds_however_it_was_drawn(galaxy):
    for ends in ((2.5, 5.5, 1.0, 3.2), (5.5, 2.5, 3.2, 1.0)):
        selection = in_box(galaxy, *ends)
        assert selection is not None
        assert sorted(set(selection.x.tolist())) == [3, 4, 5]
        assert sorted(set(selection.y.tolist())) == [1, 2, 3]
        assert len(selection) == 9
    whole = in_box(galaxy, -50, 500, -50, 500)
    assert whole is not None
    assert len(whole) == SHAPE[0] * SHAPE[1]
    inside = in_box(galaxy, 3.1, 3.3, 4.1, 4.3)
    assert inside is not None
    assert (inside.kind, inside.y[0], inside.x[0]) == ("spaxel", 4, 3)
    assert in_box(galaxy, 200, 300, 2, 3) is None


def test_a_lasso_selects_what_is_inside(galaxy):
    triangle = in_lasso(galaxy, [9.5, 20.2, 9.5], [9.5, 9.5, 20.2])
    assert triangle is not None
    wanted = {(y, x) for y in range(30) for x in range(90) if x > 9.5 and y > 9.5 and x + y < 30}
    assert set(zip(triangle.y.tolist(), triangle.x.tolist(), strict=True)) == wanted
    assert in_lasso(galaxy, [1, 2], [1, 2]) is None
    assert in_lasso(galaxy, [500, 600, 500], [500, 500, 600]) is None


def test_all_of_a_bin_is_selected(binned):
    selection = at_point(binned, 13, 2)
    assert selection is not None
    assert (selection.kind, len(selection), set(selection.x.tolist())) == ("bin", 100, set(range(10, 20)))
    alone = at_point(binned, 13, 11)
    assert alone is not None
    assert alone.kind == "spaxel"
    both = in_box(binned, 8, 12, 3, 4)
    assert both is not None
    assert (both.kind, both.bins, len(both)) == ("region", 2, 200)


def test_a_huge_region_is_thinned_evenly_and_says_so(galaxy, monkeypatch):
    monkeypatch.setattr("galprote.workflows.viewer.selection.MOST", 300)
    selection = in_box(galaxy, 0, 89, 0, 29)
    assert selection is not None
    assert selection.step == 3  # 2700 spaxels
    assert len(selection) == 300
    assert selection.y.mean() == pytest.approx(14.5, abs=0.6)
    x0, y0, x1, y1 = outline(selection)
    assert (x0.min(), x1.max(), y0.min(), y1.max()) == (-0.5, 89.5, -0.5, 29.5)
    numbers = {found.name: found for found in numbers_of(galaxy, selection, UNRELIABLE)}
    assert numbers["age_lw"].value == pytest.approx(9.145, abs=0.01)
    assert title(galaxy, selection) == "Region of 2,700 spaxels (one in 3 rows and columns stands for all)"
    few = Selection(np.array([5, 5]), np.array([50, 53]), "region", step=3)
    assert "1 of 2 spaxels that were read count" in table(galaxy, few, [], [], UNRELIABLE)


def test_bins_of_too_many_spaxels_are_thinned_too(binned, monkeypatch):
    """A box and a lasso over all bins; what is looked at bin by bin does not change, a bin alone stays whole."""
    box, lasso = (0, 19, 0, 11), ([-1, 20, 20, -1], [-1, -1, 12, 12])
    for most, band, size, step in ((1000, 1000, 200, 1), (30, 7, 20, 3)):
        monkeypatch.setattr("galprote.workflows.viewer.selection.MOST", most)
        monkeypatch.setattr("galprote.workflows.viewer.selection.BAND", band)
        for selection in (in_box(binned, *box), in_lasso(binned, *lasso)):
            assert selection is not None
            assert (selection.kind, selection.bins, selection.step) == ("region", 2, step)
            assert abs(len(selection) - size) <= 5
            x0, y0, _, _ = outline(selection)
            assert (x0.min(), y0.min()) == (-0.5, -0.5)
            assert look_at(binned, None, selection, 0, always).residual.mean[0] == pytest.approx(6.0)
            assert len(binned.places(selection.y, selection.x)[0]) == 2
    alone = in_box(binned, 11, 18, 3, 8)
    assert alone is not None
    assert (alone.kind, len(alone), alone.step) == ("bin", 100, 1)
    none = in_lasso(binned, [-1, 20, 20, -1], [9.6, 9.6, 12, 12])
    assert none is not None
    assert (none.kind, none.bins) == ("region", 0)


def test_the_line_around_a_selection_is_its_border():
    one = Selection(np.array([4]), np.array([7]), "spaxel")
    corners = {tuple(corner) for line in np.stack(outline(one), axis=1) for corner in line.reshape(2, 2)}
    assert corners == {(6.5, 3.5), (7.5, 3.5), (6.5, 4.5), (7.5, 4.5)}
    y, x = np.mgrid[2:5, 10:14]
    assert len(outline(Selection(y.ravel(), x.ravel(), "region"))[0]) == 2 * (3 + 4)


# --- reading ---


def test_a_spaxel_reads_one_inner_chunk(galaxy, monkeypatch):
    array = galaxy.cube("residual")
    found = read_mean(array, (1, 2), (np.array([7]), np.array([45])))
    np.testing.assert_array_equal(found.mean, array[:, 7, 45].astype(float))
    assert (found.chunks, found.spaxels, found.asked) == (1, 1, 1)
    assert np.isnan(found.scatter).all()


def test_a_region_reads_its_chunks_once_each_and_never_all_at_once(galaxy, monkeypatch):
    array, read = galaxy.cube("residual"), []
    original = type(array).__getitem__
    monkeypatch.setattr(type(array), "__getitem__", lambda self, part: (read.append(part), original(self, part))[1])
    y, x = (index.ravel() for index in np.mgrid[10:14, 38:44])  # over four chunks
    found = read_mean(array, (1, 2), (y, x))
    assert found.chunks == 4 == len(read)
    assert all(part[1].stop - part[1].start <= 12 and part[2].stop - part[2].start <= 40 for part in read)
    wanted = original(array, (slice(None), slice(10, 14), slice(38, 44))).reshape(948, -1).astype(float)
    np.testing.assert_allclose(found.mean, wanted.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.scatter, wanted.std(axis=1, ddof=1), rtol=1e-9)


def test_too_many_chunks_are_sampled_evenly(galaxy):
    y, x = (index.ravel() for index in np.indices(SHAPE))
    found = read_mean(galaxy.cube("residual"), (1, 2), (y, x), most=3)
    assert found.chunks == 3
    assert found.spaxels < found.asked == SHAPE[0] * SHAPE[1]


def test_spaxels_without_data_do_not_count(folder):
    values = np.full((948, 12, 40), np.nan, dtype=np.float32)
    values[:, 0, 0], values[100:, 0, 1] = 2.0, 4.0
    stores.write_store(folder / "GAPS.zarr", stores.simple_maps((12, 40)), cube={"residual": values})
    found = read_mean(StoredGalaxy(folder / "GAPS.zarr").cube("residual"), (1, 2), (np.zeros(3, int), np.arange(3)))
    assert set(found.mean[:100]) == {2.0}
    assert set(found.mean[100:]) == {3.0}


def test_a_look_averages_what_is_not_hidden(galaxy):
    region = in_box(galaxy, 50, 51, 5, 6)  # one not trusted, one not fitted
    assert region is not None
    look = look_at(galaxy, None, region, UNRELIABLE, always)
    numbers = {found.name: found for found in look.numbers}
    assert numbers["age_lw"].used == 2
    assert numbers["age_lw"].value == pytest.approx(9.06)
    assert numbers["metallicity_lw"].median == pytest.approx(0.005, abs=1e-6)
    assert look.residual is not None
    assert look.residual.asked == 2
    assert look.residual.mean[0] == pytest.approx(6 + 1000 * 50.5)
    assert look.grid is not None
    assert look.grid.mean[6, 50] == look.grid.mean[6, 51] == 0.5
    open_eyed = look_at(galaxy, None, region, NOT_FITTED, always)
    assert next(found for found in open_eyed.numbers if found.name == "age_lw").used == 3


def test_a_spaxel_has_values_and_errors(galaxy):
    spaxel = at_point(galaxy, 20, 10)
    assert spaxel is not None
    look = look_at(galaxy, None, spaxel, UNRELIABLE, always)
    age = next(found for found in look.numbers if found.name == "age_lw")
    assert (age.value, age.error) == (pytest.approx(9.1), pytest.approx(0.1))
    lines = lines_of(galaxy, look, None, 948)
    np.testing.assert_allclose(lines.residual, 10 + 20000 + np.arange(948) / 1000, rtol=1e-6)
    assert np.isnan(lines.flux).all()
    assert (lines.bands >= ~KEPT).all()
    assert lines.bands[np.abs(WAVELENGTH - 6005) < 3].all()  # the survey's own mask


def test_a_fit_gives_the_noise_and_the_store_the_residual_of_a_spaxel(galaxy):
    flux, no = np.full((1, 948), 5.0, np.float32), np.zeros((1, 948), bool)
    fit = SimpleNamespace(flux=flux, model=flux - 1, error=flux / 50, bands=no[0], masked=no, replaced=no)
    for selection, residual in ((at_point(galaxy, 20, 10), 20010.0), (in_box(galaxy, 20, 22, 10, 10), 1.0)):
        assert selection is not None
        look = look_at(galaxy, None, selection, UNRELIABLE, always)
        lines = lines_of(galaxy, look, Refit(fit, len(selection)), 948)
        assert lines.residual[0] == pytest.approx(residual)
        np.testing.assert_allclose([lines.low, lines.high], [948 * [-0.1], 948 * [0.1]], rtol=1e-6)


def test_a_spaxel_that_the_run_did_not_fit_has_the_residual_of_its_fit(galaxy, folder):
    residual = np.full((948, 3, 4), np.nan, np.float32)
    residual[:, 0, 0] = 7
    stores.write_store(folder / "UNFITTED.zarr", stores.simple_maps((3, 4)), cube={"residual": residual})
    found, flux, no = StoredGalaxy(folder / "UNFITTED.zarr"), np.full((1, 948), 5.0), np.zeros((1, 948), bool)
    fit = SimpleNamespace(flux=flux, model=flux - 1, error=flux / 50, bands=no[0], masked=no, replaced=no)
    for x, wanted in ((0, 7), (1, 1)):
        selection = at_point(found, x, 0)
        assert selection is not None
        look = look_at(found, None, selection, UNRELIABLE, always)
        assert set(lines_of(found, look, Refit(fit, 1), 948).residual) == {wanted}


def test_a_bin_has_the_mean_of_what_its_spaxels_have_each(folder):
    """Not the value of the spaxel that comes first: of rows and columns 0 to 9 that is 0, the mean 94.5."""
    maps = stores.simple_maps((12, 20))
    maps |= {name: np.full((12, 20), 9.5, np.float32) for name in ("age_lw", "age_lw_error")}
    maps["bin_id"] = np.arange(20)[None].repeat(12, axis=0).astype(np.int32) // 10
    maps["bin_id"][10:] = -1
    maps["spaxel_flux"] = np.arange(240, dtype=np.float32).reshape(12, 20)
    stores.write_store(folder / "OWN.zarr", maps, bins={"bin": np.arange(2, dtype=np.int32)}, header=None)
    found = StoredGalaxy(folder / "OWN.zarr")
    selection = at_point(found, 5, 7)
    assert selection is not None
    numbers = {item.name: item for item in numbers_of(found, selection, 0)}
    assert numbers["spaxel_flux"].value == 94.5
    assert np.isnan(numbers["spaxel_flux"].error)
    assert (numbers["age_lw"].value, numbers["age_lw"].error) == (9.5, 9.5)


def test_spectra_of_bins_are_found_by_their_numbers(binned):
    for x, wanted in ((3, 7.0), (13, 5.0)):
        selection = at_point(binned, x, 2)
        assert selection is not None
        look = look_at(binned, None, selection, UNRELIABLE, always)
        assert look.residual is not None
        assert set(look.residual.mean) == {wanted}
    outside = at_point(binned, 3, 11)
    assert outside is not None
    assert look_at(binned, None, outside, UNRELIABLE, always).residual is None
