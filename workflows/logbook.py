"""Everything a survey tells while it runs: to the terminal, to the dashboard, and to files that outlive the process.

run.json        who runs it, since when, how far every galaxy is; rewritten every few seconds
summary.json    what became of every galaxy
failures.csv    what could not be computed
"""

import getpass
import json
import os
import socket
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distributed import Client

from galprote.model.predictor import CPU_BATCH, GPU_BATCH
from galprote.model.wording import count
from galprote.pipeline.cluster_config import AnyCluster, ExistingCluster
from galprote.pipeline.config import SurveyConfig
from galprote.pipeline.graph import ChunkSummary
from galprote.pipeline.store import GalaxyStore
from galprote.pipeline.whole_files import write_text
from galprote.workflows.failures import ChunkFailure, describe, whole_galaxy, write_failures
from galprote.workflows.galaxy import GalaxyJob, assumptions
from galprote.workflows.monitor import SurveyMonitor
from galprote.workflows.progress import RunProgress
from galprote.workflows.remaining import FIT, MEASURE, Remaining
from galprote.workflows.report.records import seconds_taken
from galprote.workflows.report.writing import SurveyReport
from galprote.workflows.reports import Reports
from galprote.workflows.stop import StopRequest
from galprote.workflows.terminal import voice
from galprote.workflows.words import STARTING, Outcome
from galprote.workflows.work import GalaxyWork

#: What a dashboard listens to that everybody can reach.
ANYWHERE = ("0.0.0.0", "[::]", "")  # noqa: S104 - only compared with


@dataclass(frozen=True)
class GalaxyResult:
    """What became of a galaxy.

    Attributes
    ----------
    name : str
    outcome : {"done", "skipped", "incomplete", "failed", "stopped"}
        `incomplete`: published without the chunks that failed. `stopped`: to be gone on with.
    spaxels, fitted : int or None
    seconds : float or None
        None where nothing was computed in this run.
    error : str
        Why it failed.
    failures : tuple of ChunkFailure
    details : str
        The traceback, for `--debug`.
    """

    name: str
    outcome: Outcome
    spaxels: int | None = None
    fitted: int | None = None
    seconds: float | None = None
    error: str = ""
    failures: tuple[ChunkFailure, ...] = ()
    details: str = field(default="", repr=False)


