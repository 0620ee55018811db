"""Desk: blocking work off the event loop. A few threads, a bounded queue, two hand-offs a call and nothing else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from palate.serving.problems import Problem

T = TypeVar("T")


class Desk:
    """``await desk.do(function)`` runs it on one of ``workers`` threads; at most ``queue`` calls are under way or waiting.

    A call beyond that, and one that waited longer than ``patience`` seconds, is the problem ``overloaded``.
    """

    def __init__(self, workers: int, queue: int, patience: float) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._limit, self._patience = queue + workers, patience
        self.under_way = 0  # touched by the event loop only
        self._threads = [threading.Thread(target=self._work, name=f"palate-desk-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    async def do(self, function: Callable[[], T]) -> T:
        """What ``function()`` returns or raises."""
        if self.under_way >= self._limit:
            raise busy()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self.under_way += 1
        future.add_done_callback(self._done)
        self._queue.put((function, future, loop, time.monotonic()))
        # A client that went away cancels its task, not the work: what was begun is finished, and counts until then.
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[Any]) -> None:
        self.under_way -= 1
        if not future.cancelled():
            future.exception()  # seen, even where the caller has gone away

    def _work(self) -> None:
        while True:
            entry = self._queue.get()
            if entry is None:
                return
            function, future, loop, since = entry
            try:
                if time.monotonic() - since > self._patience:
                    raise busy()
                value, error = function(), None
            except BaseException as raised:
                value, error = None, raised
            try:
                loop.call_soon_threadsafe(_settle, future, value, error)
            except RuntimeError:  # the loop is closed: nobody waits for this any more
                return
            del entry, function, future, value, error

    def close(self, timeout: float = 5.0) -> None:
        """Finish what was begun, drop what waits."""
        try:
            while True:
                entry = self._queue.get_nowait()
                if entry is not None:
                    entry[2].call_soon_threadsafe(_settle, entry[1], None, Problem("not-ready", "the service is stopping"))
        except (Empty, RuntimeError):
            pass
        for _ in self._threads:
            self._queue.put(None)
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


def busy() -> Problem:
    return Problem("overloaded", "more calls are waiting than can be answered in time", headers={"Retry-After": "1"})


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)
