"""Which formats are known, and in which order they are tried: the first that recognises its layout reads the file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from galprote.pipeline.readers.califa import find_califa
from galprote.pipeline.readers.fitsfile import Hdu
from galprote.pipeline.readers.generic import find_generic
from galprote.pipeline.readers.kcwi import find_kcwi
from galprote.pipeline.readers.manga import find_manga
from galprote.pipeline.readers.muse import find_muse
from galprote.pipeline.readers.parts import CubeParts
from galprote.pipeline.readers.sami import find_sami
from galprote.pipeline.readers.weave import find_weave

#: Each looks at the HDUs of a file (uncompressed or not), and returns None where the layout is not its own.
FORMATS: Final[tuple[Callable[[Path, Sequence[Hdu]], CubeParts | None], ...]] = (
    find_manga,
    find_califa,
    find_sami,
    find_kcwi,
    find_weave,
    find_muse,
)


def find_cube_parts(path: Path, hdus: Sequence[Hdu]) -> CubeParts:
    """Find the cube in a file of any format.

    Parameters
    ----------
    path : Path
        The file, for vectors such as wavelengths.
    hdus : sequence of Hdu
        Its HDUs.

    Raises
    ------
    CubeError
        If there is none that can be read. The message may lack the file's name.
    """
    for find in FORMATS:
        parts = find(path, hdus)
        if parts is not None:
            return parts
    return find_generic(path, hdus)
