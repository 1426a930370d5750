"""The evaluation: what its suites share, what their tables say of a perfect answer, and the fits beside the network."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from galprote.model import bench as bench_module
from galprote.model import evaluation, fits, rivals
from galprote.model.artefacts import ArtefactConfig
from galprote.model.bench import Bench, clean_config, observed, parameters
from galprote.model.checkpoint import load_checkpoint
from galprote.model.decoder import Decoder
from galprote.model.errors import ConfigError, LibraryError
from galprote.model.evaluation import APPRAISED_SUITES, NO_LIBRARY, SUITES, evaluate_suites, results_dict
from galprote.model.grids import AGES_GYR, AV_CLASSES, KEPT, METALLICITIES
from galprote.model.libraries import library_sha256, read_library
from galprote.model.line_spread import LineSpread
from galprote.model.other_library import other_library as other_library_of
from galprote.model.other_library import transfer, within
from galprote.model.predictor import Predictions, Predictor
from galprote.model.statistics import QUANTITIES, SuiteResult, error_summary, residual_counts, rms_ratio
from galprote.model.suites import TILT, tilted
from galprote.model.synthesis import NoiseConfig, Synthesizer, SyntheticSpectra
from galprote.model.templates import TemplateLibrary, verified_decoder
from galprote.workflows.cli import main
from galprote.workflows.evaluation_figures import write_figures
from galprote.workflows.reporting import evaluation_tables
from tests import surveys
from tests.libraries import fine_wavelength, synthetic_decoder, synthetic_flux

LIMIT = 64
#: Rounding of the means, which are taken in single precision.
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surveys.write_checkpoint(tmp_path_factory.mktemp("weights") / "refined.safetensors", refined=True)


@pytest.fixture(scope="module")
def predictor(path: Path) -> Predictor:
    return Predictor(load_checkpoint(path), batch=64)


@pytest.fixture(scope="module")
def other_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The analytic templates again, blunter, on a coarser grid that reaches beyond the checkpoint's."""
    wavelength, flux = fine_wavelength(), synthetic_flux()[::2, ::6]
    reach = np.arange(1, 25) * (wavelength[1] - wavelength[0])
    path = tmp_path_factory.mktemp("library") / "other.npz"
    np.savez(
        path,
        flux=np.pad(np.concatenate([flux, flux[:, -1:]], axis=1), ((0, 0), (0, 0), (24, 24)), mode="edge"),
        wave=np.concatenate([wavelength[0] - reach[::-1], wavelength, wavelength[-1] + reach]),
        age=np.append(AGES_GYR[::6], 15.0),
        metallicity=METALLICITIES[::2],
    )
    return path


