"""`galprote-pipeline view`: a page on which to look at a galaxy's products."""

import atexit
import gc
from pathlib import Path
from typing import Annotated

import typer

from galprote.workflows.completion import complete_cube, complete_store, complete_weights
from galprote.workflows.conduct import current_stop
from galprote.workflows.terminal import Debug, conclude


def view(
    store: Annotated[
        Path, typer.Argument(metavar="NAME.zarr", help="A finished store of a run.", autocompletion=complete_store)
    ],
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="OTHER.zarr", help="Another run, on the same spaxels, to compare to.", autocompletion=complete_store
        ),
    ] = None,
    cube: Annotated[
        Path | None,
        typer.Option(
            metavar="CUBE.fits", help="The cube (default: where the run found it).", autocompletion=complete_cube
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The weights of the run, if they are not the shipped ones.", autocompletion=complete_weights),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: any free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    debug: Debug = False,
) -> None:
    """Look at a galaxy's maps, spectra and grids on a page in the browser.

    Only this machine can open the page. Ctrl-C ends it.

    Example: galprote-pipeline view output/DEMO.zarr
    """
    atexit.register(gc.freeze)  # or Python would look through all objects for garbage before it ends
    from galprote.workflows.viewer.refitting import Spectra
    from galprote.workflows.viewer.server import make_server, serve
    from galprote.workflows.viewer.stored import StoredGalaxy, check_same_spaxels

    galaxy = StoredGalaxy(store)
    other = None if compare is None else StoredGalaxy(compare)
    if other is not None:
        check_same_spaxels(galaxy, other)
    server = make_server(galaxy, other, Spectra(galaxy, cube, checkpoint), port)
    current_stop().ends = "viewer ended"
    serve(server, conclude, galaxy.name, browser=browser)
