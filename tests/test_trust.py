"""The suites `coverage` and `anomalies`, and what the user sees of them."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from scipy.stats import binom

from galprote.model import anomaly_suite, coverage, evaluation
from galprote.model.anomalies import ANOMALIES
from galprote.model.appraisal import KINDS, sigmas
from galprote.model.bench import Bench
from galprote.model.card import model_card
from galprote.model.checkpoint import load_checkpoint
from galprote.model.errors import ConfigError
from galprote.model.evaluation import APPRAISED_SUITES, evaluate_suites, results_dict
from galprote.model.populations import APPRAISED
from galprote.model.predictor import Predictor
from galprote.model.statistics import SuiteResult
from galprote.model.synthesis import SyntheticSpectra
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


def test_of_the_surveys_spectra_as_many_are_inside_as_chance_allows(results: dict[str, SuiteResult]) -> None:
    case = results["coverage"].cases["survey_snr_35"]
    for name in APPRAISED:
        for key, share in (("within_1", 0.6827), ("within_2", 0.9545)):
            low, high = binom.interval(0.999, LIMIT, share)
            assert low <= round(LIMIT * case[name][key]) <= high, (name, key)


def test_shares_are_shares(results: dict[str, SuiteResult]) -> None:
    for case in results["coverage"].cases.values():
        for name in APPRAISED:
            assert 0 <= case[name]["within_1"] <= case[name]["within_2"] <= 1
            assert 0 < case[name]["median_error"] < 1
    for name, case in results["anomalies"].cases.items():
        assert 0 <= case["caught"]["1"] <= case["caught"]["5"] <= 1
        assert 0 <= (case.get("reason") or 0.0) <= 1
        trust = results["anomalies"].trust[name]
        assert case["spectra"] == len(trust)
        assert ((trust >= 0) & (trust <= 1)).all()


def test_the_same_numbers_every_time(
    predictor: Predictor, results: dict[str, SuiteResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was measured before, and in whichever order."""
    monkeypatch.setattr(anomaly_suite, "ANOMALY_SNR", (35,))
    monkeypatch.setattr(anomaly_suite, "ANOMALIES", ANOMALIES[::-1])
    again = evaluate_suites(predictor, "anomalies", limit=LIMIT)["anomalies"].cases
    del again["snr_35_noise"]  # made at the first ratio alone, which is another one here
    assert len(again) == len(ANOMALIES)
    assert again == {name: results["anomalies"].cases[name] for name in again}


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the suite `coverage` the survey's spectra of one signal-to-noise ratio."""
    monkeypatch.setattr(coverage, "SURVEY_SNR", (35,))
    for name in ("_moved", "_spoiled"):
        monkeypatch.setattr(coverage, name, lambda bench: iter(()))