@pytest.fixture(scope="module")
def results(predictor: Predictor, other_library: Path) -> dict[str, SuiteResult]:
    """Every suite but the fits, with an answer that is never good."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "SUITES", {name: run for name, run in SUITES.items() if name != "fits"})
        return evaluate_suites(predictor, library=other_library, limit=LIMIT)


@pytest.fixture(scope="module")
def few_fits(predictor: Predictor) -> SuiteResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fits, "FITS_SNR", (35, 100))
        patch.setattr(fits, "NNLS_SPECTRA", 6)
        patch.setattr(fits, "PPXF_SPECTRA", 3)
        return evaluate_suites(predictor, "fits")["fits"]


# --- statistics ---


def test_fifths_are_parts_of_the_whole() -> None:
    random = np.random.default_rng(0)
    truth, error = random.uniform(8, 10, 500), random.normal(0.02, 0.1, 500)
    table = error_summary(truth, truth + error)
    means, sigmas = (np.array([part[key] for part in table["fifths"]]) for key in ("mean", "sigma"))
    assert means.mean() == pytest.approx(table["mean"])
    assert np.mean(sigmas**2) + means.var() == pytest.approx(table["sigma"] ** 2)
    assert table["rms"] ** 2 == pytest.approx(table["mean"] ** 2 + table["sigma"] ** 2)
    ends = np.array([(part["from"], part["to"]) for part in table["fifths"]]).ravel()
    assert np.all(np.diff(ends) > 0)
    np.testing.assert_allclose(ends[[0, -1]], [truth.min(), truth.max()])


def test_an_answer_that_is_always_the_same_is_wrong_at_the_ends() -> None:
    truth = np.linspace(-2, 0, 1000)
    parts = error_summary(truth, np.full(1000, -1.0))["fifths"]
    assert parts[0]["mean"] == pytest.approx(0.8, abs=0.01)
    assert parts[-1]["mean"] == pytest.approx(-0.8, abs=0.01)


def test_a_truth_that_is_the_same_for_all_has_no_fifths() -> None:
    assert "fifths" not in error_summary(np.zeros(100), np.ones(100))


def test_the_ratio_of_two_fits_heeds_that_they_share_spectra() -> None:
    errors = np.random.default_rng(1).normal(size=200)
    ratio, interval = rms_ratio(2 * errors, errors)
    np.testing.assert_allclose([ratio, *interval], 2.0)
    apart, (low, high) = rms_ratio(np.random.default_rng(2).normal(size=200), errors)
    assert low < apart < high
    assert 0.05 < high - low < 0.3  # two independent RMS of 200: 0.07 to either side
    assert rms_ratio(errors, errors[::-1]) == rms_ratio(errors, errors[::-1])


# --- the suites ---


def oracle(predictor: Predictor, batch: SyntheticSpectra, *_: float) -> Predictions:
    """The truth, on the checkpoint's grid."""
    grid = batch.grid
    if grid.shape[1:] != predictor.checkpoint.decoder.shape:
        grid = torch.einsum("nza,zy,ab->nyb", grid, *transfer(oracle_library, predictor.checkpoint.decoder))
    found = (grid, batch.av, batch.dispersion, batch.velocity, batch.clean, batch.norm, torch.ones_like(batch.av))
    nothing = np.full((len(batch), 1), np.nan, np.float32)
    return Predictions(*(values.numpy() for values in found), *[nothing] * 6)


oracle_library = replace(synthetic_decoder(), ages_gyr=AGES_GYR[::6], metallicities=METALLICITIES[::2])


@pytest.mark.parametrize("suite", [name for name in SUITES if name not in ("fits", *APPRAISED_SUITES)])
def test_a_perfect_answer_has_no_errors(
    suite: str, predictor: Predictor, other_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "predict", oracle)
    library = other_library if suite == "library" else None
    result = evaluate_suites(predictor, suite, library=library, limit=LIMIT)[suite]
    assert result.cases
    for case in result.cases.values():
        for name in QUANTITIES:
            assert case[name]["rms"] < ROUNDING
            assert all(abs(part["mean"]) < ROUNDING for part in case[name].get("fifths", []))
        for name in ("dispersion", "velocity"):
            assert case.get(name, {"rms": 0.0})["rms"] == 0.0
        assert case.get("clean_mse_percent", {"mean": 0.0})["mean"] < 1e-10


def test_the_same_numbers_every_time(predictor: Predictor, results: dict[str, SuiteResult]) -> None:
    for name in ("velocity", "artefacts"):
        assert evaluate_suites(predictor, name, limit=LIMIT)[name].cases == results[name].cases


def test_suites_begin_with_the_same_clean_spectra(results: dict[str, SuiteResult]) -> None:
    base = results["dispersion"].cases["sigma_0"]
    assert results["velocity"].cases["velocity_+0"] == base
    for name in QUANTITIES:
        assert results["artefacts"].cases["none"][name] == base[name]
        assert base[name]["rms"] > 0.05  # random weights know nothing


