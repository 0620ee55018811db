"""Measures of lists against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from palate.candidates import Ragged
from palate.evaluation.metrics import lists

ITEMS = np.array([[0, 1, 2], [0, 3, -1], [-1, -1, -1]])


def test_coverage_and_exposure() -> None:
    assert lists.exposure(ITEMS, 6).tolist() == [2, 1, 1, 1, 0, 0]
    assert lists.coverage(ITEMS, 6) == pytest.approx(4 / 6)
    with pytest.raises(ValueError, match="item 3"):
        lists.coverage(ITEMS, 3)


def test_gini() -> None:
    assert lists.gini_of(np.array([5, 5, 5, 5])) == pytest.approx(0.0)
    assert lists.gini_of(np.array([0, 0, 0, 9])) == pytest.approx(3 / 4)
    counts = np.array([2, 1, 1, 1, 0, 0])  # mean absolute difference over twice the mean
    direct = np.abs(counts[:, None] - counts[None]).mean() / (2 * counts.mean())
    assert lists.gini(ITEMS, 6) == pytest.approx(direct)
    assert lists.gini_of(np.stack([counts, counts * 3])) == pytest.approx([direct, direct])
    assert math.isnan(lists.gini(ITEMS[2:], 6))


def test_novelty() -> None:
    values = lists.novelty(ITEMS, np.array([8, 4, 2, 0, 1, 1]), n_users=8)
    assert values[:2] == pytest.approx([(0 + 1 + 2) / 3, (0 + 3) / 2])
    assert math.isnan(values[2])


def test_popularity() -> None:
    counts = np.array([10, 20, 30, 2, 0, 0])
    assert lists.popularity(ITEMS, counts)[:2] == pytest.approx([20, 6])
    lift = lists.popularity_lift(ITEMS, Ragged.of([[0], [1, 0], [0]]), counts)
    assert lift[:2] == pytest.approx([(20 - 10) / 10, (6 - 15) / 15])
    assert math.isnan(lift[2])
    assert lists.long_tail(ITEMS, counts, head=1 / 3)[:2] == pytest.approx([1 / 3, 1.0])  # items 2 and 1 are the head


def test_diversity_of_vectors() -> None:
    vectors = np.array([[1, 0], [0, 2], [1, 1], [0, 0]], float)
    half = 1 / math.sqrt(2)
    assert lists.diversity(ITEMS, vectors=vectors)[:2] == pytest.approx([1 - (0 + half + half) / 3, 1.0])
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)
    matrix = np.pad(unit @ unit.T, 0)
    np.testing.assert_allclose(lists.diversity(ITEMS, similarity=matrix)[0], lists.diversity(ITEMS, vectors=vectors)[0], atol=1e-12)


def test_diversity_of_sets() -> None:
    sets = Ragged.of([[0, 1], [1], [2], []])
    assert lists.diversity(ITEMS, sets=sets)[:2] == pytest.approx([1 - (1 / 2 + 0 + 0) / 3, 1.0])
    assert math.isnan(lists.diversity(ITEMS, sets=sets)[2])
    np.testing.assert_array_equal(lists.diversity(ITEMS, sets=sets, chunk=1), lists.diversity(ITEMS, sets=sets))
    with pytest.raises(ValueError, match="exactly one"):
        lists.diversity(ITEMS)
