"""BiasSVD: ratings as a mean, a bias of the user, one of the item, and the product of their factors.

Koren, Bell, Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer 2009, equations 4 and 5; Paterek, "Improving
regularized singular value decomposition for collaborative filtering", KDD Cup 2007.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from palate.candidates import Floats, Ints, Request
from palate.datasets.interactions import Interactions
from palate.recall.factor.descent import check, learn
from palate.recall.factor.rated import Rated
from palate.recall.factor.solve import ridge


class BiasSVD(Rated):
    """Minimises ``sum (r - mean - b_u - b_i - p_u' q_i)^2 + regularization (b_u^2 + b_i^2 + |p_u|^2 + |q_i|^2)`` by stochastic gradient descent.

    ``learning_rate`` falls linearly to 0 over the ``epochs``. A request is answered from its history alone: the user's bias and factors minimise the
    same objective with the items' fixed, a ridge regression; without a history items stand by their biases. An item nobody rated has none.
    """

    def __init__(self, dim: int = 64, learning_rate: float = 0.04, regularization: float = 0.07, epochs: int = 30, seed: int = 0) -> None:
        super().__init__(dim)
        check(epochs, learning_rate, regularization)
        self.learning_rate, self.regularization, self.epochs, self.seed = learning_rate, float(regularization), epochs, seed

    def width(self) -> int:
        return self.dim + 2

    def ways(self) -> Floats:
        return self.items[:, : self.dim]

    def fit(self, interactions: Interactions) -> Self:
        self.observe(interactions.values)
        generator, sizes = np.random.default_rng(self.seed), (interactions.n_users, interactions.n_items)
        p, q = (generator.normal(0, 0.1, (n, self.dim)).astype(np.float32) for n in sizes)
        biases = np.zeros(sizes[0], np.float32), np.zeros(sizes[1], np.float32)
        self._implicit = self.implicit_factors(sizes[1], generator)
        learn(interactions, self.mean, (p, q), biases, self._implicit, self.epochs, self.learning_rate, self.regularization, generator)
        q[np.bincount(interactions.items, minlength=len(q)) == 0] = 0
        self.user_factors = self._beside(p + self.implied(interactions.offsets, interactions.items), biases[0])
        return self._set(np.column_stack((q, biases[1], np.ones(len(q), np.float32))))

    def _set(self, items: Floats) -> Self:
        self._known = np.delete(items, self.dim, axis=1)  # what a user's factors and bias are multiplied with
        return super()._set(items)

    def _beside(self, factors: Floats, bias: Floats) -> Floats:
        """Users' vectors ``[factors, 1, mean + bias]``: times an item's ``[factors, bias, 1]`` they are the rating."""
        return np.column_stack((factors, np.ones(len(bias), np.float32), np.float32(self.mean) + bias))

    def implicit_factors(self, n_items: int, generator: np.random.Generator) -> Floats:
        """Where factors of what was rated at all start, float32 ``[I, dim]``: none here (SVD++ has them)."""
        return np.empty((0, self.dim), np.float32)

    def implied(self, offsets: Ints, items: Ints) -> Floats:
        """What those factors add to each user's, float32 ``[B, dim]``."""
        return np.zeros((len(offsets) - 1, self.dim), np.float32)

    def user_vectors(self, request: Request) -> Floats:
        """Each requester's vector float32 ``[B, dim + 2]``, solved for from the rated history."""
        implied = self.implied(*self.read(request, len(self.items))[:2])
        offsets, items, ratings = self.rated(request.histories, request.now)
        bases = np.column_stack((implied, np.ones(len(request), np.float32)))[np.repeat(np.arange(len(request)), np.diff(offsets))]
        left = ratings - np.float32(self.mean) - np.einsum("nd,nd->n", bases, self.items[items, : self.dim + 1])
        factors = np.empty((len(request), self.dim + 1), np.float32)
        ridge(offsets, items, left, self._known, self.regularization, factors)
        return self._beside(factors[:, :-1] + implied, factors[:, -1])
