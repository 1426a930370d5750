"""Files while they grow: whatever is torn is thrown away, and a run that is killed at any step can go on."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr
import yaml
import zarr
from astropy.io import fits

from galprote.pipeline.block import BlockProducts
from galprote.pipeline.layout import all_product_files
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.products import MAPS
from galprote.pipeline.store import CubeArray, GalaxyStore
from tests import surveys

PLAN = ChunkPlan(channels=50, ny=7, nx=5, rows=3, workers=1, chunk_bytes=0, peak_bytes=0)
CUBE = CubeArray("residual", ("wavelength",), (4,), {"units": "", "long_name": "residual"})


def products(index: int) -> BlockProducts:
    """Recognisable numbers for a chunk of `PLAN`."""
    rows = PLAN.chunks[index]
    shape = (rows.stop - rows.start, PLAN.nx)
    maps: dict[str, Any] = {product.name: np.full(shape, index, dtype=product.dtype) for product in MAPS}
    return BlockProducts(maps, {"residual": np.full((4, *shape), index, dtype=np.float32)}, 0)


def begun(folder: Path, chunks: int = 0) -> GalaxyStore:
    """A store with its first chunks written."""
    store = GalaxyStore(folder, "N1")
    store.begin({"fingerprint": "f"}, PLAN.rows)
    store.create([CUBE], PLAN, {"title": "test"})
    for index in range(chunks):
        store.write_chunk(index, PLAN.chunks[index], products(index))
    return store


def residual(store: GalaxyStore) -> surveys.Array:
    return np.asarray(zarr.open_group(store.store, mode="r")["residual"][...])


@pytest.mark.parametrize("damage", ["empty", "truncated", "last byte", "garbage", "flipped bit", "other shape"])
def test_a_torn_record_does_not_count(tmp_path: Path, damage: str) -> None:
    store = begun(tmp_path, chunks=3)
    path = store.chunk_file(1)
    content = bytearray(path.read_bytes())
    flipped = bytearray(content)
    flipped[content.index(b"NUMPY") + 130] ^= 4
    path.write_bytes(
        {
            "empty": b"",
            "truncated": content[: len(content) // 2],
            "last byte": content[:-1],
            "garbage": b"\x93" * 500,
            "flipped bit": bytes(flipped),
            "other shape": store.chunk_file(2).read_bytes(),
        }[damage]
    )
    assert store.finished_chunks(PLAN) == {0, 2}
    assert not path.exists()


def test_half_written_files_are_swept(tmp_path: Path) -> None:
    """Zarr's, and the record's own."""
    store = begun(tmp_path, chunks=1)
    orphans = [store.store / "residual/c/0/0/0.5f3a.partial", store.partial / "chunks/00001.partial"]
    for orphan in orphans:
        orphan.write_bytes(b"half")
    assert store.finished_chunks(PLAN) == {0}
    assert not any(orphan.exists() for orphan in orphans)


@pytest.mark.parametrize("torn", [b"", b"torn", b"\xff" * 400])
def test_a_torn_shard_is_written_anew(tmp_path: Path, torn: bytes) -> None:
    """A kill between a shard and its record: what is there must not be read, not even to be replaced."""
    store = begun(tmp_path)
    shard = store.store / "residual/c/0/1/0"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(torn)
    for index in range(3):
        store.write_chunk(index, PLAN.chunks[index], products(index))
    expected = np.repeat(np.array([0, 0, 0, 1, 1, 1, 2], dtype=np.float32)[None, :, None], 4, axis=0)
    np.testing.assert_array_equal(residual(store), np.broadcast_to(expected, (4, 7, 5)))


def test_a_chunk_that_turns_out_empty_leaves_no_old_shard(tmp_path: Path) -> None:
    store = begun(tmp_path, chunks=1)
    empty = products(0)
    empty.cubes["residual"][:] = np.nan
    store.write_chunk(0, PLAN.chunks[0], empty)
    assert not (store.store / "residual/c/0/0/0").exists()
    assert np.isnan(residual(store)[:, :3]).all()


def test_the_record_comes_after_the_shards(tmp_path: Path) -> None:
    """If a shard cannot be written the chunk is not done."""
    store = begun(tmp_path)
    with (
        mock.patch.object(zarr.Array, "__setitem__", side_effect=OSError("disk full")),
        pytest.raises(OSError, match="disk full"),
    ):
        store.write_chunk(0, PLAN.chunks[0], products(0))
    assert store.finished_chunks(PLAN) == set()


def test_rows_that_cross_a_shard_are_refused(tmp_path: Path) -> None:
    store = begun(tmp_path)
    with pytest.raises(ValueError, match="rows 1-4 are not aligned with shards of 3 rows"):
        store.write_chunk(0, slice(1, 4), products(0))


def test_what_is_not_galprotes_is_recognised(tmp_path: Path) -> None:
    store = GalaxyStore(tmp_path, "N1")
    assert store.finished_provenance() is None
    store.final.mkdir()
    assert store.finished_provenance() == {}
    for content in ("", "{}", "[1]", '{"attributes": {"provenance": 3}}', '{"attributes": {"provenance": "[1]"}}'):
        (store.final / "zarr.json").write_text(content)
        assert store.finished_provenance() == {}, content
    (store.final / "zarr.json").write_text(json.dumps({"attributes": {"provenance": '{"a": 1}'}}))
    assert store.finished_provenance() == {"a": 1}


# --- killed at any step ---


class Killed(BaseException):
    """What a kill looks like from inside: nothing after it is executed, no handler runs but the test's."""


