"""Limits of the colours that are the same for every galaxy."""

from collections.abc import Mapping
from typing import Final

#: Limits that are the same for every galaxy, whatever its values: pages of one survey, and of several, can be laid side
#: by side, and no page has to be drawn again when another galaxy is finished. They cover what MUSE's nearby galaxies
#: have; pointed ends of the colour bar say that there is more. What depends on distance and exposure has its own.
LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "age_lw": (8.0, 10.1), "metallicity_lw": (-1.0, 0.4), "av": (0.0, 1.5),
    "age_lw_error": (0.0, 0.6), "metallicity_lw_error": (0.0, 0.6), "av_error": (0.0, 0.6),
    "residual_rms": (0.0, 15.0), "trust": (0.0, 1.0),
}  # fmt: skip
