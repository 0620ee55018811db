"""BiasSVD against its steps written out, its gradient by finite differences, and its users against ridge regressions."""

import numpy as np

from palate.recall.factor.biassvd import BiasSVD
from palate.recall.factor.mf import MF
from tests.recall.factor.steps import descended, error, ridged, split
from tests.recall.made import interactions, lists, random_matrix, request

R = random_matrix(20, 12, seed=1, ratings=True)[:, :11]


def test_epochs_are_their_steps_written_out():
    model = BiasSVD(4, 0.1, 0.05, epochs=2, seed=3).fit(interactions(R))
    generator, mean = np.random.default_rng(3), R[R > 0].mean()
    start = generator.normal(0, 0.1, (20, 4)), generator.normal(0, 0.1, (11, 4))
    p, q, b, c, _ = descended(R, start, mean, (0.1, 0.05), 0.05, generator)
    np.testing.assert_allclose(model.user_factors, np.column_stack((p, np.ones(20), mean + b)), atol=1e-4)
    np.testing.assert_allclose(model.items, np.column_stack((q, c, np.ones(11))), atol=1e-4)


def test_a_step_goes_down_the_gradient():
    """One rating, one epoch: what moved is the slope of half the objective."""
    one = np.zeros((2, 2))
    one[0, 0], one[1, 1] = 5.0, 1.0
    rate, shrink = 0.01, 0.3
    model = BiasSVD(3, rate, shrink, epochs=1).fit(interactions(one))
    generator = np.random.default_rng(0)
    p, q = generator.normal(0, 0.1, (2, 3))[0], generator.normal(0, 0.1, (2, 3))[0]
    parameters = np.concatenate((p, q, [0.0, 0.0]))

    def half(v):
        return ((5 - 3 - v[6] - v[7] - v[:3] @ v[3:6]) ** 2 + shrink * v @ v) / 2

    slopes = np.array([(half(parameters + h) - half(parameters - h)) / 2e-5 for h in 1e-5 * np.eye(8)])
    after = np.concatenate((model.user_factors[0, :3], model.items[0, :3], [model.user_factors[0, 4] - 3, model.items[0, 3]]))
    np.testing.assert_allclose(after - parameters, -rate * slopes, atol=1e-6)


def test_a_user_s_bias_and_factors_are_solved_for_from_the_history():
    model = BiasSVD(4, regularization=0.1).fit(interactions(R))
    asked = request([[2, 9, 4], []], values=[[1.0, 4.0, np.nan], []])
    mean, items = R[R > 0].mean(), model.items.astype(float)
    own = [2, 9, 4]
    left = np.array([1, 4, mean]) - mean - items[own, 4]
    solved = ridged(np.column_stack((items[own, :4], np.ones(3))), left, 0.1)
    expected = mean + solved[4] + items[:, 4] + items[:, :4] @ solved[:4]
    found = model.retrieve(asked, 11)
    np.testing.assert_allclose(found.scores[:11], np.sort(expected)[::-1], atol=1e-4)
    np.testing.assert_allclose(found.scores[11:], np.sort(mean + items[:, 4])[::-1], atol=1e-4)  # nothing known: by the items' biases


def test_where_there_are_only_biases_it_needs_fewer_ratings():
    random = np.random.default_rng(0)
    whole = 3.5 + random.normal(0, 0.7, (60, 1)) + random.normal(0, 0.7, (1, 40))
    seen = split(whole, 0.2, 1)
    data = interactions(np.where(seen, whole, 0))
    ours, plain = (error(cls(8, epochs=60).fit(data), whole, ~seen) for cls in (BiasSVD, MF))
    assert ours < 0.7 * plain < 0.15 * whole[~seen].std()


def test_saved_it_answers_a_stranger_and_has_no_users():
    model = BiasSVD(4).fit(interactions(R))
    again = BiasSVD(4).from_arrays(model.arrays())
    asked = request([[2, 9]], values=[[1.0, 4.0]])
    assert lists(again.retrieve(asked, 9)) == lists(model.retrieve(asked, 9))
    assert not len(again.user_factors)
