"""Radial profiles: of discs that are known exactly, however the pixels lie."""

import tracemalloc
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from galprote.pipeline.map_wcs import SkyError, wcs_text
from galprote.pipeline.rings import ring_statistics
from galprote.pipeline.trusted_light import ProfileError, brightest
from tests.discs import CENTRE, attributes, disc_maps, disc_radius, distrust, sky_wcs

PA, INCLINATION, GRADIENT = 35.0, 60.0, -0.05


def slope(profile: xr.Dataset) -> float:
    known = profile.where(profile["n"] > 5, drop=True)
    return float(np.polyfit(known["mean_radius"], known["mean"], 1)[0])


@settings(max_examples=6)
@given(
    angle=st.floats(-180, 180),
    parity=st.sampled_from([-1.0, 1.0]),
    pa=st.floats(-90, 270),
    inclination=st.floats(0, 75),
)
def test_an_inclined_disc_comes_back_whichever_way_its_pixels_lie(
    angle: float, parity: float, pa: float, inclination: float
) -> None:
    maps = disc_maps(angle=angle, parity=parity, pa=pa, inclination=inclination)
    part = maps.isel(y=slice(None, None, -1), x=slice(5, 60))
    profile = part.galprote.radial_profile(center=CENTRE, pa=pa, inclination=inclination)
    assert slope(profile) == pytest.approx(GRADIENT, rel=0.01)
    rings = profile.where(profile["n"] > 0, drop=True)
    np.testing.assert_allclose(rings["mean"], 9.8 + GRADIENT * rings["mean_radius"], atol=1e-5)
    assert (rings["p84"] - rings["p16"] <= -GRADIENT * (rings["radius_outer"] - rings["radius_inner"]) + 1e-5).all()


@pytest.mark.parametrize("wrong", [{"pa": PA + 90}, {"pa": -PA}, {"inclination": 0.0}, {"inclination": 30.0}])
def test_the_wrong_disc_does_not(wrong: dict[str, float]) -> None:
    right = {"pa": PA, "inclination": INCLINATION}
    maps = disc_maps()
    good = maps.galprote.radial_profile(center=CENTRE, **right)
    bad = maps.galprote.radial_profile(center=CENTRE, **(right | wrong))
    assert abs(slope(bad) / GRADIENT - 1) > 0.05
    middle = slice(2, 8)
    assert float((bad["p84"] - bad["p16"])[middle].mean()) > 2 * float((good["p84"] - good["p16"])[middle].mean())


@pytest.mark.parametrize("angle", [0.0, 130.0])
def test_the_centre_is_where_the_light_is(angle: float) -> None:
    maps = disc_maps(angle=angle, inclination=30.0)
    maps["flux"].values[3:6, 3:6] = 1e6  # a star, brighter than the galaxy
    distrust(maps, slice(2, 7), slice(2, 7))
    assert brightest(maps) == pytest.approx((29.5, 31.5), abs=0.1)
    profile = maps.galprote.radial_profile(pa=PA, inclination=30.0)
    assert profile.attrs["center_ra"] == pytest.approx(CENTRE.ra.deg, abs=0.02 / 3600)
    assert profile.attrs["center_dec"] == pytest.approx(CENTRE.dec.deg, abs=0.02 / 3600)
    assert profile.attrs["center"] == "the brightest light"
    assert slope(profile) == pytest.approx(GRADIENT, rel=0.01)
    given_pixel = maps.galprote.radial_profile(center=(29.5, 31.5), pa=PA, inclination=30.0)
    xr.testing.assert_allclose(given_pixel, maps.galprote.radial_profile(center=CENTRE, pa=PA, inclination=30.0))


def test_only_what_is_trusted_counts() -> None:
    maps = disc_maps()
    sound = maps.galprote.radial_profile(center=CENTRE, pa=PA, inclination=INCLINATION)
    maps["age_lw"].values[10:20, 10:20] = 5.0
    maps["age_lw"].values[40, 40] = np.nan
    distrust(maps, slice(10, 20), slice(10, 20))
    profile = maps.galprote.radial_profile(center=CENTRE, pa=PA, inclination=INCLINATION)
    assert int(sound["n"].sum() - profile["n"].sum()) == 101
    assert slope(profile) == pytest.approx(GRADIENT, rel=0.01)


