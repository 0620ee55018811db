"""Bags and the regression of users' vectors on histories, against dense algebra."""

import numpy as np
import torch

from palate.layers.bags import bag, distinct, shared
from palate.layers.folding import folded
from tests.recall.made import interactions, random_matrix

R = random_matrix(30, 12, seed=5)


def test_it_is_ridge_regression():
    targets = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    x = R / np.sqrt(np.maximum(R.sum(1, keepdims=True), 1))
    expected = np.linalg.solve(x.T @ x + 0.3 * np.eye(12), x.T @ targets)
    np.testing.assert_allclose(folded(interactions(R), torch.from_numpy(targets), 0.3).numpy(), expected, atol=1e-4)


def test_a_bag_is_a_product_with_ones():
    matrix = torch.randn(6, 3, requires_grad=True)
    ids = torch.tensor([[0, 2, 6], [0, 0, 0], [1, 2, 3]])
    x = torch.zeros(3, 6)
    for row, column, size in ((0, 2, 2), (0, 6, 2), (2, 1, 3), (2, 2, 3), (2, 3, 3)):
        x[row, column - 1] = size**-0.5
    found = bag(matrix, ids, shared(ids))
    assert torch.allclose(found, x @ matrix, atol=1e-6)
    found.square().sum().backward()
    expected = 2 * x.T @ (x @ matrix.detach())
    assert torch.allclose(matrix.grad, expected, atol=1e-5)


def test_distinct_keeps_each_once():
    assert [sorted(row) for row in distinct(torch.tensor([[3, 0, 3, 1], [2, 2, 2, 2]])).tolist()] == [[0, 0, 1, 3], [0, 0, 0, 2]]
