"""Some spectra of a galaxy, fitted by the network and by pPXF: the same spectra, masks, noise, templates and core."""

import json
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import Decoder
from galprote.model.errors import ConfigError
from galprote.model.fits import one_core
from galprote.model.populations import grid_means
from galprote.model.predictor import Predictor, shared_predictor
from galprote.model.rivals import NO_INFORMATION, MovingPpxf
from galprote.pipeline.maps import open_maps
from galprote.workflows.conduct import current_stop
from galprote.workflows.map_comparison import MapComparison
from galprote.workflows.refit import Refits, Refitter
from galprote.workflows.store_cube import find_store_cube, unpacking_words
from galprote.workflows.terminal import errors, say

Array = NDArray[np.float64]
Numbers = NDArray[np.integer[Any]]
#: What is compared, by the names of the maps: dex, dex, mag.
QUANTITIES: Final = ("age_lw", "metallicity_lw", "av")
#: Batches over which the network's time is taken.
TIMED_BATCHES: Final = 4


@dataclass(frozen=True)
class PpxfComparison:
    """Fits of n spectra.

    Attributes
    ----------
    galaxy : str
    asked, seed : int
    places : {"spaxels", "bins"}
    y, x, bins : (n,) int
        The spaxel, or one of the bin's; the bin (-1: none).
    snr : (n,) float64
    ours, ours_error, ppxf, reference : dict of (n,) float64
        By `QUANTITIES`; the reference is NaN where there is none.
    seconds, clock_seconds : (n,) float64
        Processor and wall-clock time of each pPXF fit.
    network_seconds, network_clock_seconds : float
        Of the network for a spectrum, errors and trust included, in batches.
    batch : int
    reference_name : str
        '' without a reference.
    truth : bool
    about : dict of str to str
        Machine, versions, precision.
    """

    galaxy: str
    asked: int
    seed: int
    places: str
    y: Numbers
    x: Numbers
    bins: Numbers
    snr: Array
    ours: dict[str, Array]
    ours_error: dict[str, Array]
    ppxf: dict[str, Array]
    reference: dict[str, Array]
    seconds: Array
    clock_seconds: Array
    network_seconds: float
    network_clock_seconds: float
    batch: int
    reference_name: str
    truth: bool
    about: dict[str, str]


def open_refitter(store: Path, cube: Path | None = None, checkpoint: Path | None = None) -> Refitter:
    """Refuse before anything is computed, or open what the spectra are fitted again with.

    Parameters
    ----------
    store : Path
        A finished `<name>.zarr`.
    cube, checkpoint : Path, optional
        By default the cube is where the run found it, the weights are the shipped ones.

    Raises
    ------
    ConfigError
        If pPXF is not installed, or the cube is not there.
    CubeError, CheckpointError, MapsError
        If the cube or the weights are not those of the run, or the store is not a finished one.
    """
    if find_spec("ppxf") is None:
        raise ConfigError(
            "--ppxf: pPXF is not installed: pip install 'galprote[compare]' (from a clone: pip install '.[compare]'; "
            "free for non-commercial use)"
        )
    maps = open_maps(store)
    if "provenance" not in maps.attrs:
        raise ConfigError(f"--ppxf: {store} does not say how it was made: give the store, NAME.zarr")
    file = json.loads(maps.attrs["provenance"])["input"]["file"]
    path = find_store_cube(store, str(maps.attrs["galaxy"]), file, cube)
    if words := unpacking_words(path):
        say(words)
    return Refitter(store, path, checkpoint)


