"""Rings around the worst groups of outliers in a map, each with its number beside it, where it cannot be another's."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from galprote.pipeline.map_styles import INK
from galprote.pipeline.outliers import Group

Points = NDArray[np.float64]

#: Points: a ring's diameter without its line, and what a number needs around its middle.
RING, NUMBER = 11.0, 5.5
#: Points from a ring to its number: beside it, or further away with a line between the two.
BESIDE, AWAY = 12.0, (18.0, 25.0, 34.0, 45.0)
#: Points that a number is nearer to its own ring than to others, unless a line leads to it.
NEARER = 4.0
#: Where around its ring a number may be, as unit vectors.
AROUND: Final = np.array([(np.cos(turn), np.sin(turn)) for turn in np.pi * (np.arange(16) + 2) / 8])


def mark_groups(axes: Axes, groups: Sequence[Group]) -> None:
    """Ring and number groups of outliers; the limits of the axes must be what they will be."""
    axes.apply_aspect()
    outline = [withStroke(linewidth=2.5, foreground="white")]
    to_points = 72 / axes.figure.dpi
    corners = axes.get_window_extent().get_points() * to_points
    places = np.array([axes.transData.transform((group.x, group.y)) for group in groups]).reshape(-1, 2) * to_points
    for group, place, number in zip(groups, places, number_places(places, corners), strict=True):
        axes.plot(group.x, group.y, "o", ms=RING, mfc="none", mec=INK, mew=1.3, zorder=4, path_effects=outline)
        line: dict[str, Any] = {"arrowstyle": "-", "color": INK, "lw": 1.1, "shrinkA": 0, "shrinkB": RING / 2 + 0.6}
        axes.annotate(
            str(group.number), (group.x, group.y), tuple(number - place), textcoords="offset points", fontsize=10,
            color=INK, weight="bold", ha="center", va="center", zorder=5, path_effects=outline, annotation_clip=True,
            arrowprops=line if np.hypot(*(number - place)) > BESIDE + 0.1 else None,
        )  # fmt: skip


def number_places(rings: Points, corners: Points) -> Points:
    """Middles of the numbers of rings, free of these, of each other and of the lines between.

    Parameters
    ----------
    rings : (n, 2) float64
        Middles of the rings, points.
    corners : (2, 2) float64
        The lower left and the upper right end of where numbers may be.

    Returns
    -------
    (n, 2) float64
    """
    found: list[Points] = []
    for number, ring in enumerate(rings):
        others = np.delete(rings, number, axis=0)
        candidates = [ring + far * way for far in (BESIDE, *AWAY) for way in AROUND]
        rooms = [_room(ring, place, others, found, rings[: len(found)], corners) for place in candidates]
        free = [k for k, room in enumerate(rooms) if room >= 0]
        near = [k for k in free if k // len(AROUND) == free[0] // len(AROUND)] or range(len(rooms))
        found.append(candidates[max(near, key=lambda k: min(rooms[k], 2 * NUMBER))])
    return np.array(found).reshape(-1, 2)


def _room(ring: Points, place: Points, others: Points, numbers: list[Points], theirs: Points, corners: Points) -> float:
    """Points to spare around a number at a place, and around the line to its ring; negative where it would not do."""
    far = float(np.hypot(*(place - ring)))
    rooms = [*(place - corners[0] - NUMBER), *(corners[1] - place - NUMBER)]
    start = ring + (place - ring) * (RING / 2 / far)
    for other in others:
        rooms.append(float(np.hypot(*(place - other))) - RING / 2 - NUMBER - 1)
        if far <= BESIDE + 0.1:
            rooms.append(float(np.hypot(*(place - other))) - far - NEARER)
        else:
            rooms.append(_distance(other, start, place) - RING / 2)
    for other, its_ring in zip(numbers, theirs, strict=True):
        rooms.append(float(np.hypot(*(place - other))) - 2 * NUMBER)
        rooms.append(_distance(other, start, place) - NUMBER)
        rooms.append(_distance(place, its_ring, other) - NUMBER)
    return float(min(rooms))


def _distance(point: Points, start: Points, end: Points) -> float:
    """From a point to a stretch of a line."""
    along = end - start
    share = np.clip((point - start) @ along / max(float(along @ along), 1e-12), 0, 1)
    return float(np.hypot(*(start + share * along - point)))
