"""Star-formation histories: light, ages and metallicities as asked for."""

import pytest
import torch

from galprote.model.histories import HistoryConfig, HistorySampler
from tests.libraries import synthetic_decoder


def sampler(seed: int = 1, **changes: object) -> HistorySampler:
    config = HistoryConfig.model_validate(changes)
    return HistorySampler(synthetic_decoder(), config, torch.Generator().manual_seed(seed))


def mass_by_age(grid: torch.Tensor) -> torch.Tensor:
    """Mass fractions (n, n_age) behind light fractions."""
    mass = (grid / synthetic_decoder().median_flux).sum(1)
    return mass / mass.sum(1, keepdim=True)


def test_grids_are_light_fractions() -> None:
    grid = sampler().draw(500)
    assert grid.shape == (500, 12, 53)
    assert (grid >= 0).all()
    torch.testing.assert_close(grid.sum((1, 2)), torch.ones(500))


def test_the_same_seed_gives_the_same_histories() -> None:
    assert torch.equal(sampler(5).draw(20), sampler(5).draw(20))
    assert not torch.equal(sampler(5).draw(20), sampler(6).draw(20))


def test_no_star_is_older_than_the_first() -> None:
    grid = sampler(start=(2.0, 2.0001)).draw(200, bursts=False)
    ages = torch.from_numpy(synthetic_decoder().ages_gyr)
    assert (mass_by_age(grid)[:, ages > 2.3] < 1e-6).all()
    assert (mass_by_age(grid)[:, ages <= 2.3].sum(1) > 0.999).all()


def test_quenched_galaxies_have_no_young_stars_and_others_do() -> None:
    ages = torch.from_numpy(synthetic_decoder().ages_gyr)
    old = sampler(start=(10.0, 10.001), quenched=1.0).draw(400, bursts=False)
    forming = sampler(start=(10.0, 10.001), quenched=0.0, timescale=(5.0, 20.0)).draw(400, bursts=False)
    assert (mass_by_age(old)[:, ages < 0.1].sum(1) == 0).float().mean() > 0.9
    assert (mass_by_age(forming)[:, ages < 0.1].sum(1) > 0).all()


def test_bursts_add_light_to_few_ages() -> None:
    smooth, bursty = sampler(2).draw(400, bursts=False), sampler(2).draw(400)

    def roughness(grid: torch.Tensor) -> torch.Tensor:
        return mass_by_age(grid).diff(dim=1).abs().sum(1)

    assert (bursty - smooth).abs().amax(dim=(1, 2)).gt(1e-3).float().mean() > 0.2
    assert roughness(bursty).mean() > roughness(smooth).mean()


def test_metals_only_grow_with_time() -> None:
    grid = sampler(metallicity_scatter=(0.02, 0.021), start=(12.0, 12.001)).draw(200, bursts=False)
    metallicities = torch.from_numpy(synthetic_decoder().metallicities).float()
    mass = grid / synthetic_decoder().median_flux
    present = mass.sum(1) > 1e-6 * mass.sum((1, 2))[:, None]
    mean = (mass * metallicities[None, :, None]).sum(1) / mass.sum(1).clamp(min=1e-30)
    steps = mean.diff(dim=1)[present[:, 1:] & present[:, :-1]]
    assert (steps <= 1e-3).all()  # towards greater ages
    assert steps.min() < -0.01


@pytest.mark.parametrize("wrong", [{"quenched": 2.0}, {"burst": 3}, {"enrichment": -1.0}])
def test_impossible_priors_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HistoryConfig.model_validate(wrong)
