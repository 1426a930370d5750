"""What only a machine with an NVIDIA GPU can show."""

import numpy as np
import pytest

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import Decoder
from galprote.model.predictor import Predictor
from galprote.model.synthesis import NoiseConfig, Synthesizer

pytestmark = pytest.mark.gpu


def decoder() -> Decoder:
    return load_checkpoint().decoder


def test_gpu_and_cpu_agree() -> None:
    batch = next(Synthesizer(decoder(), NoiseConfig(), 1).stream(2048))
    seen = batch.spectra.numpy(), batch.noise.numpy(), 0.01
    on_cpu, on_gpu = Predictor(load_checkpoint(), "cpu")(*seen), Predictor(load_checkpoint(), "cuda")(*seen)
    # The 5 % clip may take another cell in or out where it is a matter of rounding.
    assert np.abs(on_cpu.av - on_gpu.av).max() < 1e-3
    assert np.abs(on_cpu.velocity - on_gpu.velocity).max() < 0.1
    assert np.median(np.abs(on_cpu.grid - on_gpu.grid).sum((1, 2))) < 1e-4


def test_spectra_are_made_on_the_gpu() -> None:
    batch = next(Synthesizer(decoder().to("cuda"), NoiseConfig(gap_fraction=0.5), 1).stream(64))
    assert batch.spectra.is_cuda
    assert bool(batch.spectra.isfinite().all())
