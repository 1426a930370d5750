"""How many samples wavelength masks may take: the same spectra with more and more of them masked.

    python benchmarks/masks.py [--spectra 1000]

Clean spectra of the survey's populations (`galprote.model.bench`), at signal-to-noise ratios of 20 and 60 per sample.
Root mean square errors, how many truths lie within one error, and how many spectra are not
trusted. First the shares of samples that the network had to do without in training.
"""

from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray

from galprote.model.appraisal import sigmas
from galprote.model.bench import Bench, clean_config, observed, parameters, predict
from galprote.model.checkpoint import load_checkpoint
from galprote.model.grids import KEPT, N_KEPT, STEP, WAVELENGTH
from galprote.model.populations import APPRAISED, grid_means
from galprote.model.predictor import Predictor
from galprote.model.stream import TrainingStream
from galprote.model.synthesis import seen_through
from galprote.model.training_config import read_training_config
from galprote.pipeline.spectral_masks import WavelengthMasks, masked_samples, merged

RECIPE: Final = Path(__file__).parents[1] / "configs" / "train" / "survey.yaml"
REDSHIFT: Final = 0.008
BAND_A: Final = 30.0
SHARES: Final = (0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50)
#: Of one wide band, samples.
WIDTHS: Final = (40, 80, 120, 160, 200)
#: Lines of nGIST's specMask_KIN in the window, each 30 A wide: rest frame, and sky.
NGIST_REST: Final = (
    4740.10, 4861.32, 4958.83, 5006.77, 5197.90, 5200.39, 5875.60, 5890.00, 5896.00,
    6300.20, 6363.67, 6547.96, 6562.80, 6583.34, 6716.31, 6730.68,
)  # fmt: skip
NGIST_SKY: Final = (5890.00, 5896.00)


def cases() -> dict[str, NDArray[np.bool_]]:
    """Samples that are masked (948,), by name."""
    around = [tuple((x - 15, x + 15) for x in lines) for lines in (NGIST_SKY, NGIST_REST)]
    found = {
        "none": np.zeros_like(KEPT),
        "nGIST's specMask_KIN": masked_samples(WavelengthMasks(*(merged(bands) for bands in around)), REDSHIFT),
    }
    rng = np.random.default_rng(1)
    middles = rng.uniform(WAVELENGTH[0], WAVELENGTH[-1], 500)
    grown, order = np.zeros_like(KEPT), iter(middles)
    for share in SHARES:
        while grown[KEPT].mean() < share:
            grown = grown | (np.abs(WAVELENGTH - next(order)) < (BAND_A + STEP) / 2)
        found[f"{share:.0%} in bands of {BAND_A:.0f} A"] = grown
    index = np.arange(len(WAVELENGTH))
    for width in WIDTHS:
        for place, first in (("blue end", 0), ("middle", (len(index) - width) // 2), ("red end", len(index) - width)):
            found[f"{width * STEP:.0f} A at the {place}"] = (index >= first) & (index < first + width)
    return found


def training_shares(bench: Bench) -> None:
    """Print percentiles of the share of samples without information in the spectra that the network learned from."""
    stream: TrainingStream = bench.stream(read_training_config(RECIPE).stream)
    noise = np.concatenate([batch.noise.numpy() for batch in islice(stream.batches(512), 8)])
    lost = np.isinf(noise).mean(axis=1)
    percentiles = np.percentile(lost, (50, 90, 95, 99, 99.9))
    print("lost in training, 50 / 90 / 95 / 99 / 99.9 %:", " / ".join(f"{value:.1%}" for value in percentiles))


def main(spectra: Annotated[int, typer.Option(help="Spectra in a case.")] = 1000) -> None:
    """Print a table."""
    predictor = Predictor(load_checkpoint(None))
    bench, decoder = Bench(predictor), predictor.checkpoint.decoder
    training_shares(bench)
    stream = bench.stream(clean_config())
    wanted = parameters(stream, spectra)
    names = ("log_age", "metallicity", "av")
    places = [APPRAISED.index(name) for name in names]
    print("rms of log age / [M/H] / A_V; truth within one error; trust below 1 %")
    for snr in (20, 60):
        for name, masked in cases().items():
            off: list[NDArray[np.float64]] = []
            error: list[NDArray[np.float32]] = []
            odd: list[NDArray[np.bool_]] = []
            for batch in observed(stream, wanted, snr):
                answer = predict(predictor, seen_through(batch, predictor.model.config.visible & ~masked), 0.0)
                found = (*grid_means(answer.grid, decoder.log_ages, decoder.metallicities), answer.av)
                true = (*grid_means(batch.grid.numpy(), decoder.log_ages, decoder.metallicities), batch.av.numpy())
                off.append(np.stack(found, axis=1) - np.stack(true, axis=1))
                error.append(sigmas(answer.widths)[:, places])
                odd.append(answer.trust < 0.01)
            misses, errors = np.concatenate(off), np.concatenate(error)
            rms = " / ".join(f"{value:.3f}" for value in np.sqrt(np.mean(misses**2, axis=0)))
            within = " / ".join(f"{value:.0%}" for value in np.mean(np.abs(misses) <= errors, axis=0))
            share = masked[KEPT].sum() / N_KEPT
            print(f"S/N {snr}  {name:28s} {share:6.1%}  {rms}  {within}  {np.concatenate(odd).mean():.1%}")


if __name__ == "__main__":
    typer.run(main)
