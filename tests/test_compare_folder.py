"""The folder of `compare`: its name, what is in it already, and what cannot be written."""

import errno
import json
from pathlib import Path
from unittest import mock

import pytest

from galprote.model.errors import ConfigError
from galprote.workflows.comparison_folder import comparison_folder
from tests.map_files import sky_header, smooth_maps, write_images, write_store
from tests.surveys import call

SHAPE = (40, 50)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("compare") / "NGC1.zarr", smooth_maps(SHAPE), sky_header(SHAPE))


def test_runs_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    """Named after the other run's folder; where that is the same, too, the second comparison is refused."""
    ours = tmp_path / "mine" / "N.zarr"
    for run in ("mine", "a/other", "b/other"):
        (tmp_path / run / "N.zarr").mkdir(parents=True)
    place = ours.parent / "compare"
    assert comparison_folder(None, ours, tmp_path / "a" / "other" / "N.zarr") == place / "N-vs-other-N"
    assert comparison_folder(None, ours, tmp_path / "a" / "other" / "N_MAPS.fits") == place / "N-vs-other-N_MAPS"
    assert comparison_folder(None, ours, ours.parent / "N_MAPS.fits") == place / "N-vs-N_MAPS"
    assert comparison_folder(None, ours, tmp_path / "N_TRUTH.fits.gz") == place / "N-vs-N_TRUTH"
    assert comparison_folder(None, ours, None) == place / "N-vs-ppxf"
    assert not place.exists()  # nothing is left of the trial
    folder = place / "N-vs-other-N"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps({"reference": str(tmp_path / "a" / "other" / "N.zarr")}))
    assert comparison_folder(None, ours, tmp_path / "a" / "other" / "N.zarr") == folder
    with pytest.raises(ConfigError, match=r"N-vs-other-N: has the comparison with .*a/other/N\.zarr; name another"):
        comparison_folder(None, ours, tmp_path / "b" / "other" / "N.zarr")
    assert comparison_folder(folder, ours, tmp_path / "b" / "other" / "N.zarr") == folder


def test_figures_of_an_earlier_comparison_go(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that its record names; what else is there stays."""
    (tmp_path / "comparison.json").write_text('{"reference": "x", "quantities": {"av": {}, "../up": {}}}')
    for name in ("av.png", "mine.png", "t50.png", "ppxf.csv"):
        (tmp_path / name).touch()
    words = ("--reference", store, "--quantity", "age_lw", "--output", tmp_path, "--quiet")
    assert call(capsys, "compare", store, *words)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "age_lw.png", "comparison.csv", "comparison.json", "mine.png", "outliers.csv", "ppxf.csv", "t50.png",
    ]  # fmt: skip


def test_a_run_s_folder_stands_for_its_store_and_names_are_no_formulas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_store(tmp_path / "run" / "NGC1.zarr", smooth_maps(SHAPE), sky_header(SHAPE))
    images = {"AGE_LW": (smooth_maps(SHAPE)["age_lw"], "log(yr)")}
    reference = write_images(tmp_path / "a$^$b.fits", images, sky_header(SHAPE))
    assert call(capsys, "compare", tmp_path / "run", "--reference", reference, "--quiet")[0] == 0
    assert (tmp_path / "run" / "compare" / "NGC1-vs-a$^$b" / "age_lw.png").is_file()


def test_a_folder_that_cannot_be_written_is_refused_before_computing(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readonly = OSError(errno.EROFS, "Read-only file system")
    with (
        mock.patch.object(Path, "touch", side_effect=readonly),
        mock.patch("galprote.workflows.map_comparison.compare_maps", side_effect=AssertionError("was computed")),
    ):
        code, _, error = call(capsys, "compare", store, "--reference", store, "--output", tmp_path / "a" / "b")
    assert code == 2
    assert f"{tmp_path}/a/b: cannot be written: Read-only file system" in error
    assert not (tmp_path / "a").exists()


def test_a_full_disk_is_said_with_its_folder(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")  # of a write: it has no name
    with mock.patch("galprote.workflows.comparison_report.write_text", side_effect=full):
        code, _, error = call(capsys, "compare", store, "--reference", store, "--output", tmp_path / "o")
    assert code == 2
    assert f"{tmp_path}/o: No space left on device" in error
