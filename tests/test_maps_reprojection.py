"""Maps on other images' pixels: what is at a place on the sky stays there, and means stay what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.wcs import DistortionLookupTable

from galprote.pipeline.map_wcs import SkyError, unsliced_wcs, wcs_text
from galprote.pipeline.quality import Status
from galprote.pipeline.reprojection import ReprojectionError, find_target
from tests.discs import CENTRE, disc_maps, disc_radius, distorted_wcs, distrust, sky_wcs

BESIDE = SkyCoord(CENTRE.ra, CENTRE.dec + 5 * u.arcsec)
PEAK = SkyCoord(184.7 * u.deg + 2.3 * u.arcsec, 14.4 * u.deg - 1.7 * u.arcsec)


def peaked(sigma: float = 0.8, **wcs: Any) -> xr.Dataset:
    """A blob of light (sigma in arcsec) at `PEAK`."""
    maps = disc_maps((60, 64), **wcs)
    separation = maps.galprote.sky().separation(PEAK).to_value(u.arcsec)
    maps["flux"].values[:] = 1000 * np.exp(-0.5 * (separation / sigma) ** 2)
    return maps


def light_centre(maps: xr.Dataset) -> SkyCoord:
    """Where the light is, by the coordinates of the maps."""
    light = np.nan_to_num(maps["flux"].values)
    return SkyCoord(np.average(maps["ra"], weights=light), np.average(maps["dec"], weights=light), unit="deg")


@pytest.mark.parametrize("method", ["nearest", "bilinear", "exact"])
@pytest.mark.parametrize(("angle", "parity", "scale"), [(37.0, -1.0, 0.13), (-110.0, 1.0, 0.31), (75.0, -1.0, 0.6)])
def test_a_peak_stays_at_its_place_on_the_sky(method: str, angle: float, parity: float, scale: float) -> None:
    side = int(24 / scale)
    target = sky_wcs((side, side + 3), angle=angle, parity=parity, scale=scale)
    found = peaked(angle=-20.0).galprote.reproject_to(target, "flux", method=method)
    assert found.sizes == {"y": side, "x": side + 3}
    nearby = (0.1 if method != "nearest" else 0.2) * 0.2 * u.arcsec
    assert light_centre(found).separation(PEAK) < nearby
    # By the target's own WCS, too, and by that of the result.
    light = np.nan_to_num(found["flux"].values)
    y, x = (np.average(grid, weights=light) for grid in np.mgrid[:side, : side + 3])
    for wcs in (target, found.galprote.wcs):
        assert wcs.pixel_to_world(x, y).separation(PEAK) < nearby
    peak = found["flux"].stack(spaxel=("y", "x")).idxmax().item()
    assert found.galprote.sky()[peak].separation(PEAK) < (scale + 0.2) * u.arcsec


@pytest.mark.parametrize("method", ["bilinear", "exact"])
@pytest.mark.parametrize("scale", [0.13, 0.5])
def test_means_stay_what_they_are_and_light_is_kept(method: str, scale: float) -> None:
    maps = peaked(inclination=20.0)
    target = sky_wcs((int(16 / scale), int(16 / scale)), angle=20.0, scale=scale)
    found = maps.galprote.reproject_to(target, ["flux", "age_lw"], method=method)
    inside = (found["footprint"] > 0.999) & np.isfinite(found["age_lw"])
    radius = disc_radius(found.galprote.sky(), 35.0, 20.0)
    np.testing.assert_allclose(found["age_lw"].values[inside], (9.8 - 0.05 * radius)[inside], atol=0.01)
    assert found.attrs["spaxel_area_ratio"] == pytest.approx((scale / 0.2) ** 2, rel=1e-6)
    per_pixel = found["flux"] * found.attrs["spaxel_area_ratio"]
    tolerance = 0.03 if method == "bilinear" else 0.005
    assert float(per_pixel.sum()) == pytest.approx(float(maps["flux"].sum()), rel=tolerance)


def test_a_flat_map_with_holes_stays_flat() -> None:
    maps = disc_maps()
    maps["age_lw"].values[:] = 9.0
    maps["age_lw"].values[::7, ::5] = np.nan
    distrust(maps, slice(40, 50), slice(10, 20))
    maps["age_lw"].values[40:50, 10:20] = 5.0
    target = sky_wcs((90, 90), angle=33.0, scale=0.17)
    for method in ("nearest", "bilinear", "exact"):
        found = maps.galprote.reproject_to(target, "age_lw", method=method)
        values = found["age_lw"].values
        np.testing.assert_allclose(values[np.isfinite(values)], 9.0, atol=1e-5)
        covered = found["footprint"].values > 0.999
        assert 0.85 < np.isfinite(values[covered]).mean() < 0.99  # holes stay, and are filled from their sides at most
        assert not np.isfinite(values[found["footprint"].values == 0]).any()
    kept = maps.galprote.reproject_to(target, "age_lw", method="nearest", trusted_only=False)
    assert float(kept["age_lw"].min()) == 5.0


def test_status_is_that_of_the_nearest_spaxel_and_outside_there_is_no_data() -> None:
    maps = disc_maps()
    distrust(maps, slice(20, 40), slice(20, 30))
    target = sky_wcs((150, 150), angle=33.0, scale=0.12)
    found = maps.galprote.reproject_to(target, "age_lw")
    assert found["status"].dtype == np.int32
    row, column = (np.rint(value).astype(int) for value in maps.galprote.wcs.world_to_pixel(found.galprote.sky())[::-1])
    inside = (row >= 0) & (row < 60) & (column >= 0) & (column < 64)
    wanted = np.full(inside.shape, int(Status.NO_DATA))
    wanted[inside] = maps["status"].values[row[inside], column[inside]]
    edge = np.abs(maps.galprote.wcs.world_to_pixel(found.galprote.sky()) - np.stack([column, row])).max(axis=0) > 0.49
    np.testing.assert_array_equal(found["status"].values[~edge], wanted[~edge])
    assert not found.galprote.good().values[~inside & ~edge].any()


def test_a_distorted_target_stays_distorted_in_slices_too() -> None:
    target = distorted_wcs()
    y, x = np.mgrid[:30, :26]
    wanted = target.pixel_to_world(x, y)
    assert wanted.separation(sky_wcs((30, 26), angle=25.0, scale=0.4).pixel_to_world(x, y)).max() > 0.3 * u.arcsec
    header = target.to_header(relax=True)
    header["NAXIS1"], header["NAXIS2"] = 26, 30
    for form in (target, header):
        found = disc_maps().galprote.reproject_to(form, "age_lw")
        assert found.galprote.sky().separation(wanted).max() < 1e-6 * u.deg
        assert found.galprote.wcs.pixel_to_world(x, y).separation(wanted).max() < 1e-6 * u.arcsec
    radius = disc_radius(wanted, 35.0, 60.0)
    known = np.isfinite(found["age_lw"].values) & (radius > 1)
    np.testing.assert_allclose(found["age_lw"].values[known], 9.8 - 0.05 * radius[known], atol=0.01)
    part = found.isel(y=slice(25, 2, -2), x=slice(3, 25, 3))
    rows, columns = np.mgrid[: part.sizes["y"], : part.sizes["x"]]
    assert part.galprote.wcs.pixel_to_world(columns, rows).separation(wanted[25:2:-2, 3:25:3]).max() < 1e-6 * u.arcsec
    assert (
        unsliced_wcs(part.galprote.wcs, (3, 25), (3, -2)).pixel_to_world(x, y).separation(wanted).max() < 1e-9 * u.deg
    )


def test_distortions_in_tables_are_refused() -> None:
    target = sky_wcs((8, 8))
    target.cpdis1 = DistortionLookupTable(np.ones((4, 4), np.float32), (1, 1), (1, 1), (2, 2))
    header = sky_wcs((8, 8)).to_header()
    header["D2IMDIS1"] = "Lookup"
    for form in (target, header):
        with pytest.raises(ReprojectionError, match=r"lookup tables.*take a drizzled image"):
            disc_maps((12, 12)).galprote.reproject_to(form, shape=(8, 8))
    with pytest.raises(SkyError, match="lookup tables"):
        wcs_text(target)


@pytest.mark.parametrize("method", ["bilinear", "exact"])
@pytest.mark.parametrize(("shift", "known"), [(0.4, True), (0.6, False)])
def test_a_pixel_needs_half_of_its_area_in_spaxels_with_values(method: str, shift: float, known: bool) -> None:
    """The target's pixels lie `shift` of a spaxel to the right: so much of column 20 is the empty column 21."""
    maps = disc_maps((60, 64))
    maps["age_lw"].values[:, 21] = np.nan
    target = maps.galprote.wcs.deepcopy()
    target.wcs.crpix = target.wcs.crpix - (shift, 0)
    found = maps.galprote.reproject_to(target, "age_lw", shape=(60, 64), method=method)
    row = found["age_lw"].values[30]
    assert np.isfinite(row[[19, 22]]).all()
    assert np.isfinite(row[[20, 21]]).tolist() == [known, not known]
    assert np.isfinite(row[63]) == known  # at the edge, beyond which there are no spaxels
    if known:
        assert row[20] == pytest.approx(maps["age_lw"].values[30, 20], abs=1e-4)  # what is missing is no 0