def test_cases_differ_only_in_what_they_are_named_after(results: dict[str, SuiteResult]) -> None:
    for suite in ("survey", "dispersion", "velocity", "artefacts"):
        cases = [case for name, case in results[suite].comparisons.items() if name != "smooth"]
        for case in cases[1:]:
            for name in QUANTITIES:
                np.testing.assert_array_equal(case.truth[name], cases[0].truth[name])
            assert not np.array_equal(case.found["log_age"], cases[0].found["log_age"])
    for value, case in zip((-150, 0, 150), ("velocity_-150", "velocity_+0", "velocity_+150"), strict=True):
        assert set(results["velocity"].comparisons[case].truth["velocity"]) == {value}
    assert set(results["dispersion"].comparisons["sigma_200"].truth["dispersion"]) == {200}


def test_the_papers_blocks(results: dict[str, SuiteResult]) -> None:
    cases = results["paper"].cases
    assert list(cases) == ["blind", "flagged"]
    for case in cases.values():
        assert case["spectra"] == LIMIT
        assert case["spectral_mse_percent"]["mean"] > case["clean_mse_percent"]["mean"] > 0
    assert set(np.round(results["paper"].comparisons["blind"].truth["av"], 4)) <= set(np.round(AV_CLASSES, 4))


def test_variations_are_held_against_their_base(results: dict[str, SuiteResult]) -> None:
    cases = results["artefacts"].cases
    assert "bias_added" not in cases["none"]["av"]
    for name in QUANTITIES:
        base, case = cases["none"][name], cases["ao_notch"][name]
        assert case["bias_added"] == pytest.approx(case["mean"] - base["mean"])
        assert case["rms_ratio"] == pytest.approx(case["rms"] / base["rms"])


def test_clean_spectra_have_one_noise_truly_stated(predictor: Predictor) -> None:
    stream = Bench(predictor).stream(clean_config())
    batch = next(observed(stream, parameters(stream, LIMIT), 20.0))
    torch.testing.assert_close(batch.noise, batch.noise[:, :1].expand_as(batch.noise))
    # Fluxes and their noise are both divided by the noisy spectrum's median.
    scale = 20.0 * batch.noise[:, :1]
    scatter = (batch.spectra / scale - batch.clean[:, torch.from_numpy(KEPT)]).std(dim=1)
    np.testing.assert_allclose(scatter.mean(), 1 / 20, rtol=0.01)


@pytest.mark.parametrize("name", ["notch", "emission", "sky"])
def test_every_spectrum_has_the_artefact(name: str, predictor: Predictor) -> None:
    """Held against the same random numbers with an effect too weak to see."""
    bench = Bench(predictor)
    found = []
    for artefacts in (
        ArtefactConfig(notch_fraction=1.0),
        ArtefactConfig(notch_fraction=0.0, emission=(1e-12, 1e-11), sky_sigma=(1e-12, 1e-11)),
    ):
        stream = bench.stream(clean_config(name, artefacts=artefacts))
        stream.artefacts.shares = {"emission": 1.0, "sky": 1.0}
        found.append(next(observed(stream, parameters(bench.stream(clean_config()), LIMIT), 35.0)))
    changed = (found[0].spectra / found[1].spectra - 1).abs() > 1e-6
    lost = found[0].noise.isinf().any(dim=1)  # a few have all their sky lines masked
    assert (changed.any(dim=1) | lost).all()
    assert changed.any(dim=1).float().mean() > 0.9
    assert lost.float().mean() > (0.99 if name == "notch" else 0.2)


def test_a_tilt_is_a_straight_line_and_leaves_the_signal_to_noise_ratio(predictor: Predictor) -> None:
    stream = Bench(predictor).stream(clean_config())
    batch = next(observed(stream, parameters(stream, 8), 35.0))
    slanted = tilted(batch, TILT)
    ratio = (slanted.spectra / batch.spectra).numpy()
    np.testing.assert_allclose(ratio[:, -1] / ratio[:, 0], (1 + TILT / 2) / (1 - TILT / 2), rtol=1e-5)
    np.testing.assert_allclose(np.median(slanted.spectra, axis=1), 1.0, rtol=1e-3)
    np.testing.assert_allclose(slanted.spectra / slanted.noise, batch.spectra / batch.noise, rtol=1e-5)


