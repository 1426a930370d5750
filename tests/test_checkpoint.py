"""Checkpoints and the predictor: round trip, refusals, batches, memory."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from galprote.model import predictor as predictor_module
from galprote.model.checkpoint import (
    Checkpoint,
    checkpoint_config,
    default_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from galprote.model.errors import CheckpointError, PlanError
from galprote.model.evaluation import evaluate_suites
from galprote.model.grids import KEPT
from galprote.model.populations import grid_means
from galprote.model.predictor import Predictor, resolve_device, shared_predictor
from galprote.model.transformer import GalProTE, ModelConfig
from tests import surveys
from tests.libraries import synthetic_decoder


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    model = GalProTE(ModelConfig(channels=3, projection_rank=16)).eval()
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_checkpoint(path, model, synthetic_decoder(), {"training": {"seed": 3}, "metrics": {}})
    return path


@pytest.fixture(scope="module")
def checkpoint(path: Path) -> Checkpoint:
    return load_checkpoint(path)


def spectra(n: int, seed: int = 0) -> np.ndarray:
    return (1 + 0.05 * np.random.default_rng(seed).normal(size=(n, 876))).astype(np.float32)


def noise(n: int, seed: int = 0) -> np.ndarray:
    """Different in every spectrum, with samples that say nothing."""
    random = np.random.default_rng([seed, 1])
    sigma = 0.05 * random.uniform(0.5, 2.0, (n, 1)) * np.ones((n, 876))
    return np.where(random.random((n, 876)) < 0.03, np.inf, sigma).astype(np.float32)


def test_round_trip(path: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, checkpoint.model, checkpoint.decoder, {"training": {"seed": 3}, "metrics": {}})
    assert again.read_bytes() == path.read_bytes()
    decoder = synthetic_decoder()
    assert torch.equal(checkpoint.decoder.components, decoder.components)
    np.testing.assert_array_equal(checkpoint.decoder.ages_gyr, decoder.ages_gyr)
    assert checkpoint.metadata["training"] == {"seed": 3}


def rewrite(source: Path, target: Path, header: dict[str, object] | None, **tensors: torch.Tensor) -> Path:
    with safe_open(source, framework="pt") as file:
        old = json.loads(file.metadata()["galprote"])
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(kept | tensors, target, None if header is None else {"galprote": json.dumps(old | header)})
    return target


@pytest.mark.parametrize("text", ["[]", "5", "[" * 100_000, "{", ""])
def test_metadata_that_are_no_mapping_are_refused(path: Path, tmp_path: Path, text: str) -> None:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    bad = tmp_path / "bad.safetensors"
    save_file(tensors, bad, {"galprote": text})
    for read in (load_checkpoint, checkpoint_config):
        with pytest.raises(CheckpointError, match="metadata are"):
            read(bad)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    (tmp_path / "trap.safetensors").write_bytes(pickle.dumps(Trap()))
    for read in (load_checkpoint, checkpoint_config):
        with pytest.raises(CheckpointError, match="not a safetensors file"):
            read(tmp_path / "trap.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_what_is_not_a_checkpoint_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")
    pickle = tmp_path / "pickle.pt"
    torch.save({"a": torch.ones(2)}, pickle)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(pickle)
    with pytest.raises(CheckpointError, match="without galprote metadata"):
        load_checkpoint(rewrite(path, tmp_path / "bare.safetensors", None))
    with pytest.raises(CheckpointError, match="checkpoint format 99"):
        load_checkpoint(rewrite(path, tmp_path / "new.safetensors", {"format": 99}))


@pytest.mark.parametrize(
    ("header", "tensors", "message"),
    [
        ({"model": {"channels": 5, "projection_rank": 16}}, {}, "inconsistent"),
        ({"ages_gyr": [1.0, 2.0]}, {}, "decoder's shapes"),
        ({}, {"decoder.components": torch.ones(3, 7)}, "decoder's shapes"),
        ({}, {"model.grid_head.bias": torch.full((636,), torch.nan)}, "not finite"),
        ({}, {"decoder.components": torch.full((3, 3952), torch.inf)}, "not finite"),
        ({}, {"decoder.median_flux": torch.zeros(12, 53)}, "must be positive"),
        ({}, {"decoder.median_flux": torch.ones(53, 12)}, "decoder's shapes"),
        (
            {},
            {"model.grid_head.bias": torch.ones(636, dtype=torch.int64)},
            "is int64 .* weights are float16 or float32",
        ),
        ({}, {"model.grid_head.bias": torch.ones(636, dtype=torch.float64)}, "is float64"),
        ({}, {"model.more": torch.ones(3)}, "inconsistent"),
        ({"model": {"channels": 10**9}}, {}, "sizes up to 1,000,000,000"),
        ({"model": {"refinement": {"stages": 10**9}}}, {}, "sizes up to 1,000,000,000"),
        ({"model": [1]}, {}, "inconsistent"),
        ({"ages_gyr": [2.0, 1.0]}, {}, "ages_gyr = .* ascending"),
        ({"ages_gyr": [10**400]}, {}, "ages_gyr"),
        ({"metallicities": "x"}, {}, "metallicities = 'x'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    path: Path, tmp_path: Path, header: dict[str, object], tensors: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(rewrite(path, tmp_path / "bad.safetensors", header, **tensors))


@pytest.mark.parametrize("refined", [False, True])
def test_answers_do_not_depend_on_neighbours_or_on_where_a_batch_begins(refined: bool, tmp_path: Path) -> None:
    path = surveys.write_checkpoint(tmp_path / "model.safetensors", refined=refined)
    predict = Predictor(load_checkpoint(path), batch=32)
    data, sigma = spectra(75), noise(75)
    together = predict(data, sigma, 0.01)
    assert (np.unique(together.dispersion).size > 10) == refined
    order = np.random.default_rng(1).permutation(75)
    for whole, shuffled in zip(together, predict(data[order], sigma[order], 0.01), strict=True):
        np.testing.assert_array_equal(whole[order], shuffled)
    for i in (0, 40, 74):
        for whole, alone in zip(together, predict(data[i : i + 1], sigma[i : i + 1], 0.01), strict=True):
            np.testing.assert_array_equal(alone[0], whole[i])


def test_a_refining_network_heeds_the_noise_and_a_plain_one_does_not(tmp_path: Path) -> None:
    for refined in (False, True):
        path = surveys.write_checkpoint(tmp_path / f"{refined}.safetensors", refined=refined)
        predict = Predictor(load_checkpoint(path), batch=8)
        data, sigma = spectra(8), noise(8)
        first = predict(data, sigma, 0.01).av
        for other in (predict(data, 2 * sigma, 0.01).av, predict(data, sigma, 0.03).av):
            assert np.array_equal(first, other) == (not refined)


def test_noise_of_another_shape_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match=r"noise: shape \(3, 876\)"):
        Predictor(checkpoint)(spectra(4), noise(3))


def test_model_spectra_are_the_templates_mixed(checkpoint: Checkpoint) -> None:
    grid, av, dispersion, velocity, model, norm, gain, *worth = Predictor(checkpoint)(spectra(4), noise(4))
    assert (gain == 1).all()
    assert all(np.isnan(values).all() for values in worth)  # a plain network has no appraisal
    assert not dispersion.any()
    assert not velocity.any()
    decoder = checkpoint.decoder
    wanted = grid.reshape(4, -1) @ decoder.templates().numpy()
    wanted = wanted * 10 ** (-0.4 * av[:, None] * decoder.attenuation().numpy())
    np.testing.assert_allclose(model, wanted / np.median(wanted[:, KEPT], axis=1)[:, None], rtol=2e-3)
    np.testing.assert_allclose(np.median(model[:, KEPT], axis=1), 1.0, rtol=2e-3)
    np.testing.assert_allclose(norm, np.median(wanted[:, KEPT], axis=1), rtol=2e-3)


def test_no_spectra_is_no_work(checkpoint: Checkpoint) -> None:
    nothing = np.empty((0, 876), np.float32)
    found = Predictor(checkpoint)(nothing, nothing)
    assert found.grid.shape == (0, 12, 53)
    assert all(len(values) == 0 for values in found)


def test_out_of_memory_halves_the_batch_and_goes_on(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = Predictor(checkpoint, batch=64)
    wanted = predict(spectra(50), noise(50)).av
    whole = Predictor._batch

    def limited(self: Predictor, *data: object) -> object:
        if self.batch > 16:
            raise torch.OutOfMemoryError("full")
        return whole(self, *data)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "_batch", limited)
    np.testing.assert_allclose(predict(spectra(50), noise(50)).av, wanted, rtol=1e-5)
    assert predict.batch == 16
    monkeypatch.setattr(Predictor, "_batch", lambda self, *data: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(PlanError, match="a single spectrum"):
        predict(spectra(2), noise(2))


def test_one_predictor_a_process_and_a_changed_file_is_noticed(
    path: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = Path(shutil.copy(path, tmp_path))
    one = shared_predictor(path, checkpoint.sha256, "cpu")
    assert shared_predictor(path, checkpoint.sha256, "cpu") is one
    with pytest.raises(PlanError, match="changed since the run was planned"):
        shared_predictor(path, "0" * 64, "cpu")
    other = GalProTE(ModelConfig(channels=2, projection_rank=8))
    save_checkpoint(path, other, checkpoint.decoder, {})
    assert shared_predictor(path, None, "cpu").model.config.channels == 2
    with pytest.raises(PlanError, match="changed since the run was planned"):
        shared_predictor(path, checkpoint.sha256, "cpu")


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor_module.torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(PlanError, match="finds no NVIDIA GPU"):
        resolve_device("cuda")


def test_means_are_light_weighted() -> None:
    grid = np.zeros((1, 2, 3), np.float32)
    grid[0, 0, 0], grid[0, 1, 2] = 0.25, 0.75
    log_age, metallicity = grid_means(grid, np.array([8.0, 9.0, 10.0]), np.array([-1.0, 0.2]))
    np.testing.assert_allclose([log_age[0], metallicity[0]], [9.5, -0.1], rtol=1e-6)


# --- the shipped checkpoint ---


def test_the_shipped_checkpoint_reaches_the_papers_table() -> None:
    result = evaluate_suites(Predictor(load_checkpoint()), "paper", limit=2048)["paper"].cases["blind"]
    for name, mean, sigma in (("log_age", 0.03, 0.25), ("metallicity", 0.12, 0.27), ("av", 0.02, 0.16)):
        assert abs(result[name]["mean"]) <= mean
        assert result[name]["sigma"] <= sigma
    assert result["spectral_mse_percent"]["mean"] <= 0.275  # the paper: 0.27


def test_the_shipped_checkpoint_is_small_and_tells_its_origin() -> None:
    assert sum(file.stat().st_size for file in default_checkpoint().parent.iterdir()) <= 32 * 1024**2
    metadata = load_checkpoint().metadata
    assert metadata["training"]["config"]["seed"] == 1
    assert metadata["training"]["library_sha256"]
    assert metadata["metrics"]
