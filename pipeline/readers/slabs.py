"""A FITS image -> dask blocks of whole rows, one positioned read a plane, nothing copied while the graph is
built.

`dask.array.from_array(numpy.memmap)` copies the whole cube at graph-build time (dask issue 11850), and mapped
pages count as the process' memory for dask's monitor. A cube lies in its file as planes of one wavelength, so
a block of "all channels, some rows, all columns" is one contiguous run of bytes in each plane: one `preadv`
each, into its place, then one byte swap in place. Measured on two cores: 0.9-1.1 GB/s from the page cache,
420-520 MB/s from a disk that gives 600-760 MB/s in one run; square tiles of a memmap gave 10-210 MB/s.
"""

import os
import sys
from dataclasses import dataclass
from typing import Any, Final, Literal

import dask.array as da
import numpy as np
from dask.base import tokenize
from numpy.typing import NDArray

from galprote.model.errors import CubeError
from galprote.pipeline.readers.fitsfile import ImageLayout

#: What the stored numbers are: values as they stand, standard deviations (squared into variances), inverse
#: variances, or quality flags (nonzero = bad).
Kind = Literal["value", "sigma", "inverse", "flag"]

#: Every bit of a flag means "bad".
ANY_BIT: Final = -1

#: Bytes of a plane that are announced together at least. Linux takes no more at once (`read_ahead_kb`).
ANNOUNCED: Final = 128 * 1024

_NATIVE: Final = "<" if sys.byteorder == "little" else ">"


