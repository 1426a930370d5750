"""Maps and tables of nGIST, as its releases 6 and 7 write them (save_maps_fits.py, ppxf_sfh_wrapper.py of 7.3).

Its `AGE` is the mean of ages in Gyr. Where the weights of its templates lie beside it (`*_sfh-weights.fits`), the mean
of log age is worked out from them, which is what our maps are.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.pipeline.images import with_hdus
from galprote.pipeline.reference_file import Plane, ReferenceFile, read_fits, whole_numbers

Array = NDArray[np.float64]
#: Units that its files do not state, but its source.
NGIST_UNITS: Final = {
    "AGE": "Gyr", "METAL": "dex", "ALPHA": "dex", "EBV": "mag", "V": "km/s", "SIGMA": "km/s",
    "LOG_AGE": "log(yr)",
}  # fmt: skip
#: By which it divides pPXF's A_V (Calzetti et al. 2000) to have its EBV.
NGIST_R_V: Final = 4.05
#: Rows of weights that are read at a time: 640 templates of each take 20 MB.
ROWS: Final = 4096


def recognise_maps(found: ReferenceFile, path: Path) -> None:
    """Complete what was read of a `*_SFH_maps.fits` or `*_KIN_maps.fits`."""
    found.kind = "nGIST maps"
    found.planes = {name: _with_unit(name, read) for name, read in found.planes.items()}
    root = _root(path, ("_sfh_maps", "_kin_maps"))
    binning = _beside(path, root, ("_SPATIAL_BINNING_maps.fits", "_spatial_binning_maps.fits"))
    if found.bins is None and binning is not None:
        found.bins = read_fits(binning, lambda hdus: whole_numbers(np.asarray(hdus["BINID"].data)))
        found.notes.append(f"bins: {binning.name}")
    _meaning(found, "")
    log_ages = _log_ages(path, root)
    if log_ages is not None and found.bins is not None:
        found.planes = {**found.planes, "LOG_AGE": _painted(log_ages, found.bins, "LOG_AGE")}
        found.aliases["age_lw"] = "LOG_AGE"
        found.notes.append(f"ages: mean of log age, from the weights in {root}_sfh-weights.fits")


def use_table(hdu: Any, path: Path, place: Callable[[Path], NDArray[np.int32]]) -> ReferenceFile:
    """The table `*_sfh.fits`: a row a bin, put in place by `*_table.fits` beside it."""
    root = _root(path, ("_sfh",))
    table = _beside(path, root, ("_table.fits",))
    if table is None:
        raise ConfigError(
            f"reference {path}: nGIST's table has a row for each bin; {root}_table.fits, which says where the bins "
            f"are, must lie beside it"
        )
    bins = place(table)
    rows = len(hdu.data)
    if bins.max() >= rows:
        raise ConfigError(f"reference {path}: {rows} rows, but {table.name} has bins up to number {bins.max()}")
    columns = {name.upper(): np.asarray(hdu.data[name], dtype=np.float64) for name in hdu.columns.names}
    flat = {name: values for name, values in columns.items() if values.ndim == 1}
    found = ReferenceFile("nGIST table", {name: _painted(values, bins, name) for name, values in flat.items()})
    found.bins = bins
    found.notes.append(f"bins: {table.name}, placed by its X and Y")
    _meaning(found, str(hdu.header.get("NORM_TEMP", "")))
    log_ages = _log_ages(path, root)
    if log_ages is not None:
        age = next(name for name in ("age_lw", "age_mw") if name in found.aliases)
        found.planes = {**found.planes, "LOG_AGE": _painted(log_ages, bins, "LOG_AGE")}
        found.aliases[age] = "LOG_AGE"
        found.notes.append(f"ages: mean of log age, from the weights in {root}_sfh-weights.fits")
    return found


def _meaning(found: ReferenceFile, norm: str) -> None:
    """Which of our maps nGIST's are: `NORM_TEMP` says whether its templates are normalised to light or mass."""
    kind = "mw" if norm.strip().upper() == "MASS" else "lw"
    found.r_v = NGIST_R_V
    named = {f"age_{kind}": "AGE", f"metallicity_{kind}": "METAL", "ebv_stars": "EBV", "v_stars": "V",
             "sigma_stars": "SIGMA"}  # fmt: skip
    found.aliases |= {ours: theirs for ours, theirs in named.items() if theirs in found.planes}
    if "AGE" in found.planes:
        said = (
            f"NORM_TEMP is {norm.strip()}: " if norm.strip() else "the file does not say how templates were weighted: "
        )
        found.notes.append(f"{said}taken as {'mass' if kind == 'mw' else 'light'}-weighted means")
    if "EBV" in found.planes:
        found.notes.append("EBV: of Calzetti et al. (2000), R_V = 4.05")


def _log_ages(path: Path, root: str) -> Array | None:
    """Mean log10(age / yr) of each bin, from the weights of its templates; None without them."""
    weights = _beside(path, root, ("_sfh-weights.fits", "_sfh_weights.fits"))
    if weights is None:
        return None

    def mean(hdus: Any, _: Any) -> Array | None:
        if "WEIGHTS" not in hdus or "GRID" not in hdus or "LOGAGE" not in hdus["GRID"].columns.names:
            return None
        log_age, column = np.asarray(hdus["GRID"].data["LOGAGE"], dtype=np.float64), hdus["WEIGHTS"].data["WEIGHTS"]
        parts = []
        for first in range(0, len(column), ROWS):
            part = np.asarray(column[first : first + ROWS], dtype=np.float64)
            with np.errstate(invalid="ignore", divide="ignore"):
                parts.append(part @ log_age / part.sum(axis=1))
        return np.concatenate(parts) + 9.0  # LOGAGE is log10(age / Gyr)

    return with_hdus(weights, "reference", mean)


def _painted(values: Array, bins: NDArray[np.int32], name: str) -> Callable[[], Plane]:
    """A value for each bin, as an image."""

    def read() -> Plane:
        inside = (bins >= 0) & (bins < len(values))
        image = np.where(inside, values[np.where(inside, bins, 0)], np.nan)
        return Plane(image, NGIST_UNITS.get(name, ""))

    return read


def _with_unit(name: str, read: Callable[[], Plane]) -> Callable[[], Plane]:
    def reading() -> Plane:
        plane = read()
        return Plane(plane.values, plane.unit or NGIST_UNITS.get(_quantity(name), ""))

    return reading


def _quantity(name: str) -> str:
    """What an error's name is the error of."""
    return name.removeprefix("FORM_").removeprefix("ERR_").removesuffix("_MC")


def _root(path: Path, endings: tuple[str, ...]) -> str:
    """What the files of one run of nGIST have in common."""
    stem = path.name.removesuffix(".gz").removesuffix(".fits")
    for ending in endings:
        if stem.lower().endswith(ending):
            return stem[: -len(ending)]
    return stem


def _beside(path: Path, root: str, endings: tuple[str, ...]) -> Path | None:
    return next((path.with_name(root + ending) for ending in endings if path.with_name(root + ending).is_file()), None)
