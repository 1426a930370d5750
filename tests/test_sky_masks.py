"""Stars, regions and an earlier run's flags: the right spaxels for every orientation of the sky."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.pipeline.mask_config import EarlierRunConfig, MasksConfig, StarsConfig
from galprote.pipeline.quality import Status
from galprote.pipeline.region_masks import read_regions, region_mask
from galprote.pipeline.spatial_masks import spatial_mask
from galprote.pipeline.spectral_masks import read_spec_mask
from galprote.pipeline.star_masks import Stars, read_stars, star_mask
from galprote.pipeline.store import write_array

SHAPE = (30, 40)
CENTRE = (184.7, 14.4)


def sky(angle: float = 0.0, scale: float = 0.2, parity: float = -1.0) -> WCS:
    """Pixels of so many arcsec, turned by an angle, with the field's middle at CENTRE."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cunit = list(CENTRE), [20.5, 15.5], ["deg", "deg"]
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.diag([parity, 1.0]) @ np.array([[cosine, sine], [-sine, cosine]]) * scale / 3600
    wcs.wcs.radesys = "ICRS"
    return wcs


def header(wcs: WCS) -> str:
    return str(wcs.to_header().tostring(endcard=False, padding=False))


def stars_at(places: SkyCoord, radius: float | list[float]) -> Stars:
    places = places.reshape(-1)
    return Stars("gaia.csv", places, np.broadcast_to(np.asarray(radius, float), places.shape))


def distances(x: float, y: float) -> NDArray[np.float64]:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.asarray(np.hypot(columns - x, rows - y))


# --- stars ---


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(-180, 180),
    parity=st.sampled_from([-1.0, 1.0]),
    x=st.floats(-8, 48),
    y=st.floats(-8, 38),
    radius=st.floats(0.05, 3.0),
)
def test_a_star_covers_the_spaxels_within_its_radius(
    angle: float, parity: float, x: float, y: float, radius: float
) -> None:
    wcs = sky(angle, parity=parity)
    mask, note = star_mask(stars_at(wcs.pixel_to_world(x, y), radius), header(wcs), SHAPE)
    apart = distances(x, y) * 0.2
    assert mask[apart < radius - 1e-3].all()
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    holds = (np.abs(columns - x) <= 0.5 + 1e-3) & (np.abs(rows - y) <= 0.5 + 1e-3)
    assert not mask[(apart > radius + 1e-3) & ~holds].any()
    assert note == (
        f"masks: 1 of 1 star of gaia.csv lie in the field and cover {mask.sum()} spaxels"
        if mask.any()
        else "masks: none of the 1 star of gaia.csv lies in the field"
    )


def test_spaxels_that_are_not_square_are_covered_by_angle() -> None:
    """0.4 x 0.2 arcsec: a circle on the sky is an ellipse in pixels."""
    wcs = sky()
    wcs.wcs.cd = np.diag([-0.4, 0.2]) / 3600
    mask, _ = star_mask(stars_at(wcs.pixel_to_world(20, 15), 2.05), header(wcs), SHAPE)
    assert (mask.any(axis=0).sum(), mask.any(axis=1).sum()) == (11, 21)


def test_a_star_of_any_radius_covers_the_spaxel_that_holds_it() -> None:
    wcs = sky(33.0)
    mask, _ = star_mask(stars_at(wcs.pixel_to_world(7.4, 8.4), 0.01), header(wcs), SHAPE)
    assert np.argwhere(mask).tolist() == [[8, 7]]


def test_each_star_has_its_own_radius_and_stars_elsewhere_do_nothing() -> None:
    wcs = sky(70.0)
    near = wcs.pixel_to_world([5, 30], [5, 20])
    far = SkyCoord([CENTRE[0] + 180, 10.0], [-CENTRE[1], 80.0], unit="deg")  # the former projects onto the field
    both = SkyCoord([*near.ra, *far.ra], [*near.dec, *far.dec])
    mask, note = star_mask(stars_at(both, [0.5, 1.5, 600, 600]), header(wcs), SHAPE)
    np.testing.assert_array_equal(mask, (distances(5, 5) <= 2.5) | (distances(30, 20) <= 7.5))
    assert note.startswith("masks: 2 of 4 stars")


