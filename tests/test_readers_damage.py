"""Files that are damaged, compressed or no cubes: what is wrong is said, with numbers."""

import gzip
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from galprote.model.errors import ConfigError, CubeError
from galprote.pipeline.readers import open_cube
from galprote.pipeline.readers.fitsfile import read_hdus
from tests import cubes
from tests.cubes import bits, opened


@pytest.fixture
def muse(tmp_path: Path) -> Path:
    return cubes.write_muse_cube(tmp_path / "NGC4254_PHANGS_DATACUBE_native.fits", *cubes.spectra())


# --- damaged and foreign files ---


@pytest.mark.parametrize(("name", "missing"), [("DATA", 1), ("DATA", 3000), ("STAT", 1), ("STAT", 6000)])
def test_a_truncated_file_is_refused_when_opened(muse: Path, name: str, missing: int) -> None:
    hdu = next(hdu for hdu in read_hdus(muse) if hdu.name == name)
    wanted = hdu.data_offset + hdu.data_bytes
    size = wanted - missing
    os.truncate(muse, size)
    with pytest.raises(CubeError) as caught:
        opened(muse)
    message = str(caught.value)
    assert f"truncated: HDU {hdu.label} ends at byte {wanted:,}, the file has {size:,} bytes" in message
    assert f"({missing:,} are missing)" in message


def test_a_file_that_ends_just_before_its_variances_is_told_from_one_without(muse: Path) -> None:
    data = read_hdus(muse)[1]
    os.truncate(muse, -(-(data.data_offset + data.data_bytes) // 2880) * 2880)
    cube = opened(muse)
    assert cube.variance_source == "estimated (DER_SNR)"
    assert "STAT (ERRDATA), which is not in the file: is it truncated?" in cube.variance_note


def test_a_file_that_ends_in_a_header_is_refused(muse: Path) -> None:
    os.truncate(muse, 2880 + 500)
    with pytest.raises(CubeError, match="header of HDU 1 has no END"):
        opened(muse)


@pytest.mark.parametrize("place", ["DATA", "STAT"])
@pytest.mark.parametrize("change", ["lost", "added"])
def test_bytes_that_were_lost_or_added_are_noticed(muse: Path, place: str, change: str) -> None:
    hdu = next(hdu for hdu in read_hdus(muse) if hdu.name == place)
    raw, where = muse.read_bytes(), hdu.data_offset + 1001
    muse.write_bytes(raw[:where] + (raw[where + 4 :] if change == "lost" else b"abcd" + raw[where:]))
    with pytest.raises(CubeError, match=f"{muse}: .*(no HDU|bytes were lost or added)"):
        opened(muse)


def test_a_zero_too_many_is_noticed(muse: Path) -> None:
    """Behind the last voxels, which end in zeros, an added byte would leave no trace but the size."""
    muse.write_bytes(muse.read_bytes() + b"\0")
    with pytest.raises(CubeError, match="come 1 bytes that are no HDU"):
        opened(muse)
    muse.write_bytes(muse.read_bytes() + bytes(2879))
    assert np.isfinite(opened(muse).variance).all()


def header_with(path: Path, keyword: str, *cards: str) -> Path:
    """Replace the cards of a keyword in the first extension."""
    start, length = 2880, 2880
    raw = path.read_bytes()
    lines = [raw[i : i + 80] for i in range(start, start + length, 80)]
    kept = [line for line in lines if line[:8].strip() != keyword.encode() and line.strip()]
    kept[-1:-1] = [card.ljust(80).encode("latin-1") for card in cards]
    path.write_bytes(raw[:start] + b"".join(kept).ljust(length) + raw[start + length :])
    return path


@pytest.mark.parametrize(
    ("keyword", "cards", "message"),
    [
        ("CRVAL3", (), "CRVAL3 is missing"),
        ("CRPIX3", (), "CRPIX3 is missing"),
        ("CRVAL3", ("CRVAL3  = 5000.0", "CRVAL3  = 5001.0"), "CRVAL3 is there twice, as 5000.0 and 5001.0"),
        ("CRVAL3", ("CRVAL3  = 50,0",), "CRVAL3 cannot be read"),
        ("CRVAL3", ("CRVAL3  = 'text'",), "CRVAL3 is 'text', no finite number"),
        ("CD3_3", ("CD3_3   = 25.0",), "a channel is 25 A wide"),
        ("BUNIT", ("BUNIT   = 'unclosed",), "BUNIT cannot be read"),
        ("BSCALE", ("BSCALE  = 0.0",), "BSCALE = 0 makes all values the same"),
        ("CD1_1", (), "celestial WCS makes spaxels of"),
        ("CTYPE1", ("CTYPE1  = 'RA---XXX'",), "Unrecognized projection code"),
        ("PCOUNT", ("PCOUNT  = 5",), "GCOUNT and PCOUNT of an image"),
    ],
)
def test_a_header_that_is_damaged_where_it_matters_is_refused(
    muse: Path, keyword: str, cards: tuple[str, ...], message: str
) -> None:
    window = (5050.0, 5900.0) if keyword == "CD3_3" else cubes.WINDOW
    with pytest.raises(CubeError, match=message) as caught:
        opened(header_with(muse, keyword, *cards), rest_window=window)
    assert str(muse) in str(caught.value)


@pytest.mark.parametrize("card", ["OBJECT  = 'unclosed", "ESO XY  = \xff\xfe", "COMMENT \xe9\xe9", "DATE-OBS= 5 5 5"])
def test_a_header_that_is_damaged_where_it_does_not_matter_is_read(muse: Path, card: str) -> None:
    wanted = bits(opened(muse).flux)
    assert bits(opened(header_with(muse, card[:8].strip(), card)).flux) == wanted


def test_missing_padding_is_no_truncation(muse: Path) -> None:
    last = read_hdus(muse)[-1]
    os.truncate(muse, last.data_offset + last.data_bytes)
    assert np.isfinite(opened(muse).variance).all()


def test_a_file_that_shrinks_later_is_an_error_and_not_garbage(muse: Path) -> None:
    cube = opened(muse)
    os.truncate(muse, 20_000)
    with pytest.raises(CubeError, match="ended while STAT was read"):
        cube.variance.compute(scheduler="synchronous")
    muse.unlink()
    with pytest.raises(CubeError, match="cannot be opened on this worker"):
        cube.flux.compute(scheduler="synchronous")


def test_files_that_are_no_cubes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="no such file"):
        open_cube(tmp_path / "nothing.fits")
    with pytest.raises(CubeError, match="is a folder"):
        open_cube(tmp_path)
    text = tmp_path / "notes.fits"
    text.write_text("SIMPLETON, but not FITS\n" * 200)
    with pytest.raises(CubeError, match="not a FITS file"):
        open_cube(text)
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    with pytest.raises(CubeError, match="no image"):
        open_cube(tmp_path / "empty.fits")


@pytest.mark.parametrize("shape", [(6, 5), (1, 48, 6, 5)])
@pytest.mark.parametrize("name", ["DATA", "OTHER"])
def test_two_or_four_axes_are_refused(tmp_path: Path, shape: tuple[int, ...], name: str) -> None:
    path = tmp_path / "a.fits"
    image = fits.ImageHDU(np.zeros(shape, np.float32), name=name)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    with pytest.raises(CubeError, match=f"{len(shape)} axes: a cube has 3"):
        open_cube(path)


@pytest.mark.parametrize("hdu", ["STAT", "DQ"])
def test_shapes_that_differ_are_refused(tmp_path: Path, hdu: str) -> None:
    flux, variance = cubes.spectra()
    flags = np.zeros(flux.shape, np.uint8)
    if hdu == "STAT":
        variance = variance[:, :-1]
    else:
        flags = flags[:-1]
    path = cubes.write_muse_cube(tmp_path / "a.fits", flux, variance, flags=flags)
    with pytest.raises(CubeError, match=rf"{hdu} \[.*\] and HDU 1 DATA \[48 x 7 x 5\] differ in shape"):
        opened(path)


def test_a_tile_compressed_cube_is_refused_with_advice(tmp_path: Path) -> None:
    flux, _ = cubes.spectra()
    image = fits.CompImageHDU(flux, compression_type="GZIP_2", quantize_level=0.0)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "a.fits.fz")
    with pytest.raises(CubeError, match="funpack"):
        open_cube(tmp_path / "a.fits.fz")


