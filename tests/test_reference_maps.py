"""Other people's maps onto our spaxels: layouts, names, units, pixels."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from galprote.model.errors import ConfigError
from galprote.pipeline.compared_quantities import BY_NAME
from galprote.pipeline.maps import MapsError, open_maps
from galprote.pipeline.reference_maps import Reference, ReferenceMap, ReferenceOptions, read_reference
from galprote.pipeline.reference_units import convert
from tests.map_files import Array, sky_header, smooth_maps, write_images, write_store

SHAPE = (40, 50)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("ours") / "NGC1.zarr", smooth_maps(SHAPE), sky_header(SHAPE))


def read(path: Path, store: Path, **options: object) -> Reference:
    return read_reference(path, open_maps(store), ReferenceOptions(**options))  # type: ignore[arg-type]


def of_quantity(reference: Reference, name: str) -> ReferenceMap:
    return next(item for item in reference.maps if item.quantity.name == name)


def values(reference: Reference, name: str) -> Array:
    return of_quantity(reference, name).values


def words(reference: Reference, name: str) -> str:
    return of_quantity(reference, name).conversion


# --- units ---


@pytest.mark.parametrize(
    ("name", "value", "unit", "expected"),
    [
        ("age_lw", 9.5, "log(yr)", 9.5),
        ("age_lw", 9.5, "dex(yr)", 9.5),
        ("age_lw", 9.5, "[log10(age/yr)]", 9.5),
        ("age_lw", 0.5, "log(Gyr)", 9.5),
        ("age_lw", 5.0, "Gyr", 9.69897000434),
        ("age_mw", 100.0, "Myr", 8.0),
        ("age_mw", 1e9, "yr", 9.0),
        ("metallicity_lw", -0.4, "[Z/H]", -0.4),
        ("metallicity_lw", 0.5, "Zsun", np.log10(0.5)),
        ("metallicity_lw", 0.5, "Z/Z_sun", np.log10(0.5)),
        ("metallicity_lw", -0.4, "log(Z/Z_sun)", -0.4),
        ("metallicity_mw", -0.4, "log10(Z / Zsun)", -0.4),
        ("av", 0.7, "mag", 0.7),
        ("stellar_mass_density", 100.0, "solMass / pc2", 2.0),
        ("stellar_mass_density", 1e8, "Msun/kpc^2", 2.0),
        ("stellar_mass_density", 2.0, "log(Msun/pc2)", 2.0),
        ("stellar_mass_density", 8.0, "dex(solMass/kpc2)", 2.0),
        ("t50", 500.0, "Myr", 0.5),
        ("v_stars", 3000.0, "m/s", 3.0),
    ],
)
def test_units_are_converted(name: str, value: float, unit: str, expected: float) -> None:
    found, _, said = convert(BY_NAME[name], np.array([value]), np.array([np.nan]), unit)
    assert found[0] == pytest.approx(expected, abs=1e-9)
    unchanged = expected == value or (name == "stellar_mass_density" and unit in ("solMass / pc2", "log(Msun/pc2)"))
    assert bool(said) != unchanged  # a conversion is never silent


def test_errors_follow_the_conversion() -> None:
    """An age of 2 +- 0.2 Gyr is 9.301 +- 0.0434 dex; 0.2 mag of E(B-V) error is 0.2 mag."""
    _, error, _ = convert(BY_NAME["age_lw"], np.array([2.0]), np.array([0.2]), "Gyr")
    assert error[0] == pytest.approx(0.1 / np.log(10))
    _, error, _ = convert(BY_NAME["stellar_mass_density"], np.array([8.0]), np.array([0.05]), "log(Msun/kpc2)")
    assert error[0] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ((7.9, 9.9), (7.9, 9.9)),
        ((0.5, 12.0), (8.69897, 10.07918)),
        ((-1.2, 1.1), (7.8, 10.1)),
        ((3e8, 1e10), (8.4771, 10.0)),
    ],
)
def test_ages_without_a_unit_are_told_by_their_range(ages: tuple[float, float], expected: tuple[float, float]) -> None:
    found, _, said = convert(BY_NAME["age_lw"], np.array([*ages, 0.0]), np.full(3, np.nan), "", 9.1)
    np.testing.assert_allclose(found, [*expected, np.nan], atol=1e-4)  # 0 is what was not fitted
    assert "no unit in the file" in said


@pytest.mark.parametrize(
    ("ages", "ours"),
    [
        ((5.2, 10.1), 9.9),  # Gyr of an early type
        ((5.2, 10.1), 8.0),  # or a very young disc
        ((7.0, 10.2), 9.9),
        ((6.6, 9.0), 9.4),
        ((7.9, 9.9), np.nan),
    ],
)
def test_ages_that_may_be_gyr_or_logarithms_are_asked_for(ages: tuple[float, float], ours: float) -> None:
    values = np.linspace(*ages, 50)
    with pytest.raises(ConfigError, match=r"without a unit: say which, --unit age_lw='log\(yr\)'"):
        convert(BY_NAME["age_lw"], values, np.full(50, np.nan), "", ours)
    gyr, _, _ = convert(BY_NAME["age_lw"], values, np.full(50, np.nan), "Gyr", ours)
    np.testing.assert_allclose(gyr, 9 + np.log10(values))


def test_units_that_cannot_be_are_refused() -> None:
    nothing = np.full(1, np.nan)
    with pytest.raises(ConfigError, match=r"age_lw: unit 'km/s': expected log\(yr\).*--unit age_lw="):
        convert(BY_NAME["age_lw"], np.ones(1), nothing, "km/s")
    with pytest.raises(ConfigError, match="without a unit: say which"):
        convert(BY_NAME["age_lw"], np.array([-3.0, 40.0]), nothing[[0, 0]], "")
    for name in ("metallicity_lw", "metallicity_mw"):  # the advice is taken: these are the names that --unit knows
        with pytest.raises(ConfigError, match=f"--unit {name}="):
            convert(BY_NAME[name], np.ones(1), nothing, "Gyr")
    with pytest.raises(ConfigError, match="stellar_mass_density"):
        convert(BY_NAME["stellar_mass_density"], np.ones(1), nothing, "mag")


# --- layouts ---


def phangs(path: Path, maps: dict[str, Array], bins: Array, header: fits.Header) -> Path:
    """The names of PHANGS' internal releases (AGE_LW, EBV_STARS...) beside those of the public one."""
    images = {
        "BIN_ID": (bins.astype(np.float64), ""),
        "V_STARS": (maps["v_stars"].astype(np.float64), "km/s"),
        "FORM_ERR_V_STARS": (np.full(SHAPE, 3.0), "km/s"),
        "AGE_LW": (maps["age_lw"].astype(np.float64), ""),
        "AGE_LW_ERR": (np.full(SHAPE, 0.1), ""),
        "Z_LW": (maps["metallicity_lw"].astype(np.float64), ""),
        "EBV_STARS": (maps["ebv_stars"].astype(np.float64), "mag"),
        "STELLAR_MASS_DENSITY": (maps["stellar_mass_density"].astype(np.float64) * 1e6, "Msun/kpc^2"),
        "HA6562_FLUX": (np.ones(SHAPE), ""),
    }
    return write_images(path, images, header, REDSHIFT=0.005)


