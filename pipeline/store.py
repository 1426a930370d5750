"""Maps and cubes on disk while they grow: Zarr shards, a record of finished chunks, and the rename at the end.

While a galaxy is in work everything lies in `<name>.partial/`:

    manifest.json       provenance and chunking: a rerun goes on only if they are the same
    chunks/00012.npz    the maps of a finished chunk; renamed into place after the chunk's shards are written, so that its
                        presence means that the chunk is done
    <name>.zarr         the store in the making

When every chunk is there the maps are put together, and the store gets its final name.
"""

import json
import os
import shutil
from collections.abc import Iterable
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
    """A cube to be written: its name, leading dimensions with their sizes, and attributes."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: dict[str, Any]


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

    def chunk_file(self, index: int) -> Path:
        """Record of a finished chunk."""
        return self.partial / "chunks" / f"{index:05d}.npz"

    # --- the record of what is done ---

    def finished_provenance(self) -> dict[str, Any] | None:
        """Provenance of the finished store, if there is one."""
        if not (self.final / "zarr.json").is_file():
            return None
        found = json.loads((self.final / "zarr.json").read_text())["attributes"].get("provenance")
        return json.loads(found) if isinstance(found, str) else {}

    def manifest(self) -> dict[str, Any] | None:
        """What the working folder was made with, if there is one."""
        path = self.partial / "manifest.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def begin(self, provenance: dict[str, Any], rows: int) -> None:
        """Make an empty working folder."""
        shutil.rmtree(self.partial, ignore_errors=True)
        (self.partial / "chunks").mkdir(parents=True)
        write_text(
            self.partial / "manifest.json", json.dumps({"provenance": provenance, "rows": rows}, sort_keys=True, indent=1)
        )

    def finished_chunks(self, plan: ChunkPlan) -> set[int]:
        """Chunks that an earlier run finished, after unreadable records are thrown away."""
        done = set()
        for index in range(len(plan.chunks)):
            try:
                self.read_chunk(index)
                done.add(index)
            except FileNotFoundError:
                continue
            except (BadZipFile, ValueError, KeyError, OSError):
                self.chunk_file(index).unlink()
        return done

    # --- arrays ---

    def create(self, cubes: Iterable[CubeArray], plan: ChunkPlan, attributes: dict[str, Any]) -> None:
        """Create the store with its cubes, all empty."""
        group = zarr.create_group(self.store, zarr_format=3, attributes=attributes, overwrite=True)
        for cube in cubes:
            inner = (*cube.shape, plan.rows, min(INNER_COLUMNS, plan.nx))
            # A shard is a whole number of inner chunks wide, so the last ones may reach beyond the image.
            width = -(-plan.nx // inner[-1]) * inner[-1]
            group.create_array(
                cube.name,
                shape=(*cube.shape, plan.ny, plan.nx),
                chunks=inner,
                shards=(*cube.shape, plan.rows, width),
                dtype="float32",
                fill_value=np.nan,
                compressors=BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=4),
                dimension_names=(*cube.dims, "y", "x"),
                attributes=cube.attributes,
            )

    def write_chunk(self, index: int, rows: slice, products: BlockProducts) -> None:
        """Write a chunk's shards, then the record that makes it count.

        A chunk is a shard and has one writer. An earlier shard of the chunk is removed first: a torn one could not even be
        overwritten (zarr reads a shard's index before it rewrites the shard).
        """
        if products.cubes:
            group = zarr.open_group(self.store, mode="r+")
            for name, values in products.cubes.items():
                array = group[name]
                assert isinstance(array, zarr.Array)
                assert array.shards is not None
                height = array.shards[-2]
                if rows.start % height:
                    raise ValueError(f"rows {rows.start}-{rows.stop} are not aligned with shards of {height} rows")
                leading = ["0"] * (array.ndim - 2)
                shard = self.store.joinpath(name, "c", *leading, str(rows.start // height), "0")
                shard.unlink(missing_ok=True)
                array[..., rows, :] = values
        path = self.chunk_file(index)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **products.maps)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def read_chunk(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Maps of a finished chunk."""
        with np.load(self.chunk_file(index), allow_pickle=False) as arrays:
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
        group = zarr.open_group(self.store, mode="r+")
        whole = {product.name: np.empty((plan.ny, plan.nx), dtype=product.dtype) for product in MAPS}
        for index, rows in enumerate(plan.chunks):
            for name, values in self.read_chunk(index).items():
                whole[name][rows] = values
        for name, values in whole.items():
            write_array(group, name, ("y", "x"), values, maps[name])
        for name, (dims, values, attributes) in coordinates.items():
            write_array(group, name, dims, values, attributes)

    def publish(self) -> None:
        """Give the finished store its final name, and remove the working folder."""
        retired = self.partial / "retired.zarr"
        if self.final.exists():
            self.final.rename(retired)
        self.store.rename(self.final)
        shutil.rmtree(self.partial)


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


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
