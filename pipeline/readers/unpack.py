"""A `.fits.gz` cube -> the plain file beside the work, once: compressed files cannot be read in slabs."""

import gzip
import hashlib
import math
import os
import shutil
import struct
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO, Final, cast

from galprote.model.errors import CubeError
from galprote.pipeline.readers.fitsfile import walk_hdus

_MAGIC: Final = b"\x1f\x8b"
#: A gzip file of nothing: header, an empty block, checksum and size.
_SHORTEST: Final = 20
_CHUNK: Final = 8 << 20
_MODULUS: Final = 1 << 32
_DAMAGED: Final = (EOFError, zlib.error, gzip.BadGzipFile)


def is_gzip(path: Path) -> bool:
    """Tell from the first bytes whether a file is gzip-compressed."""
    try:
        with path.open("rb") as file:
            return file.read(2) == _MAGIC
    except OSError:
        return False


def unpack_gzip(path: Path, scratch: Path | None = None) -> Path:
    """Decompress a file into a scratch folder, or find it there from an earlier call.

    Memory is bounded by a buffer of 8 MB. The result has its final name only when it is complete, so that a
    killed run leaves nothing that could be taken for a cube.

    Parameters
    ----------
    path : Path
        A gzip-compressed file.
    scratch : Path, optional
        Folder for the result; it must be visible to every worker. By default one of this user under the
        system's temporary folder.

    Returns
    -------
    Path
        The uncompressed file. Its name holds the source's path (hashed), size and modification time: a source
        that did not change is not unpacked again.

    Raises
    ------
    CubeError
        If the disk has no room for it, or the source is damaged.
    """
    folder = _folder(scratch)
    source = path.stat()
    where = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    stem = path.name.removesuffix(".gz").removesuffix(".fits")
    target = folder / f"{stem}-{where}-{source.st_size}-{source.st_mtime_ns}.fits"
    if target.exists():
        return target
    _require_room(path, folder, unpacked_bytes(path))
    handle, name = tempfile.mkstemp(prefix=f".{stem}-", suffix=".partial", dir=folder)
    try:
        with os.fdopen(handle, "wb") as output, gzip.open(path, "rb") as packed:
            shutil.copyfileobj(packed, output, _CHUNK)
        os.replace(name, target)
    except _DAMAGED as error:
        raise CubeError(f"{path}: damaged or truncated gzip file ({error}): copy or download it again") from error
    except OSError as error:
        raise CubeError(f"{path}: could not be unpacked into {folder}: {error.strerror or error}") from error
    finally:
        Path(name).unlink(missing_ok=True)
    return target


def unpacked_bytes(path: Path) -> int:
    """Estimate from below the unpacked size of a gzip-compressed cube, in bytes.

    The first header with data says how large these are, and with MUSE's ERRDATA that variances of the same
    size follow. The last four bytes of the file hold the size modulo 4 GiB (RFC 1952): the estimate is the
    smallest size that agrees with both.

    Raises
    ------
    CubeError
        If there is no FITS file in it.
    """
    with path.open("rb") as file:
        found = file.seek(0, os.SEEK_END)
        if found < _SHORTEST:
            raise CubeError(f"{path}: damaged or truncated gzip file ({found} bytes): copy or download it again")
        file.seek(-4, os.SEEK_END)
        size = int(struct.unpack("<I", file.read(4))[0])
    declared = 0
    try:
        with gzip.open(path, "rb") as packed:
            for hdu in walk_hdus(cast("BinaryIO", packed), path, math.inf):
                if hdu.data_bytes:
                    declared = hdu.data_offset + hdu.data_bytes * (2 if "ERRDATA" in hdu.header else 1)
                    break
    except _DAMAGED as error:
        raise CubeError(f"{path}: damaged or truncated gzip file ({error}): copy or download it again") from error
    return size + max(0, math.ceil((declared - size) / _MODULUS)) * _MODULUS


def _require_room(path: Path, folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise CubeError(
            f"{path}: unpacking it needs {wanted / 1e9:.2f} GB or more in {folder}, "
            f"which has {free / 1e9:.2f} GB free: make room, or name a larger scratch folder"
        )


def _folder(scratch: Path | None) -> Path:
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
        return scratch
    folder = Path(tempfile.gettempdir()) / f"galprote-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise CubeError(f"{folder} belongs to another user: name a scratch folder of your own")
    return folder
