"""The model card says what is in the checkpoint, and refuses numbers that are not its own."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from galprote.model.card import model_card, read_results
from galprote.model.checkpoint import add_to_metadata, load_checkpoint, save_checkpoint
from galprote.model.errors import ConfigError
from galprote.model.transformer import GalProTE, ModelConfig
from galprote.workflows.cli import app
from tests.libraries import synthetic_decoder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    training = {"spectra": 1024, "step": 2, "versions": {"torch": "9"}, "config": {"line_spread": {"fwhm": 2.2}}}
    model = GalProTE(ModelConfig(channels=2, projection_rank=8))
    save_checkpoint(tmp_path / "small.safetensors", model, synthetic_decoder(), {"training": training})
    return tmp_path / "small.safetensors"


def results(path: Path, **about: str) -> Path:
    number = {"mean": 0.0125, "sigma": 0.25}
    case = {"spectra": 5, "log_age": number, "metallicity": number, "av": number}
    document = {"about": {"weights_sha256": load_checkpoint(path).weights_sha256} | about, "paper": {"blind": case}}
    (path.parent / "results.json").write_text(json.dumps(document))
    return path.parent / "results.json"


def test_a_card_tells_sizes_training_and_results(path: Path) -> None:
    checkpoint = load_checkpoint(path)
    card = model_card(checkpoint, read_results(results(path), checkpoint))
    for words in ("12 x 53", "kernels 11, 21, 31, 61", "the paper's plain network", "1,024 in 2 steps", "fwhm 2.2"):
        assert words in card
    assert "| blind | +0.013 ± 0.250 | +0.013 ± 0.250 | +0.013 ± 0.250 |" in card.replace("+0.012", "+0.013")


def test_numbers_of_other_weights_are_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="other weights"):
        read_results(results(path, weights_sha256="0" * 64), load_checkpoint(path))
    path.with_name("bad.json").write_text("[]")
    with pytest.raises(ConfigError, match="not what"):
        read_results(path.with_name("bad.json"), load_checkpoint(path))


def test_an_embedded_card_changes_the_file_and_no_weight(path: Path) -> None:
    before = load_checkpoint(path)
    add_to_metadata(path, path.with_name("with-card.safetensors"), card="text")
    after = load_checkpoint(path.with_name("with-card.safetensors"))
    assert after.metadata["card"] == "text"
    assert after.metadata["training"] == before.metadata["training"]
    assert after.weights_sha256 == before.weights_sha256
    assert after.sha256 != before.sha256
    for one, two in zip(before.model.state_dict().values(), after.model.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_the_command_writes_the_card_and_embeds_it(path: Path, tmp_path: Path) -> None:
    output, embedded = tmp_path / "card.md", tmp_path / "new.safetensors"
    arguments = ["card", str(path), "--results", str(results(path)), "--output", str(output), "--embed", str(embedded)]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert load_checkpoint(embedded).metadata["card"] == output.read_text()
