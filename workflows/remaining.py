"""How long a run will still take: what each step of each galaxy has left, at the pace of that step so far.

A step counts its own things - spaxels that are measured or summed, spaxels or bins that are fitted - which take
different times. How many bins there will be is not known before they are made.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

#: Steps of a galaxy without bins, and with bins.
FIT: Final = ("fit",)
MEASURE: Final = ("measure", "sum", "fit")


class Remaining:
    """What is left to do.

    Parameters
    ----------
    clock : callable
        Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, dict[str, int | None]] = {}
        self._took: dict[str, tuple[float, int]] = {}
        self._last: float | None = None

    def expect(self, name: str, spaxels: int, steps: Sequence[str]) -> None:
        """A galaxy is to be computed; of a fit after other steps it is not known how many bins it has."""
        self._left[name] = {step: None if step == "fit" and len(steps) > 1 else spaxels for step in steps}

    def begin(self, name: str, step: str, left: int) -> None:
        """A step begins, of which so much is left; those before it are over."""
        self._last = self._clock() if self._last is None else self._last
        steps = self._left.setdefault(name, {})
        names = list(steps)
        for old in names[: names.index(step)] if step in names else []:
            del steps[old]
        steps[step] = left

    def advance(self, name: str, step: str, things: int) -> None:
        """So many were done. The time since the last such message counts for this step: all steps share the workers."""
        now = self._clock()
        seconds, done = self._took.get(step, (0.0, 0))
        since = now if self._last is None else self._last
        self._took[step] = (seconds + now - since, done + things)
        self._last = now
        left = self._left[name].get(step)
        self._left[name][step] = None if left is None else max(left - things, 0)

    def end(self, name: str) -> None:
        """Nothing of a galaxy is left."""
        self._left.pop(name, None)

    def seconds(self) -> tuple[float | None, bool]:
        """Seconds for everything that is left, None before anything was done; and whether nothing is left out of it."""
        total, whole = 0.0, True
        if not self._took:
            return None, False
        for steps in self._left.values():
            for step, left in steps.items():
                seconds, done = self._took.get(step, (0.0, 0))
                if left is None or (left and not done):
                    whole = False
                elif left:
                    total += left * seconds / done
        return total, whole