def test_means_errors_and_percentiles_are_those_of_textbooks() -> None:
    rng = np.random.default_rng(3)
    maps = disc_maps(inclination=0.0, gradient=0.0)
    maps["age_lw"].values[:] = 9 + 0.2 * rng.standard_normal(maps["age_lw"].shape)
    ring = {"center": CENTRE, "edges": [1.0, 3.0]}
    flat = maps.galprote.radial_profile(**ring, weights="area").isel(radius=0)
    y, x = (values - middle for values, middle in zip(np.mgrid[:60, :64], (29.5, 31.5), strict=True))
    inside = (np.hypot(y, x) * 0.2 >= 1) & (np.hypot(y, x) * 0.2 < 3)
    values, light = maps["age_lw"].values[inside].astype(float), maps["flux"].values[inside].astype(float)
    assert int(flat["n"]) == len(values) == int(flat["n_independent"])
    assert float(flat["mean"]) == pytest.approx(values.mean())
    assert float(flat["standard_error"]) == pytest.approx(values.std(ddof=1) / np.sqrt(len(values)))
    np.testing.assert_allclose(
        [flat["p16"], flat["median"], flat["p84"]], np.percentile(values, (16, 50, 84)), atol=2e-3
    )
    weighed = maps.galprote.radial_profile(**ring).isel(radius=0)
    assert float(weighed["mean"]) == pytest.approx(np.average(values, weights=light))
    assert maps.galprote.radial_profile(**ring).attrs["weights"] == "flux"
    density = maps.galprote.radial_profile("stellar_mass_density", **ring)
    assert density.attrs["weights"] == "area"
    assert float(density["mean"][0]) == pytest.approx(maps["stellar_mass_density"].values[inside].mean(), rel=1e-5)


def test_the_standard_error_is_the_scatter_of_the_mean() -> None:
    maps = disc_maps(inclination=0.0, gradient=0.0)
    means, errors = [], []
    for seed in range(20):
        noise = np.random.default_rng(seed).standard_normal(maps["age_lw"].shape)
        maps["age_lw"].values[:] = noise
        ring = maps.galprote.radial_profile(center=CENTRE, edges=[1.0, 3.0])
        means.append(float(ring["mean"][0]))
        errors.append(float(ring["standard_error"][0]))
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.5)


