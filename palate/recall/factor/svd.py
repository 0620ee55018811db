"""SVD: the matrix of interactions, what is missing as zero, cut down to its largest singular values.

Sarwar, Karypis, Konstan, Riedl, "Application of Dimensionality Reduction in Recommender Systems", WebKDD 2000; as a recommender of top lists
(PureSVD): Cremonesi, Koren, Turrin, "Performance of Recommender Algorithms on Top-N Recommendation Tasks", RecSys 2010.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from palate.candidates import Floats, Request
from palate.datasets.interactions import Interactions
from palate.index.retrievers import ByVector
from palate.recall.factor.spectrum import right_vectors


class SVD(ByVector):
    """``R ~ U S Q'`` with the ``dim`` largest singular values; a user with the row r scores ``r Q Q'``, seen in the fit or not.

    ``dim`` must be well below R's rank: at the rank, ``r Q Q'`` is r itself and 0 for all else. A history's row has 1 for each item, or what
    the options of ``FromHistory`` make of it. A history without a known item gets no candidates.
    """

    def __init__(self, dim: int = 20, weighted: bool = False, half_life_days: float = 0.0, min_value: float | None = None) -> None:
        super().__init__(weighted, half_life_days, min_value)
        if dim < 1:
            raise ValueError(f"dim must be at least 1, not {dim}")
        self.dim = dim

    def fit(self, interactions: Interactions) -> Self:
        vectors = right_vectors(interactions.matrix, self.dim)
        items = np.zeros((interactions.n_items, self.dim), np.float32)
        items[:, : vectors.shape[1]] = vectors
        return self._set(items)

    def user_vectors(self, request: Request) -> Floats:
        """``r Q`` float32 ``[B, dim]``."""
        vectors: Floats = self.rows(request, len(self.items)) @ self.items
        return vectors
