"""What errors and trust cost: the same spectra with and without them, in turns, processor time of one core.

OMP_NUM_THREADS=1 python benchmarks/appraisal_cost.py
"""

import time
from dataclasses import replace

import numpy as np
import torch

from galprote.model.checkpoint import load_checkpoint
from galprote.model.grids import N_KEPT
from galprote.model.predictor import Predictor

SPECTRA = 2048
TURNS = 7


def main() -> None:
    """Time both in turns."""
    torch.set_num_threads(1)
    random = np.random.default_rng(1)
    spectra = (1 + 0.03 * random.standard_normal((SPECTRA, N_KEPT))).astype(np.float32)
    noise = np.full_like(spectra, 0.03)
    full = load_checkpoint()
    bare = load_checkpoint()
    bare.model.appraisal = None
    predictors = {"with": Predictor(full), "bare": Predictor(replace(bare))}
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    for turn in range(TURNS + 1):
        for name, predict in predictors.items():
            started = time.process_time()
            predict(spectra, noise, 0.01)
            if turn:  # the first is slower
                seconds[name].append(time.process_time() - started)
    for name, values in seconds.items():
        print(f"{name}: {1e3 * np.median(values) / SPECTRA:.3f} ms a spectrum")
    print(f"ratio {np.median(seconds['with']) / np.median(seconds['bare']):.3f}")


if __name__ == "__main__":
    main()
