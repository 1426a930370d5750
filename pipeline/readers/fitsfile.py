"""A FITS file's headers -> the list of its HDUs, with the place of every data array; no data is read.

The walk is done here and not by astropy because three things are needed that astropy does not give together:
exact byte offsets for our own reads, the headers' bytes for the provenance hash, and a truncated file
reported as such (astropy only warns, and silently drops the HDUs that it cannot reach).
"""

import hashlib
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from astropy.io import fits

from galprote.model.errors import CubeError

BLOCK: Final = 2880
_CARD: Final = 80
_END: Final = b"END".ljust(_CARD)
#: A header longer than this is no header: a damaged file must not be searched for END through 40 GB.
_MAX_HEADER_BLOCKS: Final = 10_000
_STORED: Final = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


@dataclass(frozen=True)
class ImageLayout:
    """Where and how an image HDU stores its array: all that a worker needs in order to read it.

    Attributes
    ----------
    name : str
        Name of the HDU, for messages.
    offset : int
        Byte at which the array starts.
    shape : tuple of int
        Shape in numpy order (slowest axis first).
    stored : str
        numpy dtype in the file, such as ``">f4"``.
    bscale, bzero : float
        Physical value = ``bscale * stored + bzero``.
    blank : int or None
        Stored integer that means "no value".
    """

    name: str
    offset: int
    shape: tuple[int, ...]
    stored: str
    bscale: float = 1.0
    bzero: float = 0.0
    blank: int | None = None


@dataclass(frozen=True)
class Hdu:
    """One HDU of a FITS file.

    Attributes
    ----------
    index : int
        Number in the file, 0 for the primary HDU.
    name : str
        EXTNAME in upper case, ``"PRIMARY"`` for an unnamed primary HDU, ``""`` for an unnamed extension.
    header : astropy.io.fits.Header
        The parsed header.
    sha256 : str
        Hash of the header's bytes, padding included.
    data_offset, data_bytes : int
        First byte and length of the data, without padding.
    image : ImageLayout or None
        None for tables and for HDUs without data.
    """

    index: int
    name: str
    header: fits.Header
    sha256: str
    data_offset: int
    data_bytes: int
    image: ImageLayout | None

    @property
    def label(self) -> str:
        """Number, name and shape, for messages."""
        shape = " x ".join(map(str, self.image.shape)) if self.image else "no image"
        return f"{self.index} {self.name or '(unnamed)'} [{shape}]"


def read_hdus(path: Path) -> tuple[Hdu, ...]:
    """List the HDUs of a FITS file, up to the first whose data runs past the end of the file.

    Parameters
    ----------
    path : Path
        An uncompressed FITS file.

    Returns
    -------
    tuple of Hdu
        In the order of the file.

    Raises
    ------
    CubeError
        If the file is missing, is not FITS, or ends inside a header.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return tuple(walk_hdus(file, path, size))
    except FileNotFoundError:
        raise CubeError(f"{path}: no such file (looked from {Path.cwd()})") from None
    except OSError as error:
        raise CubeError(f"{path}: cannot be read: {error.strerror or error}") from error


def require_complete(path: Path, hdus: Iterable[Hdu]) -> None:
    """Refuse a file that is shorter than its headers say.

    Raises
    ------
    CubeError
        Naming the HDU, the bytes found and the bytes wanted.
    """
    size = path.stat().st_size
    for hdu in hdus:
        wanted = hdu.data_offset + hdu.data_bytes
        if wanted > size:
            raise CubeError(
                f"{path}: truncated: HDU {hdu.label} ends at byte {wanted:,}, the file has {size:,} bytes "
                f"({wanted - size:,} are missing). Copy or download the file again."
            )


def find_hdu(hdus: Iterable[Hdu], *names: str) -> Hdu | None:
    """Return the first image HDU with one of the names (in the order of the names, any case), or None."""
    images = [hdu for hdu in hdus if hdu.image]
    for name in names:
        for hdu in images:
            if hdu.name == name.upper():
                return hdu
    return None


def headers_sha256(hdus: Iterable[Hdu]) -> str:
    """Hash the headers of several HDUs into one SHA-256 (hex)."""
    return hashlib.sha256("".join(hdu.sha256 for hdu in hdus).encode()).hexdigest()


def walk_hdus(file: BinaryIO, path: Path, size: float) -> Iterator[Hdu]:
    """Yield the HDUs of an open file one by one; nothing beyond the last one asked for is read.

    Parameters
    ----------
    file : binary file
        Positioned at its start; a `gzip.GzipFile` will do.
    path : Path
        For messages.
    size : float
        Number of bytes in `file` (infinity if unknown).

    Raises
    ------
    CubeError
        If it is not FITS, or ends inside a header.
    """
    if file.read(9) != b"SIMPLE  =":
        raise CubeError(f"{path}: not a FITS file (it does not start with 'SIMPLE  =')")
    position, index = 0, 0
    while position < size:
        file.seek(position)
        if index and file.peek(8)[:8] != b"XTENSION":  # type: ignore[attr-defined]
            return  # FITS allows "special records" after the last HDU
        raw = _header_bytes(file, path, index)
        hdu = _parse(raw, index, position + len(raw), path)
        yield hdu
        position = hdu.data_offset + math.ceil(hdu.data_bytes / BLOCK) * BLOCK
        index += 1


def _header_bytes(file: BinaryIO, path: Path, index: int) -> bytes:
    blocks: list[bytes] = []
    while len(blocks) < _MAX_HEADER_BLOCKS:
        block = file.read(BLOCK)
        blocks.append(block)
        if len(block) < BLOCK:
            break
        if any(block[i : i + _CARD] == _END for i in range(0, BLOCK, _CARD)):
            return b"".join(blocks)
    found = os.fstat(file.fileno()).st_size
    raise CubeError(f"{path}: truncated or damaged: the header of HDU {index} has no END ({found:,} bytes in the file)")


def _parse(raw: bytes, index: int, data_offset: int, path: Path) -> Hdu:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy warns of cosmetic faults in cards that are never looked at
        header = fits.Header.fromstring(raw)
        try:
            axes = [int(header[f"NAXIS{i + 1}"]) for i in range(int(header["NAXIS"]))]
            bitpix = int(header["BITPIX"])
            name = str(header.get("EXTNAME", "" if index else "PRIMARY")).strip().upper()
            kind = str(header.get("XTENSION", "IMAGE")).strip().upper()
            groups = int(header.get("GCOUNT", 1)), int(header.get("PCOUNT", 0))
        except (KeyError, ValueError, fits.VerifyError) as error:
            raise CubeError(f"{path}: the header of HDU {index} is not valid FITS: {error}") from error
        values = math.prod(axes) if axes else 0
        length = abs(bitpix) // 8 * groups[0] * (groups[1] + values)
        image = _image(header, name, data_offset, axes, bitpix) if kind == "IMAGE" and values else None
    return Hdu(index, name, header, hashlib.sha256(raw).hexdigest(), data_offset, length, image)


def _image(header: fits.Header, name: str, offset: int, axes: list[int], bitpix: int) -> ImageLayout | None:
    if bitpix not in _STORED:
        return None
    # BLANK is void for floats, though MUSE files carry it.
    blank = header.get("BLANK") if bitpix > 0 else None
    return ImageLayout(
        name=name,
        offset=offset,
        shape=tuple(reversed(axes)),
        stored=_STORED[bitpix],
        bscale=float(header.get("BSCALE", 1.0)),
        bzero=float(header.get("BZERO", 0.0)),
        blank=None if blank is None else int(blank),
    )
