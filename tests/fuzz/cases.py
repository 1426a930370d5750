"""Cases by the hundred: damaged cubes and surveys through `inspect`, `plan` and `run`, counted."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from galprote.model.checkpoint import load_checkpoint
from galprote.model.errors import CheckpointError
from galprote.workflows.survey import GalaxyResult
from tests import cubes, surveys
from tests.fuzz import checkpoint_damage, fits_damage, harness, maps, yaml_damage
from tests.fuzz.harness import Tally

#: Spaxels of the cubes that are fuzzed by headers, and by data.
SMALL, LARGE = (3, 2), (6, 8)
#: Seconds for a run of one galaxy, which takes half of one on an idle core.
RUN_LIMIT = 20.0


def sound_cube(folder: Path) -> Path:
    """A cube of few spaxels, all of them fitted but two."""
    return surveys.write_cube(folder / "sound.fits", SMALL)


def try_files(folder: Path, checkpoint: Path, seeds: range) -> Tally:
    """Damaged FITS files through `inspect` and `plan`; a damage that `plan` accepts is left to `try_runs`."""
    tally, raw = Tally(), sound_cube(folder).read_bytes()
    case = folder / "case.fits"
    survey = surveys.write_survey(folder, [{"name": "N1", "cube": case.name}], checkpoint)
    for seed in seeds:
        kind, damaged = fits_damage.damaged_file(raw, seed)
        case.write_bytes(damaged)
        answer = harness.ask("inspect", case)
        tally.add("inspect", _seen(answer, "PROBLEM"), harness.fault(answer, case.name), f"{seed} ({kind})")
        answer = harness.ask("plan", survey)
        tally.add("plan", _seen(answer, "cannot run"), harness.fault(answer, survey.name), f"{seed} ({kind})")
    return tally


def _seen(answer: harness.Answer, problem: str) -> str:
    return f"{answer.code}, told" if answer.code == 0 and problem in answer.output else str(answer.code)


def try_data(folder: Path, seeds: range) -> Tally:
    """Cubes with damaged data through `inspect`."""
    tally = Tally()
    for seed in seeds:
        case, _ = damaged_data(folder / "data.fits", seed)
        answer = harness.ask("inspect", case)
        tally.add("inspect", answer.code, harness.fault(answer, case.name), seed)
    return tally


def damaged_data(path: Path, seed: int, spaxels: int = 16) -> tuple[Path, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Write a cube of `LARGE` with some spaxels damaged, and say which; with seed -1 none is."""
    flux, variance = (values.reshape(-1, *LARGE) for values in surveys.spectra(LARGE[0] * LARGE[1], seed=3))
    flux, variance = flux.astype(">f4"), variance.astype(">f4")
    touched = np.zeros(LARGE, dtype=bool)
    random_ = random.Random(f"data-{seed}")
    for flat in random_.sample(range(touched.size), spaxels if seed >= 0 else 0):
        where = divmod(flat, LARGE[1])
        fits_damage.damage_voxels(random_, flux, variance, where)
        touched[where] = True
    return cubes.write_muse_cube(path, flux, variance, cubes.muse_cards(surveys.FIRST_CHANNEL)), touched


def try_surveys(folder: Path, checkpoint: Path, seeds: range) -> Tally:
    """Damaged YAML through `plan`, and through `run` where that could compute nothing."""
    sound_cube(folder)
    galaxies: list[dict[str, Any]] = [
        {"name": "N1", "cube": "sound.fits", "masks": {"files": []}, "snr_min": 5.0, "line_filter": {"window": 31}},
        {"name": "N2", "mock": {"shape": [8, 8], "seed": 1}, "products": {"grid": True, "fits": False}},
    ]
    survey = surveys.write_survey(folder, galaxies, checkpoint, chunks={"memory": "2GiB", "rows": None})
    content, case, tally = yaml.safe_load(survey.read_text()), folder / "case.yaml", Tally()
    for seed in seeds:
        kind, damaged = yaml_damage.damaged_survey(content, seed)
        case.write_bytes(damaged)
        answer = harness.ask("plan", case)
        tally.add(f"plan: {kind}", _seen(answer, "cannot run"), harness.fault(answer, case.name), seed)
        if answer.code == 2:
            again = harness.ask("run", case)
            first = again.error.removeprefix("error: ").partition("\n")[0]
            same = again.error == answer.error or bool(first and first in answer.output)
            why = "" if same else f"run says something else: {again.error[:300]}"
            tally.add(f"run: {kind}", again.code, why, seed)
    return tally


