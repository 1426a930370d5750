"""FITS products: the store's values to the bit, on the store's sky, verified by others, in bounded memory."""

import errno
import json
import os
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from galprote.model.errors import GalproteError
from galprote.model.grids import AGES_GYR, METALLICITIES, WAVELENGTH
from galprote.pipeline import fits_export
from galprote.pipeline.block import BlockProducts
from galprote.pipeline.fits_export import (
    Hdu,
    celestial_cards,
    checksum_text,
    export_fits,
    spectral_cards,
    write_hdus,
)
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.products import CUBE_UNIT, MAPS
from galprote.pipeline.quality import Status, flag_attributes
from galprote.pipeline.readers.axis import vacuum_to_air
from galprote.pipeline.store import CubeArray, GalaxyStore

UNIT = "erg / (Angstrom s cm2)"
NATIVE = 4785.25 + 1.25 * np.arange(40)
DIMS = {
    "residual": (("wavelength",), (948,)),
    "continuum_subtracted": (("wavelength_observed",), (40,)),
    "continuum_subtracted_error": (("wavelength_observed",), (40,)),
    "grid": (("metallicity", "age"), (12, 53)),
}
CONTSUB = ("continuum_subtracted", "continuum_subtracted_error")
#: Of cubes that are not float32 with the image last.
KINDS: dict[str, tuple[str, bool]] = {"grid": ("float16", True)}
#: File, and number of the HDU.
FILES = {
    "residual": ("RESIDUAL", 0),
    "continuum_subtracted": ("CONTSUB", 0),
    "continuum_subtracted_error": ("CONTSUB", 1),
    "grid": ("GRID", 0),
}


