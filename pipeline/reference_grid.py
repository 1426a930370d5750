"""Maps on other pixels -> on our spaxels, by their WCS."""

import warnings
from typing import Any, Final

import numpy as np
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from galprote.model.errors import ConfigError

Array = NDArray[np.float64]
#: Spaxels are pixels of the reference if none is further off, pixels: astrometry is not better, nor is seeing.
SAME: Final = 0.1


class OntoSpaxels:
    """Takes images from a reference's pixels to ours.

    Parameters
    ----------
    wcs, shape :
        Celestial WCS (or None) and shape (y, x) of the reference.
    our_wcs, our_shape :
        Ours.
    binned : bool
        Its values are those of bins: pixels keep their values, nothing is interpolated.
    ignore_wcs : bool
        Count pixels, whatever the headers say.

    Raises
    ------
    ConfigError
        If there is no WCS and the shapes differ, or the images do not overlap.
    """

    def __init__(
        self,
        wcs: WCS | None,
        shape: tuple[int, ...],
        our_wcs: WCS | None,
        our_shape: tuple[int, int],
        *,
        binned: bool,
        ignore_wcs: bool = False,
    ) -> None:
        self._wcs, self._our_wcs, self._shape, self.binned = wcs, our_wcs, our_shape, binned
        self._theirs: tuple[int, ...] = tuple(shape)
        self.words = ""
        self.same = True
        self._picked: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]] | None = None
        if wcs is None or our_wcs is None or ignore_wcs:
            self._count(ignore_wcs=ignore_wcs)
        else:
            self._place(wcs, our_wcs)

    def _count(self, *, ignore_wcs: bool) -> None:
        """Take the pixels for ours."""
        if self._theirs != self._shape:
            why = "they are compared pixel by pixel" if ignore_wcs else "without a WCS in both they must be the same"
            raise ConfigError(
                f"reference: {_text(self._theirs)} pixels (y x x), our maps have {_text(self._shape)}: {why}"
            )
        self.words = "compared pixel by pixel" + ("" if ignore_wcs else ": no WCS in both")

    def _place(self, wcs: WCS, our_wcs: WCS) -> None:
        """Find out which pixels our spaxels are, or lie between."""
        shape, our_shape = self._theirs, self._shape
        x, y = _places(wcs, our_wcs, our_shape)
        inside = (x > -0.5) & (y > -0.5) & (x < shape[1] - 0.5) & (y < shape[0] - 0.5)
        if not inside.any():
            raise ConfigError(
                f"reference: does not overlap our maps: {_sky(wcs, shape)}, ours {_sky(our_wcs, our_shape)}"
            )
        rows, columns = np.mgrid[: our_shape[0], : our_shape[1]]
        offset = float(np.nanmax(np.hypot(x - columns, y - rows)))
        self.same = shape == our_shape and offset < SAME
        if self.same:
            return
        nearest = np.rint(x[inside]), np.rint(y[inside])
        if float(np.max(np.hypot(x[inside] - nearest[0], y[inside] - nearest[1]))) < SAME:
            self._picked = nearest[1].astype(np.intp), nearest[0].astype(np.intp), inside
            self.words = (
                f"pixels of its {_text(shape)} that are our {_text(our_shape)}, {inside.mean():.0%} of which it covers"
            )
        else:
            sizes = [float(np.mean(proj_plane_pixel_scales(item))) * 3600 for item in (wcs, our_wcs)]
            how = "nearest pixel" if self.binned else "bilinear"
            self.words = (
                f"from its {_text(shape)} pixels of {sizes[0]:.3g} arcsec onto our {_text(our_shape)} of {sizes[1]:.3g}"
                f" ({how}), {inside.mean():.0%} of which it covers"
            )

    def require(self, image: NDArray[Any], name: str) -> None:
        """Refuse an image that is not on the reference's pixels.

        Raises
        ------
        ConfigError
            If its shape is another one.
        """
        if image.shape != self._theirs:
            raise ConfigError(
                f"reference: {name} has {_text(image.shape)} pixels (y x x), the first map {_text(self._theirs)}: they "
                "must be the same; compare one of them only, with --quantity"
            )

    def __call__(self, image: NDArray[np.floating]) -> Array:
        """Bring an image (y, x) onto our spaxels; NaN where there is none."""
        return self._brought(image, "nearest-neighbor" if self.binned else "bilinear")

    def numbers(self, image: NDArray[np.integer]) -> NDArray[np.int32]:
        """Bring an image of bin numbers onto our spaxels; -1 where there are none."""
        found = self._brought(np.where(image < 0, np.nan, image), "nearest-neighbor")
        return np.where(np.isfinite(found), np.rint(np.nan_to_num(found)), -1).astype(np.int32)

    def flags(self, image: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Bring an image of flags onto our spaxels; False where there are none."""
        return self._brought(image, "nearest-neighbor") > 0.5

    def _brought(self, image: NDArray[Any], order: str) -> Array:
        values = np.asarray(image, dtype=np.float64)
        return values if self.same else self._projected(values, order)

    def _projected(self, image: Array, order: str) -> Array:
        if self._picked is not None:
            rows, columns, inside = self._picked
            cut: Array = np.full(self._shape, np.nan)
            cut[inside] = image[rows, columns]
            return cut
        from reproject import reproject_interp

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # wcslib reports every keyword that it tidies up
            found: Array = reproject_interp(
                (image, self._wcs), self._our_wcs, shape_out=self._shape, order=order, return_footprint=False
            )
        return found


def _places(wcs: WCS, our_wcs: WCS, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Pixels of the reference at which our spaxels are."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = wcs.world_to_pixel(our_wcs.pixel_to_world(x, y))
    return np.asarray(found[0], dtype=np.float64), np.asarray(found[1], dtype=np.float64)


def _sky(wcs: WCS, shape: tuple[int, ...]) -> str:
    centre = wcs.pixel_to_world(shape[1] / 2 - 0.5, shape[0] / 2 - 0.5).icrs
    return f"its centre is at RA {centre.ra.deg:.5f}, Dec {centre.dec.deg:+.5f}"


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
