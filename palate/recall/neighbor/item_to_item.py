"""What ItemCF and Swing share: lists of neighbours of items, and how a history is answered from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from scipy.sparse import csr_matrix

from palate.candidates import Candidates, Floats, Grounds, Ints, Request
from palate.index.retrievers import FromHistory, strongest
from palate.index.topk import NO_BASE, Doubles, Table, flat
from palate.recall.neighbor.similarity import Sparse


class ItemToItem(FromHistory):
    """``score(u, s) = sum over s' in the history of sim(s, s') * r(u, s')``; ``fit`` is up to the model.

    ``keep`` says whose ``neighbors`` best are kept: each ``target``'s (the candidate's) or each ``source``'s (the history item's; it bounds
    the work of a request in a large catalogue). The other options, which make r, as in ``FromHistory``. An empty or unknown history gets no
    candidates.
    """

    def __init__(
        self, neighbors: int, keep: Literal["target", "source"], weighted: bool, half_life_days: float, min_value: float | None, threads: int
    ) -> None:
        if min(neighbors, threads) < 1:
            raise ValueError(f"neighbors and threads must be at least 1, not {neighbors} and {threads}")
        super().__init__(weighted, half_life_days, min_value)
        self.neighbors, self.keep, self.threads = neighbors, keep, threads
        self.report: dict[str, int] = {}  #: what the caps left of the interactions
        self._sources: Sparse | None = None
        self._own: Sparse | None = None
        self._table: Table

    def _found(self, lists: Sparse, shares: Doubles = NO_BASE) -> Self:
        """Take each item's own list of neighbours; where there are ``shares [I]``, scores are of what differs from them, and they are added."""
        sources = lists if self.keep == "source" else lists.transposed()
        return self._set(sources, shares - sources.combined(shares) if len(shares) else NO_BASE)

    def _set(self, sources: Sparse, base: Doubles) -> Self:
        self._sources, self._own = sources, None
        self._table = sources.table(base)
        return self

    @property
    def sources(self) -> Sparse:
        """Row s' holds the items s that it speaks for, with ``sim(s, s')``."""
        if self._sources is None:
            raise RuntimeError(f"this {type(self).__name__} is not fitted")
        return self._sources

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        based = {"base": self._table.base} if len(self._table.base) else {}
        return {"offsets": self.sources.offsets, "items": self.sources.columns, "similarities": self.sources.values, **based}

    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        n, base = len(arrays["offsets"]) - 1, flat(arrays.get("base", NO_BASE), np.float64)
        if len(base) not in (0, n):
            raise ValueError(f"a base of {len(base)} items does not fit {n}")
        return self._set(Sparse.saved(arrays["offsets"], arrays["items"], arrays["similarities"], n), base)

    def retrieve(self, request: Request, k: int) -> Candidates:
        query = self.read(request, self.sources.width)
        return self._table.best(*query, k, request.exclude)

    def grounds(self, request: Request, candidates: Candidates) -> Grounds:
        """The item of the history that gives most to a candidate's score, and what it gives."""
        sources = self.sources
        given = csr_matrix((sources.values, sources.columns, sources.offsets), shape=(len(sources), sources.width))
        return strongest(self.read(request, sources.width), candidates, sources.width, lambda own, rows: np.asarray(given[own, rows]).ravel())

    def similar(self, item: int, k: int) -> tuple[Ints, Floats]:
        """The item's own nearest, best first: int64 rows and similarities; nothing for an item it was not fitted on."""
        if not 0 <= item < self.sources.width or k <= 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        if self._own is None:
            self._own = self.sources if self.keep == "source" else self.sources.transposed()
        own = slice(self._own.offsets[item], self._own.offsets[item + 1])
        rows, sims = self._own.columns[own].astype(np.int64), self._own.values[own]
        order = np.lexsort((rows, -sims))[:k]
        return rows[order], sims[order]