# --- another library ---


def test_weights_move_to_another_grid_without_moving_their_means() -> None:
    random = np.random.default_rng(3)
    grid = torch.from_numpy(random.dirichlet(np.full(54, 0.1), 20).astype(np.float32)).reshape(20, 6, 9)
    own = synthetic_decoder()
    metallicities, ages = transfer(oracle_library, own)
    moved = torch.einsum("nza,zy,ab->nyb", grid, metallicities, ages)
    np.testing.assert_allclose(moved.sum(dim=(1, 2)), 1.0, rtol=1e-5)
    for axis, theirs, ours in (
        (1, oracle_library.log_ages, own.log_ages),
        (2, oracle_library.metallicities, own.metallicities),
    ):
        np.testing.assert_allclose(moved.sum(axis).numpy() @ ours, grid.sum(axis).numpy() @ theirs, atol=1e-5)


def library_of(ages: list[float], metallicities: list[float]) -> TemplateLibrary:
    flux = np.ones((len(metallicities), len(ages), 4))
    return TemplateLibrary(flux, np.arange(4.0), np.array(ages), np.array(metallicities), 2.5, "test")


def test_only_what_the_checkpoint_knows_is_tested() -> None:
    part = within(library_of([0.001, 0.1, 1.0, 20.0], [-3.0, -1.0, 0.0]), synthetic_decoder())
    assert part.ages_gyr.tolist() == [0.1, 1.0]
    assert part.metallicities.tolist() == [-1.0, 0.0]
    assert part.flux.shape == (2, 2, 4)
    with pytest.raises(LibraryError, match=r"test: metallicities 0 to 1, of which 1 within the checkpoint's -2.27"):
        within(library_of([0.1, 1.0], [0.0, 1.0]), synthetic_decoder())


def test_another_library_is_brought_to_the_checkpoints_resolution(predictor: Predictor, other_library: Path) -> None:
    law = LineSpread(fwhm=6.0)
    training = {"library_sha256": library_sha256(other_library), "config": {"line_spread": law.model_dump(mode="json")}}
    known = replace(predictor.checkpoint, metadata={"training": training})
    found = other_library_of(other_library, known)
    assert "trained on other itself" in found.remarks[0]
    wanted = verified_decoder(within(read_library(other_library), known.decoder), law)
    torch.testing.assert_close(found.decoder.templates(), wanted.templates())
    untold = other_library_of(other_library, predictor.checkpoint)
    assert any("MUSE's is taken" in remark for remark in untold.remarks)
    assert (untold.decoder.templates() - wanted.templates()).abs().max() > 1e-3


def test_another_library_is_asked_for_by_name_and_left_out_otherwise(predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match=r"--suite library: .*add --library"):
        evaluate_suites(predictor, "library")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "SUITES", {"library": SUITES["library"]})
        result = evaluate_suites(predictor, "all")
    assert result["library"] == SuiteResult(remarks=[NO_LIBRARY])


# --- the fits ---


def mixture(decoder: Decoder, av: float, snr: float, seed: int = 5) -> tuple[SyntheticSpectra, np.ndarray, np.ndarray]:
    """One spectrum of three populations: with its noise, as a fit gets it."""
    maker = Synthesizer(decoder, NoiseConfig(), seed)
    grid = torch.zeros(1, *decoder.shape)
    grid[0, 9, 40], grid[0, 7, 20], grid[0, 8, 5] = 0.5, 0.3, 0.2
    clean = maker.clean(grid, torch.tensor([av]))
    flux = clean[:, torch.from_numpy(KEPT)]
    flux = flux + torch.randn(flux.shape, generator=maker.generator) / snr
    rest = torch.zeros(1)
    noise = torch.full_like(flux, 1 / snr)
    truth = SyntheticSpectra(
        flux, clean, grid, torch.tensor([av]), rest, rest, noise, rest, clean, rest + 1, rest, rest
    )
    return truth, flux[0].double().numpy(), np.full(876, 1 / snr)


