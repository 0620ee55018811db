"""The search engine, on functions whose best options are known: the same trials whatever stops it, and nothing lost on the way."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.training.trials import Log, Trial
from palate.training.tuning import Choice, Measured, Options, Plan, Pruned, Range, Search, Tell, best, hopeless
from palate.training.worker import Worker

SPACE = {"dim": Choice((4, 8, 16)), "rate": Range(0.001, 1.0, log=True), "layers": Range(1, 5, whole=True)}


def score(options: Options) -> float:
    """Best at dim 8, rate 0.1, 2 layers, where it is 0."""
    return -abs(options["dim"] - 8) / 8 - math.log10(options["rate"] / 0.1) ** 2 - 0.1 * (options["layers"] - 2) ** 2


def plain(options: Options, tell: Tell) -> Measured:
    return Measured(score(options), 0)


def run(plan: Plan, path: Path, objective: Callable[[Options, Tell], Measured] = plain, **options: Any) -> list[Trial]:
    log = Log(path, {"space": "this"})
    try:
        return Search(plan, lambda: objective, log, **options).run()
    finally:
        log.close()


def test_a_grid_is_every_combination_once_in_order(tmp_path: Path) -> None:
    space = {"a": Choice(("x", "y")), "b": Range(0.0, 1.0, points=3), "c": Range(1, 100, log=True, whole=True, points=3)}
    tried = run(Plan(space, "grid"), tmp_path / "t", lambda options, tell: Measured(options["b"], 0))
    assert [list(trial.options.values()) for trial in tried] == [[a, b, c] for a in "xy" for b in (0.0, 0.5, 1.0) for c in (1, 10, 100)]
    assert best(tried) is tried[6 - 0]  # of equal scores the first: x, 1.0, 1
    assert tried[6].options == {"a": "x", "b": 1.0, "c": 1}
    assert len(run(Plan(space, "grid", trials=4), tmp_path / "four", lambda options, tell: Measured(0.0, 0))) == 4


def test_random_numbers_fill_their_range_evenly_and_choices_are_not_repeated() -> None:
    drawn = [Plan(SPACE, "random", seed=3).options(n, []) for n in range(600)]
    rates = np.array([options["rate"] for options in drawn])
    assert ((rates >= 0.001) & (rates <= 1)).all()
    shares = np.histogram(np.log10(rates), bins=3, range=(-3, 0))[0] / 600
    assert (np.abs(shares - 1 / 3) < 0.07).all(), shares
    layers = np.bincount([options["layers"] for options in drawn], minlength=6)[1:] / 600
    assert (np.abs(layers - 0.2) < 0.06).all(), layers
    assert all(type(options["layers"]) is int for options in drawn)
    assert all(float(f"{rate:.4g}") == rate for rate in rates.tolist())
    few = Plan({"a": Choice((1, 2, 3)), "b": Choice((1, 2))}, "random", trials=50)
    assert few.count == 6
    assert len({tuple(few.options(n, []).values()) for n in range(6)}) == 6


def test_bayesian_search_comes_closer_than_chance_with_as_many_trials(tmp_path: Path) -> None:
    space = {"x": Range(-1.0, 1.0), "y": Range(-1.0, 1.0), "kind": Choice(([1], [2]))}

    def hill(options: Options, tell: Tell) -> Measured:
        return Measured(-((options["x"] - 0.3) ** 2) - (options["y"] + 0.6) ** 2 - 0.5 * (options["kind"] == [1]), 0)

    found = {}
    for method in ("random", "bayesian"):
        leaders = [best(run(Plan(space, method, 25, seed=seed), tmp_path / f"{method}{seed}", hill)) for seed in range(3)]  # type: ignore[arg-type]
        found[method] = np.mean([-(leader.score or 0) for leader in leaders if leader])
    assert found["bayesian"] < 0.7 * found["random"], found


def test_bayesian_search_does_not_try_the_same_twice_and_ends_when_all_was_tried(tmp_path: Path) -> None:
    tried = run(Plan({"a": Choice((1, 2, 3)), "b": Range(1, 3, whole=True)}, "bayesian", 12), tmp_path / "t", lambda o, tell: Measured(o["a"], 0))
    assert len({tuple(trial.options.values()) for trial in tried}) >= 8
    tried = run(Plan({"a": Choice((1, 2, 3))}, "bayesian", 12), tmp_path / "u", lambda o, tell: Measured(o["a"], 0))
    assert sorted(trial.options["a"] for trial in tried) == [1, 2, 3]


@pytest.mark.parametrize("method", ["grid", "random", "bayesian"])
def test_a_search_that_was_killed_gives_the_same_trials_as_one_that_was_not(tmp_path: Path, method: Any) -> None:
    plan = Plan(SPACE, method, 14, seed=1)

    def by_epoch(options: Options, tell: Tell) -> Measured:
        for epoch in range(1, 4):
            tell(score(options) * (1 + 1 / epoch))
        return Measured(score(options), 0)

    whole = run(plan, tmp_path / "whole", by_epoch)
    asked = []

    def killed(options: Options, tell: Tell) -> Measured:
        asked.append(options)
        if len(asked) in (4, 9):
            tell(-1.0)
            raise KeyboardInterrupt
        return by_epoch(options, tell)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "cut", killed)
        with (tmp_path / "cut").open("ab") as file:
            file.write(b'{"number": 3, "opt')  # what a kill in the middle of a line leaves
    resumed = run(plan, tmp_path / "cut", killed)
    assert len(asked) == 16
    assert asked[3] == asked[4]
    facts = [[(trial.number, trial.options, trial.state, trial.score, trial.scores) for trial in tried] for tried in (whole, resumed)]
    assert facts[0] == facts[1]
    assert {trial.state for trial in whole} == {"done", "pruned"}
    assert run(plan, tmp_path / "cut", killed) == resumed
    assert len(asked) == 16, "what is known is not tried again"
    assert len(run(Plan(SPACE, method, 16, seed=1), tmp_path / "cut", by_epoch)) == 16, "more trials than before go on from there"


def test_another_search_in_the_same_file_is_refused(tmp_path: Path) -> None:
    run(Plan(SPACE, "random", 2), tmp_path / "t")
    with pytest.raises(ValueError, match="another space: name another folder"):
        Log(tmp_path / "t", {"space": "that"})
    log = Log(tmp_path / "t", {"space": "this"})
    with pytest.raises(ValueError, match="another search is writing here"):
        Log(tmp_path / "t", {"space": "this"})
    log.close()
    (tmp_path / "t").write_text("no json\n")
    with pytest.raises(ValueError, match="cannot be read as the trials of a search"):
        Log(tmp_path / "t", {"space": "this"})


def test_the_rules_of_pruning() -> None:
    others = [[0.1, 0.2], [0.3, 0.1], [0.5], [0.4, 0.4]]
    assert hopeless([0.3], others, "median")  # the median of .1 .3 .4 .5 is .35
    assert not hopeless([0.36], others, "median")
    assert not hopeless([0.1], others[:3], "median"), "too few have come so far"
    assert not hopeless([0.1, 0.1], others, "median")
    fallen = [[0.6, 0.0], [0.6, 0.1], [0.6, 0.2], [0.6, 0.3]]
    assert not hopeless([0.1, 0.4], fallen, "median"), "their means so far are .3 to .45, and their median .375"
    assert hopeless([0.1, 0.37], fallen, "median")
    assert not hopeless([0.55], [*others, [0.6]], "halving")  # six at the first rung: the best two go on
    assert hopeless([0.4], [*others, [0.6]], "halving")
    assert not hopeless([0.1, 0.0], others, "halving"), "the second epoch is no rung"
    assert not hopeless([0.0], [], "halving")
    assert not hopeless([0.0], others, "none")


@pytest.mark.parametrize("pruning", ["median", "halving"])
def test_what_falls_behind_is_ended_early_and_named_and_the_best_is_found_all_the_same(tmp_path: Path, pruning: Any) -> None:
    epochs = 0

    def slow(options: Options, tell: Tell) -> Measured:
        nonlocal epochs
        for epoch in range(1, 10):
            epochs += 1
            tell(options["x"] * epoch)
        return Measured(options["x"] * 9, 0)

    plan = Plan({"x": Choice(tuple(np.random.default_rng(0).permutation(30).tolist()))}, "grid", pruning=pruning)
    tried = run(plan, tmp_path / "t", slow)
    leader = best(tried)
    assert leader is not None
    assert leader.options == {"x": 29}
    pruned = [trial for trial in tried if trial.state == "pruned"]
    assert len(pruned) >= 10
    assert all(trial.note == f"behind the others after epoch {len(trial.scores)}" and trial.score is None for trial in pruned)
    assert epochs < 0.7 * 30 * 9
    assert all(trial.state == "done" for trial in run(Plan(plan.space, "grid", pruning="none"), tmp_path / "all", slow))


def test_options_that_do_not_work_are_named_and_the_search_goes_on(tmp_path: Path) -> None:
    said: list[str] = []

    def picky(options: Options, tell: Tell) -> Measured:
        if options["a"] == 2:
            raise ValueError("a must not be 2")
        if options["a"] == 3:
            return Measured(float("nan"), 0)
        if options["a"] == 4:
            tell(float("nan"))
        return Measured(options["a"], 0)

    def report(trial: Trial, leader: Trial | None, left: float) -> None:
        said.append(f"{trial.options['a']} {trial.state} {leader.options['a'] if leader else None} {left >= 0}")

    tried = run(Plan({"a": Choice((2, 1, 3, 4))}, "grid"), tmp_path / "t", picky, report=report)
    assert said == ["2 failed None True", "1 done 1 True", "3 failed 1 True", "4 done 4 True"]
    assert [trial.note for trial in tried] == ["ValueError: a must not be 2", "", "its score is not a number", ""]
    for line in (tmp_path / "t").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    with pytest.raises(KeyError):  # a mistake of ours is no property of the options
        run(Plan({"b": Choice((1,))}, "grid"), tmp_path / "u", picky)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Plan({}), "nothing to search"),
        (lambda: Plan(SPACE, "magic"), "method must be one of grid, random, bayesian, not 'magic'"),  # type: ignore[arg-type]
        (lambda: Plan(SPACE, pruning="luck"), "pruning must be one of"),  # type: ignore[arg-type]
        (lambda: Plan(SPACE, trials=-1), "trials must be 0 or more"),
        (lambda: Range(2, 1), "low must be below high"),
        (lambda: Range(0, 1, log=True), "low must be above 0 where log = true"),
        (lambda: Range(0, 1, points=1), "points must be at least 2"),
        (lambda: Choice(()), "at least one value"),
    ],
)
def test_what_cannot_be_searched_is_refused(made: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()


# ── trials in processes of their own ──

CHILD = """
    import os, sys, time
    from palate.training.worker import Measured, Pruned, serve

    def make(first):
        if first == "broken":
            raise OSError("no data")
        folder = first
        def objective(options, tell):
            print("talk")  # no answer
            a = options["a"]
            mark = os.path.join(folder, f"died{a}")
            if a == 3 and not os.path.exists(mark) or a == 5:
                open(mark, "w").close()
                os.kill(os.getpid(), 9)
            if a == 4:
                raise ValueError("not 4")
            if a == 6:
                raise KeyError("ours")
            for epoch in range(1, 3):
                tell(a * epoch)
            return Measured(2 * a, 1000)
        return objective

    serve(make)
