"""What `galprote-pipeline fit` says and writes: a table, JSON, a FITS file and the figure."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.io import fits
from astropy.table import Table as Columns
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from galprote.model.grids import WAVELENGTH
from galprote.pipeline.quality import Status
from galprote.pipeline.single import VELOCITY_RANGE, SpectrumFit, better_redshift
from galprote.pipeline.whole_files import appearing

#: Field of `Populations`, of its error, name for people, unit, digits.
VALUES: Final = (
    ("log_age", "log_age_error", "log age, light-weighted", "log10(yr)", 2),
    ("metallicity", "metallicity_error", "[M/H], light-weighted", "dex", 2),
    ("av", "av_error", "A_V", "mag", 2),
    ("log_age_mw", "log_age_mw_error", "log age, mass-weighted", "log10(yr)", 2),
    ("metallicity_mw", "metallicity_mw_error", "[M/H], mass-weighted", "dex", 2),
    ("mass_to_light", "mass_to_light_error", "M/L_V", "Msun/Lsun", 2),
    ("t50", "", "t50", "Gyr", 1),
    ("t90", "", "t90", "Gyr", 1),
    ("velocity", "", "velocity off the redshift", "km/s", 0),
    ("dispersion", "", "dispersion", "km/s", 0),
    ("trust", "", "trust", "", 3),
    ("noise_scale", "", "noise scale", "", 2),
)

#: A survey's default `snr_min`.
LOWEST_SNR: Final = 5.0

#: Bits of `Status` that a fitted spectrum can have, in words.
WORDS: Final = {
    Status.FILLED: "over 10 % of the samples had no data and were filled",
    Status.LINES_REPLACED: "over 5 % of the samples were replaced by the line filter",
    Status.BAD_VARIANCE: "over 1 % of the samples have no usable error and were left out",
    Status.POOR_FIT: "a poor fit: residuals over 5 % of the flux and three times the noise",
    Status.AGE_BOUNDARY: "over half of the light is in the youngest or oldest three templates",
    Status.AV_BOUNDARY: "A_V is at, or beyond, the largest that the model knows",
    Status.UNLIKE_TRAINING: "unlike what the model was trained with (trust under 1 %)",
    Status.AGN_LIKE: "most like an active nucleus",
    Status.STAR_LIKE: "most like a star of the Milky Way",
    Status.WRONG_REDSHIFT: "most like a galaxy of another redshift",
    Status.DAMAGED: "most like a damaged spectrum: dead samples, a step of the calibration",
    Status.SKY_LIKE: "most like sky or noise",
}


def remarks(fit: SpectrumFit) -> list[str]:
    """What to know before using the numbers: status in words, the redshift, what was assumed."""
    words = [text for bit, text in WORDS.items() if fit.status & bit]
    if fit.snr < LOWEST_SNR:
        words.append(f"S/N {fit.snr:.1f} is under {LOWEST_SNR:g}, below which surveys do not fit")
    better = better_redshift(fit)
    if better is not None:
        words.append(
            f"the redshift seems to be off by {fit.shift:+.0f} km/s; answers hold within {VELOCITY_RANGE:.0f}: "
            f"try --redshift {better:.5f}"
        )
    return [*words, *fit.notes]


def report_lines(fit: SpectrumFit, given: tuple[bool, bool]) -> list[RenderableType]:
    """The table, and remarks below it.

    Parameters
    ----------
    fit : SpectrumFit
    given : (bool, bool)
        Whether redshift and E(B-V) were given, rather than taken from the file.
    """
    table = Table(title=fit.spectrum.name, title_justify="left", title_style="bold")
    for name, justify in (("", "left"), ("value", "right"), ("1 sigma", "right"), ("unit", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for field, error, label, unit, digits in VALUES:
        value, sigma = _number(fit, field), _number(fit, error)
        table.add_row(label, _shown(value, digits), _shown(sigma, digits), unit)
    table.add_row("S/N per 2.48 A", f"{fit.snr:.1f}", "", "")
    medium = f"{fit.spectrum.native} ({fit.spectrum.native_source})"
    about = [
        f"{fit.spectrum.layout}; wavelengths in {medium}",
        f"redshift {fit.redshift:.6f} ({_source(given[0], fit.spectrum.redshift_source)}), "
        f"E(B-V) {fit.ebv:.4f} ({_source(given[1], fit.spectrum.ebv_source)})",
        f"samples: {fit.used.sum()} used, {fit.replaced.sum()} replaced by the line filter, {fit.filled.sum()} missing",
    ]
    found = remarks(fit)
    lines: list[RenderableType] = [table, *(Text(line) for line in about)]
    lines += [Text(f"! {line}", style="yellow") for line in found]
    return lines


def report_dict(fit: SpectrumFit, given: tuple[bool, bool], path: Path) -> dict[str, Any]:
    """The same, and what it was made with, as `json.dumps` takes it; what is not a number is null."""
    values: dict[str, Any] = {}
    for field, error, _, unit, _ in VALUES:
        values[field] = {"value": _number(fit, field), "unit": unit}
        if error:
            values[field]["error"] = _number(fit, error)
    values["snr"] = {"value": fit.snr, "unit": "per 2.48 Angstrom"}
    values["filled_fraction"] = {"value": fit.filled_fraction, "unit": ""}
    return {
        "spectrum": str(path),
        "name": fit.spectrum.name,
        "layout": fit.spectrum.layout,
        "wavelengths": {"medium": fit.spectrum.native, "source": fit.spectrum.native_source},
        "redshift": {"value": fit.redshift, "source": _source(given[0], fit.spectrum.redshift_source)},
        "ebv": {"value": fit.ebv, "unit": "mag", "source": _source(given[1], fit.spectrum.ebv_source)},
        "results": values,
        "status": int(fit.status),
        "flags": [str(bit.name).lower() for bit in Status if bit & fit.status],
        "samples": {"used": int(fit.used.sum()), "replaced": int(fit.replaced.sum()), "filled": int(fit.filled.sum())},
        "remarks": remarks(fit),
        "galprote": version("galprote"),
        "checkpoint_sha256": fit.checkpoint_sha256,
    }


def write_products(fit: SpectrumFit, report: dict[str, Any], targets: dict[str, Path]) -> list[Path]:
    """Write `figure`, `json` and `fits`, each under a temporary name first.

    Returns
    -------
    list of Path
        What was written.
    """
    from galprote.workflows.fit_figure import draw_fit

    makers: dict[str, Callable[[Path], None]] = {
        "figure": lambda path: draw_fit(fit, path, targets["figure"].suffix[1:].lower()),
        "json": lambda path: _write_text(path, json.dumps(report, indent=1) + "\n"),
        "fits": lambda path: fit_hdus(fit, report).writeto(path, overwrite=True),
    }
    for kind, path in targets.items():
        with appearing(path) as partial:
            makers[kind](partial)
    return list(targets.values())


def fit_hdus(fit: SpectrumFit, report: dict[str, Any]) -> fits.HDUList:
    """The fit as FITS: a table of the spectrum, the grid of light fractions with its axes, results in the header."""
    primary = fits.PrimaryHDU()
    for field, error, _, unit, _ in VALUES:
        for key in (field, error):
            if (value := _number(fit, key)) is not None:
                primary.header[f"HIERARCH {key.upper()}"] = (value, f"[{unit}]" if unit else "")
    primary.header["REDSHIFT"] = (fit.redshift, "barycentric")
    primary.header["EBV"] = (fit.ebv, "[mag] foreground E(B-V)")
    primary.header["STATUS"] = (int(fit.status), "bits as in docs/products.md")
    primary.header["OBJECT"] = fit.spectrum.name.encode("ascii", "replace").decode()
    primary.header["CREATOR"] = f"galprote {report['galprote']}"
    unit = fit.spectrum.unit
    columns = Columns()
    columns["WAVELENGTH"] = WAVELENGTH
    columns["FLUX"], columns["ERROR"], columns["MODEL"] = fit.flux, fit.error, fit.model
    columns["RESIDUAL"] = fit.flux - fit.model
    columns["MASK"] = (fit.bands + 2 * fit.filled + 4 * fit.replaced).astype(np.int16)
    table = fits.table_to_hdu(columns)
    table.name = "SPECTRUM"
    table.columns["WAVELENGTH"].unit = "Angstrom"
    for name in ("FLUX", "ERROR", "MODEL", "RESIDUAL"):
        table.columns[name].unit = unit or None
    table.header.add_comment("Rest-frame air wavelengths; flux without the foreground's dust, per observed Angstrom.")
    table.header.add_comment("MASK: 1 emission band, 2 no data, 4 replaced by the line filter.")
    grid = fits.ImageHDU(fit.populations.grid[0].astype(np.float32), name="GRID")
    grid.header.add_comment("Light fractions (metallicity, age); axes in LOG_AGE and METALLICITY.")
    axes = [fits.ImageHDU(values, name=name) for values, name in
            ((fit.log_ages, "LOG_AGE"), (fit.metallicities, "METALLICITY"))]  # fmt: skip
    return fits.HDUList([primary, table, grid, *axes])


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)


def _source(given: bool, source: str) -> str:
    return "given" if given else f"from the file: {source}"


def _number(fit: SpectrumFit, field: str) -> float | None:
    value = float(getattr(fit.populations, field)[0]) if field else np.nan
    return value if np.isfinite(value) else None


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:z.{digits}f}"
