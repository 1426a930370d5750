"""A reference -> maps on our spaxels, in our numbers: what `compare` compares with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.pipeline.bin_numbers import read_bin_numbers
from galprote.pipeline.compared_quantities import BY_NAME, COMPARED, ON_REQUEST, Quantity, error_names
from galprote.pipeline.map_wcs import has_wcs, slice_wcs
from galprote.pipeline.quality import Status
from galprote.pipeline.reference_file import ReferenceFile, read_fits
from galprote.pipeline.reference_formats import read_store, use_fits
from galprote.pipeline.reference_grid import OntoSpaxels
from galprote.pipeline.reference_units import convert

Array = NDArray[np.float64]

#: Redshifts further apart are of two galaxies.
REDSHIFT_APART: Final = 1e-3


@dataclass(frozen=True)
class ReferenceOptions:
    """What the user says of a reference.

    Attributes
    ----------
    quantities : tuple of str
        What to compare (our names); empty: all that both have.
    extensions : dict of str to str
        Our name to the extension or column that holds it.
    units : dict of str to str
        Our name to the unit of the reference's map.
    r_v : float or None
        A_V over E(B-V) of the reference; None: what its format is known to use.
    ignore_wcs : bool
        Compare pixel by pixel.
    """

    quantities: tuple[str, ...] = ()
    extensions: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    r_v: float | None = None
    ignore_wcs: bool = False


@dataclass(frozen=True)
class ReferenceMap:
    """One quantity of the reference.

    Attributes
    ----------
    quantity : Quantity
    values, error : (y, x) float64
        On our spaxels, in the numbers that are compared; NaN where there is none.
    source : str
        Extension or column.
    conversion : str
        What was done to it, or assumed; '' if it is as it was.
    """

    quantity: Quantity
    values: Array
    error: Array
    source: str
    conversion: str


@dataclass(frozen=True)
class Reference:
    """What our maps are compared with.

    Attributes
    ----------
    path : Path
    kind : str
        Who made it.
    maps : tuple of ReferenceMap
    bins : (y, x) int32 or None
        Its bins on our spaxels; -1: in none.
    good : (y, x) bool
        Spaxels that its own flags do not leave out.
    truth : bool
    notes : tuple of str
    """

    path: Path
    kind: str
    maps: tuple[ReferenceMap, ...]
    bins: NDArray[np.int32] | None
    good: NDArray[np.bool_]
    truth: bool
    notes: tuple[str, ...]


def read_reference(path: Path, maps: xr.Dataset, options: ReferenceOptions) -> Reference:
    """Read a reference onto the spaxels of our maps.

    Parameters
    ----------
    path : Path
        A `<name>.zarr` of ours, or a FITS file: our `*_MAPS.fits`, a mock's `*_TRUTH.fits`, `*_MAPS.fits` of PHANGS,
        `*_SFH_maps.fits`, `*_KIN_maps.fits` or `*_sfh.fits` of nGIST, or any with maps as images.
    maps : xarray.Dataset
        Ours, from `open_maps`; also a slice.
    options : ReferenceOptions

    Raises
    ------
    ConfigError
        If the file cannot be read, has nothing in common with our maps, or its units are not clear.
    MapsError
        If a store is not a finished one.
    """
    _check(options)
    if path.is_dir() or path.suffix == ".zarr":
        return _on_spaxels(read_store(path), path, maps, options)
    seen = (maps["status"].values & int(Status.NO_DATA)) == 0
    place = partial(_placed, shape=seen.shape, seen=seen)

    def read(hdus: Any) -> Reference:
        file = use_fits(hdus, path, place)
        name, redshift = (hdus[0].header.get(key) for key in ("OBJECT", "REDSHIFT"))
        file.galaxy = str(name or "").strip()
        file.redshift = float(redshift) if isinstance(redshift, (int, float)) else None
        return _on_spaxels(file, path, maps, options)

    found: Reference = read_fits(path, read)
    return found


def _other_galaxy(file: ReferenceFile, maps: xr.Dataset) -> list[str]:
    """A note where names (which a truth does not know) or redshifts say that the reference is of another galaxy."""
    ours, redshift = str(maps.attrs.get("galaxy", "")), maps.attrs.get("redshift")
    names = ["".join(filter(str.isalnum, name)).lower() for name in (file.galaxy, ours)]
    apart = file.redshift is not None and redshift is not None and abs(file.redshift - float(redshift)) > REDSHIFT_APART
    if not apart and (file.truth or not all(names) or names[0] == names[1]):
        return []
    of_it = "" if file.redshift is None else f", z = {file.redshift:g}"
    return [f"reference: galaxy {file.galaxy or 'without a name'}{of_it}; ours: {ours}, z = {float(redshift or 0):g}"]


def _placed(table: Path, shape: tuple[int, int], seen: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Bins of nGIST's table on our spaxels."""
    return read_bin_numbers(str(table), shape, seen)