@pytest.mark.usefixtures("brief")
def test_larger_errors_cover_more(
    predictor: Predictor, results: dict[str, SuiteResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers are the same every time, only what is said of them differs."""
    monkeypatch.setattr(coverage, "sigmas", lambda widths: 2 * sigmas(widths))
    twice = evaluate_suites(predictor, "coverage", limit=LIMIT)
    judged, plain = (found["coverage"].cases["survey_snr_35"] for found in (twice, results))
    for name in APPRAISED:
        assert judged[name]["within_1"] == plain[name]["within_2"] > plain[name]["within_1"]
        assert judged[name]["within_2"] >= plain[name]["within_2"]
        assert judged[name]["median_error"] == pytest.approx(2 * plain[name]["median_error"])
        assert judged[name]["rms"] == plain[name]["rms"]


@pytest.mark.usefixtures("brief")
def test_an_honest_oracle_has_the_shares_of_a_gaussian(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows the truth, but its A_V are off by 0.15 mag (1 sigma), and its masses by a factor of ten."""
    random, stated = np.random.default_rng(3), dict(zip(APPRAISED, 0.05 * np.arange(1, 8), strict=True))

    def oracle(_: Predictor, batch: SyntheticSpectra, *told: float) -> SimpleNamespace:
        n = len(batch.av)
        widths = np.tile(np.outer(list(stated.values()), (1.0, 2.0)), (n, 1, 1))
        av = batch.av.numpy() + stated["av"] * random.standard_normal(n)
        return SimpleNamespace(grid=batch.grid.numpy(), av=av, norm=10 * batch.norm.numpy(), widths=widths)

    monkeypatch.setattr(coverage, "predict", oracle)
    case = evaluate_suites(predictor, "coverage", limit=2000)["coverage"].cases["survey_snr_35"]
    assert case["spectra"] == 2000
    assert case["av"] == {
        "within_1": pytest.approx(0.6827, abs=0.035),
        "within_2": pytest.approx(0.9545, abs=0.015),
        "median_error": pytest.approx(0.15),
        "rms": pytest.approx(0.15, rel=0.06),
    }
    wrong = {"within_1": 0.0, "within_2": 0.0, "rms": pytest.approx(1.0, rel=1e-5)}
    assert case["log_mass"] == wrong | {"median_error": pytest.approx(stated["log_mass"])}
    for name in set(APPRAISED) - {"av", "log_mass"}:
        exact = {"within_1": 1.0, "within_2": 1.0, "median_error": pytest.approx(stated[name]), "rms": 0.0}
        assert case[name] == exact, name


def test_what_is_caught_and_why_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    star, agn = KINDS.index("star"), KINDS.index("agn")
    told = np.array([0.001, 0.01, 0.03, 0.05, 0.2]), np.array([agn, star, agn, agn, agn])
    monkeypatch.setattr(anomaly_suite, "_trust", lambda bench, batches: told)
    limits = np.array([0.01, 0.05])
    case, trust = anomaly_suite._caught(None, None, "agn", limits)  # type: ignore[arg-type]
    assert case == {"spectra": 5, "caught": {"1": 0.4, "5": 0.8}, "reason": 0.5}
    assert trust is told[0]
    case, _ = anomaly_suite._caught(None, None, "agn", limits / 100)  # type: ignore[arg-type]
    assert case == {"spectra": 5, "caught": {"1": 0.0, "5": 0.0}, "reason": None}


def test_anomalies_are_trusted_less(results: dict[str, SuiteResult]) -> None:
    trust = results["anomalies"].trust
    ordinary = trust["snr_35_ordinary"]
    assert 0.2 < np.median(ordinary) < 0.8
    assert results["anomalies"].cases["snr_35_ordinary"]["caught"]["5"] < 0.15
    for kind in set(ANOMALIES) - {"noise"}:
        assert np.median(trust[f"snr_35_{kind}"]) < 0.05, kind
        case = results["anomalies"].cases[f"snr_35_{kind}"]
        assert case["caught"]["5"] >= case["caught"]["1"]
        assert case["caught"]["5"] > 0.7
        assert case["reason"] > 0.5
    assert results["anomalies"].cases["snr_10_noise"]["caught"]["1"] > 0.9
    assert "rough stars" in results["anomalies"].remarks[0]


def test_stars_of_a_library_can_be_asked_for(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anomaly_suite, "ANOMALY_SNR", (35,))
    monkeypatch.setattr(anomaly_suite, "ANOMALIES", ("star",))
    wave = 4600.0 + 0.9 * np.arange(3200)
    star = 1.0 + 0.3 * np.sin(wave / 40)
    np.savez(tmp_path / "stars.npz", wave=wave, flux=star[None])
    result = evaluate_suites(predictor, "anomalies", stars=tmp_path / "stars.npz", limit=64)["anomalies"]
    assert not result.remarks
    assert result.cases["snr_35_star"]["caught"]["1"] == 1.0  # waves are no galaxy


def test_tables_are_narrow_and_say_what_was_found(results: dict[str, SuiteResult]) -> None:
    console = Console(width=100)
    with console.capture() as capture:
        for table in evaluation_tables(results):
            console.print(table)
    shown = capture.get()
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 100
    rows = [line.split() for line in shown.splitlines()]
    case = results["coverage"].cases["survey_snr_35"]
    numbers = [f"{100 * case[name][key]:.0f}" for name in APPRAISED for key in ("within_1", "within_2")]
    errors = [f"{case[name]['median_error']:.2f}" for name in ("log_age", "metallicity", "av")]
    assert ["survey", "snr", "35", str(LIMIT), *numbers, *errors] in rows
    cases = results["anomalies"].cases
    caught = [f"{100 * cases[f'snr_{snr}_agn']['caught'][k]:.0f}" for snr in (10, 20, 35, 100) for k in ("1", "5")]
    assert ["active", "nucleus", *caught, f"{100 * cases['snr_35_agn']['reason']:.0f}"] in rows


def test_figures_are_the_same_every_time(results: dict[str, SuiteResult], tmp_path: Path) -> None:
    one, two = (write_figures(results, tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in one] == ["coverage.png", "anomalies.png"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))


def command(*arguments: object) -> int:
    """Status that a command ends with."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def test_the_card_tells_both(predictor: Predictor, results: dict[str, SuiteResult], tmp_path: Path) -> None:
    found, written = tmp_path / "results.json", tmp_path / "card.md"
    found.write_text(json.dumps(results_dict(results, predictor)))
    assert command("card", "--results", found, "--output", written) == 0
    card = written.read_text()
    case = results["coverage"].cases["survey_snr_35"]["log_age"]
    assert f"| survey snr 35 | {100 * case['within_1']:.0f}, {100 * case['within_2']:.0f} |" in card
    caught = results["anomalies"].cases["snr_10_step"]["caught"]
    assert f"| snr 10 step | {100 * caught['1']:.0f} | {100 * caught['5']:.0f} |" in card
    assert "errors and trust" in card
    other = json.loads(found.read_text())
    other["about"]["weights_sha256"] = "0" * 64
    found.write_text(json.dumps(other))
    assert command("card", "--results", found) == 2


def test_weights_without_an_appraisal_say_so(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictor = Predictor(load_checkpoint(bare))
    for name in APPRAISED_SUITES:
        with pytest.raises(ConfigError, match=f"--suite {name}: these weights"):
            evaluate_suites(predictor, name)
    assert command("evaluate", bare, "--suite", "coverage", "--device", "cpu") == 2
    assert "no appraisal" in capsys.readouterr().err


@pytest.mark.parametrize("appraised", [True, False])
def test_all_leaves_out_what_weights_cannot_tell(
    predictor: Predictor, bare: Path, monkeypatch: pytest.MonkeyPatch, appraised: bool
) -> None:
    ran: list[str] = []

    def pretend(name: str, bench: Bench) -> SuiteResult:
        ran.append(name)
        return SuiteResult(cases={"one": {"spectra": 1}})

    for name in evaluation.SUITES:
        monkeypatch.setitem(evaluation.SUITES, name, partial(pretend, name))
    tested = predictor if appraised else Predictor(load_checkpoint(bare))
    found = evaluate_suites(tested, "all")
    left_out = {"library"} if appraised else {"library", *APPRAISED_SUITES}
    assert set(ran) == set(found) - left_out
    assert {name for name, result in found.items() if result.remarks} == left_out
    remarks = results_dict(found, tested)["about"]["remarks"]
    assert sum("these weights have no appraisal" in remark for remark in remarks) == 2 * (not appraised)


@pytest.mark.parametrize("suite", ["paper", "coverage", "library"])
def test_stars_are_for_the_anomalies(predictor: Predictor, suite: str) -> None:
    with pytest.raises(ConfigError, match=f"--stars x: not used by --suite {suite}; .* choose anomalies"):
        evaluate_suites(predictor, suite, stars=Path("x"), library=Path("y") if suite == "library" else None)


def test_the_command_teaches_a_network(bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    section = {"spectra": 1000, "calibration_spectra": 200, "epochs": 1, "network": {"hidden": 8}}
    recipe.write_text(yaml.safe_dump({"appraisal": section}))
    output = tmp_path / "new.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        for module in ("lessons", "appraisal_training"):
            patch.setattr(f"galprote.model.{module}.SHARD", 500)
        options = ("--checkpoint", bare, "--output", output, "--device", "cpu")
        assert command("appraise", recipe, *options) == 0
    said = capsys.readouterr().out
    assert "1,000 of 1,000 spectra fitted" in said
    assert "intervals stretched by" in said
    assert not output.with_name(output.name + ".spectra").exists()
    new, old = load_checkpoint(output), load_checkpoint(bare)
    assert new.metadata["appraisal"]["recipe"]["spectra"] == 1000
    assert new.metadata["appraisal"]["network_sha256"] == old.weights_sha256
    assert new.metadata["card"] == model_card(new)
    answer = Predictor(new)(np.ones((2, 876), np.float32), np.full((2, 876), 0.1, np.float32))
    for values in (answer.widths, answer.model_error, answer.kinds, answer.trust, answer.noise_scale):
        assert np.isfinite(values).all()
    assert (answer.widths > 0).all()
    for name, weights in old.model.state_dict().items():  # the network itself is as it was
        assert torch.equal(new.model.state_dict()[name], weights), name
    capsys.readouterr()
    assert command("card", output) == 0
    card = " ".join(capsys.readouterr().out.split())
    assert "| appraisal | errors and trust |" in card
    assert "| errors and trust | 1,000 spectra, 40% anomalies, stars: rough ones |" in card
    assert "none: no errors, no trust" in model_card(old)
    assert command("appraise", tmp_path / "none.yaml", "--output", output) == 2
