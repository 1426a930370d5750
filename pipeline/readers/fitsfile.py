"""A FITS file's headers -> the list of its HDUs, with the place of every data array; no data is read.

The walk is done here and not by astropy because three things are needed that astropy does not give together:
exact byte offsets for our own reads, the headers' bytes for the provenance hash, and a truncated file
reported as such (astropy only warns, and silently drops the HDUs that it cannot reach).
"""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from astropy.io import fits

from galprote.model.errors import CubeError
from galprote.pipeline.readers.header import array_shape, parse_header

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
        Naming the HDU, the bytes found and the bytes wanted; also where bytes were lost or added before its end.
    """
    size = path.stat().st_size
    for hdu in hdus:
        wanted = hdu.data_offset + hdu.data_bytes
        if wanted > size:
            raise CubeError(
                f"{path}: truncated: HDU {hdu.label} ends at byte {wanted:,}, the file has {size:,} bytes "
                f"({wanted - size:,} are missing). Copy or download the file again."
            )
        _require_padding(path, hdu)


def _require_padding(path: Path, hdu: Hdu) -> None:
    """Refuse data behind which other bytes stand than the zeros up to the end of the block: they have been shifted.

    Nothing at all is taken: some writers leave the last padding out.
    """
    if hdu.image is None:
        return
    wanted = -hdu.data_bytes % BLOCK
    with path.open("rb") as file:
        file.seek(hdu.data_offset + hdu.data_bytes)
        found = file.read(wanted)
    if found.strip(b"\0") or len(found) not in (0, wanted):
        raise CubeError(
            f"{path}: damaged: behind the data of HDU {hdu.label} come {len(found):,} bytes that are not the "
            f"{wanted:,} zeros of the padding: bytes were lost or added. Copy or download the file again."
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
            whole = math.isinf(size) or (size - position) % BLOCK == 0
            if file.read(BLOCK).strip(b"\0 ") or not whole:
                raise CubeError(_no_hdu(path, index, position, size))
            return  # padding, as tapes had
        raw = _header_bytes(file, path, index)
        hdu = _parse(raw, index, position + len(raw), path)
        yield hdu
        position = hdu.data_offset + math.ceil(hdu.data_bytes / BLOCK) * BLOCK
        index += 1


def _no_hdu(path: Path, index: int, position: int, size: float) -> str:
    rest = f"{size - position:,.0f} bytes" if math.isfinite(size) else "bytes"
    return (
        f"{path}: after HDU {index - 1} come {rest} that are no HDU: its header (BITPIX, NAXISn) does not fit its "
        f"data, or the next header is damaged. Copy or download the file again."
    )


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
    where = f"{path}: the header of HDU {index}"
    header = parse_header(raw, where)
    bitpix, axes, length = array_shape(header, where)
    name = str(header.get("EXTNAME", "" if index else "PRIMARY")).strip().upper()
    kind = str(header.get("XTENSION", "IMAGE")).strip().upper()
    image = None
    if kind == "IMAGE" and axes and all(axes):
        if bitpix not in _STORED:
            known = ", ".join(map(str, _STORED))
            raise CubeError(f"{where} is not valid FITS: BITPIX = {bitpix}, expected one of {known}")
        if (header.get("GCOUNT", 1), header.get("PCOUNT", 0)) != (1, 0) and not header.get("GROUPS", False):
            raise CubeError(f"{where} is not valid FITS: GCOUNT and PCOUNT of an image are 1 and 0")
        image = _image(header, name, data_offset, axes, bitpix, where)
    return Hdu(index, name, header, hashlib.sha256(raw).hexdigest(), data_offset, length, image)


def _image(header: fits.Header, name: str, offset: int, axes: list[int], bitpix: int, where: str) -> ImageLayout:
    # BLANK is void for floats, though MUSE files carry it.
    blank = header.get("BLANK") if bitpix > 0 else None
    if blank is not None and not isinstance(blank, int):
        raise CubeError(f"{where} is not valid FITS: BLANK = {blank!r}, expected an integer")
    bscale = float(header.get("BSCALE", 1.0))
    if not bscale:
        raise CubeError(f"{where} is not valid FITS: BSCALE = 0 makes all values the same: correct the header")
    return ImageLayout(
        name=name,
        offset=offset,
        shape=tuple(reversed(axes)),
        stored=_STORED[bitpix],
        bscale=bscale,
        bzero=float(header.get("BZERO", 0.0)),
        blank=blank,
    )
