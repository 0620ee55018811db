"""Totals: counts of one kind of entity in rolling windows, dense to read and sparse to keep. What ``live.LiveCounts`` is made of."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Ints


def _showing(signals: NDArray[np.uint32], place: int) -> NDArray[np.bool_]:
    shown: NDArray[np.bool_] = (signals >> np.uint32(place)) & np.uint32(1) == 1
    return shown


class Totals:
    """Counts of one kind of entity: dense totals for the windows that end in bucket ``anchor``, and the buckets they are made of.

    A bucket is sparse: (sorted codes ``entity * signals + signal``, counts) of what was loaded and a dict of what came later.
    """

    def __init__(self, signals: int, windows: tuple[int, ...], bucket: int) -> None:
        self._signals = signals
        self._lengths = [window // bucket for window in windows]  # in buckets; 0 all time
        self._longest = max([*self._lengths, 1])
        self._kept = self._longest + 2  # buckets; a request that began before midnight may still ask for its windows
        self._bucket = bucket
        self._totals = np.zeros((0, signals, len(windows)), np.int32)
        self._loaded: dict[int, tuple[Ints, NDArray[np.int32]]] = {}
        self._later: dict[int, dict[int, int]] = {}
        self.anchor = 0
        self.newest = -(2**62)  # bucket of the latest event

    def grow(self, rows: int) -> None:
        if rows > len(self._totals):
            grown = np.zeros((max(64, rows, len(self._totals) * 3 // 2), *self._totals.shape[1:]), np.int32)
            grown[: len(self._totals)] = self._totals
            self._totals = grown

    def load(self, entities: Ints, times: Ints, shown: NDArray[np.uint32], rows: int) -> None:
        known = entities >= 0
        entities, times, shown = entities[known], times[known], shown[known]
        self.grow(max(rows, int(entities.max(initial=-1)) + 1))
        if not len(times):
            return
        self.anchor = self.newest = int(times.max()) // self._bucket
        for s in range(self._signals):
            everything = np.bincount(entities[_showing(shown, s)], minlength=len(self._totals)).astype(np.int32)
            for w, length in enumerate(self._lengths):
                if not length:
                    self._totals[:, s, w] += everything
        buckets = times // self._bucket
        order = np.flatnonzero(buckets > self.newest - self._kept)
        order = order[np.argsort(buckets[order], kind="stable")]
        entities, buckets, shown = entities[order], buckets[order], shown[order]
        for bucket in np.unique(buckets):
            here = slice(int(np.searchsorted(buckets, bucket)), int(np.searchsorted(buckets, bucket, side="right")))
            codes = [entities[here][_showing(shown[here], s)] * self._signals + s for s in range(self._signals)]
            found, counts = np.unique(np.concatenate([np.empty(0, np.int64), *codes]), return_counts=True)
            self._loaded[int(bucket)] = (found, counts.astype(np.int32))
        self._rebuild(self.anchor)

    def add(self, entity: int, time: int, shown: Iterable[int], by: int = 1) -> None:
        """An event (or, with ``by=-1``, its undoing) that shows the signals ``shown``."""
        if entity < 0:
            return
        if entity >= len(self._totals):
            self.grow(entity + 1)
        bucket = time // self._bucket
        if bucket > self.newest:
            self.newest = bucket
            self.advance(max(bucket, self.anchor))
            old = bucket - self._kept
            for kept in (self._loaded, self._later):
                for gone in [b for b in kept if b <= old]:
                    del kept[gone]
        age = self.anchor - bucket
        sparse = self._later.setdefault(bucket, {}) if bucket > self.newest - self._kept else None
        for s in shown:
            if sparse is not None:
                code = entity * self._signals + s
                sparse[code] = sparse.get(code, 0) + by
            for w, length in enumerate(self._lengths):
                if not length or age < length:
                    self._totals[entity, s, w] += by

    def advance(self, anchor: int) -> None:
        """Lets buckets go out of the windows as time goes on."""
        if anchor == self.anchor:
            return
        moved = anchor - self.anchor
        for w, length in enumerate(self._lengths):
            if length and moved < length:
                for bucket in range(self.anchor - length + 1, anchor - length + 1):
                    self._put(bucket, w, -1)
            elif length:
                self._totals[:, :, w] = 0
                for bucket in range(anchor - length + 1, min(anchor, self.newest) + 1):
                    self._put(bucket, w, 1)
        self.anchor = anchor

    def _rebuild(self, anchor: int) -> None:
        self.anchor = anchor
        for w, length in enumerate(self._lengths):
            if length:
                self._totals[:, :, w] = 0
                for bucket in range(anchor - length + 1, anchor + 1):
                    self._put(bucket, w, 1)

    def _put(self, bucket: int, w: int, by: int) -> None:
        flat = self._totals.reshape(-1, len(self._lengths))
        if bucket in self._loaded:
            codes, counts = self._loaded[bucket]
            flat[codes, w] += by * counts
        for code, count in self._later.get(bucket, {}).items():
            flat[code, w] += by * count

    def take(self, rows: Ints, anchor: int) -> NDArray[np.int32]:
        """int32 ``[N, signals, windows]`` for windows that end in bucket ``anchor``."""
        if anchor > self.anchor:
            self.advance(anchor)
        if anchor < self.anchor:
            return self._slowly(rows, anchor)
        if len(self._totals) == 0:
            return np.zeros((len(rows), *self._totals.shape[1:]), np.int32)
        found = self._totals.take(rows, axis=0, mode="clip")
        outside = (rows < 0) | (rows >= len(self._totals))
        if outside.any():
            found[outside] = 0
        return found

    def _slowly(self, rows: Ints, anchor: int) -> NDArray[np.int32]:
        """A moment before the anchor (a request begun before midnight): summed from the buckets."""
        found = self.take(rows, self.anchor)
        for w, length in enumerate(self._lengths):
            if not length:
                continue
            found[:, :, w] = 0
            for bucket in range(anchor - length + 1, anchor + 1):
                codes, counts = self._loaded.get(bucket, (np.empty(0, np.int64), np.empty(0, np.int32)))
                later = self._later.get(bucket, {})
                for s in range(self._signals):
                    wanted = rows * self._signals + s
                    if len(codes):
                        place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
                        found[:, s, w] += np.where((codes[place] == wanted) & (rows >= 0), counts[place], 0)
                    if later:
                        found[:, s, w] += np.array([later.get(int(code), 0) if code >= 0 else 0 for code in wanted], np.int32)
        return found

    def remove(self, entity: int) -> None:
        """All counts of one entity become 0."""
        if not 0 <= entity < len(self._totals):
            return
        self._totals[entity] = 0
        first, last = entity * self._signals, (entity + 1) * self._signals
        for codes, counts in self._loaded.values():
            counts[np.searchsorted(codes, first) : np.searchsorted(codes, last)] = 0
        for later in self._later.values():
            for code in range(first, last):
                later.pop(code, None)

    def content(self) -> tuple[Ints, Ints]:
        """(bucket, code, count) of every count that is not 0, and all-time totals (code, count): what a digest is made of."""
        rows = []
        for bucket in sorted({*self._loaded, *self._later}):
            if bucket <= self.newest - self._longest:
                continue
            sums = dict(zip(*(x.tolist() for x in self._loaded.get(bucket, (np.empty(0, int), np.empty(0, int)))), strict=True))
            for code, count in self._later.get(bucket, {}).items():
                sums[code] = sums.get(code, 0) + count
            rows += [(bucket, code, count) for code, count in sorted(sums.items()) if count]
        ever = [w for w, length in enumerate(self._lengths) if not length]
        totals = self._totals[:, :, ever[0]].reshape(-1) if ever else np.zeros(0, np.int32)
        shown = np.flatnonzero(totals)
        return np.array(rows, np.int64).reshape(-1, 3), np.stack([shown, totals[shown].astype(np.int64)], axis=1)

    @property
    def nbytes(self) -> int:
        loaded = sum(codes.nbytes + counts.nbytes for codes, counts in self._loaded.values())
        return self._totals.nbytes + loaded + sum(100 * len(later) for later in self._later.values())