def fit_both(
    refitter: Refitter, number: int, seconds: float, seed: int, comparison: MapComparison | None = None
) -> PpxfComparison:
    """Fit some spectra twice.

    Parameters
    ----------
    refitter : Refitter
        From `open_refitter`.
    number : int
        Spectra: of each of so many ranges of signal-to-noise ratio with equally many spaxels (or bins), one at random.
    seconds : float
        No fit begins after so long; those that are done are compared.
    seed : int
        Of the choice.
    comparison : MapComparison, optional
        With a reference: its values at the same places are compared, too.

    Raises
    ------
    ConfigError
        If there are no spectra to fit, or none was in time.
    """
    maps, checkpoint = refitter.maps, refitter.checkpoint
    chosen = _choose(maps, number, seed, comparison)
    spectra = _spectra(refitter, chosen)
    decoder = load_checkpoint(checkpoint).decoder
    predictor = shared_predictor(checkpoint, refitter.record["checkpoint_sha256"], "cpu", refitter.record["precision"])
    with one_core():  # of linear algebra the command has taken care before numpy was imported
        fit = MovingPpxf(decoder, float(predictor.model.av_classes[-1]))
        found, times = _fits(fit, decoder, spectra, seconds)
        network = _network_seconds(predictor, spectra)
    n = len(times)
    if not n:
        raise ConfigError("--ppxf-seconds: not one fit was done in that time")
    reference, ours, ours_error = {}, {}, {}
    for name in QUANTITIES:
        ours[name] = np.array([_ours(refits, name) for refits in spectra[:n]])
        ours_error[name] = np.array([_ours(refits, f"{name}_error") for refits in spectra[:n]])
        reference[name] = _reference(comparison, name, chosen.members[:n])
    any_reference = comparison is not None and any(np.isfinite(values).any() for values in reference.values())
    return PpxfComparison(
        galaxy=str(maps.attrs["galaxy"]), asked=number, seed=seed, places=chosen.places,
        y=chosen.y[:n], x=chosen.x[:n], bins=chosen.bins[:n],
        snr=np.array([float(refits.snr[0]) for refits in spectra[:n]]),
        ours=ours, ours_error=ours_error, ppxf={name: found[k][:n] for k, name in enumerate(QUANTITIES)},
        reference=reference, seconds=times[:, 0], clock_seconds=times[:, 1],
        network_seconds=network[0], network_clock_seconds=network[1], batch=predictor.batch,
        reference_name=comparison.reference.path.name if comparison is not None and any_reference else "",
        truth=comparison is not None and comparison.reference.truth,
        about=_about(refitter),
    )  # fmt: skip


@dataclass(frozen=True)
class _Chosen:
    """Places whose spectra are fitted: a spaxel each, or all spaxels of a bin."""

    places: str
    y: Numbers
    x: Numbers
    bins: Numbers
    members: tuple[tuple[Numbers, ...], ...]


def _choose(maps: Any, number: int, seed: int, comparison: MapComparison | None) -> _Chosen:
    """One place at random from each of `number` ranges of S/N with equally many."""
    status, snr = maps["status"].values, maps["snr"].values.astype(np.float64)
    usable = ((status & int(maps["status"].attrs["unreliable_bits"])) == 0) & np.isfinite(snr)
    if comparison is not None:
        usable &= np.isfinite(comparison.compared[0].ours)
    y, x = np.nonzero(usable)
    bins = maps["bin_id"].values[y, x].astype(np.int64) if "bin_id" in maps else np.full(len(y), -1)
    if "bin_id" in maps:
        _, first = np.unique(bins, return_index=True)
    else:
        first = np.arange(len(y))
    if not len(first):
        raise ConfigError("--ppxf: no spaxel was fitted and is trusted: there is nothing to fit again")
    ordered = first[np.argsort(snr[y[first], x[first]], kind="stable")]
    rng = np.random.default_rng(seed)
    parts = np.array_split(ordered, min(number, len(ordered)))
    picked = rng.permutation([int(rng.choice(part)) for part in parts])  # a time limit cuts at no end of the S/N
    members = tuple(
        np.nonzero(maps["bin_id"].values == bins[k]) if bins[k] >= 0 else (y[k : k + 1], x[k : k + 1]) for k in picked
    )
    return _Chosen("bins" if "bin_id" in maps else "spaxels", y[picked], x[picked], bins[picked], members)


def _spectra(refitter: Refitter, chosen: _Chosen) -> list[Refits]:
    """The spectra as the network gets them, with its fits."""
    found = []
    for y, x in chosen.members:
        if len(y) == 1:
            found.append(refitter.spaxels(y, x))
        else:
            found.append(refitter.region(y, x))
    return found


