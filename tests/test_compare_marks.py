"""Numbers of the outliers' rings in a comparison's figure: whose they are is seen."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from galprote.pipeline.outliers import Group
from galprote.workflows.comparison_marks import BESIDE, NUMBER, RING, mark_groups, number_places

CORNERS = np.array([[10.0, 20.0], [248.0, 258.0]])
GROUP = Group(1, 1, 0, 0, np.nan, np.nan, 9.0, 8.0, 1.0, 5.0, 5.0, 20.0, 0.5, (), ())
inside = st.tuples(st.floats(12, 246), st.floats(22, 256))


def apart(one: np.ndarray, others: np.ndarray) -> float:
    return float(np.hypot(*(np.reshape(others, (-1, 2)) - one).T).min(initial=np.inf))


@settings(max_examples=30)
@given(st.lists(inside, min_size=1, max_size=5))
def test_numbers_are_inside_and_apart_and_beside_their_own_ring(places: list[tuple[float, float]]) -> None:
    rings = np.array(places)
    rings[:, 0] = np.clip(np.round(rings[:, 0] / 14) * 14, 12, 246)  # close, but not one upon the other
    rings = np.unique(rings, axis=0)
    found = number_places(rings, CORNERS)
    crowded = any(apart(ring, np.delete(rings, k, axis=0)) < 6 for k, ring in enumerate(rings))
    for k, (ring, number) in enumerate(zip(rings, found, strict=True)):
        assert (number >= CORNERS[0]).all()
        assert (number <= CORNERS[1]).all()
        others = np.delete(rings, k, axis=0)
        far = np.hypot(*(number - ring))
        if crowded:
            continue
        assert apart(number, others) > RING / 2 + NUMBER
        assert apart(number, np.delete(found, k, axis=0)) > NUMBER
        if far < BESIDE + 0.1:  # no line leads to it
            assert apart(number, others) > far + 3


@pytest.mark.parametrize("shift", [(4.0, 9.0), (0.0, 2.5), (12.0, -12.0)])
def test_two_rings_that_touch_have_their_numbers_on_either_side(shift: tuple[float, float]) -> None:
    rings = np.array([(120.0, 120.0), (120.0 + shift[0], 120.0 + shift[1])])
    found = number_places(rings, CORNERS)
    assert (found[0] - rings[0]) @ (found[1] - rings[1]) < 0
    for k in (0, 1):
        assert np.hypot(*(found[k] - rings[k])) < np.hypot(*(found[k] - rings[1 - k])) - 2


def test_what_is_drawn_is_what_was_planned() -> None:
    """Three rings in a heap, one alone in a corner: as many numbers, and lines to those that are not beside theirs."""
    figure = Figure(figsize=(4, 4), dpi=140)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.set(xlim=(-0.5, 99.5), ylim=(-0.5, 99.5))
    places = [(50, 50), (51, 52), (50, 53), (98, 1)]
    mark_groups(axes, [replace(GROUP, number=k + 1, y=y, x=x) for k, (y, x) in enumerate(places)])
    canvas.draw()
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3", "4"]
    assert [(line.get_ydata()[0], line.get_xdata()[0]) for line in axes.lines] == places
    frame = axes.get_window_extent()
    for k, text in enumerate(axes.texts):
        text.update_positions(canvas.get_renderer())
        box = Text.get_window_extent(text)  # without the line
        assert frame.x0 < box.x0 < box.x1 < frame.x1
        assert frame.y0 < box.y0 < box.y1 < frame.y1
        middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
        far = [np.hypot(*(axes.transData.transform((x, y)) - middle)) * 72 / 140 for y, x in places]
        own = far[k]
        assert (text.arrow_patch is None) == (own < BESIDE + 1)
        assert min(far) == own
    mark_groups(axes, [])
