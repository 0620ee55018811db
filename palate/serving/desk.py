"""Desk: blocking work off the event loop. A few threads, bounded queues, two hand-offs a call and nothing else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from palate.serving.problems import Problem

T = TypeVar("T")
Asked = TypeVar("Asked")

Entry = tuple[Any, "asyncio.Future[Any]", asyncio.AbstractEventLoop, float]


class Crew(Generic[Asked, T]):
    """``await crew.do(asked)``: the calls that wait at the same time, at most ``most``, are handed to ``answer`` together, on one of
    ``workers`` threads; it gives a result or an exception for each.

    At most ``queue`` calls wait. One beyond that, and one that waited longer than ``patience`` seconds, is the problem ``overloaded``; one
    that waits at the close or comes after it, ``not-ready``.
    """

    def __init__(
        self, name: str, answer: Callable[[list[Asked]], Sequence[T | Exception]], workers: int, most: int, queue: int, patience: float
    ) -> None:
        self._answer, self._most, self._patience = answer, most, patience
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()
        self._limit = queue + workers * most
        self.under_way = 0  # touched by the event loop only
        self._door, self._closed = threading.Lock(), False
        self._threads = [threading.Thread(target=self._work, name=f"palate-{name}-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    async def do(self, asked: Asked) -> T:
        """What ``answer`` has for it; raises where that is an exception."""
        if self.under_way >= self._limit:
            raise busy()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._door:  # nothing comes in after the last of those who wait were sent away
            if self._closed:
                raise _stopping()
            self.under_way += 1
            future.add_done_callback(self._done)
            self._queue.put((asked, future, loop, time.monotonic()))
        # A client that went away cancels its task, not the work: what was begun is finished, and counts until then.
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[Any]) -> None:
        self.under_way -= 1
        if not future.cancelled():
            future.exception()  # seen, even where the caller has gone away

    def _work(self) -> None:
        stop = False
        while not stop:
            group: list[Entry] = []
            entry = self._queue.get()
            try:
                while entry is not None:
                    group.append(entry)
                    if len(group) >= self._most:
                        break
                    entry = self._queue.get_nowait()
            except Empty:
                pass
            else:
                stop = entry is None
            if not group:
                return
            oldest = time.monotonic() - self._patience
            answers: list[Any] = [busy() if since < oldest else None for _, _, _, since in group]
            asked = [entry[0] for entry, late in zip(group, answers, strict=True) if late is None]
            try:
                found = iter(self._answer(asked) if asked else ())
                answers = [next(found) if late is None else late for late in answers]
            except BaseException as error:
                answers = [error if late is None else late for late in answers]
            try:
                group[0][2].call_soon_threadsafe(_settle, [entry[1] for entry in group], answers)
            except RuntimeError:  # the loop is closed: nobody waits for this any more
                return
            del entry, group, answers, asked

    def close(self, timeout: float = 5.0) -> None:
        """Finish what was begun, refuse what waits."""
        with self._door:
            self._closed = True
        try:
            while True:
                entry = self._queue.get_nowait()
                if entry is not None:
                    entry[2].call_soon_threadsafe(_settle, [entry[1]], [_stopping()])
        except (Empty, RuntimeError):
            pass
        for _ in self._threads:
            self._queue.put(None)
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


class Desk(Crew[Callable[[], Any], Any]):
    """``await desk.do(function)`` runs it on one of ``workers`` threads."""

    def __init__(self, workers: int, queue: int, patience: float) -> None:
        super().__init__("desk", lambda work: [work[0]()], workers, 1, queue, patience)


def _stopping() -> Problem:
    return Problem("not-ready", "the service is stopping")


def busy() -> Problem:
    return Problem("overloaded", "more calls are waiting than can be answered in time", headers={"Retry-After": "1"})


def _settle(futures: list[asyncio.Future[Any]], answers: list[Any]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.cancelled():
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
