"""MF against its steps written out, and its users against ridge regressions."""

import numpy as np
import pytest

from palate.recall.factor.mf import MF
from tests.recall.factor.steps import descended, error, ridged, split
from tests.recall.made import interactions, lists, random_matrix, request

R = random_matrix(20, 12, seed=1, ratings=True)[:, :11]


def test_epochs_are_their_steps_written_out():
    model = MF(4, 0.1, 0.05, epochs=2, seed=3).fit(interactions(R))
    generator, level = np.random.default_rng(3), np.sqrt(R[R > 0].mean() / 4)
    start = generator.normal(level, 0.1, (20, 4)), generator.normal(level, 0.1, (11, 4))
    p, q, *_ = descended(R, start, 0, (0.1, 0.05), 0.05, generator, biased=False)
    np.testing.assert_allclose(model.user_factors, p, atol=1e-4)
    np.testing.assert_allclose(model.items, q, atol=1e-4)


def test_a_user_is_solved_for_from_the_history():
    model = MF(4).fit(interactions(R))
    asked = request([[2, 9, 4], [], [3]], values=[[1.0, 4.0, np.nan], [], [2.0]])
    vectors = model.user_vectors(asked)
    q = model.items.astype(float)
    np.testing.assert_allclose(vectors[0], ridged(q[[2, 9, 4]], np.array([1, 4, R[R > 0].mean()]), 0.08), atol=1e-4)
    np.testing.assert_allclose(vectors[2], ridged(q[[3]], np.array([2.0]), 0.08), atol=1e-4)
    assert [len(one) for one in lists(model.retrieve(asked, 25))] == [11, 0, 11]


def test_a_matrix_of_low_rank_comes_back():
    random = np.random.default_rng(0)
    whole = 3 + random.normal(0, 0.7, (80, 2)) @ random.normal(0, 0.7, (2, 50))
    seen = split(whole, 0.4, 1)
    assert error(MF(4, 0.1, 0.005, 300).fit(interactions(np.where(seen, whole, 0))), whole, ~seen) < 0.25 * whole[~seen].std()


def test_steps_that_are_too_large_are_said():
    with pytest.raises(FloatingPointError, match="learning_rate"), np.errstate(all="ignore"):
        MF(4, 9.0, 0.05).fit(interactions(R))


@pytest.mark.parametrize("options", [{"dim": 0}, {"learning_rate": 0.0}, {"regularization": 0.0}, {"epochs": 0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MF(**options)
