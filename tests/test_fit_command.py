"""`galprote-pipeline fit`: a known spectrum comes back from every layout; real galaxies are what they are known as."""

import json
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from PIL import Image

from galprote.model.errors import ConfigError, SpectrumError
from galprote.model.grids import KEPT, WAVELENGTH
from galprote.model.kinematics import C_KMS
from galprote.pipeline import fit_spectra
from galprote.pipeline.quality import NOT_FITTED, Status
from galprote.pipeline.readers.spectrum import Spectrum, read_spectrum
from galprote.pipeline.single import SpectrumFit, better_redshift, fit_spectrum, masked
from galprote.workflows.fit_report import WORDS, _shown, remarks
from tests import spectra
from tests.spectra import AV, LOG_AGE, LOGLAM, METALLICITY, REDSHIFT, SNR, light, linear, linear_cards
from tests.surveys import call

Capture = pytest.CaptureFixture[str]
Array = NDArray[np.float64]
QUANTITIES = ("log_age", "metallicity", "av")
#: E(B-V) of the plates (docs/spectra.md).
REAL = {"NGC3522": 0.0124, "NGC3073": 0.0072}


def test_no_number_is_minus_zero() -> None:
    assert [_shown(value, 0) for value in (-0.4, 0.4, -0.6, None)] == ["0", "0", "-1", ""]


def values(fit: SpectrumFit) -> Array:
    return np.array([getattr(fit.populations, name)[0] for name in QUANTITIES], dtype=float)


def errors(fit: SpectrumFit) -> Array:
    return np.array([getattr(fit.populations, f"{name}_error")[0] for name in QUANTITIES], dtype=float)


@pytest.fixture(scope="module")
def sdss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spectra.write_sdss(tmp_path_factory.mktemp("sdss") / "spec-0001.fits", seed=1)


# --- a known galaxy ---


def test_the_truth_comes_back_from_every_layout(tmp_path: Path) -> None:
    """Without noise in it, but with errors that say S/N 40 a sample: within two errors, which
    heed how small the residuals are, and in all layouts alike."""
    axis = linear()
    flux, vacuum = light(axis), light(axis, vacuum=True)
    sigma, table = flux / SNR, {"wavelength": axis, "flux": vacuum, "error": vacuum / SNR}
    iraf = {"CRVAL1": LOGLAM[0], "CD1_1": 1e-4, "CRPIX1": 1.0, "DC-FLAG": 1}
    logarithmic = light(10**LOGLAM, vacuum=True)
    made = (
        (spectra.write_sdss(tmp_path / "sdss.fits"), {}),
        (spectra.write_desi(tmp_path / "desi.fits"), {"row": 1}),
        (spectra.write_rows(tmp_path / "rows.fits"), {"row": 1}),
        (spectra.write_image(tmp_path / "air.fits", linear_cards(axis), flux, ERR=sigma), {}),
        (spectra.write_image(tmp_path / "log.fits", iraf, logarithmic, ERR=logarithmic / SNR), {"medium": "vacuum"}),
        (spectra.write_table(tmp_path / "vacuum.fits", table, VACUUM=True), {}),
        (spectra.write_text(tmp_path / "text.txt", ["# in air"], axis, flux, sigma), {}),
    )
    found = {}
    for path, options in made:
        read = replace(read_spectrum(path, **options), fwhm=None)  # type: ignore[arg-type]  # the templates', in truth
        fit = fit_spectrum(read, redshift=REDSHIFT, ebv=0.0)
        found[path.stem] = values(fit)
        assert (np.abs(values(fit) - (LOG_AGE, METALLICITY, AV)) < 2 * errors(fit)).all(), path.stem
        assert abs(fit.populations.velocity[0]) < 15, path.stem  # 83 km/s if vacuum and air were mistaken
        assert fit.status == 0, path.stem
    spread = np.ptp(list(found.values()), axis=0)
    assert (spread < (0.08, 0.08, 0.05)).all(), found  # their samplings, and with them S/N, differ


def test_vacuum_taken_for_air_is_a_velocity(tmp_path: Path) -> None:
    spectrum = read_spectrum(spectra.write_sdss(tmp_path / "sdss.fits"), medium="air")
    fit = fit_spectrum(spectrum, redshift=REDSHIFT, ebv=0.0)
    assert fit.populations.velocity[0] == pytest.approx(83, abs=20)