def test_the_footprint_is_the_share_that_is_covered() -> None:
    maps = disc_maps((20, 20))
    target = sky_wcs((5, 5), scale=0.8)
    target.wcs.crpix = [3.5, 3.0]  # the maps end in the middle of a pixel on the right, and start in one on the left
    found = maps.galprote.reproject_to(target, "age_lw", method="exact")["footprint"]
    np.testing.assert_allclose(found[1:4, 1:], 1, atol=1e-4)
    np.testing.assert_allclose(found[1:4, 0], 0.5, atol=1e-3)
    target.array_shape = (6, 7)
    target.wcs.crpix = [4.5, 3.75]
    found = maps.galprote.reproject_to(target, "age_lw", method="exact")["footprint"]
    assert float(found.sum()) == pytest.approx(25, abs=1e-2)
    np.testing.assert_allclose(found[:, 3], [0.25, 1, 1, 1, 1, 0.75], atol=1e-3)
    np.testing.assert_allclose(found[2], [0, 0.5, 1, 1, 1, 1, 0.5], atol=1e-3)
    assert set(np.unique(maps.galprote.reproject_to(target, "age_lw")["footprint"])) == {0, 1}


def test_the_accessor_works_on_what_was_laid_over(tmp_path: Path) -> None:
    maps = disc_maps(angle=15.0)
    target = sky_wcs((80, 90), angle=-50.0, scale=0.17)
    found = maps.galprote.reproject_to(target)
    assert set(found.data_vars) == {*maps.data_vars, "footprint"}
    profile = found.galprote.radial_profile(center=CENTRE, pa=35.0, inclination=60.0)
    known = profile.where(profile["n"] > 20, drop=True)
    assert float(np.polyfit(known["mean_radius"], known["mean"], 1)[0]) == pytest.approx(-0.05, rel=0.02)
    part = found.galprote.cutout(PEAK, size=2)
    assert part.galprote.wcs.pixel_to_world(0, 0).separation(part.galprote.sky()[0, 0]) < 1e-6 * u.arcsec
    back = found.galprote.reproject_to(maps, "age_lw")
    both = np.isfinite(back["age_lw"]) & (disc_radius(maps.galprote.sky(), 35.0, 60.0) > 1)
    np.testing.assert_allclose(back["age_lw"].values[both], maps["age_lw"].values[both], atol=0.02)


