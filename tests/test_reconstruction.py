"""Spectra finer than the model's, moved and broadened: against the decoder's own, and against exact broadening."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from galprote.model.decoder import FINE_EDGES
from galprote.model.extinction import extinction_curve
from galprote.model.grids import EDGES, KEPT, WAVELENGTH
from galprote.model.kinematics import MAX_DISPERSION, MAX_VELOCITY, move
from galprote.model.reconstruction import FREQUENCIES, LOG_EDGES, PERIOD, Reconstruction
from tests.libraries import synthetic_decoder

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def reconstruct() -> Reconstruction:
    return Reconstruction(synthetic_decoder())


@pytest.fixture(scope="module")
def populations() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """More than are made together: grids and A_V."""
    random = np.random.default_rng(4)
    grid = random.dirichlet(np.full(636, 0.01), 150).astype(np.float32).reshape(-1, 12, 53)
    return grid, random.uniform(0, 3, 150).astype(np.float32)


def rebinned(edges: Array, flux: NDArray[np.floating], wanted: Array) -> Array:
    """Mean flux densities between other edges, exact to far below a permille."""
    total = np.concatenate([np.zeros((len(flux), 1)), np.cumsum(flux * np.diff(edges), axis=1, dtype=float)], axis=1)
    return np.diff(CubicSpline(edges, total, axis=1)(wanted), axis=1) / np.diff(wanted)


def full(n: int, value: float) -> NDArray[np.float32]:
    return np.full(n, value, dtype=np.float32)


def test_the_axis_runs_from_end_to_end_in_equal_steps_of_velocity() -> None:
    np.testing.assert_allclose(LOG_EDGES[[0, -1]], FINE_EDGES[[0, -1]])
    np.testing.assert_allclose(LOG_EDGES[1:] / LOG_EDGES[:-1], LOG_EDGES[1] / LOG_EDGES[0], rtol=1e-12)
    assert np.diff(LOG_EDGES).max() < np.diff(FINE_EDGES)[0]


def test_at_rest_it_is_the_decoder_s_spectrum(reconstruct: Reconstruction, populations: tuple[Array, Array]) -> None:
    grid, av = populations
    spectra = reconstruct(grid, av, full(150, 0), full(150, 0))
    wanted = synthetic_decoder().fine_spectra(torch.from_numpy(grid), torch.from_numpy(av)).numpy()
    channels = np.arange(4710.0, 7140.0, 1.25)
    found, wanted = rebinned(LOG_EDGES, spectra, channels), rebinned(FINE_EDGES, wanted, channels)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


@pytest.mark.parametrize(("dispersion", "velocity"), [(150.0, 80.0), (0.0, -120.0), (60.0, 0.0), (300.0, 200.0)])
def test_moved_it_is_the_exactly_broadened_spectrum(
    dispersion: float, velocity: float, reconstruct: Reconstruction, populations: tuple[Array, Array]
) -> None:
    grid, av = populations
    decoder = synthetic_decoder()
    fine = (torch.from_numpy(grid).flatten(1) @ decoder.coefficients @ decoder.components).double().numpy()
    wanted = move(fine, dispersion, np.array([velocity]))[0] * 10 ** (-0.4 * av[:, None] * extinction_curve(WAVELENGTH))
    wanted /= np.median(wanted[:, KEPT], axis=1)[:, None]
    found = rebinned(LOG_EDGES, reconstruct(grid, av, full(150, dispersion), full(150, velocity)), EDGES)
    np.testing.assert_allclose(found, wanted, rtol=1.5e-3)
    assert np.sqrt(np.mean((found / wanted - 1) ** 2)) < 2e-4
    still = rebinned(LOG_EDGES, reconstruct(grid, av, full(150, 0), full(150, 0)), EDGES)
    assert np.sqrt(np.mean((still / wanted - 1) ** 2)) > 5e-4, "a test that the spectrum at rest passes proves nothing"


def test_lines_move_to_the_red_with_positive_velocities(
    reconstruct: Reconstruction, populations: tuple[Array, Array]
) -> None:
    grid, av = (values[:8] for values in populations)
    sodium = (LOG_EDGES[1:] > 5880) & (LOG_EDGES[:-1] < 5906)
    centres = np.sqrt(LOG_EDGES[1:] * LOG_EDGES[:-1])[sodium]
    place = []
    for velocity in (-150.0, 150.0):
        depth = 1 - reconstruct(grid, av, full(8, 0), full(8, velocity))[:, sodium]
        depth -= depth.min(axis=1, keepdims=True)
        place.append((depth * centres).sum(axis=1) / depth.sum(axis=1))
    assert (place[1] > place[0]).all()


def test_beyond_the_range_it_is_as_at_its_end(reconstruct: Reconstruction, populations: tuple[Array, Array]) -> None:
    grid, av = (values[:3] for values in populations)
    inside = reconstruct(grid, av, full(3, MAX_DISPERSION), full(3, -MAX_VELOCITY))
    beyond = reconstruct(grid, av, full(3, 3 * MAX_DISPERSION), full(3, -4 * MAX_VELOCITY))
    np.testing.assert_array_equal(inside, beyond)
    assert np.isfinite(inside).all()
    assert inside.min() > 0


def test_a_spectrum_does_not_depend_on_its_neighbours(
    reconstruct: Reconstruction, populations: tuple[Array, Array]
) -> None:
    random = np.random.default_rng(5)
    motion = random.uniform(0, 300, 150).astype(np.float32), random.uniform(-150, 150, 150).astype(np.float32)
    together = reconstruct(*populations, *motion)
    order = random.permutation(150)
    shuffled = reconstruct(*(values[order] for values in (*populations, *motion)))
    assert np.array_equal(shuffled, together[order])
    for i in (0, 63, 64, 77, 149):
        alone = reconstruct(*(values[i : i + 1] for values in (*populations, *motion)))
        assert np.array_equal(alone[0], together[i])
    assert reconstruct(*(values[:0] for values in (*populations, *motion))).shape == (0, len(LOG_EDGES) - 1)


def test_phases_are_those_of_the_shifts(reconstruct: Reconstruction) -> None:
    """They are products of two: all of them, against sines and cosines of each."""
    shift = np.array([-2.3e-3, 0.0, 1e-5, 1.7e-3])
    found = reconstruct._turned(torch.from_numpy(shift)[:, None]).numpy()
    frequency = 2 * np.pi * np.arange(FREQUENCIES) / (PERIOD * np.log(LOG_EDGES[1] / LOG_EDGES[0]))
    np.testing.assert_allclose(found, np.exp(-1j * shift[:, None] * frequency), atol=5e-7)