def test_maps_of_phangs(store: Path, tmp_path: Path) -> None:
    maps = smooth_maps(SHAPE)
    bins = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) // 4
    bins[-1] = -1
    found = read(phangs(tmp_path / "NGC1_MAPS.fits", maps, bins, sky_header(SHAPE)), store)
    assert found.kind == "PHANGS maps"
    assert [item.quantity.name for item in found.maps] == [
        "age_lw", "metallicity_lw", "av", "stellar_mass_density", "v_stars",
    ]  # fmt: skip
    np.testing.assert_allclose(values(found, "age_lw"), maps["age_lw"], atol=1e-6)
    np.testing.assert_allclose(values(found, "av"), maps["av"], atol=1e-6)
    assert words(found, "av") == "3.1 times E(B-V) (R_V)"
    np.testing.assert_allclose(values(found, "stellar_mass_density"), np.log10(maps["stellar_mass_density"]), atol=1e-6)
    assert found.maps[0].error[20, 20] == pytest.approx(0.1)
    assert found.maps[-1].error[20, 20] == pytest.approx(3.0)
    assert found.bins is not None
    np.testing.assert_array_equal(found.bins, bins)
    assert not any("spaxels:" in note for note in found.notes)


def test_r_v_names_and_units_can_be_told(store: Path, tmp_path: Path) -> None:
    images = {"MYAGE": (np.full(SHAPE, 2.0), ""), "EBV": (np.full(SHAPE, 0.1), "mag")}
    path = write_images(tmp_path / "x.fits", images, sky_header(SHAPE))
    found = read(path, store, r_v=4.05, extensions={"age_lw": "myage"}, units={"age_lw": "Gyr"})
    assert values(found, "av")[10, 10] == pytest.approx(0.405)
    assert values(found, "age_lw")[10, 10] == pytest.approx(np.log10(2e9))
    only = read(path, store, quantities=("ebv_stars",))
    assert [item.quantity.name for item in only.maps] == ["ebv_stars"]
    assert values(only, "ebv_stars")[10, 10] == pytest.approx(0.1)


