"""A cube file -> what is in it and what is wrong with it, for a person to read before a run."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from galprote.model.errors import CubeError
from galprote.pipeline.readers.axis import served_redshifts
from galprote.pipeline.readers.fitsfile import Hdu
from galprote.pipeline.readers.noise import METHOD
from galprote.pipeline.readers.opening import MODEL_WINDOW, CubeFile, celestial_header, open_file
from galprote.pipeline.readers.parts import CubeParts, image_of
from galprote.pipeline.readers.units import FluxUnit
from galprote.pipeline.readers.voxels import Band, VoxelReport, scan_voxels
from galprote.pipeline.rebin import edges_of

#: Keywords worth showing, where a header has them.
KEYWORDS: Final = ("OBJECT", "REDSHIFT", "INSTRUME", "DATE-OBS", "EXPTIME", "SPECSYS", "RADESYS")
_SHOWN_BANDS: Final = 6


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
        ``"MUSE"`` or ``"generic FITS"``; empty if there is no cube to be read, as are all that follow.
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
        A FITS cube, ``.fits.gz`` too (which is unpacked first, see `open_cube`).
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
    shape = image_of(parts.flux).shape
    _sky(file, parts, problems)
    return CubeReport(
        **common,
        layout="MUSE" if parts.muse else "generic FITS",
        shape=tuple(shape[axis] for axis in parts.axes),
        unit=_unit(file, parts, problems),
        variance_source=parts.variance_source or METHOD,
        variance_note=parts.variance_note,
        flags_source=parts.flags.name if parts.flags else "",
        axis=_axis(parts),
        redshifts=_redshifts(file, parts, problems),
        voxels=_voxels(file, parts, sample, problems),
        problems=tuple(problems),
    )


def report_lines(report: CubeReport) -> list[tuple[str, str]]:
    """Write a report as rows of label and value, in the order in which a person wants them.

    Parameters
    ----------
    report : CubeReport
        From `inspect_cube`.

    Returns
    -------
    list of tuple of str
        (label, value); a label may repeat (HDUs, problems).
    """
    lines = [("file", f"{report.path} ({report.size_bytes / 1e9:.3f} GB)")]
    lines += [("HDU", _hdu_text(hdu)) for hdu in report.hdus]
    lines += list(report.keywords.items())
    if report.layout:
        lines.append(("layout", f"{report.layout}, {_by(report.shape)} (wavelength x y x x)"))
        lines.append(("flux unit", _unit_text(report.unit)))
        lines.append(("variance", "; ".join(filter(None, (report.variance_source, report.variance_note)))))
        lines.append(("quality flags", report.flags_source or "none"))
    if report.axis:
        lines += _axis_lines(report.axis)
        served = report.redshifts
        lines.append(("redshifts served", f"{served[0]:z.4f} to {served[1]:z.4f}" if served else "none"))
    if report.voxels:
        lines += _voxel_lines(report.voxels)
    lines += [("PROBLEM", problem) for problem in report.problems] or [("problems", "none")]
    return lines


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


def _redshifts(file: CubeFile, parts: CubeParts, problems: list[str]) -> tuple[float, float] | None:
    served = served_redshifts(parts.axis, MODEL_WINDOW)
    if served is None or served[1] < 0:
        edges = edges_of(np.sort(parts.axis.wavelength))
        problems.append(
            f"{file.source}: {edges[0]:.1f}-{edges[-1]:.1f} A cannot hold the model's window "
            f"({MODEL_WINDOW[0]:.1f}-{MODEL_WINDOW[1]:.1f} A rest frame) at any redshift from 0 on"
        )
    return served


def _voxels(file: CubeFile, parts: CubeParts, sample: int | None, problems: list[str]) -> VoxelReport:
    voxels = scan_voxels(file, parts, sample)
    if voxels.fraction_read == 1.0 and voxels.empty_spaxels == voxels.spaxels:
        problems.append(f"{file.source}: no spaxel holds data")
    return voxels


def _axis(parts: CubeParts) -> AxisReport:
    axis = parts.axis
    wavelength = axis.wavelength[:: axis.step]
    numbers = float(wavelength[0]), float(wavelength[-1]), float(np.median(np.diff(wavelength)))
    return AxisReport(axis.ctype, axis.unit, axis.native, axis.assumption, int(wavelength.size), *numbers)


def _hdu_text(hdu: HduReport) -> str:
    image = f"{_by(hdu.shape)} {hdu.stored}" if hdu.shape else "no image"
    return f"{hdu.index} {hdu.name or '(unnamed)'} {image}"


def _unit_text(unit: FluxUnit | None) -> str:
    if unit is None:
        return "not understood"
    text = unit.bunit or "dimensionless"
    if unit.assumed:
        return f"{text} (assumed: BUNIT is empty)"
    text += f" (BUNIT = '{unit.found}')" if unit.found else " (BUNIT is empty)"
    text += f", values multiplied by {unit.factor:g}" if unit.factor != 1.0 else ""
    return text if unit.calibrated else f"{text}, not flux-calibrated"


def _axis_lines(axis: AxisReport) -> Iterator[tuple[str, str]]:
    note = f"; {axis.assumption}" if axis.assumption else ""
    yield "wavelength axis", f"CTYPE '{axis.ctype}' in '{axis.unit}', {axis.native}{note}"
    span = f"{axis.first:.2f} to {axis.last:.2f} A in air, median step {axis.step:.4f} A"
    yield "wavelengths", f"{span}, {axis.channels} channels"


def _voxel_lines(voxels: VoxelReport) -> Iterator[tuple[str, str]]:
    yield "read", f"{voxels.fraction_read:.1%} of the spaxels ({voxels.spaxels:,}), to which all below refers"
    yield "empty spaxels", f"{voxels.empty_fraction:.1%} ({voxels.empty_spaxels:,})"
    yield "all-NaN bands", _bands_text(voxels.nan_bands)
    joint = f"{voxels.joint_nan:,} of them in flux and variance"
    yield "other NaN voxels", f"{voxels.flux_nan:,} in spaxels with data, {joint}"
    bad = f"{voxels.bad_variance:,} ({voxels.bad_variance_fraction:.3%} of the finite fluxes)"
    where = f" at {_bands_text(voxels.bad_variance_bands)}" if voxels.bad_variance else ""
    yield "bad variances", bad + where
    snr = np.asarray(voxels.snr)
    if np.isfinite(snr).any():
        low, middle, high = np.nanpercentile(snr, [5, 50, 95])
        spread = f"5-95 % of the channels: {low:.2f} to {high:.2f}"
        yield "S/N per channel", f"{middle:.2f} ({spread}), median of {voxels.snr_spectra:,} spectra"


def _bands_text(bands: Sequence[Band]) -> str:
    texts = []
    for band in bands[:_SHOWN_BANDS]:
        name = f" ({band.name})" if band.name else ""
        last = f"-{band.last:.2f}" if band.channels > 1 else ""
        texts.append(f"{band.first:.2f}{last} A{name}")
    more = len(bands) - _SHOWN_BANDS
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "") if texts else "none"


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
