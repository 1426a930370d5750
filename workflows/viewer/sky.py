"""Where on the sky the pixels are: for tooltips, the compass and the scale bar."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from astropy import units as u
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

#: Lengths that a scale bar may have where there is no sky, spaxels.
SPAXELS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


@dataclass(frozen=True)
class Sky:
    """The tangential plane at the middle of an image.

    Attributes
    ----------
    x, y : float
        The middle, pixels.
    ra, dec : float
        ICRS degrees.
    matrix : tuple of 4 float
        Degrees to the east, then to the north, per pixel along x, and along y.
    scale : float
        Arcsec per pixel.
    """

    x: float
    y: float
    ra: float
    dec: float
    matrix: tuple[float, float, float, float]
    scale: float

    @classmethod
    def of(cls, wcs: WCS, shape: tuple[int, int]) -> "Sky":
        """Work it out for an image (ny, nx)."""
        x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
        centre = wcs.pixel_to_world(x, y).icrs
        origin = np.array(wcs.world_to_pixel(centre))
        near = [centre.directional_offset_by(angle * u.deg, 1 * u.arcsec) for angle in (90, 0)]
        to_pixels = np.column_stack(
            [np.array(wcs.world_to_pixel(place)) - origin for place in near]
        )  # arcsec -> pixels
        matrix = np.linalg.inv(to_pixels) / 3600
        scale = float(np.mean(proj_plane_pixel_scales(wcs))) * 3600
        return cls(x, y, float(centre.ra.deg), float(centre.dec.deg), tuple(map(float, matrix.ravel())), scale)  # type: ignore[arg-type]

    @property
    def east(self) -> tuple[float, float]:
        """Direction of east on the image, of length 1."""
        return self._direction((1.0, 0.0))

    @property
    def north(self) -> tuple[float, float]:
        """Direction of north on the image, of length 1."""
        return self._direction((0.0, 1.0))

    def _direction(self, world: tuple[float, float]) -> tuple[float, float]:
        step = np.linalg.solve(np.reshape(self.matrix, (2, 2)), world)
        step = step / np.hypot(*step)
        return float(step[0]), float(step[1])

    def position(self, x: float, y: float) -> tuple[float, float]:
        """Right ascension and declination of a pixel, ICRS degrees, as the tooltip says it."""
        xi, eta = np.radians(np.reshape(self.matrix, (2, 2)) @ (x - self.x, y - self.y))
        dec = np.radians(self.dec)
        below = np.cos(dec) - eta * np.sin(dec)
        ra = self.ra + np.degrees(np.arctan2(xi, below))
        up = np.degrees(np.arctan2(np.sin(dec) + eta * np.cos(dec), np.hypot(xi, below)))
        return float(ra % 360), float(up)