def test_it_is_fit_spectra(sdss: Path) -> None:
    """The same numbers, to the last bit but for the padding at the ends, as from a notebook."""
    spectrum = read_spectrum(sdss)
    one = fit_spectrum(spectrum, redshift=REDSHIFT, ebv=0.02)
    data = spectrum.wavelength, spectrum.flux, spectrum.variance
    same = fit_spectra(*data, redshift=REDSHIFT, ebv=0.02, fwhm=spectrum.fwhm)
    for name in QUANTITIES:
        np.testing.assert_allclose(getattr(one.populations, name), getattr(same, name), atol=2e-4)
    np.testing.assert_allclose(one.model, same.model_flux[0], rtol=1e-3)
    # What the figure shows is what was fitted: residuals of the stated size, in the file's unit.
    pull = ((one.flux - one.model) / one.error)[one.used]
    assert 0.9 < pull.std() < 1.1
    assert one.used.sum() == KEPT.sum()
    assert np.median(one.flux) == pytest.approx(np.median(spectrum.flux), rel=0.1)


def test_foreground_dust_is_removed_once() -> None:
    axis = linear()
    spectrum = Spectrum(axis, light(axis), (light(axis) / SNR) ** 2, "", "s", "text", "air", "")
    plain, dimmed = (fit_spectrum(spectrum, redshift=REDSHIFT, ebv=ebv) for ebv in (0.0, 0.1))
    # What is taken for foreground no longer counts as the galaxy's: 0.31 mag.
    assert plain.populations.av[0] - dimmed.populations.av[0] == pytest.approx(0.31, abs=0.06)


def test_masks_and_ends(sdss: Path) -> None:
    """Masked samples decide nothing; a spectrum that misses a tenth of the window is fitted, and says so."""
    spectrum = read_spectrum(sdss)
    whole = fit_spectrum(spectrum, redshift=REDSHIFT, ebv=0.0)
    spoilt = spectrum.flux.copy()
    inside = masked(spectrum.wavelength, [(5570.0, 5585.0)])
    assert inside.sum() in (12, 13)
    spoilt[inside] *= 50
    kept = fit_spectrum(Spectrum(**(vars(spectrum) | {"flux": spoilt})), redshift=REDSHIFT, ebv=0.0,
                        masks=[(5570.0, 5585.0)])  # fmt: skip
    assert (np.abs(values(kept) - values(whole)) < 0.5 * errors(whole)).all()
    rest = WAVELENGTH[kept.filled]
    assert rest.min() > 5570 / (1 + REDSHIFT) - 2.5
    assert rest.max() < 5585 / (1 + REDSHIFT) + 2.5
    for first, last in ((0.0, 5040.0), (6940.0, 1e5)):  # a tenth of the window
        chosen = ~masked(spectrum.wavelength, [(first, last)])
        arrays = {name: getattr(spectrum, name)[chosen] for name in ("wavelength", "flux", "variance", "fwhm")}
        cut = fit_spectrum(Spectrum(**(vars(spectrum) | arrays)), redshift=REDSHIFT, ebv=0.0)
        assert (np.abs(values(cut) - values(whole)) < errors(whole)).all()
        assert 0.08 < cut.filled_fraction < 0.12
        assert cut.filled[0] or cut.filled[-1]
        assert any("10 % of the window is missing" in note for note in cut.notes)
    assert not any("of the window is missing" in note for note in whole.notes)


def test_too_little_is_refused(sdss: Path) -> None:
    spectrum = read_spectrum(sdss)
    with pytest.raises(SpectrumError, match=r"the model reads 4748 to 7102 A.*Is the redshift right"):
        fit_spectrum(spectrum, redshift=0.2, ebv=0.0)
    with pytest.raises(SpectrumError, match=r"samples have no data.*at most 15 %"):
        fit_spectrum(spectrum, redshift=REDSHIFT, ebv=0.0, masks=[(5000.0, 6000.0)])
    negative = Spectrum(**(vars(spectrum) | {"flux": -spectrum.flux}))
    with pytest.raises(SpectrumError, match="not positive"):
        fit_spectrum(negative, redshift=REDSHIFT, ebv=0.0)
    with pytest.raises(ConfigError, match="expected a foreground"):
        fit_spectrum(spectrum, redshift=REDSHIFT, ebv=-1.0)


