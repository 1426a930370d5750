"""Velocities of a galaxy's spaxels from a FITS image, and those of bins from their spaxels'."""

import warnings

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.model.kinematics import C_KMS
from galprote.pipeline.binning import Bins
from galprote.pipeline.images import read_named_image
from galprote.pipeline.kinematics_config import KinematicsConfig

#: Share of a map's velocities that may be beyond the next number.
MOST_ABSURD = 0.1
#: Velocities beyond it are no galaxy's: the map's unit or its zero is another one, km/s.
LARGEST_KMS = 2000.0


def read_velocities(config: KinematicsConfig, redshift: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Read a map of velocities.

    Parameters
    ----------
    config : KinematicsConfig
        With a map.
    redshift : float
        The galaxy's.
    shape : (int, int)
        (y, x) of the cube.

    Returns
    -------
    (y, x) float32
        Velocities relative to the galaxy's redshift, km/s: 1 + z = (1 + redshift) (1 + v / c). NaN where there is none.

    Raises
    ------
    ConfigError
        If the map cannot be read, or its velocities are not km/s relative to what `relative_to` says.
    """
    where = f"velocity map {config.map}"
    found, unit = read_named_image(str(config.map), "velocity map", shape, ("V_STARS", "V"))
    values = found.astype(np.float64) * _kms(where, unit)
    values[~np.isfinite(values)] = np.nan
    if config.relative_to == "zero":
        values = C_KMS * ((1 + values / C_KMS) / (1 + redshift) - 1)
    if not np.isfinite(values).any():
        raise ConfigError(f"{where}: there is no velocity in it")
    middle = float(np.nanmedian(values))
    if abs(middle) > LARGEST_KMS:
        raise ConfigError(
            f"{where}: its median is {middle:,.0f} km/s from the galaxy's redshift {redshift:g}: velocities in km/s "
            f"are wanted, relative to {'that redshift' if config.relative_to == 'redshift' else 'zero (c z)'}; see "
            f"kinematics.relative_to"
        )
    absurd = np.abs(values) > LARGEST_KMS
    if absurd.sum() > MOST_ABSURD * np.isfinite(values).sum():
        raise ConfigError(
            f"{where}: {absurd.sum():,} of {np.isfinite(values).sum():,} spaxels have velocities over "
            f"{LARGEST_KMS:,.0f} km/s: is its unit km/s, and is it the right image?"
        )
    values[absurd] = np.nan
    return values.astype(np.float32)


def _kms(where: str, unit: str) -> float:
    """What a map's values are multiplied by; without a BUNIT they are taken to be km/s."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", u.UnitsWarning)
            return float(u.Unit(unit or "km/s").to(u.km / u.s))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: BUNIT = '{unit}' is no velocity: km/s is wanted, or m/s") from error


def velocities_of_bins(velocity: NDArray[np.float32], bins: Bins) -> NDArray[np.float32]:
    """Mean velocities of bins (n,) float32, weighted by light; NaN where no spaxel has one."""
    mine = (bins.index >= 0) & np.isfinite(velocity)
    number, weight = bins.index[mine], bins.weight[mine].astype(np.float64)
    with np.errstate(invalid="ignore"):
        total = np.bincount(number, weight, minlength=len(bins))
        mean = np.bincount(number, weight * velocity[mine], minlength=len(bins)) / total
    return mean.astype(np.float32)
