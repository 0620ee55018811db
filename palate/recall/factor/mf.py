"""MF: ratings as inner products of user and item factors, learned rating by rating.

Funk, "Netflix Update: Try This at Home", 2006, all factors at once as in Koren, Bell, Volinsky, "Matrix Factorization Techniques for
Recommender Systems", IEEE Computer 2009, equations 1 and 2.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from palate.datasets.interactions import Interactions
from palate.recall.factor.descent import check, learn
from palate.recall.factor.rated import Rated


class MF(Rated):
    """Minimises ``sum (r - p_u' q_i)^2 + regularization (|p_u|^2 + |q_i|^2)`` over the ratings by stochastic gradient descent, no biases.

    Factors start so that every product is near the mean rating; ``learning_rate`` falls linearly to 0 over the ``epochs``. A request is answered
    from its history alone: the user's factors minimise the same objective with the items' fixed, a ridge regression. Items that nobody rated
    score 0.
    """

    def __init__(self, dim: int = 32, learning_rate: float = 0.04, regularization: float = 0.08, epochs: int = 30, seed: int = 0) -> None:
        super().__init__(dim)
        check(epochs, learning_rate, regularization)
        self.learning_rate, self.regularization, self.epochs, self.seed = learning_rate, float(regularization), epochs, seed

    def fit(self, interactions: Interactions) -> Self:
        self.observe(interactions.values)
        generator, level = np.random.default_rng(self.seed), np.sqrt(abs(self.mean) / self.dim)
        p = generator.normal(level, 0.1, (interactions.n_users, self.dim)).astype(np.float32)
        q = generator.normal(np.copysign(level, self.mean), 0.1, (interactions.n_items, self.dim)).astype(np.float32)
        none = np.zeros(interactions.n_users, np.float32), np.zeros(interactions.n_items, np.float32)
        nothing = np.empty((0, self.dim), np.float32)
        learn(interactions, 0.0, (p, q), none, nothing, self.epochs, self.learning_rate, self.regularization, generator, biased=False)
        q[np.bincount(interactions.items, minlength=len(q)) == 0] = 0
        self.user_factors = p
        return self._set(q)
