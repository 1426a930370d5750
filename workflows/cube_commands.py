"""Commands about a cube: `inspect` one, make a `mock`."""

import re
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from galprote.model.errors import ConfigError
from galprote.workflows.completion import complete_cube, complete_weights
from galprote.workflows.conduct import keeps
from galprote.workflows.preloading import preload_torch
from galprote.workflows.terminal import Debug, Json, conclude, print_json, show, voice

#: What the command calls a key of `MockConfig`.
_OPTIONS: Final = {
    "shape": "--ny, --nx",
    "wavelength_last_A": "--red-end",
    "rotation_kms": "--rotation",
    "peak_snr": "--peak-snr",
}


def inspect(
    cube: Annotated[Path, typer.Argument(metavar="CUBE.fits", help="A data cube.", autocompletion=complete_cube)],
    sample: Annotated[
        int | None, typer.Option(help="Read only about this many evenly spread slabs of rows (default: all).")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a cube holds: HDUs, units, wavelength axis, missing bands, bad variances, empty spaxels.

    Exit code 2: a run would refuse the cube, for the problems that it names.

    Example: galprote-pipeline inspect cubes/NGC4254.fits --sample 16
    """
    keeps("nothing is written by it")
    if not cube.exists():
        raise ConfigError(f"{cube}: no such file")
    from galprote.pipeline.inspection import inspect_cube
    from galprote.pipeline.inspection_text import report_lines

    report = inspect_cube(cube, sample=sample)
    unusable = 2 if report.problems else 0
    if as_json:
        print_json(report.to_dict())
        raise typer.Exit(unusable)
    if voice.quiet:
        conclude("\n".join(f"PROBLEM {problem}" for problem in report.problems) or f"{cube}: no problems")
        raise typer.Exit(unusable)
    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in report_lines(report):
        table.add_row(label, value)
    show(table)
    raise typer.Exit(unusable)


def mock(
    output: Annotated[Path, typer.Argument(metavar="CUBE.fits", help="The cube to make.")],
    ny: Annotated[int, typer.Option(min=8, help="Rows.")] = 100,
    nx: Annotated[int, typer.Option(min=8, help="Columns.")] = 100,
    redshift: Annotated[float, typer.Option(min=0.0, max=0.2, help="Barycentric redshift.")] = 0.008,
    ebv: Annotated[float, typer.Option(min=0.0, help="Foreground E(B-V).")] = 0.03,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    peak_snr: Annotated[float, typer.Option(help="Signal-to-noise ratio per channel at the centre.")] = 40.0,
    rotation: Annotated[float, typer.Option(help="Projected amplitude of the rotation, km/s.")] = 60.0,
    red_end: Annotated[
        float | None, typer.Option(help="Last wavelength, A (default: 7400 or the window's end).")
    ] = None,
    ao_notch: Annotated[bool, typer.Option(help="Leave out 5806-5964 A, as adaptive optics does.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists.")] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Checkpoint with the templates (default: shipped).", autocompletion=complete_weights),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a synthetic MUSE cube of a spiral galaxy, and its true maps in CUBE_TRUTH.fits.

    Example: galprote-pipeline mock mock.fits --ny 60 --nx 60
    """
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists; choose another name, or add --overwrite")
    if not output.parent.is_dir():
        raise ConfigError(f"{output.parent}: no such folder; create it (mkdir -p), or name another")
    preload_torch()
    from pydantic import ValidationError

    from galprote.model.checkpoint import load_checkpoint
    from galprote.pipeline.mock import MockConfig, make_mock, truth_path

    try:
        config = MockConfig(
            name=re.sub(r"[^ -~]", "_", output.stem)[:60],
            shape=(ny, nx),
            redshift=redshift,
            ebv=ebv,
            seed=seed,
            peak_snr=peak_snr,
            rotation_kms=rotation,
            wavelength_last_A=red_end or max(7400.0, 7110.0 * (1 + redshift) * (1 + rotation / 2.9e5)),
            ao_notch=ao_notch,
        )
    except ValidationError as error:
        raise ConfigError("\n".join(_mock_problem(item) for item in error.errors())) from error
    path = make_mock(config, output, load_checkpoint(checkpoint).decoder)
    if as_json:
        print_json({"cube": path, "truth": truth_path(path), "settings": config.model_dump(mode="json")})
    conclude(f"Wrote {path} and {truth_path(path)}")


def _mock_problem(item: Any) -> str:
    """One validation error as `mock: --peak-snr = -5: what was expected`, by the names that the options have."""
    message = str(item["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    if item["loc"]:
        key = str(item["loc"][0])
        message = f"{key} = {item['input']:g}: {message}"
    name, equals, rest = message.partition(" = ")
    advice = "; give a lower --peak-snr" if name == "sky_noise" else ""
    return f"mock: {_OPTIONS.get(name, name if name == 'sky_noise' else f'--{name}')}{equals}{rest}{advice}"
