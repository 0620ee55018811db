"""What the approximate indexes share: a head of long vectors compared exactly, and additions, removals and exclusions while serving.

Inner product is no distance: a few vectors of great length are neighbours of everybody, and a graph or a partition that serves the many
finds those few badly. (Vectors of users also lie elsewhere than those of items.) So the longest vectors (``head``, a share of all) are kept out
of the structure and compared one by one, which costs that share of an exact search and buys most of the recall: on item vectors of
Gowalla .71 -> .94 for HNSW and .83 -> .99 for IVF at 2 %. What is added later joins the head until it is worth folding into a copy of
the structure; what is removed, or excluded by a query, is masked exactly. Neither makes a reader wait: a search sees one immutable state.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Self

import faiss as library
import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints, Ragged
from palate.index.exact import Exact, best_of, checked, inner_products, positions

faiss: Any = library  # its type stubs know only a part of it
FOLD = 1_000  #: newcomers (or a twentieth of all, whichever is more) before they are folded in
_NONE: Ints = np.empty(0, np.int64)
REBUILD = 0.3  #: share of masked vectors in the structure at which it is built anew


@njit(cache=True, nogil=True)
def _clear(bits: NDArray[np.uint8], at: Ints) -> None:
    for n in at:
        bits[n >> 3] &= ~(np.uint8(1) << np.uint8(n & 7))


@dataclass(frozen=True, slots=True)
class _State:
    head: Exact  # long vectors and newcomers
    body: Any  # a faiss index over positions 0..n, or None where there is nothing in it
    ids: Ints  # [n] id at each position
    place: Ints  # position by id; -1 none
    bits: NDArray[np.uint8]  # one bit a position: still valid
    masked: int  # how many bits are clear
    long: int  # how many vectors the head had when the body was made


class Approximate:
    """Inner-product search over faiss; a subclass says which structure (``_structure``) and how to search it (``_parameters``)."""

    def __init__(self, head: float, threads: int) -> None:
        if not 0 <= head < 1:
            raise ValueError("head is a share of the vectors, from 0 to below 1")
        if threads < 1:
            raise ValueError("threads must be at least 1")
        self.head = head
        self.threads = threads
        self._writing = threading.Lock()
        self._state = _State(Exact(), None, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8), 0, 0)

    def _structure(self, vectors: Floats) -> Any:
        """An empty, trained faiss index for vectors like these."""
        raise NotImplementedError

    def _parameters(self, k: int, hidden: int, selector: Any) -> Any:
        """faiss search parameters for ``k`` results of a query that hides ``hidden`` vectors; ``selector`` (None: none) masks them."""
        raise NotImplementedError

    def __len__(self) -> int:
        state = self._state
        return len(state.head) + len(state.ids) - state.masked

    def fit(self, vectors: Floats, ids: Ints) -> Self:
        """vectors float32 ``[N, D]``, ids int64 ``[N]``, each once; replaces what was there. ``ValueError`` for what is not finite."""
        with self._writing:
            self._fit(*checked(vectors, ids))
        return self

    def _fit(self, vectors: Floats, ids: Ints) -> None:
        long = round(self.head * len(ids))
        order = np.argsort(-np.linalg.norm(vectors, axis=1), kind="stable")
        rest = np.sort(order[long:])
        body = None
        if len(rest):
            body = self._alone(lambda: self._filled(self._structure(vectors[rest]), vectors[rest]))
        head = Exact().fit(vectors[order[:long]], ids[order[:long]])
        self._state = _state(head, body, ids[rest], long)

    def _alone(self, work: Any) -> Any:
        """Build with ``threads`` threads: with more than one, the graph depends on who was first."""
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(self.threads)
        try:
            return work()
        finally:
            faiss.omp_set_num_threads(before)

    @staticmethod
    def _filled(body: Any, vectors: Floats) -> Any:
        body.add(np.ascontiguousarray(vectors))
        return body

    def add(self, ids: Ints, vectors: Floats) -> None:
        """Put these in, or in the place of those with the same id. Found at once; folded into the structure by and by."""
        vectors, ids = checked(vectors, ids)
        with self._writing:
            state = self._state
            if not len(ids):
                return
            if not len(self):
                self._fit(vectors, ids)
                return
            if state.body is not None and vectors.shape[1] != state.body.d:
                raise ValueError(f"this index holds vectors of {state.body.d} numbers, not {vectors.shape[1]}")
            head = Exact()
            head.shelf = state.head.shelf
            head.add(ids, vectors)
            state = _hidden(state, ids, head)
            if len(head) - state.long > max(FOLD, len(state.ids) // 20):
                state = self._folded(state)
            self._state = state
            self._tidy()

    def remove(self, ids: Ints) -> None:
        """Take these out; ids that are not there are ignored."""
        ids = np.asarray(ids, np.int64)
        with self._writing:
            head = Exact()
            head.shelf = self._state.head.shelf
            head.remove(ids)
            self._state = _hidden(self._state, ids, head)
            self._tidy()

    def _folded(self, state: _State) -> _State:
        """The newcomers moved from the head into a copy of the structure; the longest stay in the head."""
        vectors, ids = state.head.everything()
        order = np.argsort(-np.linalg.norm(vectors, axis=1), kind="stable")
        long = round(self.head * (len(ids) + len(state.ids) - state.masked))
        rest = np.sort(order[long:])
        if not len(rest):
            return state
        moved = vectors[rest]
        body = self._alone(lambda: self._filled(self._structure(moved) if state.body is None else faiss.clone_index(state.body), moved))
        head = Exact().fit(vectors[order[:long]], ids[order[:long]])
        kept = np.unpackbits(state.bits, count=len(state.ids), bitorder="little").astype(bool)
        all_ids = np.concatenate([np.where(kept, state.ids, -1), ids[rest]])
        return _state(head, body, all_ids, long)

    def _tidy(self) -> None:
        state = self._state
        if state.masked <= max(FOLD, REBUILD * len(state.ids)):
            return
        alive = np.flatnonzero(np.unpackbits(state.bits, count=len(state.ids), bitorder="little"))
        vectors, ids = state.head.everything()
        if len(alive):
            inner = np.stack([state.body.reconstruct(int(n)) for n in alive])
            vectors, ids = np.concatenate([vectors, inner]), np.concatenate([ids, state.ids[alive]])
        self._fit(vectors, ids)

    def search(self, queries: Floats, k: int, exclude: Ragged | None = None) -> tuple[Ints, Floats]:
        """The k best found for each query ``[B, D]``: ids int64 ``[B, k]`` (-1: there are no more), scores float32 ``[B, k]`` (-inf there)."""
        state = self._state
        queries = np.ascontiguousarray(queries, np.float32)
        if state.body is None or not k:
            return state.head.search(queries, k, exclude)
        if queries.ndim != 2 or queries.shape[1] != state.body.d:
            raise ValueError(f"queries must be [B, {state.body.d}], not {list(queries.shape)}")
        found, values = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        if exclude is None and not state.masked:
            scores, at = state.body.search(queries, k, params=self._parameters(k, 0, None))
        else:
            scores, at = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
            for b in range(len(queries)):
                bits, hidden = state.bits, _NONE
                if exclude is not None:
                    hidden = positions(state.place, exclude[b], len(state.ids))
                    if len(hidden):
                        bits = bits.copy()
                        _clear(bits, hidden)
                selector = faiss.IDSelectorBitmap(bits) if state.masked or len(hidden) else None
                parameters = self._parameters(k, len(hidden), selector)
                scores[b : b + 1], at[b : b + 1] = state.body.search(queries[b : b + 1], k, params=parameters)
        head = state.head.shelf
        for b in range(len(queries)):
            hidden = head.dead
            if exclude is not None:
                hidden = np.concatenate([hidden, positions(head.place, exclude[b], len(head.ids))])
            _joined(head.vectors, head.ids, hidden, queries[b], state.ids, at[b], scores[b], found[b], values[b])
        return found, values


@njit(cache=True, nogil=True)
def _joined(vectors: Floats, head: Ints, hidden: Ints, query: Floats, ids: Ints, at: Ints, scores: Floats, out: Ints, values: Floats) -> None:
    """The best of the head ``[n, D]`` and of what the structure found (positions ``at`` of ``ids``, -1 none), best first, ties by id."""
    k = len(out)
    products = np.empty(len(head), np.float32)
    if len(head):
        inner_products(vectors, query, products)
    for n in hidden:
        products[n] = -np.inf
    place, best = best_of(products, k)
    left, right = 0, 0
    for n in range(k):
        mine = right < k and at[right] >= 0
        if left < len(place) and (not mine or best[left] > scores[right] or (best[left] == scores[right] and head[place[left]] < ids[at[right]])):
            item, score = head[place[left]], best[left]
            left += 1
        elif mine:
            item, score = ids[at[right]], scores[right]
            right += 1
        else:
            item, score = np.int64(-1), np.float32(-np.inf)
        hole = n  # the structure leaves equal scores in any order
        while hole > 0 and values[hole - 1] == score and out[hole - 1] > item:
            out[hole], values[hole] = out[hole - 1], values[hole - 1]
            hole -= 1
        out[hole], values[hole] = item, score


def _state(head: Exact, body: Any, ids: Ints, long: int) -> _State:
    """A state over these positions; an id of -1 is a position that was taken out before."""
    known = ids >= 0
    place = np.full(int(ids.max(initial=-1)) + 1, -1, np.int64)
    place[ids[known]] = np.flatnonzero(known)
    return _State(head, body, ids, place, np.packbits(known, bitorder="little"), int((~known).sum()), long)


def _hidden(state: _State, ids: Ints, head: Exact) -> _State:
    """The same with these ids no longer in the structure."""
    at = positions(state.place, ids, len(state.ids))
    if not len(at):
        return _State(head, state.body, state.ids, state.place, state.bits, state.masked, state.long)
    bits, place = state.bits.copy(), state.place.copy()
    _clear(bits, at)
    place[state.ids[at]] = -1
    return _State(head, state.body, state.ids, place, bits, state.masked + len(at), state.long)
