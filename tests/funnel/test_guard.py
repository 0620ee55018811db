"""A job whose lane hangs is followed by one other lane, however long that takes to begin."""

import threading
import time
from collections.abc import Callable

import pytest

from palate.funnel import guard
from palate.funnel.guard import Guard, Job, Lanes


class Three:
    """Work of three stages, the first of which hangs until ``let_go``."""

    shortest = 0.05

    def __init__(self) -> None:
        self.stage, self.let_go = -1, threading.Event()
        self.ran: list[int] = []
        self.lost: list[int] = []
        self.back: list[int] = []

    def next(self, now: float) -> float | None:
        self.stage += 1
        return now + 0.05 if self.stage < 3 else None

    def run(self) -> Callable[[], None]:
        stage = self.stage
        if not stage:
            self.let_go.wait(5)
        return lambda: self.ran.append(stage)

    def overdue(self, now: float) -> None:
        self.lost.append(self.stage)

    def returned(self, stage: int) -> None:
        self.back.append(stage)


def test_a_lane_that_begins_late_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    start, begun = Lanes._start, []

    def late(self: Lanes, first: Job) -> None:
        begun.append(first.epoch)
        if first.epoch:
            threading.Timer(0.2, start, (self, first)).start()
        else:
            start(self, first)

    monkeypatch.setattr(Lanes, "_start", late)
    monkeypatch.setattr(guard, "_STARTING", 0.02)
    work = Three()
    Guard(width=2).run(work, time.monotonic() + 5)
    assert begun == [0, 1]
    assert work.lost == [0]
    assert work.ran == [1, 2]
    work.let_go.set()
    until = time.monotonic() + 5
    while not work.back and time.monotonic() < until:
        threading.Event().wait(0.01)
    assert work.back == [0]
    assert work.ran == [1, 2]
