"""Both loops against their steps written out, the step against its gradient, and the cut into sessions."""

from itertools import pairwise

import numpy as np
import pytest

from palate.candidates import Ragged
from palate.datasets.draws import thresholds
from palate.recall.embedding.skipgram import over_sessions, over_sets, pull
from palate.recall.embedding.together import HOUR, sessions
from tests.datasets.test_draws import Draws
from tests.recall.made import interactions

N, DIM, RATE = 9, 4, 0.2


class Naive:
    """The steps in doubles, with draws in whole numbers."""

    def __init__(self, weights, seed=5):
        random = np.random.default_rng(1)
        self.u, self.v = random.normal(0, 0.5, (2, N, DIM))
        self.draws, self.chances, self.alias = Draws(seed), *thresholds(weights)
        self.state, self.start = np.array([seed], np.uint64), (self.u.astype(np.float32), self.v.astype(np.float32))

    def wrong(self):
        place = self.draws(N)
        return place if self.draws(1 << 30) < self.chances[place] * (1 << 30) else self.alias[place]

    def step(self, own, item, together):
        """What it adds to the centre; the context moves at once."""
        step = RATE * (together - 1 / (1 + np.exp(-own @ self.v[item])))
        moved = step * self.v[item]
        self.v[item] = self.v[item] + step * own
        return moved


def test_a_step_goes_up_the_gradient():
    random = np.random.default_rng(0)
    own, other = random.normal(size=(2, 5))
    for together in (True, False):
        sign = 1 if together else -1
        gained, after = np.zeros(5, np.float32), other.astype(np.float32)
        pull(own.astype(np.float32), after, together, np.float32(0.1), gained)

        def gain(a, b, sign=sign):
            return -np.log1p(np.exp(-sign * a @ b))

        slopes = [
            [(gain(own + h, other) - gain(own - h, other)) / 2e-5, (gain(own, other + h) - gain(own, other - h)) / 2e-5] for h in 1e-5 * np.eye(5)
        ]
        np.testing.assert_allclose(np.column_stack((gained, after - other)), 0.1 * np.array(slopes), atol=1e-6)


@pytest.mark.parametrize("contexts", [0, 2])
def test_over_sets(contexts):
    sets, weights, kept = Ragged.of([[0, 3, 4, 5], [2], [8, 1, 7]]), np.arange(1.0, N + 1), np.linspace(0.5, 1, N)
    naive = Naive(weights)
    for row in (2, 1, 0):
        here = [int(item) for item in sets[row] if naive.draws(1 << 30) < kept[item] * (1 << 30)]
        for place, centre in enumerate(here):
            others = here[:place] + here[place + 1 :]
            own = naive.u[centre].copy()
            for c in range(min(contexts or len(others), len(others))):
                other = others[naive.draws(len(others)) if 0 < contexts < len(others) else c]
                moved = naive.step(own, other, 1)
                for _ in range(3):
                    wrong = naive.wrong()
                    if wrong != other:
                        moved += naive.step(own, wrong, 0)
                own += moved
            naive.u[centre] = own
    table = naive.chances, naive.alias, np.float32(RATE), naive.state
    over_sets(np.array([2, 1, 0]), sets.offsets, sets.values, kept, *naive.start, contexts, 3, *table)
    np.testing.assert_allclose(naive.start[0], naive.u, atol=1e-5)
    np.testing.assert_allclose(naive.start[1], naive.v, atol=1e-5)


def test_over_sessions():
    lists, weights = Ragged.of([[0, 3, 4, 5, 0], [2], [8, 1]]), np.arange(1.0, N + 1)
    bookings, markets = np.array([0, -1, 1]), np.array([0, 1, -1, 0, 0, 1, 1, 0, 0])
    members = Ragged.of([[0, 3, 4, 7, 8], [1, 5, 6]])
    naive = Naive(weights)
    for row in (0, 2, 1, 0):
        here = lists[row].tolist()
        for place, centre in enumerate(here if len(here) > 1 else []):
            own, moved = naive.u[centre].copy(), np.zeros(DIM)
            for at, other in enumerate(here):
                if at != place and abs(at - place) <= 2:
                    moved += naive.step(own, other, 1)
                    for _ in range(3):
                        wrong = naive.wrong()
                        if wrong != other:
                            moved += naive.step(own, wrong, 0)
            if bookings[row] not in (-1, centre):
                moved += naive.step(own, bookings[row], 1)
            for _ in range(2 if markets[centre] >= 0 else 0):
                wrong = members[markets[centre]][naive.draws(len(members[markets[centre]]))]
                if wrong != centre:
                    moved += naive.step(own, wrong, 0)
            naive.u[centre] = own + moved
    table = naive.chances, naive.alias, markets, members.offsets, members.values, 3, 2, np.float32(RATE), naive.state
    over_sessions(np.array([0, 2, 1, 0]), lists.offsets, lists.values, bookings, 2, *naive.start, *table)
    np.testing.assert_allclose(naive.start[0], naive.u, atol=1e-5)
    np.testing.assert_allclose(naive.start[1], naive.v, atol=1e-5)


def test_sessions_are_cut_at_long_pauses():
    dense, times = np.ones((2, 4)), np.array([[5.0, 1.0, 1.5, 9.0], [3.0, 3.0, 1.0, 2.0]]) * HOUR
    data = interactions(dense, times)
    for gap, expected in ((0.0, [[1, 2, 0, 3], [2, 3, 0, 1]]), (3.6, [[1, 2, 0], [3], [2, 3, 0, 1]]), (0.5, [[1, 2], [0], [3], [2], [3], [0, 1]])):
        offsets, order = sessions(data, gap)
        assert [data.items[order[start:stop]].tolist() for start, stop in pairwise(offsets)] == expected
