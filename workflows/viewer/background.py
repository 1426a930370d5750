"""Work that takes long, in a thread of its own: the page stays alive, and the newest wish counts."""

from collections.abc import Callable
from functools import partial
from threading import Condition, Thread
from typing import Any

Job = Callable[[Callable[[], bool]], Any]


class Background:
    """One thread that does one job at a time; a job that a newer one of the same name replaces is not answered.

    Parameters
    ----------
    answer : callable
        Takes a function without arguments, and calls it where the page may be changed.
    """

    def __init__(self, answer: Callable[[Callable[[], None]], None]) -> None:
        self._answer = answer
        self._jobs: dict[str, tuple[int, Job, Callable[[Any], None]]] = {}
        self._newest: dict[str, int] = {}
        self._count = 0
        self._closed = False
        self._wake = Condition()
        Thread(target=self._work, name="viewer", daemon=True).start()  # nobody waits for it at the end

    def ask(self, name: str, job: Job, done: Callable[[Any], None]) -> None:
        """Do `job` after those of other names; then call `done` with what it returned, or with its exception.

        The job is given a function that says whether it is still wanted.
        """
        with self._wake:
            self._count += 1
            self._newest[name] = self._count
            self._jobs.pop(name, None)
            self._jobs[name] = (self._count, job, done)
            self._wake.notify()

    def forget(self, name: str) -> None:
        """Want no answer to a job."""
        with self._wake:
            self._jobs.pop(name, None)
            self._newest[name] = -1

    def close(self) -> None:
        """Take no more jobs, and give no more answers."""
        with self._wake:
            self._closed = True
            self._newest.clear()
            self._jobs.clear()
            self._wake.notify()

    def _unwanted(self, name: str, number: int) -> bool:
        return self._newest.get(name) != number

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._jobs and not self._closed:
                    self._wake.wait()
                if self._closed:
                    return
                name = next(iter(self._jobs))
                number, job, done = self._jobs.pop(name)
            unwanted = partial(self._unwanted, name, number)
            try:
                result = job(unwanted)
            except Exception as error:  # it is shown on the page
                result = error
            if not unwanted():
                self._answer(partial(self._tell, unwanted, done, result))

    @staticmethod
    def _tell(unwanted: Callable[[], bool], done: Callable[[Any], None], result: Any) -> None:
        """Give an answer, unless something newer was asked for meanwhile."""
        if not unwanted():
            done(result)
