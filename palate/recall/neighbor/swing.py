"""Swing: two items go together when pairs of users took both, and the more so the less else those two users share.

Yang, Wang, Li, Chen, Xu, "Large Scale Product Graph Construction for Recommendation in E-commerce", arXiv 2010.05525, 2020.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Ints
from palate.datasets.interactions import Interactions
from palate.index.topk import NOTHING, Keys, pack, workspace
from palate.recall.neighbor.item_to_item import ItemToItem
from palate.recall.neighbor.similarity import CHUNK, Doubles, Sparse, gathered, latest, push

Columns = NDArray[np.int32]


@njit(cache=True, nogil=True)
def _swing(
    members_of: Ints,
    members: Columns,
    items_of: Ints,
    items: Columns,
    weights: Doubles,
    alpha: float,
    start: int,
    stop: int,
    stamps: Ints,
    sums: Doubles,
    marks: NDArray[np.int8],
    touched: Ints,
    keys: Keys,
) -> None:
    common = np.empty(len(stamps), np.int64)
    cell = np.empty(1, np.float32)
    bits = cell.view(np.uint32)
    stamp = 0
    for row in range(start, stop):
        seen = 0
        first, last = members_of[row], members_of[row + 1]
        for a in range(first, last - 1):
            u = members[a]
            stamp += 1
            for e in range(items_of[u], items_of[u + 1]):
                stamps[items[e]] = stamp
            for b in range(a + 1, last):
                v = members[b]
                shared = 0
                for e in range(items_of[v], items_of[v + 1]):
                    common[shared] = items[e]
                    shared += stamps[items[e]] == stamp
                share = weights[u] * weights[v] / (alpha + shared)
                for e in range(shared):
                    item = common[e]
                    if marks[item] == 0:
                        marks[item] = 1
                        touched[seen] = item
                        seen += 1
                    sums[item] += share
        heap = keys[row - start]
        kept = 0
        for t in range(seen):
            item = touched[t]
            if item != row:
                key = pack(sums[item], item, cell, bits)
                if kept < len(heap) or key < heap[0]:
                    kept = push(heap, kept, key)
            sums[item] = 0.0
            marks[item] = 0


class Swing(ItemToItem):
    """``sim(i, j) = sum over user pairs u < v in N_i and N_j of w_u w_v / (alpha + |I_u and I_v|)``, ``w_u = (alpha1 + |I_u|) ** -beta``.

    ``max_users_per_item``: pairs are made of an item's latest so many users; ``max_items_per_user``: a user counts by the latest so
    many items (0: all, for both); ``report`` says how many entries the caps left. Retrieval and the other options as in ``ItemToItem``.
    """

    def __init__(
        self,
        neighbors: int = 100,
        alpha: float = 1.0,
        alpha1: float = 5.0,
        beta: float = 0.35,
        max_users_per_item: int = 300,
        max_items_per_user: int = 500,
        keep: Literal["target", "source"] = "source",
        weighted: bool = False,
        half_life_days: float = 0.0,
        min_value: float | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(neighbors, keep, weighted, half_life_days, min_value, threads)
        if alpha < 0 or alpha1 < 0:
            raise ValueError(f"alpha and alpha1 must be 0 or more, not {alpha} and {alpha1}")
        self.alpha, self.alpha1, self.beta = alpha, alpha1, beta
        self.max_users_per_item, self.max_items_per_user = max_users_per_item, max_items_per_user

    def fit(self, interactions: Interactions) -> Self:
        capped = latest(interactions, self.max_items_per_user)
        pairing = latest(capped.by_item, self.max_users_per_item)
        self.report = {"interactions": len(interactions), "used": len(capped), "pairing": len(pairing)}
        users = Sparse.of(capped.offsets, capped.items, capped.values, capped.n_items)
        members = Sparse.of(pairing.offsets, pairing.items, pairing.values, pairing.n_items)
        weights = (self.alpha1 + np.maximum(users.lengths, 1)) ** -self.beta
        n, k = len(members), min(self.neighbors, len(members))

        def part(start: int) -> Keys:
            keys: Keys = np.full((min(CHUNK, n - start), k), NOTHING)
            stamps = np.zeros(n, np.int64)
            fixed = members.offsets, members.columns, users.offsets, users.columns, weights, float(self.alpha)
            _swing(*fixed, start, start + len(keys), stamps, *workspace.of(n), keys)
            return keys

        with ThreadPoolExecutor(self.threads) as pool:
            return self._found(gathered(list(pool.map(part, range(0, n, CHUNK))), n))
