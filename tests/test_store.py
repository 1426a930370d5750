"""Files while they grow: whatever is torn is thrown away, and a run that is killed at any step can go on."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import yaml
import zarr
from astropy.io import fits

from galprote.pipeline.block import BlockProducts
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.products import MAPS
from galprote.pipeline.store import CubeArray, GalaxyStore
from galprote.workflows.publish import publish_products
from galprote.workflows.work import GalaxyWork
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


@pytest.mark.parametrize("later", [False, True])
def test_half_written_files_are_swept(tmp_path: Path, later: bool) -> None:
    """Zarr's and the record's own: of an earlier run at the start, of this run's dead workers at the end."""
    store = begun(tmp_path, chunks=3)
    orphans = [store.store / "residual/c/0/0/0.5f3a.partial", store.partial / "chunks/00001.partial"]
    for orphan in orphans:
        orphan.write_bytes(b"half")
    if later:
        store.assemble(PLAN, {product.name: {} for product in MAPS}, {})
    else:
        assert store.finished_chunks(PLAN) == {0, 1, 2}
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
def killed_at(step: int) -> Iterator[list[str]]:
    """Stop before the `step`-th change of a name in the file system; gives the steps taken."""
    steps: list[str] = []
    originals = {"rename": Path.rename, "replace": Path.replace, "unlink": Path.unlink, "mkdir": Path.mkdir}

    def stopping(name: str) -> Any:
        def changed(self: Path, *arguments: Any, **more: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():  # zarr's
                return originals[name](self, *arguments, **more)
            if len(steps) == step:
                raise Killed(name)
            steps.append(f"{name} {self.name}")
            return originals[name](self, *arguments, **more)

        return changed

    def rmtree(path: Path, **more: Any) -> None:
        if len(steps) == step:
            for file in sorted(Path(path).rglob("*.json")):  # half of it is gone, manifest included
                originals["unlink"](file)
            raise Killed("rmtree")
        steps.append(f"rmtree {Path(path).name}")
        original_rmtree(path, **more)

    original_rmtree = shutil.rmtree
    with (
        mock.patch.multiple(Path, **{name: stopping(name) for name in originals}),
        mock.patch("shutil.rmtree", rmtree),
    ):
        yield steps


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A survey's folder: cube.fits, survey.yaml, and the products in out/."""
    folder = tmp_path_factory.mktemp("template")
    surveys.write_cube(folder / "cube.fits", (2, 5))
    galaxy = {"name": "N1", "cube": str(folder / "cube.fits"), "products": {"figure": False}}
    path = surveys.write_survey(folder, [galaxy], checkpoint, chunks={"rows": 1})
    assert run_until_killed(path, NEVER) == "done"
    return folder


def variant(template: Path, folder: Path, **changed: Any) -> Path:
    """The survey in another folder, and the galaxy's settings changed."""
    survey = yaml.safe_load((template / "survey.yaml").read_text())
    survey["galaxies"][0].update(changed)
    folder.mkdir(exist_ok=True)
    path = folder / "survey.yaml"
    path.write_text(yaml.safe_dump(survey))
    return path


def fingerprints(folder: Path) -> set[str]:
    """Fingerprints in the finished store, if it is there, and the FITS files."""
    provenance = GalaxyStore(folder, "N1").finished_provenance()
    found = {provenance["fingerprint"]} if provenance else set()
    return found | {fits.getval(path, "FINGERPR") for path in folder.glob("*.fits")}


NEVER = 10_000


class Inline:
    """An executor that does things at once, in this thread."""

    def __init__(self, *_: Any, **more: Any) -> None:
        pass

    def submit(self, function: Any, *arguments: Any) -> Any:
        return mock.Mock(result=mock.Mock(return_value=function(*arguments)))

    def shutdown(self, **_: Any) -> None:
        pass


def run_until_killed(survey: Path, step: int, **more: Any) -> str:
    """Run in one thread, without Dask's workers: a kill must reach the test. Gives the outcome, or "killed"."""

    def run(_: Any, galaxies: Iterator[GalaxyWork]) -> None:
        for work in galaxies:
            for index in work.chunks:
                work.done(work.phase.graph.task(index).compute(scheduler="synchronous"))
            job = work.job
            work.ended(publish_products(job.store, job.plan, work.opened.layout, job.galaxy.products, job.cube_path))

    client = mock.MagicMock(dashboard_link="")
    client.scheduler_info.return_value = {"workers": {}}
    try:
        with (
            mock.patch("galprote.workflows.survey.Dispatcher.run", run),
            mock.patch("galprote.workflows.survey.check_workers"),
            mock.patch("galprote.workflows.survey.ThreadPoolExecutor", Inline),
            killed_at(step),
        ):
            (result,) = surveys.run_here(survey, cluster=lambda **_: nullcontext(client), **more)
    except Killed:
        return "killed"
    assert result.outcome != "failed", result.details
    return result.outcome


def test_a_run_can_be_killed_before_any_step(tmp_path: Path, template: Path) -> None:
    """Every rename, removal and folder in turn; a rerun then gives the very files of an undisturbed run."""
    undisturbed = surveys.tree(template / "out")
    kills = 0
    while run_until_killed(survey := variant(template, tmp_path / str(kills)), kills) == "killed":
        output = survey.parent / "out"
        assert not (output / "N1.zarr").exists() or surveys.tree(output / "N1.zarr") == surveys.tree(
            template / "out" / "N1.zarr"
        ), f"killed before step {kills}: the store has its name and is not finished"
        run_until_killed(survey, NEVER)
        assert surveys.tree(output) == undisturbed, f"killed before step {kills}"
        kills += 1
    assert kills > 15


def test_replacing_can_be_killed_before_any_step(tmp_path: Path, template: Path) -> None:
    """Files of the old and of the new run never stand beside a finished store; in the end nothing old is left."""
    new = {"snr_min": 0.0, "products": {"residual": False, "figure": False}}
    fresh = variant(template, tmp_path / "fresh", **new)
    run_until_killed(fresh, NEVER)
    expected = surveys.tree(tmp_path / "fresh" / "out")
    assert not any("RESIDUAL" in name for name in expected)
    step, killed = 12, True  # what comes before is as in any run
    while killed:
        survey = variant(template, tmp_path / str(step), **new)
        output = survey.parent / "out"
        shutil.copytree(template / "out", output)
        killed = run_until_killed(survey, step, overwrite=True) == "killed"
        assert len(fingerprints(output)) == 1 or not (output / "N1.zarr").exists(), f"killed before step {step}"
        run_until_killed(survey, NEVER, overwrite=True)
        assert surveys.tree(output) == expected, f"killed before step {step}"
        step += 1
    assert step > 18
