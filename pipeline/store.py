"""Maps and cubes on disk while they grow: Zarr shards, a record of finished chunks, and the rename at the end.

While a galaxy is in work everything lies in `<name>.partial/` (see `galprote.pipeline.ledger`). When every chunk is
there the maps are put together, and FITS files, figure and store get their final names, the store last. Where chunks
are missing because they failed, the ledger stays, so that another run can try them again. Zarr writes its files under
names that end in `.partial`, too; what a kill leaves of them a rerun removes.
"""

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from galprote.pipeline.fingerprint import fingerprint_of
from galprote.pipeline.ledger import Ledger
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.products import EVERY_MAP
from galprote.pipeline.quality import NOT_FITTED, Status
from galprote.pipeline.whole_files import to_disk

if TYPE_CHECKING:  # a reader of stores does not wait for torch
    from galprote.pipeline.block import BlockProducts

#: Attribute of a store: first and last rows of chunks that could not be computed.
GAPS: Final = "failed_rows"

#: Group of a store with what is known of each bin.
BINS: Final = "bins"

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

    def around(self, rest: tuple[Any, ...], image: tuple[Any, ...]) -> tuple[Any, ...]:
        """Something for each dimension, in their order."""
        return (*image, *rest) if self.last else (*rest, *image)


@dataclass(frozen=True)
class GalaxyStore(Ledger):
    """The files of one galaxy, in work and finished."""

    @property
    def final(self) -> Path:
        """The finished Zarr store."""
        return self.folder / f"{self.name}.zarr"

    @property
    def scratch(self) -> Path:
        """Where the galaxy's cube is unpacked if it is compressed."""
        return self.folder / ".scratch" / self.name

    def finished_provenance(self) -> dict[str, Any] | None:
        """Provenance of what has the finished store's name: None if there is nothing, {} if it is not galprote's."""
        if not self.final.exists():
            return None
        try:
            found = json.loads((self.final / "zarr.json").read_text())["attributes"]["provenance"]
            return dict(json.loads(found))
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def finished_spaxels(self) -> tuple[int, int]:
        """Number of spaxels of the finished store, and of those with a fit."""
        status = zarr.open_group(self.final, mode="r")["status"]
        assert isinstance(status, zarr.Array)
        fitted = (np.asarray(status[...]) & int(NOT_FITTED)) == 0
        return int(status.size), int(fitted.sum())

    def finished_gaps(self) -> list[list[int]]:
        """First and last row of every chunk that the finished store lacks because it failed."""
        try:
            attributes = json.loads((self.final / "zarr.json").read_text())["attributes"]
        except (OSError, ValueError, KeyError):
            return []
        return list(attributes.get(GAPS, []))

    def reopen(self) -> None:
        """Take a finished store with gaps back into work; its ledger is still there."""
        self.final.rename(self.store)

    def sweep(self) -> None:
        """Remove what a run that was killed after its last step has left; not the work of one with other settings."""
        manifest, finished = self.manifest(), self.finished_provenance()
        if manifest is None or (finished and fingerprint_of(manifest["provenance"]) == fingerprint_of(finished)):
            shutil.rmtree(self.partial, ignore_errors=True)
            self.remove_scratch()

    def remove_scratch(self) -> None:
        """Remove the galaxy's unpacked cube."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        with suppress(OSError):  # another galaxy's is there
            self.scratch.parent.rmdir()

    # --- arrays ---

    def create(self, cubes: Iterable[CubeArray], plan: ChunkPlan, attributes: dict[str, Any]) -> None:
        """Create the store with its cubes, all empty; it has its name when all of it is there.

        Cubes of bins are in the group `bins`.
        """
        incomplete = self.partial / "incomplete.zarr"
        group = zarr.create_group(incomplete, zarr_format=3, attributes=attributes, overwrite=True)
        group = group.create_group(BINS) if plan.bins else group
        for cube in cubes:
            columns = min(INNER_COLUMNS, plan.nx)
            # A shard is a whole number of inner chunks wide, so the last ones may reach beyond the image.
            width = -(-plan.nx // columns) * columns
            inner, outer = ((plan.rows, size)[: len(plan.image)] for size in (columns, width))
            size = np.dtype(cube.dtype).itemsize
            group.create_array(
                cube.name,
                shape=cube.around(cube.shape, plan.image),
                chunks=cube.around(cube.shape, inner),
                shards=cube.around(cube.shape, outer),
                dtype=cube.dtype,
                fill_value=np.nan,
                compressors=BloscCodec(cname="zstd" if size < 4 else "lz4", clevel=5, shuffle="shuffle", typesize=size),
                dimension_names=cube.around(cube.dims, plan.dims),
                attributes=cube.attributes,
            )
        shutil.rmtree(self.store, ignore_errors=True)
        incomplete.rename(self.store)

    def write_chunk(self, index: int, rows: slice, products: "BlockProducts") -> None:
        """Write a chunk's shards, then the record that makes it count.

        A chunk is a shard and has one writer. An earlier shard of the chunk is removed first: a torn one could not even
        be overwritten (zarr reads a shard's index before it rewrites the shard). Shards are on the disk before their
        record: it must not vouch for what a power failure takes away. What a failure leaves half written is removed.

        Raises
        ------
        OSError
            If the disk is full, for example.
        """
        self.write_record(index, products.maps, self._write_shards(rows, products))

    def _write_shards(self, rows: slice, products: "BlockProducts") -> list[Path]:
        """Write a chunk's part of every cube; gives the files, those of chunks without values, too: they have none."""
        written = []
        if products.cubes:
            place_of_cubes = self.store / BINS if (self.store / BINS).is_dir() else self.store
            group = zarr.open_group(place_of_cubes, mode="r+")
            for name, values in products.cubes.items():
                array = group[name]
                assert isinstance(array, zarr.Array)
                assert array.shards is not None
                place = image_axis(array)
                height = array.shards[place]
                if rows.start % height:
                    raise ValueError(f"rows {rows.start}-{rows.stop} are not aligned with shards of {height} rows")
                parts = ["0"] * array.ndim
                parts[place] = str(rows.start // height)
                shard = place_of_cubes.joinpath(name, "c", *parts)
                shard.unlink(missing_ok=True)
                try:
                    array[(slice(None),) * place + (rows,)] = values
                except OSError:
                    for half in shard.parent.glob(f"{shard.name}*"):
                        half.unlink()
                    raise
                written.append(shard)
                if shard.exists():  # not if all of it is NaN
                    to_disk(shard)
        return written

    def assemble(
        self,
        plan: ChunkPlan,
        maps: dict[str, dict[str, Any]],
        coordinates: dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]],
        missing: frozenset[int] = frozenset(),
    ) -> None:
        """Put the chunks' maps together in the store.

        Parameters
        ----------
        plan : ChunkPlan
        maps : dict
            Attributes of each map.
        coordinates : dict
            Further arrays: name to (dims, values, attributes).
        missing : frozenset of int
            Chunks that could not be computed: their spaxels are flagged.
        """
        self._remove_orphans()
        group = zarr.open_group(self.store, mode="r+")
        self.note_gaps([[plan.chunks[index].start, plan.chunks[index].stop - 1] for index in sorted(missing)])
        for name, values in self.gather(plan, maps, missing).items():
            write_array(group, name, plan.dims, values, maps[name])
        for name, (dims, values, attributes) in coordinates.items():
            write_array(group, name, dims, values, attributes)

    def note_gaps(self, gaps: list[list[int]]) -> None:
        """Write into the store which image rows could not be computed: first and last ones."""
        group = zarr.open_group(self.store, mode="r+")
        kept = {name: value for name, value in dict(group.attrs).items() if name != GAPS}
        group.attrs.put(kept | ({GAPS: gaps} if gaps else {}))

    def gather(
        self, plan: ChunkPlan, names: Iterable[str], missing: frozenset[int] = frozenset()
    ) -> dict[str, NDArray[Any]]:
        """Maps of all chunks together; spaxels of missing ones are flagged."""
        dtypes = {product.name: product.dtype for product in EVERY_MAP}
        whole = {name: np.empty(plan.image, dtype=dtypes[name]) for name in names}
        for index, rows in enumerate(plan.chunks):
            if index in missing:
                for values in whole.values():
                    values[rows] = np.nan if values.dtype.kind == "f" else 0
                whole["status"][rows] = Status.FAILED | Status.NOT_COMPUTED
                continue
            found = self.read_chunk(index)
            for name, values in whole.items():
                values[rows] = found[name]
        return whole

    def publish(self, files: Iterable[Path] = (), obsolete: Iterable[str] = (), *, keep_ledger: bool = False) -> None:
        """Give the finished files their final names, and remove the working folder.

        An earlier store goes first and the new one comes last: files of two runs never stand beside a finished store.

        Parameters
        ----------
        files : iterable of Path
            Finished files in the working folder.
        obsolete : iterable of str
            Names of files of an earlier run that have no successor.
        keep_ledger : bool
            Whether the working folder stays: chunks are missing that another run is to try again.
        """
        for path in self.store.rglob("*"):
            if path.is_file():
                to_disk(path)
        if self.final.exists():
            self.final.rename(self.partial / "retired.zarr")
        for name in obsolete:
            (self.folder / name).unlink(missing_ok=True)
        for file in files:
            file.replace(self.folder / file.name)
        self.store.rename(self.final)
        if keep_ledger:
            shutil.rmtree(self.partial / "retired.zarr", ignore_errors=True)
        else:
            shutil.rmtree(self.partial)


def image_axis(array: zarr.Array[Any]) -> int:
    """Where a cube's rows, or bins, are among its dimensions: first or last."""
    names = tuple(getattr(array.metadata, "dimension_names", None) or ("y", "x"))
    return names.index("bin" if "bin" in names else "y")


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
