"""What only a machine with an NVIDIA GPU can show."""

from pathlib import Path

import numpy as np
import pytest

from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import FINE_EDGES, Decoder
from galprote.model.errors import ConfigError
from galprote.model.line_of_sight import KinematicFitter, Outcome
from galprote.model.predictor import Predictor
from galprote.model.refinement import RefinementConfig
from galprote.model.stream import StreamConfig
from galprote.model.synthesis import NoiseConfig, Synthesizer
from galprote.model.training import Trainer
from galprote.model.training_config import LibraryConfig, TrainingConfig
from galprote.model.transformer import ModelConfig
from tests.moving_spectra import noisy, observed, rebinned

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


def test_bfloat16_moves_answers_little_on_a_gpu() -> None:
    batch = next(Synthesizer(decoder(), NoiseConfig(), 1).stream(8192))
    seen = batch.spectra.numpy(), batch.noise.numpy(), 0.01
    full, fewer = (Predictor(load_checkpoint(), "cuda", precision=bits)(*seen) for bits in ("float32", "bfloat16"))
    moved = np.abs(full.av - fewer.av)
    assert np.median(moved) <= 0.002
    assert np.quantile(moved, 0.999) <= 0.03


def test_kinematics_on_gpu_and_cpu_agree() -> None:
    random = np.random.default_rng(1)
    templates = (decoder().coefficients[:200:10] @ decoder().components).double().numpy()
    fine = templates[random.choice(len(templates), 200)]
    light = observed(fine, random.uniform(-400, 400, 200), np.resize([0.0, 80.0, 200.0], 200))
    on_cpu, on_gpu = (KinematicFitter(decoder(), device) for device in ("cpu", "cuda"))
    spectra = rebinned(on_cpu, *noisy(light, 30, 2))
    first, second = on_cpu(*spectra), on_gpu(*spectra)
    assert (first.outcome == second.outcome).mean() > 0.98
    both = (first.outcome == Outcome.MEASURED) & (second.outcome == Outcome.MEASURED)
    # A sample more or less may be an outlier where it is a matter of rounding.
    for name in ("velocity", "dispersion"):
        off = (getattr(first, name) - getattr(second, name))[both] / getattr(first, f"{name}_error")[both]
        assert np.median(np.abs(off)) < 1e-3
        assert np.abs(off).max() < 0.5


def test_training_on_the_gpu_stops_and_goes_on(tmp_path: Path) -> None:
    known = decoder()
    fine = np.arange(4600.0, 7260.0, 0.9)
    centres = (FINE_EDGES[1:] + FINE_EDGES[:-1]) / 2
    templates = (known.coefficients @ known.components).double().numpy()
    wide = np.stack([np.interp(fine, centres, row) for row in templates]).reshape(*known.shape, -1)
    library = tmp_path / "library.npz"
    np.savez(library, flux=wide, wave=fine, age=known.ages_gyr, metallicity=known.metallicities)
    refinement = RefinementConfig(stages=2, components=16, hidden=32, memory=8)
    config = TrainingConfig(
        library=LibraryConfig(path=library),
        output=tmp_path / "run",
        model=ModelConfig(channels=2, projection_rank=8, av_max=3.0, refinement=refinement),
        stream=StreamConfig(),
        steps=6,
        block_steps=2,
        batch=256,
        validate_every=3,
        validation_spectra=256,
    )

    class Stop(Exception):
        pass

    def stop(progress: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        Trainer(config, "cuda").run(stop)
    with pytest.raises(ConfigError, match=r"device \(cuda, now cpu\)"):
        Trainer(config, "cpu").load_state()
    again = Trainer(config, "cuda")
    checkpoint = load_checkpoint(again.run())
    assert again.step == 6
    assert checkpoint.metadata["metrics"]["validation"]["log_age_rms"] > 0


def test_spectra_are_made_on_the_gpu() -> None:
    batch = next(Synthesizer(decoder().to("cuda"), NoiseConfig(gap_fraction=0.5), 1).stream(64))
    assert batch.spectra.is_cuda
    assert bool(batch.spectra.isfinite().all())
