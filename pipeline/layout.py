"""What a galaxy's store looks like: cubes, coordinates and attributes. Pure description, nothing is written here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from galprote.model.grids import N_WAVELENGTH, WAVELENGTH
from galprote.model.masses import age_edges
from galprote.pipeline.config import GalaxyConfig, ProductsConfig
from galprote.pipeline.map_wcs import sky_positions
from galprote.pipeline.products import BIN_MAPS, CUBE_UNIT, KINEMATIC_MAPS, MAPS, MapProduct
from galprote.pipeline.quality import flag_attributes
from galprote.pipeline.spectral_masks import NO_MASKS, WavelengthMasks, mask_attributes
from galprote.pipeline.store import CubeArray

Coordinate = tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]


#: Written into every store.
MASS_CONVENTION = (
    "The library's initial mass function. AGE_MW, Z_MW, T50 and T90 weigh by the mass formed; ML_V and "
    "STELLAR_MASS_DENSITY count living stars and remnants, 1 - 0.05 ln(1 + t / 1.4 Myr) of the mass formed (Behroozi "
    "et al. 2013), not the gas given back. Densities are per area across the line of sight, as it is inclined."
)


@dataclass(frozen=True)
class StoreLayout:
    """Everything in a store but the numbers.

    Attributes
    ----------
    attributes : dict
        Of the group.
    cubes : tuple of CubeArray
    maps : dict of str to dict
        Attributes of each map.
    coordinates : dict
        But those of the sky, which `sky_coordinates` computes when they are written.
        Name to (dims, values, attributes).
    provenance : dict
    """

    attributes: dict[str, Any]
    cubes: tuple[CubeArray, ...]
    maps: dict[str, dict[str, Any]]
    coordinates: dict[str, Coordinate]
    provenance: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Hash of input, settings and weights."""
        return str(self.provenance["fingerprint"])


def store_layout(
    galaxy: GalaxyConfig,
    cube: xr.Dataset,
    record: dict[str, Any],
    metallicities: tuple[float, ...],
    ages_gyr: tuple[float, ...],
    mass_per_light: NDArray[np.float64],
    mass_density_note: str = "",
    masked: WavelengthMasks = NO_MASKS,
    visible: Sequence[bool] = (True,) * N_WAVELENGTH,
) -> StoreLayout:
    """Describe the store of a galaxy.

    Parameters
    ----------
    galaxy : GalaxyConfig
    cube : xarray.Dataset
        From `open_cube`.
    record : dict
        From `provenance`.
    metallicities, ages_gyr : tuple of float
        Axes of the model's grid.
    mass_per_light : (n_metallicity, n_age) float64
        Mass formed for the same light.
    mass_density_note : str
        Why there are no surface densities, if there are none.
    masked : WavelengthMasks
        Bands that the fit did not use.
    visible : sequence of 948 bool
        Samples that the weights use.
    """
    unit = str(cube.attrs["bunit"])
    attributes = {
        **_attributes(galaxy, cube, record, mass_density_note),
        **mask_attributes(masked, galaxy.redshift, visible),
        "provenance": json.dumps(record, sort_keys=True),
    }
    on_sky = bool(attributes["wcs_header"])
    cubes = list(_cubes(galaxy, unit, len(cube["wavelength"]), (len(metallicities), len(ages_gyr))))
    if on_sky:
        for item in cubes:
            item.attributes["coordinates"] = "ra dec"  # of the image, or of the bins
    coordinates = _wavelengths(galaxy, cube)
    if galaxy.products.grid:
        coordinates |= _grid_coordinates(metallicities, ages_gyr, mass_per_light)
    return StoreLayout(attributes, tuple(cubes), _maps(galaxy, unit, on_sky=on_sky), coordinates, record)


def _attributes(
    galaxy: GalaxyConfig, cube: xr.Dataset, record: dict[str, Any], mass_density_note: str
) -> dict[str, Any]:
    """What the galaxy, its cube and its record say of the whole."""
    return {
        "Conventions": "CF-1.11",
        "title": f"Stellar populations of {galaxy.name}",
        "source": f"galprote {record['versions']['galprote']}",
        "galaxy": galaxy.name,
        "redshift": galaxy.redshift,
        "binning": galaxy.binning.method,
        "kinematics": galaxy.kinematics.method,
        "mass_convention": MASS_CONVENTION,
        "mass_density_note": mass_density_note,
        "flux_unit": str(cube.attrs["bunit"]),
        "flux_unit_assumed": bool(cube.attrs["bunit_assumed"]),
        "variance_source": str(cube.attrs["variance_source"]),
        "variance_note": str(cube.attrs["variance_note"]),
        "wcs_header": str(cube.attrs["wcs_header"]),
        "foreground_ebv": galaxy.foreground.ebv,
        "foreground_law": galaxy.foreground.law,
        "foreground_r_v": galaxy.foreground.r_v,
        "foreground_source": galaxy.foreground.source,
    }


