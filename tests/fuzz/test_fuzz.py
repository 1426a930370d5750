"""Bad input by the hundred through `inspect`, `plan` and `run`: results or clear errors, never a hang or a wrong map.

The long form, `pytest -m slow tests/fuzz -s`, tries as many cases of each kind as GALPROTE_FUZZ_CASES says, and prints
what came out.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from galprote.model.errors import ConfigError
from galprote.pipeline.masks import read_spatial_mask
from tests import cubes, surveys
from tests.fuzz import cases, fits_damage, harness, maps
from tests.fuzz.harness import Tally

CASES = int(os.environ.get("GALPROTE_FUZZ_CASES", "1000"))
#: Seeds of the long form: none of the quick one's.
FIRST = int(os.environ.get("GALPROTE_FUZZ_FIRST", "100000"))
#: Cases for which a run is made together: each takes half a second and a megabyte of disk.
BATCH = 200


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.safetensors", refined=True)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed cubes are unpacked into the temporary folder."""
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "unpacked"))


def judge(tally: Tally, title: str) -> None:
    print(tally.table(title))
    assert not tally.faults, "\n".join([f"{len(tally.faults)} cases went wrong", *tally.faults[:20]])


# --- a few hundred cases, always ---


def test_damaged_files_are_described_or_refused(tmp_path: Path, checkpoint: Path) -> None:
    judge(cases.try_files(tmp_path, checkpoint, range(170)), "FITS files")


def test_damaged_data_are_described(tmp_path: Path) -> None:
    judge(cases.try_data(tmp_path, range(25)), "data")


def test_damaged_surveys_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    judge(cases.try_surveys(tmp_path, checkpoint, range(195)), "surveys")


def test_damaged_checkpoints_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    judge(cases.try_checkpoints(tmp_path, checkpoint, range(72)), "checkpoints")


def test_runs_of_damaged_files_fail_clearly_or_make_the_right_maps(tmp_path: Path, checkpoint: Path) -> None:
    tally = cases.try_runs(tmp_path, checkpoint, range(34))
    judge(tally, "runs")
    assert sum(count for (_, outcome), count in tally.counts.items() if outcome == "done, same") > 5


def test_damaged_spaxels_leave_all_others_as_they_are(tmp_path: Path, checkpoint: Path) -> None:
    tally = cases.try_run_data(tmp_path, checkpoint, range(4))
    judge(tally, "data")
    assert tally.counts["spaxels", "fitted"] > 10
    assert tally.counts["spaxels", "flagged"] > 10


# --- what random numbers would hardly find ---


def test_the_laws_are_no_empty_words(tmp_path: Path, checkpoint: Path) -> None:
    """A map with an infinity, with a value too many, and with another bit is noticed."""
    cases.run_batch(tmp_path, {"A": cases.sound_cube(tmp_path)}, checkpoint)
    found = maps.products(tmp_path / "out" / "A.zarr")
    assert maps.broken_laws(found) == ""
    assert not maps.changed_spaxels(found, found).any()
    infinite = found | {"flux": np.where(np.arange(6).reshape(3, 2) == 1, np.float32(np.inf), found["flux"])}
    assert "flux holds infinities" in maps.broken_laws(infinite)
    assert maps.changed_spaxels(found, infinite).sum() == 1
    unflagged = found | {"status": np.zeros_like(found["status"])}
    assert "is not finite" in maps.broken_laws(unflagged)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("NAXIS1", "1000000000000"), ("NAXIS3", "-5"), ("NAXIS", "1000000000"), ("BITPIX", "7"), ("BSCALE", "0"),
     ("CRVAL3", "NaN"), ("CD3_3", "1E400"), ("BUNIT", "'10**(-99999)*erg'"), ("CTYPE1", "'RA---XXX'")],
)  # fmt: skip
def test_absurd_values_are_refused(tmp_path: Path, checkpoint: Path, keyword: str, value: str) -> None:
    parts = fits_damage.parts_of(cases.sound_cube(tmp_path).read_bytes())
    parts.headers[1] = [card for card in parts.headers[1] if card[:8].strip() != keyword.encode()]
    where = 4 if keyword.startswith("NAXIS") else 2 if keyword == "BITPIX" else len(parts.headers[1])
    parts.headers[1].insert(where, fits_damage.card(keyword, value))
    (tmp_path / "case.fits").write_bytes(parts.to_bytes())
    survey = surveys.write_survey(tmp_path, [{"name": "N1", "cube": "case.fits"}], checkpoint)
    for answer in (harness.ask("inspect", tmp_path / "case.fits"), harness.ask("plan", survey)):
        assert harness.fault(answer, "") == ""
        assert answer.code == 2 or "PROBLEM" in answer.output or "cannot run" in answer.output