def test_the_spaxels_of_a_bin_are_one_measurement() -> None:
    maps = disc_maps(inclination=0.0, gradient=0.0)
    rng = np.random.default_rng(1)
    ids = (np.arange(60)[:, None] // 3) * 100 + np.arange(64)[None, :] // 3
    maps["age_lw"].values[:] = rng.standard_normal(10_000)[ids]
    spaxels = maps.galprote.radial_profile(center=CENTRE, edges=[0, 5], weights="area")
    binned = maps.assign(bin_id=(("y", "x"), ids)).galprote.radial_profile(center=CENTRE, edges=[0, 5], weights="area")
    assert float(binned["mean"][0]) == pytest.approx(float(spaxels["mean"][0]))
    assert int(binned["n"][0]) == int(spaxels["n"][0])
    assert float(binned["standard_error"][0] / spaxels["standard_error"][0]) == pytest.approx(3, rel=0.1)
    assert int(binned["n_independent"][0]) < int(binned["n"][0]) / 7


def test_radii_are_those_of_the_disc() -> None:
    maps = disc_maps(angle=70.0, parity=1.0)
    radius = maps.isel(y=slice(3, 40, 2)).galprote.radius(CENTRE, PA, INCLINATION)
    wanted = disc_radius(maps.galprote.sky(), PA, INCLINATION)
    np.testing.assert_allclose(radius, wanted[3:40:2], atol=1e-6)
    assert float(maps["age_lw"].where(radius < 2).min()) > 9.8 + 2 * GRADIENT
    assert maps.isel(y=3).galprote.radius(CENTRE).dims == ("x",)
    with pytest.raises(ProfileError, match="give pa"):
        maps.galprote.radius(inclination=20.0)


def test_rings_and_distances() -> None:
    maps = disc_maps()
    profile = maps.galprote.radial_profile(
        center=CENTRE, pa=PA, inclination=INCLINATION, step=0.5 * u.arcsec, distance=16
    )
    np.testing.assert_allclose(profile["radius"], 0.25 + 0.5 * np.arange(profile.sizes["radius"]))
    assert int(profile["n"].sum()) == 60 * 64
    np.testing.assert_allclose(profile["radius_kpc"], profile["radius"] * 16e3 / 206264.806, rtol=1e-6)
    kpc = maps.galprote.radial_profile(center=CENTRE, distance=52.2 * u.lyr * 1e6)
    assert kpc.attrs["distance_mpc"] == pytest.approx(16.0, rel=1e-2)
    default = maps.galprote.radial_profile(center=CENTRE)
    assert 15 <= default.sizes["radius"] <= 16
    assert default["radius"].attrs["units"] == "arcsec"
    assert default["mean"].attrs["units"] == "dex(yr)"


def test_the_label_of_the_radius_fits_a_figure() -> None:
    mpl.use("Agg")
    profile = disc_maps((12, 12)).galprote.radial_profile(center=CENTRE, distance=16)
    for radius in ("radius", "radius_kpc"):
        figure, axes = plt.subplots()  # as large as anybody's
        profile["mean"].plot(ax=axes, x=radius)
        figure.canvas.draw()
        assert axes.xaxis.label.get_window_extent().y0 > 0, axes.get_xlabel()
        plt.close(figure)


def test_without_a_wcs_radii_are_spaxels() -> None:
    sky = disc_maps(inclination=50.0)
    maps = sky.drop_vars(["ra", "dec"]).assign_attrs(wcs_header="")
    profile = maps.galprote.radial_profile(pa=PA, inclination=50.0)
    assert profile["radius"].attrs["units"] == "spaxel"
    assert "no celestial WCS" in profile.attrs["position_angle"]
    assert slope(profile) == pytest.approx(GRADIENT * 0.2, rel=0.01)
    with pytest.raises(ProfileError, match="no celestial WCS"):
        maps.galprote.radial_profile(distance=16)
    with pytest.raises(ProfileError, match=r"step = <Quantity 1. arcsec>: expected one positive number of spaxels"):
        maps.galprote.radial_profile(step=1 * u.arcsec)
    with pytest.raises(
        ProfileError, match=r"\(-90.0, 31.5\), is 1.0 times as far .* \(y from 0 to 59, x from 0 to 63\)"
    ):
        maps.galprote.radial_profile(center=(-90, 31.5))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"name": "age"}, "no map 'age': there are age_lw"),
        ({"name": "agelw"}, r"flux, .*; did you mean age_lw\?$"),
        ({"name": ["age_lw", "flux"]}, r"\['age_lw', 'flux'\]: expected the name of one map, such as 'age_lw'"),
        ({"weights": ["flux"]}, "expected 'area'"),
        ({"inclination": 30.0}, "give pa"),
        ({"pa": 1.0, "inclination": 90.0}, "less than 90"),
        ({"pa": np.nan, "inclination": 0.0}, "pa = nan"),
        ({"pa": 30}, "pa = 30: without an inclination it changes nothing: give inclination, 0 for circles"),
        ({"center": "there"}, "expected a SkyCoord"),
        (
            {"center": (184.7, 14.4)},
            r"expected \(y, x\) of the cube; a position is SkyCoord\(184.7, 14.4, unit='deg'\)",
        ),
        ({"center": (14.4, 184.7)}, r"\(14.4, 184.7\): expected \(y, x\) .* is SkyCoord\(184.7, 14.4, unit='deg'\)"),
        ({"edges": [3, 1]}, "increasing radii"),
        ({"edges": [0, 1], "step": 1}, "not both"),
        ({"edges": 3 * u.s}, "increasing radii"),
        ({"edges": np.arange(10_002)}, "10,001 rings: expected 10,000 rings at most"),
        ({"edges": [5, 6]}, "age_lw: no spaxel is in these rings: radii are 0.1.* to 1.* arcsec"),
        ({"step": 0}, r"step = 0: expected one positive angle \(a number is arcsec\)$"),
        ({"step": (1, 2)}, "expected one positive angle"),
        ({"step": "wide"}, "expected one positive angle"),
        ({"step": 1e-4}, "step = 0.0001 is too small: radii are 0 to .* arcsec.* a spaxel is 0.2 arcsec wide"),
        ({"step": 1e-320}, "is too small"),
        ({"name": "status"}, "status holds bits or numbers of things"),
        ({"name": "bin_id"}, "bin_id holds bits or numbers of things"),
        ({"weights": "status"}, "status holds bits"),
        ({"weights": "light"}, "expected 'area'"),
        ({"distance": -1}, "positive number of Mpc"),
        ({"distance": 3 * u.s}, "expected Mpc"),
    ],
)
def test_what_is_not_understood_is_refused(asked: dict[str, Any], words: str) -> None:
    maps = disc_maps((12, 12))
    maps["bin_id"] = maps["flux"].astype(int)
    with pytest.raises(ProfileError, match=words):
        maps.galprote.radial_profile(**asked)


