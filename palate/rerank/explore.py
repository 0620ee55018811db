"""Explore: the last places of the page are drawn by chance, and how likely each draw was is logged with the item.

The places are filled one after another, each item with probability in proportion to its weight among those left: the Plackett-Luce
model (Plackett, 1975; Luce, 1959), drawn at once by sorting scores with Gumbel noise (Yellott, 1977). The logged propensity of an item
is the probability of this item at this place given what stands above it; the product over a page is the probability of the page.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Candidates, Request
from palate.rerank.attributes import page_length


class Explore:
    """Draws the last ``share`` of the page's places (rounded) among the next ``pool`` candidates (0: all).

    The log-weight of a candidate is its score, standardised over the candidates drawn from so that one ``temperature`` fits every ranker,
    over ``temperature``: lower is closer to the ranker's order. Pinned items (column ``pinned``) keep their places.
    Adds the column ``propensity``, float64: 1 where nothing was drawn. A request without ``rng`` is answered without chance.
    """

    def __init__(self, share: float = 0.2, temperature: float = 1.0, pool: int = 100) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share must lie between 0 and 1, not {share}")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        if pool < 0:
            raise ValueError(f"pool must not be negative, is {pool}")
        self.share, self.temperature, self.pool = share, temperature, pool

    def __call__(self, request: Request, candidates: Candidates) -> Candidates:
        order = np.arange(len(candidates.items))
        propensity = np.ones(len(candidates.items))
        if request.rng is not None and self.share > 0:
            k = page_length(request)
            pinned = candidates.columns.get("pinned", np.zeros(len(order), np.float32)) > 0
            for b in range(len(candidates)):
                start, end = int(candidates.offsets[b]), int(candidates.offsets[b + 1])
                page = min(k, end - start) if k > 0 else end - start
                head = start + page - self.places(page)
                slots = np.arange(head, end)[~pinned[head:end]]
                slots = slots[: self.pool] if self.pool else slots
                if head < start + page and len(slots):
                    drawn, chance = plackett_luce(self._weights(candidates.scores[slots]), request.rng)
                    order[slots], propensity[slots] = slots[drawn], chance
        return candidates.take(order).with_columns(propensity=propensity)

    def places(self, page: int) -> int:
        """How many places of a page of this length are drawn."""
        return int(np.floor(self.share * page + 0.5))

    def _weights(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-weights; a score that is not finite counts as the least."""
        scores = scores.astype(np.float64)
        good = np.isfinite(scores)
        scores = np.where(good, scores, scores[good].min() if good.any() else 0.0)
        scale = scores.std() * self.temperature
        return (scores - scores.mean()) / scale if scale > 1e-30 else np.zeros(len(scores))


def plackett_luce(weights: NDArray[np.float64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A permutation drawn by log-weights ``[n]``, and the probability of each of its places given those above, both ``[n]``."""
    order = np.argsort(-(weights + rng.gumbel(size=len(weights))), kind="stable")
    drawn = weights[order]
    left = np.logaddexp.accumulate(drawn[::-1])[::-1]  # log of the weight of all that are not yet placed
    return order, np.exp(drawn - left)
