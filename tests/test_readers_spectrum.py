"""Every layout gives the same wavelengths in air, flux and variance; what is not known is asked for, never guessed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from galprote.model.errors import SpectrumError
from galprote.pipeline.readers.axis import vacuum_to_air
from galprote.pipeline.readers.layouts.desi import join_arms
from galprote.pipeline.readers.layouts.foreign import spectrum_of_specutils
from galprote.pipeline.readers.spectrum import Spectrum, read_spectrum, without_gaps
from tests import spectra
from tests.spectra import LOGLAM, REDSHIFT, SNR, light, linear, linear_cards

AIR = vacuum_to_air(10**LOGLAM)


def check(spectrum: Spectrum, wavelength: np.ndarray, flux: np.ndarray, variance: np.ndarray | None) -> None:
    np.testing.assert_allclose(spectrum.wavelength, wavelength, rtol=2e-7)  # 0.06 km/s
    np.testing.assert_allclose(spectrum.flux, flux, rtol=2e-6)
    if variance is None:
        assert spectrum.variance is None
    else:
        assert spectrum.variance is not None
        np.testing.assert_allclose(spectrum.variance, variance, rtol=5e-6)


# --- surveys ---


def test_sdss(tmp_path: Path) -> None:
    spectrum = read_spectrum(spectra.write_sdss(tmp_path / "spec-1-2-3.fits"))
    flux = light(10**LOGLAM, vacuum=True)
    check(spectrum, AIR, flux, (flux / SNR) ** 2)
    assert (spectrum.layout, spectrum.native, spectrum.name) == ("SDSS spec", "vacuum", "spec-1-2-3")
    assert spectrum.redshift == pytest.approx(REDSHIFT)
    assert "SPECOBJ" in spectrum.redshift_source
    assert spectrum.ebv is None
    assert "0.0124" in spectrum.ebv_source  # 0.0745 / 5.155 * 0.86: the plate's, which is not this galaxy's
    # 0.9 samples of 69 km/s, standard deviation
    assert spectrum.fwhm is not None
    np.testing.assert_allclose(spectrum.fwhm / spectrum.wavelength * 2.998e5, 2.3548 * 0.9 * 69.03, rtol=2e-3)


def test_sdss_flags_and_warnings(tmp_path: Path) -> None:
    path = spectra.write_sdss(tmp_path / "spec.fits")
    with fits.open(path, mode="update") as hdus:
        hdus["COADD"].data["and_mask"][10] = 1 << 23  # BRIGHTSKY
        hdus["COADD"].data["and_mask"][11] = 1 << 16  # NEARBADPIXEL: still data
        hdus["COADD"].data["ivar"][12] = 0
        hdus["SPECOBJ"].data["ZWARNING"] = 4
        hdus["SPECOBJ"].data["CLASS"] = "QSO"
    spectrum = read_spectrum(path)
    assert np.flatnonzero(np.isnan(spectrum.flux)).tolist() == [10]
    assert np.flatnonzero(np.isnan(spectrum.variance)).tolist() == [12]  # type: ignore[arg-type]
    assert any("ZWARNING = 4" in note for note in spectrum.notes)
    assert any("QSO" in note for note in spectrum.notes)


def test_sdss_of_the_first_releases(tmp_path: Path) -> None:
    flux = light(10**LOGLAM, vacuum=True)
    spectrum = read_spectrum(spectra.write_spspec(tmp_path / "spSpec-1-2-3.fit"))
    check(spectrum, AIR, flux, (flux / SNR) ** 2)
    assert (spectrum.redshift, spectrum.native) == (REDSHIFT, "vacuum")


def test_a_whole_plate_is_refused(tmp_path: Path) -> None:
    path = spectra.write_image(tmp_path / "spPlate.fits", {"COEFF0": 3.6, "COEFF1": 1e-4}, np.ones((8, 50)))
    with pytest.raises(SpectrumError, match="whole plate"):
        read_spectrum(path)


def test_desi(tmp_path: Path) -> None:
    path = spectra.write_desi(tmp_path / "coadd.fits")
    with pytest.raises(SpectrumError, match="3 spectra: choose one, --row 0 to --row 2"):
        read_spectrum(path)
    spectrum = read_spectrum(path, row=1)
    vacuum = np.arange(4760.0, 7230.0, 0.8)  # each wavelength once, although the arms overlap
    shared = (vacuum >= 5759.9) & (vacuum <= 5800.1)
    flux = light(vacuum, vacuum=True)
    check(spectrum, vacuum_to_air(vacuum), flux, np.where(shared, 0.5, 1.0) * (10 / SNR) ** 2)
    assert spectrum.name == "coadd row 1, target 1001"
    assert spectrum.ebv == pytest.approx(0.86 * 0.05)
    assert spectrum.redshift is None
    # Bands of 1/4, 1/2, 1/4: a standard deviation of sqrt(1/2) samples.
    assert spectrum.fwhm is not None
    np.testing.assert_allclose(spectrum.fwhm, 2.3548 * np.sqrt(0.5) * 0.8, rtol=1e-3)


def test_arms_of_different_grids_are_cut_in_the_middle() -> None:
    def arm(wavelength: np.ndarray) -> tuple[np.ndarray, ...]:
        return wavelength, np.ones_like(wavelength), np.ones_like(wavelength), np.ones_like(wavelength)

    wavelength = join_arms([arm(np.arange(5000.0, 5100.0, 0.8)), arm(np.arange(5050.3, 5200, 1.1))])[0]  # type: ignore[list-item]
    assert np.diff(wavelength).min() > 0.3  # nowhere two samples in one place
    assert np.diff(wavelength).max() < 2.0


def test_rows_of_manga(tmp_path: Path) -> None:
    path = spectra.write_rows(tmp_path / "rows.fits.gz")
    flux = light(10**LOGLAM, vacuum=True)
    spectrum = read_spectrum(path, row=1)
    check(spectrum, AIR, flux, (flux / SNR) ** 2)
    assert (spectrum.native, spectrum.redshift, spectrum.name) == ("vacuum", REDSHIFT, "rows row 1")
    assert spectrum.fwhm is not None
    np.testing.assert_allclose(10**LOGLAM / spectrum.fwhm, 1900.0)
    with pytest.raises(SpectrumError, match="row 0 has no usable sample"):
        read_spectrum(path, row=0)
    with pytest.raises(SpectrumError, match="row 2: it has 2 spectra, rows 0 to 1"):
        read_spectrum(path, row=2)


# --- images ---


@pytest.mark.parametrize("form", ["air", "vacuum", "log", "iraf", "vague", "nm"])
def test_images(tmp_path: Path, form: str) -> None:
    """One axis in all the ways in which headers say it."""
    linear_axis, n = linear(), len(LOGLAM)
    log_cards = {"CRVAL1": 10 ** LOGLAM[0], "CDELT1": 10 ** LOGLAM[0] * np.log(10) * 1e-4, "CRPIX1": 1.0}
    cases = {
        "air": (linear_cards(linear_axis), linear_axis, False),
        "vacuum": (linear_cards(linear_axis, "WAVE"), linear_axis, True),
        "log": (log_cards | {"CTYPE1": "WAVE-LOG", "CUNIT1": "Angstrom"}, 10**LOGLAM, True),
        "iraf": ({"CRVAL1": LOGLAM[9], "CD1_1": 1e-4, "CRPIX1": 10.0, "DC-FLAG": 1, "VACUUM": True}, 10**LOGLAM, True),
        "vague": (linear_cards(linear_axis, "LINEAR") | {"AIRORVAC": "air"}, linear_axis, False),
        "nm": (linear_cards(linear_axis / 10) | {"CUNIT1": "nm"}, linear_axis, False),
    }
    cards, wavelength, vacuum = cases[form]
    assert len(wavelength) in (n, len(linear_axis))
    flux = light(wavelength, vacuum=vacuum)
    spectrum = read_spectrum(spectra.write_image(tmp_path / "s.fits", cards, flux, STAT=flux))
    check(spectrum, vacuum_to_air(wavelength) if vacuum else wavelength, flux, flux)
    assert spectrum.native == ("vacuum" if vacuum else "air")


@pytest.mark.parametrize(
    ("name", "stored"),
    [("STAT", lambda v: v), ("IVAR", lambda v: 1 / v), ("ERR", np.sqrt), ("UNCERT", np.sqrt), ("VAR", lambda v: v)],
)
def test_errors_are_known_by_their_names(tmp_path: Path, name: str, stored: Callable[[np.ndarray], np.ndarray]) -> None:
    wavelength = linear()
    variance = np.linspace(1, 2, len(wavelength))
    flags = np.zeros(len(wavelength), np.int32)
    flags[5] = 2
    path = spectra.write_image(
        tmp_path / "s.fits", linear_cards(wavelength), 10 + variance, **{name: stored(variance), "DQ": flags}
    )
    spectrum = read_spectrum(path)
    assert spectrum.variance is not None
    np.testing.assert_allclose(spectrum.variance, variance)
    assert np.flatnonzero(np.isnan(spectrum.flux)).tolist() == [5]


def test_air_or_vacuum_is_never_guessed(tmp_path: Path) -> None:
    wavelength = linear()
    cards = {"CRVAL1": wavelength[0], "CDELT1": 1.25}  # as pPXF's SAURON spectrum
    path = spectra.write_image(tmp_path / "s.fits", cards, light(wavelength))
    with pytest.raises(SpectrumError, match=r"add --air or --vacuum"):
        read_spectrum(path)
    air, vacuum = (read_spectrum(path, medium=medium) for medium in ("air", "vacuum"))  # type: ignore[arg-type]
    np.testing.assert_allclose(air.wavelength, wavelength, rtol=1e-12)
    np.testing.assert_allclose(vacuum.wavelength, vacuum_to_air(wavelength), rtol=1e-12)
    assert any("CRPIX1" in note for note in air.notes)
    assert any("CUNIT1" in note for note in air.notes)
    # What the command says holds against the file, and is said.
    told = read_spectrum(spectra.write_sdss(tmp_path / "spec.fits"), medium="air")
    np.testing.assert_allclose(told.wavelength, 10**LOGLAM)
    assert any("the file says vacuum" in note for note in told.notes)


# --- tables and text ---


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("wave", "flux", "error"),
    [
        ("wavelength", "flux", "error"),
        ("WAVE", "FLUX", "ERR"),
        ("lambda", "flam", "ivar"),
        ("LOGLAM", "Flux", "VARIANCE"),
    ],
)
def test_tables(tmp_path: Path, wave: str, flux: str, error: str, nested: bool) -> None:
    wavelength = linear()
    values = light(wavelength)
    sigma = values / SNR
    stored = {"ivar": sigma**-2, "VARIANCE": sigma**2}.get(error, sigma)
    columns = {wave: np.log10(wavelength) if wave == "LOGLAM" else wavelength, flux: values, error: stored}
    cards = {"VACUUM": False, "REDSHIFT": 0.01}
    spectrum = read_spectrum(spectra.write_table(tmp_path / "t.fits", columns, nested=nested, **cards))
    check(spectrum, wavelength, values, sigma**2)
    assert (spectrum.native, spectrum.redshift) == ("air", 0.01)


def test_units_of_tables(tmp_path: Path) -> None:
    wavelength = linear()
    values = {"wave_vac": wavelength / 1e4, "flux": light(wavelength, vacuum=True)}
    path = spectra.write_table(tmp_path / "t.fits", values, {"wave_vac": "um", "flux": "erg s-1 cm-2 Angstrom-1"})
    spectrum = read_spectrum(path)
    check(spectrum, vacuum_to_air(wavelength), values["flux"], None)
    assert spectrum.native_source == "column wave_vac"
    for column, unit, message in (
        ("flux", "Jy", "flux density per wavelength"),
        ("wave_vac", "Hz", "expected Angstrom"),
    ):
        bad = spectra.write_table(tmp_path / f"{column}.fits", values, {"wave_vac": "um"} | {column: unit})
        with pytest.raises(SpectrumError, match=message):
            read_spectrum(bad)


def test_esos_air(tmp_path: Path) -> None:
    """ESO's tables say air in a UCD."""
    wavelength = linear()
    columns = {"WAVE": wavelength, "FLUX": light(wavelength)}
    path = spectra.write_table(tmp_path / "t.fits", columns, nested=True, TUCD1="em.wl;obs.atmos")
    assert read_spectrum(path).native == "air"


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
@pytest.mark.parametrize("heading", ["none", "names", "comment"])
def test_text(tmp_path: Path, separator: str, heading: str) -> None:
    wavelength = linear()
    flux, sigma = light(wavelength), light(wavelength) / SNR
    lines = {
        "none": ["# observed wavelengths in air"],
        "names": [separator.join(("wave_air", "flux", "sigma"))],
        "comment": ["# a spectrum", "# wave_air flux err"],
    }[heading]
    spectrum = read_spectrum(
        spectra.write_text(tmp_path / "s.txt", lines, wavelength, flux, sigma, separator=separator)
    )
    check(spectrum, wavelength, flux, sigma**2)
    assert spectrum.native == "air"


