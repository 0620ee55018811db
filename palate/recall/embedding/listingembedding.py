"""ListingEmbedding: skip-grams of click sessions in which the booked item is everybody's context, and wrong answers come from the same market too.

Grbovic, Cheng, "Real-time Personalization using Embeddings for Search Ranking at Airbnb", KDD 2018, section 3.1.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from palate.candidates import Ints, offsets_of
from palate.datasets.draws import thresholds
from palate.datasets.interactions import Interactions
from palate.recall.embedding.skipgram import over_sessions
from palate.recall.embedding.together import Together, sessions
from palate.schema import nearest
from palate.state.catalogue import Catalogue


class ListingEmbedding(Together):
    """Each item of a session against those up to ``window`` places away, and against ``negatives`` drawn by count ^ ``power`` (equations 3 to 5).

    A session is a user's history in order of time, or with ``gap_hours`` (half an hour in the paper) what was taken without a longer pause; an item
    stands where the user took it last. ``booked``: a signal; who booked an item in a session makes it the context of all others there, however
    far, and such sessions come ``oversample`` times. ``market``: an attribute; ``market_negatives`` more are drawn uniformly from the centre's own
    market. "": without. An item's vector is that of the centre; answers and the other options as in ``Together``.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        dim: int = 32,
        popularity: float = 0.0,
        window: int = 5,
        negatives: int = 5,
        power: float = 0.75,
        booked: str = "",
        oversample: int = 5,
        market: str = "",
        market_negatives: int = 5,
        gap_hours: float = 0.0,
        epochs: int = 20,
        learning_rate: float = 0.05,
        weighted: bool = False,
        half_life_days: float = 0.0,
        min_value: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(dim, popularity, epochs, learning_rate, weighted, half_life_days, min_value)
        if min(window, negatives, oversample, market_negatives) < 1 or gap_hours < 0:
            raise ValueError(
                "window, negatives, oversample and market_negatives must be at least 1 and gap_hours not below 0, "
                f"not {window}, {negatives}, {oversample}, {market_negatives} and {gap_hours}"
            )
        if market and len(catalogue) and market not in catalogue.attribute_names:
            raise ValueError(f"the catalogue of {catalogue.name} has no attribute {market!r}{nearest(market, catalogue.attribute_names)}")
        self.catalogue, self.window, self.negatives, self.power, self.seed = catalogue, window, negatives, power, seed
        self.booked, self.oversample, self.market, self.market_negatives, self.gap_hours = booked, oversample, market, market_negatives, gap_hours

    def fit(self, interactions: Interactions) -> Self:
        generator = np.random.default_rng(self.seed)
        counts = np.bincount(interactions.items, minlength=interactions.n_items)
        u, v = self.start(counts, generator)
        if len(interactions):
            offsets, order = sessions(interactions, self.gap_hours)
            items = interactions.items[order]
            bookings = self._bookings(interactions, offsets, order)
            turns = np.repeat(np.arange(len(bookings)), np.where(bookings >= 0, self.oversample, 1))
            weights = np.zeros(len(counts))
            weights[counts > 0] = counts[counts > 0] ** self.power
            drawing = *thresholds(weights), *self._markets(counts), self.negatives, self.market_negatives
            state = np.array([1 + generator.integers(2**62)], np.uint64)
            for epoch in range(self.epochs):
                rate = np.float32(self.learning_rate * (1 - epoch / self.epochs))
                over_sessions(generator.permutation(turns), offsets, items, bookings, self.window, u, v, *drawing, rate, state)
        return self.finish(u, counts)

    def _bookings(self, interactions: Interactions, offsets: Ints, order: Ints) -> Ints:
        """The item booked last in each session, -1 for none, int64 ``[S]``."""
        found = np.full(len(offsets) - 1, -1)
        if self.booked:
            places = np.flatnonzero(interactions.showing(self.booked)[order])
            found[np.searchsorted(offsets, places, side="right") - 1] = interactions.items[order[places]]  # of several, the last one stays
        return found

    def _markets(self, counts: Ints) -> tuple[Ints, Ints, Ints]:
        """Each item's market int64 ``[I]`` (-1: none), and the taken items of each market as ragged rows."""
        markets, n = np.full(len(counts), -1), min(len(counts), len(self.catalogue))
        known: dict[Any, int] = {}
        for row, value in enumerate(self.catalogue.column(self.market)[:n] if self.market else ()):
            first = value[0] if isinstance(value, list) and value else value
            if counts[row] and first is not None and first != []:
                markets[row] = known.setdefault(first, len(known))
        taken = np.flatnonzero(markets >= 0)
        return markets, offsets_of(np.bincount(markets[taken], minlength=len(known))), taken[np.argsort(markets[taken], kind="stable")]