@pytest.mark.parametrize("inclination", [0.0, 60.0])
def test_a_centre_may_lie_outside_a_part_of_its_galaxy(inclination: float) -> None:
    """Rings begin where the part does, and have the values that they have around the same centre in the whole."""
    whole = disc_maps(inclination=inclination)
    part = whole.isel(y=slice(40, None), x=slice(None, None, -2))
    assert part["age_lw"].shape == (20, 32)
    disc = {"center": CENTRE, "pa": PA, "inclination": inclination}
    for asked in ({}, {"step": 0.3}):
        profile = part.galprote.radial_profile(**disc, **asked)
        assert profile["n"][0] > 0
        assert int(profile["n"].sum()) == 20 * 32
        assert float(profile["radius_inner"][0]) > 0.5
        np.testing.assert_allclose(profile["mean"], 9.8 + GRADIENT * profile["mean_radius"], atol=1e-5)
    few = profile.isel(radius=slice(0, 5))
    edges = [*few["radius_inner"].values, float(few["radius_outer"][-1])]
    beside = whole.isel(y=slice(40, None)).galprote.radial_profile(**disc, edges=edges)
    np.testing.assert_allclose(few["mean"], beside["mean"], atol=0.01)
    np.testing.assert_allclose(edges, 0.3 * np.rint(np.array(edges) / 0.3))  # whole steps from the centre
    assert whole.galprote.radial_profile(center=(29.5, -0.5))["radius_inner"][0] == 0  # the edge is on the maps


def test_a_centre_far_from_the_maps_is_a_mistake_or_has_its_rings_named() -> None:
    maps = disc_maps((12, 16))  # 3.2 arcsec wide, 4 across
    beside, far = (SkyCoord(CENTRE.ra, CENTRE.dec + shift * u.arcsec) for shift in (1.2 + 3.9, 1.2 + 4.1))
    assert float(maps.galprote.radial_profile(center=beside)["radius_inner"][0]) > 3
    with pytest.raises(
        ProfileError, match=r"center: its \(y, x\), \(32.0, 7.5\), is 1.0 times as far from the maps of DISC"
    ):
        maps.galprote.radial_profile(center=far)
    with pytest.raises(ProfileError, match="say where they end"):
        maps.galprote.radial_profile(center=far, step=0.5)
    found = maps.galprote.radial_profile(center=far, edges=[4, 5, 6])
    assert (found["n"] > 0).all()
    assert float(maps.galprote.radius(far).min()) == pytest.approx(4.2, abs=0.01)  # as the crow flies
    for nowhere in (SkyCoord(4.7, -14.4, unit="deg"), (np.nan, 3.0)):
        for ask in (maps.galprote.radius, maps.galprote.radial_profile):
            with pytest.raises(ProfileError, match="expected a place on the maps, or beside them"):
                ask(center=nowhere)
    with pytest.raises(SkyError, match="expected one position"):
        maps.galprote.radial_profile(center=maps.galprote.sky())


