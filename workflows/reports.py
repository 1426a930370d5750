"""Dask's performance report of each galaxy: what ran where, between the galaxy's beginning and its end."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed import performance_report


class Reports:
    """Reports under way.

    Parameters
    ----------
    output : Path
        The survey's output folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.open: dict[str, performance_report] = {}

    def begin(self, name: str) -> None:
        """Begin a galaxy's report."""
        self.open[name] = performance_report(filename=str(self.output / f"{name}_dask.html.partial"))
        self.open[name].__enter__()

    def end(self, name: str) -> None:
        """Write a galaxy's report, if one was begun; a report that cannot be written is no reason to stop."""
        report = self.open.pop(name, None)
        if report is None:
            return
        made = self.output / f"{name}_dask.html.partial"
        try:
            report.__exit__(None, None, None)
            made.replace(self.output / f"{name}_dask.html")
        except OSError:
            with suppress(OSError):
                made.unlink(missing_ok=True)


@contextmanager
def performance_reports(output: Path) -> Iterator[Reports]:
    """Reports that end, at the latest, when the run does."""
    reports = Reports(output)
    try:
        yield reports
    finally:
        for name in list(reports.open):
            reports.end(name)