def ngist(folder: Path, ages_gyr: Array, bins: Array, *, weights: bool) -> tuple[Path, Path]:
    """nGIST 7.3's SFH table, its maps, its table of spaxels, and the weights of two templates a bin."""
    rows = len(ages_gyr)
    columns = {
        "AGE": ages_gyr, "METAL": np.linspace(-0.4, 0.2, rows), "ALPHA": np.zeros(rows),
        "SNR_POSTFIT": np.full(rows, 40.0), "EBV": np.linspace(0, 0.3, rows),
    }  # fmt: skip
    table = fits.BinTableHDU.from_columns([fits.Column(n, "D", array=v) for n, v in columns.items()], name="SFH")
    table.header["HIERARCH NORM_TEMP"] = "LIGHT"
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(folder / "NGC1_sfh.fits")
    y, x = (axis.ravel() for axis in np.mgrid[: SHAPE[0], : SHAPE[1]])
    numbers = bins.copy()
    numbers[:3, :4] = -5  # without data: named after the nearest bin, with a minus
    spaxels = {"ID": np.arange(y.size), "BIN_ID": numbers.ravel(), "X": (x - 25) * 0.2, "Y": (y - 20) * 0.2}
    formats = {"ID": "J", "BIN_ID": "J", "X": "D", "Y": "D"}
    hdu = fits.BinTableHDU.from_columns([fits.Column(n, formats[n], array=v) for n, v in spaxels.items()], name="TABLE")
    primary = fits.PrimaryHDU()
    primary.header["PIXSIZE"] = 0.2
    fits.HDUList([primary, hdu, fits.ImageHDU(header=sky_header(SHAPE))]).writeto(folder / "NGC1_table.fits")
    painted = {n: (np.where(bins >= 0, v[np.maximum(bins, 0)], np.nan), "") for n, v in columns.items()}
    maps = write_images(folder / "NGC1_SFH_maps.fits", painted, sky_header(SHAPE))
    write_images(folder / "NGC1_SPATIAL_BINNING_maps.fits", {"BINID": (bins.astype(float), "")}, sky_header(SHAPE))
    if weights:  # half of the light at a tenth of the age, half at 1.9 times it
        log_ages = np.log10(np.concatenate([0.1 * ages_gyr, 1.9 * ages_gyr]))
        matrix = 0.5 * np.hstack([np.eye(rows), np.eye(rows)])
        parts = [fits.Column("WEIGHTS", f"{2 * rows}D", array=matrix)]
        grid = [fits.Column("LOGAGE", "D", array=log_ages), fits.Column("METAL", "D", array=np.zeros(2 * rows))]
        hdus = [fits.BinTableHDU.from_columns(c, name=n) for n, c in (("WEIGHTS", parts), ("GRID", grid))]
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "NGC1_sfh-weights.fits")
    return folder / "NGC1_sfh.fits", maps