def write_catalogue(path: Path, columns: dict[str, Any], units: dict[str, u.Unit] | None = None) -> Path:
    table = Table(columns)
    for name, unit in (units or {}).items():
        table[name].unit = unit
    formats = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".vot": "votable", ".dat": "ascii.commented_header"}
    table.write(path, format=formats.get(path.suffix, "fits"))
    return path


@pytest.mark.parametrize("ending", ["csv", "ecsv", "fits", "vot", "dat"])
@pytest.mark.parametrize(("ra", "dec"), [("ra", "dec"), ("RAJ2000", "DEJ2000"), ("RA_ICRS", "DE_ICRS")])
def test_catalogues_of_every_kind_say_the_same(tmp_path: Path, ending: str, ra: str, dec: str) -> None:
    columns = {"source_id": [7, 8], ra: [184.70, 184.71], dec: [14.4, 14.41], "G": [15.2, 18.0]}
    path = write_catalogue(tmp_path / f"gaia.{ending}", columns)
    stars = read_stars(StarsConfig(catalogue=str(path), radius_arcsec=2.5))
    np.testing.assert_allclose(stars.sky.ra.deg, [184.70, 184.71], rtol=0, atol=1e-12)
    np.testing.assert_allclose(stars.sky.dec.deg, [14.4, 14.41], rtol=0, atol=1e-12)
    assert stars.radius_arcsec.tolist() == [2.5, 2.5]


def test_radii_and_positions_have_the_units_of_their_columns(tmp_path: Path) -> None:
    columns = {"RA": [12.0, 12.5], "Dec": [0.25, 0.5], "Radius": [0.05, 0.1]}
    units = {"RA": u.hourangle, "Dec": u.rad, "Radius": u.arcmin}
    path = write_catalogue(tmp_path / "stars.ecsv", columns, units)
    stars = read_stars(StarsConfig(catalogue=str(path), radius_arcsec=99))
    np.testing.assert_allclose(stars.sky.ra.deg, [180.0, 187.5])
    np.testing.assert_allclose(stars.sky.dec.rad, [0.25, 0.5])
    np.testing.assert_allclose(stars.radius_arcsec, [3.0, 6.0])  # not 99: each star's own
    plain = write_catalogue(tmp_path / "stars.csv", {"ra": [1.0], "dec": [2.0], "radius": [3.0]})
    assert read_stars(StarsConfig(catalogue=str(plain))).radius_arcsec.tolist() == [3.0]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"x": [1.0], "dec": [2.0]}, "no column for the right ascension among x, dec: call it ra or raj2000"),
        ({"ra": [1.0], "y": [2.0]}, "no column for the declination among ra, y"),
        ({"ra": [1.0], "dec": [2.0]}, r"no column radius or .*: add one \(arcsec\), or give masks.stars.radius_arcsec"),
        ({"ra": ["12:18:49"], "dec": [2.0], "radius": [1.0]}, "column ra: expected numbers in deg; found .*12:18:49"),
        ({"ra": [1.0, 1.0], "dec": [2.0, 92.0], "radius": [1.0, 1.0]}, "row 2: declination 92: expected -90 to 90"),
        ({"ra": [1.0, 777.0], "dec": [2.0, 2.0], "radius": [1.0, 1.0]}, "row 2: right ascension 777"),
        ({"ra": [np.nan], "dec": [2.0], "radius": [1.0]}, "row 1: right ascension nan"),
        ({"ra": [1.0], "dec": [2.0], "radius": [-1.0]}, "row 1: radius -1: expected 0 to 600 arcsec"),
        ({"ra": [1.0], "dec": [2.0], "radius": [3600.0]}, "row 1: radius 3600"),
    ],
)
def test_catalogues_that_cannot_be_used_are_refused(tmp_path: Path, columns: dict[str, Any], problem: str) -> None:
    path = write_catalogue(tmp_path / "gaia.csv", columns)
    with pytest.raises(ConfigError, match=rf"star catalogue {path}: {problem}"):
        read_stars(StarsConfig(catalogue=str(path)))


