"""`galprote-pipeline fit`: one spectrum to its results and a figure."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from galprote.model.errors import ConfigError
from galprote.workflows.completion import complete_weights
from galprote.workflows.conduct import keeps
from galprote.workflows.preloading import preload_torch
from galprote.workflows.terminal import Debug, Json, conclude, print_json, show

if TYPE_CHECKING:
    from galprote.pipeline.readers.spectrum import Spectrum

#: Endings that make `--output` the name of a figure rather than of a folder.
FIGURES: Final = (".png", ".pdf", ".svg")


def fit(
    spectrum: Annotated[
        Path, typer.Argument(metavar="SPECTRUM", help="A spectrum: FITS or text; see docs/spectra.md.")
    ],
    redshift: Annotated[
        float | None, typer.Option(help="Barycentric (default: the file's own, if it has one).")
    ] = None,
    ebv: Annotated[
        float | None, typer.Option(help="Foreground E(B-V), mag (default: the file's own, if it has one).")
    ] = None,
    row: Annotated[int | None, typer.Option(min=0, help="Which spectrum of a file with several, from 0.")] = None,
    air: Annotated[bool, typer.Option("--air", help="Wavelengths are in air, where the file does not say.")] = False,
    vacuum: Annotated[bool, typer.Option("--vacuum", help="They are in vacuum.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|FIGURE.png", help="Folder for figure, JSON and FITS; or the figure's name alone."),
    ] = None,
    as_json: Json = False,
    mask: Annotated[
        list[str] | None,
        typer.Option(metavar="FIRST:LAST", help="Band to leave out, observed air Angstrom; repeat it."),
    ] = None,
    fwhm: Annotated[float | None, typer.Option(help="Width of the line spread function, Angstrom.")] = None,
    law: Annotated[str, typer.Option(help="Law of the foreground dust: O94, CCM89, F99, G23.")] = "O94",
    flux_calibration_error: Annotated[float, typer.Option(help="As in a survey: 0 to 0.03.")] = 0.01,
    template_error: Annotated[float, typer.Option(help="As in a survey: 0 to 0.01.")] = 0.01,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights (default: the shipped ones).", autocompletion=complete_weights)
    ] = None,
    debug: Debug = False,
) -> None:
    """Fit one spectrum: age, metallicity and dust with errors, and a figure.

    Example: galprote-pipeline fit spectrum.fits --redshift 0.004 --ebv 0.0124
    """
    if air and vacuum:
        raise ConfigError("--air and --vacuum: give one of them, or neither if the file says it")
    if not spectrum.is_file():
        raise ConfigError(f"{spectrum}: no such file")
    bands = [_band(text) for text in mask or ()]
    preload_torch()
    from galprote.pipeline.readers.spectrum import read_spectrum
    from galprote.pipeline.single import fit_spectrum
    from galprote.workflows.fit_report import report_dict, report_lines, write_products

    medium: Literal["air", "vacuum"] | None = "air" if air else "vacuum" if vacuum else None
    read = read_spectrum(spectrum, row=row, medium=medium)
    found = fit_spectrum(
        read,
        redshift=_redshift(read, redshift),
        ebv=_ebv(read, ebv),
        masks=bands,
        fwhm=fwhm,
        checkpoint=checkpoint,
        law=law,  # type: ignore[arg-type]
        flux_calibration_error=flux_calibration_error,
        template_error=template_error,
    )
    given = redshift is not None, ebv is not None
    report = report_dict(found, given, spectrum)
    keeps("what was written so far is whole")
    paths = write_products(found, report, _targets(output, spectrum, row))
    if as_json:
        print_json(report)
        return
    for part in report_lines(found, given):
        show(part, wide=True)
    conclude("\n".join(f"Wrote {path}" for path in paths))


def _redshift(spectrum: "Spectrum", told: float | None) -> float:
    if told is None and spectrum.redshift is None:
        raise ConfigError(f"{spectrum.name}: the file has no redshift: give --redshift (barycentric)")
    return float(spectrum.redshift if told is None else told)  # type: ignore[arg-type]


def _ebv(spectrum: "Spectrum", told: float | None) -> float:
    if told is None and spectrum.ebv is None:
        hint = f"; {spectrum.ebv_source}" if spectrum.ebv_source else ""
        raise ConfigError(
            f"{spectrum.name}: the foreground's E(B-V) is not known{hint}: give --ebv (Schlafly & Finkbeiner 2011; "
            "https://irsa.ipac.caltech.edu/applications/DUST), or --ebv 0 for a spectrum that is free of it"
        )
    return float(spectrum.ebv if told is None else told)  # type: ignore[arg-type]


def _band(text: str) -> tuple[float, float]:
    found = re.fullmatch(r"\s*([\d.]+)\s*[:-]\s*([\d.]+)\s*", text)
    try:
        first, last = map(float, found.groups()) if found else (1.0, 0.0)
    except ValueError:
        first, last = 1.0, 0.0
    if not 0 < first < last:
        raise ConfigError(f"--mask {text}: expected FIRST:LAST in Angstrom, such as 5570:5585")
    return first, last


def _targets(output: Path | None, spectrum: Path, row: int | None) -> dict[str, Path]:
    """Names of what is to be written: `figure`, and in a folder `json` and `fits` too."""
    stem = spectrum.name.removesuffix(".gz").removesuffix(".bz2").rsplit(".", 1)[0]
    stem += "" if row is None else f"_row{row}"
    if output is None or output.suffix.lower() in FIGURES:
        figure = output or Path(f"{stem}_fit.png")
        if not figure.parent.is_dir():
            raise ConfigError(f"--output {figure}: {figure.parent}: no such folder")
        if figure.is_dir():
            raise ConfigError(f"--output {figure}: is a folder; name a figure, or a folder without {figure.suffix}")
        return {"figure": figure}
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output}: is a file; name a folder, or a figure ({', '.join(FIGURES)})")
    output.mkdir(parents=True, exist_ok=True)
    targets = {kind: output / f"{stem}_fit.{ending}" for kind, ending in
               (("figure", "png"), ("json", "json"), ("fits", "fits"))}  # fmt: skip
    if any(path.exists() and path.samefile(spectrum) for path in targets.values()):
        raise ConfigError(f"--output {output}: {spectrum.name} would be replaced by its own fit: name another folder")
    return targets
