"""The suites `coverage` and `anomalies`, and what the user sees of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from galprote.model import coverage
from galprote.model.anomalies import ANOMALIES
from galprote.model.card import model_card
from galprote.model.checkpoint import load_checkpoint
from galprote.model.errors import ConfigError
from galprote.model.evaluation import APPRAISED_SUITES, evaluate_suites, results_dict
from galprote.model.populations import APPRAISED
from galprote.model.predictor import Predictor
from galprote.model.statistics import SuiteResult
from galprote.workflows.cli import main
from galprote.workflows.evaluation_figures import write_figures
from galprote.workflows.reporting import evaluation_tables
from tests import surveys

LIMIT = 96


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(load_checkpoint())


@pytest.fixture(scope="module")
def results(predictor: Predictor) -> dict[str, SuiteResult]:
    return {name: evaluate_suites(predictor, name, limit=LIMIT)[name] for name in APPRAISED_SUITES}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights without an appraisal."""
    return surveys.write_checkpoint(tmp_path_factory.mktemp("bare") / "bare.safetensors", refined=True)


def test_errors_hold_what_they_promise(results: dict[str, SuiteResult]) -> None:
    cases = results["coverage"].cases
    assert len([name for name in cases if name.startswith("survey")]) == 5
    everything = [case for name, case in cases.items() if name.startswith("survey")]
    for name in APPRAISED:
        for key, share in (("within_1", 0.69), ("within_2", 0.952)):
            found = np.mean([case[name][key] for case in everything])
            slack = 3 * np.sqrt(share * (1 - share) / LIMIT)  # the five have the same populations
            assert found == pytest.approx(share, abs=slack + 0.01), (name, key)
        assert everything[0][name]["median_error"] > 2 * everything[-1][name]["median_error"]  # S/N 10 and 100


def test_the_same_numbers_every_time(predictor: Predictor, results: dict[str, SuiteResult]) -> None:
    assert evaluate_suites(predictor, "anomalies", limit=LIMIT)["anomalies"].cases == results["anomalies"].cases


def test_larger_errors_cover_more(
    predictor: Predictor, results: dict[str, SuiteResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = coverage.sigmas
    monkeypatch.setattr(coverage, "sigmas", lambda widths: 2 * real(widths))
    judged = evaluate_suites(predictor, "coverage", limit=LIMIT)["coverage"].cases["survey_snr_35"]
    for name in APPRAISED:
        assert judged[name]["within_1"] == results["coverage"].cases["survey_snr_35"][name]["within_2"]


def test_anomalies_are_trusted_less(results: dict[str, SuiteResult]) -> None:
    trust = results["anomalies"].trust
    ordinary = trust["snr_35_ordinary"]
    assert 0.2 < np.median(ordinary) < 0.8
    for kind in set(ANOMALIES) - {"noise"}:
        assert np.median(trust[f"snr_35_{kind}"]) < 0.05, kind
        case = results["anomalies"].cases[f"snr_35_{kind}"]
        assert case["caught"]["5"] >= case["caught"]["1"]
        assert case["caught"]["5"] > 0.7
    assert results["anomalies"].cases["snr_10_noise"]["caught"]["1"] > 0.9
    assert "rough stars" in results["anomalies"].remarks[0]


def test_stars_of_a_library_can_be_asked_for(predictor: Predictor, tmp_path: Path) -> None:
    wave = 4600.0 + 0.9 * np.arange(3200)
    star = 1.0 + 0.3 * np.sin(wave / 40)
    np.savez(tmp_path / "stars.npz", wave=wave, flux=star[None])
    result = evaluate_suites(predictor, "anomalies", stars=tmp_path / "stars.npz", limit=64)["anomalies"]
    assert not result.remarks
    assert result.cases["snr_35_star"]["caught"]["1"] == 1.0  # waves are no galaxy


def test_tables_and_figures(results: dict[str, SuiteResult], tmp_path: Path) -> None:
    for table in evaluation_tables(results):
        console = Console(width=100)
        with console.capture() as capture:
            console.print(table)
        shown = capture.get()
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= 100
    one, two = (write_figures(results, tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in one] == ["coverage.png", "anomalies.png"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))


def test_the_card_tells_both(predictor: Predictor, results: dict[str, SuiteResult]) -> None:
    card = model_card(predictor.checkpoint, results_dict(results, predictor))
    case = results["coverage"].cases["survey_snr_35"]["log_age"]
    assert f"| survey snr 35 | {100 * case['within_1']:.0f}, {100 * case['within_2']:.0f} |" in card
    caught = results["anomalies"].cases["snr_10_step"]["caught"]
    assert f"| snr 10 step | {100 * caught['1']:.0f} | {100 * caught['5']:.0f} |" in card
    assert "errors and trust" in card


def test_weights_without_an_appraisal_say_so(bare: Path) -> None:
    predictor = Predictor(load_checkpoint(bare))
    for name in APPRAISED_SUITES:
        with pytest.raises(ConfigError, match=f"--suite {name}: these weights"):
            evaluate_suites(predictor, name)
    with pytest.raises(ConfigError, match="not used by --suite paper"):
        evaluate_suites(predictor, "paper", stars=Path("x"))


def test_the_command_teaches_a_network(bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    section = {"spectra": 1000, "calibration_spectra": 200, "epochs": 1, "network": {"hidden": 8}}
    recipe.write_text(yaml.safe_dump({"appraisal": section}))
    output = tmp_path / "new.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        for module in ("lessons", "appraisal_training"):
            patch.setattr(f"galprote.model.{module}.SHARD", 500)
        arguments = ["appraise", str(recipe), "--checkpoint", str(bare), "--output", str(output), "--device", "cpu"]
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "1,000 of 1,000 spectra fitted" in said
    assert "intervals stretched by" in said
    assert not output.with_name(output.name + ".spectra").exists()
    new, old = load_checkpoint(output), load_checkpoint(bare)
    assert new.metadata["appraisal"]["recipe"]["spectra"] == 1000
    assert new.metadata["appraisal"]["network_sha256"] == old.weights_sha256
    answer = Predictor(new)(np.ones((2, 876), np.float32), np.full((2, 876), 0.1, np.float32))
    assert np.isfinite(answer.widths).all()
    assert torch.equal(new.model.grid_head.weight, old.model.grid_head.weight)
    with pytest.raises(SystemExit) as stopped:
        main(["appraise", str(tmp_path / "none.yaml"), "--output", str(output)])
    assert stopped.value.code == 2