@pytest.mark.parametrize("name", ["a.csv", "a.fits", "a.vot", "a.ecsv", "a.txt"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"<html>no table</html>"])
def test_files_that_are_no_catalogue_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"star catalogue {tmp_path / name}: "):
        read_stars(StarsConfig(catalogue=str(tmp_path / name)))


def test_without_a_sky_there_are_no_stars() -> None:
    with pytest.raises(ConfigError, match=r"the cube has no celestial WCS .*: use masks.files, or regions in pixels"):
        star_mask(stars_at(SkyCoord(1, 2, unit="deg"), 1), "", SHAPE)


# --- regions ---


def write_regions(path: Path, text: str) -> str:
    path.write_text(f"# Region file format: DS9 version 4.1\nglobal color=green\n{text}\n")
    return str(path)


def covered(path: str, wcs: WCS | None) -> NDArray[np.bool_]:
    return region_mask(path, read_regions(path), header(wcs) if wcs else "", SHAPE)[0]


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-180, 180),
    x=st.floats(5, 35),
    y=st.floats(5, 25),
    size=st.floats(2, 8),
    flat=st.floats(0.3, 1.0),
    turn=st.floats(0, 180),
    shape=st.sampled_from(["circle", "ellipse", "box", "polygon"]),
)
def test_regions_on_the_sky_are_those_in_pixels(
    tmp_path_factory: pytest.TempPathFactory,
    angle: float, x: float, y: float, size: float, flat: float, turn: float, shape: str,
) -> None:  # fmt: skip
    folder, wcs = tmp_path_factory.mktemp("regions"), sky(angle)
    x, y, size = x + 0.00317, y + 0.00713, size + 0.00137  # so that no edge runs through many centres
    ra, dec = wcs.pixel_to_world_values(x, y)
    # DS9 counts pixels from 1; position angles on the sky run from north through east, here from +RA.
    place, image = f"{ra:.9f},{dec:.9f}", f"{x + 1:.6f},{y + 1:.6f}"
    sizes, pixels = f'{size * 0.2:.6f}",{size * flat * 0.2:.6f}"', f"{size:.6f},{size * flat:.6f}"
    corners = np.array([[x - size, y - size], [x + size, y - 0.3 * size], [x, y + flat * size]])
    on_sky = {
        "circle": f'circle({place},{size * 0.2:.6f}")',
        "ellipse": f"ellipse({place},{sizes},{turn})",
        "box": f"box({place},{sizes},{turn})",
        "polygon": "polygon("
        + ",".join(f"{v:.9f}" for v in np.ravel(wcs.pixel_to_world_values(corners.tolist())))
        + ")",
    }
    in_pixels = {
        "circle": f"circle({image},{size:.6f})",
        "ellipse": f"ellipse({image},{pixels},{turn + angle})",
        "box": f"box({image},{pixels},{turn + angle})",
        "polygon": "polygon(" + ",".join(f"{v:.6f}" for v in (corners + 1).ravel()) + ")",
    }
    one = covered(write_regions(folder / "sky.reg", f"icrs\n{on_sky[shape]}"), wcs)
    other = covered(write_regions(folder / "image.reg", f"image\n{in_pixels[shape]}"), None)
    assert other.any()
    assert (one ^ other).sum() <= 2  # spaxels whose centre is on the edge


def test_a_circle_in_image_pixels_counts_from_one(tmp_path: Path) -> None:
    path = write_regions(tmp_path / "a.reg", "image\ncircle(11,6,3.2)")
    np.testing.assert_array_equal(covered(path, None), distances(10, 5) < 3.2)


def test_regions_add_up_and_exceptions_are_kept(tmp_path: Path) -> None:
    text = "image\ncircle(11,11,6.2)\n-circle(11,11,2.2)\nannulus(31,16,3.2,6.2)"
    ring = (distances(30, 15) < 6.2) & (distances(30, 15) > 3.2)
    wanted = (distances(10, 10) < 6.2) & (distances(10, 10) > 2.2) | ring
    np.testing.assert_array_equal(covered(write_regions(tmp_path / "a.reg", text), None), wanted)


