"""Reads, prepares, fits and stores cubes of spectra: everything between a file and its maps.

`open_cube` opens a cube as a lazy xarray Dataset, `fit_spectra` fits spectra from a notebook; `read_spectrum` reads one
spectrum from a file, `fit_spectrum` fits it. `open_maps` opens what a run made.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from galprote.pipeline.maps import open_bins, open_maps
    from galprote.pipeline.readers import open_cube
    from galprote.pipeline.readers.spectrum import read_spectrum
    from galprote.pipeline.single import fit_spectrum
    from galprote.pipeline.spectra import fit_spectra

__all__ = ["fit_spectra", "fit_spectrum", "open_bins", "open_cube", "open_maps", "read_spectrum"]

_HOME = {
    "fit_spectra": "galprote.pipeline.spectra",
    "fit_spectrum": "galprote.pipeline.single",
    "open_bins": "galprote.pipeline.maps",
    "open_maps": "galprote.pipeline.maps",
    "open_cube": "galprote.pipeline.readers",
    "read_spectrum": "galprote.pipeline.readers.spectrum",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a command that only reads a YAML does not wait for torch."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