def test_noise_is_never_taken_for_flux(tmp_path: Path) -> None:
    """Where the HDU with the flux is lost."""
    parts = fits_damage.parts_of(cases.sound_cube(tmp_path).read_bytes())
    del parts.headers[1], parts.data[1]
    (tmp_path / "case.fits").write_bytes(parts.to_bytes())
    answer = harness.ask("inspect", tmp_path / "case.fits")
    assert "there is no image of fluxes" in answer.output


def test_blank_integers_are_missing_and_change_nothing_else(tmp_path: Path, checkpoint: Path) -> None:
    flux, variance = (values.reshape(-1, 3, 4) for values in surveys.spectra(12, seed=5))
    paths = {}
    for name, blank in (("SOUND", False), ("BLANKS", True)):
        stored = np.round(flux * 10).astype(np.int32)
        if blank:
            stored[:, 1, 1], stored[:300, 2, 3] = -(2**31), -(2**31)
        cards = cubes.muse_cards(surveys.FIRST_CHANNEL) | {"BSCALE": 0.1, "BLANK": -(2**31)}
        paths[name] = cubes.write_muse_cube(tmp_path / f"{name}.fits", stored, variance, cards, dtype=">i4")
    assert {result.outcome for result in cases.run_batch(tmp_path, paths, checkpoint).values()} == {"done"}
    sound, blanks = (maps.products(tmp_path / "out" / f"{name}.zarr") for name in paths)
    assert maps.broken_laws(blanks) == ""
    assert maps.changed_spaxels(sound, blanks).tolist() == [
        [False] * 4,
        [False, True, False, False],
        [False] * 3 + [True],
    ]
    assert blanks["status"][1, 1] == 1


def test_damaged_masks_are_refused_or_read(tmp_path: Path) -> None:
    mask = tmp_path / "mask.fits"
    fits.PrimaryHDU(np.eye(6, dtype=np.int16)).writeto(mask)
    raw, read, errors = mask.read_bytes(), 0, []
    for seed in range(170):
        mask.write_bytes(fits_damage.damaged_file(raw, seed)[1])
        try:
            with harness.limit(harness.LIMIT):
                excluded = read_spatial_mask(mask, (6, 6))
        except ConfigError as error:
            errors.append(str(error))
        else:
            assert (excluded.dtype, excluded.shape) == (np.dtype(bool), (6, 6))
            read += 1
    assert read > 20
    assert len(errors) > 20
    assert all(error.startswith(f"spatial mask {mask}: ") for error in errors)


def test_folders_and_files_that_may_not_be_read(tmp_path: Path, checkpoint: Path) -> None:
    folder = tmp_path / "folder.fits"
    folder.mkdir()
    survey = surveys.write_survey(tmp_path, [{"name": "N1", "cube": folder.name}], checkpoint)
    for words in (("inspect", folder), ("plan", folder), ("run", folder), ("run", survey), ("plan", survey)):
        answer = harness.ask(*words)
        assert harness.fault(answer, "folder.fits" if answer.code else "") == ""


def test_files_that_may_not_be_read(checkpoint: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name, harness.unprivileged(Path(name)):
        survey = surveys.write_survey(Path(name), [{"name": "N1", "cube": "cube.fits"}], checkpoint)
        for closed, word in (("closed.fits", "inspect"), ("closed.yaml", "plan")):
            shutil.copy(survey, Path(name, closed))
            Path(name, closed).chmod(0)
            answer = harness.ask(word, Path(name, closed))
            assert answer.code == 2
            assert harness.fault(answer, closed) == ""


# --- thousands of cases ---


def batches(count: int) -> list[range]:
    return [range(FIRST + start, FIRST + min(start + BATCH, count)) for start in range(0, count, BATCH)]


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", ["files", "data", "surveys", "checkpoints", "runs", "run data"])
def test_thousands(kind: str, tmp_path: Path, checkpoint: Path) -> None:
    """Six kinds, each with GALPROTE_FUZZ_CASES cases (a twentieth of the cubes with damaged data, 16 spaxels each)."""
    attempts: dict[str, Callable[[Path, range], Tally]] = {
        "files": lambda folder, seeds: cases.try_files(folder, checkpoint, seeds),
        "data": cases.try_data,
        "surveys": lambda folder, seeds: cases.try_surveys(folder, checkpoint, seeds),
        "checkpoints": lambda folder, seeds: cases.try_checkpoints(folder, checkpoint, seeds),
        "runs": lambda folder, seeds: cases.try_runs(folder, checkpoint, seeds),
        "run data": lambda folder, seeds: cases.try_run_data(folder, checkpoint, seeds),
    }
    tally = Tally()
    for number, seeds in enumerate(batches(CASES // 20 if kind == "run data" else CASES)):
        folder = tmp_path / str(number)
        folder.mkdir()
        some = partial(attempts[kind], folder)(seeds)
        tally.counts.update(some.counts)
        tally.faults += some.faults
        shutil.rmtree(folder)
    judge(tally, kind)
