from __future__ import annotations

import numpy as np
import pytest
from scipy.special import betaln

from palate.candidates import DAY
from palate.features.counters import Rate
from palate.features.prior import USUAL, beta_prior
from palate.state.rows import EventRows


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 8.0), (0.5, 9.5), (30.0, 30.0)])
def test_the_prior_that_made_the_counts_is_found(alpha, beta):
    rng = np.random.default_rng(1)
    trials = rng.integers(1, 80, 4000)
    hits = rng.binomial(trials, rng.beta(alpha, beta, 4000))
    share, weight = beta_prior(hits, trials)
    assert share == pytest.approx(alpha / (alpha + beta), rel=0.05)
    assert weight == pytest.approx(alpha + beta, rel=0.15)


def test_no_other_prior_is_more_likely():
    rng = np.random.default_rng(2)
    trials = rng.integers(1, 30, 300)
    hits = rng.binomial(trials, rng.beta(1.5, 4, 300))

    def likelihood(share, weight):
        a, b = share * weight, (1 - share) * weight
        return (betaln(hits + a, trials - hits + b) - betaln(a, b)).sum()

    share, weight = beta_prior(hits, trials)
    best = likelihood(share, weight)
    for other in np.linspace(0.05, 0.95, 19):
        for heavier in (0.5, 1, 2, 5, 10, 20, 50, 200):
            assert likelihood(other, heavier) <= best + 1e-6
    for factor in (0.97, 1.03):
        assert likelihood(share * factor, weight) < best
        assert likelihood(share, weight * factor) < best


def test_what_cannot_be_known_is_the_usual_weight():
    assert beta_prior(np.array([]), np.array([])) == (0.0, USUAL)
    assert beta_prior(np.array([0, 0]), np.array([0, 9])) == (0.0, USUAL)
    assert beta_prior(np.array([3, 4]), np.array([3, 4])) == (1.0, USUAL)
    assert beta_prior(np.array([0, 1, 1]), np.array([1, 1, 1])) == (2 / 3, USUAL)
    share, weight = beta_prior(np.array([5] * 50), np.array([10] * 50))
    assert share == pytest.approx(0.5)
    assert weight > 1e4, "no item differs from another: their own counts tell nothing"


def test_a_fitted_prior_predicts_better_than_a_given_one():
    """Rates of items are drawn from a narrow prior; the next events of each are told best by the rate smoothed as much as that."""
    rng = np.random.default_rng(0)
    rates = rng.beta(20, 80, 600)
    count = rng.integers(1, 40, 600)
    items = np.repeat(np.arange(600), count)
    like = rng.random(len(items)) < rates[items]
    rows = EventRows(
        np.zeros(len(items), np.int64),
        items,
        np.arange(len(items)),
        (1 | like << 1).astype(np.uint32),
        np.ones(len(items), np.float32),
        ("seen", "like"),
    )
    errors = {}
    for prior in ("fit", 0.0, 5.0, 1000.0):
        rate = Rate("item", "like", "seen", prior=prior)
        rate.fit(rows)
        ((share, weight),) = rate.priors
        smoothed = (np.bincount(items, like) + weight * share) / (count + weight)
        errors[prior] = ((smoothed - rates) ** 2).mean()
    assert min(errors, key=errors.get) == "fit", errors
    assert errors["fit"] < 0.8 * errors[0.0]


def test_each_window_has_a_prior_of_its_own():
    rng = np.random.default_rng(4)
    days = np.repeat(np.arange(60), 40)
    hot = np.where(days % 2 == 0, 0.8, 0.2)  # all items change from day to day, none differs over all time
    rows = EventRows(
        np.zeros(2400, np.int64),
        rng.integers(0, 4, 2400),
        days * DAY,
        (1 | (rng.random(2400) < hot).astype(np.uint32) << 1).astype(np.uint32),
        np.ones(2400, np.float32),
        ("seen", "like"),
    )
    rate = Rate("item", "like", "seen", (0, 1), prior="fit")
    rate.fit(rows)
    (ever, heavy), (daily, light) = rate.priors
    assert ever == pytest.approx(0.5, abs=0.05)
    assert daily == pytest.approx(0.5, abs=0.05)
    assert light < 10 < heavy
