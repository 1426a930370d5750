"""Preprocessing of spectra that move: each is taken to its own rest frame.

Spectra of nearly the same velocity share a redshift and its rebinning matrix: within `STEP_KMS` / 2, a thirteenth
of a channel of MUSE. What is left is for the model, which allows for velocities.
"""

from dataclasses import fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.kinematics import C_KMS
from galprote.pipeline.preprocess import OF_FITTED, SpectraBatch, preprocess
from galprote.pipeline.quality import Status
from galprote.pipeline.rest_frame import PreprocessSettings

STEP_KMS: Final = 10.0


def preprocess_moving(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    settings: PreprocessSettings,
    velocity: NDArray[np.float32],
    excluded: NDArray[np.int32] | None = None,
) -> tuple[SpectraBatch, NDArray[np.float64]]:
    """Prepare spectra for the model, each at its own redshift.

    Parameters
    ----------
    flux, variance : (m, n) float32
    settings : PreprocessSettings
        With the galaxy's redshift.
    velocity : (n,) float32
        Relative to it, km/s: 1 + z = (1 + z_galaxy) (1 + v / c). Spectra without one are taken to be at rest, and
        flagged.
    excluded : (n,) int32, optional
        Bits of `Status` of the spectra to leave out.

    Returns
    -------
    batch : SpectraBatch
    redshift : (k,) float64
        Of the fitted spectra.
    """
    known = np.isfinite(velocity)
    steps = np.rint(np.where(known, velocity, 0.0) / STEP_KMS).astype(np.int64)
    parts: list[tuple[NDArray[np.int64], SpectraBatch]] = []
    redshifts = np.empty(len(velocity))
    for step in np.unique(steps):
        mine = np.flatnonzero(steps == step)
        redshifts[mine] = (1 + settings.redshift) * (1 + step * STEP_KMS / C_KMS) - 1
        moved = replace(settings, redshift=float(redshifts[mine[0]]))
        own = None if excluded is None else excluded[mine]
        parts.append((mine, preprocess(np.take(flux, mine, axis=1), np.take(variance, mine, axis=1), moved, own)))
    batch = _merged(parts)
    batch.status[~known & batch.fitted] |= np.int32(Status.NO_VELOCITY)
    return batch, redshifts[batch.fitted]


def _merged(parts: list[tuple[NDArray[np.int64], SpectraBatch]]) -> SpectraBatch:
    """Batches of some of the spectra each, as one in the spectra's order."""
    places = np.concatenate([mine for mine, _ in parts])
    order = np.argsort(places, kind="stable")
    fitted = np.argsort(np.concatenate([mine[batch.fitted] for mine, batch in parts]), kind="stable")
    values: dict[str, Any] = {}
    for item in fields(SpectraBatch):
        together = np.concatenate([getattr(batch, item.name) for _, batch in parts])
        values[item.name] = together[fitted if item.name in OF_FITTED else order]
    return SpectraBatch(**values)
