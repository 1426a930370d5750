"""Two runs of the benchmark side by side: what got slower?

A figure counts as slower when it is worse by more than the tolerance both as it stands and after division by what the
machine itself gave in either run (matrix products, copies): other work on a machine slows both down. Between different
machines only the second counts, and figures of the disk and of memory are only shown.
"""

from dataclasses import dataclass
from typing import Any, Final

from benchmarks.speed.figures import Figure, Part
from benchmarks.speed.table import number

TOLERANCE: Final = 0.10
#: What makes a machine another one.
SAME: Final = ("cpu", "cores", "instructions", "gpu")


@dataclass(frozen=True)
class Change:
    """A figure of both runs.

    Attributes
    ----------
    part : str
    old, new : Figure
    plain, normalised : float
        How many times better it became, as it stands and by the machine's own rates; below one: worse.
    slower : bool
    """

    part: str
    old: Figure
    new: Figure
    plain: float
    normalised: float
    slower: bool


def compare(old: dict[str, Any], new: dict[str, Any], tolerance: float = TOLERANCE) -> list[Change]:
    """Figures that both runs have and that can be better or worse."""
    same = is_same_machine(old, new)
    changes = []
    for name in [name for name in old["parts"] if name in new["parts"]]:
        before = {figure.name: figure for figure in Part.from_dict(old["parts"][name]).figures}
        for figure in Part.from_dict(new["parts"][name]).figures:
            earlier = before.get(figure.name)
            if earlier is not None and figure.better and earlier.value > 0 and figure.value > 0:
                changes.append(_change(name, earlier, figure, _faster(old, new, figure.rate), same, tolerance))
    return changes


def _change(part: str, old: Figure, new: Figure, faster: float | None, same: bool, tolerance: float) -> Change:
    plain = new.value / old.value if new.better == "more" else old.value / new.value
    normalised = plain if faster is None else plain / faster
    limit = 1 - tolerance
    known = same or not (new.rate == "disk" or new.unit == "MiB")
    slower = normalised < limit and (plain < limit or not same) and known
    return Change(part, old, new, plain, normalised, slower)


def _faster(old: dict[str, Any], new: dict[str, Any], rate: str) -> float | None:
    """How many times as fast the machine was in the new run."""
    before, now = old["rates"].get(rate), new["rates"].get(rate)
    return now / before if before and now else None


def is_same_machine(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether both runs were on a machine of one kind."""
    return all(old["machine"].get(key) == new["machine"].get(key) for key in SAME)


def report(old: dict[str, Any], new: dict[str, Any], changes: list[Change]) -> str:
    """The changes as a Markdown table, those that got slower marked."""
    lines = [f"{_words('old', old)}", f"{_words('new', new)}"]
    if not is_same_machine(old, new):
        lines.append("THE MACHINES DIFFER: only what the machines' own rates do not explain counts.")
    if old["quick"] or new["quick"]:
        lines.append("At least one of the two is `--quick`: its figures say little.")
    pairs = [(name, new["rates"][name] / value) for name, value in old["rates"].items() if name in new["rates"]]
    lines.append("The machine itself, new over old: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in pairs))
    lines += [
        "",
        "| part | figure | old | new | times better | by the machine's rate | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for change in changes:
        mark = "**slower**" if change.slower else ""
        lines.append(
            f"| {change.part} | {change.new.name} | {number(change.old.value)} | {number(change.new.value)} "
            f"{change.new.unit} | {change.plain:.2f} | {change.normalised:.2f} | {mark} |"
        )
    slower = sum(change.slower for change in changes)
    lines += [
        "",
        f"{slower} of {len(changes)} figures got slower." if slower else f"None of {len(changes)} got slower.",
    ]
    if lost := _lost(old, new):
        lines.append(f"Not in the new run: {'; '.join(lost)}.")
    return "\n".join(lines)


def _lost(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Parts that only the old run has, and figures of the others."""
    lost = []
    for name, part in old["parts"].items():
        if name not in new["parts"]:
            lost.append(name)
            continue
        found = {figure.name for figure in Part.from_dict(new["parts"][name]).figures}
        lost += [f"{name}: {known.name}" for known in Part.from_dict(part).figures if known.name not in found]
    return lost


def _words(which: str, results: dict[str, Any]) -> str:
    dirty = ", with changes" if results["dirty"] else ""
    return f"{which}: {results['commit']}{dirty}, {results['date'][:16]}, {results['machine']['cpu']}"
