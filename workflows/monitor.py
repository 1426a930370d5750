"""The numbers of a survey run, while it runs: collected by the process that drives it, read by its dashboard."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import NamedTuple

from galprote.workflows.words import GALAXY_STATES, GalaxyState

#: Seconds that rates are taken over.
RECENT_SECONDS = 30.0


@dataclass(frozen=True)
class GalaxyCounts:
    """How far a galaxy is.

    Attributes
    ----------
    name : str
    state : GalaxyState
    spaxels, chunks : int
        All of them; 0 until it begins.
    spaxels_done, chunks_done : int
        Finished, by this run or an earlier one.
    chunks_failed : int
    fitted : int
        Spectra that this run fitted.
    """

    name: str
    state: GalaxyState = "waiting"
    spaxels: int = 0
    spaxels_done: int = 0
    chunks: int = 0
    chunks_done: int = 0
    chunks_failed: int = 0
    fitted: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes
    ----------
    galaxies : tuple of GalaxyCounts
        In the survey's order.
    seconds : float
        Since the monitor was made.
    fitted, bytes_read : int
        By this run.
    spectra_per_second, bytes_per_second : float
        Over the last half a minute; longer where fewer chunks than workers ended in it. 0 until the first chunk ends.
    gpu_use : float or None
        Share of the same time in which the workers with a GPU were predicting; None without such workers.
    workers, gpu_workers : int
        All of them, and those with a GPU.
    seconds_left : float or None
        For the chunks of the galaxies that are running; None until this run has finished a chunk.
    """

    galaxies: tuple[GalaxyCounts, ...]
    seconds: float
    fitted: int
    bytes_read: int
    spectra_per_second: float
    bytes_per_second: float
    gpu_use: float | None
    workers: int
    gpu_workers: int
    seconds_left: float | None


class _Event(NamedTuple):
    """A chunk that ended."""

    when: float
    fitted: int = 0
    bytes_read: int = 0
    predict_seconds: float = 0.0


class SurveyMonitor:
    """Numbers of a survey run; any thread may tell and ask.

    Methods raise KeyError for a galaxy that is not one of `names`.

    Parameters
    ----------
    names : sequence of str
        The survey's galaxies, which are waiting at first.
    clock : callable
        Gives seconds.
    """

    def __init__(self, names: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._galaxies = {name: GalaxyCounts(name) for name in names}
        self._began = clock()
        self._fitted = self._bytes_read = self._spaxels = 0
        self._workers = self._gpu_workers = 0
        self._busy = 0.0  # seconds in which galaxies were running, up to the last change of a state
        self._changed = self._began
        self._recent: deque[_Event] = deque(
            [_Event(self._began)]
        )  # the first one only says when the others' time began

    def begin(self, name: str, *, spaxels: int, chunks: int, spaxels_done: int = 0, chunks_done: int = 0) -> None:
        """Say that a galaxy is running.

        Parameters
        ----------
        name : str
        spaxels, chunks : int
            All of them.
        spaxels_done, chunks_done : int
            Finished by an earlier run.
        """
        with self._lock:
            if not self._is_busy():  # a pause before it would count as slowness
                self._recent = deque([_Event(self._clock())])
            self._enter(name, "running")
            self._galaxies[name] = GalaxyCounts(name, "running", spaxels, spaxels_done, chunks, chunks_done)

    def chunk(self, name: str, *, spaxels: int, fitted: int, bytes_read: int, predict_seconds: float) -> None:
        """Say that a chunk is done.

        Parameters
        ----------
        name : str
        spaxels, fitted : int
            Its spaxels, and how many of them were fitted.
        bytes_read : int
        predict_seconds : float
            That the model took.
        """
        with self._lock:
            now, old = self._clock(), self._galaxies[name]
            self._galaxies[name] = replace(
                old,
                spaxels_done=old.spaxels_done + spaxels,
                chunks_done=old.chunks_done + 1,
                fitted=old.fitted + fitted,
            )
            self._spaxels += spaxels
            self._fitted += fitted
            self._bytes_read += bytes_read
            self._recent.append(_Event(now, fitted, bytes_read, predict_seconds))
            self._forget(now)

    def chunk_failed(self, name: str) -> None:
        """Say that a chunk failed, and will not be tried again."""
        with self._lock:
            old = self._galaxies[name]
            self._galaxies[name] = replace(old, chunks_failed=old.chunks_failed + 1)

    def set_state(self, name: str, state: GalaxyState) -> None:
        """Say what a galaxy is at; its numbers stay."""
        with self._lock:
            self._enter(name, state)

    def finish(self, name: str, state: GalaxyState) -> None:
        """Say what became of a galaxy; its numbers stay."""
        self.set_state(name, state)

    def workers(self, total: int, gpu: int) -> None:
        """Say how many workers there are, and how many of them have a GPU."""
        with self._lock:
            self._workers, self._gpu_workers = total, gpu

    def snapshot(self) -> Snapshot:
        """All numbers at this moment."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            window = now - self._recent[0].when
            per_second = 1 / window if window > 0 else 0.0
            predicting = sum(event.predict_seconds for event in self._recent) * per_second
            return Snapshot(
                galaxies=tuple(self._galaxies.values()),
                seconds=now - self._began,
                fitted=self._fitted,
                bytes_read=self._bytes_read,
                spectra_per_second=sum(event.fitted for event in self._recent) * per_second,
                bytes_per_second=sum(event.bytes_read for event in self._recent) * per_second,
                gpu_use=min(predicting / self._gpu_workers, 1.0) if self._gpu_workers else None,
                workers=self._workers,
                gpu_workers=self._gpu_workers,
                seconds_left=self._seconds_left(now),
            )

    def _enter(self, name: str, state: GalaxyState) -> None:
        """Change a galaxy's state, and keep the time in which any was running."""
        if state not in GALAXY_STATES:
            raise ValueError(f"{name}: {state!r} is no state of a galaxy; they are {', '.join(GALAXY_STATES)}")
        old, now = self._galaxies[name], self._clock()
        if self._is_busy():
            self._busy += now - self._changed
        self._changed = now
        self._galaxies[name] = replace(old, state=state)

    def _is_busy(self) -> bool:
        return any(galaxy.state == "running" for galaxy in self._galaxies.values())

    def _forget(self, now: float) -> None:
        """Drop what is too old to count, but let as many chunks as there are workers, which often end together, count.

        The newest event that is dropped stays, with its time alone: the others' time began when it ended.
        """
        fewest = max(self._workers, 1)
        while len(self._recent) > fewest + 1 and self._recent[1].when <= now - RECENT_SECONDS:
            self._recent.popleft()
        self._recent[0] = _Event(self._recent[0].when)

    def _seconds_left(self, now: float) -> float | None:
        """At the pace of the time in which galaxies were running; nothing is expected of failed chunks."""
        running = [galaxy for galaxy in self._galaxies.values() if galaxy.state == "running"]
        if not running or not self._spaxels:
            return None
        left = 0.0
        for galaxy in running:
            missing = galaxy.chunks - galaxy.chunks_done
            hopeful = max(missing - galaxy.chunks_failed, 0) / max(missing, 1)
            left += max(galaxy.spaxels - galaxy.spaxels_done, 0) * hopeful
        return left * (self._busy + now - self._changed) / self._spaxels