@dataclass(frozen=True)
class SlabArray:
    """A picklable array-like over a 3-D FITS image, `(wavelength, y, x)`, that reads what it is indexed with.

    It deliberately has no ``copy`` and no ``__array__``: dask would use the first to load all of it.

    Attributes
    ----------
    path : str
        The FITS file; every worker must see it under this path.
    stamp : tuple of int
        Size and modification time (ns) of the file when opened: part of the dask token, so that a file that
        was replaced gets new task names.
    image : ImageLayout
        Where the array lies in the file.
    axes : tuple of int
        File axes (numpy order) of wavelength, y and x; ``(0, 1, 2)`` for nearly every cube.
    first, step, channels : int
        Channel ``k`` of this array is channel ``first + k * step`` of the file; `step` is -1 where the file's
        wavelengths descend.
    kind : {"value", "sigma", "inverse", "flag"}
        Meaning of the stored numbers.
    factor : float
        Unit conversion: results are multiplied by it.
    bits : int
        Of flags: the bits that mean "bad".
    """

    path: str
    stamp: tuple[int, int]
    image: ImageLayout
    first: int
    channels: int
    step: int = 1
    axes: tuple[int, int, int] = (0, 1, 2)
    kind: Kind = "value"
    factor: float = 1.0
    bits: int = ANY_BIT

    @property
    def shape(self) -> tuple[int, int, int]:
        """(wavelength, y, x)."""
        return self.channels, self.image.shape[self.axes[1]], self.image.shape[self.axes[2]]

    @property
    def ndim(self) -> int:
        """Always 3."""
        return 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """Boolean for flags, float32 otherwise."""
        return np.dtype(bool if self.kind == "flag" else np.float32)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (
            "galprote-slab", self.path, self.stamp, repr(self.image), self.axes,
            self.first, self.step, self.channels, self.kind, self.factor, self.bits,
        )  # fmt: skip

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a block.

        Parameters
        ----------
        index : int, slice or tuple of them
            numpy's basic indexing; missing trailing axes mean "all".

        Returns
        -------
        ndarray
            float32 (bool for flags), native byte order; an axis indexed with an integer is dropped.

        Raises
        ------
        CubeError
            If the file cannot be opened, or is not what it was when the cube was opened.
        IndexError
            If an index is out of range or neither an integer nor a slice.
        """
        items = index if isinstance(index, tuple) else (index,)
        if len(items) > 3:
            raise IndexError(f"{len(items)} indices for a cube of 3 axes")
        items = items + (slice(None),) * (3 - len(items))
        wanted = tuple(_as_range(item, length) for item, length in zip(items, self.shape, strict=True))
        block = self._read(wanted[0], wanted[1], wanted[2])
        return block[tuple(slice(None) if isinstance(item, slice) else 0 for item in items)]

    def _read(self, channels: range, rows: range, columns: range) -> NDArray[Any]:
        in_file = range(self.first, self.first + self.channels * self.step, self.step)[slice_of(channels)]
        boxes = dict(zip(self.axes, (in_file, rows, columns), strict=True))
        outer, middle, inner = boxes[0], boxes[1], boxes[2]
        block = np.empty((len(outer), len(middle), len(inner)), dtype=self.dtype)
        if block.size:
            try:
                file = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            except OSError as error:
                raise CubeError(f"{self.path}: cannot be opened on this worker: {error.strerror}") from error
            try:
                block = self._fill(file, block, outer, middle, inner)
                self._require_same(os.fstat(file))
            finally:
                os.close(file)
        return block if self.axes == (0, 1, 2) else np.ascontiguousarray(block.transpose(self.axes))

    def _require_same(self, now: os.stat_result) -> None:
        """Raise CubeError if the file is not the one that was opened: what was read must not count as that one's."""
        size, modified = self.stamp
        if now.st_size != size or int(now.st_mtime) != modified // 10**9:  # file systems differ in parts of a second
            raise CubeError(f"{self.path}: changed while it was read: is something writing to it?")

    def _fill(self, file: int, block: NDArray[Any], outer: range, middle: range, inner: range) -> NDArray[Any]:
        """Read the planes of a box; `outer`, `middle`, `inner` are positions along the file's axes."""
        stored = np.dtype(self.image.stored)
        low, high = min(middle), max(middle) + 1
        width = self.image.shape[2]
        whole = middle == range(low, high) and inner == range(width)
        self._announce(file, outer, low, high)
        if whole and self._as_stored:
            size = block[0].nbytes
            memory = block.reshape(-1).view(np.uint8).data  # slices of it cost less than numpy's
            offsets = (self._offset(position, low) for position in outer)
            for start, offset in zip(range(0, len(memory), size), offsets, strict=True):
                self._read_bytes(file, memory[start : start + size], offset)
            return block if _NATIVE == ">" else block.byteswap(inplace=True)
        buffer = np.empty((high - low, width), dtype=stored)
        picked = slice_of(middle, low), slice_of(inner)
        for plane, position in zip(block, outer, strict=True):
            self._read_plane(file, buffer, position, low)
            plane[:] = self._convert(buffer[picked])
        return block

    @property
    def _as_stored(self) -> bool:
        image = self.image
        plain = image.stored == ">f4" and (image.bscale, image.bzero) == (1.0, 0.0)
        return plain and self.kind == "value" and self.factor == 1.0

    def _convert(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Stored numbers -> this array's numbers; in double precision, so that variances of 1e-40 survive."""
        if self.kind == "flag":
            return self._is_flagged(stored)
        values = stored.astype(np.float64) * self.image.bscale + self.image.bzero
        if self.image.blank is not None:
            values[stored == self.image.blank] = np.nan
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            if self.kind == "sigma":
                values *= values
            elif self.kind == "inverse":
                values = 1.0 / values  # an inverse variance of zero means "no information": infinite variance
            return (values * self.factor).astype(np.float32)

    def _is_flagged(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        if self.image.bzero:  # unsigned integers are stored with an offset
            stored = stored.astype(np.int64) + int(self.image.bzero)
        if self.bits != ANY_BIT and stored.dtype.kind in "iu":
            stored = stored & stored.dtype.type(self.bits)
        return np.asarray(stored != 0)

    def _offset(self, position: int, row: int) -> int:
        """Byte at which a row of a plane starts in the file."""
        _, height, width = self.image.shape
        return self.image.offset + (position * height + row) * width * np.dtype(self.image.stored).itemsize

    def _announce(self, file: int, outer: range, low: int, high: int) -> None:
        """Tell the system what will be read, so that the disk works on many planes at once.

        Rows of a narrow cube that follow come along, or the disk would give a few KiB at a time: other chunks find them
        in the system's cache.
        """
        if hasattr(os, "posix_fadvise"):  # not on macOS
            _, height, width = self.image.shape
            together = max(1, ANNOUNCED // (width * np.dtype(self.image.stored).itemsize))
            stop = min(max(high, (low // together + 1) * together), height)
            length = self._offset(0, stop) - self._offset(0, low)
            for position in outer:
                os.posix_fadvise(file, self._offset(position, low), length, os.POSIX_FADV_WILLNEED)

    def _read_plane(self, file: int, plane: NDArray[Any], position: int, row: int) -> None:
        """Fill `plane` (rows, width) with the bytes of the file as they stand."""
        self._read_bytes(file, plane.view(np.uint8).reshape(-1).data, self._offset(position, row))

    def _read_bytes(self, file: int, view: memoryview, offset: int) -> None:
        """Fill a piece of memory."""
        while view:
            count = os.preadv(file, [view], offset)
            if count == len(view):
                return
            if count == 0:
                size = os.fstat(file).st_size
                raise CubeError(
                    f"{self.path}: ended while {self.image.name} was read: wanted bytes up to "
                    f"{offset + len(view):,}, the file has {size:,}. It was complete when opened: "
                    f"is something writing to it?"
                )
            view, offset = view[count:], offset + count


def lazy(slabs: SlabArray, rows: int) -> da.Array:
    """Wrap a slab array as a dask array with blocks of (all channels, `rows`, all columns); reads nothing."""
    array: da.Array = da.from_array(  # type: ignore[no-untyped-call]
        slabs,
        chunks=(-1, rows, -1),
        name=f"cube-{slabs.image.name.lower()}-{tokenize(slabs, rows)}",
        fancy=False,
        inline_array=True,  # 0.5 kB in every task, so that no task has to wait for one that holds the array
        meta=np.empty((0, 0, 0), dtype=slabs.dtype),
    )
    return array


def slice_of(positions: range, origin: int = 0) -> slice:
    """Return the slice that picks `positions` from an axis that starts at `origin`."""
    if not len(positions):
        return slice(0, 0)
    stop = positions[-1] + (1 if positions.step > 0 else -1) - origin
    return slice(positions[0] - origin, stop if stop >= 0 else None, positions.step)


def _as_range(item: Any, length: int) -> range:
    if isinstance(item, slice):
        return range(length)[item]
    if isinstance(item, int | np.integer):
        if not -length <= item < length:
            raise IndexError(f"index {item} is out of range for an axis of {length}")
        position = int(item) % length
        return range(position, position + 1)
    raise IndexError(f"a cube file is indexed with integers and slices, not with {type(item).__name__}")