def test_nothing_trusted_gives_no_profile() -> None:
    maps = disc_maps((12, 12))
    distrust(maps, slice(None), slice(None))
    with pytest.raises(ProfileError, match="no spaxel is fitted and trusted"):
        maps.galprote.radial_profile()
    with pytest.raises(ProfileError, match="no spaxel is fitted and trusted"):
        maps.galprote.radial_profile(center=CENTRE)


def large_maps(side: int, header: bool) -> xr.Dataset:
    place = np.arange(side, dtype=np.float32)
    light = np.exp(-np.hypot(place[:, None] - 0.6 * side, place - 0.4 * side) / (0.1 * side))
    variables = {"flux": light, "age_lw": light, "status": np.zeros((side, side), np.int32)}
    maps = xr.Dataset({name: (("y", "x"), values) for name, values in variables.items()})
    about = attributes(wcs_text(sky_wcs((side, side))) if header else "")
    return maps.assign_coords(y=np.arange(side), x=np.arange(side)).assign_attrs(about)


@pytest.mark.parametrize(
    ("side", "header", "make", "images"),
    [
        (1500, False, brightest, 6),
        (800, True, lambda maps: maps.galprote.radial_profile(), 16),
    ],
)
def test_large_maps_need_the_memory_of_a_few(side: int, header: bool, make: Any, images: int) -> None:
    maps = large_maps(side, header)
    tracemalloc.start()
    try:
        make(maps)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < images * maps["flux"].nbytes


@pytest.mark.parametrize("place", [(0, 0), (2, 15), (9, 1)])
def test_the_centre_may_be_at_an_edge_or_among_noise_below_zero(place: tuple[int, int]) -> None:
    maps = disc_maps((20, 16), inclination=0.0)
    y, x = np.mgrid[:20, :16]
    maps["flux"].values[:] = np.exp(-0.5 * ((y - place[0]) ** 2 + (x - place[1]) ** 2))
    assert brightest(maps) == pytest.approx(place, abs=1.0)
    maps["flux"].values[:] = -1.0
    maps["flux"].values[place] = 1.0
    assert brightest(maps) == pytest.approx(place, abs=1.0)  # the largest mean of a spaxel's neighbours
    maps["flux"].values[:] = 0.0
    assert brightest(maps) == (0, 0)


def test_a_map_that_varies_within_bins_is_measured_in_every_spaxel() -> None:
    maps = disc_maps(inclination=0.0, gradient=0.0)
    ids = (np.arange(60)[:, None] // 10) * 100 + np.arange(64)[None, :] // 10
    noise = np.random.default_rng(1).standard_normal(maps["flux"].shape).astype(np.float32)
    maps["spaxel_flux"] = (("y", "x"), noise)
    ring: dict[str, Any] = {"name": "spaxel_flux", "center": CENTRE, "edges": [0, 5], "weights": "area"}
    wanted = maps.galprote.radial_profile(**ring)
    found = maps.assign(bin_id=(("y", "x"), ids)).galprote.radial_profile(**ring)
    xr.testing.assert_allclose(found, wanted)
    assert int(found["n_independent"][0]) == int(found["n"][0])
    nowhere = maps.assign(age_lw=maps["age_lw"] * 0, bin_id=(("y", "x"), ids * 0 - 1))
    assert int(nowhere.galprote.radial_profile(**(ring | {"name": "age_lw"}))["n_independent"][0]) == int(found["n"][0])


def test_percentiles_of_a_few_spaxels_lie_at_the_middle_of_their_weights() -> None:
    """Weights of 1, 2 and 1 put 1, 2 and 4 at 1/8, 1/2 and 7/8 of the light."""
    three, one = np.array([4.0, 1.0, 2.0]), np.ones(3)
    _, _, low, median, high, _, n, k = ring_statistics(three, np.array([1.0, 1.0, 2.0]), one, None)
    assert (n, k) == (3, 3)
    assert (low, median, high) == pytest.approx((1 + (0.16 - 1 / 8) / (3 / 8), 2, 2 + 2 * (0.84 - 1 / 2) / (3 / 8)))
