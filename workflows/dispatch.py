"""Chunks of many galaxies on their way through the workers: bounded in number, tried again, given up one by one.

What may go wrong with a chunk, and what is done:

    an exception            tried again, on another worker where there is one, `attempts` times in all
    its worker dies         tried again; before the last of `deaths` times it waits until nothing else is under way, so
                            that a chunk is not blamed for its neighbour's doings
    the disk is full        nothing new is begun, and the run stops when what is under way has ended
    the scheduler is lost   the run stops

A chunk that is given up costs its galaxy this chunk. A galaxy is given up if its input is at fault, or if nothing of it
could be computed.
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from distributed import Client, Future, KilledWorker
from distributed.scheduler import NoValidWorkerError, NoWorkerError

from galprote.model.errors import ConfigError, CubeError, GalproteError
from galprote.pipeline.graph import failing_worker
from galprote.workflows.attempt import LAST, Attempt, Work
from galprote.workflows.cluster import Keeper
from galprote.workflows.stop import StopRequest, is_disk_full

#: Seconds between two looks at the workers.
WATCH: Final = 2.0


class Dispatcher:
    """Keeps the workers busy with a survey's chunks.

    Parameters
    ----------
    client : distributed.Client
    keeper : Keeper
    stop : StopRequest
    attempts, deaths : int
        How often a chunk is tried, and how many workers may die with it.
    per_worker, per_gpu : int
        Chunks under way for each worker without and with a GPU.
    gpu : bool
        Whether predictions are for workers with a GPU alone.
    patience : float or None
        Seconds without any worker, or any with a GPU where one is needed, after which the run stops; None: the keeper
        knows better.
    on_workers : callable
        Told how many workers there are, and how many with a GPU.
    on_watch : callable
        Called every few seconds.
    say : callable
    """

    def __init__(
        self,
        client: Client,
        keeper: Keeper,
        stop: StopRequest,
        *,
        attempts: int,
        deaths: int,
        per_worker: int,
        per_gpu: int,
        gpu: bool,
        patience: float | None,
        on_workers: Callable[[int, int], None],
        on_watch: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.client, self.keeper, self.stop, self.say = client, keeper, stop, say
        self.attempts, self.deaths = attempts, deaths
        self.per_worker, self.per_gpu = per_worker, per_gpu
        self.gpu, self.patience, self.able_at = gpu, patience, time.monotonic()
        self.on_workers, self.on_watch = on_workers, on_watch
        self.ended: queue.SimpleQueue[tuple[Attempt, Future[Any]] | None] = queue.SimpleQueue()
        self.flying: list[Attempt] = []
        self.again: deque[Attempt] = deque()
        self.alone: deque[Attempt] = deque()
        self.solo: Attempt | None = None
        self.exhausted = False
        self.open: list[Work] = []
        self.workers: dict[str, bool] = {}  # address: whether it has a GPU
        self.window = 1
        self.watched = 0.0
        self.said = time.monotonic()

    def run(self, galaxies: Iterator[Work | None]) -> None:
        """Bring galaxies to their end; on return each is finished, failed, or was stopped.

        Parameters
        ----------
        galaxies : iterator of Work or None
            The next one is taken when there is room for its chunks; None: ask again later.
        """
        self.stop.woken = lambda: self.ended.put(None)
        try:
            while not self.stop.at_once:
                self._watch()
                if not self.stop.requested:
                    self._fill(galaxies)
                self.stop.under_way = len(self.flying)
                if not self.flying and (self.stop.requested or self._is_over()):
                    break
                self._await()
        finally:
            self.stop.under_way = 0
            self.client.cancel([attempt.future for attempt in self.flying])

    def _await(self) -> None:
        """Settle what ends next; wait no longer than half a second, and not at all once a signal was heard."""
        try:  # where nothing is under way, a galaxy is being opened
            ended = self.ended.get(timeout=0.5 if self.flying else 0.02)
        except queue.Empty:
            return
        if ended is not None:
            self._settle(*ended)

    def _is_over(self) -> bool:
        return self.exhausted and not self.again and not self.alone

    # --- what to do next ---

    def _fill(self, galaxies: Iterator[Work | None]) -> None:
        """Start as much as may be under way."""
        while len(self.flying) < self.window and self.solo is None:
            attempt = self._next(galaxies)
            if attempt is None:
                break
            self._launch(attempt)
        if not self.flying and self.alone:
            self.solo = self.alone.popleft()
            self._launch(self.solo)

    def _next(self, galaxies: Iterator[Work | None]) -> Attempt | None:
        if self.again:
            return self.again.popleft()
        for work in self.open:
            if work.chunks:
                return Attempt(work, work.chunks.popleft())
        try:
            opened = next(galaxies)
        except StopIteration:
            self.exhausted = True
            return None
        if opened is None:
            return None  # not yet
        self.open.append(opened)
        self._close_if_ready(opened)
        return self._next(galaxies)

    def _launch(self, attempt: Attempt) -> None:
        blamed = failing_worker(attempt.error) if attempt.error is not None else None
        others = [address for address in self.workers if address != blamed]
        attempt.where = others if blamed and self._can_work(attempt, others) else None
        try:
            attempt.future = attempt.work.submit(self.client, attempt.index, attempt.number, attempt.where)
        except Exception as error:
            self.solo = None
            self._failed(attempt, error)
            return
        attempt.number += 1
        self.flying.append(attempt)
        attempt.future.add_done_callback(lambda future, attempt=attempt: self.ended.put((attempt, future)))

    def _can_work(self, attempt: Attempt, addresses: list[str]) -> bool:
        """Whether some of the workers are there, and one of them has a GPU if a chunk needs it."""
        needs_gpu = self.gpu and attempt.index != LAST
        return any(self.workers[address] or not needs_gpu for address in addresses if address in self.workers)

    # --- what came of it ---

    def _settle(self, attempt: Attempt, future: Future[Any]) -> None:
        """Take a result, or decide what to do about a failure."""
        if attempt not in self.flying or attempt.future is not future:
            return  # of a galaxy that was given up meanwhile
        self.flying.remove(attempt)
        self.solo = None
        value, error = self._outcome(future)
        if error is not None:
            future.release()  # or another attempt would meet the failure of a task that both share
            self._failed(attempt, error)
        elif attempt.index == LAST:
            self._step_over(attempt, value)
        else:
            attempt.work.done(value)
            self._close_if_ready(attempt.work)
        attempt.future = None

    def _step_over(self, attempt: Attempt, value: Any) -> None:
        """Go on with a galaxy's next step, if it has one."""
        try:
            over = attempt.work.ended(value)
        except Exception as error:
            self._failed(attempt, error)
            return
        if over:
            self.open.remove(attempt.work)
        else:
            self._close_if_ready(attempt.work)

    def _outcome(self, future: Future[Any]) -> tuple[Any, BaseException | None]:
        """Result or error of a task that ended; its worker may have died since, and the result with it."""
        if future.status == "finished":
            try:
                return future.result(timeout=60), None
            except Exception as error:
                return None, error
        if future.status == "error":
            return None, future.exception()
        if future.status in ("lost", "pending"):
            return None, LookupError("its worker died with the answer")
        return None, ConnectionError("the scheduler, or what it knew, was lost")

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        attempt.error = error
        if is_disk_full(error):
            self.stop.ask("disk full")
        elif isinstance(error, ConnectionError):
            self.stop.ask(str(error))
        elif isinstance(error, NoValidWorkerError):
            self.stop.ask("no worker has what the tasks ask for (a GPU?)")
        elif isinstance(error, NoWorkerError):  # no chunk's fault
            self.stop.ask(f"no worker came back within {error.timeout:.0f} s")
        elif attempt.index == LAST and isinstance(error, GalproteError):  # it would say the same again
            self._give_up(attempt.work, error)
        elif isinstance(error, KilledWorker):
            attempt.deaths += 1
            self._again(attempt, attempt.deaths, self.deaths, "its worker died")
        else:
            attempt.tries += 1
            self._again(attempt, attempt.tries, self.attempts, f"{type(error).__name__}: {error}")

    def _again(self, attempt: Attempt, times: int, limit: int, why: str) -> None:
        what = "the last step" if attempt.index == LAST else f"chunk {attempt.index}"
        if times < limit:
            self.say(f"{attempt.work.name}: {what}: {why}; trying again ({times} of {limit})")
            last_chance = isinstance(attempt.error, KilledWorker) and times == limit - 1
            (self.alone if last_chance else self.again).append(attempt)
            return
        self.say(f"{attempt.work.name}: {what}: {why}; given up after {times} attempts")
        assert attempt.error is not None
        if attempt.index == LAST or isinstance(attempt.error, CubeError):
            self._give_up(attempt.work, attempt.error)
            return
        attempt.work.give_up_chunk(attempt.index, attempt.error, times)
        self._close_if_ready(attempt.work)

    def _give_up(self, work: Work, error: BaseException) -> None:
        """Leave a galaxy."""
        mine = [attempt for attempt in self.flying if attempt.work is work]
        self.flying = [attempt for attempt in self.flying if attempt.work is not work]
        self.client.cancel([attempt.future for attempt in mine])
        self.again = deque(attempt for attempt in self.again if attempt.work is not work)
        self.alone = deque(attempt for attempt in self.alone if attempt.work is not work)
        self.open.remove(work)
        work.chunks.clear()
        work.failed(error)

    def _close_if_ready(self, work: Work) -> bool:
        """End a galaxy's step if nothing else of it is left to do, or give the galaxy up if there is no hope."""
        hopeless = work.hopeless()
        if hopeless is not None:
            self._give_up(work, hopeless)
            return True
        if not work.may_end():
            return False
        work.end_begins()
        self.again.append(Attempt(work, LAST))
        return True

    # --- the workers ---

    def _watch(self) -> None:
        """Look after the workers every few seconds, and say so if there are none."""
        if time.monotonic() - self.watched < WATCH:
            return
        self.watched = time.monotonic()
        self.on_watch()
        if self.client.status != "running":
            self.stop.ask("the scheduler was lost", at_once=True)
            return
        try:
            found = self.client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, TimeoutError) as error:
            self.stop.ask(f"the scheduler was lost ({error})", at_once=True)
            return
        self.workers = {address: "GPU" in about.get("resources", {}) for address, about in found.items()}
        gpus = sum(self.workers.values())
        self._release_the_tied()
        self.window = max(1, self.per_gpu * gpus + self.per_worker * (len(found) - gpus))
        self.on_workers(len(found), gpus)
        words = ""
        try:
            words = self.keeper.check()
        except ConfigError as error:
            self.stop.ask(str(error))
        if gpus if self.gpu else found:
            self.able_at = time.monotonic()
        elif self.stop.requested and not found:
            self.stop.ask("", at_once=True)
        elif self.patience is not None and time.monotonic() - self.able_at > self.patience:
            lack = "no worker with a GPU for" if self.gpu else "no worker for"
            self.stop.ask(f"{lack} {self.patience:.0f} s", at_once=True)
        if words and time.monotonic() - self.said > 60:
            self.said = time.monotonic()
            self.say(words)

    def _release_the_tied(self) -> None:
        """Begin anew, anywhere, what is tied to workers that are gone: Dask would wait for them for ever."""
        for attempt in [attempt for attempt in self.flying if attempt.where]:
            assert attempt.where is not None
            if not self._can_work(attempt, attempt.where):
                self.flying.remove(attempt)
                self.solo = None
                self.client.cancel([attempt.future])
                attempt.error = None
                self.again.append(attempt)
