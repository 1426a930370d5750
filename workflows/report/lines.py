"""Known lines in a galaxy's rest frame, and places for their names that do not overlap."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

#: Lines of gas (and, Na D, of stars and gas): name, rest-frame air wavelength in Angstrom. Of close pairs one name.
GALAXY_LINES: Final = (
    ("Hβ", (4861.33,)), ("[O III]", (4958.91, 5006.84)), ("He I", (5875.6,)), ("Na D", (5889.95, 5895.92)),
    ("[O I]", (6300.30, 6363.78)), ("[N II]", (6548.05,)), ("Hα", (6562.80,)), ("[N II]", (6583.45,)),
    ("He I", (6678.15,)), ("[S II]", (6716.44, 6730.82)),
)  # fmt: skip
#: Lines of the night sky, observed air wavelengths.
SKY_LINES: Final = (
    ("sky 5577", 5577.34), ("sky Na D", 5889.95), ("", 5895.92), ("sky 6300", 6300.30), ("sky 6364", 6363.78),
    ("sky OH", 6863.96), ("", 6923.22), ("", 6948.94), ("", 6978.26),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A line: rest-frame wavelength, Angstrom; its name, empty if a neighbour carries it; whether it is the sky's."""

    wavelength: float
    name: str
    sky: bool


def known_lines(redshift: float, first: float, last: float) -> list[Line]:
    """Lines between two rest-frame wavelengths, ascending.

    Parameters
    ----------
    redshift : float
        Leads the sky's lines into the galaxy's rest frame.
    first, last : float
    """
    found = []
    for name, wavelengths in GALAXY_LINES:
        close = wavelengths[-1] - wavelengths[0] < 20
        for number, wavelength in enumerate(wavelengths):
            found.append(Line(wavelength, name if not (close and number) else "", sky=False))
    found += [Line(wavelength / (1 + redshift), name, sky=True) for name, wavelength in SKY_LINES]
    return sorted((line for line in found if first <= line.wavelength <= last), key=lambda line: line.wavelength)


def spread(places: Sequence[float], widths: Sequence[float], first: float, last: float) -> list[float]:
    """Move names apart until none overlaps: centres, as near to `places` as may be, in their order.

    Parameters
    ----------
    places : sequence of n float
        Where they should be, ascending.
    widths : sequence of n float
        Of the names, with the space between them.
    first, last : float
        Ends of the room; what does not fit in reaches beyond the last.
    """
    groups: list[tuple[float, float, list[int]]] = []  # left end, width, members
    for number, (place, width) in enumerate(zip(places, widths, strict=True)):
        groups.append((max(first, min(place - width / 2, last - width)), width, [number]))
        while len(groups) > 1 and groups[-2][0] + groups[-2][1] > groups[-1][0] + 1e-9:
            (_, before, left), (_, after, right) = groups[-2:]
            groups[-2:] = [_placed([*left, *right], before + after, places, widths, first, last)]
    centres = [0.0] * len(places)
    for left_end, _, members in groups:
        offset = left_end
        for number in members:
            centres[number] = offset + widths[number] / 2
            offset += widths[number]
    return centres


def _placed(
    members: list[int], width: float, places: Sequence[float], widths: Sequence[float], first: float, last: float
) -> tuple[float, float, list[int]]:
    """A row of names without space between them, where they miss their places least."""
    before = np.concatenate([[0.0], np.cumsum([widths[number] for number in members])[:-1]])
    wanted = [places[number] - widths[number] / 2 - gone for number, gone in zip(members, before, strict=True)]
    return max(first, min(float(np.mean(wanted)), last - width)), width, members
