"""Stopping a run in good order: signals, and a disk that is full."""

import errno
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from galprote.model.errors import GalproteError

#: What asks a run to stop: Ctrl-C, `kill`, the end of the session, and what `sbatch --signal` may be told to send.
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class StoppedError(GalproteError):
    """A run that ended before everything was done, in good order: the same command goes on.

    Parameters
    ----------
    text : str
    results : sequence
        What became of every galaxy.
    """

    def __init__(self, text: str, results: Sequence[Any] = ()) -> None:
        super().__init__(text)
        self.results = list(results)


class StopRequest:
    """Whether a run should stop, and why."""

    def __init__(self) -> None:
        self.reason = ""
        self.at_once = False

    @property
    def requested(self) -> bool:
        """Whether nothing new should be begun."""
        return bool(self.reason)

    def ask(self, reason: str, *, at_once: bool = False) -> None:
        """Ask to stop: after what is under way, or at once."""
        self.reason = self.reason or reason
        self.at_once |= at_once


@contextmanager
def signals_stop(stop: StopRequest, say: Callable[[str], None]) -> Iterator[None]:
    """Turn signals into a request to stop: the first lets the chunks under way finish, the second does not.

    Parameters
    ----------
    stop : StopRequest
    say : callable
        Told what happens now.
    """

    def heard(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stop.at_once:
            raise KeyboardInterrupt  # out of whatever blocks
        if stop.requested:
            stop.ask(name, at_once=True)
            return
        stop.ask(name)
        # From a thread: the signal may come in the middle of another line.
        text = f"{name}: finishing the chunks under way (once more: stop at once)"
        threading.Thread(target=say, args=(text,), daemon=True).start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, heard) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an exception, or one behind it, says that a disk or a quota is full."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
