"""When a run writes its report: a galaxy's page when its products have their names, the survey's page at the end.

Nothing of it delays or fails the run: pages are tasks of their own on the workers, of which one that fails, or takes
its worker with it, costs the page and a line in words.
"""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from distributed import Client, Future, wait

from galprote.pipeline.config import SurveyConfig
from galprote.workflows.failures import describe
from galprote.workflows.report.page_task import write_galaxy_page
from galprote.workflows.stop import StopRequest

#: Seconds at the end of a run in which one more page must come, or the rest is given up.
PATIENCE: Final = 600.0


class SurveyReport:
    """Writes a run's report, if the survey wants one.

    Parameters
    ----------
    survey : SurveyConfig
    say : callable

    Attributes
    ----------
    written : Path or None
        The survey's page, once this run has written it.
    """

    def __init__(self, survey: SurveyConfig, say: Callable[[str], None]) -> None:
        self.wanted, self.output, self.checkpoint = survey.report, survey.output, survey.model.checkpoint
        self.say = say
        self.client: Client | None = None
        self.under_way: dict[str, Future[Any]] = {}
        self.tried: set[str] = set()
        self.written: Path | None = None

    def published(self, name: str, cube: str | None) -> None:
        """A galaxy's products have their names: have its page made."""
        if not self.wanted or self.client is None:
            return
        self.tried.add(name)
        key = f"report-{name}-{uuid4().hex[:8]}"
        try:
            self.under_way[name] = self.client.submit(
                write_galaxy_page, self.output, name, Path(cube) if cube else None, self.checkpoint, key=key, pure=False
            )
        except Exception as error:
            self._failed(name, error)

    def wait(self, stop: StopRequest) -> None:
        """Wait for the pages under way; not if the run is to stop: the next one makes what is missing."""
        since = time.monotonic()
        while self.under_way:
            if stop.requested or time.monotonic() - since > PATIENCE or not self._connected():
                self._give_up(stop)
                return
            try:
                wait(list(self.under_way.values()), timeout=0.5, return_when="FIRST_COMPLETED")
            except TimeoutError:
                continue
            for name, future in list(self.under_way.items()):
                if future.done():
                    since = time.monotonic()
                    del self.under_way[name]
                    self._take(name, future)

    def finish(self, stop: StopRequest) -> Path | None:
        """Make the pages that earlier runs did not, link them, and write the survey's page.

        A request to stop ends it after the page that is being made, a second one at once.

        Returns
        -------
        Path or None
            The survey's page; None if it was not written.

        Raises
        ------
        KeyboardInterrupt
            If it was asked for the second time to stop.
        """
        if not self.wanted:
            return None
        try:
            from galprote.workflows.report.finishing import finish_report
            from galprote.workflows.report.records import read_records

            missing = [galaxy for galaxy in read_records(self.output).galaxies if galaxy.needs_page]
            missing = [galaxy for galaxy in missing if galaxy.name not in self.tried]
            for done, galaxy in enumerate(missing):
                if stop.requested:
                    left = len(missing) - done
                    self.say(f"report: {left} page{' is' if left == 1 else 's are'} missing: {self._command()}")
                    break
                self.say(f"report: making the page of {galaxy.name} ({done + 1} of {len(missing)})")
                with _interruptible(stop, f"the page of {galaxy.name}"):
                    self._make_here(galaxy.name, galaxy.cube)
            self.written = finish_report(self.output)
        except Exception as error:
            self.say(f"report: not written: {describe(error)}")
        return self.written

    def _make_here(self, name: str, cube: Path | None) -> None:
        """Make a page in this process: no worker is there any more."""
        try:
            write_galaxy_page(self.output, name, cube, self.checkpoint)
        except Exception as error:
            self._failed(name, error)

    def _take(self, name: str, future: Future[Any]) -> None:
        error = None if future.status == "finished" else future.exception() if future.status == "error" else None
        if future.status != "finished":
            self._failed(name, error or LookupError("its worker was lost"))

    def _connected(self) -> bool:
        return self.client is not None and self.client.status == "running"

    def _give_up(self, stop: StopRequest) -> None:
        names = ", ".join(self.under_way)
        if self._connected():
            for future in self.under_way.values():
                future.cancel()
        self.under_way.clear()
        if not stop.requested:
            self.say(f"report: gave up waiting for the pages of {names}: {self._command()}")

    def _command(self) -> str:
        """What makes missing pages."""
        return shlex.join(["galprote-pipeline", "report", "--missing", str(self.output)])

    def _failed(self, name: str, error: BaseException) -> None:
        self.say(f"{name}: its page in the report could not be made ({describe(error)}); its products are not affected")


@contextmanager
def _interruptible(stop: StopRequest, what: str) -> Iterator[None]:
    """Let the first signal wait for what is done here, in the main thread; the second interrupts it."""
    before = stop.patient, stop.what, stop.woken

    def heard() -> None:
        stop.patient = False

    stop.raised, stop.patient, stop.what, stop.woken = None, True, what, heard
    try:
        yield
    finally:
        stop.patient, stop.what, stop.woken = before
