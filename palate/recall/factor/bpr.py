"""BPR: factors learned from pairs, what a user took against what not, by how they should be ordered.

Rendle, Freudenthaler, Gantner, Schmidt-Thieme, "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009 (BPR-MF, LearnBPR).
"""

from __future__ import annotations

from typing import Self

import numpy as np

from palate.candidates import Floats, Request
from palate.datasets.interactions import Interactions
from palate.index.retrievers import ByVector
from palate.index.topk import plain
from palate.recall.factor.pairwise import ascend, ascend_alone


class BPR(ByVector):
    """Maximises ``sum ln sigma(x_u' y_i - x_u' y_j) - regularization / 2 * (|x_u|^2 + |y_i|^2 + |y_j|^2)`` over taken pairs (u, i), j not taken by u.

    An epoch is as many steps as there are pairs, each on a pair and a negative drawn uniformly with replacement; ``learning_rate`` falls linearly
    to 0 over the ``epochs``. A request is answered from its history alone: the user's vector is learned from 0 by the same steps, ``passes`` for
    each history item, with the item factors fixed. The fitted user factors are kept in memory after ``fit`` for comparison, never used or
    saved. ``min_value``: history events below it do not count. A history without a known item gets no candidates. An item that nobody took was
    only ever the wrong answer: it stands low, and says little in a history.
    """

    def __init__(
        self,
        dim: int = 64,
        learning_rate: float = 0.1,
        regularization: float = 0.02,
        epochs: int = 80,
        passes: int = 20,
        min_value: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(min_value=min_value)
        if min(dim, epochs, passes) < 1:
            raise ValueError(f"dim, epochs and passes must be at least 1, not {dim}, {epochs}, {passes}")
        if learning_rate <= 0 or not 0 <= regularization * learning_rate < 1:
            raise ValueError(f"learning_rate must be above 0 and regularization between 0 and 1 / it, not {learning_rate} and {regularization}")
        self.dim, self.learning_rate, self.regularization, self.epochs = dim, learning_rate, regularization, epochs
        self.passes, self.seed = passes, seed
        self.user_factors: Floats = np.empty((0, dim), np.float32)

    def fit(self, interactions: Interactions) -> Self:
        generator = np.random.default_rng(self.seed)
        x, y = (generator.normal(0, 0.1, (n, self.dim)).astype(np.float32) for n in (interactions.n_users, interactions.n_items))
        users = np.repeat(np.arange(interactions.n_users, dtype=np.int32), np.diff(interactions.offsets))
        pairs = users, plain(interactions.offsets, np.int64), plain(interactions.items, np.int32)
        state, shrink = np.array([1 + generator.integers(2**62)], np.uint64), np.float32(self.regularization)
        for epoch in range(self.epochs if len(users) else 0):
            rate = np.float32(self.learning_rate * (1 - epoch / self.epochs))
            ascend(*pairs, x, y, rate, shrink, len(users), state)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise FloatingPointError("BPR did not stay finite: learning_rate is too large")
        self.user_factors = x
        return self._set(y if len(users) else np.zeros_like(y))

    def user_vectors(self, request: Request) -> Floats:
        """Each requester's vector float32 ``[B, dim]``, learned from the history; zero without a known item."""
        offsets, items, _ = self.read(request, len(self.items))
        vectors = np.zeros((len(request), self.dim), np.float32)
        shrink = np.float32(self.regularization)
        ascend_alone(offsets, plain(items, np.int32), vectors, self.items, float(self.learning_rate), shrink, self.passes)
        return vectors
