"""GFCF against its two filters written out with dense matrices."""

import numpy as np
import pytest
from scipy.linalg import expm

from palate.recall.factor.gfcf import GFCF
from tests.recall.made import checkerboard, interactions, lists, random_matrix, request

R = random_matrix(40, 25, seed=1, ratings=True)[:, :24]


def filters(r, dim):
    """The linear and the ideal filter of the paper's section 4, each ``[I, I]``, from the graph's Laplacian."""
    users, items = np.diag(r.sum(1) ** -0.5), np.diag(r.sum(0) ** -0.5)
    smooth = (users @ r @ items).T @ (users @ r @ items)
    frequencies, waves = np.linalg.eigh(np.eye(r.shape[1]) - smooth)
    low = waves[:, np.argsort(frequencies)[:dim]]
    return smooth, items @ low @ low.T @ np.linalg.inv(items)


def test_scores_are_both_filters_applied():
    model = GFCF(5, 0.7, weighted=True, half_life_days=10).fit(interactions(R))
    x = np.zeros((2, 24))
    x[0, [2, 9]] = 5.0, 2.0
    x[1, 3] = 4.0
    found = model.retrieve(request([[2, 9], [3], []], values=[[5.0, 4.0], [4.0], []], ages=[[0.0, 10.0], [0.0], []]), 24)
    smooth, ideal = filters(R, 5)
    expected = x @ (smooth + 0.7 * ideal)
    assert np.diff(found.offsets).tolist() == [24, 24, 0]
    for b in range(2):
        span = slice(24 * b, 24 * b + 24)
        np.testing.assert_allclose(found.scores[span], expected[b][found.items[span]], atol=1e-5)
        assert (np.diff(found.scores[span]) <= 0).all()


@pytest.mark.parametrize("time", [0.5, 2.5, 20.0])
def test_sharpening_is_the_exponential_of_the_graph(time):
    model = GFCF(5, 0.7, time).fit(interactions(R))
    smooth, ideal = filters(R, 5)
    expected = (smooth + 0.7 * ideal)[[2, 9]].sum(0) @ expm(-time * smooth)
    found = model.retrieve(request([[2, 9]]), 24)
    np.testing.assert_allclose(found.scores, expected[found.items], atol=2e-3)
    assert np.abs(found.scores - (smooth + 0.7 * ideal)[[2, 9]].sum(0)[found.items]).max() > 0.05


def test_without_alpha_it_is_the_linear_filter():
    rows, scores = GFCF(5, 0.0).fit(interactions(R)).similar(4, 23)
    smooth, _ = filters(R, 5)
    np.testing.assert_allclose(scores, smooth[4][rows], atol=1e-6)
    assert 4 not in rows


def test_the_ideal_filter_passes_the_smoothest_signal_whole():
    model = GFCF(1, 1.0).fit(interactions(R))
    signal = np.sqrt(R.sum(0))  # D^1/2 times the first wave, which is D^1/2 1
    low = model._vectors.astype(float)
    np.testing.assert_allclose(low @ (low.T @ signal), signal, rtol=1e-4)


def test_a_history_of_what_nobody_took_gets_nothing():
    model = GFCF(5, weighted=True).fit(interactions(np.column_stack((R, np.zeros(40)))))
    found = model.retrieve(request([[24], [24, 3], [3, 4]], values=[[1.0], [1.0, 1.0], [2.0, -2.0]]), 5)
    assert np.diff(found.offsets).tolist() == [0, 5, 5]
    assert len(model.similar(24, 5)[0]) == 0


def test_checkerboard():
    board = checkerboard()
    histories = [np.flatnonzero(row) for row in board]
    assert lists(GFCF(2).fit(interactions(board)).retrieve(request(histories, histories), 1)) == [[u] for u in range(len(board))]


@pytest.mark.parametrize("options", [{"dim": 0}, {"alpha": -0.1}, {"sharpen": -1.0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        GFCF(**options)


def test_refuses_what_is_no_graph():
    with pytest.raises(ValueError, match="below 0"):
        GFCF().fit(interactions(-R))
    arrays = GFCF(3).fit(interactions(R)).arrays()
    for change in ({"items": arrays["items"] + 1}, {"vectors": arrays["vectors"][1:]}):
        with pytest.raises(ValueError):
            GFCF().from_arrays(arrays | change)
