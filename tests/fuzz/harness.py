"""Commands with bad input, in this process: what they answered, how long they may take, and what is no answer."""

import contextlib
import io
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from galprote.workflows.cli import main

#: Seconds for one command; the slowest honest one (2 MiB of YAML on a busy core) takes a third.
LIMIT = 60.0
#: How `FITS file` and so on end: an error of ours begins with a path or a word, not with the name of a Python type.
_FOREIGN = re.compile(r"^(\w+: )?[A-Za-z_.]*(Error|Exception|Warning)\b")

#: User without rights, on every Linux.
NOBODY = 65534


class Hang(BaseException):
    """A case took too long. No Exception: nothing on the way may catch it."""


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer."""

    def stop(_: int, __: FrameType | None) -> None:
        raise Hang(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Answer:
    """Exit code and what was printed; the code of a hang is -1."""

    code: int
    output: str
    error: str


def ask(*words: object, seconds: float = LIMIT) -> Answer:
    """Run a command of `galprote-pipeline` in this process."""
    output, error = io.StringIO(), io.StringIO()
    code: object = None
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        try:
            with limit(seconds):
                main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code or 0
        except Hang:
            code = -1
    return Answer(code if isinstance(code, int) else 1, output.getvalue(), error.getvalue())


def fault(answer: Answer, named: str) -> str:
    """What is wrong with an answer to bad input; '' if it is a result, or a clear error that names the file."""
    if answer.code == -1:
        return "hangs"
    if answer.code not in (0, 2):
        return f"exit code {answer.code}: {answer.error[:300]}"
    if "Traceback" in answer.output + answer.error:
        return f"traceback: {answer.error[:300]}"
    if answer.code == 0:
        return "" if answer.output and not answer.error else f"exit code 0, and an error: {answer.error[:300]}"
    if not answer.error and "cannot run" in answer.output:  # a plan's, of which each galaxy's reason is a line
        told = [line.partition(": ")[2] for line in answer.output.splitlines() if line.startswith("cannot run ")]
        clear = bool(told) and not any(foreign(reason) for reason in told)
        return "" if clear else f"plan without its reason: {answer.output[:300]}"
    if not answer.error and "PROBLEM" in answer.output:  # an inspection's
        told = [line.partition("PROBLEM")[2].strip() for line in answer.output.splitlines() if "PROBLEM" in line]
        return "" if not any(foreign(reason) for reason in told) else f"a foreign problem: {told}"
    if not answer.error.startswith("error: ") or answer.error.count("error: ") > 1:
        return f"no clear error: {answer.error[:300]}"
    if named not in answer.error or foreign(answer.error.removeprefix("error: ")):
        return f"error without its place: {answer.error[:300]}"
    return f"{len(answer.error)} characters of error" if len(answer.error) > 20_000 else ""


def foreign(message: str) -> bool:
    """Whether a message is a Python exception's, and not written for a user."""
    return bool(_FOREIGN.match(message))


@dataclass
class Tally:
    """How many cases of which kind had which outcome, and which were wrong."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, kind: str, outcome: object, why: str, seed: object) -> None:
        """Count a case; `why` says what is wrong with it."""
        self.counts[kind, str(outcome)] += 1
        if why:
            self.faults.append(f"{kind}, seed {seed}: {why}")

    def table(self, title: str) -> str:
        """Kinds by outcomes, as text."""
        outcomes = sorted({outcome for _, outcome in self.counts})
        lines = [f"{title}: {sum(self.counts.values())} cases"]
        lines.append(f"  {'':24}" + "".join(f"{text:>15}" for text in outcomes))
        for kind in sorted({kind for kind, _ in self.counts}):
            lines.append(f"  {kind:24}" + "".join(f"{self.counts[kind, outcome]:>15}" for outcome in outcomes))
        totals = (sum(n for (_, what), n in self.counts.items() if what == outcome) for outcome in outcomes)
        return "\n".join([*lines, f"  {'all':24}" + "".join(f"{total:>15}" for total in totals)])


def places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """All (container, key) in nested mappings and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.append((value, key))
        places(item, found)
    return found


@contextlib.contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Be nobody for a while, if we are root, who may read everything; the folder is nobody's."""
    if os.geteuid() != 0:
        yield
        return
    for words in (("inspect", folder / "none.fits"), ("plan", folder / "none.yaml")):
        ask(*words)  # what is imported when it is first needed may lie where only root goes
    os.chown(folder, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
