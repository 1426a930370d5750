"""What is done of a galaxy: the ledger that lets a run go on after a kill, without ever trusting what is not whole.

While a galaxy is in work everything lies in `<name>.partial/`:

    manifest.json       provenance and chunking: a rerun goes on only if they are the same
    chunks/00012.npz    the ledger's entry of a finished chunk: its maps, sizes and checksums of its shards. Renamed
                        into place after the shards are written, so that its presence means that the chunk is done
    failures.json       chunks that could not be computed
    <name>.zarr         the store in the making
"""

import json
import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.whole_files import appearing, write_text

#: Key of the shards' sizes and checksums in a chunk's record.
SHARDS: Final = "shards"


@dataclass(frozen=True)
class Ledger:
    """The record of a galaxy in work.

    Attributes
    ----------
    folder : Path
        The survey's output folder.
    name : str
        The galaxy's name.
    """

    folder: Path
    name: str

    @property
    def partial(self) -> Path:
        """The working folder."""
        return self.folder / f"{self.name}.partial"

    @property
    def store(self) -> Path:
        """The Zarr store in the making."""
        return self.partial / f"{self.name}.zarr"

    def chunk_file(self, index: int) -> Path:
        """Record of a finished chunk."""
        return self.partial / "chunks" / f"{index:05d}.npz"

    def begin(self, provenance: dict[str, Any], rows: int) -> None:
        """Make an empty working folder."""
        shutil.rmtree(self.partial, ignore_errors=True)
        (self.partial / "chunks").mkdir(parents=True)
        write_text(
            self.partial / "manifest.json",
            json.dumps({"provenance": provenance, "rows": rows}, sort_keys=True, indent=1),
        )

    def manifest(self) -> dict[str, Any] | None:
        """What the working folder was made with, if there is one; of a damaged one, nothing that anything equals."""
        path = self.partial / "manifest.json"
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text())
            return {"rows": int(found["rows"]), "provenance": dict(found["provenance"])}
        except (ValueError, KeyError, TypeError):
            return {"rows": 1, "provenance": {}}

    def failures(self) -> list[dict[str, Any]]:
        """Chunks that could not be computed, as `record_failures` was told."""
        path = self.partial / "failures.json"
        try:
            return list(json.loads(path.read_text()))
        except (OSError, ValueError):
            return []

    def record_failures(self, failures: Sequence[dict[str, Any]]) -> None:
        """Keep what failed beside what is done."""
        write_text(self.partial / "failures.json", json.dumps(list(failures), indent=1))

    def recorded_chunks(self) -> set[int]:
        """Chunks that have an entry in the ledger, unread: for a look at a run that goes on elsewhere."""
        try:
            names = os.listdir(self.partial / "chunks")
        except OSError:
            return set()
        return {int(name[:5]) for name in names if name.endswith(".npz")}

    def finished_chunks(self, plan: ChunkPlan) -> set[int]:
        """Chunks that an earlier run finished, after unreadable records and half-written files are thrown away."""
        self._remove_orphans()
        done = set()
        for index, rows in enumerate(plan.chunks):
            try:
                maps = self.read_chunk(index)
                shape = (rows.stop - rows.start, *plan.image[1:])
                whole = bool(maps) and all(values.shape == shape for values in maps.values())
                torn = self._torn_shards(index)
            except FileNotFoundError:
                continue
            except (BadZipFile, ValueError, KeyError, OSError, EOFError, zlib.error):
                whole, torn = False, []
            if whole and not torn:
                done.add(index)
                continue
            self.chunk_file(index).unlink()
            for shard in torn:
                shard.unlink(missing_ok=True)
        return done

    def _torn_shards(self, index: int) -> list[Path]:
        """Shards of a chunk that are not what its record says they were."""
        with self.chunk_file(index).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            recorded: dict[str, list[int]] = json.loads(str(arrays[SHARDS]))
        return [path for name, about in recorded.items() if checksum(path := self.store / name) != tuple(about)]

    def read_chunk(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Maps of a finished chunk."""
        return {name: values for name, values in read_arrays(self.chunk_file(index)).items() if name != SHARDS}

    def write_record(self, index: int, maps: dict[str, NDArray[np.generic]], shards: Sequence[Path]) -> None:
        """Enter a finished chunk: it counts from now on. Its shards must be on the disk already.

        Raises
        ------
        OSError
            If the disk is full, for example; nothing of the record is left then.
        """
        sums = {str(shard.relative_to(self.store)): checksum(shard) for shard in shards}
        write_arrays(self.chunk_file(index), **maps, **{SHARDS: np.array(json.dumps(sums, sort_keys=True))})

    def _remove_orphans(self) -> None:
        """Remove what a killed process had half written; nobody may be writing now."""
        for orphan in self.partial.rglob("*.partial"):
            orphan.unlink(missing_ok=True)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an `.npz` file; the file's own checksums are verified."""
    # Opened here: of a damaged file numpy forgets to close its own.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write an `.npz` file as a whole; a worker believed dead may be writing it, too."""
    with appearing(path, shared=True) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def checksum(path: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file, in bounded memory; of none, (-1, 0)."""
    size, crc = 0, 0
    try:
        with path.open("rb") as file:
            while part := file.read(1 << 22):
                size, crc = size + len(part), zlib.crc32(part, crc)
    except FileNotFoundError:
        return -1, 0
    return size, crc