@pytest.mark.parametrize("weights", [False, True])
def test_products_of_ngist(store: Path, tmp_path: Path, weights: bool) -> None:
    """Table and maps give the same; without weights, log10 of the mean age; with them, the mean of log age."""
    bins = (np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) // 20).astype(int)
    bins[-2:] = -1
    ages = np.geomspace(0.5, 9.0, bins.max() + 1)
    table, maps = ngist(tmp_path, ages, bins, weights=weights)
    found = [read(path, store) for path in (table, maps)]
    assert [one.kind for one in found] == ["nGIST table", "nGIST maps"]
    mean = np.log10(ages) + 9 + (0.5 * np.log10(0.1 * 1.9) if weights else 0.0)
    seen = (bins >= 0) & ~np.isnan(smooth_maps(SHAPE)["age_lw"])
    for one in found:
        np.testing.assert_allclose(values(one, "age_lw")[seen], mean[bins[seen]], atol=1e-9)
        assert np.isnan(values(one, "age_lw")[-1, -1])
        assert values(one, "metallicity_lw")[10, 10] == pytest.approx(np.linspace(-0.4, 0.2, len(ages))[bins[10, 10]])
        expected = 4.05 * np.linspace(0, 0.3, len(ages))[bins[10, 10]]  # nGIST divides A_V by Calzetti's R_V
        assert values(one, "av")[10, 10] == pytest.approx(expected)
        assert one.bins is not None
        np.testing.assert_array_equal(one.bins[seen], bins[seen])
        assert any("weights" in note for note in one.notes) == weights
    assert any("NORM_TEMP is LIGHT" in note for note in found[0].notes)


def test_a_table_of_ngist_needs_its_spaxels(store: Path, tmp_path: Path) -> None:
    bins = np.zeros(SHAPE, dtype=int)
    table, _ = ngist(tmp_path, np.array([3.0]), bins, weights=False)
    (tmp_path / "NGC1_table.fits").unlink()
    with pytest.raises(ConfigError, match=r"NGC1_table.fits.*must lie beside it"):
        read(table, store)


def test_our_own_store_and_truth_are_recognised(store: Path, tmp_path: Path) -> None:
    found = read(store, store)
    assert found.kind == "galprote store"
    np.testing.assert_array_equal(values(found, "age_lw"), smooth_maps(SHAPE)["age_lw"])
    images = {"AGE_LW": (smooth_maps(SHAPE)["age_lw"], "dex(yr)"), "AV_STARS": (smooth_maps(SHAPE)["av"], "mag")}
    truth = read(write_images(tmp_path / "X_TRUTH.fits", images, sky_header(SHAPE), LIBRARY="x"), store)
    assert truth.truth
    assert [item.conversion for item in truth.maps] == ["", ""]


def test_flags_of_another_run_count(store: Path, tmp_path: Path) -> None:
    maps = smooth_maps(SHAPE)
    maps["status"][20, 20:25] = 4096 | 16384
    found = read(write_store(tmp_path / "NGC1.zarr", maps, sky_header(SHAPE)), store)
    assert not found.good[20, 20:25].any()
    assert found.good[21].all()


# --- pixels ---


def test_a_reference_on_other_pixels_is_put_on_ours(store: Path, tmp_path: Path) -> None:
    """A plane on the sky, sampled by pixels of 0.3 arcsec turned by 30 degrees, is the same plane on our spaxels."""
    shape, ours = (60, 60), sky_header(SHAPE)
    other = sky_header(shape, pixel=0.3, turn=30.0)
    found = read(write_images(tmp_path / "x.fits", {"Z_LW": (plane(other, shape), "dex")}, other), store)
    expected = plane(ours, SHAPE)
    assert np.isfinite(values(found, "metallicity_lw")).all()
    np.testing.assert_allclose(values(found, "metallicity_lw"), expected, atol=1e-4)
    assert any("bilinear" in note and "0.3" in note for note in found.notes)


def plane(header: fits.Header, shape: tuple[int, int]) -> Array:
    """A gradient along right ascension and declination, dex an arcsec."""
    from astropy.wcs import WCS

    y, x = np.mgrid[: shape[0], : shape[1]]
    ra, dec = WCS(header).pixel_to_world_values(x, y)
    return 0.1 * (ra - 184.7) * np.cos(np.radians(14.4)) * 3600 + 0.03 * (dec - 14.4) * 3600  # type: ignore[no-any-return]


