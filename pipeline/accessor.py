"""`Dataset.galprote`: what astronomers do with maps, on any slice of them. The work is done elsewhere."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from galprote.pipeline import map_wcs, profiles, sky_places, trusted_light

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@xr.register_dataset_accessor("galprote")  # type: ignore[no-untyped-call]
class MapsAccessor:
    """Methods of a Dataset from `galprote.pipeline.open_maps`, or of a slice of one.

    They follow slices (steps, backwards, single rows), `where`, `copy` and pickling.

    Parameters
    ----------
    maps : xarray.Dataset
    """

    def __init__(self, maps: xr.Dataset) -> None:
        self._maps = maps

    @property
    def wcs(self) -> WCS:
        """Celestial WCS of the Dataset as it is sliced: pixel (0, 0) is its first spaxel.

        A row or column that was picked by a number is an axis of one pixel.

        Raises
        ------
        SkyError
            If the cube had no celestial WCS, or the rows or columns kept are not evenly spaced.
        """
        return map_wcs.slice_wcs(self._maps)

    @property
    def bins(self) -> xr.Dataset:
        """The bins' values and spectra: see `open_bins`. All of them, also of a slice.

        Raises
        ------
        MapsError
            If the spaxels were not binned, the store is not there any more, or the maps have lost their attributes.
        """
        from galprote.pipeline.maps import OPENED_FROM, MapsError, open_bins

        source = str(self._maps.attrs.get(OPENED_FROM, ""))
        if not source:
            raise MapsError(f"the Dataset has no attribute `{OPENED_FROM}` (any more): use galprote.pipeline.open_bins")
        return open_bins(source)

    def good(self) -> xr.DataArray:
        """Spaxels that were fitted and whose spectra are trusted, (y, x) bool: what figures show.

        Raises
        ------
        ProfileError
            If there is no map `status`, or it was averaged.
        """
        return trusted_light.trusted(self._maps)

    def sky(self) -> SkyCoord:
        """Positions (ICRS) of the centres of the spaxels, (y, x), or of what axes of these are left.

        Raises
        ------
        SkyError
            If the cube had no celestial WCS.
        """
        return map_wcs.sky(self._maps)

    def pixel(self, ra: Any, dec: Any = None) -> tuple[float, float]:
        """Where a position is: (y, x), numbers of the cube's spaxels with fractions, as the coordinates `y` and `x`.

        It need not be on the maps. ``ds.sel(y=y, x=x, method="nearest", tolerance=0.5)`` is the spaxel there, or a
        KeyError; without a tolerance it would be one at the edge.

        Parameters
        ----------
        ra, dec
            As for `cutout`.

        Raises
        ------
        SkyError
            If it is no position, or the cube had no celestial WCS.
        """
        return sky_places.pixel_of(self._maps, sky_places.sky_place(ra, dec))

    def cutout(self, ra: Any, dec: Any = None, size: Any = None) -> xr.Dataset:
        """The part of the maps and cubes around a position: a slice, lazy, along the pixels' axes.

        Parameters
        ----------
        ra, dec : float, Quantity or str
            Degrees; quantities with their unit; text like ``12h18m49s`` or ``12:18:49`` (hours) and ``+14d24m59s`` or
            ``14:24:59``. ICRS. Or `ra` is an astropy SkyCoord of any frame, and `dec` is left out.
        size : float, Quantity, or a pair of these
            Arcsec, or an angle: of the height and the width, or (height, width); rounded to whole spaxels, one at
            least. What reaches beyond the maps is trimmed.

        Raises
        ------
        SkyError
            If no part of it is on the maps, or something of this is not understood.
        """
        if size is None:
            raise map_wcs.SkyError("cutout: give its size in arcsec, cutout(ra, dec, size=10)")
        return sky_places.cutout(self._maps, sky_places.sky_place(ra, dec), size)

    def radius(self, center: Any = None, pa: float | None = None, inclination: float | None = None) -> xr.DataArray:
        """Distance of every spaxel from a centre, (y, x), in the plane of a thin disc: arcsec; spaxels without a WCS.

        Parameters
        ----------
        center, pa, inclination
            As for `radial_profile`; the centre may be anywhere around.

        Raises
        ------
        ProfileError
            If something of this is not understood.
        """
        return profiles.radius_map(self._maps, profiles.disc(center, pa, inclination))

    def radial_profile(
        self,
        name: str = "age_lw",
        center: Any = None,
        pa: float | None = None,
        inclination: float | None = None,
        *,
        step: Any = None,
        edges: Any = None,
        weights: str = "",
        distance: Any = None,
    ) -> xr.Dataset:
        """Average a map over elliptical rings: circles in the plane of a thin disc. Only `good()` spaxels count.

        Parameters
        ----------
        name : str
            Of a map; not `status`, `bin_id` or others of bits or numbers of things.
        center : SkyCoord or (float, float), optional
            A position, or (y, x) as the coordinates have it. By default the brightest light: the centroid of
            `flux` under a Gaussian window of 1.5 spaxels, from the brightest trusted spaxel on. It may lie outside the
            maps, no further than these are across; further, if `edges` are given.
        pa : float
            Position angle of the major axis, degrees from north through east, whichever way the pixels lie. Of a cube
            without a WCS: from up (y) through left (-x). It and the inclination need each other.
        inclination : float
            Degrees, 0 (face-on: circles on the sky, as without one) to less than 90.
        step : float or Quantity, optional
            Width of the rings, arcsec (spaxels without a WCS). By default a fifteenth of the largest radius, but no
            less than 1.5 spaxels. Around a centre outside the maps rings begin at the first spaxel.
        edges : sequence of float, optional
            Ends of the rings instead.
        weights : str, optional
            A map, or ``area`` for none. By default `flux`, the light; for maps that are per area (`flux`,
            `stellar_mass_density`) ``area``.
        distance : float or Quantity, optional
            Mpc: gives coordinates in kpc, too.

        Returns
        -------
        xarray.Dataset
            Over `radius` (middle of the rings, deprojected, arcsec): `mean`, `median`, `p16`, `p84`, all weighted;
            `standard_error` of the mean, from the scatter in the ring (neighbouring spaxels share the seeing and
            systematics: it is a lower limit); `mean_radius`, weighted as the mean is; `n` spaxels; `n_independent`
            values, which are fewer where spaxels of a bin have one value. NaN in rings without spaxels. Attributes say
            where the centre is and what was used.

        Raises
        ------
        ProfileError
            If something of this is not understood, the centre is far from the maps, or no spaxel is left.
        SkyError
            If the centre is not one position.
        """
        disc = profiles.disc(center, pa, inclination)
        return profiles.radial_profile(
            self._maps, name, disc, step=step, edges=edges, weights=weights, distance=distance
        )

    def plot(self, name: str = "age_lw", ax: "Axes | None" = None, **how: Any) -> "Axes":
        """Draw a map with the colours, limits and words of the figure of the maps, north up and east left.

        Parameters
        ----------
        name : str
            Of a map; `status` is drawn by what its bits mean for a value.
        ax : matplotlib Axes, optional
            By default new ones. In them pixel (0, 0) is the first spaxel of the slice, so that
            ``ax.contour(ds.flux)`` and ``ax.plot(*ds.galprote.wcs.world_to_pixel(place), "+")`` fit.
        limits : (float, float), optional
            Of the colours.
        untrusted : {"grey", "hatch", "show"}
            Spaxels that are not trusted: left out, or shown with or without a hatching. `flux` and `snr` show all.
        fade : bool
            Make values transparent as their errors grow: by half where they are a quarter of the colours' range.
        wcs_axes : bool
            Draw right ascension and declination (astropy's WCSAxes) in place of the scale bar and the compass.
        colorbar, sky, legend : bool
            Whether to draw the colour bar, the scale bar and the compass, and what the greys mean.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        PlotError
            If there is no such map, or it cannot be drawn as asked.
        ProfileError
            If `status` was averaged.
        SkyError
            If it has more axes than y and x.
        """
        from galprote.pipeline.map_plot import plot_map

        return plot_map(self._maps, name, ax, **how)

    def to_fits(self, path: str | Path | None = None, *, overwrite: bool = False) -> "fits.HDUList | Path":
        """Maps as FITS, an extension each, named as in `NAME_MAPS.fits`; the cubes are left out.

        Parameters
        ----------
        path : str or Path, optional
            Where to write; appears when it is complete. Without one nothing is written.
        overwrite : bool
            Whether it may replace a file.

        Returns
        -------
        astropy.io.fits.HDUList, or Path
            What was made; the path if one was given. All of a store's maps give `NAME_MAPS.fits`, byte by byte; a slice
            has its own WCS, and LTV and LTM, from which `open_maps` knows where it was cut. Maps of your own have their
            names in capitals.

        Raises
        ------
        MapsError
            If the file is there already, or the maps have lost their attributes.
        """
        from galprote.pipeline.map_files import maps_to_fits

        return maps_to_fits(self._maps, path, overwrite=overwrite)

    def reproject_to(
        self,
        target: Any,
        names: str | Iterable[str] | None = None,
        *,
        method: str = "bilinear",
        shape: tuple[int, int] | None = None,
        trusted_only: bool = True,
    ) -> xr.Dataset:
        """Lay maps on another image's pixels.

        Parameters
        ----------
        target : str, Path, Header, WCS, HDU or xarray.Dataset
            A FITS image, ``image.fits`` or ``image.fits[EXT]``; or other maps of galprote.
        names : str or iterable of str, optional
            Of maps; all by default. `status` goes with them.
        method : {"nearest", "bilinear", "exact"}
            How floats are averaged; `exact` weighs by overlapping areas, slower, and right for pixels larger than the
            maps'. Whole numbers, as `status`, are those of the nearest spaxel.
        shape : (int, int), optional
            (rows, columns) of a WCS that does not tell them.
        trusted_only : bool
            Leave out what is not `good()`, but of `flux`, `snr` and the like.

        Returns
        -------
        xarray.Dataset
            On the target's pixels, with `ra`, `dec` and a WCS: the accessor works on it. `footprint` tells which of
            them the maps cover (`exact`: the share). Values are averages: ages, densities and fluxes per spaxel stay
            what they are, whatever the pixels' size. The attribute `spaxel_area_ratio` leads from fluxes per spaxel to
            fluxes per pixel. Errors are averaged as the values are: pixels that share a spaxel share its error. A pixel
            of which less than half is covered by spaxels with values has none.

        Raises
        ------
        ReprojectionError
            If the target has no celestial WCS, one with lookup tables, or no shape, is too large (4 GB), or elsewhere.
        """
        from galprote.pipeline.reprojection import reproject_maps

        return reproject_maps(self._maps, target, names, method=method, shape=shape, trusted_only=trusted_only)
