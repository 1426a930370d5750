"""The `kinematics` section of a galaxy: how its stars move, beyond the galaxy's redshift."""

from typing import Literal, Self

from pydantic import Field, model_validator

from galprote.model.ranges import LARGEST_REACH, SMALLEST_REACH
from galprote.pipeline.section import Section


class KinematicsConfig(Section):
    """Velocities by which spaxels or bins are taken to their rest frames. By default all have the galaxy's redshift."""

    method: Literal["none", "map", "measure"] = "none"
    """none: one redshift for the whole galaxy; map: velocities of `map`; measure: velocity and dispersion of each
    spaxel or bin, measured before it is fitted, see docs/kinematics.md."""
    map: str | None = Field(default=None, min_length=1)
    """With `map`: FITS image of velocities in km/s on the cube's pixels, `file.fits[EXT]` for an extension (PHANGS:
    V_STARS or HA6562_VEL). {name} stands for the galaxy's name."""
    relative_to: Literal["redshift", "zero"] = "redshift"
    """What the map's velocities are relative to. redshift: the galaxy's, 1 + z = (1 + redshift) (1 + v / c), as those
    of PHANGS and nGIST are; zero: they are c z, in the same barycentric frame as the galaxy's redshift."""
    max_velocity: float = Field(default=500.0, ge=SMALLEST_REACH, le=LARGEST_REACH)
    """With `measure`: how far from the galaxy's redshift is looked, km/s."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.method == "map") != (self.map is not None):
            raise ValueError("method: map needs the key map, and the other methods do not take it")
        return self

    @property
    def on(self) -> bool:
        """Whether spectra have velocities of their own."""
        return self.method != "none"
