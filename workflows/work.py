"""A galaxy on its way through the workers: its chunks, what became of them, and its last step."""

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from distributed import Client, Future

from galprote.model.decoder import Decoder
from galprote.model.errors import GalproteError
from galprote.pipeline.graph import ChunkGraph, ChunkSummary, ModelReference
from galprote.workflows.attempt import HOPELESS, PUBLISH
from galprote.workflows.failures import ChunkFailure, describe
from galprote.workflows.galaxy import GalaxyJob, OpenedGalaxy, open_galaxy
from galprote.workflows.publish import publish_products


@dataclass
class GalaxyWork:
    """A galaxy on its way: what the dispatcher does with its chunks, and what it is told of them.

    Attributes
    ----------
    job : GalaxyJob
    opened : OpenedGalaxy
    graph : ChunkGraph
    listener : Listener
        Told of everything.
    chunks : deque of int
        Chunks that nobody has begun.
    finished_chunks : set of int
        Those that are done, by an earlier run, too.
    failures : list of ChunkFailure
    """

    job: GalaxyJob
    opened: OpenedGalaxy
    graph: ChunkGraph
    listener: "Listener"
    chunks: deque[int]
    finished_chunks: set[int]
    failures: list[ChunkFailure] = field(default_factory=list)
    closed: bool = False

    @property
    def name(self) -> str:
        """The galaxy's name."""
        return self.job.galaxy.name

    def submit(self, client: Client, index: int, attempt: int, where: list[str] | None) -> Future[Any]:
        """Start a chunk, or the galaxy's last step."""
        place = {"workers": where} if where else {}
        if index != PUBLISH:
            chunk: Future[Any] = client.compute(self.graph.task(index, attempt), **place)
            return chunk
        missing = frozenset(failure.chunk for failure in self.failures)
        job, layout = self.job, self.opened.layout
        arguments = (job.store, job.plan, layout, job.galaxy.products, job.cube_path, missing)
        return client.submit(
            publish_products, *arguments, pure=False, key=f"publish-{self.name}-{self.graph.run}-{attempt}", **place
        )

    def done(self, summary: ChunkSummary) -> None:
        """A chunk is finished."""
        self.finished_chunks.add(summary.index)
        self.listener.chunk(self.name, summary)

    def give_up_chunk(self, index: int, error: BaseException, attempts: int) -> None:
        """A chunk failed for good."""
        rows = self.job.plan.chunks[index]
        failure = ChunkFailure(self.name, index, rows.start, rows.stop - 1, attempts, describe(error))
        self.failures.append(failure)
        self.job.store.record_failures([asdict(item) for item in self.failures])
        self.listener.chunk_failed(failure)

    def hopeless(self) -> BaseException | None:
        """The error of chunks that failed one after the other, if none succeeded."""
        if self.finished_chunks or not self.failures:
            return None
        if len(self.failures) < min(HOPELESS, len(self.job.plan.chunks)):
            return None
        first = self.failures[0]
        return GalproteError(
            f"{len(self.failures)} of {len(self.job.plan.chunks)} chunks failed, and none succeeded: {first.error}"
        )

    def may_publish(self) -> bool:
        """Whether every chunk is done or given up; says so once."""
        if self.closed or len(self.finished_chunks) + len(self.failures) < len(self.job.plan.chunks):
            return False
        self.closed = True
        return True

    def publishing(self) -> None:
        """The last step begins."""
        self.listener.publishing(self.name)

    def finished(self, fitted: int) -> None:
        """The last step is done."""
        self.job.store.remove_scratch()
        self.listener.finished(self.name, fitted, self.failures)

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
    plan, store, opened = job.plan, job.store, open_galaxy(job, model, templates)
    manifest = store.manifest()
    same = manifest is not None and manifest["provenance"].get("fingerprint") == opened.layout.fingerprint
    finished = (store.finished_provenance() or {}).get("fingerprint")
    if same and not store.store.is_dir() and finished == opened.layout.fingerprint and store.finished_gaps():
        store.reopen()
    if not same or not store.store.is_dir():  # the latter: killed before the store was there
        store.begin(opened.layout.provenance, plan.rows)
        store.create(opened.layout.cubes, plan, opened.layout.attributes)
    store.record_failures([])
    done = store.finished_chunks(plan)
    graph = ChunkGraph(opened.cube, plan, opened.excluded, opened.settings, model, store, gpu=gpu)
    chunks = deque(index for index in range(len(plan.chunks)) if index not in done)
    return GalaxyWork(job, opened, graph, listener, chunks, done)


class Listener(Protocol):
    """Who is told what happens to galaxies."""

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
