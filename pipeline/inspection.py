"""A cube file -> what is in it and what is wrong with it, for a person to read before a run."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.errors import CubeError
from galprote.pipeline.readers.axis import SpectralAxis
from galprote.pipeline.readers.channels import served_redshifts
from galprote.pipeline.readers.cubefile import CubeFile, open_file
from galprote.pipeline.readers.fitsfile import Hdu
from galprote.pipeline.readers.noise import METHOD
from galprote.pipeline.readers.opening import MODEL_WINDOW
from galprote.pipeline.readers.parts import CubeParts
from galprote.pipeline.readers.sky import celestial_header
from galprote.pipeline.readers.units import FluxUnit
from galprote.pipeline.readers.voxels import DatasetVoxels, FileVoxels, VoxelReport, VoxelSource, scan_voxels
from galprote.pipeline.readers.zarrstore import CubeStore, open_store
from galprote.pipeline.rebin import edges_of
from galprote.pipeline.zarr_path import is_store

#: Keywords worth showing, where a header has them.
KEYWORDS: Final = ("OBJECT", "REDSHIFT", "INSTRUME", "DATE-OBS", "EXPTIME", "SPECSYS", "RADESYS", "EBVGAL")


@dataclass(frozen=True)
class HduReport:
    """One HDU: number, name, shape (numpy order, empty if no image) and stored dtype."""

    index: int
    name: str
    shape: tuple[int, ...]
    stored: str


@dataclass(frozen=True)
class AxisReport:
    """The wavelength axis: CTYPE, CUNIT and medium as found; centres in observed air Angstrom, ascending."""

    ctype: str
    unit: str
    native: str
    assumption: str
    channels: int
    first: float
    last: float
    step: float


@dataclass(frozen=True)
class CubeReport:
    """All that `inspect_cube` found, as plain data.

    Attributes
    ----------
    path : str
        The file.
    size_bytes : int
        Its size.
    hdus : tuple of HduReport
        Its HDUs.
    keywords : dict
        Some keywords of the headers (`KEYWORDS`).
    problems : tuple of str
        Why a run would refuse the cube, in words; empty if it would not.
    layout : str
        The format; empty if there is no cube to be read, as are all that follow.
    shape : tuple of int
        (wavelength, y, x).
    unit : FluxUnit or None
        The flux unit as found and as understood.
    variance_source, variance_note, flags_source : str
        Where variances and quality flags come from, and what is odd about the variances.
    axis : AxisReport or None
        The wavelength axis.
    redshifts : tuple of float or None
        Lowest and highest redshift at which the cube covers the model's window.
    voxels : VoxelReport or None
        Counts of the data.
    line_width : tuple of float or None
        FWHM of the line spread function at the bluest and reddest channel where it is known, Angstrom, observed.
    line_width_source : str
        Where that comes from.
    notes : tuple of str
        What a user must know of the format.
    """

    path: str
    size_bytes: int
    hdus: tuple[HduReport, ...]
    keywords: dict[str, str]
    problems: tuple[str, ...] = ()
    layout: str = ""
    shape: tuple[int, ...] = ()
    unit: FluxUnit | None = None
    variance_source: str = ""
    variance_note: str = ""
    flags_source: str = ""
    axis: AxisReport | None = None
    redshifts: tuple[float, float] | None = None
    voxels: VoxelReport | None = None
    line_width: tuple[float, float] | None = None
    line_width_source: str = ""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return nested dicts and lists that `json.dumps` takes; NaN becomes None."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def inspect_cube(path: str | Path, *, sample: int | None = 16, scratch: str | Path | None = None) -> CubeReport:
    """Look at a cube file: headers, axis, units, gaps, variances, noise.

    Memory is bounded, whatever the size of the cube: it is read in slabs of whole rows.

    Parameters
    ----------
    path : str or Path
        A FITS cube, ``.fits.gz`` too (which is unpacked first, see `open_cube`), or a Zarr store.
    sample : int, optional
        Number of slabs to read, evenly spaced over the cube; None reads all of it.
    scratch : str or Path, optional
        Where ``.fits.gz`` files are unpacked.

    Returns
    -------
    CubeReport
        What would keep a run from using the cube is told in `problems`, and does not raise.

    Raises
    ------
    CubeError
        If the file is missing, not FITS at all, or ends inside a header.
    """
    if is_store(path):
        return _inspect_store(open_store(path), sample)
    file = open_file(path, scratch)
    common: dict[str, Any] = {
        "path": str(file.source),
        "size_bytes": file.source.stat().st_size,
        "hdus": tuple(_hdu(hdu) for hdu in file.hdus),
        "keywords": _keywords(file.hdus),
    }
    try:
        parts = file.parts()
    except CubeError as error:
        return CubeReport(**common, problems=(str(error),))
    problems: list[str] = []
    _sky(file, parts, problems)
    return CubeReport(
        **common,
        layout=parts.layout,
        shape=parts.shape,
        unit=_unit(file, parts, problems),
        variance_source=parts.variance_source or METHOD,
        variance_note=parts.variance_note,
        flags_source=parts.flags.name if parts.flags else "",
        axis=_axis(parts.axis),
        redshifts=_redshifts(file.source, parts.axis, parts.advice, problems),
        voxels=_voxels(file.source, FileVoxels(file, parts), sample, problems),
        **_line_width(parts.line_width.fwhm() if parts.line_width else None, parts.axis),
        line_width_source=parts.line_width.source if parts.line_width else "",
        notes=parts.notes,
        problems=tuple(problems),
    )


def _inspect_store(store: CubeStore, sample: int | None) -> CubeReport:
    problems: list[str] = []
    redshifts = _redshifts(store.source, store.axis, "", problems)
    edges = edges_of(np.sort(store.axis.wavelength))
    whole = store.dataset(0.0, (float(edges[0]), float(edges[-1])), 8)
    return CubeReport(
        path=str(store.source),
        size_bytes=store.size_bytes,
        hdus=(),
        keywords={"OBJECT": str(whole.attrs["target"])} if whole.attrs["target"] else {},
        layout="Zarr",
        shape=store.shape,
        unit=store.unit,
        variance_source=store.variance_source,
        flags_source=str(whole.attrs["flags_source"]),
        axis=_axis(store.axis),
        redshifts=redshifts,
        voxels=_voxels(store.source, DatasetVoxels(whole), sample, problems),
        **_line_width(store.width, store.axis),
        line_width_source=str(whole.attrs["lsf_source"]),
        problems=tuple(problems),
    )


def _line_width(width: NDArray[np.float64] | None, axis: SpectralAxis) -> dict[str, Any]:
    known = np.flatnonzero(np.isfinite(width)) if width is not None else np.array([], dtype=int)
    if width is None or not known.size:
        return {"line_width": None}
    ends = known[:: axis.step][[0, -1]]
    return {"line_width": (float(width[ends[0]]), float(width[ends[1]]))}


def _hdu(hdu: Hdu) -> HduReport:
    shape, stored = (hdu.image.shape, hdu.image.stored) if hdu.image else ((), "")
    return HduReport(hdu.index, hdu.name, shape, stored)


def _keywords(hdus: Sequence[Hdu]) -> dict[str, str]:
    found = {key: [str(hdu.header[key]).strip() for hdu in hdus if key in hdu.header] for key in KEYWORDS}
    return {key: next(filter(None, values)) for key, values in found.items() if any(values)}


def _unit(file: CubeFile, parts: CubeParts, problems: list[str]) -> FluxUnit | None:
    try:
        return file.unit(parts)
    except CubeError as error:
        problems.append(str(error))
        return None


def _sky(file: CubeFile, parts: CubeParts, problems: list[str]) -> None:
    try:
        celestial_header(parts.flux)
    except CubeError as error:
        problems.append(f"{file.source}: {error}")


def _redshifts(source: Path, axis: SpectralAxis, advice: str, problems: list[str]) -> tuple[float, float] | None:
    served = served_redshifts(axis, MODEL_WINDOW)
    if served is None or served[1] < 0:
        edges = edges_of(np.sort(axis.wavelength))
        problems.append(
            f"{source}: {edges[0]:.1f}-{edges[-1]:.1f} A cannot hold the model's window "
            f"({MODEL_WINDOW[0]:.1f}-{MODEL_WINDOW[1]:.1f} A rest frame) at any redshift from 0 on"
            + (f". {advice}" if advice else "")
        )
    return served


def _voxels(source: Path, readable: VoxelSource, sample: int | None, problems: list[str]) -> VoxelReport:
    voxels = scan_voxels(readable, sample)
    if voxels.fraction_read == 1.0 and voxels.empty_spaxels == voxels.spaxels:
        problems.append(f"{source}: no spaxel holds data")
    return voxels


def _axis(axis: SpectralAxis) -> AxisReport:
    wavelength = axis.wavelength[:: axis.step]
    numbers = float(wavelength[0]), float(wavelength[-1]), float(np.median(np.diff(wavelength)))
    return AxisReport(axis.ctype, axis.unit, axis.native, axis.assumption, int(wavelength.size), *numbers)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
