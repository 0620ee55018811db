"""What Explore logs is how often it happens."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from palate.candidates import Candidates
from palate.rerank.explore import Explore, plackett_luce
from tests.rerank.test_mmr import request
from tests.rerank.test_rules import line

DRAWS = 10_000


def pages(step: Explore, offered: Candidates, k: int, seed: int = 0) -> Candidates:
    """The same list offered to 10,000 requests at once."""
    n = len(offered.items)
    many = Candidates(np.tile(offered.items, DRAWS), np.tile(offered.scores, DRAWS), np.arange(DRAWS + 1) * n)
    return step(request(DRAWS, k=k, rng=np.random.default_rng(seed)), many)


def test_logged_propensities_agree_with_draws() -> None:
    offered = Candidates(np.arange(8), np.array([5, 4, 3, 2.5, 2, 1, 0.5, 0], np.float32), np.array([0, 8]))
    step = Explore(share=0.4, temperature=0.8, pool=4)  # page of 5: 3 fixed places, 2 drawn among items 3, 4, 5, 6
    found = pages(step, offered, k=5)
    items = found.items.reshape(DRAWS, 8)
    logged = found.columns["propensity"].reshape(DRAWS, 8)
    assert (items[:, :3] == [0, 1, 2]).all()
    assert (logged[:, :3] == 1).all()
    assert (items[:, 7] == 7).all()
    assert (logged[:, 7] == 1).all()

    chance = {tuple(pair): p for pair, p in zip(items[:, 3:5].tolist(), logged[:, 3:5].prod(1), strict=True)}
    assert set(chance) == set(permutations([3, 4, 5, 6], 2))
    assert sum(chance.values()) == pytest.approx(1.0)  # the propensities of all possible pages sum to one
    seen = Counter(map(tuple, items[:, 3:5].tolist()))
    counted, expected = zip(*((seen[pair], p * DRAWS) for pair, p in chance.items()), strict=True)
    assert stats.chisquare(counted, expected).pvalue > 0.001

    for place in (3, 4, 5):  # 1 / propensity is unbiased for every item at every place
        for item in (3, 4, 5, 6):
            there = items[:, place] == item
            allowed = ~(items[:, 3:place] == item).any(1)
            estimate = np.where(there, 1 / logged[:, place], 0.0)
            assert estimate.mean() == pytest.approx(allowed.mean(), abs=4 * estimate.std() / np.sqrt(DRAWS) + 1e-9)


def test_first_drawn_place_has_softmax_probabilities() -> None:
    weights = np.array([1.0, 0.0, -1.0])
    right = np.exp(weights) / np.exp(weights).sum()
    rng = np.random.default_rng(1)
    first = np.zeros(3)
    for _ in range(DRAWS):
        order, chance = plackett_luce(weights, rng)
        assert chance[0] == pytest.approx(right[order[0]])
        assert chance[-1] == pytest.approx(1.0)
        first[order[0]] += 1
    assert stats.chisquare(first, right * DRAWS).pvalue > 0.001


def test_extreme_weights_stay_finite() -> None:
    order, chance = plackett_luce(np.array([-800.0, 900.0, 0.0]), np.random.default_rng(0))
    assert order.tolist() == [1, 2, 0]
    assert np.allclose(chance, 1.0)


def test_share_is_kept_and_temperature_matters() -> None:
    offered = line(40)
    for k, share, drawn in ((10, 0.2, 2), (10, 0.0, 0), (5, 0.5, 3), (10, 1.0, 10), (60, 0.1, 4)):
        found = Explore(share=share)(request(1, k=k, rng=np.random.default_rng(3)), offered)
        fixed = min(k, 40) - drawn
        assert found.items[:fixed].tolist() == list(range(fixed))
        assert (found.columns["propensity"][:fixed] == 1).all()
        assert (found.columns["propensity"][fixed : min(k, 39)] < 1).all()
        assert sorted(found.items.tolist()) == list(range(40))
    low, high = (pages(Explore(0.3, temperature=t, pool=0), offered, 10).items.reshape(-1, 40)[:, 7:10].mean() for t in (0.2, 2.0))
    assert low < high - 2


def test_without_chance_nothing_moves() -> None:
    found = Explore(share=0.5)(request(1, k=10), line(20))
    assert found.items.tolist() == list(range(20))
    assert (found.columns["propensity"] == 1).all()


def test_seed_decides_and_pinned_items_stay() -> None:
    pinned = np.zeros(20, np.float32)
    pinned[8] = 1
    offered = line(20).with_columns(pinned=pinned)
    step = Explore(share=0.5)
    one, two, other = (step(request(1, k=10, rng=np.random.default_rng(seed)), offered) for seed in (1, 1, 2))
    assert one.items.tolist() == two.items.tolist() != other.items.tolist()
    assert one.items[8] == other.items[8] == 8
    assert one.columns["propensity"][8] == 1.0


def test_hostile_lists() -> None:
    scores = np.array([np.nan, np.inf, -np.inf, 1, 2], np.float32)
    found = Explore(share=1.0)(request(1, rng=np.random.default_rng(0)), Candidates(np.arange(5), scores, np.array([0, 5])))
    assert np.isfinite(found.columns["propensity"]).all()
    assert len(Explore()(request(2, k=5, rng=np.random.default_rng(0)), Candidates.empty(2)).items) == 0
    equal = Explore(share=1.0)(request(1, rng=np.random.default_rng(0)), Candidates(np.arange(4), np.ones(4, np.float32), np.array([0, 4])))
    assert equal.columns["propensity"] == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1])
    for options, text in (({"share": 2.0}, "share"), ({"temperature": 0.0}, "temperature"), ({"pool": -1}, "pool")):
        with pytest.raises(ValueError, match=text):
            Explore(**options)  # type: ignore[arg-type]
