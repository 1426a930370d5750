"""Templates on the move: the expansion against exact shifts and broadenings."""

import numpy as np
import pytest
import torch

from galprote.model.kinematics import MAX_DISPERSION, MAX_VELOCITY, KinematicTemplates, move
from galprote.model.templates import FWHM_PER_SIGMA
from tests.libraries import fine_wavelength, synthetic_decoder


@pytest.fixture(scope="module")
def templates() -> KinematicTemplates:
    return KinematicTemplates.from_decoder(synthetic_decoder())


def single(cells: list[int]) -> torch.Tensor:
    grid = torch.zeros(len(cells), 636)
    grid[torch.arange(len(cells)), torch.tensor(cells)] = 1.0
    return grid


def expanded(templates: KinematicTemplates, cells: list[int], dispersion: float, velocity: float) -> torch.Tensor:
    n = len(cells)
    still = torch.zeros(n)
    return templates(single(cells), still, torch.full((n,), dispersion), torch.full((n,), velocity))


@pytest.mark.parametrize("dispersion", [0.0, 35.0, 120.0, 300.0, MAX_DISPERSION])
@pytest.mark.parametrize("velocity", [-150.0, 0.0, 61.0, MAX_VELOCITY])
def test_the_expansion_is_exact_to_a_thousandth(
    templates: KinematicTemplates, dispersion: float, velocity: float
) -> None:
    decoder, cells = synthetic_decoder(), [5, 130, 300, 477, 630]
    fine = (decoder.coefficients @ decoder.components).double().numpy()[cells]
    exact = move(fine, dispersion, np.array([velocity]))[0]
    found = expanded(templates, cells, dispersion, velocity).double().numpy()
    assert np.sqrt(np.mean((found - exact) ** 2)) < 1e-3


def test_at_rest_the_templates_come_back(templates: KinematicTemplates) -> None:
    decoder = synthetic_decoder()
    found = templates(torch.eye(636), torch.zeros(636), torch.zeros(636), torch.zeros(636))
    assert float((found - decoder.templates()).square().mean().sqrt()) < 1e-3


def test_a_line_moves_and_widens_as_velocities_say() -> None:
    fine, centre, width = fine_wavelength(), 5900.0, 2.0
    line = np.exp(-0.5 * ((fine - centre) / width) ** 2)[None]
    moved = move(line, 150.0, np.array([0.0, 120.0]))
    from galprote.model.grids import WAVELENGTH

    for row, velocity in zip(moved[:, 0], (0.0, 120.0), strict=True):
        mean = np.sum(WAVELENGTH * row) / row.sum()
        sigma = np.sqrt(np.sum((WAVELENGTH - mean) ** 2 * row) / row.sum())
        wanted = np.sqrt(width**2 + (centre * 150 / 299_792.458) ** 2 + 2.4827**2 / 12)
        assert mean == pytest.approx(centre * (1 + velocity / 299_792.458), abs=0.02)
        assert sigma == pytest.approx(wanted, rel=5e-3)
    assert FWHM_PER_SIGMA == 2.355


def test_dust_dims_the_blue_more(templates: KinematicTemplates) -> None:
    zero, one = torch.zeros(1), torch.ones(1)
    clear, dusty = templates(single([300]), zero, zero, zero), templates(single([300]), one, zero, zero)
    ratio = -2.5 * torch.log10(dusty / clear)[0]
    assert (ratio.diff() < 0).all()
    assert float(ratio[320]) == pytest.approx(1.0, abs=0.03)  # 5545 A, near V


def test_the_gradient_is_the_change_of_the_spectrum(templates: KinematicTemplates) -> None:
    grid = single([300])
    for which, step in ((0, 1e-2), (1, 2.0), (2, 2.0)):
        values = [torch.tensor([0.5]), torch.tensor([90.0]), torch.tensor([20.0])]
        values[which].requires_grad_()
        (slope,) = torch.autograd.grad(templates(grid, *values)[0, 400], values[which])
        ends = []
        for sign in (-1, 1):
            shifted = [value.detach().clone() for value in values]
            shifted[which] += sign * step
            ends.append(float(templates(grid, *shifted)[0, 400]))
        assert float(slope) == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=0.05, abs=2e-6)
