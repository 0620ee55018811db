"""SVD against the dense decomposition."""

import numpy as np
import pytest

from palate.recall.factor.spectrum import right_vectors
from palate.recall.factor.svd import SVD
from tests.recall.made import checkerboard, interactions, lists, random_matrix, request

R = random_matrix(40, 25, seed=1, ratings=True)


def projector(matrix, rank):
    vectors = np.linalg.svd(matrix, full_matrices=False)[2][:rank]
    return vectors.T @ vectors


@pytest.mark.parametrize("dim", [1, 5, 23, 24, 40])
def test_scores_are_the_projection_on_the_leading_vectors(dim):
    model = SVD(dim, weighted=True).fit(interactions(R))
    x = np.zeros(25)
    x[[2, 9]] = 5.0, 3.0
    found = model.retrieve(request([[2, 9]], values=[[5.0, 3.0]]), 25)
    np.testing.assert_allclose(found.scores, (x @ projector(R, dim))[found.items], atol=1e-4)
    assert (np.diff(found.scores) <= 0).all()


def test_no_other_matrix_of_the_rank_is_nearer():
    q = SVD(6).fit(interactions(R)).items.astype(float)
    u, s, v = np.linalg.svd(R, full_matrices=False)
    best = np.linalg.norm(R - (u[:, :6] * s[:6]) @ v[:6])
    assert np.linalg.norm(R - R @ q @ q.T) == pytest.approx(best, rel=1e-5)
    np.testing.assert_allclose(q.T @ q, np.eye(6), atol=1e-5)


def test_vectors_stand_largest_first_and_point_one_way():
    vectors = right_vectors(interactions(R).matrix, 5).astype(float)
    sizes = np.linalg.norm(R @ vectors, axis=0)
    np.testing.assert_allclose(sizes, np.linalg.svd(R)[1][:5], rtol=1e-5)
    assert (vectors[np.abs(vectors).argmax(0), np.arange(5)] > 0).all()


def test_a_matrix_of_lower_rank_has_no_more_vectors():
    assert right_vectors(interactions(np.outer(np.ones(30), np.arange(20.0))).matrix, 5).shape == (20, 1)
    assert right_vectors(interactions(np.zeros((3, 4))).matrix, 5).shape == (4, 0)
    assert SVD(5).fit(interactions(checkerboard())).items.shape == (12, 5)


@pytest.mark.parametrize("turned", [False, True])
def test_of_few_items_or_few_users_all_vectors_come_without_a_dense_matrix(turned, monkeypatch):
    dense = R.T if turned else R
    matrix = interactions(dense).matrix

    def refuse(*_):
        raise AssertionError("the whole matrix was made dense")

    monkeypatch.setattr(matrix, "toarray", refuse)
    monkeypatch.setattr(np.linalg, "svd", refuse)
    vectors = right_vectors(matrix, 40).astype(float)
    monkeypatch.undo()
    assert vectors.shape == (dense.shape[1], 24)  # nobody took the last item
    np.testing.assert_allclose(np.linalg.norm(dense @ vectors, axis=0), np.linalg.svd(dense)[1][:24], rtol=1e-5)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(24), atol=1e-5)


def test_checkerboard():
    board = checkerboard()
    histories = [np.flatnonzero(row) for row in board]
    assert lists(SVD(2).fit(interactions(board)).retrieve(request(histories, histories), 1)) == [[u] for u in range(len(board))]


def test_refuses():
    with pytest.raises(ValueError, match="dim"):
        SVD(0)
