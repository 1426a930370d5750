"""Stopping in good order: signals that are answered at once, and a disk that is full.

A signal is answered by a thread of its own, whatever the main thread is at. What the main thread does about it depends
on whether something is under way that is worth finishing (`StopRequest.patient`):

    nothing is     the first signal is a KeyboardInterrupt, and so is the second
    chunks are     the first lets them finish, the second gives them up

The third ends the process. A signal that was ignored when the command began stays ignored: `nohup`, `trap ''` and a
script's `&` mean it.

A `KeyboardInterrupt` that somebody caught and dropped is raised again, as long as the request is not `patient`: what a
library does to it by accident looks the same as what a command does on purpose. So a command that keeps partial
results must either let it pass, and keep them in a `finally`; or set `patient` before that work begins, look at
`requested` between two pieces, and write what it has. `keeps` of `conduct` says what is kept in the first case.
"""

import errno
import os
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

from galprote.model.errors import GalproteError

#: What asks a run to stop: Ctrl-C, `kill`, the end of the session, and what `sbatch --signal` may be told to send.
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

#: Exit code of a command that was stopped: the same command goes on, or begins again.
STOPPED: Final = 3

#: Seconds in which two signals are one: a terminal's and the one that a parent (make, srun) passes on.
SAME_PRESS: Final = 0.1


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


class Interrupted(KeyboardInterrupt):
    """What a signal is to a command that cannot look at its request by itself."""


class StopRequest:
    """Whether a command should stop, and why.

    Parameters
    ----------
    command : str
        What goes on with it; '' if it would begin again.

    Attributes
    ----------
    reason : str
    at_once : bool
        What is under way is not waited for.
    kept : str
        What an interruption leaves, in words.
    patient : bool
        Whether the one who works looks at the request by itself; if not, a signal interrupts it, again and again until
        it gets through.
    ends : str
        What a signal does, in words, where it is the usual way to end a command and no interruption; '' elsewhere.
    under_way : int
        Chunks that the workers have.
    what : str
        What else is under way, in words; '' for the chunks.
    woken : callable
        Called when a signal was heard: who waits may look.
    listen_again : callable
        Takes the signals again, where a library has taken them for itself; ignores again those that were ignored.
    raised : weakref.ref or None
        The exception that the last signal was, as long as somebody has it.
    end : callable
        Ends the process, with a last line.
    """

    def __init__(self, command: str = "") -> None:
        self.reason = ""
        self.at_once = False
        self.command = command
        self.kept = "nothing was under way"
        self.patient = False
        self.ends = ""
        self.under_way = 0
        self.what = ""
        self.woken: Callable[[], None] = lambda: None
        self.listen_again: Callable[[], None] = lambda: None
        self.end: Callable[[str], None] = end_now
        self.raised: weakref.ref[Interrupted] | None = None
        self._heard = 0
        self._last = 0.0

    @property
    def requested(self) -> bool:
        """Whether nothing new should be begun."""
        return bool(self.reason)

    def ask(self, reason: str, *, at_once: bool = False) -> None:
        """Ask to stop: after what is under way, or at once."""
        self.reason = self.reason or reason
        self.at_once |= at_once

    def resume_words(self) -> str:
        """How to go on, as the end of a message; '' if there is nothing to go on with."""
        return f". To go on:\n  {self.command}" if self.command else ""

    def hear(self, name: str, say: Callable[[str], None]) -> None:
        """Answer a signal."""
        now = time.monotonic()
        if self._heard and now - self._last < SAME_PRESS:
            return
        self._heard, self._last = self._heard + 1, now
        if self._heard == 1:
            self.ask(name)
            say(self._answer(name))
        elif self._heard == 2:
            self.ask(name, at_once=True)
            say(f"{name}: stopping at once (once more: end the process)")
        else:
            self.end(f"{name}: ended; what was finished is kept{self.resume_words()}")
        self.woken()

    def _answer(self, name: str) -> str:
        if self.ends:
            return f"{name}: {self.ends}"
        if not self.patient:
            return f"{name}: stopped; {self.kept}{self.resume_words()}"
        if self.what:
            return f"{name}: finishing {self.what} (once more: stop at once){self.resume_words()}"
        if not self.under_way:
            return f"{name}: stopping; nothing is under way (once more: stop at once){self.resume_words()}"
        return f"{name}: finishing the chunks under way (once more: stop at once){self.resume_words()}"


def end_now(text: str) -> None:
    """End the process, whatever it is at; workers on this machine end with it."""
    shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # bars hide the cursor
    with suppress(OSError):
        os.write(2, f"{shown}\n{text}\n".encode(errors="replace"))
    os._exit(STOPPED)


@contextmanager
def signals_stop(stop: StopRequest, say: Callable[[str], None]) -> Iterator[None]:
    """Turn signals into a request to stop, but those that are ignored.

    Parameters
    ----------
    stop : StopRequest
    say : callable
        Told at once what happens now; in a thread of its own.
    """

    def heard(number: int, _: FrameType | None) -> None:
        stop.ask(signal.Signals(number).name)
        if not stop.patient:
            error = Interrupted()
            stop.raised = weakref.ref(error)
            try:
                raise error
            finally:
                del error  # or its traceback would keep it

    def take() -> None:
        for number, handler in handlers.items():
            signal.signal(number, heard if number in taken else handler)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number, handler in handlers.items() if handler is not signal.SIG_IGN]
    with _answering(stop, say, taken), _unraisable():
        take()
        stop.listen_again = take
        try:
            yield
        finally:
            stop.listen_again = lambda: None
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def _answering(stop: StopRequest, say: Callable[[str], None], taken: Sequence[signal.Signals]) -> Iterator[None]:
    """Answer each signal, in a thread: the main one may be busy in a library for long.

    A library may also drop the exception that the signal is (in an object's end, for example): it is raised again,
    by a signal that is not ignored.
    """
    main = threading.get_ident()
    heard, told = os.pipe()
    os.set_blocking(told, False)

    def listen() -> None:
        again = 0
        while True:
            if not select.select([heard], [], [], 0.2 if stop.requested else None)[0]:
                if not stop.patient and stop.raised is not None and stop.raised() is None:
                    again += 1
                    signal.pthread_kill(main, taken[0])
                continue
            number = os.read(heard, 1)[0]
            if number == 0:
                return
            if again and number == taken[0]:
                again -= 1
            elif number in taken:
                stop.hear(signal.Signals(number).name, say)

    thread = threading.Thread(target=listen, name="signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(told, b"\0")
        thread.join(1.0)  # an interrupted import may hold what an answer needs: then it stays behind
        if not thread.is_alive():
            os.close(told)
            os.close(heard)


@contextmanager
def _unraisable() -> Iterator[None]:
    """Print no traceback of an interruption that a library dropped."""
    before = sys.unraisablehook

    def hook(about: "sys.UnraisableHookArgs") -> None:
        if not isinstance(about.exc_value, Interrupted):
            before(about)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an exception, or one behind it, says that a disk or a quota is full."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
