"""Offered: what recall would have offered at moments of the past, and what came of it. The ranker's training and validation sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Candidates, Floats, Ints, Request
from palate.datasets.pointwise import Pointwise
from palate.features.pipeline import FeaturePipeline
from palate.state.rows import EventRows


@dataclass(frozen=True)
class Outcomes:
    """Which (user, item) pairs show each task's signal at or after a moment, and what that is worth: 1, or the event's value."""

    tasks: dict[str, tuple[_Last, _Last | None]]
    n_items: int

    @classmethod
    def of(cls, rows: EventRows, tasks: Mapping[str, tuple[str, str]], n_items: int, numbers: Collection[str] = ()) -> Outcomes:
        """``tasks``: for each name its signal and the signal it is given ("" for none); ``numbers``: those that ask for the event's value."""
        found = {}
        for name, (signal, given) in tasks.items():
            shown = _Last.of(rows.showing(signal), n_items, valued=name in numbers)
            found[name] = (shown, _Last.of(rows.showing(given), n_items) if given else None)
        return cls(found, n_items)

    def labels(self, request: Request, offered: Candidates) -> dict[str, NDArray[np.float32]]:
        """Each task's label of each candidate: 1 or the event's value, 0, or NaN where the task's condition does not hold."""
        owner = offered.requests
        key, now = request.users[owner] * np.int64(self.n_items) + offered.items, request.now[owner]
        found = {}
        for name, (shown, given) in self.tasks.items():
            label = shown.since(key, now)
            if given is not None:
                label[given.since(key, now) == 0] = np.nan
            found[name] = label
        return found


@dataclass(frozen=True)
class _Last:
    """Ascending ``keys`` of pairs, the time of each pair's last event and what it is worth."""

    keys: Ints
    times: Ints
    worth: Floats

    @classmethod
    def of(cls, rows: EventRows, n_items: int, valued: bool = False) -> _Last:
        key = rows.users * np.int64(n_items) + rows.items
        order = np.lexsort((rows.times, key))
        key, times = key[order], rows.times[order]
        last = np.r_[key[1:] != key[:-1], True] if len(key) else np.empty(0, bool)
        worth = rows.values[order][last] if valued else np.ones(int(last.sum()), np.float32)
        return cls(key[last], times[last], worth)

    def since(self, key: Ints, now: Ints) -> NDArray[np.float32]:
        """What the last event of each pair is worth where it is not before ``now``, else 0."""
        if not len(self.keys):
            return np.zeros(len(key), np.float32)
        place = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.where((self.keys[place] == key) & (self.times[place] >= now), self.worth[place], np.float32(0.0))


@dataclass(frozen=True)
class Offered:
    """Candidates of past requests with labels: user columns ``[R]``, pair columns, labels, owner (request) and item row ``[N]``; ``kept [N]``: the
    rate at which candidates of the row's request that were not taken were kept (None: all)."""

    pipeline: FeaturePipeline
    users: dict[str, NDArray[Any]]
    pairs: dict[str, NDArray[Any]]
    labels: dict[str, NDArray[np.float32]]
    owner: Ints
    items: Ints
    kept: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def requests(self) -> int:
        return len(next(iter(self.users.values())))

    @classmethod
    def joined(cls, parts: Sequence[Offered]) -> Offered:
        first = parts[0]
        shift = np.cumsum([0] + [part.requests for part in parts])

        def glue(name: str) -> dict[str, NDArray[Any]]:
            return {key: np.concatenate([getattr(part, name)[key] for part in parts]) for key in getattr(first, name)}

        owner = np.concatenate([part.owner + shift[n] for n, part in enumerate(parts)])
        kept = None
        if any(part.kept is not None for part in parts):
            kept = np.concatenate([np.ones(len(part), np.float32) if part.kept is None else part.kept for part in parts])
        return cls(first.pipeline, glue("users"), glue("pairs"), glue("labels"), owner, np.concatenate([part.items for part in parts]), kept)

    def pointwise(self, teacher: NDArray[np.float32] | None = None) -> Pointwise:
        """As a training set; with ``teacher`` its scores are the only label.

        Every request weighs the same, however much was taken: the mean over requests is what a list is judged by.
        """
        labels = self.labels if teacher is None else {"teacher": teacher}
        return Pointwise(
            self.pairs,
            labels,
            self.owner,
            user_columns=self.users,
            user_index=self.owner,
            item_columns=self.pipeline.item_columns(),
            item_index=self.items,
            weights=1 / np.maximum(self.taken, 1)[self.owner] if teacher is None else None,
            kept=self.kept if teacher is None else None,
        )

    @property
    def taken(self) -> NDArray[np.float64]:
        """How many candidates each request took, by the first task's label, ``[R]``."""
        return np.bincount(self.owner, next(iter(self.labels.values())) > 0, self.requests).astype(np.float64)

    def ndcg(self, scores: NDArray[np.float32], k: int = 10) -> float:
        """Mean NDCG@k over requests that took something, by the first task's label."""
        taken = next(iter(self.labels.values())) > 0
        order = np.lexsort((self.items, -scores, self.owner))
        owner = self.owner[order]
        start = np.searchsorted(owner, np.arange(self.requests))
        place = np.arange(len(owner)) - start[owner]
        gain = np.where(taken[order] & (place < k), 1 / np.log2(place + 2.0), 0.0)
        dcg = np.bincount(owner, weights=gain, minlength=self.requests)
        count = self.taken.astype(int)
        ideal = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(k) + 2.0))][np.minimum(count, k)]
        asked = count > 0
        return float((dcg[asked] / ideal[asked]).mean()) if asked.any() else 0.0