def sky(angle: float = 25.0, sizes: tuple[float, float] = (-0.2, 0.2)) -> WCS:
    """Pixels of `sizes` arcsec, turned by `angle` degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cunit = [184.7066, 14.4164], [20.5, 6.0], ["deg", "deg"]
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.array([[cosine, -sine], [sine, cosine]]) * np.array(sizes)[:, None] / 3600
    wcs.wcs.radesys = "ICRS"
    return wcs


def header_text(wcs: WCS) -> str:
    """As the reader of cubes keeps it."""
    return str(wcs.to_header().tostring(endcard=False, padding=False))


def attributes(**changed: Any) -> dict[str, Any]:
    record = {
        "settings": {"name": "NGC1", "foreground": {"ebv": 0.0334}, "snr_min": 5.0},
        "input": {"file": "NGC1_PHANGS_DATACUBE_native.fits", "bytes": 40_000_000_000, "header_sha256": "ab" * 32},
        "checkpoint_sha256": "1a2b" * 16,
        "precision": "int8",
        "fingerprint": "f0" * 32,
        "versions": {"galprote": "1.2.3", "numpy": "2.4.6"},
    }
    return {
        "galaxy": "NGC1",
        "redshift": 0.008026,
        "flux_unit": UNIT,
        "wcs_header": header_text(sky()),
        "foreground_ebv": 0.0334,
        "foreground_law": "O94",
        "foreground_r_v": 3.1,
        "foreground_source": "SF11",
        "masked_observed": "5570-5585, 5880-5905",
        "masked_rest": "",
        "masked_fraction": 0.0182,
        "provenance": json.dumps(record),
    } | changed


def random_maps(ny: int, nx: int) -> dict[str, NDArray[Any]]:
    """Every map full of random bits of its type: NaNs, infinities, denormals, large flags."""
    rng = np.random.default_rng(7)
    sizes = {p.name: np.dtype(p.dtype).itemsize for p in MAPS}
    bits = {p.name: rng.bytes(ny * nx * sizes[p.name]) for p in MAPS}
    return {p.name: np.frombuffer(bits[p.name], dtype=p.dtype).reshape(ny, nx) for p in MAPS}


def make_store(
    folder: Path,
    shape: tuple[int, int] = (11, 47),
    cubes: tuple[str, ...] = tuple(DIMS),
    native: NDArray[np.float64] = NATIVE,
    **changed: Any,
) -> Path:
    """A finished store with random cubes, some of whose spectra are NaN; chunks of 4 rows."""
    store, plan = GalaxyStore(folder, "NGC1"), ChunkPlan(40, *shape, rows=4, workers=1, chunk_bytes=0, peak_bytes=0)
    about = attributes(**changed)
    store.begin(json.loads(about["provenance"]), plan.rows)
    arrays = [
        CubeArray(name, *DIMS[name], {"units": UNIT, "long_name": f"cube with its {name}"}, *KINDS.get(name, ()))
        for name in cubes
    ]
    store.create(arrays, plan, about)
    maps, rng = random_maps(*shape), np.random.default_rng(1)
    for index, rows in enumerate(plan.chunks):
        values = {c: rng.standard_normal((*DIMS[c][1], rows.stop - rows.start, shape[1]), np.float32) for c in cubes}
        for name, cube in values.items():
            cube[..., 3:5] = np.nan
            if name in KINDS:
                values[name] = np.moveaxis(cube, (-2, -1), (0, 1)).astype(np.float16)
        store.write_chunk(index, rows, BlockProducts({k: v[rows] for k, v in maps.items()}, values, 0))
    described = {
        product.name: {
            "units": UNIT if product.unit == CUBE_UNIT else product.unit,
            "long_name": product.long_name,
            **(flag_attributes() if product.name == "status" else {}),
        }
        for product in MAPS
    }
    axes = {"wavelength": WAVELENGTH, "wavelength_observed": native, "metallicity": METALLICITIES, "age": AGES_GYR}
    units = {"metallicity": "dex", "age": "Gyr"}
    used = [axis for name in cubes for axis in DIMS[name][0]]
    store.assemble(
        plan,
        described,
        {a: ((a,), np.array(axes[a]), {"units": units.get(a, "Angstrom"), "long_name": a}) for a in used},
    )
    store.publish()
    return store.final


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def exported(store: Path) -> dict[str, Path]:
    """The FITS files of the store, by the end of their name."""
    paths = export_fits(store, store.parent)
    assert [path.name for path in paths] == [f"NGC1_{end}.fits" for end in ("MAPS", "RESIDUAL", "CONTSUB", "GRID")]
    return {path.stem.removeprefix("NGC1_"): path for path in paths}


def bits(values: NDArray[Any]) -> NDArray[Any]:
    """Bit patterns, all NaNs alike."""
    native = values.astype(values.dtype.newbyteorder("="))
    if native.dtype.kind == "f":
        native[np.isnan(native)] = np.nan
    return native.view(f"u{native.dtype.itemsize}")


def array(store: Path, name: str) -> Any:
    return zarr.open_group(store, mode="r")[name]


def test_maps_equal_the_stores_to_the_bit(store: Path, exported: dict[str, Path]) -> None:
    with fits.open(exported["MAPS"]) as hdus:
        assert [hdu.name for hdu in hdus[1:]] == [product.extension for product in MAPS]
        assert hdus[0].data is None
        for product, hdu in zip(MAPS, hdus[1:], strict=True):
            assert hdu.data.dtype.newbyteorder("=") == np.dtype(product.dtype)
            np.testing.assert_array_equal(bits(hdu.data), bits(array(store, product.name)[...]))
            assert hdu.header["BUNIT"] == array(store, product.name).attrs["units"]
            assert hdu.header["LONGNAME"] == product.long_name


@pytest.mark.parametrize("name", DIMS)
def test_cubes_equal_the_stores_to_the_bit(store: Path, exported: dict[str, Path], name: str) -> None:
    file, number = FILES[name]
    wanted = array(store, name)[...].astype(np.float32)
    wanted = np.moveaxis(wanted, (0, 1), (-2, -1)) if name in KINDS else wanted
    with fits.open(exported[file]) as hdus:
        assert hdus[number].data.dtype == np.dtype(">f4")
        np.testing.assert_array_equal(bits(hdus[number].data), bits(wanted))
        assert hdus[number].header["BUNIT"] == UNIT
        for axis, hdu in zip(DIMS[name][0], hdus[-len(DIMS[name][0]) :], strict=True):
            assert hdu.name == axis.removesuffix("_observed").upper()
            np.testing.assert_array_equal(hdu.data, array(store, axis)[...])


def test_status_bits_are_named_in_the_header(exported: dict[str, Path]) -> None:
    header = fits.getheader(exported["MAPS"], "STATUS")
    named = {1 << int(key[4:]): value for key, value in header["FLAG*"].items()}
    assert named == {int(bit): str(bit.name).lower() for bit in Status}


def test_headers_tell_what_was_done(exported: dict[str, Path]) -> None:
    for path in exported.values():
        header = fits.getheader(path, 0)
        assert (header["OBJECT"], header["REDSHIFT"], header["CREATOR"]) == ("NGC1", 0.008026, "galprote 1.2.3")
        assert (header["EBV_MW"], header["LAW_MW"], header["RV_MW"], header["EBVSRC"]) == (0.0334, "O94", 3.1, "SF11")
        assert (header["CKPTSHA"], header["PRECISN"], header["FINGERPR"]) == ("1a2b" * 16, "int8", "f0" * 32)
        assert (header["INFILE"], header["INBYTES"]) == ("NGC1_PHANGS_DATACUBE_native.fits", 40_000_000_000)
        assert "snr_min: 5.0" in header["HISTORY"]
        assert (header["MASKOBS"], header["MASKREST"], header["MASKFRAC"]) == ("5570-5585, 5880-5905", "", 0.0182)


def test_checksums_verify(exported: dict[str, Path]) -> None:
    for path in exported.values():
        with fits.open(path, checksum=True) as hdus:  # a wrong checksum is a warning, and here an error
            hdus.verify("exception")
            for hdu in hdus:
                assert (hdu.verify_checksum(), hdu.verify_datasum()) == (1, 1)


def test_a_flipped_bit_is_noticed(exported: dict[str, Path], tmp_path: Path) -> None:
    damaged = bytearray(exported["MAPS"].read_bytes())
    damaged[-2880 + 5] ^= 1  # in the flags, the last extension
    path = tmp_path / "damaged.fits"
    path.write_bytes(damaged)
    with (
        pytest.warns(AstropyUserWarning, match="Checksum verification failed.*STATUS"),
        pytest.warns(AstropyUserWarning, match="Datasum verification failed.*STATUS"),
        fits.open(path, checksum=True) as hdus,
    ):
        assert hdus["STATUS"].data is not None


@pytest.mark.parametrize("values", [[-1, -1], [0, 0], [-1, -1, 0]])
def test_sums_at_the_ends_of_the_ones_complement(values: list[int], tmp_path: Path) -> None:
    image = np.array([values], np.int16)  # words of all ones (minus zero), or of zeros
    write_hdus(tmp_path / "ends.fits", [Hdu([], image.shape, "int16", [(0, 0, image)])])
    with fits.open(tmp_path / "ends.fits", checksum=True) as hdus:
        np.testing.assert_array_equal(hdus[0].data, image)


@given(st.integers(0, 2**32 - 1))
@example(0)
@example(2**32 - 1)
def test_checksum_text_has_the_sum_of_its_words(value: int) -> None:
    text = checksum_text(value)
    assert len(text) == 16
    assert text.isalnum()
    turned = (text[1:] + text[0]).encode("ascii")  # as it lies in the words of a header
    words = np.frombuffer(turned, dtype=">u4").astype(np.uint64) - np.uint64(0x30303030)
    assert int(words.sum()) % 0xFFFFFFFF == value % 0xFFFFFFFF


def test_equal_stores_give_equal_bytes(exported: dict[str, Path], tmp_path: Path) -> None:
    again = export_fits(make_store(tmp_path), tmp_path)
    for path in again:
        assert path.read_bytes() == exported[path.stem.removeprefix("NGC1_")].read_bytes()


def test_spaxels_are_where_the_store_says(exported: dict[str, Path]) -> None:
    y, x = np.mgrid[:11, :47]
    wanted = sky().pixel_to_world_values(x, y)
    for end, hdu in (("MAPS", "AV_STARS"), ("MAPS", "STATUS"), ("RESIDUAL", 0), ("CONTSUB", 0), ("GRID", 0)):
        found = WCS(fits.getheader(exported[end], hdu)).celestial
        np.testing.assert_allclose(found.pixel_to_world_values(x, y), wanted, rtol=0, atol=1e-11)


@given(
    angle=st.floats(-180, 180),
    sizes=st.tuples(*2 * [st.floats(0.05, 2.0)]),
    signs=st.tuples(*2 * [st.sampled_from([-1.0, 1.0])]),
)
@example(angle=90.0, sizes=(0.2, 0.2), signs=(-1.0, 1.0))
def test_any_sky_survives_and_cdelt_is_the_pixel_size(
    angle: float, sizes: tuple[float, float], signs: tuple[float, float]
) -> None:
    wcs = sky(angle, (sizes[0] * signs[0], sizes[1] * signs[1]))
    header = fits.Header(celestial_cards(header_text(wcs), axes=2))
    assert (abs(header["CDELT1"]), abs(header["CDELT2"])) == pytest.approx([size / 3600 for size in sizes], rel=1e-9)
    x, y = np.array([0.0, 1000.0, 0.0]), np.array([0.0, 0.0, 1000.0])
    found = WCS(header).pixel_to_world_values(x, y)
    np.testing.assert_allclose(found, wcs.pixel_to_world_values(x, y), rtol=0, atol=1e-9)


def test_without_a_sky_there_is_none(tmp_path: Path) -> None:
    for path in export_fits(make_store(tmp_path, cubes=("residual",), wcs_header=""), tmp_path):
        with fits.open(path, checksum=True) as hdus:
            wcs = WCS(hdus[-1 if "MAPS" in path.name else 0].header)
            assert not wcs.has_celestial
            assert wcs.has_spectral == ("RESIDUAL" in path.name)


@pytest.mark.parametrize(("end", "wavelength"), [("RESIDUAL", WAVELENGTH), ("CONTSUB", NATIVE)])
def test_spectral_cube_reads_the_cubes(
    store: Path, exported: dict[str, Path], end: str, wavelength: NDArray[np.float64]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import uses what astropy deprecates
        from spectral_cube import SpectralCube
    cube = SpectralCube.read(exported[end])
    np.testing.assert_allclose(cube.spectral_axis.to_value("Angstrom"), wavelength, rtol=1e-12)
    assert str(cube.unit) == UNIT
    name = {"RESIDUAL": "residual", "CONTSUB": "continuum_subtracted"}[end]
    np.testing.assert_array_equal(cube[:, 2, 9].value, array(store, name)[:, 2, 9])


def test_the_residuals_wavelengths_are_the_galaxys(exported: dict[str, Path]) -> None:
    wcs = WCS(fits.getheader(exported["RESIDUAL"])).wcs
    assert (wcs.specsys, wcs.zsource, wcs.ssyssrc) == ("SOURCE", 0.008026, "BARYCENT")


def test_only_the_native_cube_keeps_the_inputs_frame(tmp_path: Path) -> None:
    wcs = sky()
    wcs.wcs.specsys = "LSRK"
    changed = make_store(tmp_path, cubes=(*CONTSUB, "grid"), wcs_header=header_text(wcs))
    maps, native, grid = export_fits(changed, tmp_path)
    assert fits.getheader(native)["SPECSYS"] == "LSRK"
    assert "SPECSYS" not in fits.getheader(maps, "AGE_LW")
    assert "SPECSYS" not in fits.getheader(grid)


@pytest.mark.parametrize(
    ("native", "ctype"),
    [
        (4750 + 1.25 * np.arange(1900), "AWAV"),
        (5000 * np.exp(np.arange(4000) * 1e-4), "AWAV-LOG"),
        (4750 + 1.25 * np.arange(1900), "WAVE"),
        (3621.6 * 10 ** (np.arange(4563) * 1e-4), "WAVE-LOG"),  # MaNGA's axis
    ],
)
def test_regular_axes_are_found_in_air_and_in_vacuum(native: NDArray[np.float64], ctype: str) -> None:
    air = native if ctype.startswith("AWAV") else vacuum_to_air(native)
    header = fits.Header([("WCSAXES", 3), *celestial_cards(header_text(sky()), axes=3)[1:], *spectral_cards(air)])
    assert header["CTYPE3"] == ctype
    axis = WCS(header).spectral.pixel_to_world_values(np.arange(len(native))) * 1e10
    np.testing.assert_allclose(axis, native, rtol=1e-11)


def test_an_irregular_axis_is_no_formula(tmp_path: Path) -> None:
    irregular = NATIVE + 0.01 * np.sin(np.arange(len(NATIVE)))
    _, path = export_fits(make_store(tmp_path, cubes=CONTSUB, native=irregular), tmp_path)
    with fits.open(path) as hdus:
        assert not WCS(hdus[0].header).has_spectral
        np.testing.assert_array_equal(WCS(hdus[0].header).pixel_to_world_values(0, 0, 4)[2], 5)
        np.testing.assert_array_equal(hdus["WAVELENGTH"].data, irregular)


def test_memory_does_not_grow_with_the_cube(tmp_path: Path) -> None:
    peaks = []
    for name, rows in (("small", 4), ("tall", 16)):
        (tmp_path / name).mkdir()
        store = make_store(tmp_path / name, (rows, 40), cubes=("residual",))
        tracemalloc.start()
        export_fits(store, store.parent)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 8 * 948 * 4 * 40 * 4  # the slab, and what zarr takes to read it


def test_narrow_slabs_give_the_same_file(
    store: Path, exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits_export, "SLAB_BYTES", 1)  # one inner chunk, 40 of 47 columns
    for path in export_fits(store, tmp_path):
        assert path.read_bytes() == exported[path.stem.removeprefix("NGC1_")].read_bytes()


def test_a_full_disk_leaves_nothing(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export_fits(store, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_finished_files_are_left(exported: dict[str, Path]) -> None:
    folder = exported["MAPS"].parent
    assert {path.name for path in folder.iterdir()} == {"NGC1.zarr", *(path.name for path in exported.values())}


def test_text_that_fits_forbids_is_escaped(tmp_path: Path) -> None:
    source = "Schlafly & Finkbeiner, " + 3 * "Äpfel\n und Birnen, "
    path = export_fits(make_store(tmp_path, cubes=(), foreground_source=source), tmp_path)[0]
    header = fits.getheader(path)
    assert header["EBVSRC"].encode("ascii").decode("unicode_escape") == source.strip()


def test_an_unfinished_store_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path, cubes=())
    del zarr.open_group(store, mode="r+")["av"]
    with pytest.raises(GalproteError, match=r"NGC1\.zarr: 'av' is missing"):
        export_fits(store, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["NGC1.zarr"]