def test_a_target_in_any_form(tmp_path: Path) -> None:
    wcs = sky_wcs((30, 40), angle=20.0, scale=0.5)
    header = wcs.to_header()
    image = fits.ImageHDU(np.zeros((30, 40), np.float32), header, name="SCI")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "hst.fits")
    cube = fits.PrimaryHDU(np.zeros((1, 3, 30, 40), np.float32), header)
    cube.header.update({"WCSAXES": 4, "CTYPE3": "FREQ", "CRVAL3": 2.3e11, "CDELT3": 1e6, "CUNIT3": "Hz", "CRPIX3": 1})
    cube.header.update({"CTYPE4": "STOKES", "CRVAL4": 1.0, "CDELT4": 1.0, "CRPIX4": 1.0})
    cube.writeto(tmp_path / "alma.fits")
    packed = fits.CompImageHDU(image.data, header, name="SCI")
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "packed.fits")
    targets: list[Any] = [
        image, image.header, wcs, tmp_path / "hst.fits", f"{tmp_path}/hst.fits[SCI]", f"{tmp_path}/hst.fits[1]",
        tmp_path / "alma.fits", tmp_path / "packed.fits",
    ]  # fmt: skip
    for target in targets:
        found, shape = find_target(target)
        assert shape == (30, 40)
        assert found.pixel_to_world(5, 7).separation(wcs.pixel_to_world(5, 7)) < 1e-6 * u.arcsec
    wcs.array_shape = None
    assert find_target(wcs, (5, 6))[1] == (5, 6)
    maps = disc_maps((20, 20))
    first, second = (maps.galprote.reproject_to(target, "age_lw") for target in (targets[0], targets[6]))
    xr.testing.assert_allclose(first, second)


@pytest.mark.parametrize(
    ("target", "asked", "words"),
    [
        (fits.Header(), {}, "no celestial WCS"),
        (WCS(naxis=2), {}, "no celestial WCS"),
        (3, {}, "target int: no"),
        ("nothing.fits", {}, "target nothing.fits: no such file"),
        (sky_wcs((4, 4)).to_header(), {}, "give shape="),
        (sky_wcs((4, 4)), {"method": "cubic"}, "expected one of nearest, bilinear, exact"),
        (sky_wcs((4, 4)), {"names": "age"}, r"no map 'age': there are age_lw.*; did you mean age_lw\?"),
        (sky_wcs((20_000, 20_000)), {}, "take 16 GB: name fewer maps"),
        (
            sky_wcs((4, 6), centre=BESIDE),
            {},
            r"cover no pixel of the target, 4 x 6 pixels of 0.2 arcsec; its middle, 12h",
        ),
        (
            sky_wcs((4, 6), centre=BESIDE),
            {"method": "exact"},
            "not on the maps of DISC: it is 5.0 arcsec from their centre",
        ),
        (sky_wcs((4, 6), centre=BESIDE), {"method": "nearest"}, "they are 2.4 arcsec high and 2.4 arcsec wide$"),
        (sky_wcs((4, 6), centre=SkyCoord(4.7, -14.4, unit="deg")), {}, "it is 180.00 deg from their centre"),
        (sky_wcs((4, 4), scale=60.0), {}, "one is larger than the maps; take method='exact'"),
    ],
)
def test_what_cannot_be_done_says_why(target: Any, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words) as raised:
        disc_maps((12, 12)).galprote.reproject_to(target, **asked)
    assert raised.type is ReprojectionError or "no such file" in words