def test_bins_on_other_pixels_keep_their_values(store: Path, tmp_path: Path) -> None:
    shape = (90, 110)
    header = sky_header(shape, pixel=0.1)
    bins = (np.mgrid[:90, :110][1] // 10).astype(float)
    images = {"BIN_ID": (bins, ""), "V_STARS": (bins, "km/s"), "FORM_ERR_V_STARS": (bins, "km/s"), "Z_LW": (-bins, "")}
    found = read(write_images(tmp_path / "x.fits", images, header), store)
    assert set(np.unique(values(found, "metallicity_lw"))) <= set(-np.arange(11.0))
    assert found.bins is not None
    np.testing.assert_array_equal(found.bins, -values(found, "metallicity_lw"))
    assert any("nearest" in note for note in found.notes)


def test_no_wcs_no_overlap(store: Path, tmp_path: Path) -> None:
    maps = smooth_maps(SHAPE)
    same = write_images(tmp_path / "same.fits", {"Z_LW": (maps["metallicity_lw"], "")})
    assert "pixel by pixel" in read(same, store).notes[0]
    other = write_images(tmp_path / "other.fits", {"Z_LW": (np.zeros((9, 9)), "")})
    with pytest.raises(ConfigError, match=r"9 x 9 pixels.*40 x 50: without a WCS"):
        read(other, store)
    far = sky_header(SHAPE)
    far["CRVAL2"] = 15.0
    with pytest.raises(ConfigError, match="does not overlap our maps"):
        read(write_images(tmp_path / "far.fits", {"Z_LW": (maps["metallicity_lw"], "")}, far), store)
    found = read(tmp_path / "far.fits", store, ignore_wcs=True)
    np.testing.assert_array_equal(values(found, "metallicity_lw"), maps["metallicity_lw"].astype(float))


@pytest.mark.parametrize("other", ["Z_LW", "AGE_LW_ERR", "BIN_ID"])
def test_images_of_several_shapes_are_not_taken_for_one(other: str, store: Path, tmp_path: Path) -> None:
    """The first image's pixels are twice as fine as ours: by its WCS the other one would be read at wrong places."""
    shape = (80, 100)
    images = {"AGE_LW": (np.full(shape, 5.0), "Gyr"), other: (np.zeros(SHAPE), "")}
    path = write_images(tmp_path / "x.fits", images, sky_header(shape, pixel=0.1))
    what = "its map of bins" if other == "BIN_ID" else other
    with pytest.raises(ConfigError, match=rf"{what} has 40 x 50 pixels \(y x x\), the first map 80 x 100"):
        read(path, store)


# --- what is wrong is said ---


def test_files_that_are_no_references(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read(tmp_path / "missing.fits", store)
    (tmp_path / "text.fits").write_text("no FITS")
    with pytest.raises(ConfigError, match=r"cannot be read as FITS: it does not start with SIMPLE, as FITS files do$"):
        read(tmp_path / "text.fits", store)
    fits.HDUList([fits.PrimaryHDU(np.zeros((3, 4, 5)))]).writeto(tmp_path / "cube.fits")
    with pytest.raises(ConfigError, match="neither maps"):
        read(tmp_path / "cube.fits", store)
    with pytest.raises(MapsError, match="no store"):
        read(tmp_path / "missing.zarr", store)


def test_nothing_in_common_is_said_with_what_both_have(store: Path, tmp_path: Path) -> None:
    path = write_images(tmp_path / "lines.fits", {"HA6562_FLUX": (np.ones(SHAPE), "")}, sky_header(SHAPE))
    with pytest.raises(ConfigError, match=r"it has HA6562_FLUX; our maps have age_lw, .*--map age_lw=EXTENSION"):
        read(path, store)
    with pytest.raises(ConfigError, match=r"--map av=NOPE: the reference has no such map, but HA6562_FLUX"):
        read(path, store, extensions={"av": "NOPE"})
    with pytest.raises(ConfigError, match="--quantity mood: not one of age_lw"):
        read(path, store, quantities=("mood",))
    empty = write_images(tmp_path / "empty.fits", {"Z_LW": (np.full(SHAPE, np.nan), "")}, sky_header(SHAPE))
    with pytest.raises(ConfigError, match="Z_LW have no values on our spaxels"):
        read(empty, store)