@contextmanager
def killed_at(step: int, fatal: bool = True) -> Iterator[list[str]]:
    """Stop before the `step`-th change of a name in the file system; gives the steps taken."""
    steps: list[str] = []
    originals = {"rename": Path.rename, "replace": Path.replace, "unlink": Path.unlink, "mkdir": Path.mkdir}

    def stopping(name: str) -> Any:
        def changed(self: Path, *arguments: Any, **more: Any) -> Any:
            if fatal and len(steps) == step:
                raise Killed(name)
            steps.append(f"{name} {self.name}")
            return originals[name](self, *arguments, **more)

        return changed

    def rmtree(path: Path, **more: Any) -> None:
        if fatal and len(steps) == step and Path(path).exists():
            for file in sorted(Path(path).rglob("*.json")):  # half of it is gone, manifest included
                originals["unlink"](file)
            raise Killed("rmtree")
        steps.append(f"rmtree {Path(path).name}")
        original_rmtree(path, **more)

    original_rmtree = shutil.rmtree
    with mock.patch.multiple(Path, **{name: stopping(name) for name in originals}):
        with mock.patch("galprote.pipeline.store.shutil.rmtree", rmtree):
            yield steps


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A survey's folder: cube.fits, survey.yaml."""
    folder = tmp_path_factory.mktemp("template")
    surveys.write_cube(folder / "cube.fits", (4, 5))
    galaxy = {"name": "N1", "cube": str(folder / "cube.fits"), "products": {"light_grid": True, "figure": False}}
    surveys.write_survey(folder, [galaxy], checkpoint, chunks={"rows": 2})
    return folder


def with_settings(template: Path, folder: Path, **changed: Any) -> Path:
    """The survey in another folder, and the galaxy's settings changed."""
    survey = yaml.safe_load((template / "survey.yaml").read_text())
    survey["galaxies"][0].update(changed)
    folder.mkdir(exist_ok=True)
    path = folder / "survey.yaml"
    path.write_text(yaml.safe_dump(survey))
    return path


@pytest.fixture(scope="module")
def reference(template: Path) -> dict[str, str]:
    """What an undisturbed run gives."""
    surveys.run_here(template / "survey.yaml")
    return surveys.tree(template / "out")


def fingerprints(folder: Path) -> set[str]:
    """Fingerprints in the finished store and the FITS files beside it."""
    found = {fits.getval(path, "FINGERPR") for path in folder.glob("*.fits")}
    return found | {json.loads(zarr.open_group(folder / "N1.zarr", mode="r").attrs["provenance"])["fingerprint"]}


def run_until_killed(survey: Path, step: int, **more: Any) -> bool:
    """Whether the run was killed before it was finished. In one thread: the kill must reach the test."""

    def run(client: Any, tasks: Any, on_chunk: Any) -> None:
        for _, task in tasks:
            on_chunk(task.compute(scheduler="synchronous"))

    client = mock.MagicMock()
    client.submit.side_effect = lambda function, *arguments, pure, key: mock.Mock(
        result=mock.Mock(return_value=function(*arguments))
    )

    @contextmanager
    def cluster(**_: Any) -> Iterator[Any]:
        yield client

    try:
        with (
            mock.patch("galprote.workflows.galaxy._run_bounded", run),
            mock.patch("galprote.workflows.survey.has_gpu_workers", return_value=False),
            killed_at(step),
        ):
            results = surveys.run_here(survey, cluster=cluster, **more)
            assert [result.outcome for result in results] == ["done"], results[0].details
    except Killed:
        return True
    return False


def test_a_run_can_be_killed_before_any_step(tmp_path: Path, template: Path, reference: dict[str, str]) -> None:
    """Every rename, removal and folder in turn; a rerun then gives the very files of an undisturbed run."""
    kills = 0
    while True:
        survey = with_settings(template, tmp_path / str(kills))
        if not run_until_killed(survey, kills):
            break
        assert not (survey.parent / "out/N1.zarr").exists() or len(fingerprints(survey.parent / "out")) == 1
        assert not run_until_killed(survey, 10_000)
        assert surveys.tree(survey.parent / "out") == reference, f"killed at step {kills}"
        kills += 1
    assert kills > 15
