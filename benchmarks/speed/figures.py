"""What a part of the benchmark gives: figures that can be compared with those of another run."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from statistics import median
from typing import Any, Literal

#: Which way a figure is better; "": it only describes.
Better = Literal["more", "less", ""]
#: The machine's own rate that a figure goes with (`machine.rates`); "": none does, or it is a ratio already.
Rate = Literal["float32", "bfloat16", "int8", "memory", "cores", "gpu", "disk", ""]


@dataclass(frozen=True)
class Figure:
    """A number.

    Attributes
    ----------
    name : str
        Another one for every figure of a part.
    value : float
    unit : str
    better : {"more", "less", ""}
    rate : str
        The machine's own rate that it goes with.
    beside : str
        What to hold it against: a target, a published number.
    """

    name: str
    value: float
    unit: str
    better: Better = ""
    rate: Rate = ""
    beside: str = ""


@dataclass
class Part:
    """A part of the benchmark.

    Attributes
    ----------
    title : str
    how : str
        How it was measured.
    figures : list of Figure
    lacking : list of str
        What could not be measured, and why.
    """

    title: str
    how: str
    figures: list[Figure] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, better: Better = "", rate: Rate = "", beside: str = "") -> None:
        """Add a figure, if it could be measured."""
        if not isfinite(value):
            self.lacking.append(f"{name}: the run is too short")
            return
        self.figures.append(Figure(name, float(value), unit, better, rate, beside))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> "Part":
        """From JSON."""
        return cls(**found | {"figures": [Figure(**figure) for figure in found["figures"]]})


def in_turns(
    jobs: dict[str, Callable[[], Any]], clock: Callable[[], float], rounds: int, *, warm: bool = True
) -> dict[str, float]:
    """Seconds that each job takes, in the median of some rounds in which all have their turn.

    What else the machine does then meets all of them alike.

    Parameters
    ----------
    jobs : dict of str to callable
    clock : callable
        `time.process_time`, or `time.perf_counter` where other processes, a disk or a GPU do the work.
    rounds : int
    warm : bool
        Whether each job is done once before.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    if warm:
        for job in jobs.values():
            job()
    for turn in range(rounds):
        for name in _order(list(jobs), turn):
            began = clock()
            jobs[name]()
            seconds[name].append(clock() - began)
    return {name: median(values) for name, values in seconds.items()}


def _order(names: Sequence[str], turn: int) -> Sequence[str]:
    """Forth and back in turns: nobody always comes after the same one."""
    return names[::-1] if turn % 2 else names
