"""The desk: results and errors come back, the queue is bounded, what waited too long is refused."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from palate.serving.desk import Crew, Desk
from palate.serving.problems import Problem


def test_results_and_errors_come_back_from_another_thread() -> None:
    async def go() -> None:
        desk = Desk(2, 4, 1.0)
        names = await asyncio.gather(*(desk.do(lambda: threading.current_thread().name) for _ in range(4)))
        assert all(name.startswith("palate-desk") for name in names)
        with pytest.raises(ZeroDivisionError):
            await desk.do(lambda: 1 / 0)
        assert desk.under_way == 0
        desk.close()

    asyncio.run(go())


def test_a_full_queue_refuses_at_once_and_recovers() -> None:
    async def go() -> None:
        desk, gate = Desk(1, 2, 5.0), threading.Event()
        held = [asyncio.ensure_future(desk.do(gate.wait)) for _ in range(3)]
        await asyncio.sleep(0.01)
        begun = time.perf_counter()
        with pytest.raises(Problem) as caught:
            await desk.do(lambda: 1)
        assert time.perf_counter() - begun < 0.1
        assert caught.value.status == 503
        assert caught.value.headers["Retry-After"]
        gate.set()
        await asyncio.gather(*held)
        assert await desk.do(lambda: 7) == 7
        desk.close()

    asyncio.run(go())


@pytest.mark.parametrize("idle", [True, False])
def test_a_call_after_the_close_is_refused_at_once(idle: bool) -> None:
    async def go() -> None:
        desk, gate = Desk(1, 4, 5.0), threading.Event()
        held = [] if idle else [asyncio.ensure_future(desk.do(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0.01)
        closing = asyncio.ensure_future(asyncio.to_thread(desk.close))
        while not desk._closed:
            await asyncio.sleep(0.001)
        with pytest.raises(Problem) as caught:
            await asyncio.wait_for(desk.do(lambda: 1), 5)
        assert caught.value.kind == "not-ready"
        gate.set()
        await closing
        if held:
            assert await held[0]
            with pytest.raises(Problem):
                await held[1]
        assert desk.under_way == 0

    asyncio.run(go())


def test_a_call_that_waited_too_long_is_refused_without_being_done() -> None:
    async def go() -> None:
        desk, done = Desk(1, 8, 0.02), []
        slow = asyncio.ensure_future(desk.do(lambda: time.sleep(0.1)))
        await asyncio.sleep(0.01)
        with pytest.raises(Problem):
            await desk.do(lambda: done.append(1))
        await slow
        assert done == []
        desk.close()

    asyncio.run(go())


def test_a_caller_that_leaves_does_not_undo_the_work_nor_free_its_place() -> None:
    async def go() -> None:
        desk, gate, done = Desk(1, 1, 5.0), threading.Event(), []

        def work() -> None:
            gate.wait()
            done.append(1)

        task = asyncio.ensure_future(desk.do(work))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        assert desk.under_way == 1
        gate.set()
        assert await desk.do(lambda: 2) == 2
        assert done == [1]
        desk.close()

    asyncio.run(go())


def test_closing_ends_what_was_begun_and_refuses_what_waits() -> None:
    async def go() -> None:
        desk, done = Desk(1, 8, 5.0), []

        def work() -> None:
            time.sleep(0.05)
            done.append(1)

        begun = asyncio.ensure_future(desk.do(work))
        waiting = asyncio.ensure_future(desk.do(work))
        await asyncio.sleep(0.01)
        await asyncio.to_thread(desk.close)
        await begun
        with pytest.raises(Problem):
            await waiting
        assert done == [1]

    asyncio.run(go())


def test_calls_that_wait_together_are_answered_together_and_fail_alone() -> None:
    async def go() -> None:
        groups: list[list[int]] = []
        gate = threading.Event()

        def answer(asked: list[int]) -> list[int | Exception]:
            gate.wait()
            groups.append(asked)
            return [ValueError(str(one)) if one == 3 else one * 10 for one in asked]

        crew = Crew("test", answer, workers=1, most=4, queue=20, patience=5.0)
        first = asyncio.ensure_future(crew.do(0))
        await asyncio.sleep(0.02)
        rest = [asyncio.ensure_future(crew.do(one)) for one in range(1, 8)]
        await asyncio.sleep(0.02)
        gate.set()
        found = await asyncio.gather(first, *rest, return_exceptions=True)
        assert groups == [[0], [1, 2, 3, 4], [5, 6, 7]]
        assert isinstance(found[3], ValueError)
        assert [one for one in found if isinstance(one, int)] == [0, 10, 20, 40, 50, 60, 70]
        assert crew.under_way == 0
        crew.close()

    asyncio.run(go())
