"""Intervals hold what they promise; tests find differences that exist and only those."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from palate.evaluation.metrics import statistics


def test_interval_agrees_with_the_normal_one() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=800)
    found = statistics.bootstrap_mean(values, replicates=4000)
    error = values.std() / math.sqrt(800)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert found.users == 800
    assert found == statistics.bootstrap_mean(values, replicates=4000)
    assert found.low != statistics.bootstrap_mean(values, replicates=4000, seed=1).low


def test_coverage_of_the_interval() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for trial in range(200):
        found = statistics.bootstrap_mean(rng.normal(5, 2, 60), replicates=300, seed=trial)
        inside += found.low <= 5 <= found.high
    assert 0.88 <= inside / 200 <= 0.99


def test_users_are_drawn_not_rows() -> None:
    users = np.repeat(np.arange(50), 20)
    values = np.repeat(np.random.default_rng(1).normal(size=50), 20)  # all rows of a user are the same
    by_user = statistics.bootstrap_mean(values, users)
    by_row = statistics.bootstrap_mean(values)
    assert by_user.users == 50
    assert (by_user.high - by_user.low) > 3 * (by_row.high - by_row.low)


def test_nan_is_left_out_and_nothing_gives_nan() -> None:
    values = np.array([1.0, np.nan, 3.0])
    assert statistics.bootstrap_mean(values).value == 2.0
    assert statistics.bootstrap_mean(values).users == 2
    assert math.isnan(statistics.bootstrap_mean(np.array([np.nan])).value)
    assert math.isnan(statistics.paired(np.array([np.nan]), np.array([1.0])).p_bootstrap)


def test_ratio() -> None:
    above, below = np.array([1.0, 3.0, 2.0]), np.array([2.0, 4.0, 2.0])
    found = statistics.bootstrap_ratio(above, below)
    assert found.value == pytest.approx(6 / 8)
    assert 0.5 <= found.low <= 6 / 8 <= found.high <= 1.0


def test_draws_hold_as_many_as_there_are_users() -> None:
    blocks = list(statistics.draws(7, 30, seed=0))
    assert sum(len(block) for block in blocks) == 30
    assert all((block.sum(1) == 7).all() for block in blocks)


def test_centred_interval_holds_the_value() -> None:
    shown = np.random.default_rng(0).random((300, 80)) < 0.01  # which items each user's list shows

    def share(totals: np.ndarray) -> np.ndarray:
        return (totals > 0).mean(1)

    plain = statistics.bootstrap(shown.astype(float), share)
    centred = statistics.bootstrap(shown.astype(float), share, centred=True)
    assert plain.high < plain.value  # a redraw of users always shows less of the catalogue
    assert centred.low < centred.value < centred.high


def test_paired_finds_a_difference_and_agrees_with_the_t_test() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=400) * 5  # what the two systems share
    a, b = hard + rng.normal(0.15, 1, 400), hard + rng.normal(0, 1, 400)
    found = statistics.paired(a, b, replicates=5000)
    right = stats.ttest_rel(a, b).pvalue
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.p_permutation == pytest.approx(right, rel=0.35, abs=0.004)
    assert found.p_bootstrap == pytest.approx(right, rel=0.5, abs=0.006)
    assert (found.low > 0) == (found.p_bootstrap < 0.05)
    turned = statistics.paired(b, a, replicates=5000)
    assert (turned.difference, turned.low, turned.high) == pytest.approx((-found.difference, -found.high, -found.low))


def test_equal_systems_are_not_told_apart() -> None:
    same = np.random.default_rng(0).random(50)
    found = statistics.paired(same, same)
    assert (found.difference, found.p_bootstrap, found.p_permutation) == (0.0, 1.0, 1.0)
    rng = np.random.default_rng(5)
    false = sum(statistics.paired(rng.random(40), rng.random(40), replicates=300).p_permutation < 0.05 for _ in range(200))
    assert false <= 22  # 10 expected


def test_different_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="same questions"):
        statistics.paired(np.ones(3), np.ones(4))
