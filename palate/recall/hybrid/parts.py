"""What hybrids share: the models they are made of, and what several lists say of the same items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.candidates import Candidates, Floats, Grounds, Ints, Request, offsets_of
from palate.contracts import Grounded, Others, Retriever


class Hybrid:
    """``parts``: the retrievers that ``models`` names, each seeing of a history what it would see as a route."""

    def __init__(self, others: Others, models: tuple[str, ...]) -> None:
        if len(models) < 2 or len(set(models)) < len(models):
            raise ValueError(f"models must be two or more, each once, not {list(models)}")
        self.others, self.models = others, models
        self.parts: list[Retriever] = [others.named(name) for name in models]

    def add(self, rows: Ints) -> None:
        """New or changed items, told to the parts that can take them in."""
        self._tell("add", rows)

    def remove(self, rows: Ints) -> None:
        """Items that are gone."""
        self._tell("remove", rows)

    def grounds(self, request: Request, candidates: Candidates) -> Grounds:
        """As the first part that has any for a candidate sees it."""
        found = Grounds.none(len(candidates.items))
        for part in self.parts:
            if isinstance(part, Grounded):
                own = part.grounds(request, candidates)
                fresh = (found.items < 0) & (own.items >= 0)
                found.items[fresh], found.strength[fresh] = own.items[fresh], own.strength[fresh]
        return found

    def _tell(self, what: str, rows: Ints) -> None:
        for part in self.parts:
            tell = getattr(part, what, None)
            if callable(tell):
                tell(rows)


def scaled(found: Candidates, depth: int, rank: bool = False) -> Floats:
    """Scores of lists of at most ``depth`` items, each list from 1 (its best) down to 1 / depth: by where they lie between its best and its worst,
    or by ``rank``. Float32 ``[N]``."""
    lengths = np.diff(found.offsets)
    if rank:
        return (1 - (np.arange(len(found.items)) - np.repeat(found.offsets[:-1], lengths)) / depth).astype(np.float32)
    scores, there = found.scores.astype(np.float64), lengths > 0
    best, worst = np.zeros(len(found)), np.zeros(len(found))
    best[there], worst[there] = scores[found.offsets[:-1][there]], scores[found.offsets[1:][there] - 1]  # best first
    span = np.repeat(best - worst, lengths)
    below = (np.repeat(best, lengths) - scores) / np.where(span > 0, span, 1)
    return (1 - (1 - 1 / depth) * below).astype(np.float32)


def union(lists: Sequence[Candidates], values: Sequence[Floats]) -> tuple[Candidates, Floats]:
    """Every item that any of the lists offers, by request and row (scores 0), and the lists' values of it ``[N, M]``, NaN where one has it not."""
    size = len(lists[0])
    wide = np.int64(max(int(one.items.max(initial=0)) for one in lists) + 1)
    keys = [one.requests * wide + one.items for one in lists]
    every = np.unique(np.concatenate(keys))
    table = np.full((len(every), len(lists)), np.nan, np.float32)
    for m, (mine, value) in enumerate(zip(keys, values, strict=True)):
        table[np.searchsorted(every, mine), m] = value
    offsets = offsets_of(np.bincount(every // wide, minlength=size))
    return Candidates(every % wide, np.zeros(len(every), np.float32), offsets), table
