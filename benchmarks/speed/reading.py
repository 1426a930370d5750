"""Reading a FITS cube: what the pipeline's reader gives beside a plain read of the same bytes."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import dask
import numpy as np
import psutil
from astropy.io import fits

from benchmarks.speed.figures import Part
from benchmarks.speed.setup import Opened, Setup, open_first
from galprote.pipeline.graph import CubeReader

#: Channels of a cube of PHANGS, 4700-9350 A, of which half are read; rows and columns.
SHAPE, QUICK_SHAPE = (3721, 300, 320), (3721, 16, 320)
PLANES = 64


@dataclass(frozen=True)
class Useful:
    """Where the channels that are read lie in the file: ranges of bytes."""

    path: Path
    ranges: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(stop - start for start, stop in self.ranges)

    def dd(self) -> None:
        """Read them in order, and throw them away."""
        for start, stop in self.ranges:
            where = [f"skip={start}", f"count={stop - start}", "iflag=skip_bytes,count_bytes"]
            subprocess.run(["dd", f"if={self.path}", "of=/dev/null", "bs=4M", "status=none", *where], check=True)

    def forget(self) -> None:
        """Drop the file from the page cache."""
        with self.path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(setup: Setup) -> Part:
    """Time the reader and `dd` in turns, from the page cache and from the disk."""
    shape = QUICK_SHAPE if setup.quick else SHAPE
    part = Part(
        "Reading",
        f"flux and variance of the channels that the model needs, of a cube of {' x '.join(map(str, shape))}, chunk by "
        "chunk through the pipeline's reader, in one thread; `dd` of the same bytes in turns with it; wall time; cold: "
        "after POSIX_FADV_DONTNEED (what is below the guest's disk may have its own cache)",
    )
    if shutil.which("dd") is None or not hasattr(os, "posix_fadvise"):
        part.lacking.append("reading: needs dd and posix_fadvise (Linux)")
        return part
    path = write_cube(setup.folder / "reading.fits", shape)
    opened = open_first(setup.survey("reading", path))
    useful, reader = find_useful(path, opened), CubeReader(opened.cube)

    def read() -> None:
        for index in range(len(reader)):
            dask.compute(*reader.read(index, ""), scheduler="sync")

    part.add("useful bytes", useful.size / 1e6, "MB")
    rounds = 1 if setup.quick else 4
    for state in ("warm", "cold"):
        seconds, shares = _in_state(state, useful, read, rounds)
        raw, ours = (useful.size / seconds[name] / 1e6 for name in ("dd", "reader"))
        from_disk = "" if state == "warm" else ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        part.add(f"{state}, dd", raw, "MB/s", "", "disk", f"from the disk: {from_disk}" if from_disk else "")
        part.add(f"{state}, reader", ours, "MB/s", "more", "memory" if state == "warm" else "disk")
        beside = "target: 70 %" if state == "cold" else ""
        part.add(f"{state}, reader of dd's rate", 100 * ours / raw, "%", "more", "", beside)
    path.unlink()
    return part


def _in_state(
    state: str, useful: Useful, read: Callable[[], None], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of `dd` and of the reader, and the share of the bytes that came from the disk."""
    disk: dict[str, list[float]] = {"dd": [], "reader": []}
    times: dict[str, list[float]] = {"dd": [], "reader": []}
    jobs = {"dd": useful.dd, "reader": read}
    for turn in range(rounds + (state == "warm")):
        for name in ("dd", "reader") if turn % 2 else ("reader", "dd"):
            if state == "cold":
                useful.forget()
            before, began = disk_bytes(), perf_counter()
            jobs[name]()
            times[name].append(perf_counter() - began)
            disk[name].append((disk_bytes() - before) / useful.size)
    first = int(state == "warm")  # fills the cache
    medians = {name: float(np.median(values[first:])) for name, values in times.items()}
    return medians, {name: float(np.median(values[first:])) for name, values in disk.items()}


def disk_bytes() -> int:
    """Bytes that this process has read from the disk, and those of its children that have ended."""
    return int(psutil.Process().io_counters().read_bytes)


def write_cube(path: Path, shape: tuple[int, int, int]) -> Path:
    """Write a cube in MUSE's layout, of noise: what is read matters, not what it says."""
    random = np.random.default_rng(1)
    planes = (1000 + 30 * random.standard_normal((PLANES, *shape[1:]))).astype(">f4")
    with path.open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode())
        for name, square in (("DATA", ""), ("STAT", "**2")):
            file.write(_header(name, square, shape).tostring().encode())
            for first in range(0, shape[0], PLANES):
                file.write(planes[: shape[0] - first].tobytes())
            file.write(bytes(-4 * int(np.prod(shape, dtype=np.int64)) % 2880))
        file.flush()
        os.fsync(file.fileno())
    return path


def _header(name: str, square: str, shape: tuple[int, int, int]) -> fits.Header:
    header = fits.ImageHDU(np.zeros((1, 1, 1), ">f4"), name=name).header
    header.update({f"NAXIS{i + 1}": length for i, length in enumerate(reversed(shape))})
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"})
    header.update({"CRVAL1": 184.7, "CRVAL2": 14.4, "CRPIX1": 1.0, "CRPIX2": 1.0})
    header.update({"CD1_1": -0.2 / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.2 / 3600})
    header.update({"CTYPE3": "AWAV", "CUNIT3": "Angstrom", "CRVAL3": 4700.0, "CRPIX3": 1.0, "CD3_3": 1.25})
    unit = "10**(-20)*erg/s/cm**2/Angstrom"
    header["BUNIT"] = f"({unit}){square}" if square else unit
    return header


def find_useful(path: Path, opened: Opened) -> Useful:
    """The bytes of the channels that are read: in one piece in each extension."""
    with fits.open(path) as hdus:
        plane = 4 * hdus["DATA"].header["NAXIS1"] * hdus["DATA"].header["NAXIS2"]
        first = int(opened.cube.attrs["first_channel"]) * plane
        starts = [hdus[name].fileinfo()["datLoc"] + first for name in ("DATA", "STAT")]
    return Useful(path, tuple((start, start + opened.plan.channels * plane) for start in starts))
