"""What models of ratings share: a history is read with its values, and a score is the rating that is expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from palate.candidates import Floats, Histories, Ints, Request
from palate.index.retrievers import ByVector
from palate.index.topk import distinct, flat, plain
from palate.recall.factor.solve import ridge


class Rated(ByVector):
    """Fitted on the values of interactions (``Interactions.of(..., weighted=True)``). An event of a history that has no value counts as ``mean``,
    that of all ratings. The fitted users' vectors are kept in memory after ``fit`` for ``ratings``, never used in answers, or saved.
    """

    explicit: ClassVar[bool] = True
    mean: float = 0.0
    regularization: float
    user_factors: Floats
    _range: tuple[float, float]

    def __init__(self, dim: int) -> None:
        super().__init__(weighted=True)
        if dim < 1:
            raise ValueError(f"dim must be at least 1, not {dim}")
        self.dim = dim
        self.user_factors = np.empty((0, self.width()), np.float32)

    def observe(self, values: Floats) -> None:
        """Take mean and range of the ratings that are fitted."""
        self.mean = float(values.mean(dtype=np.float64)) if len(values) else 0.0
        self._range = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)

    def ratings(self, users: Ints, items: Ints) -> Floats:
        """What these users of the fit would give to these items, float32 ``[N]``, within the range of the ratings fitted on."""
        if not len(self.user_factors):
            raise RuntimeError(f"this {type(self).__name__} has no fitted users: they are not saved")
        found: Floats = np.einsum("nd,nd->n", self.user_factors[users], self.items[items])
        return found.clip(*self._range)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return super().arrays() | {"mean": np.array([self.mean], np.float32)}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        self.mean = float(flat(arrays["mean"], np.float32)[0])
        return super().from_arrays(arrays)

    def user_vectors(self, request: Request) -> Floats:
        """Each requester's vector float32 ``[B, dim]``, solved for from the rated history with the items' fixed; zero without a known item."""
        vectors = np.zeros((len(request), self.dim), np.float32)
        ridge(*self.rated(request.histories, request.now), self.items, self.regularization, vectors)
        return vectors

    def rated(self, histories: Histories, now: Ints) -> tuple[Ints, Any, Floats]:
        """Each one's known items once with the last rating: offsets, items int32 and ratings."""
        values = np.where(np.isnan(histories.values), np.float32(self.mean), histories.values)
        filled = Histories(histories.items, histories.times, histories.signals, values, histories.offsets)
        offsets, items, ratings = distinct(filled, now, len(self.items), weighted=True)
        return offsets, plain(items, np.int32), plain(ratings, np.float32)