@pytest.mark.parametrize("av", [0.0, 0.73, 1.5])
@pytest.mark.parametrize("kind", ["nnls", "ppxf"])
def test_a_fit_recovers_a_mixture_without_noise(kind: str, av: float) -> None:
    """With real templates: the analytic ones resemble each other too much for any weights to be unique."""
    if kind == "ppxf":
        pytest.importorskip("ppxf")
    decoder = load_checkpoint().decoder
    rival = rivals.Nnls(decoder) if kind == "nnls" else rivals.Ppxf(decoder)
    truth, flux, noise = mixture(decoder, av, 1e4)
    found = rival(flux, noise)
    assert found.av == pytest.approx(av, abs=0.005)
    assert found.grid.sum() == pytest.approx(1.0)
    grids = found.grid, truth.grid[0].numpy()
    means = [(grid.sum(0) @ decoder.log_ages, grid.sum(1) @ decoder.metallicities) for grid in grids]
    np.testing.assert_allclose(means[0], means[1], atol=0.01)


def test_nnls_finds_a_better_chi_square_than_the_truth() -> None:
    decoder = synthetic_decoder()
    truth, flux, noise = mixture(decoder, 0.5, 30.0)
    found = rivals.Nnls(decoder)(flux, noise)

    def chi_square(grid: np.ndarray, av: float) -> float:
        model = grid.ravel() @ decoder.templates().double().numpy()
        model = (model * 10 ** (-0.4 * av * decoder.attenuation().double().numpy()))[KEPT]
        scale = (model @ flux) / (model @ model)
        return float((((flux - scale * model) / noise) ** 2).sum())

    assert chi_square(found.grid, found.av) < chi_square(truth.grid[0].double().numpy(), 0.5)
    assert chi_square(found.grid, found.av) > 700  # of 876 samples, a few of which the weights use up


def test_the_fits_are_told_apart_and_compared_on_the_same_spectra(few_fits: SuiteResult) -> None:
    pytest.importorskip("ppxf")
    names = ("network", "nnls", "ppxf")
    kinds = [(kind, snr) for kind in ("paper", "survey") for snr in (35, 100)]
    assert list(few_fits.cases) == [f"{kind}_snr_{snr}_{fit}" for kind, snr in kinds for fit in names]
    assert [case["spectra"] for case in few_fits.cases.values()] == [6, 6, 3] * 4
    assert all(case["seconds_per_spectrum"] > 0 for case in few_fits.cases.values())
    found = few_fits.comparisons
    for kind, snr in kinds:
        network, nnls, ppxf = (found[f"{kind}_snr_{snr}_{fit}"] for fit in names)
        for name in QUANTITIES:
            np.testing.assert_allclose(network.truth[name], nnls.truth[name])
            np.testing.assert_allclose(network.truth[name], found[f"{kind}_snr_35_network"].truth[name])
            ratio = few_fits.cases[f"{kind}_snr_{snr}_network"][name]["rms_over_ppxf"]["ratio"]
            errors = network.error(name)[:3], ppxf.error(name)
            assert ratio == pytest.approx(np.sqrt(np.mean(errors[0] ** 2) / np.mean(errors[1] ** 2)))


