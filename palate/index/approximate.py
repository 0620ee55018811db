"""What the approximate indexes share: a head of long vectors compared exactly, and additions, removals and filters while serving.

Inner product is no distance: a few vectors of great length are neighbours of everybody, and a graph or a partition that serves the many
finds those few badly. (Vectors of users also lie elsewhere than those of items.) So the longest vectors (``head``, a share of all) are kept out
of the structure and compared one by one, which costs that share of an exact search and buys most of the recall: on item vectors of
Gowalla .71 -> .94 for HNSW and .83 -> .99 for IVF at 2 %. What is added later joins the head until it is worth folding into a copy of
the structure; what is removed, excluded by a query, or not among the ids it asks for, is masked exactly. Neither makes a reader wait: a
search sees one immutable state. Where few vectors are left to choose from, and where a structure finds fewer than there are, all that are
left are compared one by one, so that k come back where k are there. (What a filter leaves may still lie where a structure would not look:
of many allowed vectors far from the query a graph finds k, but not the best.)
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats, Ints, Ragged
from palate.index.exact import Exact, absent, best_rows, checked, inner_products, positions, within
from palate.index.heaps import best_of

Bits = NDArray[np.uint8]

FOLD = 1_000  #: newcomers (or a twentieth of all, whichever is more) before they are folded in
REBUILD = 0.3  #: share of masked vectors in the structure at which it is made anew without them
FEW = 5_000  #: vectors (or a fiftieth of all, whichever is more) left by a filter that are compared one by one
BLOCK = 1 << 18  #: vectors taken out of the structure at once for that

_NONE: Ints = np.empty(0, np.int64)


@njit(cache=True, nogil=True)
def _clear(bits: Bits, at: Ints) -> None:
    for n in at:
        bits[n >> 3] &= ~(np.uint8(1) << np.uint8(n & 7))


@njit(cache=True, nogil=True)
def valid(bits: Bits, n: int) -> bool:
    """Whether position n is one that may be found; no bits at all: every one is."""
    return len(bits) == 0 or (bits[n >> 3] >> np.uint8(n & 7)) & np.uint8(1) != 0


def _set(bits: Bits, size: int) -> Ints:
    """Positions whose bit is set."""
    return np.flatnonzero(np.unpackbits(bits, count=size, bitorder="little"))


@dataclass(frozen=True, slots=True)
class _State:
    head: Exact  # long vectors and newcomers
    body: Any  # the structure over positions 0..n, or None where there is nothing in it
    ids: Ints  # [n] id at each position
    place: Ints  # position by id; -1 none
    bits: Bits  # one bit a position: still valid
    masked: int  # how many bits are clear
    long: int  # how many vectors the head had when the body was made
    learned: int  # how many vectors the structure took its shape from
    dim: int


class Approximate:
    """Inner-product search behind a structure; a subclass says how it is made, added to and searched (the methods that raise here)."""

    least: ClassVar[int] = 1  #: so few vectors make no structure

    def __init__(self, head: float) -> None:
        if not 0 <= head < 1:
            raise ValueError("head is a share of the vectors, from 0 to below 1")
        self.head = head
        self._writing = threading.Lock()
        self._state = _state(Exact(), None, _NONE, 0, 0, 0)

    def _made(self, vectors: Floats) -> Any:
        """The structure over these."""
        raise NotImplementedError

    def _grown(self, body: Any, vectors: Floats) -> Any:
        """A copy with these behind the others."""
        raise NotImplementedError

    def _thinned(self, body: Any, at: Ints) -> Any:
        """A copy that holds these positions alone, in this order."""
        raise NotImplementedError

    def _vectors(self, body: Any, at: Ints) -> Floats:
        """Vectors at these positions, as true as they are kept."""
        raise NotImplementedError

    def _found(self, body: Any, queries: Floats, k: int, hidden: int, share: float, bits: Bits) -> tuple[Floats, Ints]:
        """Scores and positions ``[B, k]`` (-1 none), best first, of ``valid`` positions: a ``share`` of all, of which each query hides ``hidden``."""
        raise NotImplementedError

    def _bytes(self, body: Any) -> int:
        """Memory of the structure."""
        raise NotImplementedError

    def __len__(self) -> int:
        state = self._state
        return len(state.head) + len(state.ids) - state.masked

    @property
    def nbytes(self) -> int:
        """Memory that it holds, bytes."""
        state = self._state
        body = 0 if state.body is None else self._bytes(state.body)
        return state.head.nbytes + body + state.ids.nbytes + state.place.nbytes + state.bits.nbytes

    def fit(self, vectors: Floats, ids: Ints) -> Self:
        """vectors float32 ``[N, D]``, ids int64 ``[N]``, each once; replaces what was there. ``ValueError`` for what is not finite."""
        with self._writing:
            self._state = self._fresh(*checked(vectors, ids))
        return self

    def _parted(self, vectors: Floats, total: int) -> tuple[Ints, Ints]:
        """Positions of those that go to the head, a share of ``total``, and of the rest, ascending."""
        long = min(round(self.head * total), len(vectors))
        order = np.argsort(-np.linalg.norm(vectors, axis=1), kind="stable")
        return order[:long], np.sort(order[long:])

    def _fresh(self, vectors: Floats, ids: Ints) -> _State:
        long, rest = self._parted(vectors, len(ids))
        if len(rest) < self.least:
            return _state(Exact().fit(vectors, ids), None, _NONE, len(ids), 0, vectors.shape[1])
        head = Exact().fit(vectors[long], ids[long])
        return _state(head, self._made(vectors[rest]), ids[rest], len(long), len(rest), vectors.shape[1])

    def add(self, ids: Ints, vectors: Floats) -> None:
        """Put these in, or in the place of those with the same id. Found at once; folded into the structure by and by."""
        vectors, ids = checked(vectors, ids)
        with self._writing:
            state = self._state
            if not len(ids):
                return
            if not len(self):
                self._state = self._fresh(vectors, ids)
                return
            if vectors.shape[1] != state.dim:
                raise ValueError(f"this index holds vectors of {state.dim} numbers, not {vectors.shape[1]}")
            head = Exact()
            head.shelf = state.head.shelf
            head.add(ids, vectors)
            state = self._tidy(_hidden(state, ids, head))
            if len(head) - state.long > max(FOLD, len(state.ids) // 20):
                state = self._folded(state)
            self._state = state

    def remove(self, ids: Ints) -> None:
        """Take these out; ids that are not there are ignored."""
        ids = np.asarray(ids, np.int64)
        with self._writing:
            head = Exact()
            head.shelf = self._state.head.shelf
            head.remove(ids)
            self._state = self._tidy(_hidden(self._state, ids, head))

    def _folded(self, state: _State) -> _State:
        """The newcomers moved from the head into a copy of the structure; the longest stay in the head."""
        vectors, ids = state.head.everything()
        alive = _set(state.bits, len(state.ids))
        if state.body is None or len(ids) + len(alive) > 2 * state.learned:  # what was learned from few may not suit the many
            inner = self._vectors(state.body, alive) if len(alive) else vectors[:0]
            return self._fresh(np.concatenate([vectors, inner]), np.concatenate([ids, state.ids[alive]]))
        long, rest = self._parted(vectors, len(ids) + len(alive))
        if not len(rest):
            return replace(state, long=len(ids))
        kept = np.full(len(state.ids), -1, np.int64)
        kept[alive] = state.ids[alive]
        body = self._grown(state.body, vectors[rest])
        return _state(Exact().fit(vectors[long], ids[long]), body, np.concatenate([kept, ids[rest]]), len(long), state.learned, state.dim)

    def _tidy(self, state: _State) -> _State:
        """Without the masked, if they are many."""
        if state.masked <= max(FOLD, REBUILD * len(state.ids)):
            return state
        alive = _set(state.bits, len(state.ids))
        body = self._thinned(state.body, alive) if len(alive) else None
        return _state(state.head, body, state.ids[alive], min(state.long, len(state.head)), state.learned, state.dim)

    def search(self, queries: Floats, k: int, exclude: Ragged | None = None, only: Ints | None = None) -> tuple[Ints, Floats]:
        """The k best found for each query ``[B, D]``: ids int64 ``[B, k]`` (-1: there are no more), scores float32 ``[B, k]`` (-inf there).

        Never one of ``exclude[b]``, and none but of ``only`` (ids, the same for all queries; None: all).
        """
        state = self._state
        queries = np.ascontiguousarray(queries, np.float32)
        if state.body is None or not k:
            return state.head.search(queries, k, exclude, only)
        if queries.ndim != 2 or queries.shape[1] != state.dim:
            raise ValueError(f"queries must be [B, {state.dim}], not {list(queries.shape)}")
        head, size = state.head.shelf, len(state.ids)
        bits, left, dead = state.bits, size - state.masked, head.dead
        asked: Ints | None = None
        if only is not None:
            only = np.asarray(only, np.int64)
            asked = np.unique(positions(state.place, only, size))
            bits, left = _bits(asked, size), len(asked)
            dead = np.union1d(dead, absent(positions(head.place, only, len(head.ids)), len(head.ids)))
        hidden = [_NONE if exclude is None else positions(state.place, exclude[b], size) for b in range(len(queries))]
        if asked is not None and left <= max(FEW, size // 50):
            scores, at = self._compared(state.body, queries, k, asked, hidden)
        else:
            scores, at = self._searched(state.body, queries, k, hidden, bits, left, size)
        found, values = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        for b in range(len(queries)):
            gone = dead if exclude is None else np.concatenate([dead, positions(head.place, exclude[b], len(head.ids))])
            _joined(head.vectors, head.ids, gone, queries[b], state.ids, at[b], scores[b], found[b], values[b])
        return found, values

    def _searched(self, body: Any, queries: Floats, k: int, hidden: list[Ints], bits: Bits, left: int, size: int) -> tuple[Floats, Ints]:
        """Scores and positions ``[B, k]`` of the structure's answer; where it is short although there are more, of a comparison."""
        share = max(left, 1) / size
        shared = bits if left < size else bits[:0]
        if not any(map(len, hidden)):
            scores, at = self._found(body, queries, k, 0, share, shared)
        else:
            scores, at = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
            for b, gone in enumerate(hidden):
                mine = shared
                if len(gone):
                    mine = bits.copy()
                    _clear(mine, gone)
                scores[b : b + 1], at[b : b + 1] = self._found(body, queries[b : b + 1], k, len(gone), share, mine)
        for b in np.flatnonzero(at[:, -1] < 0).tolist():
            mine = bits.copy()
            _clear(mine, hidden[b])
            there = _set(mine, size)
            if len(there) > np.count_nonzero(at[b] >= 0):
                scores[b : b + 1], at[b : b + 1] = self._compared(body, queries[b : b + 1], k, there, [_NONE])
        return scores, at

    def _compared(self, body: Any, queries: Floats, k: int, at: Ints, hidden: list[Ints]) -> tuple[Floats, Ints]:
        """Scores and positions ``[B, k]`` of the best of the positions ``at``, each of them compared."""
        found, values = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32)
        for start in range(0, len(at), BLOCK):
            some = at[start : start + BLOCK]
            vectors = self._vectors(body, some)
            mine = [within(some, gone) for gone in hidden]
            best = best_rows(lambda part, vectors=vectors: part @ vectors.T, len(some), queries, k, lambda row, mine=mine: mine[row])  # type: ignore[misc]
            for b, (place, scores) in enumerate(best):
                both, where = np.concatenate([values[b], scores]), np.concatenate([found[b], some[place]])
                order = np.argsort(-both, kind="stable")[:k]
                values[b], found[b] = both[order], where[order]
        return values, found


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


def _state(head: Exact, body: Any, ids: Ints, long: int, learned: int, dim: int) -> _State:
    """A state over these positions; an id of -1 is a position that was taken out before."""
    known = ids >= 0
    place = np.full(int(ids.max(initial=-1)) + 1, -1, np.int64)
    place[ids[known]] = np.flatnonzero(known)
    return _State(head, body, ids, place, np.packbits(known, bitorder="little"), int((~known).sum()), long, learned, dim)


def _bits(at: Ints, size: int) -> Bits:
    """One bit a position, set for these."""
    there = np.zeros(size, bool)
    there[at] = True
    return np.packbits(there, bitorder="little")


def _hidden(state: _State, ids: Ints, head: Exact) -> _State:
    """The same with these ids no longer in the structure."""
    at = np.unique(positions(state.place, ids, len(state.ids)))
    if not len(at):
        return replace(state, head=head)
    bits, place = state.bits.copy(), state.place.copy()
    _clear(bits, at)
    place[state.ids[at]] = -1
    return replace(state, head=head, bits=bits, place=place, masked=state.masked + len(at))