@pytest.mark.parametrize(
    "settings",
    [{"redshift": 2400.0}, {"redshift": float("nan")}, {"rest_window": (7000.0, 4700.0)}, {"rows": 0}],
)
def test_senseless_arguments_are_refused(muse: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        opened(muse, **settings)


# --- .fits.gz ---


def zipped(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    return packed


def test_a_gzipped_cube_is_unpacked_once(muse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, scratch = zipped(muse), tmp_path / "scratch"
    first = opened(packed, scratch=scratch)
    assert bits(first.flux) == bits(opened(muse).flux)
    assert (first.source, first.source_bytes) == (packed.name, packed.stat().st_size)
    assert first.header_sha256 == opened(muse).header_sha256
    assert len(list(scratch.iterdir())) == 1
    with monkeypatch.context() as patched:
        patched.setattr(gzip, "open", lambda *_: pytest.fail("unpacked a second time"))
        again = opened(packed, scratch=str(scratch))
    assert again.flux.data.name == first.flux.data.name

    cubes.write_muse_cube(muse, *cubes.spectra(seed=2))
    packed = zipped(muse)  # another cube under the same name
    assert bits(opened(packed, scratch=scratch).flux) == bits(opened(muse).flux) != bits(first.flux)


def test_the_default_scratch_folder_is_in_the_temporary_folder(
    muse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    opened(zipped(muse))
    (folder,) = (tmp_path / "tmp").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.suffix for path in folder.iterdir()] == [".fits"]


def test_a_full_disk_is_noticed_before_unpacking(muse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, scratch = zipped(muse), tmp_path / "scratch"
    usage = shutil.disk_usage(tmp_path)
    wanted = muse.stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=wanted - 1))
    with pytest.raises(CubeError, match="free: make room"):
        opened(packed, scratch=scratch)
    assert list(scratch.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=wanted))
    assert opened(packed, scratch=scratch).sizes["y"] == 7


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_gzip_file_leaves_nothing_behind(muse: Path, tmp_path: Path, damage: str) -> None:
    packed, scratch = zipped(muse), tmp_path / "scratch"
    raw = bytearray(packed.read_bytes())
    if damage == "truncated":
        raw = raw[: len(raw) // 2]
    else:
        raw[-6] ^= 0xFF  # the checksum
    packed.write_bytes(raw)
    with pytest.raises(CubeError, match="damaged or truncated gzip"):
        opened(packed, scratch=scratch)
    assert list(scratch.iterdir()) == []