def test_without_ppxf_the_other_fits_go_on(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(decoder: Decoder) -> None:
        raise ImportError("ppxf")

    monkeypatch.setattr(fits, "Ppxf", missing)
    monkeypatch.setattr(fits, "FITS_SNR", (35,))
    monkeypatch.setattr(fits, "NNLS_SPECTRA", 2)
    result = evaluate_suites(predictor, "fits")["fits"]
    assert list(result.cases) == [f"{kind}_snr_35_{fit}" for kind in ("paper", "survey") for fit in ("network", "nnls")]
    assert "pip install" in result.remarks[0]


# --- what the user sees ---


def test_tables_fit_into_100_columns(results: dict[str, SuiteResult], few_fits: SuiteResult) -> None:
    tables = evaluation_tables({**results, "fits": few_fits})
    assert len(tables) == len(SUITES) - len(APPRAISED_SUITES)
    for table in tables:
        console = Console(width=100)
        with console.capture() as capture:
            console.print(table)
        shown = capture.get()
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= 100


def test_figures_are_made_and_the_same_every_time(
    results: dict[str, SuiteResult], few_fits: SuiteResult, tmp_path: Path
) -> None:
    everything = {**results, "fits": few_fits}
    paths = write_figures(everything, tmp_path / "one")
    names = [f"{name}.png" for name in everything if everything[name].cases]
    assert [path.name for path in paths] == ["paper.png", "paper-examples.png", *names[1:]]
    for path in paths:
        assert path.read_bytes()[:4] == b"\x89PNG"
    (again,) = write_figures({"survey": results["survey"]}, tmp_path / "two")
    assert again.read_bytes() == (tmp_path / "one" / "survey.png").read_bytes()
    assert write_figures({"library": SuiteResult(remarks=[NO_LIBRARY])}, tmp_path / "two") == []


def test_examples_and_residuals_belong_to_the_spectra(results: dict[str, SuiteResult]) -> None:
    comparison = results["paper"].comparisons["blind"]
    assert comparison.counts.sum() == len(comparison) * KEPT.sum()
    counts = residual_counts(np.array([[-9.0, -0.3, 0.001, 0.3, 9.0]]))
    assert {int(k): int(counts[k]) for k in counts.nonzero()[0]} == {0: 2, 60: 1, 119: 2}
    examples = results["paper"].examples
    assert [example.label for example in examples] == ["0% noise", "2% noise", "4% noise"]
    noise = [float(np.median(np.abs(np.diff(example.seen)))) for example in examples]
    assert noise[0] < noise[1] < noise[2]
    for example in examples:
        assert example.truth["av"] in np.round(AV_CLASSES, 1).astype(np.float32)
        mean = example.true_grid.sum(axis=0) @ example.log_ages
        assert example.truth["log_age"] == pytest.approx(mean, abs=1e-3)


def test_results_are_plain_data(results: dict[str, SuiteResult], predictor: Predictor) -> None:
    plain = json.loads(json.dumps(results_dict(results, predictor), allow_nan=False))
    assert plain["about"]["checkpoint_sha256"] == predictor.checkpoint.sha256
    assert plain["survey"]["snr_35"]["metallicity"]["fifths"][0]["mean"] == pytest.approx(
        results["survey"].cases["snr_35"]["metallicity"]["fifths"][0]["mean"]
    )


def test_the_command_writes_tables_json_and_figures(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    arguments = ["evaluate", str(path), "--suite", "dispersion", "--limit", "64", "--output", str(out)]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--plots", str(tmp_path / "plots")])
    assert end.value.code == 0
    assert list(json.loads(out.read_text())) == ["about", "dispersion"]
    assert (tmp_path / "plots" / "dispersion.png").is_file()
    assert "dispersion: predicted minus true" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "everything"], "--suite everything: unknown; expected one of all, paper, survey"),
        (["--suite", "library"], "--suite library: needs a library"),
        (["--suite", "library", "--library", "/nowhere.npz"], "/nowhere.npz: no such template library"),
        (["--suite", "all", "--library", "/nowhere.npz"], "/nowhere.npz: no such template library"),
        (["--suite", "paper", "--library", "/nowhere.npz"], "not used by --suite paper"),
        (["--suite", "paper", "--output", "."], "is a folder"),
        (["--suite", "paper", "--plots", __file__], "is a file"),
        (["--suite", "paper", "--output", "/no/such/folder/x.json"], "no such folder"),
    ],
)
def test_the_command_refuses(
    arguments: list[str], message: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(path), *arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
