"""A process of its own that looks at everything with a final name as soon as it appears: is it whole?

    python watcher.py OUTPUT REPORT.json

It ends when the file REPORT.json.stop appears. A file that vanishes or is replaced while it is read proves nothing.
"""

import csv
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import zarr
from astropy.io import fits
from PIL import Image


def check(path: Path) -> None:
    """Raise if something is not whole."""
    if path.suffix == ".zarr":
        group = zarr.open_group(path, mode="r")
        fingerprint = json.loads(str(group.attrs["provenance"]))["fingerprint"]
        assert len(fingerprint) == 64
        parts = [group, *(part for _, part in group.groups())]  # of bins
        names = {name for part in parts for name, _ in part.arrays()}
        assert {"age_lw", "status", "residual", "ra"} <= names, names
        for part in parts:
            for _, array in part.arrays():
                np.asarray(array[...])
        json.loads((path / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
    elif path.suffix == ".fits":
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(path, checksum=True, memmap=False) as hdus:
                assert hdus[0].header["FINGERPR"]
                assert all(hdu.data is None or hdu.data.size for hdu in hdus)
    elif path.suffix == ".png":
        with Image.open(path) as image:
            image.load()
    elif path.suffix == ".json":
        assert path.read_text().endswith("\n")
        json.loads(path.read_text())
    elif path.suffix == ".csv":
        head, *rows = csv.reader(path.read_text().splitlines())
        assert head[:2] == (["bin", "x"] if path.name.endswith("_bins.csv") else ["galaxy", "step"])
        assert all(len(row) == len(head) for row in rows)


def identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when something is replaced."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns if path.is_file() else 0, found.st_size if path.is_file() else 0


def watch(output: Path, report: Path) -> None:
    """Look until told to stop."""
    seen: dict[Path, tuple[int, int, int]] = {}
    checked, wrong = 0, []
    stop = report.with_name(report.name + ".stop")
    while not stop.exists():
        for path in output.glob("[!.]*"):
            if path.suffix not in (".zarr", ".fits", ".png", ".json", ".csv"):
                continue
            before = identity(path)
            if before is None or seen.get(path) == before:
                continue
            try:
                check(path)
            except Exception as error:
                if identity(path) == before:
                    wrong.append(f"{path.name}: {type(error).__name__}: {error}")
                    seen[path] = before
                continue
            seen[path] = before
            checked += 1
        report.write_text(json.dumps({"checked": checked, "wrong": wrong}))
        time.sleep(0.02)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), Path(sys.argv[2]))