@pytest.mark.parametrize("off", [-400.0, 1000.0])
def test_a_wrong_redshift_is_seen_and_mended(sdss: Path, off: float) -> None:
    spectrum = read_spectrum(sdss)
    wrong = (1 + REDSHIFT) * (1 + off / C_KMS) - 1
    fit = fit_spectrum(spectrum, redshift=wrong, ebv=0.0)
    better = better_redshift(fit)
    assert better is not None
    assert (better - REDSHIFT) / (1 + REDSHIFT) * C_KMS == pytest.approx(0, abs=100)
    assert any("try --redshift" in line for line in remarks(fit))
    assert better_redshift(fit_spectrum(spectrum, redshift=better, ebv=0.0)) is None


def test_resolution_is_remarked_on() -> None:
    axis = linear()
    spectrum = Spectrum(axis, light(axis), (light(axis) / SNR) ** 2, "", "s", "text", "air", "")
    for fwhm, words in ((None, "is not known"), (2.7, ""), (6.0, "blunter"), (1.0, "sharper")):
        notes = fit_spectrum(spectrum, redshift=REDSHIFT, ebv=0.0, fwhm=fwhm).notes
        assert any(words in note for note in notes) if words else not notes, fwhm
    own = replace(spectrum, fwhm=np.full_like(axis, 6.0))  # the file's goes before the command's
    assert any("blunter" in note for note in fit_spectrum(own, redshift=REDSHIFT, ebv=0.0, fwhm=2.7).notes)
    with pytest.raises(SpectrumError, match=r"^s: .*too blunt|blunter"):
        fit_spectrum(spectrum, redshift=REDSHIFT, ebv=0.0, fwhm=40.0)


def test_every_bit_of_a_fitted_spectrum_has_words() -> None:
    assert {bit for bit in Status if bit not in NOT_FITTED | Status.NO_VELOCITY} == set(WORDS)


# --- the command ---


