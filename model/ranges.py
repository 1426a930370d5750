"""Settings that are a lower and an upper end: their types, and limits that a configuration names without torch."""

from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator

#: Velocities that may be asked for, km/s.
SMALLEST_REACH: Final = 100.0
LARGEST_REACH: Final = 1000.0

Number = TypeVar("Number", int, float)


def _ascending(ends: tuple[Number, Number]) -> tuple[Number, Number]:
    if not ends[0] <= ends[1]:
        raise ValueError(f"expected [lowest, highest], found {list(ends)}")
    return ends


def _not_negative(ends: tuple[Number, Number]) -> tuple[Number, Number]:
    if ends[0] < 0:
        raise ValueError(f"expected nothing below 0, found {list(ends)}")
    return ends


def _positive(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] <= 0:
        raise ValueError(f"expected nothing at or below 0, for its logarithm is taken; found {list(ends)}")
    return ends


Range = Annotated[tuple[float, float], AfterValidator(_ascending), AfterValidator(_not_negative)]
"""Lowest and highest value, not negative."""
LogRange = Annotated[tuple[float, float], AfterValidator(_ascending), AfterValidator(_positive)]
"""Lowest and highest value of something whose logarithm is uniform: positive."""
Count = Annotated[tuple[int, int], AfterValidator(_ascending), AfterValidator(_not_negative)]
"""Least and largest number, not negative."""