def test_a_region_of_many_degrees_takes_no_memory(tmp_path: Path) -> None:
    """Someone forgot the arc seconds."""
    whole = covered(write_regions(tmp_path / "a.reg", "icrs\ncircle(184.7,14.4,20)\n-box(184.7,14.4,40,1e-4,0)"), sky())
    assert whole[0].all()
    assert not whole[15].any()


def test_a_region_elsewhere_covers_nothing_and_says_so(tmp_path: Path) -> None:
    path = write_regions(tmp_path / "a.reg", 'fk5\ncircle(10.0,80.0,5")')
    mask, note = region_mask(path, read_regions(path), header(sky()), SHAPE)
    assert not mask.any()
    assert note == "masks: no region of a.reg lies in the field"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image\npoint(3,3)", "a PointPixelRegion has no area: use circles"),
        ("physical\ncircle(3,3,1)", "not supported by the regions package, skipping"),
        ("circle(3,3,1)", "A coordinate frame was not found"),
        ("fk5\ncircle(a,b,c)", "cannot be read as DS9 regions .*could not convert"),
        ("image\ncircle(4,4,2) || box(3,3,1,1,0)", "composite regions"),
        ("image\n-circle(4,4,2)", r"no region to leave out, only exceptions \(-\)"),
        ("", "no region to leave out$"),
        ("no region file", "skipping"),
    ],
)
def test_region_files_that_are_not_wholly_understood_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "a.reg"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"region file {path}: .*{problem}"):
        read_regions(str(path))


def test_regions_on_the_sky_need_one(tmp_path: Path) -> None:
    path = write_regions(tmp_path / "a.reg", 'icrs\ncircle(184.7,14.4,2")')
    with pytest.raises(ConfigError, match="the cube has no celestial WCS for regions on the sky: use image pixels"):
        covered(path, None)
    with pytest.raises(ConfigError, match="cannot be read as DS9 regions"):
        read_regions(str(tmp_path / "none.reg"))


# --- an earlier run ---


def earlier_run(folder: Path, status: NDArray[np.int32], wcs: WCS | None = None) -> str:
    group = zarr.create_group(folder / "N1.zarr", zarr_format=3, attributes={"wcs_header": header(wcs) if wcs else ""})
    write_array(group, "status", ("y", "x"), status, {})
    return str(folder / "N1.zarr")


def a_star_and_a_speck() -> NDArray[np.int32]:
    status = np.zeros(SHAPE, np.int32)
    star = Status.UNLIKE_TRAINING | Status.STAR_LIKE
    status[10:13, 20:23], status[25, 5] = star, star
    status[3, 3] = Status.UNLIKE_TRAINING | Status.SKY_LIKE
    return status


def flagged(store: str, wcs: WCS | None = None, **changed: Any) -> NDArray[np.bool_]:
    masks = MasksConfig(trust=EarlierRunConfig(store=store, **changed))
    found = spatial_mask(masks, header(wcs) if wcs else "", SHAPE)
    assert found is not None
    assert ((found.bits == 0) | (found.bits == Status.STAR_MASK)).all()
    return found.bits != 0


def test_flags_of_an_earlier_run_leave_spaxels_out(tmp_path: Path) -> None:
    status = a_star_and_a_speck()
    store = earlier_run(tmp_path, status)
    np.testing.assert_array_equal(flagged(store), (status & Status.STAR_LIKE) > 0)
    np.testing.assert_array_equal(flagged(store, bits=("unlike_training",)), status > 0)
    np.testing.assert_array_equal(flagged(store, bits=("sky_like", "poor_fit")), (status & Status.SKY_LIKE) > 0)


def test_specks_are_ignored_and_stars_grow(tmp_path: Path) -> None:
    wcs = sky(20.0)
    store = earlier_run(tmp_path, a_star_and_a_speck(), wcs)
    star = np.zeros(SHAPE, bool)
    star[10:13, 20:23] = True
    np.testing.assert_array_equal(flagged(store, wcs, least_spaxels=2), star)
    near = np.min([distances(x, y) for x in (20, 21, 22) for y in (10, 11, 12)], axis=0)
    np.testing.assert_array_equal(flagged(store, wcs, least_spaxels=9, grow_arcsec=0.61), near <= 3)
    with pytest.raises(ConfigError, match="grow_arcsec: the cube has no celestial WCS"):
        flagged(store, grow_arcsec=0.6)