def test_text_with_a_mask_and_two_columns(tmp_path: Path) -> None:
    wavelength = linear()
    flux = light(wavelength)
    two = read_spectrum(spectra.write_text(tmp_path / "2.dat", [], wavelength, flux), medium="air")
    check(two, wavelength, flux, None)
    mask = (np.arange(len(flux)) == 7).astype(float)
    four = read_spectrum(spectra.write_text(tmp_path / "4.dat", [], wavelength, flux, flux, mask), medium="air")
    assert np.flatnonzero(np.isnan(four.flux)).tolist() == [7]
    down = spectra.write_text(tmp_path / "d.dat", [], wavelength[::-1], flux[::-1])
    check(read_spectrum(down, medium="air"), wavelength, flux, None)


def test_rows_that_were_left_out_are_missing(tmp_path: Path) -> None:
    """A table without its bad rows is the same spectrum as one with NaN in them."""
    wavelength = linear()
    flux = light(wavelength)
    kept = np.ones(len(flux), dtype=bool)
    kept[[50, 100, 101, 102, 700]] = False
    kept[900:940] = False
    path = spectra.write_text(tmp_path / "s.txt", [], wavelength[kept], flux[kept])
    spectrum = read_spectrum(path, medium="air")
    check(spectrum, wavelength, np.where(kept, flux, np.nan), None)
    assert any("45 samples are not in the file" in note for note in spectrum.notes)


