"""The paper's tables for any checkpoint (section 4.1 and 4.2).

The test spectra are made from the checkpoint's own templates, so that no template library is needed.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.model.grids import KEPT
from galprote.model.populations import grid_means
from galprote.model.predictor import Predictor
from galprote.model.synthesis import NoiseConfig, Synthesizer

#: Seed of the test spectra; no training uses it.
TEST_SEED: Final = 20_250_301


def evaluate_suites(predictor: Predictor, suite: str = "all", *, limit: int | None = None) -> dict[str, Any]:
    """Run one suite of tests or all.

    Parameters
    ----------
    predictor : Predictor
    suite : str
        A name of `SUITES`, or `all`.
    limit : int, optional
        Use only so many spectra of a suite.

    Returns
    -------
    dict
        Suite to quantity to `mean`, `sigma` and `rms` of predicted minus true. The same every time.

    Raises
    ------
    ConfigError
        If there is no such suite.
    """
    if suite != "all" and suite not in SUITES:
        raise ConfigError(f"--suite {suite}: unknown; expected one of all, {', '.join(SUITES)}")
    return {name: run(predictor, limit) for name, run in SUITES.items() if suite in {"all", name}}


def paper_suite(predictor: Predictor, limit: int | None = None) -> dict[str, Any]:
    """The paper's protocol: its 111,936 spectra with noise of 0, 2 and 4 %, and 15 to 25 patches in each.

    `spectral_mse_percent` is 100 times the mean squared difference between the spectrum as seen and the fitted one,
    both of median one (section 4.2.1); `point_to_point_percent` is that of all single samples (4.2.2);
    `clean_mse_percent` is against the spectrum before noise and patches.
    """
    decoder = predictor.checkpoint.decoder
    test = Synthesizer(decoder, NoiseConfig(), TEST_SEED)
    errors: list[NDArray[np.float64]] = []
    n = 0
    sums = np.zeros(3)
    for batch in test.paper_set():
        grid, av, model = predictor(batch.spectra.numpy())
        log_age, metallicity = grid_means(grid, decoder.log_ages, decoder.metallicities)
        true_age, true_metallicity = grid_means(batch.grid.numpy(), decoder.log_ages, decoder.metallicities)
        residual = batch.spectra.numpy() - model[:, KEPT]
        against_clean = batch.clean.numpy()[:, KEPT] - model[:, KEPT]
        errors.append(
            np.stack(
                [
                    log_age - true_age,
                    metallicity - true_metallicity,
                    av - batch.av.numpy(),
                    100 * np.mean(residual**2, axis=1),
                    100 * np.mean(against_clean**2, axis=1),
                ]
            )
        )
        sums += [residual.size, residual.sum(dtype=np.float64), np.square(residual, dtype=np.float64).sum()]
        n += len(av)
        if limit is not None and n >= limit:
            break
    table = np.concatenate(errors, axis=1)[:, :limit]
    names = ("log_age", "metallicity", "av", "spectral_mse_percent", "clean_mse_percent")
    result: dict[str, Any] = {name: _summary(row) for name, row in zip(names, table, strict=True)}
    mean = sums[1] / sums[0]
    sigma = float(np.sqrt(sums[2] / sums[0] - mean**2))
    result["point_to_point_percent"] = {"mean": 100 * float(mean), "sigma": 100 * sigma}
    result["spectra"] = table.shape[1]
    return result


def _summary(values: NDArray[np.float64]) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "sigma": float(values.std()),
        "rms": float(np.sqrt(np.mean(values**2))),
    }


SUITES: Final[dict[str, Callable[[Predictor, int | None], dict[str, Any]]]] = {"paper": paper_suite}