def try_checkpoints(folder: Path, checkpoint: Path, seeds: range) -> Tally:
    """Damaged checkpoints: refused by `run` and `plan`, or their weights are all there and finite."""
    tally, raw = Tally(), checkpoint.read_bytes()
    sound_cube(folder)
    case = folder / "case.safetensors"
    survey = surveys.write_survey(folder, [{"name": "N1", "cube": "sound.fits"}], case)
    wanted = load_checkpoint(checkpoint)
    for seed in seeds:
        kind, damaged = checkpoint_damage.damaged_checkpoint(raw, seed)
        case.write_bytes(damaged)
        answer = harness.ask("plan", survey)
        why = harness.fault(answer, survey.name)
        try:
            with harness.limit(harness.LIMIT):
                found = load_checkpoint(case)
        except CheckpointError:
            again = harness.ask("run", survey)
            why = why or harness.fault(again, case.name) or ("" if again.code == 2 else f"run: {again.code}")
            outcome = "refused"
        except Exception as error:
            outcome, why = "crashed", f"{type(error).__name__}: {error!s:.300}"
        else:
            same = found.weights_sha256 == wanted.weights_sha256
            outcome = "same weights" if same else "other weights"
        tally.add(kind, outcome, why, seed)
    return tally


def run_batch(folder: Path, cases: dict[str, Path], checkpoint: Path) -> dict[str, GalaxyResult]:
    """Run a survey of damaged cubes, one galaxy each."""
    few = {"fits": False, "figure": False, "continuum_subtracted": True}
    galaxies: list[dict[str, Any]] = [{"name": n, "cube": str(path), "products": few} for n, path in cases.items()]
    survey = surveys.write_survey(folder, galaxies, checkpoint)
    with harness.limit(60 + RUN_LIMIT * len(cases)):
        return {result.name: result for result in surveys.run_here(survey)}


def try_runs(folder: Path, checkpoint: Path, seeds: range) -> Tally:
    """Damaged FITS files that `plan` accepts through `run`: failed clearly, or maps that obey the laws.

    Where astropy sees the same numbers in the damaged file as in the sound one, the maps must be the same to the bit.
    """
    tally, sound = Tally(), sound_cube(folder)
    raw, cases, kinds = sound.read_bytes(), {"SOUND": sound}, {}
    survey = surveys.write_survey(folder / "plan", [{"name": "N1", "cube": str(folder / "case.fits")}], checkpoint)
    for seed in seeds:
        kind, damaged = fits_damage.damaged_file(raw, seed)
        (folder / "case.fits").write_bytes(damaged)
        if "cannot run" not in harness.ask("plan", survey).output:
            path = folder / f"D{seed}.fits"
            path.write_bytes(damaged)
            cases[f"D{seed}"], kinds[f"D{seed}"] = path, kind
    results = run_batch(folder / "run", cases, checkpoint)
    output = folder / "run" / "out"
    wanted = maps.products(output / "SOUND.zarr")
    for name, kind in kinds.items():
        outcome, why = _judge(results[name], output, wanted, maps.same_meaning(cases[name], sound))
        tally.add(kind, outcome, why, name)
    return tally


def _judge(result: GalaxyResult, output: Path, wanted: dict[str, Any], same: bool) -> tuple[str, str]:
    """Outcome of a run, and what is wrong with it."""
    if result.outcome == "failed":
        return "failed", f"no clear error: {result.error[:300]}" if harness.foreign(result.error) else ""
    found = maps.products(output / f"{result.name}.zarr")
    why = maps.broken_laws(found)
    if same and not why and maps.changed_spaxels(found, wanted).any():
        why = "the same numbers gave other maps"
    return "done, same" if same else "done", why


def try_run_data(folder: Path, checkpoint: Path, seeds: range) -> Tally:
    """Damaged data through `run`: sound spaxels keep every bit, damaged ones are finite or flagged."""
    tally = Tally()
    cases = {f"D{seed}": damaged_data(folder / f"D{seed}.fits", seed) for seed in seeds}
    sound, _ = damaged_data(folder / "SOUND.fits", -1)
    paths = {"SOUND": sound} | {name: path for name, (path, _) in cases.items()}
    results = run_batch(folder, paths, checkpoint)
    wanted = maps.products(folder / "out" / "SOUND.zarr")
    for name, (_, touched) in cases.items():
        if results[name].outcome != "done":
            tally.add("spaxels", "failed", results[name].error[:300], name)
            continue
        found = maps.products(folder / "out" / f"{name}.zarr")
        why = maps.broken_laws(found)
        if (maps.changed_spaxels(found, wanted) & ~touched).any():
            why = why or "a damaged spaxel changed another one"
        answered = (found["status"].astype(np.int64) & maps.NO_ANSWER) == 0
        for flagged in ~answered[touched]:
            tally.add("spaxels", "flagged" if flagged else "fitted", why, name)
            why = ""
    return tally