"""


def apart(tmp_path: Path, values: tuple[int, ...], jobs: int, first: str = "", room: float = math.inf) -> tuple[list[Trial], int]:
    """The trials, and how many processes there were."""
    workers: list[Worker] = []

    def make() -> Worker:
        workers.append(Worker([sys.executable, "-c", textwrap.dedent(CHILD)], first or str(tmp_path)))
        return workers[-1]

    log = Log(tmp_path / "t", {})
    try:
        plan = Plan({"a": Choice(values)}, "grid", pruning="none")
        return Search(plan, make, log, jobs=jobs, room=room).run(), len(workers)
    finally:
        for worker in workers:
            worker.close()
        log.close()


def test_processes_try_the_same_as_one_and_one_that_is_killed_loses_no_trial(tmp_path: Path) -> None:
    tried, workers = apart(tmp_path, (1, 2, 3, 4, 5, 7), 2)
    assert [(trial.options["a"], trial.state, trial.score) for trial in tried] == [
        (1, "done", 2),
        (2, "done", 4),
        (3, "done", 6),  # killed once
        (4, "failed", None),
        (5, "failed", None),
        (7, "done", 14),
    ]
    assert tried[3].note == "Failed: ValueError: not 4"
    assert tried[4].note.startswith("killed twice: the process of the trial ended by itself, with code -9")
    assert tried[5].scores == [7, 14]
    assert {trial.memory for trial in tried if trial.state == "done"} == {1000}
    assert 3 <= workers <= 5


def test_no_more_processes_than_memory_has_room_for(tmp_path: Path) -> None:
    assert apart(tmp_path, (1, 2, 7, 8), 4, room=1999)[1] == 1


@pytest.mark.parametrize(("values", "first", "message"), [((1, 6), "", "KeyError: 'ours'"), ((1, 2), "broken", "OSError: no data")])
def test_what_is_no_fault_of_the_options_ends_the_search(tmp_path: Path, values: tuple[int, ...], first: str, message: str) -> None:
    with pytest.raises(ChildProcessError, match=message):
        apart(tmp_path, values, 2, first)


def test_a_worker_is_told_to_stop(tmp_path: Path) -> None:
    worker = Worker([sys.executable, "-c", textwrap.dedent(CHILD)], str(tmp_path))

    def never(score: float) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        worker({"a": 1}, never)
    assert worker({"a": 2}, lambda score: None) == (4, 1000), "and answers the next"
    worker.close()
