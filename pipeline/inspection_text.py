"""What was found in a cube -> lines for a person to read."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from galprote.pipeline.inspection import AxisReport, CubeReport, HduReport
from galprote.pipeline.readers.units import FluxUnit
from galprote.pipeline.readers.voxels import Band, VoxelReport

_SHOWN_BANDS: Final = 6


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
        lines.append(("line spread function", _width_text(report)))
        served = report.redshifts
        lines.append(("redshifts served", f"{served[0]:z.4f} to {served[1]:z.4f}" if served else "none"))
    if report.voxels:
        lines += _voxel_lines(report.voxels)
    lines += [("note", note) for note in report.notes]
    lines += [("PROBLEM", problem) for problem in report.problems] or [("problems", "none")]
    return lines


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


def _width_text(report: CubeReport) -> str:
    if report.line_width is None:
        return "unknown: the templates' is assumed, unless the survey has `instrument` (docs/instruments.md)"
    blue, red = report.line_width
    return f"FWHM {blue:.2f} to {red:.2f} A, blue to red, observed; {report.line_width_source}"


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
