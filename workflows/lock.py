"""One run at a time in an output folder: a lock that says who holds it, and that does not outlive its holder.

The system's own lock (flock) ends with the process, and is sure where both runs are on one machine. Between the nodes
of a cluster not every file system carries it. So the holder also touches the lock file every few seconds, and a run
that finds another machine's name in it watches for a while whether that goes on.
"""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from galprote.model.errors import ConfigError

#: Seconds between two signs of life, and without any after which a run on another machine counts as dead.
HEARTBEAT: Final = 5.0
SILENCE: Final = 30.0


@dataclass(frozen=True)
class Holder:
    """Who works, or worked, in an output folder.

    Attributes
    ----------
    host : str
    pid : int
    since : str
        Local time with its offset, ISO 8601.
    """

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def sole_run(output: Path, say: Callable[[str], None] = lambda _: None, *, silence: float = SILENCE) -> Iterator[None]:
    """Make the output folder and keep other runs out of it.

    Parameters
    ----------
    output : Path
    say : callable
        Told of a dead run's lock, and of waiting.
    silence : float
        Seconds to watch for another machine's signs of life.

    Raises
    ------
    ConfigError
        If another run is working there, or the folder cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"output = {output}: cannot be made: {error.strerror}") from error
    with lock:
        for _ in range(5):  # somebody may only be looking
            held = _flock(lock)
            if held is not False:
                break
            time.sleep(0.1)
        before = read_holder(output)
        if before is not None:
            _require_dead(output, before, held, say, silence)
        elif held is False:
            raise ConfigError(f"output = {output}: another run is working there")
        holder = Holder(socket.gethostname(), os.getpid(), datetime.now().astimezone().isoformat(timespec="seconds"))
        lock.truncate(0)
        lock.write(json.dumps(asdict(holder)))
        lock.flush()
        try:
            with _heartbeat(output / ".lock"):
                yield
        finally:  # after an error, too: only who dies leaves a name behind
            lock.truncate(0)


def read_holder(output: Path) -> Holder | None:
    """Who holds, or held when it died, the lock of an output folder."""
    try:
        found = json.loads((output / ".lock").read_text(encoding="utf-8"))
        return Holder(str(found["host"]), int(found["pid"]), str(found["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_alive(output: Path, holder: Holder, *, silence: float = SILENCE) -> bool:
    """Whether the holder still works, as far as can be told without waiting long.

    Parameters
    ----------
    output : Path
    holder : Holder
    silence : float
        Seconds since the last sign of life, of a holder on another machine.
    """
    if holder.host == socket.gethostname():
        with suppress(OSError), (output / ".lock").open(encoding="utf-8") as lock:  # it may be somebody else's
            held = _flock(lock, fcntl.LOCK_SH)
            return _pid_exists(holder.pid) if held is None else not held
        return False
    with suppress(OSError):
        return time.time() - (output / ".lock").stat().st_mtime < silence
    return False


def _flock(lock: IO[str], kind: int = fcntl.LOCK_EX) -> bool | None:
    """Whether the lock was got; None where the file system has no locks."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        return None
    return True


def _require_dead(output: Path, holder: Holder, held: bool | None, say: Callable[[str], None], silence: float) -> None:
    """Raise ConfigError unless the run that left its name in the lock is gone."""
    busy = ConfigError(f"output = {output}: another run is working there ({holder}); wait for it, or stop it")
    if held is False:
        raise busy
    if holder.host == socket.gethostname():
        if held is None and _pid_exists(holder.pid):
            raise busy
    else:
        say(f"{output} was in use by {holder}; watching for {silence:.0f} s whether it still is")
        last = _beat(output)
        end = time.monotonic() + silence
        while time.monotonic() < end:
            time.sleep(min(1.0, silence / 10))
            if _beat(output) != last:
                raise busy
    say(f"{output}: an earlier run ({holder}) ended without saying so; going on from what it finished")


def _beat(output: Path) -> int:
    with (output / ".lock").open("rb") as file:  # opened: a network file system asks the server then
        return os.fstat(file.fileno()).st_mtime_ns


def _pid_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's
    return True


@contextmanager
def _heartbeat(path: Path) -> Iterator[None]:
    """Touch a file every few seconds."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            with suppress(OSError):  # the disk may be full
                os.utime(path)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