def test_a_run_of_another_field_is_refused(tmp_path: Path) -> None:
    store = earlier_run(tmp_path, np.zeros(SHAPE, np.int32), sky())
    with pytest.raises(ConfigError, match=r"30 x 40 spaxels \(y x x\), but the cube has 40 x 30"):
        spatial_mask(MasksConfig(trust=EarlierRunConfig(store=store)), "", (40, 30))
    with pytest.raises(ConfigError, match=r"its spaxels lie up to .* spaxels off the cube's: not the same field"):
        flagged(store, sky(5.0))
    assert not flagged(store, sky(0.01)).any()
    (tmp_path / "none.zarr").mkdir()
    with pytest.raises(ConfigError, match=r"no finished store of galprote .*: run that survey first"):
        flagged(str(tmp_path / "none.zarr"))


# --- damage ---

SOUND = {
    "a.csv": b"source_id,ra,dec,radius\n1,184.7,14.4,2.0\n2,184.71,14.41,1.5\n",
    "a.reg": b'# Region file format: DS9\nicrs\ncircle(184.7,14.4,2")\nimage\npolygon(1,1,5,1,3,4)\n',
    "a.ecsv": b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: ra, unit: deg, datatype: float64}\n"
    b"# - {name: dec, datatype: float64}\n# - {name: radius, datatype: float64}\nra dec radius\n1.0 2.0 3.0\n",
    "specMask": b"# comment\n5577.0 30 sky\n4861.32 30 Hb\n",
}


def read_any(path: str) -> None:
    """Read a file by its name, and make the mask."""
    if path.endswith("specMask"):
        read_spec_mask(path)
    elif path.endswith(".reg"):
        region_mask(path, read_regions(path), header(sky()), SHAPE)
    else:
        star_mask(read_stars(StarsConfig(catalogue=path, radius_arcsec=1.0)), header(sky()), SHAPE)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", SOUND)
def test_damaged_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """Bytes lost, added or changed: a mask, or one error that names the file."""
    content = bytearray(SOUND[name])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        lost = data.draw(st.integers(0, 6))
        content[place : place + lost] = data.draw(
            st.sampled_from([b"", b"\x00", b",", b"nan", b"-", b"1e999", b"\xff", b"(", b"\n"])
        )
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content)
    problem = ""
    try:
        read_any(str(path))
    except ConfigError as error:
        problem = str(error)
    assert not problem or str(path) in problem


# --- all together ---


def test_each_reason_has_its_bit(tmp_path: Path) -> None:
    wcs = sky()
    image = np.zeros(SHAPE, np.uint8)
    image[0, :5] = 1
    fits.PrimaryHDU(image).writeto(tmp_path / "mask.fits")
    ra, dec = wcs.pixel_to_world_values(2, 0)
    write_catalogue(tmp_path / "gaia.csv", {"ra": [float(ra)], "dec": [float(dec)], "radius": [0.01]})
    masks = MasksConfig(
        files=(str(tmp_path / "mask.fits"),),
        stars=StarsConfig(catalogue=str(tmp_path / "gaia.csv")),
        regions=(write_regions(tmp_path / "a.reg", "image\nbox(4,1,1,1,0)"),),
    )
    found = spatial_mask(masks, header(wcs), SHAPE)
    assert found is not None
    one, star, region = int(Status.EXCLUDED), int(Status.STAR_MASK), int(Status.REGION_MASK)
    assert found.bits[0, :6].tolist() == [one, one, one | star, one | region, one, 0]
    assert not found.bits[1:].any()
    assert found.bits.dtype == np.int32
    assert found.notes == (
        "masks: 1 of 1 star of gaia.csv lie in the field and cover 1 spaxels",
        "masks: a.reg covers 1 spaxels",
    )
    assert spatial_mask(MasksConfig(rest=((5000.0, 5010.0),)), header(wcs), SHAPE) is None