def _wavelengths(galaxy: GalaxyConfig, cube: xr.Dataset) -> dict[str, Coordinate]:
    """Axes of the spectra that there will be."""
    found: dict[str, Coordinate] = {}
    if galaxy.products.residual:
        about = {"units": "Angstrom", "long_name": "rest-frame wavelength in air"}
        found["wavelength"] = (("wavelength",), WAVELENGTH, about)
    if galaxy.products.continuum_subtracted:
        about = {"units": "Angstrom", "long_name": "observed wavelength in air"}
        found["wavelength_observed"] = (("wavelength_observed",), cube["wavelength"].values, about)
    return found


def _grid_coordinates(
    metallicities: tuple[float, ...], ages_gyr: tuple[float, ...], mass_per_light: NDArray[np.float64]
) -> dict[str, Coordinate]:
    """Axes of the grid, and what makes masses of it."""
    ends = {"units": "Gyr", "long_name": "ends of the age bins"}
    mass = {"units": "", "long_name": "mass formed for the same light, relative: grid times it is mass"}
    return {
        "metallicity": (("metallicity",), np.array(metallicities), {"units": "dex", "long_name": "[M/H]"}),
        "age": (("age",), np.array(ages_gyr), {"units": "Gyr", "long_name": "age"}),
        "age_edge": (("age_edge",), np.array(age_edges(np.array(ages_gyr))), ends),
        "mass_per_light": (("metallicity", "age"), mass_per_light, mass),
    }


def _maps(galaxy: GalaxyConfig, unit: str, *, on_sky: bool) -> dict[str, dict[str, Any]]:
    """Attributes of each map."""
    return {
        product.name: {
            "units": unit if product.unit == CUBE_UNIT else product.unit,
            "long_name": product.long_name,
            **({"coordinates": "ra dec"} if on_sky else {}),
            **(flag_attributes() if product.name == "status" else {}),
        }
        for product in wanted_maps(galaxy)
    }


def wanted_maps(galaxy: GalaxyConfig) -> tuple[MapProduct, ...]:
    """The maps that a galaxy will have."""
    moving = {"none": (), "map": KINEMATIC_MAPS[:1], "measure": KINEMATIC_MAPS}[galaxy.kinematics.method]
    return (*MAPS, *(BIN_MAPS if galaxy.binning.on else ()), *moving)


def product_files(name: str, wanted: ProductsConfig, *, binned: bool) -> tuple[str, ...]:
    """Names of the files that a galaxy will have; the store, which comes last, is the first of them.

    Cubes of binned galaxies are spectra of the bins, in one file with the bins' table.
    """
    cubes = {"RESIDUAL": wanted.residual, "CONTSUB": wanted.continuum_subtracted, "GRID": wanted.grid}
    files = [f"{name}.zarr"]
    if wanted.fits:
        spectra = [f"{name}_{label}.fits" for label, on in cubes.items() if on and not binned]
        files += [f"{name}_MAPS.fits", *spectra, *([f"{name}_BINS.fits"] if binned else [])]
    if binned:
        files.append(f"{name}_bins.csv")
    if wanted.figure:
        files.append(f"{name}_maps.png")
    return tuple(files)


def all_product_files(name: str) -> tuple[str, ...]:
    """Names of all files that a galaxy can have."""
    everything = ProductsConfig.model_validate(dict.fromkeys(ProductsConfig.model_fields, True))
    both = [product_files(name, everything, binned=binned) for binned in (False, True)]
    return tuple(dict.fromkeys([*both[0], *both[1]]))


def _cubes(galaxy: GalaxyConfig, unit: str, channels: int, grid: tuple[int, int]) -> list[CubeArray]:
    wanted = galaxy.products
    cubes = []
    if wanted.residual:
        about = "observed minus model, foreground dust removed, rest frame"
        cubes.append(CubeArray("residual", ("wavelength",), (N_WAVELENGTH,), {"units": unit, "long_name": about}))
    if wanted.continuum_subtracted:
        for name, about in (
            ("continuum_subtracted", "observed minus model, as observed, on the cube's channels"),
            ("continuum_subtracted_error", "error (1 sigma) of the same: noise of the cube and error of the model"),
        ):
            attributes = {"units": unit, "long_name": about}
            cubes.append(CubeArray(name, ("wavelength_observed",), (channels,), attributes))
    if wanted.grid:
        attributes = {"units": "", "long_name": "fraction of the light"}
        cubes.append(CubeArray("grid", ("metallicity", "age"), grid, attributes, "float16", last=True))
    return cubes


def sky_coordinates(wcs_header: str, ny: int, nx: int) -> dict[str, Coordinate]:
    """Right ascension and declination of every spaxel's centre, ICRS degrees; nothing without a WCS."""
    y, x = np.mgrid[:ny, :nx]
    sky = sky_positions(wcs_header, x, y)
    if sky is None:
        return {}
    return {
        "ra": (("y", "x"), sky[0], {"units": "degree", "long_name": "right ascension (ICRS)"}),
        "dec": (("y", "x"), sky[1], {"units": "degree", "long_name": "declination (ICRS)"}),
    }
