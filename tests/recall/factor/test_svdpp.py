"""SVD++ against the paper's steps written out, and where choosing an item says more than its rating."""

import numpy as np
import pytest

from palate.recall.factor.biassvd import BiasSVD
from palate.recall.factor.svdpp import SVDpp
from tests.recall.factor.steps import descended, error, ridged
from tests.recall.made import interactions, random_matrix, request

R = random_matrix(20, 12, seed=1, ratings=True)[:, :11]


def test_epochs_are_the_paper_s_steps_written_out():
    model = SVDpp(4, 0.1, 0.05, epochs=2, seed=3).fit(interactions(R))
    generator, mean = np.random.default_rng(3), R[R > 0].mean()
    start = generator.normal(0, 0.1, (20, 4)), generator.normal(0, 0.1, (11, 4))
    implicit = generator.normal(0, 0.1, (11, 4))
    p, q, b, c, y = descended(R, start, mean, (0.1, 0.05), 0.05, generator, implicit=implicit)
    z = (R > 0) @ y / np.sqrt(np.maximum((R > 0).sum(1), 1))[:, None]
    np.testing.assert_allclose(model.arrays()["implicit"], y, atol=1e-4)
    np.testing.assert_allclose(model.user_factors, np.column_stack((p + z, np.ones(20), mean + b)), atol=1e-4)
    np.testing.assert_allclose(model.items, np.column_stack((q, c, np.ones(11))), atol=1e-4)


def test_a_stranger_is_what_the_history_implies_and_its_ratings_add():
    model = SVDpp(4, regularization=0.1).fit(interactions(R))
    mean, items, y = R[R > 0].mean(), model.items.astype(float), model.arrays()["implicit"].astype(float)
    z = y[[2, 9, 4]].sum(0) / np.sqrt(3)
    vectors = model.user_vectors(request([[2, 9, 4]] * 2, values=[[np.nan] * 3, [1.0, np.nan, 4.0]]))
    np.testing.assert_allclose(vectors[0], [*z, 1, mean], atol=1e-5)
    own = [2, 4]
    left = np.array([1.0, 4.0]) - mean - items[own, 4] - items[own, :4] @ z
    solved = ridged(np.column_stack((items[own, :4], np.ones(2))), left, 0.1)
    np.testing.assert_allclose(vectors[1], [*(z + solved[:4]), 1, mean + solved[4]], atol=1e-4)


def world(telling, seed=0, users=400):
    """Two tastes. Films 0 to 29 are rated alike by all, but if it is ``telling`` each taste picks its five from its own half of them.

    Films 30 to 59 please one taste each; of these a user has rated two, with noise. Held out, without noise, are the others of them.
    """
    random = np.random.default_rng(seed)
    taste, kind = random.integers(0, 2, users), np.arange(30) % 2
    whole = np.hstack((np.full((users, 30), 3.0), np.where(taste[:, None] == kind, 4.0, 2.0)))
    seen = np.zeros(whole.shape, bool)
    for user in range(users):
        seen[user, random.choice(15, 5, replace=False) + 15 * taste[user] if telling else random.choice(30, 5, replace=False)] = True
        seen[user, 30 + random.choice(30, 2, replace=False)] = True
    rest = ~seen
    rest[:, :30] = False
    return np.where(seen, (whole + random.normal(0, 1, whole.shape)).clip(0.5, 6), 0), whole, rest


@pytest.mark.parametrize(("telling", "margin"), [(True, -0.2), (False, 0.03)])
def test_it_reads_what_was_chosen(telling, margin):
    r, whole, rest = world(telling)
    data = interactions(r)
    with_choices, without = (error(cls(8, 0.1, 0.2, 60).fit(data), whole, rest) for cls in (SVDpp, BiasSVD))
    assert with_choices < without + margin


def test_saved_implicit_factors_must_fit():
    arrays = SVDpp(4).fit(interactions(R)).arrays()
    with pytest.raises(ValueError, match="implicit"):
        SVDpp(4).from_arrays(arrays | {"implicit": arrays["implicit"][1:]})
