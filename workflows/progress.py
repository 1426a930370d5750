"""How a run shows its progress: live bars in a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from galprote.model.wording import count
from galprote.workflows.terminal import stamped

#: Seconds between two plain lines of one galaxy.
PLAIN_INTERVAL = 10.0


class RunProgress(Protocol):
    """What a survey tells about its advance."""

    def start(self, name: str, spaxels: int, done: int, what: str = "spaxels") -> None:
        """A galaxy's step begins; `done` of its spaxels (or `what` there is) were finished by an earlier run."""

    def advance(self, name: str, spaxels: int, fitted: int) -> None:
        """A chunk is finished."""

    def finish(self, name: str, outcome: str) -> None:
        """A galaxy is finished, skipped or failed."""

    def message(self, text: str) -> None:
        """Something to say."""


class LiveProgress:
    """Bars, one a galaxy, with spectra per second and time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.fields[galaxy]}", style="bold", markup=False),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}", justify="right"),
            TextColumn("{task.fields[what]}  {task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[outcome]}", markup=False),
            console=console,
        )
        self.tasks: dict[str, TaskID] = {}
        self.rates: dict[str, _Rate] = {}

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def start(self, name: str, spaxels: int, done: int, what: str = "spaxels") -> None:
        """Show a bar; that of the galaxy's step before goes."""
        if name in self.tasks:
            self.bars.remove_task(self.tasks[name])
        self.tasks[name] = self.bars.add_task(
            "", total=spaxels, completed=done, galaxy=name, what=what, rate="", outcome=""
        )
        self.rates[name] = _Rate()

    def advance(self, name: str, spaxels: int, fitted: int) -> None:
        """Move a bar."""
        rate = self.rates[name].add(fitted)
        self.bars.update(self.tasks[name], advance=spaxels, rate=f"{rate:,.0f} spectra/s")

    def finish(self, name: str, outcome: str) -> None:
        """Write the outcome behind a bar."""
        if name in self.tasks:
            self.bars.update(self.tasks[name], outcome=outcome)
        else:
            self.message(f"{name}: {outcome}")

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(stamped(text), markup=False, soft_wrap=True)


class QuietProgress:
    """Nothing: what became of the galaxies is told at the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def start(self, name: str, spaxels: int, done: int, what: str = "spaxels") -> None:
        """Say nothing."""

    def advance(self, name: str, spaxels: int, fitted: int) -> None:
        """Say nothing."""

    def finish(self, name: str, outcome: str) -> None:
        """Say nothing."""

    def message(self, text: str) -> None:
        """Say nothing."""


class PlainProgress(QuietProgress):
    """Lines for log files: one when a galaxy begins, one every ten seconds, one when it ends."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.totals: dict[str, tuple[int, int]] = {}
        self.what: dict[str, str] = {}
        self.rates: dict[str, _Rate] = {}
        self.last = time.monotonic()

    def start(self, name: str, spaxels: int, done: int, what: str = "spaxels") -> None:
        """Print a galaxy's name and size."""
        self.totals[name], self.rates[name], self.what[name] = (done, spaxels), _Rate(), what
        earlier = f", {done:,} done earlier" if done else ""
        whole = f"{count(spaxels, 'spaxel')}{earlier}"
        self.message(f"{name}: {whole if what == 'spaxels' else f'{done:,}/{spaxels:,} {what}'}")

    def advance(self, name: str, spaxels: int, fitted: int) -> None:
        """Print a line if the last one is old enough."""
        done, total = self.totals[name]
        self.totals[name] = (done + spaxels, total)
        rate = self.rates[name].add(fitted)
        if time.monotonic() - self.last < PLAIN_INTERVAL:
            return
        self.last = time.monotonic()
        done += spaxels
        left = self.rates[name].seconds_left(spaxels, total - done)
        self.message(
            f"{name}: {done:,}/{total:,} {self.what[name]} ({done / total:.0%}), {rate:,.0f} spectra/s, "
            f"{duration(left)} left for this galaxy"
        )

    def finish(self, name: str, outcome: str) -> None:
        """Print the outcome."""
        self.message(f"{name}: {outcome}")

    def message(self, text: str) -> None:
        """Print a line."""
        self.console.print(stamped(text), markup=False, highlight=False, soft_wrap=True)


class _Rate:
    """Fitted spectra per second since the galaxy began."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.fitted = 0
        self.spaxels = 0

    def add(self, fitted: int) -> float:
        self.fitted += fitted
        return self.fitted / max(time.monotonic() - self.began, 1e-3)

    def seconds_left(self, spaxels: int, remaining: int) -> float:
        self.spaxels += spaxels
        return (time.monotonic() - self.began) * remaining / max(self.spaxels, 1)


def duration(seconds: float | None) -> str:
    """A time for people."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def make_progress(console: Console, *, quiet: bool = False) -> LiveProgress | QuietProgress:
    """Bars in a terminal that can draw them, lines elsewhere; a forced colour makes no terminal of a file."""
    if quiet:
        return QuietProgress()
    live = console.is_terminal and console.file.isatty() and not console.is_dumb_terminal
    return LiveProgress(console) if live else PlainProgress(console)
