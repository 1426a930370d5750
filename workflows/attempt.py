"""What the dispatcher deals with: galaxies, as it sees them, and attempts at their chunks."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from distributed import Client, Future

from galprote.pipeline.graph import ChunkSummary

#: Number among a step's chunks of what ends it.
LAST: Final = -1

#: Chunks of a galaxy that may be given up before one succeeds.
HOPELESS: Final = 5


class Work(Protocol):
    """A galaxy as the dispatcher sees it."""

    chunks: deque[int]

    @property
    def name(self) -> str:
        """The galaxy's name."""

    def submit(self, client: Client, index: int, attempt: int, where: list[str] | None) -> Future[Any]:
        """Start a chunk, or what ends the step; `where` are the workers it should run on, if not any."""

    def done(self, summary: ChunkSummary) -> None:
        """A chunk is finished."""

    def give_up_chunk(self, index: int, error: BaseException, attempts: int) -> None:
        """A chunk failed for good."""

    def hopeless(self) -> BaseException | None:
        """Why the galaxy should be given up, if it should."""

    def may_end(self) -> bool:
        """Whether every chunk of the step is done or given up; says so once."""

    def end_begins(self) -> None:
        """What ends the step is begun."""

    def ended(self, value: Any) -> bool:
        """The step is over; opens the next one, or says that it was the galaxy's last."""

    def failed(self, error: BaseException) -> None:
        """The galaxy failed."""


@dataclass(eq=False)
class Attempt:
    """A chunk, how often it was tried, and the workers to which the present try is tied, if it is."""

    work: Work
    index: int
    tries: int = 0
    deaths: int = 0
    number: int = 0
    where: list[str] | None = None
    error: BaseException | None = None
    future: Future[Any] | None = field(default=None, repr=False)
