"""Running medians of many spectra at once, by comparing whole arrays.

Neighbouring windows share nearly all of their samples. For a group of b windows in a row those that all of them have
are sorted once, and of these only the b that may still be somebody's median are kept; then the group is halved, and
each half adds the b / 2 samples that all of its windows share besides, down to single windows. The comparisons do not
depend on the data (a sorting network, Batcher 1968), so each is a minimum or maximum of arrays over all groups and
spectra: some 40 of them a sample for a window of 31, at a few thousand million numbers a second. The results are
samples, so they are those of any other algorithm, to the bit.
"""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Spectra that are compared at a time: the arrays stay in the processor's cache.
SPECTRA: Final = 128

#: A value in the making: a sample of the group's, counted from its first window's first one (j, -1, -1); the smaller
#: (-1, a, b) or the larger (-2, a, b) of two values; or None, larger than all.
_Node = int | None


class _Step(NamedTuple):
    """Slot `to` becomes the smaller or the larger of two operands: slots, or samples as -1 - j."""

    larger: bool
    to: int
    first: int
    second: int


class _Network(NamedTuple):
    """How `group` medians come from the samples of as many windows."""

    group: int
    steps: tuple[_Step, ...]
    slots: int
    medians: tuple[int, ...]


def running_median(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Centred running median along the last axis, the ends reflected.

    Parameters
    ----------
    values : (n, m) float32
        Finite; longer than half a window.
    window : int
        Odd.

    Returns
    -------
    (n, m) float32
    """
    n, m = values.shape
    network = _network(window)
    groups = -(-m // network.group)
    smooth = np.empty((n, m), dtype=np.float32)
    columns = _places(m, window, network.group)
    slots = np.empty((network.slots, groups, min(n, SPECTRA)), dtype=np.float32)
    for start in range(0, n, SPECTRA):
        part = np.ascontiguousarray(values[start : start + SPECTRA].T)
        # (phase, group, spectrum): sample j of all groups lies together.
        samples = np.take(part, columns, axis=0)
        medians = _medians(network, samples, slots[..., : part.shape[1]] if part.shape[1] < slots.shape[2] else slots)
        smooth[start : start + SPECTRA] = medians.reshape(-1, part.shape[1])[:m].T
    return smooth


def _places(m: int, window: int, group: int) -> NDArray[np.int64]:
    """Where the samples come from, by phase and group, (group, groups and more): reflected at the ends."""
    groups = -(-m // group) + -(-window // group)
    place = np.arange(groups * group).reshape(groups, group).T - window // 2
    period = 2 * (m - 1)
    place = np.abs(place) % period if period else np.zeros_like(place)
    return np.minimum(place, period - place)


def _medians(network: _Network, samples: NDArray[np.float32], slots: NDArray[np.float32]) -> NDArray[np.float32]:
    """Medians (groups, group, spectra) from samples (group, groups and more, spectra)."""
    groups = slots.shape[1]

    def operand(number: int) -> NDArray[np.float32]:
        if number >= 0:
            return np.asarray(slots[number])
        row, phase = divmod(-1 - number, network.group)
        return np.asarray(samples[phase, row : row + groups])

    for larger, to, first, second in network.steps:
        (np.maximum if larger else np.minimum)(operand(first), operand(second), out=slots[to])
    return np.stack([operand(number) for number in network.medians], axis=1)


@lru_cache(maxsize=8)
def _network(window: int) -> _Network:
    """The comparisons for a window; none whose result nobody needs."""
    middle = (window + 1) // 2
    group = 1 << (middle.bit_length() - 1)
    nodes = _Nodes()
    shared: list[_Node] = list(range(group - 1, window))
    candidates = nodes.sort(shared)[middle - group : middle]
    medians = _halve(nodes, candidates, 0, group, window)
    return nodes.network(group, medians)


def _halve(nodes: "_Nodes", candidates: list[_Node], first: int, stop: int, window: int) -> list[_Node]:
    """Medians of windows `first` to `stop`, of which the candidates are known."""
    size = stop - first
    if size == 1:
        return candidates
    middle = first + size // 2
    left = nodes.sort(list(range(middle - 1, stop - 1)))
    right = nodes.sort(list(range(first + window, middle + window)))
    medians: list[_Node] = []
    for extra, ends in ((left, (first, middle)), (right, (middle, stop))):
        kept = nodes.merge(candidates, extra)[size // 2 : size]
        medians += _halve(nodes, kept, *ends, window)
    return medians


class _Nodes:
    """Values in the making: samples have the numbers below `_SAMPLES`, then come comparisons."""

    _SAMPLES: Final = 1 << 20

    def __init__(self) -> None:
        self.known: dict[tuple[bool, int, int], int] = {}
        self.made: list[tuple[bool, int, int]] = []

    def compare(self, a: _Node, b: _Node) -> tuple[_Node, _Node]:
        """The smaller and the larger of two."""
        if a is None or b is None:
            return (b if a is None else a), None
        return self._node(False, a, b), self._node(True, a, b)

    def _node(self, larger: bool, a: int, b: int) -> int:
        key = (larger, min(a, b), max(a, b))
        if key not in self.known:
            self.known[key] = self._SAMPLES + len(self.made)
            self.made.append(key)
        return self.known[key]

    def sort(self, values: list[_Node]) -> list[_Node]:
        """Sort."""
        if len(values) < 2:
            return values
        half = len(values) // 2
        return self.merge(self.sort(values[:half]), self.sort(values[half:]))

    def merge(self, a: list[_Node], b: list[_Node]) -> list[_Node]:
        """Merge two sorted lists (Batcher's odd-even merge)."""
        length = 1 << (max(len(a), len(b), 1) - 1).bit_length()
        padded = [*a, *[None] * (length - len(a))], [*b, *[None] * (length - len(b))]
        return self._merge(*padded)[: len(a) + len(b)]

    def _merge(self, a: list[_Node], b: list[_Node]) -> list[_Node]:
        if len(a) == 1:
            return list(self.compare(a[0], b[0]))
        even, odd = self._merge(a[::2], b[::2]), self._merge(a[1::2], b[1::2])
        merged = [even[0]]
        for low, high in zip(odd[:-1], even[1:], strict=True):
            merged += self.compare(low, high)
        return [*merged, odd[-1]]

    def network(self, group: int, medians: list[_Node]) -> _Network:
        """The steps to the medians, in few slots: a slot is free again after its value's last use."""
        wanted = [node for node in medians if node is not None]
        uses = self._uses(wanted)
        slot: dict[int, int] = {}
        free: list[int] = []
        steps = []
        for node in sorted(uses):  # as they were made: parts first, and both results of a comparison together
            if node < self._SAMPLES:
                continue
            larger, a, b = self.made[node - self._SAMPLES]
            first, second = (slot[part] if part >= self._SAMPLES else -1 - part for part in (a, b))
            for part in (a, b):
                uses[part] -= 1
                if part >= self._SAMPLES and not uses[part]:
                    free.append(slot[part])
            slot[node] = free.pop() if free else len(set(slot.values()))
            steps.append(_Step(larger, slot[node], first, second))
        places = tuple(slot[node] if node >= self._SAMPLES else -1 - node for node in wanted)
        return _Network(group, tuple(steps), len(set(slot.values())), places)

    def _uses(self, wanted: list[int]) -> dict[int, int]:
        """How often each value is needed that leads to some; what is wanted is never done with."""
        uses = dict.fromkeys(wanted, 1)
        left = list(wanted)
        while left:
            node = left.pop()
            for part in self.made[node - self._SAMPLES][1:] if node >= self._SAMPLES else ():
                if part not in uses:
                    left.append(part)
                uses[part] = uses.get(part, 0) + 1
        return uses