class Logbook:
    """Listens to a run.

    Parameters
    ----------
    survey : SurveyConfig
    progress : RunProgress
    stop : StopRequest
    command : str
        What goes on with the survey after an interruption.
    """

    def __init__(self, survey: SurveyConfig, progress: RunProgress, stop: StopRequest, command: str = "") -> None:
        self.survey, self.progress, self.stop, self.command = survey, progress, stop, command
        self.reports: Reports | None = None
        self.names = [galaxy.name for galaxy in survey.galaxies]
        self.monitor = SurveyMonitor(self.names)
        self.results: dict[str, GalaxyResult] = {}
        self.began_at: dict[str, float] = {}
        self.seconds = seconds_taken(survey.output)  # of galaxies that are finished, in whichever run
        self.spaxels: dict[str, int] = {}
        self.bins: dict[str, int] = {}
        self.earlier: dict[str, str] = {}  # what an earlier run had done of a galaxy's fit, in words
        self.cubes: dict[str, str] = {}  # where they were found
        self.batches: dict[str, int] = {}
        self.fresh = 0  # spaxels that this run finished
        self.steps: dict[str, str] = {}
        self.remaining = Remaining()
        self.started = datetime.now().astimezone().isoformat(timespec="seconds")
        self.planned, self.closed, self.reason = False, False, ""
        self.report = SurveyReport(survey, self.say)

    def say(self, text: str) -> None:
        """Tell the terminal."""
        self.progress.message(text)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Say in run.json that the run starts; if it is refused meanwhile, what an earlier run said comes back."""
        record = self.survey.output / "run.json"
        before = record.read_bytes() if record.is_file() else None
        self.write()
        try:
            yield
        except Exception:
            with suppress(OSError):
                record.unlink(missing_ok=True)
                if before is not None:
                    write_text(record, before.decode(errors="replace"))
            raise

    def plan(self, jobs: Iterable[GalaxyJob]) -> None:
        """What is to be computed."""
        self.planned = True
        for job in jobs:
            name, binning = job.galaxy.name, job.galaxy.binning
            self.spaxels[name] = job.plan.ny * job.plan.nx
            steps = FIT if not binning.on else MEASURE
            self.remaining.expect(name, self.spaxels[name], steps)
        self.write()

    def dashboard(self, client: Client, cluster: AnyCluster) -> None:
        """Print where to look, and how to look from elsewhere."""
        link = client.dashboard_link
        if not link or cluster.dashboard is None:
            return
        if not isinstance(cluster, ExistingCluster):  # Dask names the scheduler's host, not where the dashboard listens
            host, port = cluster.dashboard.rpartition(":")[0], urlsplit(link).port
            link = f"http://{socket.gethostname() if host in ANYWHERE else host}:{port}/status"
        self.say(f"Dask dashboard: {link}")
        port = urlsplit(link).port
        if urlsplit(link).hostname in ("127.0.0.1", "localhost"):
            there = f"{getpass.getuser()}@{socket.gethostname()}"
            self.say(f"From another machine: ssh -L {port}:127.0.0.1:{port} {there}, then open {link}")
        if not isinstance(cluster, ExistingCluster):
            self.say(f"The survey's own page: {link.replace('/status', '/galprote')}")

    # --- what happens to galaxies ---

    def began(self, work: GalaxyWork) -> None:
        """A galaxy was opened."""
        name = work.name
        for note in assumptions(work.opened):
            self.say(f"{name}: {note}")
        self.began_at[name] = time.perf_counter()
        self.seconds.pop(name, None)
        self.batches[name] = GPU_BATCH if work.opened.model.device == "cuda" else CPU_BATCH
        if self.reports is not None:
            self.reports.begin(name)
        self.phase(work)

    def phase(self, work: GalaxyWork) -> None:
        """Another step of a galaxy begins."""
        name, plan = work.name, work.phase.plan
        done = sum(plan.chunks[index].stop - plan.chunks[index].start for index in work.finished_chunks) * plan.nx
        what = {"measure": "spaxels measured", "sum": "spaxels summed", "fit": "spaxels"}[work.phase.name]
        if plan.bins:
            what, self.bins[name] = "bins", plan.ny
        if done and work.phase.name == "fit":
            self.earlier[name] = f"{done:,} of {plan.ny * plan.nx:,} {what}"
        if work.phase.note:
            self.say(f"{name}: {work.phase.note}")
        self.progress.start(name, plan.ny * plan.nx, done, what)
        self.steps[name] = work.phase.name
        self.remaining.begin(name, work.phase.name, plan.ny * plan.nx - done)
        counts = {"chunks": len(plan.chunks), "chunks_done": len(work.finished_chunks)}
        self.monitor.begin(name, spaxels=plan.ny * plan.nx, spaxels_done=done, **counts)

    def chunk(self, name: str, summary: ChunkSummary) -> None:
        """A chunk is done."""
        if name not in self.bins and self.steps[name] != "sum":  # each spaxel once
            self.fresh += summary.spaxels
        self.remaining.advance(name, self.steps[name], summary.spaxels)
        self.progress.advance(name, summary.spaxels, summary.fitted)
        if voice.verbose:
            self.say(
                f"{name}: chunk {summary.index} done: {summary.fitted:,} of {count(summary.spaxels, 'spaxel')} fitted"
            )
        self.monitor.chunk(
            name,
            spaxels=summary.spaxels,
            fitted=summary.fitted,
            bytes_read=summary.bytes_read,
            predict_seconds=summary.predict_seconds,
        )
        before = self.batches[name]
        if 0 < summary.batch < before:
            self.batches[name] = summary.batch
            self.say(f"{name}: the device's memory ran out; the model now takes {summary.batch:,} spectra at once")

    def chunk_failed(self, failure: ChunkFailure) -> None:
        """A chunk was given up."""
        self.monitor.chunk_failed(failure.galaxy)

    def publishing(self, name: str) -> None:
        """The maps are being put together."""
        self.monitor.set_state(name, "publishing")

    def finished(self, name: str, fitted: int, failures: list[ChunkFailure]) -> None:
        """The products have their names."""
        seconds = self.seconds[name] = time.perf_counter() - self.began_at[name]
        outcome: Outcome = "incomplete" if failures else "done"
        words = f"{outcome}: {count(fitted, 'spaxel')} fitted in {seconds:.1f} s"
        words += f", in {count(self.bins[name], 'bin')}" if name in self.bins else ""
        words += f", after an earlier run had done {self.earlier[name]}" if name in self.earlier else ""
        if failures:
            words += f"; {count(len(failures), 'chunk')} failed, their spaxels are flagged: {failures[0].error}"
        self.progress.finish(name, words)
        self._ended(name, outcome)
        self.results[name] = GalaxyResult(name, outcome, self.spaxels[name], fitted, seconds, failures=tuple(failures))
        self.report.published(name, self.cubes.get(name))

    def skipped(self, store: GalaxyStore) -> None:
        """A galaxy is there already."""
        store.sweep()
        spaxels, fitted = store.finished_spaxels()
        self.spaxels[store.name] = spaxels
        self.progress.finish(store.name, "skipped: done already, with the same input, settings and weights")
        self.monitor.finish(store.name, "skipped")
        self.results[store.name] = GalaxyResult(store.name, "skipped", spaxels, fitted)

    def failed(self, name: str, error: BaseException, failures: list[ChunkFailure]) -> None:
        """A galaxy failed; what is done of it is kept."""
        text = describe(error, name)
        self.progress.finish(name, f"failed: {text}")
        self._ended(name, "failed")
        details = "".join(traceback.format_exception(error))
        self.results[name] = GalaxyResult(name, "failed", error=text, failures=tuple(failures), details=details)

    def _ended(self, name: str, outcome: Outcome) -> None:
        self.monitor.finish(name, outcome)
        self.remaining.end(name)
        if self.reports is not None:
            self.reports.end(name)

    # --- files ---

    @property
    def state(self) -> str:
        """What the run is at, in words."""
        if self.stop.requested:
            return f"{'stopped' if self.closed else 'stopping'}: {self.stop.reason}"
        return (self.reason or "ended") if self.closed else "running" if self.planned else STARTING

    def write(self) -> None:
        """Say in run.json how far everything is. A full disk, for example, must not end the run."""
        now = self.monitor.snapshot()
        seconds_left, whole = self.remaining.seconds()
        galaxies = [
            asdict(counts) | {"spaxels": counts.spaxels or self.spaxels.get(counts.name, 0)} for counts in now.galaxies
        ]
        for galaxy in galaxies:
            result = self.results.get(str(galaxy["name"]))
            galaxy["error"] = result.error if result else ""
            galaxy["step"] = self.steps.get(str(galaxy["name"]), "") if galaxy["state"] == "running" else ""
            galaxy["cube"] = self.cubes.get(str(galaxy["name"]), "")
            galaxy["seconds"] = self.seconds.get(str(galaxy["name"]))
        record: dict[str, Any] = {
            "state": self.state,
            "command": self.command,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": self.started,
            "galprote": version("galprote"),
            "seconds": round(now.seconds, 1),
            "spectra_per_second": round(now.spectra_per_second, 1),
            "spaxels_per_second": round(self.fresh / max(now.seconds, 1e-3), 1),
            "seconds_left": seconds_left if seconds_left is None else round(seconds_left, 1),
            "seconds_left_is_all": whole,
            "workers": now.workers,
            "gpu_workers": now.gpu_workers,
            "galaxies": galaxies,
        }
        with suppress(OSError):
            write_text(self.survey.output / "run.json", json.dumps(record, indent=1) + "\n")

    def close(self) -> list[GalaxyResult]:
        """Write the last word; gives what became of every galaxy."""
        for name in self.names:
            if name not in self.results:
                self.results[name] = GalaxyResult(name, "stopped", spaxels=self.spaxels.get(name))
                self.monitor.finish(name, "stopped")
        ordered = [self.results[name] for name in self.names]
        self.closed = True
        self.write()
        failures = []
        for result in ordered:
            failures += list(result.failures)
            if result.outcome == "failed":
                failures.append(whole_galaxy(result.name, result.error))
        with suppress(OSError):
            write_failures(self.survey.output / "failures.csv", failures)
            write_summary(self.survey.output / "summary.json", ordered)
        self.report.finish(self.stop)
        return ordered


def write_summary(path: Path, results: list[GalaxyResult]) -> None:
    """Write what became of every galaxy as JSON."""
    write_text(path, json.dumps([result_dict(result) for result in results], indent=1) + "\n")


def result_dict(result: GalaxyResult) -> dict[str, Any]:
    """What became of a galaxy as plain data, as in summary.json."""
    return {key: value for key, value in asdict(result).items() if key != "details"}
