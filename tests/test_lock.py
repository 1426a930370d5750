"""One run at a time in an output folder: whoever lives is left alone, whoever died is not in the way."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from galprote.model.errors import ConfigError
from galprote.workflows.lock import Holder, is_alive, read_holder, sole_run

SINCE = "2026-01-01T12:00:00+00:00"
HERE = socket.gethostname()


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(output: Path, host: str, pid: int) -> Holder:
    """A lock file as a run would leave it that was killed."""
    output.mkdir(exist_ok=True)
    (output / ".lock").write_text(json.dumps({"host": host, "pid": pid, "since": SINCE}))
    return Holder(host, pid, SINCE)


def refused(output: Path, said: Callable[[str], None] = lambda _: None) -> str:
    before = (output / ".lock").read_text()
    with pytest.raises(ConfigError) as error, sole_run(output, said, silence=0.5):
        raise AssertionError("two runs at once")
    assert (output / ".lock").read_text() == before, "the name of whoever works there is gone"
    return str(error.value)


@contextmanager
def locks(there: bool) -> Iterator[None]:
    """A file system that knows locks, or does not."""
    if there:
        yield
        return
    with mock.patch.object(fcntl, "flock", side_effect=OSError(errno.ENOLCK, "no locks available")):
        yield


@pytest.mark.parametrize("flock", [True, False])
def test_a_second_run_is_told_who_works_there(tmp_path: Path, flock: bool) -> None:
    with locks(flock), sole_run(tmp_path):
        holder = read_holder(tmp_path)
        assert holder is not None
        assert (holder.host, holder.pid) == (HERE, os.getpid())
        text = refused(tmp_path)
        assert text == (
            f"output = {tmp_path}: another run is working there (process {os.getpid()} on {HERE}, "
            f"since {holder.since}); wait for it, or stop it"
        )
        assert is_alive(tmp_path, holder)
        refused(tmp_path)  # whoever asked has not taken the lock away
    assert not is_alive(tmp_path, holder)
    assert read_holder(tmp_path) is None


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    """Killed by SIGKILL: the next run says so, and begins at once."""
    code = (
        "import sys, time; from pathlib import Path; from galprote.workflows.lock import sole_run\n"
        f"with sole_run(Path({str(tmp_path)!r})): print(1, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        holder = read_holder(tmp_path)
        assert holder is not None
        assert holder.pid == process.pid
        assert f"process {process.pid} on {HERE}" in refused(tmp_path)
        process.kill()
        process.wait()
    assert not is_alive(tmp_path, holder)
    said: list[str] = []
    with sole_run(tmp_path, said.append):
        pass
    assert said == [f"{tmp_path}: an earlier run ({holder}) ended without saying so; going on from what it finished"]


@pytest.mark.parametrize("flock", [True, False])
def test_the_lock_of_a_dead_process_is_known(tmp_path: Path, dead: int, flock: bool) -> None:
    holder, said = leave(tmp_path, HERE, dead), list[str]()
    with locks(flock):
        assert not is_alive(tmp_path, holder)
        began = time.monotonic()
        with sole_run(tmp_path, said.append):
            now = read_holder(tmp_path)
            assert now is not None
            assert now.pid == os.getpid()
    assert time.monotonic() - began < 5, "nothing to wait for"
    assert len(said) == 1
    assert f"process {dead} on {HERE}, since {SINCE}" in said[0]


@pytest.mark.parametrize("flock", [True, False])
def test_another_machines_run_that_lives_is_left_alone(tmp_path: Path, flock: bool) -> None:
    """The file system does not tell of its lock; its signs of life do."""
    holder, over, said = leave(tmp_path, "node17", 4711), threading.Event(), list[str]()

    def live() -> None:
        while not over.wait(0.1):
            os.utime(tmp_path / ".lock")

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with locks(flock):
            assert is_alive(tmp_path, holder, silence=5)
            assert f"another run is working there (process 4711 on node17, since {SINCE})" in refused(
                tmp_path, said.append
            )
    finally:
        over.set()
        thread.join()
    assert said == [f"{tmp_path} was in use by {holder}; watching for 0 s whether it still is"]


@pytest.mark.parametrize("flock", [True, False])
def test_another_machines_run_that_is_silent_is_dead(tmp_path: Path, flock: bool) -> None:
    holder, said = leave(tmp_path, "node17", 4711), list[str]()
    os.utime(tmp_path / ".lock", (1e9, 1e9))
    assert not is_alive(tmp_path, holder)
    began = time.monotonic()
    with locks(flock), sole_run(tmp_path, said.append, silence=0.5):
        assert time.monotonic() - began >= 0.5, "not even looked"
        now = read_holder(tmp_path)
    assert now is not None
    assert now.host == HERE
    assert "ended without saying so" in said[-1]


def test_another_machines_lock_that_the_file_system_knows_of_is_enough(tmp_path: Path) -> None:
    """No watching where flock itself says that it is held."""
    leave(tmp_path, "node17", 4711)
    with (tmp_path / ".lock").open("a+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        began = time.monotonic()
        assert "process 4711 on node17" in refused(tmp_path)
        assert time.monotonic() - began < 2.0


def test_a_run_gives_signs_of_life_until_it_ends(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with mock.patch("galprote.workflows.lock.HEARTBEAT", 0.05), sole_run(tmp_path):
        for _ in range(2):
            os.utime(lock, (1e9, 1e9))
            end = time.monotonic() + 10
            while lock.stat().st_mtime < 1e9 + 1:
                assert time.monotonic() < end, "no sign of life"
                time.sleep(0.01)
    os.utime(lock, (1e9, 1e9))
    time.sleep(0.2)
    assert lock.stat().st_mtime == 1e9, "it lives on"


def test_an_error_is_no_death(tmp_path: Path) -> None:
    """A run that ends with an error gives the folder back; the next one has nothing to wait for or to say."""
    with pytest.raises(ConfigError, match="wrong"), sole_run(tmp_path):
        raise ConfigError("wrong")
    assert read_holder(tmp_path) is None
    said: list[str] = []
    with sole_run(tmp_path, said.append):
        pass
    assert said == []


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"host": "a"}', '{"host": "a", "pid": "x", "since": ""}'])
def test_a_damaged_lock_is_nobodys(tmp_path: Path, content: str) -> None:
    (tmp_path / ".lock").write_text(content)
    assert read_holder(tmp_path) is None
    with sole_run(tmp_path):
        assert read_holder(tmp_path) is not None


def test_to_look_takes_no_rights_to_write(tmp_path: Path) -> None:
    """Colleagues may see how far a run is."""
    original = Path.open

    def read_only(path: Path, mode: str = "r", *args: object, **more: object) -> object:
        if path.name == ".lock" and mode != "r":
            raise PermissionError(errno.EACCES, "no", str(path))
        return original(path, mode, *args, **more)  # type: ignore[call-overload]

    with sole_run(tmp_path):
        holder = read_holder(tmp_path)
        assert holder is not None
        with mock.patch.object(Path, "open", read_only):
            assert is_alive(tmp_path, holder)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"), sole_run(tmp_path / "file" / "out"):
        pass
