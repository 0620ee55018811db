"""ALS: ratings factorized by least squares, users and items in turn; who rated more is regularized more.

Zhou, Wilkinson, Schreiber, Pan, "Large-Scale Parallel Collaborative Filtering for the Netflix Prize", AAIM 2008 (ALS-WR).
"""

from __future__ import annotations

from typing import Self

import numpy as np

from palate.datasets.interactions import Interactions
from palate.index.topk import plain
from palate.recall.factor.rated import Rated
from palate.recall.factor.solve import ridge


class ALS(Rated):
    """Minimises ``sum (r - x_u' y_i)^2 + regularization * (sum_u n_u |x_u|^2 + sum_i n_i |y_i|^2)`` over the ratings, n their number.

    As in the paper the first factor of an item starts at its mean rating, the others at small random numbers. A request is answered from its
    history alone: the user's vector is solved for with the item factors fixed, as in the fit. Items that nobody rated score 0.
    """

    def __init__(self, dim: int = 32, regularization: float = 0.1, iterations: int = 15, seed: int = 0) -> None:
        super().__init__(dim)
        if regularization <= 0 or iterations < 1:
            raise ValueError(f"regularization must be above 0 and iterations at least 1, not {regularization} and {iterations}")
        self.regularization, self.iterations, self.seed = float(regularization), iterations, seed

    def fit(self, interactions: Interactions) -> Self:
        self.observe(interactions.values)
        turned = interactions.by_item
        users, items = (
            (plain(side.offsets, np.int64), plain(side.items, np.int32), plain(side.values, np.float32)) for side in (interactions, turned)
        )
        x = np.zeros((interactions.n_users, self.dim), np.float32)
        y = np.random.default_rng(self.seed).random((interactions.n_items, self.dim), np.float32) * np.float32(0.1)
        counts = np.diff(turned.offsets)
        y[:, 0] = np.bincount(interactions.items, interactions.values, len(y)) / np.maximum(counts, 1)
        y[counts == 0] = 0
        for _ in range(self.iterations):
            ridge(*users, y, self.regularization, x)
            ridge(*items, x, self.regularization, y)
        ridge(*users, y, self.regularization, x)  # the users' vectors are those that a request would be given
        self.user_factors = x
        return self._set(y)
