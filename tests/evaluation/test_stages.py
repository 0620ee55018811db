"""The table of stages equals counting by hand, and the ranker's figures those of the metric functions."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from palate.candidates import Candidates, Ragged, Request, offsets_of
from palate.evaluation import offline
from palate.evaluation.judged import BEFORE, FINAL
from palate.evaluation.metrics import rating
from palate.evaluation.stages import Lists, Measured, Observed, measure, observer
from palate.evaluation.tasks import task_figures
from palate.funnel.filters import Exclude
from palate.funnel.funnel import Funnel, Route, Trace
from palate.state.past import Past
from tests.evaluation.test_offline import CUT, chance

N_ITEMS = 80
QUOTAS = {"low": 20, "mixed": 15}


def noise(request: Request, salt: int) -> np.ndarray:
    """A number for each user and item that does not depend on the batch."""
    return np.stack([np.random.default_rng((int(user), salt)).random(N_ITEMS) for user in request.users])


def toy(request: Request, k: int) -> Observed:
    """Two routes, a filter of odd multiples of 7, a pre-rank that keeps 12, a ranker of two tasks, a re-rank that swaps the first two."""
    assert request.exclude is not None
    mixed = noise(request, 1)
    items, columns, sizes = [], {"low.rank": [], "mixed.rank": []}, []
    for b in range(len(request)):
        free = np.setdiff1d(np.arange(N_ITEMS), request.exclude[b])
        lists = {"low": free[: QUOTAS["low"]], "mixed": free[np.argsort(-mixed[b, free])][: QUOTAS["mixed"]]}
        union = np.unique(np.concatenate(list(lists.values())))
        items.append(union)
        sizes.append(len(union))
        for name, own in lists.items():
            place = {item: rank for rank, item in enumerate(own)}
            columns[f"{name}.rank"].append(np.array([place.get(item, np.nan) for item in union], np.float32))
    flat = np.concatenate(items)
    merged = Candidates(flat, np.ones(len(flat), np.float32), offsets_of(sizes), {name: np.concatenate(parts) for name, parts in columns.items()})
    filtered = merged.take(merged.items % 14 != 7)
    taken = noise(request, 2)[filtered.requests, filtered.items].astype(np.float32)
    liked = noise(request, 3)[filtered.requests, filtered.items].astype(np.float32)
    unpruned = filtered.rescored(taken * liked, choose=taken, like=liked)
    preranked = filtered.rescored(taken).top(12)
    ranked = unpruned.take(np.isin(unpruned.requests * N_ITEMS + unpruned.items, preranked.requests * N_ITEMS + preranked.items))
    order = np.arange(len(ranked.items))
    for start in ranked.offsets[:-1]:
        order[start : start + 2] = [start + 1, start]
    return Observed(merged, ranked.take(order).top(k), filtered, preranked, ranked, unpruned)


@pytest.fixture(scope="module")
def measured() -> Measured:
    rows = chance(N_ITEMS)
    past, asked = Past(rows, 30, N_ITEMS), offline.warm(rows, CUT, "taken")
    tasks = {"choose": ("taken", ""), "like": ("like", "taken")}
    lists = Lists(N_ITEMS, np.bincount(rows.items, minlength=N_ITEMS), 30, sets=Ragged.of([[item % 5] for item in range(N_ITEMS)]))
    baselines = {"popular": lambda request, k: toy(request, k).merged.top(k)}
    return measure(toy, past, asked, QUOTAS, (5, 10), tasks=tasks, tops=(5,), baselines=baselines, lists=lists, replicates=20, chunk=7)


def test_shares_by_hand(measured: Measured) -> None:
    asked = measured.questions
    past = Past(chance(N_ITEMS), 30, N_ITEMS)
    for n in range(len(asked)):
        seen = toy(past.request(asked.users[n : n + 1], asked.now[n : n + 1]), 10)
        right = set(asked.relevant[n].tolist())

        def share(items: np.ndarray, right: set[int] = right) -> float:
            return len(right & set(items.tolist())) / len(right)

        low, mixed = (seen.merged.items[~np.isnan(seen.merged.columns[f"{name}.rank"])] for name in QUOTAS)
        shares = measured.shares
        assert shares["recall of low"][n] == pytest.approx(share(low))
        assert shares["recall of mixed"][n] == pytest.approx(share(mixed))
        assert shares["only mixed"][n] == pytest.approx(share(np.setdiff1d(mixed, low)))
        assert shares["recall of merged"][n] == pytest.approx(share(seen.merged.items))
        assert seen.filtered is not None
        assert seen.preranked is not None
        assert seen.unpruned is not None
        assert shares["recall of filtered"][n] == pytest.approx(share(seen.filtered.items))
        assert shares["recall of pre-ranked"][n] == pytest.approx(share(seen.preranked.items))
        assert shares["recall of final"][n] == pytest.approx(share(seen.final.items))
        if share(seen.filtered.items):
            assert shares["survival"][n] == pytest.approx(share(seen.preranked.items) / share(seen.filtered.items))
        else:
            assert np.isnan(shares["survival"][n])
        top = set(seen.unpruned.items[:5].tolist())
        assert shares["ranker's top 5"][n] == pytest.approx(len(top & set(seen.preranked.items.tolist())) / 5)
        assert measured.systems[FINAL].items[n].tolist() == seen.final.items.tolist()
        first = seen.filtered.items[np.argsort(seen.filtered.columns["mixed.rank"], kind="stable")][:10]
        assert measured.systems["mixed"].items[n].tolist() == first.tolist()
        assert measured.systems["before re-rank"].items[n, :2].tolist() == measured.systems[FINAL].items[n, 1::-1].tolist()


def test_tasks_are_labelled_by_what_came_later(measured: Measured) -> None:
    labels, predictions, users = measured.tasks["choose"]
    asked = measured.questions
    assert len(labels) == 12 * len(asked)
    assert set(np.unique(labels)) == {0.0, 1.0}
    assert labels.sum() == pytest.approx((measured.shares["recall of pre-ranked"] * np.diff(asked.relevant.offsets)).sum())
    liked = measured.tasks["like"][0]
    assert len(liked) == labels.sum()  # given taken
    figures = task_figures("choose", labels, predictions, users, replicates=200)
    assert figures["auc"]["value"] == pytest.approx(rating.auc(labels, predictions))
    assert figures["grouped_auc"]["value"] == pytest.approx(rating.grouped_auc(labels, predictions, users))
    assert figures["log_loss"]["value"] == pytest.approx(rating.log_loss(labels, predictions))
    assert figures["calibration_error"]["value"] == pytest.approx(rating.calibration_error(labels, predictions))
    assert figures["calibration_ratio"]["value"] == pytest.approx(rating.calibration_ratio(labels, predictions))
    for name in ("auc", "grouped_auc", "log_loss", "calibration_ratio", "calibration_error"):
        assert figures[name]["low"] < figures[name]["value"] < figures[name]["high"], name


def test_figures_are_plain_json(measured: Measured) -> None:
    figures = measured.figures(replicates=50)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert [stage["name"] for stage in figures["stages"]] == ["low", "mixed", "merged", "filtered", "pre-ranked", "final"]
    assert figures["stages"][0]["quota"] == 20
    assert figures["stages"][4]["size"] == 12
    assert [system["system"] for system in figures["systems"]] == [FINAL, "before re-rank", "low", "mixed", "popular"]
    assert {row["against"] for row in figures["comparisons"]} == {"before re-rank", "low", "mixed", "popular"}
    assert {"coverage@10", "novelty@5", "diversity@10", "gini@5"} <= set(figures["systems"][0]["metrics"])
    assert figures["ranker_top"][0]["k"] == 5


def test_a_funnel_of_recall_only() -> None:
    rows = chance(N_ITEMS)
    past, asked = Past(rows, 30, N_ITEMS), offline.warm(rows, CUT, "taken")

    def plain(request: Request, k: int) -> Observed:
        seen = toy(request, k)
        return replace(seen, filtered=None, preranked=None, ranked=None, unpruned=None, final=seen.merged.top(k))

    found = measure(plain, past, asked, QUOTAS, (5,), tasks={"choose": ("taken", "")})
    assert list(found.systems) == [FINAL, "low", "mixed"]
    assert found.figures(replicates=20)["survival"] is None
    assert found.tasks == {}
    empty = measure(plain, past, asked.take(np.empty(0, np.int64)), QUOTAS, (5,))
    assert empty.figures(replicates=5)["questions"] == 0


def test_taken_names_and_unknown_signals_are_errors() -> None:
    rows = chance(N_ITEMS)
    past, asked = Past(rows, 30, N_ITEMS), offline.warm(rows, CUT, "taken")
    with pytest.raises(ValueError, match="'final' is taken"):
        measure(toy, past, asked, {"final": 3})
    with pytest.raises(ValueError, match="no signal 'love'"):
        measure(toy, past, asked, QUOTAS, tasks={"love": ("love", "")})


class _Fixed:
    """A route that gives its users the same numbers each time, and none of what is excluded."""

    def __init__(self, salt: int) -> None:
        self.salt = salt

    def retrieve(self, request: Request, k: int) -> Candidates:
        scores = noise(request, self.salt)
        lists = [np.setdiff1d(np.arange(N_ITEMS), request.exclude[b] if request.exclude else []) for b in range(len(request))]
        lists = [items[np.argsort(-scores[b, items])][:k] for b, items in enumerate(lists)]
        flat = np.concatenate(lists)
        requests = np.repeat(np.arange(len(request)), [len(one) for one in lists])
        return Candidates(flat, scores[requests, flat].astype(np.float32), offsets_of([len(one) for one in lists]))


def _score(request: Request, candidates: Candidates) -> Candidates:
    taken = noise(request, 2)[candidates.requests, candidates.items].astype(np.float32)
    return candidates.rescored(taken, choose=taken)


def _keep(request: Request, candidates: Candidates) -> Candidates:
    return candidates.rescored(noise(request, 4)[candidates.requests, candidates.items].astype(np.float32)).top(12)


def test_a_real_funnel_is_observed() -> None:
    rows = chance(N_ITEMS)
    past, asked = Past(rows, 30, N_ITEMS), offline.warm(rows, CUT, "taken")
    routes = [Route("one", _Fixed(1), 20), Route("two", _Fixed(3), 15)]
    funnel = Funnel(routes, filters=[Exclude()], prerank=_keep, rank=_score)
    seen = measure(
        observer(funnel.recommend, Trace, _score), past, asked, {"one": 20, "two": 15}, (5, 10), tasks={"choose": ("taken", "")}, tops=(5,)
    )
    assert list(seen.sizes) == ["one", "two", "merged", "filtered", "pre-ranked", "final"]
    assert (seen.sizes["one"], seen.sizes["two"], seen.sizes["pre-ranked"], seen.sizes["final"]) == (20, 15, 12, 10)
    direct = offline.evaluate(lambda request, k: funnel.recommend(request, k), past, asked, (5, 10))
    assert np.array_equal(seen.systems[FINAL].items, direct.items)
    alone = offline.evaluate(lambda request, k: _Fixed(1).retrieve(request, 20), past, asked, (5, 10))
    assert np.array_equal(seen.systems["one"].items, alone.items)
    assert len(seen.tasks["choose"][0]) == 12 * len(asked)
    assert np.nanmean(seen.shares["ranker's top 5"]) < 1
    assert seen.degraded == {}


def test_a_failing_stage_is_told() -> None:
    def broken(request: Request, candidates: Candidates) -> Candidates:
        raise RuntimeError("no")

    rows = chance(N_ITEMS)
    past, asked = Past(rows, 30, N_ITEMS), offline.warm(rows, CUT, "taken")
    funnel = Funnel([Route("one", _Fixed(1), 20)], rank=broken)
    found = measure(observer(funnel.recommend, Trace), past, asked, {"one": 20}, (5,), chunk=10)
    assert found.figures(replicates=10)["degraded"] == {"rank: error": -(-len(asked) // 10)}
    assert BEFORE not in found.systems
