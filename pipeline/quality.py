"""The bits of the `status` map: why a value is missing, or what to know before using it."""

from enum import IntFlag
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Status(IntFlag):
    """Bits of `status`, int32; zero is a good fit without remarks. NaN values go with one of `NOT_FITTED`, but
    for errors and trust of weights without an appraisal, and surface densities of uncalibrated cubes."""

    NO_DATA = 1
    """No finite flux with a usable variance in the model's window."""
    EXCLUDED = 2
    """Left out by a mask file (`masks.files`)."""
    LOW_SNR = 4
    """`snr` is below `snr_min`."""
    NOT_POSITIVE = 8
    """The median flux is not positive."""
    INCOMPLETE = 16
    """`filled_fraction` exceeds `max_filled`."""
    FAILED = 32
    """The model gave a number that is not finite, or the spaxel's chunk could not be computed (`not_computed`)."""
    FILLED = 64
    """Over 10 % of the samples had no data and were filled (the adaptive optics' notch is 7 to 8 %)."""
    LINES_REPLACED = 128
    """Over 5 % of the samples were replaced by the line filter."""
    BAD_VARIANCE = 256
    """Over 1 % of the channels have a finite flux but no positive, finite variance; they were left out."""
    POOR_FIT = 512
    """The residuals exceed both 5 % of the flux and three times the noise (rms)."""
    AGE_BOUNDARY = 1024
    """Over half of the light is in the youngest or oldest three templates."""
    AV_BOUNDARY = 2048
    """A_V lies within 0.05 mag of the largest that the weights know (1.5 or 3 mag), or probably beyond it."""
    UNLIKE_TRAINING = 4096
    """`trust` is under 1 %: fewer than one in a hundred ordinary spectra look as odd. The next bits say why."""
    AGN_LIKE = 8192
    """Not trusted, and most like an active nucleus: broad lines outside the masks, a power-law continuum."""
    STAR_LIKE = 16384
    """Not trusted, and most like a star of the Milky Way, at rest."""
    WRONG_REDSHIFT = 32768
    """Not trusted, and most like a galaxy of another redshift, or two of different ones."""
    DAMAGED = 65536
    """Not trusted, and most like dead channels or a step in the flux calibration."""
    SKY_LIKE = 131072
    """Not trusted, and most like the night sky or noise, without a galaxy."""
    NOT_COMPUTED = 262144
    """With `failed`: its chunk could not be computed. `failures.csv` says why, and the next run tries it again."""
    STAR_MASK = 524288
    """Left out as a star: one of the catalogue's, or flagged by the earlier run that `masks.trust` names."""
    REGION_MASK = 1048576
    """Left out by a region file (`masks.regions`)."""
    NOT_BINNED = 2097152
    """In no bin: its own signal-to-noise ratio is below `binning.snr_min`, or the file of bins has none for it."""
    NO_VELOCITY = 4194304
    """Its own velocity is not known (`kinematics`): it was fitted at the galaxy's redshift."""


#: The spaxel was left out by a mask.
MASKED: Final = Status.EXCLUDED | Status.STAR_MASK | Status.REGION_MASK
#: Reasons for which a spaxel has no values.
NOT_FITTED: Final = (
    Status.NO_DATA | MASKED | Status.LOW_SNR | Status.NOT_POSITIVE | Status.INCOMPLETE | Status.FAILED
    | Status.NOT_COMPUTED | Status.NOT_BINNED
)  # fmt: skip
#: The spaxel has values that nobody should believe: its spectrum is not one that the model knows.
NOT_TRUSTED: Final = (
    Status.UNLIKE_TRAINING | Status.AGN_LIKE | Status.STAR_LIKE | Status.WRONG_REDSHIFT | Status.DAMAGED
    | Status.SKY_LIKE
)  # fmt: skip
#: What figures and reports leave out. All other bits are remarks on values that may be used.
UNRELIABLE: Final = NOT_FITTED | NOT_TRUSTED
#: Remarks that make a value doubtful, though it counts.
DOUBTFUL: Final = Status.POOR_FIT | Status.AGE_BOUNDARY | Status.AV_BOUNDARY


class Kinds(NamedTuple):
    """Spaxels (y, x) with data that were not fitted, that a mask left out, whose fit is not trusted, or is doubtful."""

    unfitted: NDArray[np.bool_]
    masked: NDArray[np.bool_]
    untrusted: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]

    @classmethod
    def of(cls, status: NDArray[np.int32]) -> "Kinds":
        """Tell from the status bits; a spaxel is of one kind at most."""
        data, masked = (status & Status.NO_DATA) == 0, (status & MASKED) > 0
        unfitted, untrusted = (status & NOT_FITTED) > 0, (status & NOT_TRUSTED) > 0
        doubtful = (status & DOUBTFUL) > 0
        return cls(data & ~masked & unfitted, data & masked, ~unfitted & untrusted, ~unfitted & ~untrusted & doubtful)


def status_names(status: int) -> tuple[str, ...]:
    """Names of the bits of a status, as the store's `flag_meanings` has them."""
    return tuple(str(bit.name).lower() for bit in Status if status & bit)


def flag_attributes() -> dict[str, object]:
    """CF conventions' `flag_masks` and `flag_meanings`, and the sums of bits by which spaxels are told apart."""
    return {
        "not_fitted_bits": int(NOT_FITTED),
        "unreliable_bits": int(UNRELIABLE),
        "flag_masks": [int(bit) for bit in Status],
        "flag_meanings": " ".join(str(bit.name).lower() for bit in Status),
    }
