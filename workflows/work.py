"""A galaxy on its way through the workers: its steps, their chunks, and what became of them."""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol

from distributed import Client, Future

from galprote.model.decoder import Decoder
from galprote.model.errors import GalproteError
from galprote.pipeline.fingerprint import fingerprint_of
from galprote.pipeline.graph import ChunkSummary, ModelReference
from galprote.workflows.attempt import HOPELESS, LAST
from galprote.workflows.failures import ChunkFailure, describe
from galprote.workflows.galaxy import GalaxyJob, OpenedGalaxy, open_galaxy
from galprote.workflows.phases import Phase, next_phase


@dataclass
class GalaxyWork:
    """A galaxy on its way: what the dispatcher does with its chunks, and what it is told of them.

    Attributes
    ----------
    job : GalaxyJob
    opened : OpenedGalaxy
    following : callable
        Gives the step that follows one of this name.
    phase : Phase
        The present step.
    listener : Listener
        Told of everything.
    chunks : deque of int
        Chunks of the present step that nobody has begun.
    finished_chunks : set of int
        Those that are done, by an earlier run, too.
    failures : list of ChunkFailure
        Of all steps.
    """

    job: GalaxyJob
    opened: OpenedGalaxy
    following: Callable[[str], Phase]
    phase: Phase
    listener: "Listener"
    chunks: deque[int] = field(init=False)
    finished_chunks: set[int] = field(init=False)
    failures: list[ChunkFailure] = field(default_factory=list)
    ending: bool = False

    def __post_init__(self) -> None:
        self._open(self.phase)

    def _open(self, phase: Phase) -> None:
        self.phase, self.finished_chunks, self.ending = phase, set(phase.done), False
        self.chunks = deque(index for index in range(len(phase.plan.chunks)) if index not in phase.done)

    @property
    def name(self) -> str:
        """The galaxy's name."""
        return self.job.galaxy.name

    @property
    def missing(self) -> frozenset[int]:
        """Chunks of the present step that were given up."""
        return frozenset(failure.chunk for failure in self.failures if failure.step == self.phase.name)

    def submit(self, client: Client, index: int, attempt: int, where: list[str] | None) -> Future[Any]:
        """Start a chunk, or what ends the step."""
        place = {"workers": where} if where else {}
        if index != LAST:
            chunk: Future[Any] = client.compute(self.phase.graph.task(index, attempt), **place)
            return chunk
        verb = {"measure": "bin", "sum": "summed", "fit": "publish"}[self.phase.name]
        key = f"{verb}-{self.name}-{self.phase.graph.run}-{attempt}"
        return client.submit(self.phase.last, self.missing, pure=False, key=key, **place)

    def done(self, summary: ChunkSummary) -> None:
        """A chunk is finished."""
        self.finished_chunks.add(summary.index)
        self.listener.chunk(self.name, summary)

    def give_up_chunk(self, index: int, error: BaseException, attempts: int) -> None:
        """A chunk failed for good."""
        first, last = self.phase.rows(index)
        failure = ChunkFailure(self.name, self.phase.name, index, first, last, attempts, describe(error))
        self.failures.append(failure)
        self.job.store.record_failures([asdict(item) for item in self.failures])
        self.listener.chunk_failed(failure)

    def hopeless(self) -> BaseException | None:
        """The error of chunks that failed one after the other, if none succeeded."""
        mine = [failure for failure in self.failures if failure.step == self.phase.name]
        if self.finished_chunks or not mine:
            return None
        if len(mine) < min(HOPELESS, len(self.phase.plan.chunks)):
            return None
        return GalproteError(
            f"{len(mine):,} of {len(self.phase.plan.chunks):,} chunks failed, and none succeeded: {mine[0].error}"
        )

    def may_end(self) -> bool:
        """Whether every chunk of the step is done or given up; says so once."""
        if self.ending or len(self.finished_chunks) + len(self.missing) < len(self.phase.plan.chunks):
            return False
        self.ending = True
        return True

    def end_begins(self) -> None:
        """What ends the step is begun."""
        if self.phase.name == "fit":
            self.listener.publishing(self.name)

    def ended(self, value: Any) -> bool:
        """The step is over, and `value` is what its end gave; opens the next one, or says that it was the last."""
        if self.phase.name == "fit":
            self.job.store.remove_scratch()
            self.listener.finished(self.name, int(value), self.failures)
            return True
        self._open(self.following(self.phase.name))
        self.listener.phase(self)
        return False

    def failed(self, error: BaseException) -> None:
        """The galaxy failed; what is done of it is kept."""
        self.listener.failed(self.name, error, self.failures)


def begin_galaxy(
    job: GalaxyJob, model: ModelReference, templates: Decoder, listener: "Listener", *, gpu: bool
) -> GalaxyWork:
    """Open a galaxy, and find out what is left to do of it.

    Raises
    ------
    CubeError
        If the cube cannot be used.
    OSError
        If there is no room for its products.
    """
    store, opened = job.store, open_galaxy(job, model, templates)
    manifest = store.manifest()
    same = manifest is not None and fingerprint_of(manifest["provenance"]) == opened.layout.fingerprint
    finished = fingerprint_of(store.finished_provenance())
    if same and not store.store.is_dir() and finished == opened.layout.fingerprint and store.finished_gaps():
        store.reopen()
    if not same:
        store.begin(opened.layout.provenance, job.plan.rows)
    store.record_failures([])
    following = partial(next_phase, job, opened, model, gpu=gpu)
    return GalaxyWork(job, opened, lambda name: following(after=name), following(), listener)


class Listener(Protocol):
    """Who is told what happens to galaxies."""

    def phase(self, work: GalaxyWork) -> None:
        """Another step of a galaxy begins."""

    def chunk(self, name: str, summary: ChunkSummary) -> None:
        """A chunk is done."""

    def chunk_failed(self, failure: ChunkFailure) -> None:
        """A chunk was given up."""

    def publishing(self, name: str) -> None:
        """The maps are being put together."""

    def finished(self, name: str, fitted: int, failures: list[ChunkFailure]) -> None:
        """The products have their names."""

    def failed(self, name: str, error: BaseException, failures: list[ChunkFailure]) -> None:
        """A galaxy failed."""
