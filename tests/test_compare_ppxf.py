"""`compare --ppxf`: the same spectra, fitted by both, with differences and times."""

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from rich.console import Console

from galprote.model.checkpoint import load_checkpoint
from galprote.model.errors import ConfigError
from galprote.model.rivals import NO_INFORMATION, MovingPpxf
from galprote.pipeline.maps import open_maps
from galprote.workflows import ppxf_comparison
from galprote.workflows.conduct import current_stop
from galprote.workflows.ppxf_report import ppxf_figure, ppxf_tables
from galprote.workflows.stop import STOPPED, StopRequest
from galprote.workflows.store_cube import find_store_cube
from tests import surveys
from tests.test_evaluation import mixture

pytest.importorskip("ppxf")


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What the command says to libraries that are not loaded yet is no concern of other tests."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A finished galaxy of 12 spaxels, template spectra of S/N 40."""
    folder = tmp_path_factory.mktemp("ppxf")
    surveys.write_cube(folder / "cube.fits", (4, 3))
    survey = surveys.write_survey(folder, [{"name": "N1", "cube": str(folder / "cube.fits")}], checkpoint)
    (result,) = surveys.run_here(survey)
    assert result.outcome == "done", result.details
    return folder / "out" / "N1.zarr"


def test_two_spectra(store: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours are the run's values, at the spaxels that the table names; all is written."""
    words = ("--ppxf", "2", "--checkpoint", checkpoint, "--cube", store.parent.parent / "cube.fits", "--seed", "3")
    code, out, error = surveys.call(capsys, "compare", store, *words)
    assert code == 0, error
    assert "galprote minus pPXF" in out
    assert "One thread each" in out
    assert os.environ["OPENBLAS_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"] == "1"
    folder = store.parent / "compare" / "N1-vs-ppxf"
    assert sorted(path.name for path in folder.iterdir()) == ["ppxf.csv", "ppxf.json", "ppxf.png"]
    record = json.loads((folder / "ppxf.json").read_text())
    assert record["spectra"] == 2
    assert record["ratio"] == pytest.approx(record["ppxf_seconds"] / record["network_seconds"])
    assert record["about"]["machine"]
    maps = open_maps(store)
    with (folder / "ppxf.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        at = {"y": int(row["y"]), "x": int(row["x"])}
        assert float(row["age_lw_galprote"]) == pytest.approx(float(maps["age_lw"].isel(at)), abs=1e-6)
        assert float(row["snr"]) == pytest.approx(float(maps["snr"].isel(at)), rel=1e-5)
        assert 0 <= float(row["av_ppxf"]) <= 3
        assert row["av_reference"] == ""
    difference = record["differences"]["age_lw"]["galprote minus pPXF"]
    expected = np.mean([float(row["age_lw_galprote"]) - float(row["age_lw_ppxf"]) for row in rows])
    assert difference["mean"] == pytest.approx(expected, abs=1e-6)


def test_ctrl_c_keeps_the_fits_that_are_done(store: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked to stop within the second fit: that ends, two are compared and written, and the exit code says stopped."""
    asked = []

    def fit(*_: object) -> tuple[float, float, float]:
        assert current_stop().patient  # or the signal would be an exception, again and again
        asked.append(1)
        if len(asked) == 2:
            current_stop().ask("SIGINT")
        return 9.0, 0.1, 0.5

    folder = store.parent / "stopped"
    words = ("--ppxf", "4", "--checkpoint", checkpoint, "--cube", store.parent.parent / "cube.fits", "--output", folder)
    with mock.patch.object(ppxf_comparison, "_ppxf", fit):
        code, out, error = surveys.call(capsys, "compare", store, *words)
    assert code == STOPPED
    assert "pPXF: stopped; 2 of 4 spectra are compared" in error
    assert "Wrote 3 files" in out
    record = json.loads((folder / "ppxf.json").read_text())
    assert (record["spectra"], record["asked"]) == (2, 4)
    assert (folder / "ppxf.png").is_file()


@pytest.mark.parametrize(("before", "at_once"), [(True, False), (False, True)])
def test_a_second_ctrl_c_or_one_before_the_first_fit_ends_it(before: bool, at_once: bool) -> None:
    stop = StopRequest()
    if before:
        stop.ask("SIGINT")

    def fit(*_: object) -> tuple[float, float, float]:
        stop.ask("SIGINT", at_once=at_once)
        return 9.0, 0.1, 0.5

    with (
        mock.patch.object(ppxf_comparison, "current_stop", return_value=stop),
        mock.patch.object(ppxf_comparison, "_ppxf", fit),
        pytest.raises(KeyboardInterrupt),
    ):
        ppxf_comparison._fits(mock.Mock(), mock.Mock(), [mock.Mock()] * 3, 600.0)
    assert not stop.patient


def test_times_are_the_processor_s_not_the_clock_s() -> None:
    """Waiting costs neither of the two anything: on a busy machine a fit that does not run would look slow."""

    def wait(*_: object) -> tuple[float, float, float]:
        time.sleep(0.2)
        return 9.0, 0.1, 0.5

    with mock.patch.object(ppxf_comparison, "_ppxf", wait):
        _, times = ppxf_comparison._fits(mock.Mock(), mock.Mock(), [mock.Mock()] * 2, 600.0)
    assert (times[:, 1] > 0.19).all()
    assert (times[:, 0] < 0.1).all()
    spectra = mock.Mock(batch=mock.Mock(spectra=np.ones((1, 5)), noise=np.ones((1, 5))))
    network = mock.Mock(side_effect=wait, batch=1)
    processor, clock = ppxf_comparison._network_seconds(network, [spectra])
    assert clock * ppxf_comparison.TIMED_BATCHES > 0.19
    assert processor * ppxf_comparison.TIMED_BATCHES < 0.1

    def work(*_: object) -> tuple[float, float, float]:
        while time.process_time() < until:
            pass
        return 9.0, 0.1, 0.5

    until = time.process_time() + 0.2
    with mock.patch.object(ppxf_comparison, "_ppxf", work):
        _, times = ppxf_comparison._fits(mock.Mock(), mock.Mock(), [mock.Mock()], 600.0)
    assert times[0, 0] > 0.15


def test_large_numbers_have_separators() -> None:
    n = 1296
    spaxels, values = np.arange(n), {name: np.zeros(n) for name in ppxf_comparison.QUANTITIES}
    found = ppxf_comparison.PpxfComparison(
        "N1", n, 1, "spaxels", spaxels, spaxels, spaxels, np.ones(n), values, values, values, values,
        np.ones(n), np.ones(n), 1e-3, 1e-3, 256, "truth.fits", True,
        {"ppxf": "9", "precision": "float32", "machine": "here"},
    )  # fmt: skip
    console = Console(width=160, file=io.StringIO())
    for part in ppxf_tables(found):
        console.print(part)
    text = console.file.getvalue() + ppxf_figure(found)._suptitle.get_text()
    assert text.count("1,296 spaxels") == 2
    assert text.count("1,296") == 2 + 3 * 3
    assert "1296" not in text


def test_ppxf_that_finds_the_motion_finds_the_rest() -> None:
    """The weights' own templates, at S/N 10,000, with samples that are masked: told by a noise, as `compare` does."""
    decoder = load_checkpoint().decoder
    truth, flux, noise = mixture(decoder, 0.73, 1e4)
    flux[100:110] += 1.0
    noise[100:110] = NO_INFORMATION
    found = MovingPpxf(decoder, 3.0)(flux, noise)
    assert found.av == pytest.approx(0.73, abs=0.02)
    grids = found.grid, truth.grid[0].numpy()
    means = [(grid.sum(0) @ decoder.log_ages, grid.sum(1) @ decoder.metallicities) for grid in grids]
    np.testing.assert_allclose(means[0], means[1], atol=0.03)


def test_one_thread_is_told_before_numpy_is_there() -> None:
    """Linear algebra reads its number of threads once: a command that had imported numpy would come too late."""
    words = "import sys, galprote.workflows.cli; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0


def test_spectra_are_chosen_over_the_whole_range_of_snr(store: Path) -> None:
    maps = open_maps(store).load()
    snr = np.sort(maps["snr"].values[np.isfinite(maps["age_lw"].values)])
    for seed in range(10):  # one choice of three could be right by chance
        chosen = ppxf_comparison._choose(maps, 3, seed, None)
        thirds = np.searchsorted(snr, np.sort(maps["snr"].values[chosen.y, chosen.x])) * 3 // len(snr)
        np.testing.assert_array_equal(thirds, [0, 1, 2])
    chosen = ppxf_comparison._choose(maps, 3, 1, None)
    again = ppxf_comparison._choose(maps, 3, 1, None)
    np.testing.assert_array_equal(again.y, chosen.y)
    everything = ppxf_comparison._choose(maps, 1000, 1, None)
    assert len(everything.y) == len(snr)


def test_bins_are_chosen_whole(store: Path) -> None:
    """Each bin at most once, with all of its spaxels; the reference there is its mean."""
    maps = open_maps(store).load()
    fitted = np.isfinite(maps["age_lw"].values)
    maps["bin_id"] = (("y", "x"), np.where(fitted, np.arange(4)[:, None] // 2 + 10, -1).astype(np.int32))
    chosen = ppxf_comparison._choose(maps, 5, 1, None)
    assert chosen.places == "bins"
    assert sorted(chosen.bins) == [10, 11]
    for number, (y, x) in zip(chosen.bins, chosen.members, strict=True):
        np.testing.assert_array_equal(maps["bin_id"].values == number, _painted(y, x))
    theirs = np.arange(12.0).reshape(4, 3)
    item = mock.Mock(theirs_only=theirs)
    item.quantity.name = "av"
    found = ppxf_comparison._reference(mock.Mock(compared=(item,)), "av", chosen.members)
    np.testing.assert_allclose(found, [theirs[maps["bin_id"].values == number].mean() for number in chosen.bins])


def _painted(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    image = np.zeros((4, 3), dtype=bool)
    image[y, x] = True
    return image


def test_what_is_missing_is_said_first(store: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = store.parent / "compare" / "N1-vs-nothing"
    with mock.patch.object(ppxf_comparison, "find_spec", return_value=None):
        code, _, error = surveys.call(capsys, "compare", store, "--ppxf", "2")
    assert code == 2
    assert "pip install 'galprote[compare]'" in error
    code, _, error = surveys.call(capsys, "compare", store, "--ppxf", "2")
    assert code == 2
    assert "was made with other weights" in error
    code, _, error = surveys.call(
        capsys, "compare", store, "--ppxf", "2", "--cube", "nowhere.fits", "--output", nothing
    )
    assert code == 2
    assert "--cube nowhere.fits: no such file" in error
    assert not nothing.exists()


def test_the_cube_is_found_where_the_run_had_it(tmp_path: Path) -> None:
    store, cube = tmp_path / "out" / "N1.zarr", tmp_path / "cubes" / "c.fits"
    for folder in (store, cube.parent):
        folder.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"the cube that it was made from, c\.fits, was not found"):
        find_store_cube(store, "N1", "c.fits")
    cube.touch()
    (store.parent / "run.json").write_text(json.dumps({"galaxies": [{"name": "N1", "cube": str(cube)}]}))
    assert find_store_cube(store, "N1", "c.fits") == cube
    (store.parent / "run.json").write_text("{}")
    (store.parent / "mock").mkdir()
    (store.parent / "mock" / "c.fits").touch()
    assert find_store_cube(store, "N1", "c.fits") == store.parent / "mock" / "c.fits"
    assert find_store_cube(store, "N1", "c.fits", cube) == cube
