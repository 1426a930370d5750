"""The network beside two likelihood fits, on the same spectra in the same run, with the time that each takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galprote.model.bench import CLEAN_AV, FITS_SEED, Bench, clean_config, compare, parameters, predict
from galprote.model.decoder import Decoder
from galprote.model.grids import KEPT
from galprote.model.populations import grid_means
from galprote.model.rivals import Nnls, Ppxf, Rival
from galprote.model.statistics import QUANTITIES, Comparison, SuiteResult, residual_counts, rms_ratio
from galprote.model.synthesis import NoiseConfig, Synthesizer, SyntheticSpectra

FITS_SNR: Final = (20, 35, 60, 100)
#: Spectra at each signal-to-noise ratio; pPXF, the slowest, gets the first ones only.
NNLS_SPECTRA: Final = 400
PPXF_SPECTRA: Final = 50

#: Batches over which the network's time is taken.
TIMED_BATCHES: Final = 4


def fits_suite(bench: Bench) -> SuiteResult:
    """The network, NNLS and pPXF on spectra with constant Gaussian noise, at four noise levels.

    `paper`: one to five populations by the paper's recipe, which is what a sparse fit does best; `survey`: those of the
    survey stream, star-formation histories among them. A_V uniform from 0 to 1.5, no patches, no kinematics; the three
    are told the noise, the network also that the calibration is perfect (`model/rivals.py` says what the others know).
    Age and [M/H] are light-weighted means over the same grid for all. `rms_over_nnls` and `rms_over_ppxf` compare
    errors on the same spectra, with 68 % intervals. `seconds_per_spectrum` is processor time of one core: the network
    in batches of the predictor's size, the others one spectrum at a time.
    """
    result = SuiteResult()
    rivals: dict[str, tuple[Rival, int]] = {"nnls": (Nnls(bench.decoder), bench.number(NNLS_SPECTRA))}
    try:
        rivals["ppxf"] = Ppxf(bench.decoder), bench.number(PPXF_SPECTRA)
    except ImportError:
        result.remarks.append("fits: pPXF is not installed and was left out: pip install 'galprote[compare]'")
    maker = Synthesizer(bench.decoder, NoiseConfig(), FITS_SEED)
    n = bench.number(NNLS_SPECTRA)
    kinds = {"paper": maker.draw(n)[0], "survey": parameters(bench.stream(clean_config()), n)[0]}
    with one_core():
        for kind, populations in kinds.items():
            for snr in FITS_SNR:
                spectra = gaussian_spectra(maker, populations, snr)
                _compare_at(bench, rivals, spectra, f"{kind}_snr_{snr}", result)
    return result


def gaussian_spectra(maker: Synthesizer, grid: Tensor, snr: float) -> SyntheticSpectra:
    """Spectra of light-fraction grids with nothing but constant noise: at another S/N the same, only noisier."""
    maker.generator.manual_seed(FITS_SEED + 1)
    n = len(grid)
    av = CLEAN_AV * torch.rand(n, generator=maker.generator, device=maker.device)
    clean = maker.clean(grid, av)
    flux = clean + torch.randn(clean.shape, generator=maker.generator, device=maker.device) / snr
    flux = flux[:, torch.from_numpy(KEPT).to(maker.device)]
    median = flux.median(dim=1, keepdim=True).values
    noise = (1 / (snr * median)).expand_as(flux)
    rest = torch.zeros_like(av)
    norm = maker.norm(grid, av) * median[:, 0]
    return SyntheticSpectra(flux / median, clean, grid, av, rest, rest, noise, rest, clean / median, norm, rest, rest)


def _compare_at(
    bench: Bench, rivals: dict[str, tuple[Rival, int]], spectra: SyntheticSpectra, name: str, result: SuiteResult
) -> None:
    """Enter the network and each rival as a case of its own."""
    network = compare(bench.predictor, spectra, bench.decoder)
    table = result.add(f"{name}_network", network)
    table["seconds_per_spectrum"] = network_seconds(bench, spectra)
    for rival, (fit, number) in rivals.items():
        comparison, seconds = fitted(fit, spectra, number, bench.decoder)
        result.add(f"{name}_{rival}", comparison)["seconds_per_spectrum"] = seconds
        for quantity in QUANTITIES:
            table[quantity] |= ratio_entry(rival, network.error(quantity)[:number], comparison.error(quantity))


def ratio_entry(rival: str, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, Any]:
    """Ratio of the network's RMS to a rival's, with its interval, for the table."""
    ratio, (low, high) = rms_ratio(ours, theirs)
    return {f"rms_over_{rival}": {"ratio": ratio, "low": low, "high": high}}


def fitted(fit: Rival, spectra: SyntheticSpectra, number: int, decoder: Decoder) -> tuple[Comparison, float]:
    """Fit the first spectra one by one: the comparison, and seconds per spectrum."""
    flux, noise = (values[:number].double().numpy() for values in (spectra.spectra, spectra.noise))
    started = time.process_time()
    fits = [fit(*row) for row in zip(flux, noise, strict=True)]
    seconds = (time.process_time() - started) / number
    grid = torch.from_numpy(np.stack([one.grid for one in fits]).astype(np.float32))
    av = torch.tensor([one.av for one in fits], dtype=torch.float32)
    model = Synthesizer(decoder, NoiseConfig(), FITS_SEED).clean(grid, av)
    residual = flux - model.double().numpy()[:, KEPT]
    clean = (spectra.clean[:number] - model).double().numpy()[:, KEPT]
    comparison = Comparison(
        means(spectra.grid[:number], spectra.av[:number], decoder),
        means(grid, av, decoder),
        np.mean(residual**2, axis=1),
        np.mean(clean**2, axis=1),
        residual.mean(axis=1),
        residual_counts(residual),
    )
    return comparison, seconds


def means(grid: Tensor, av: Tensor, decoder: Decoder) -> dict[str, NDArray[np.float64]]:
    """Mean log age, [M/H] and A_V, each (n,) float64, of grids (n, n_metallicity, n_age) and A_V (n,)."""
    values = (*grid_means(grid.numpy(), decoder.log_ages, decoder.metallicities), av.numpy())
    return {name: value.astype(np.float64) for name, value in zip(QUANTITIES, values, strict=True)}


def network_seconds(bench: Bench, spectra: SyntheticSpectra) -> float:
    """Seconds per spectrum of the network in full batches: processor time, on a GPU the clock's."""
    clock: Callable[[], float] = time.process_time if bench.predictor.device.type == "cpu" else time.perf_counter
    n = bench.predictor.batch
    predict(bench.predictor, repeated(spectra, n), 0.0)  # the first call is slower
    timed = repeated(spectra, TIMED_BATCHES * n)
    started = clock()
    predict(bench.predictor, timed, 0.0)
    return (clock() - started) / len(timed)


def repeated(spectra: SyntheticSpectra, n: int) -> SyntheticSpectra:
    """As many spectra as wanted, by repeating a few."""
    index = torch.arange(n) % len(spectra)
    return SyntheticSpectra(**{name: values[index] for name, values in vars(spectra).items()})


@contextmanager
def one_core() -> Iterator[None]:
    """Let torch work with one thread; numpy's linear algebra heeds `OMP_NUM_THREADS` only, at its start."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