def test_where_two_samplings_meet_nothing_is_missing() -> None:
    two = np.concatenate(
        [np.arange(5000.0, 5100.0, 0.5), np.arange(5100.0, 5300.0, 1.25), np.arange(5300.0, 5400.0, 4)]
    )
    complete, place = without_gaps(two)
    np.testing.assert_array_equal(complete, two)
    np.testing.assert_array_equal(place, np.arange(len(two)))


def test_ecsv(tmp_path: Path) -> None:
    wavelength = linear()
    table = Table({"wavelength": wavelength / 10, "flux": light(wavelength), "error": light(wavelength) / SNR})
    table["wavelength"].unit = "nm"
    table.meta.update({"comment": "air wavelengths", "redshift": 0.02})
    table.write(tmp_path / "s.ecsv")
    spectrum = read_spectrum(tmp_path / "s.ecsv")
    check(spectrum, wavelength, light(wavelength), (light(wavelength) / SNR) ** 2)
    assert (spectrum.native, spectrum.redshift) == ("air", 0.02)


# --- what cannot be read ---


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing.txt", "", "no numbers"),
        ("page.txt", "<html>\n", "one line, and no numbers: <html>"),
        ("words.txt", "hello world\nthis is\nno spectrum\n", "no column is named|not all numbers"),
        ("ragged.txt", "5000 1\n5001 1 1\n5002 1\n", "row 2 of the numbers has 3 columns, expected 2"),
        ("one.txt", "1\n2\n3\n", "1 columns without names"),
        ("names.txt", "x y\n5000 1\n5001 1\n", "rename them wavelength, flux"),
        ("twice.txt", "wave lambda flux\n5000 5000 1\n5001 5001 2\n", "wave, lambda may all be the wavelength"),
        ("log.txt", "3.70 1\n3.71 1\n3.72 1\n", "are they logarithms"),
        ("same.txt", "5000 1\n5000 1\n5002 1\n", "not monotonic"),
        ("coarse.txt", "5000 1\n5010 1\n5020 2\n", "10 A wide or more: at most 9.93 A"),
        ("nan.txt", "5000 nan\n5001 nan\n5002 nan\n", "no usable sample"),
        ("binary.dat", b"\xff\xfe\x00\x81" * 10, "neither FITS nor text"),
        ("short.fits", b"SIMPLE  =                    T" + b" " * 500, "damaged|no spectrum"),
    ],
)
def test_clear_errors(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(SpectrumError, match=message) as caught:
        read_spectrum(path, medium="air")
    assert str(caught.value).startswith(str(path))


def test_no_file_and_no_spectrum(tmp_path: Path) -> None:
    with pytest.raises(SpectrumError, match="no such file"):
        read_spectrum(tmp_path / "none.fits")
    with pytest.raises(SpectrumError, match="a folder"):
        read_spectrum(tmp_path)
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    with pytest.raises(SpectrumError, match=r"no spectrum found|specutils cannot read it"):
        read_spectrum(tmp_path / "empty.fits")
    cube = {"CRVAL1": 1.0, "CDELT1": 1.0, "CTYPE3": "AWAV"}
    path = spectra.write_image(tmp_path / "cube.fits", cube, np.ones((20, 6, 6)))
    with pytest.raises(SpectrumError, match="this is a cube"):
        read_spectrum(path)


@pytest.mark.parametrize("length", [3000, 9000, 40_000])
def test_files_cut_short(tmp_path: Path, length: int) -> None:
    whole = spectra.write_sdss(tmp_path / "spec.fits").read_bytes()
    (tmp_path / "cut.fits").write_bytes(whole[:length])
    with pytest.raises(SpectrumError, match=r"cut\.fits: "):
        read_spectrum(tmp_path / "cut.fits")


def test_what_specutils_reads() -> None:
    """Its objects become spectra: units per frequency converted, uncertainties to variances."""
    specutils = pytest.importorskip("specutils")
    from astropy import units as u
    from astropy.nddata import StdDevUncertainty

    wavelength = linear()
    flux = light(wavelength) * 1e-17 * u.erg / u.s / u.cm**2 / u.AA
    axis = wavelength * u.AA
    janskys = flux.to(u.Jy, u.spectral_density(axis))
    make = getattr(specutils, "Spectrum", None) or specutils.Spectrum1D
    spectrum = make(flux=janskys, spectral_axis=axis, uncertainty=StdDevUncertainty(janskys / SNR))
    raw = spectrum_of_specutils(spectrum, None)
    np.testing.assert_allclose(raw.flux, flux.value, rtol=1e-9)
    np.testing.assert_allclose(raw.variance, (flux.value / SNR) ** 2, rtol=1e-9)
    np.testing.assert_allclose(raw.wavelength, wavelength)
    assert raw.medium is None