def test_the_command(capsys: Capture, sdss: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    code, output, error = call(capsys, "fit", sdss, "--ebv", 0.02, "--output", folder)
    assert code == 0, error
    for text in ("log age, light-weighted", "from the file: table SPECOBJ", "0.0200 (given)", "S/N per 2.48 A"):
        assert text in output
    assert sorted(path.name for path in folder.iterdir()) == [f"spec-0001_fit.{end}" for end in ("fits", "json", "png")]
    report = json.loads((folder / "spec-0001_fit.json").read_text())
    assert report["results"]["av"]["unit"] == "mag"
    assert report["results"]["log_age"]["value"] == pytest.approx(
        LOG_AGE, abs=3 * report["results"]["log_age"]["error"]
    )
    assert report["redshift"] == {"value": pytest.approx(REDSHIFT), "source": "from the file: table SPECOBJ, Z"}
    with fits.open(folder / "spec-0001_fit.fits") as hdus:
        table, grid = hdus["SPECTRUM"].data, hdus["GRID"].data
        assert hdus[0].header["LOG_AGE"] == pytest.approx(report["results"]["log_age"]["value"])
        np.testing.assert_allclose(table["FLUX"] - table["MODEL"], table["RESIDUAL"])
        np.testing.assert_array_equal(table["MASK"] & 1, ~KEPT)
        assert grid.sum() == pytest.approx(1, abs=1e-4)
        mean = (grid.sum(axis=0) * hdus["LOG_AGE"].data).sum()
        assert mean == pytest.approx(report["results"]["log_age"]["value"], abs=1e-4)
    with Image.open(folder / "spec-0001_fit.png") as picture:
        assert picture.size == (1599, 744)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    assert {(213, 94, 0), (34, 34, 34)} <= colours  # the model and the observed spectrum
    first = (folder / "spec-0001_fit.png").read_bytes()
    assert call(capsys, "fit", sdss, "--ebv", 0.02, "--output", folder)[0] == 0
    assert (folder / "spec-0001_fit.png").read_bytes() == first


def test_json_and_a_figure_of_ones_own(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spectra.write_desi(tmp_path / "coadd.fits")
    code, output, _ = call(
        capsys, "fit", "coadd.fits", "--row", 1, "--redshift", REDSHIFT, "--json", "--mask", "5570:5585"
    )
    assert code == 0
    report = json.loads(output)
    assert report["ebv"] == {"value": pytest.approx(0.043), "unit": "mag",
                             "source": "from the file: table FIBERMAP, EBV = 0.0500 (SFD), times 0.86"}  # fmt: skip
    assert report["samples"]["filled"] >= 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coadd.fits", "coadd_row1_fit.png"]
    words = ("fit", "coadd.fits", "--row", 1, "--redshift", REDSHIFT, "--output", "own.svg")
    assert call(capsys, *words)[0] == 0
    assert "<svg" in (tmp_path / "own.svg").read_text()[:500]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["spec.fits"], r"E\(B-V\) is not known; the median over its plate is 0.0124"),
        (["spec.fits", "--ebv", "0", "--mask", "56"], "--mask 56: expected FIRST:LAST"),
        (["spec.fits", "--ebv", "0", "--mask", "6000:5000"], "expected FIRST:LAST"),
        (["spec.fits", "--ebv", "0", "--law", "X"], "law = 'X'"),
        (["spec.fits", "--ebv", "0", "--output", "spec.fits"], "is a file; name a folder"),
        (["spec.fits", "--ebv", "0", "--output", "no/such.png"], "no such folder"),
        (["spec.fits", "--ebv", "0", "--row", "1"], "row 1: it has one spectrum"),
        (["plain.txt", "--ebv", "0", "--air"], "give --redshift"),
        (["plain.txt", "--ebv", "0", "--redshift", "0.012"], "add --air or --vacuum"),
        (["none.fits"], "no such file"),
    ],
)
def test_errors_are_for_people(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    spectra.write_sdss(tmp_path / "spec.fits")
    spectra.write_text(tmp_path / "plain.txt", [], linear(), light(linear()))
    before = sorted(tmp_path.rglob("*"))
    code, _, error = call(capsys, "fit", *words)
    assert code == 2
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before


# --- real galaxies ---


@lru_cache(maxsize=2)
def real(name: str) -> Spectrum:
    """A spectrum that comes with pPXF."""
    ppxf = pytest.importorskip("ppxf", reason="pip install 'galprote[compare]' brings the spectra")
    return read_spectrum(Path(ppxf.__file__).parent / "spectra" / f"{name}_SDSS_DR18.fits")


@lru_cache(maxsize=2)
def real_fit(name: str) -> SpectrumFit:
    return refit(real(name), REAL[name])


def refit(spectrum: Spectrum, ebv: float) -> SpectrumFit:
    assert spectrum.redshift is not None
    return fit_spectrum(spectrum, redshift=spectrum.redshift, ebv=ebv)


def test_ngc3073_is_much_younger_than_ngc3522() -> None:
    """A dwarf with young stars beside an old early type (pPXF: docs/spectra.md)."""
    young, old = real_fit("NGC3073"), real_fit("NGC3522")
    error = np.hypot(errors(young)[0], errors(old)[0])
    assert values(old)[0] - values(young)[0] > 5 * error
    assert values(old)[0] > 9.8
    assert young.populations.mass_to_light[0] < 0.3 * old.populations.mass_to_light[0]
    assert values(old)[2] < 2 * errors(old)[2]  # A_V of the early type is zero within its error
    for fit in (young, old):
        assert fit.status == 0
        assert fit.populations.trust[0] > 0.05
        assert 0.8 < fit.populations.noise_scale[0] < 1.2
        assert abs(fit.populations.velocity[0]) < 50


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("change", ["blue cut", "red cut", "S/N 50", "S/N 25"])
def test_real_values_repeat(name: str, change: str) -> None:
    """With a tenth of the window missing, or with more noise: within the errors of both."""
    spectrum, reference = real(name), real_fit(name)
    if change.endswith("cut"):
        ends = {"blue cut": (4990.0, 1e5), "red cut": (0.0, 6890.0)}[change]
        kept = (spectrum.wavelength > ends[0]) & (spectrum.wavelength < ends[1])
        arrays = {key: getattr(spectrum, key)[kept] for key in ("wavelength", "flux", "variance", "fwhm")}
    else:
        sigma = np.nanmedian(spectrum.flux) / float(change[4:])
        rng = np.random.default_rng(5)
        assert spectrum.variance is not None
        noisy = spectrum.flux + sigma * rng.normal(size=len(spectrum.flux))
        arrays = {"flux": noisy, "variance": spectrum.variance + sigma**2}
    changed = refit(Spectrum(**(vars(spectrum) | arrays)), REAL[name])
    error = np.hypot(errors(reference), errors(changed))
    assert (np.abs(values(changed) - values(reference)) < error).all(), (values(changed) - values(reference)) / error
    assert changed.populations.trust[0] > 0.01
