"""How a mechanism world is judged: ``beats`` in ``make test``, the same tests with more rows in ``make bench ONLY=worlds`` (``--worlds 4``)."""

from __future__ import annotations

import time
from typing import Protocol

import pytest

from tests.worlds import SIZE

LONG = {"test_docs.py", "test_resume.py", "test_process.py", "test_demo.py", "test_search.py", "test_workflow.py"}  #: start processes, train runs


class Beats(Protocol):
    """``beats(0.05, DIN=0.81, MLP=0.72)``: the first must be above the second by more than that; below 0: must not be further below it."""

    def __call__(self, by: float, figure: str = "AUC", /, **two: float) -> None: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--worlds", type=int, default=1, help="mechanism worlds of so many times the rows, recorded and not judged")


def pytest_configure(config: pytest.Config) -> None:
    SIZE["times"] = config.getoption("worlds")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: were they last, one worker would wait for the other."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture
def beats(request: pytest.FixtureRequest) -> Beats:
    """Of an ``"error"`` less is better. What was compared is kept among the test's properties, whether it holds or not."""
    world = " ".join(request.node.originalname.split("_")[1:])
    chosen = getattr(request.node, "callspec", None)
    world += "".join(f", {name} = {value}" for name, value in chosen.params.items()) if chosen else ""
    begun = time.process_time()

    def judge(by: float, figure: str = "AUC", /, **two: float) -> None:
        nonlocal begun
        (model, ours), (plain, theirs) = ((name.replace("_", " "), float(value)) for name, value in two.items())
        margin = theirs - ours if figure == "error" else ours - theirs
        line = {"model": model, "world": world, **SIZE, "figure": figure, "plain": plain, "theirs": round(theirs, 4), "ours": round(ours, 4)}
        begun, before = time.process_time(), begun
        line |= {"margin": round(margin, 4), "stated": by, "cpu_seconds": round(begun - before, 2)}
        request.node.user_properties.append(("world", line))
        assert margin > by or SIZE["times"] > 1, f"{model} {ours:.4f}, {plain} {theirs:.4f}: {margin:+.4f}, not {by:+}"

    return judge
