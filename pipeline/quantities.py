"""From what the model says to the numbers of the products: means, masses, times, each with its error, and reasons."""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.appraisal import KINDS, sigmas
from galprote.model.masses import MassScale, formation_times, surface_density
from galprote.model.populations import APPRAISED, derived
from galprote.model.predictor import Predictions, Predictor
from galprote.pipeline.photometry import Photometry
from galprote.pipeline.products import INTERNAL_R_V
from galprote.pipeline.quality import Status

#: Light in the three youngest or oldest templates above which the age is at the boundary, and A_V's distance from it.
BOUNDARY_LIGHT: Final = 0.5
BOUNDARY_AV: Final = 0.05

#: Ordinary spectra with less trust are as rare as that.
TRUST_FLAG: Final = 0.01

#: What the most probable kind of a spectrum that is not trusted means.
REASONS: Final = {
    "agn": Status.AGN_LIKE,
    "star": Status.STAR_LIKE,
    "redshift": Status.WRONG_REDSHIFT,
    "blend": Status.WRONG_REDSHIFT,
    "dead": Status.DAMAGED,
    "step": Status.DAMAGED,
    "sky": Status.SKY_LIKE,
    "noise": Status.SKY_LIKE,
    "dusty": Status.AV_BOUNDARY,
}

#: Quantity of the model -> map.
MAP_NAMES: Final = {
    "log_age": "age_lw",
    "metallicity": "metallicity_lw",
    "av": "av",
    "log_age_mw": "age_mw",
    "metallicity_mw": "metallicity_mw",
}


def quantities(
    found: Predictions, flux: NDArray[np.float32], redshift: float, photometry: Photometry, predictor: Predictor
) -> dict[str, NDArray[np.float32]]:
    """Values of the maps that the model makes, by the maps' names, each (k,) float32.

    Parameters
    ----------
    found : Predictions
        Of k spectra.
    flux : (k,) float32
        Their median flux, the cube's unit.
    redshift : float
    photometry : Photometry
    predictor : Predictor

    Returns
    -------
    dict
        Errors are standard deviations: one holds 68 % of the true values, two 95 %.
    """
    scale = mass_scale(predictor)
    numbers = derived(found.grid, found.av, found.norm, scale)
    errors = dict(zip(APPRAISED, sigmas(found.widths).T, strict=True))
    values: dict[str, NDArray[np.floating]] = {}
    for name, product in MAP_NAMES.items():
        values[product], values[f"{product}_error"] = numbers[name], errors[name]
    values["ebv_stars"], values["ebv_stars_error"] = (part / INTERNAL_R_V for part in (found.av, errors["av"]))
    mass_to_light = 10.0 ** numbers["log_mass_to_light"]
    density = surface_density(
        flux * photometry.flux_cgs, 10.0 ** numbers["log_mass"], photometry.pixel_area_arcsec2, redshift
    )
    for product, value, name in (
        ("mass_to_light", mass_to_light, "log_mass_to_light"),
        ("stellar_mass_density", density, "log_mass"),
    ):
        values[product], values[f"{product}_error"] = value, value * np.log(10.0) * errors[name]
    values["t50"], values["t90"] = formation_times(found.grid, scale)
    values["trust"], values["noise_scale"] = found.trust, found.noise_scale
    return {name: np.asarray(value, dtype=np.float32) for name, value in values.items()}


@lru_cache(maxsize=4)
def mass_scale(predictor: Predictor) -> MassScale:
    """Masses and luminosities of a checkpoint's templates."""
    return MassScale.of(predictor.checkpoint.decoder)


def remarks(found: Predictions, av_max: float) -> NDArray[np.int32]:
    """Bits of `Status` that the model's answer gives, (k,) int32.

    Parameters
    ----------
    found : Predictions
    av_max : float
        Largest A_V that the model knows, mag.
    """
    by_age = found.grid.sum(axis=1)
    ends = np.maximum(by_age[:, :3].sum(axis=1), by_age[:, -3:].sum(axis=1))
    bits = np.where(ends > BOUNDARY_LIGHT, np.int32(Status.AGE_BOUNDARY), np.int32(0))
    bits |= np.where(found.av > av_max - BOUNDARY_AV, np.int32(Status.AV_BOUNDARY), np.int32(0))
    reasons = np.array([int(REASONS.get(kind, 0)) for kind in KINDS], dtype=np.int32)
    kinds = np.nan_to_num(found.kinds[:, 1:])
    odd = np.int32(Status.UNLIKE_TRAINING) | reasons[1 + kinds.argmax(axis=1)]
    bits |= np.where(found.trust < TRUST_FLAG, odd, np.int32(0))
    return bits.astype(np.int32)