def _fits(fit: MovingPpxf, decoder: Decoder, spectra: list[Refits], limit: float) -> tuple[Array, Array]:
    """Quantities (3, n), and processor and wall-clock time (m, 2) of the m <= n fits that were done in time.

    A signal lets the fit under way finish, and those that are done are compared; a second one drops them.
    """
    stop = current_stop()
    values = np.full((len(QUANTITIES), len(spectra)), np.nan)
    times: list[tuple[float, float]] = []
    columns = (TextColumn("pPXF"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    began, of = time.monotonic(), f"of {len(spectra):,} spectra"
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("pPXF", total=len(spectra))
        stop.patient, stop.under_way = True, 1
        try:
            for number, refits in enumerate(spectra):
                if stop.requested:
                    break
                if time.monotonic() - began > limit:
                    text = f"pPXF: stopped after {limit:g} s (--ppxf-seconds), with {number:,} {of}"
                    errors.print(text, highlight=False, soft_wrap=True)
                    break
                start = time.process_time(), time.perf_counter()
                values[:, number] = _ppxf(fit, decoder, refits)
                times.append((time.process_time() - start[0], time.perf_counter() - start[1]))
                progress.advance(task)
        finally:
            stop.patient, stop.under_way = False, 0
    if stop.requested and (stop.at_once or not times):
        raise KeyboardInterrupt
    if stop.requested:
        errors.print(f"pPXF: stopped; {len(times):,} {of} are compared")
    return values, np.array(times).reshape(-1, 2)


def _ppxf(fit: MovingPpxf, decoder: Decoder, refits: Refits) -> tuple[float, float, float]:
    """Mean log age, [M/H] and A_V of one spectrum; NaN if the network was not given it."""
    if not len(refits.batch.spectra):
        return np.nan, np.nan, np.nan
    flux, noise = (values[0].astype(np.float64) for values in (refits.batch.spectra, refits.batch.noise))
    found = fit(flux, np.where(np.isfinite(noise), noise, NO_INFORMATION))
    log_age, metallicity = grid_means(found.grid[None], decoder.log_ages, decoder.metallicities)
    return float(log_age[0]), float(metallicity[0]), found.av


def _network_seconds(predictor: Predictor, spectra: list[Refits]) -> tuple[float, float]:
    """Processor and wall-clock time of the network for a spectrum: the same ones over and over, in full batches."""
    flux, noise = (np.concatenate([getattr(one.batch, name) for one in spectra]) for name in ("spectra", "noise"))
    n = predictor.batch
    rows = np.arange(TIMED_BATCHES * n) % len(flux)
    predictor(flux[rows[:n]], noise[rows[:n]], 0.01)  # the first call is slower
    start = time.process_time(), time.perf_counter()
    predictor(flux[rows], noise[rows], 0.01)
    return (time.process_time() - start[0]) / len(rows), (time.perf_counter() - start[1]) / len(rows)


def _ours(refits: Refits, name: str) -> float:
    named = {"age_lw": "log_age", "metallicity_lw": "metallicity", "av": "av"}
    base = name.removesuffix("_error")
    return float(getattr(refits.populations, named[base] + name[len(base) :])[0])


def _reference(comparison: MapComparison | None, name: str, members: tuple[tuple[Numbers, ...], ...]) -> Array:
    """The reference at each place; of a bin the mean of what it has there."""
    for item in comparison.compared if comparison is not None else ():
        if item.quantity.name == name:
            there = [item.theirs_only[y, x] for y, x in members]
            return np.array([float(np.mean(part[np.isfinite(part)])) if np.isfinite(part).any() else np.nan
                             for part in there])  # fmt: skip
    return np.full(len(members), np.nan)


def _about(refitter: Refitter) -> dict[str, str]:
    """What it was measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        cpu = platform.processor() or platform.machine()
    note = {"note": refitter.note} if refitter.note else {}
    versions = {name: version(name) for name in ("galprote", "ppxf", "torch", "numpy", "scipy")}
    return {"machine": cpu, "precision": str(refitter.record["precision"]), **versions, **note}
