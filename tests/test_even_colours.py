"""Equal steps of a quantity look equal, and lighter is more, or less, without colour vision too."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from galprote.pipeline.even_colours import TWO_SIDED, cam02_ucs, even_colours
from galprote.pipeline.map_styles import STYLES
from galprote.workflows.viewer.scales import COLOURS

#: Light that the three cones get, as deuteranopes see it: Machado, Oliveira & Fernandes 2009, of linear sRGB.
DEUTERANOPE = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def unevenness(colours: np.ndarray) -> float:
    """Scatter of the steps over their mean; of eight steps each, since matplotlib's tables are rounded."""
    return float(np.std(steps := np.linalg.norm(np.diff(cam02_ucs(colours)[::8], axis=0), axis=1)) / np.mean(steps))


def test_cam02_ucs_is_that_of_others() -> None:
    """Numbers of colorspacious 1.1.2: cspace_convert(..., "sRGB1", "CAM02-UCS")."""
    colours = np.array([[1, 0, 0], [0, 0, 1], [0.2, 0.5, 0.8], [0.9, 0.3, 0.1]])
    known = [
        [60.048, 38.689, 24.319], [31.221, -8.383, -39.159], [53.402, -11.118, -26.605], [59.838, 28.644, 23.188],
    ]  # fmt: skip
    np.testing.assert_allclose(cam02_ucs(colours), known, atol=0.02)


def every_scale() -> list[tuple[str, tuple[float, float]]]:
    return sorted({(style.colours, style.span) for style in STYLES.values()} | {(name, (0.0, 1.0)) for name in COLOURS})


@pytest.mark.parametrize(("name", "span"), every_scale())
def test_equal_steps_look_equal(name: str, span: tuple[float, float]) -> None:
    if name.startswith("gray"):
        return  # even in its value
    colours = even_colours(name, span)[:, :3]
    parts = (colours[:128], colours[128:]) if name.removesuffix("_r") in TWO_SIDED else (colours,)
    assert max(map(unevenness, parts)) < 0.09
    np.testing.assert_allclose(colours[[0, -1]], colormaps[name](np.array(span))[:, :3], atol=0.03)


@pytest.mark.parametrize(("name", "span"), every_scale())
def test_more_is_lighter_or_darker_without_colour_vision_too(name: str, span: tuple[float, float]) -> None:
    colours = even_colours(name, span)[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ DEUTERANOPE.T, 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lightness, seen_lightness = cam02_ucs(colours)[::8, 0], cam02_ucs(seen)
    if name.removesuffix("_r") in TWO_SIDED:
        assert np.argmax(lightness) in (15, 16)
        assert np.linalg.norm(seen_lightness[0] - seen_lightness[-1]) > 30  # the two sides are told apart
        return
    for found in (lightness, seen_lightness[::8, 0]):
        assert (np.diff(found) > 0).all() or (np.diff(found) < 0).all()
        assert np.ptp(found) > 60


def test_the_middle_of_two_sides_stays() -> None:
    for name in ("RdBu_r", "RdYlBu_r"):
        middle = to_rgb(colormaps[name](0.5))
        np.testing.assert_allclose(even_colours(name, (0.02, 0.98))[127:129, :3].mean(axis=0), middle, atol=0.03)


def test_what_is_uneven_is_found_out() -> None:
    for name in ("jet", "YlGnBu", "Purples"):
        assert unevenness(colormaps[name](np.linspace(0, 1, 256))[:, :3]) > 0.15
