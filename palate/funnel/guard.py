"""Guard: stages under deadlines. A call that hangs cannot be killed, so it is left behind and the rest goes on without it.

A request's stages run one after another on a *lane*, a thread that waits for work; the caller waits for the whole, so a request costs one
hand-off. When a stage outlives its deadline the caller takes the work away from the lane: whatever that lane still brings is ignored, the stage
counts as failed, and the remaining stages go on on another lane. Each stage has a breaker: after several failures in a row, or with
too many calls left behind, the stage is not called any more, until one trial after a rest succeeds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

_STARTING = 1.0  #: seconds in which a new thread surely runs


class Busy(RuntimeError):
    """No lane was free for as long as the request had time."""


class Breaker:
    """Lets calls of one stage through; opens after ``failures`` in a row, or while ``abandoned`` calls have not come back.

    After ``rest`` seconds one call is let through: its success closes the breaker, its failure opens it for another rest.
    """

    def __init__(self, failures: int = 3, rest: float = 5.0, abandoned: int = 8) -> None:
        self.failures, self.rest, self.abandoned = failures, rest, abandoned
        self.behind = 0  #: calls that were left behind and have not come back
        self._row = 0
        self._opened: float | None = None
        self._trying = False
        self._lock = threading.Lock()

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        if self.behind >= self.abandoned:
            return "open"
        if self._opened is None:
            return "closed"
        return "half-open" if time.monotonic() - self._opened >= self.rest else "open"

    def allows(self, now: float) -> bool:
        """Whether the stage may be called; a trial counts as begun."""
        if self._opened is None and self.behind < self.abandoned:
            return True
        with self._lock:
            if self.behind >= self.abandoned:
                return False
            if self._opened is None:
                return True
            if self._trying or now - self._opened < self.rest:
                return False
            self._trying = True
            return True

    def succeeded(self) -> None:
        if self._row or self._opened is not None:
            with self._lock:
                self._row, self._opened, self._trying = 0, None, False

    def failed(self, now: float) -> None:
        with self._lock:
            self._row += 1
            if self._trying or self._row >= self.failures:
                self._opened, self._trying = now, False

    def left(self, change: int) -> None:
        with self._lock:
            self.behind += change


class Work(Protocol):
    """Stages to be run in order. All calls but ``run`` are made under the job's lock."""

    def next(self, now: float) -> float | None:
        """Move on to the next stage and return when it must be done (monotonic seconds), None if there is none left."""
        ...

    def run(self) -> Callable[[], None]:
        """Call the stage; returns what publishes its result. Never raises."""
        ...

    def overdue(self, now: float) -> None:
        """The stage under way did not come back in time."""
        ...

    def returned(self, stage: int) -> None:
        """A call that was left behind came back."""
        ...

    @property
    def stage(self) -> int: ...  # the one under way, -1 before the first

    @property
    def shortest(self) -> float: ...  # the least number of seconds that any stage may take


class Job:
    """One request on its way over the lanes."""

    __slots__ = ("begun", "epoch", "finished", "limit", "lock", "over", "work")

    def __init__(self, work: Work, limit: float) -> None:
        self.work = work
        self.lock = threading.Lock()
        self.finished = threading.Lock()
        self.finished.acquire()
        self.epoch = 0  # grows when the work is taken away from a lane
        self.begun = -1  # the epoch that a lane has taken up
        self.limit = limit  # when the stage under way (or, before the first, the start) is overdue
        self.over = False


class Lanes:
    """``width`` threads that run jobs, made when first needed; one that is left behind is replaced, and ends when it comes back.

    The last one to fall idle is the first to work again: its caches are warm (taking turns cost 1.8 of 6.2 ms a request).
    """

    def __init__(self, width: int) -> None:
        if width < 1:
            raise ValueError("a guard needs at least one lane")
        self.width = width
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Job | None]] = []
        self._waiting: deque[Job] = deque()
        self._live = 0  # lanes that were not left behind
        self._closed = False

    def submit(self, job: Job) -> None:
        """Let a free lane run it, or the next that will be free."""
        with self._lock:
            if self._idle:
                self._idle.pop().put(job)
                return
            if self._live >= self.width:
                self._waiting.append(job)
                return
            self._live += 1
        self._start(job)

    def take_over(self, job: Job) -> None:
        """The job's lane hangs: a new one takes its place and begins with this job."""
        self._start(job)

    def close(self) -> None:
        """End the lanes once they are idle."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().put(None)

    def _start(self, first: Job) -> None:
        threading.Thread(target=self._serve, args=(first,), name="palate-lane", daemon=True).start()

    def _serve(self, first: Job) -> None:
        mine: SimpleQueue[Job | None] = SimpleQueue()
        job: Job | None = first
        while job is not None:
            if not _follow(job):  # left behind: another lane stands in its place
                return
            with self._lock:
                if self._waiting:
                    job = self._waiting.popleft()
                    continue
                if self._closed:
                    return
                self._idle.append(mine)
            job = mine.get()


def _follow(job: Job) -> bool:
    """Run a job's stages until it is over; False if it was taken away in between."""
    work = job.work
    with job.lock:
        epoch = job.begun = job.epoch
        if job.over:
            return True
        limit = work.next(time.monotonic())
        while limit is not None:
            job.limit = limit
            stage = work.stage
            job.lock.release()
            try:
                publish = work.run()
            finally:
                job.lock.acquire()
            if job.epoch != epoch:
                work.returned(stage)
                return False
            publish()
            limit = work.next(time.monotonic())
        job.over = True
    job.finished.release()
    return True


class Guard:
    """Options of guarded running: ``width`` lanes; the breakers' ``failures``, ``rest`` (s) and ``abandoned``.

    ``budget`` (s) is what a request without a deadline of its own may take.
    """

    def __init__(self, budget: float = 1.0, width: int = 4, failures: int = 3, rest: float = 5.0, abandoned: int = 8) -> None:
        if budget <= 0 or rest < 0 or failures < 1 or abandoned < 1:
            raise ValueError("budget must be above 0, rest 0 or more, failures and abandoned at least 1")
        self.budget, self.failures, self.rest, self.abandoned = budget, failures, rest, abandoned
        self.lanes = Lanes(width)

    def breaker(self) -> Breaker:
        return Breaker(self.failures, self.rest, self.abandoned)

    def run(self, work: Work, end: float) -> None:
        """Run the work to its end, leaving behind what is overdue. ``Busy`` if no lane took it up before ``end`` (monotonic seconds)."""
        job = Job(work, end)
        self.lanes.submit(job)
        # A stage that begins while the caller sleeps is overdue after ``shortest`` at the earliest, so nobody need wake the caller for it.
        while not job.finished.acquire(timeout=max(0.0, min(job.limit - time.monotonic(), work.shortest))):
            with job.lock:
                now = time.monotonic()
                if job.over or now < job.limit:
                    continue
                if work.stage < 0:
                    job.over = True
                    raise Busy("all lanes are taken")
                if job.begun != job.epoch:  # the lane that takes its place has not begun yet: there is nothing to leave behind
                    job.limit = now + _STARTING
                    continue
                job.epoch += 1
                work.overdue(now)
                job.limit = now + _STARTING  # until the next lane has begun
            self.lanes.take_over(job)