def _check(options: ReferenceOptions) -> None:
    """Names must be ours."""
    for what, names in (("--quantity", options.quantities), ("--map", options.extensions), ("--unit", options.units)):
        for name in names:
            if name not in BY_NAME:
                raise ConfigError(f"{what} {name}: not one of {', '.join(BY_NAME)}")


def _on_spaxels(file: ReferenceFile, path: Path, maps: xr.Dataset, options: ReferenceOptions) -> Reference:
    ours = tuple(name for name in BY_NAME if name in maps)
    named = _named(file, options)
    wanted = options.quantities or tuple(name for name in ours if name not in ON_REQUEST)
    common = [name for name in wanted if name in ours and name in named]
    lacking = [name for name in options.quantities if name not in common]
    if not common or lacking:
        of_them = f" of {', '.join(lacking)}" if lacking else ""
        raise ConfigError(
            f"reference {path} ({file.kind}): nothing to compare{of_them}: it "
            f"has {_short(sorted(file.planes))}; our maps have {', '.join(ours)}; name what is what with "
            f"--map {(lacking or ['age_lw'])[0]}=EXTENSION"
        )
    first = file.planes[named[common[0]][0]]().values
    shape = (maps.sizes["y"], maps.sizes["x"])
    our_wcs = slice_wcs(maps) if has_wcs(maps) else None
    onto = OntoSpaxels(
        file.wcs, first.shape, our_wcs, shape, binned=file.bins is not None, ignore_wcs=options.ignore_wcs
    )
    for image, what in ((file.good, "its map of flags"), (file.bins, "its map of bins")):
        if image is not None:
            onto.require(image, what)
    good = np.ones(shape, dtype=bool) if file.good is None else onto.flags(file.good)
    found = tuple(_map(BY_NAME[name], file, named[name], onto, options, _middle(maps, name)) for name in common)
    if not any(np.isfinite(item.values).any() for item in found):
        raise ConfigError(
            f"reference {path}: its {', '.join(item.source for item in found)} have no values on our spaxels"
        )
    notes = [*_other_galaxy(file, maps), *([f"spaxels: {onto.words}"] if onto.words else []), *file.notes]
    bins = None if file.bins is None else onto.numbers(file.bins)
    return Reference(path, file.kind, found, bins, good, file.truth, tuple(notes))


def _named(file: ReferenceFile, options: ReferenceOptions) -> dict[str, tuple[str, str]]:
    """Which plane holds which of our quantities: (plane, 'E(B-V)' where A_V has to be worked out of that)."""
    found: dict[str, tuple[str, str]] = {}
    for quantity in COMPARED:
        told = options.extensions.get(quantity.name)
        if told is not None and told.upper() not in file.planes:
            raise ConfigError(
                f"--map {quantity.name}={told}: the reference has no such map, but {_short(sorted(file.planes))}"
            )
        candidates = [told.upper()] if told else [file.aliases.get(quantity.name, ""), *quantity.aliases]
        plane = next((name for name in candidates if name in file.planes), None)
        if plane:
            reddening = quantity.name == "av" and plane in BY_NAME["ebv_stars"].aliases
            found[quantity.name] = (plane, "E(B-V)" if reddening else "")
    if "av" not in found and "ebv_stars" in found:
        found["av"] = (found["ebv_stars"][0], "E(B-V)")
    return found


def _map(
    quantity: Quantity,
    file: ReferenceFile,
    named: tuple[str, str],
    onto: OntoSpaxels,
    options: ReferenceOptions,
    ours: float,
) -> ReferenceMap:
    name, made_of = named
    plane = file.planes[name]()
    beside = next((other for other in error_names(name) if other in file.planes), None)
    error = file.planes[beside]().values if beside else np.full(plane.values.shape, np.nan)
    onto.require(plane.values, name)
    onto.require(error, beside or name)
    unit = options.units.get(quantity.name, plane.unit)
    values, error, words = convert(quantity, plane.values, error, unit, ours)
    if made_of:
        r_v = file.r_v if options.r_v is None else options.r_v
        values, error = values * r_v, error * r_v
        words = "; ".join(part for part in (words, f"{r_v:g} times {made_of} (R_V)") if part)
    return ReferenceMap(quantity, onto(values), onto(error), name, words)


def _middle(maps: xr.Dataset, name: str) -> float:
    """Median of our own map; NaN if it has no values."""
    values = np.asarray(maps[name].values, dtype=np.float64)
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else np.nan


def _short(names: Sequence[str]) -> str:
    """Names, the first thirty of them."""
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    return ", ".join(names[:30]) + more
