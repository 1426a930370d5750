"""Maps and cubes on disk while they grow: Zarr shards, a record of finished chunks, and the rename at the end.

While a galaxy is in work everything lies in `<name>.partial/`:

    manifest.json       provenance and chunking: a rerun goes on only if they are the same
    chunks/00012.npz    the maps of a finished chunk; renamed into place after the chunk's shards are written, so that
                        its presence means that the chunk is done
    <name>.zarr         the store in the making

When every chunk is there the maps are put together, and FITS files, figure and store get their final names, the store
last. Zarr writes its files under names that end in `.partial`, too; what a kill leaves of them a rerun removes.
"""

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from galprote.pipeline.block import BlockProducts
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.products import MAPS

#: Width of the inner chunks of a cube's shards, in spaxels.
INNER_COLUMNS: Final = 40


@dataclass(frozen=True)
class CubeArray:
    """A cube to be written: its name, its dimensions besides y and x with their sizes, and attributes.

    They come before y and x, or after them (`last`), so that a spaxel's values lie together.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: dict[str, Any]
    dtype: str = "float32"
    last: bool = False

    def around(self, rest: tuple[Any, ...], image: tuple[Any, Any]) -> tuple[Any, ...]:
        """Something for each dimension, in their order."""
        return (*image, *rest) if self.last else (*rest, *image)


@dataclass(frozen=True)
class GalaxyStore:
    """The files of one galaxy in work.

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
    def final(self) -> Path:
        """The finished Zarr store."""
        return self.folder / f"{self.name}.zarr"

    @property
    def partial(self) -> Path:
        """The working folder."""
        return self.folder / f"{self.name}.partial"

    @property
    def store(self) -> Path:
        """The Zarr store in the making."""
        return self.partial / f"{self.name}.zarr"

    @property
    def scratch(self) -> Path:
        """Where the galaxy's cube is unpacked if it is compressed."""
        return self.folder / ".scratch" / self.name

    def chunk_file(self, index: int) -> Path:
        """Record of a finished chunk."""
        return self.partial / "chunks" / f"{index:05d}.npz"

    # --- the record of what is done ---

    def finished_provenance(self) -> dict[str, Any] | None:
        """Provenance of what has the finished store's name: None if there is nothing, {} if it is not galprote's."""
        if not self.final.exists():
            return None
        try:
            found = json.loads((self.final / "zarr.json").read_text())["attributes"]["provenance"]
            return dict(json.loads(found))
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def finished_spaxels(self) -> int:
        """Number of spaxels of the finished store."""
        status = zarr.open_group(self.final, mode="r")["status"]
        assert isinstance(status, zarr.Array)
        return int(status.size)

    def manifest(self) -> dict[str, Any] | None:
        """What the working folder was made with, if there is one."""
        path = self.partial / "manifest.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def begin(self, provenance: dict[str, Any], rows: int) -> None:
        """Make an empty working folder."""
        shutil.rmtree(self.partial, ignore_errors=True)
        (self.partial / "chunks").mkdir(parents=True)
        write_text(
            self.partial / "manifest.json",
            json.dumps({"provenance": provenance, "rows": rows}, sort_keys=True, indent=1),
        )

    def finished_chunks(self, plan: ChunkPlan) -> set[int]:
        """Chunks that an earlier run finished, after unreadable records and half-written files are thrown away."""
        self._remove_orphans()
        done = set()
        for index, rows in enumerate(plan.chunks):
            try:
                maps = self.read_chunk(index)
            except FileNotFoundError:
                continue
            except (BadZipFile, ValueError, KeyError, OSError, EOFError):
                maps = {}
            if maps and all(values.shape == (rows.stop - rows.start, plan.nx) for values in maps.values()):
                done.add(index)
            else:
                self.chunk_file(index).unlink()
        return done

    def _remove_orphans(self) -> None:
        """Remove what a killed process had half written; nobody may be writing now."""
        for orphan in self.partial.rglob("*.partial"):
            orphan.unlink()

    def sweep(self) -> None:
        """Remove what a run that was killed after its last step has left; not the work of one with other settings."""
        manifest, finished = self.manifest(), self.finished_provenance()
        if manifest is None or (finished and manifest["provenance"]["fingerprint"] == finished["fingerprint"]):
            shutil.rmtree(self.partial, ignore_errors=True)
            self.remove_scratch()

    def remove_scratch(self) -> None:
        """Remove the galaxy's unpacked cube."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        with suppress(OSError):  # another galaxy's is there
            self.scratch.parent.rmdir()

    # --- arrays ---

    def create(self, cubes: Iterable[CubeArray], plan: ChunkPlan, attributes: dict[str, Any]) -> None:
        """Create the store with its cubes, all empty; it has its name when all of it is there."""
        incomplete = self.partial / "incomplete.zarr"
        group = zarr.create_group(incomplete, zarr_format=3, attributes=attributes, overwrite=True)
        for cube in cubes:
            columns = min(INNER_COLUMNS, plan.nx)
            # A shard is a whole number of inner chunks wide, so the last ones may reach beyond the image.
            width = -(-plan.nx // columns) * columns
            size = np.dtype(cube.dtype).itemsize
            group.create_array(
                cube.name,
                shape=cube.around(cube.shape, (plan.ny, plan.nx)),
                chunks=cube.around(cube.shape, (plan.rows, columns)),
                shards=cube.around(cube.shape, (plan.rows, width)),
                dtype=cube.dtype,
                fill_value=np.nan,
                compressors=BloscCodec(cname="zstd" if size < 4 else "lz4", clevel=5, shuffle="shuffle", typesize=size),
                dimension_names=cube.around(cube.dims, ("y", "x")),
                attributes=cube.attributes,
            )
        incomplete.rename(self.store)

    def write_chunk(self, index: int, rows: slice, products: BlockProducts) -> None:
        """Write a chunk's shards, then the record that makes it count.

        A chunk is a shard and has one writer. An earlier shard of the chunk is removed first: a torn one could not even
        be overwritten (zarr reads a shard's index before it rewrites the shard). Shards are on the disk before their
        record: it must not vouch for what a power failure takes away.
        """
        if products.cubes:
            group = zarr.open_group(self.store, mode="r+")
            for name, values in products.cubes.items():
                array = group[name]
                assert isinstance(array, zarr.Array)
                assert array.shards is not None
                place = 0 if image_first(array) else array.ndim - 2
                height = array.shards[place]
                if rows.start % height:
                    raise ValueError(f"rows {rows.start}-{rows.stop} are not aligned with shards of {height} rows")
                parts = ["0"] * array.ndim
                parts[place] = str(rows.start // height)
                shard = self.store.joinpath(name, "c", *parts)
                shard.unlink(missing_ok=True)
                array[(slice(None),) * place + (rows,)] = values
                if shard.exists():  # not if all of it is NaN
                    _to_disk(shard)
        path = self.chunk_file(index)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **products.maps)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def read_chunk(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Maps of a finished chunk."""
        # Opened here: of a damaged file numpy forgets to close its own.
        with self.chunk_file(index).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {product.name: arrays[product.name] for product in MAPS}

    def assemble(
        self,
        plan: ChunkPlan,
        maps: dict[str, dict[str, Any]],
        coordinates: dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]],
    ) -> None:
        """Put the chunks' maps together in the store.

        Parameters
        ----------
        plan : ChunkPlan
        maps : dict
            Attributes of each map.
        coordinates : dict
            Further arrays: name to (dims, values, attributes).
        """
        self._remove_orphans()
        group = zarr.open_group(self.store, mode="r+")
        whole = {product.name: np.empty((plan.ny, plan.nx), dtype=product.dtype) for product in MAPS}
        for index, rows in enumerate(plan.chunks):
            for name, values in self.read_chunk(index).items():
                whole[name][rows] = values
        for name, values in whole.items():
            write_array(group, name, ("y", "x"), values, maps[name])
        for name, (dims, values, attributes) in coordinates.items():
            write_array(group, name, dims, values, attributes)

    def publish(self, files: Iterable[Path] = (), obsolete: Iterable[str] = ()) -> None:
        """Give the finished files their final names, and remove the working folder.

        An earlier store goes first and the new one comes last: files of two runs never stand beside a finished store.

        Parameters
        ----------
        files : iterable of Path
            Finished files in the working folder.
        obsolete : iterable of str
            Names of files of an earlier run that have no successor.
        """
        for path in self.store.rglob("*"):
            if path.is_file():
                _to_disk(path)
        if self.final.exists():
            self.final.rename(self.partial / "retired.zarr")
        for name in obsolete:
            (self.folder / name).unlink(missing_ok=True)
        for file in files:
            file.replace(self.folder / file.name)
        self.store.rename(self.final)
        shutil.rmtree(self.partial)


def image_first(array: zarr.Array[Any]) -> bool:
    """Whether y and x are a cube's first dimensions, and not its last ones."""
    return (getattr(array.metadata, "dimension_names", None) or ("",))[0] == "y"


def write_array(
    group: zarr.Group, name: str, dims: tuple[str, ...], values: NDArray[Any], attributes: dict[str, Any]
) -> None:
    """Write a small array as one chunk."""
    fill = np.nan if values.dtype.kind == "f" else 0
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        fill_value=fill,
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=values.dtype.itemsize),
        dimension_names=dims,
        attributes=attributes,
        overwrite=True,
    )
    array[...] = values


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
