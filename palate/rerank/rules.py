"""Short rules about a page: one class, one rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Candidates, Ints, Request, offsets_of
from palate.rerank.attributes import Tags, check_attribute, page_length
from palate.state.catalogue import Catalogue


class Spread:
    """In any ``window`` places that follow each other, at most ``most`` items share a value of ``attribute``.

    Each place of the page goes to the best item that keeps the rule; where none does, to the best item. An item of several values is
    counted with each of them, one without values is free.
    """

    def __init__(self, catalogue: Catalogue, attribute: str, most: int = 1, window: int = 3) -> None:
        if most < 1 or window < 2:
            raise ValueError(f"Spread needs most >= 1 and window >= 2, not {most} and {window}")
        self.most, self.window = most, window
        self._tags = Tags(catalogue, attribute)

    def __call__(self, request: Request, candidates: Candidates) -> Candidates:
        codes, values = self._tags.codes()
        order, _ = _arranged(candidates.items, candidates.offsets, codes, values, self.most, self.window, page_length(request), False)
        return candidates.take(order)


class Cap:
    """At most ``most`` items of the page share a value of ``attribute``; the best of each value stay, the others move below the page.

    Where too few others are left the page is filled with them all the same; ``strict`` leaves it short instead (they are dropped).
    """

    def __init__(self, catalogue: Catalogue, attribute: str, most: int = 3, strict: bool = False) -> None:
        if most < 1:
            raise ValueError(f"Cap needs most >= 1, not {most}")
        self.most, self.strict = most, strict
        self._tags = Tags(catalogue, attribute)

    def __call__(self, request: Request, candidates: Candidates) -> Candidates:
        codes, values = self._tags.codes()
        order, kept = _arranged(candidates.items, candidates.offsets, codes, values, self.most, 0, page_length(request), self.strict)
        return candidates.take(order[kept] if self.strict else order)


class Block:
    """These items never: by id, or by having any of ``values`` in ``attribute``. Ids and values that appear later are blocked then."""

    policy: ClassVar[bool] = True  # the funnel serves nothing that has not passed it

    def __init__(self, catalogue: Catalogue, items: Sequence[str] = (), attribute: str = "", values: Sequence[str] = ()) -> None:
        if not items and not values:
            raise ValueError("Block needs items, or an attribute and its values")
        if bool(attribute) != bool(values):
            raise ValueError("Block needs attribute and values together")
        if attribute:
            check_attribute(catalogue, attribute)
        self._catalogue, self._items, self._attribute, self._values = catalogue, tuple(items), attribute, tuple(values)
        self._blocked: tuple[int, Ints] = (-1, np.empty(0, np.int64))

    def rows(self) -> Ints:
        """The rows that are blocked now, ascending."""
        version, rows = self._blocked
        if version != self._catalogue.version:
            version = self._catalogue.version
            found = [self._catalogue.rows(self._items)]
            if self._attribute in self._catalogue.attribute_names:
                found += [self._catalogue.having(self._attribute, value) for value in self._values]
            rows = np.unique(np.concatenate(found))
            rows = rows[rows >= 0]
            self._blocked = (version, rows)
        return rows

    def __call__(self, request: Request, candidates: Candidates) -> Candidates:
        rows = self.rows()
        if not len(rows):
            return candidates
        at = np.minimum(np.searchsorted(rows, candidates.items), len(rows) - 1)
        return candidates.take(rows[at] != candidates.items)


class Pin:
    """These items at these places (1 is the first; without ``places`` the first ones), in all scenes or those of ``scenes``.

    What may not be offered is not pinned either: an item that is unknown, withdrawn, or excluded by the request (seen, blocked by its
    user) is passed over, and the list moves up. Only what came through the funnel, and so through its filters, is moved. ``insert`` also puts
    in items that recall or pre-rank left out, with the score of the item they push down and NaN in the other columns: no filter but the
    two above has seen these. The column ``pinned`` is 1 for pinned items; a pin owes nothing to chance, so its propensity is 1.
    """

    def __init__(
        self, catalogue: Catalogue, items: Sequence[str], places: Sequence[int] = (), scenes: Sequence[str] = (), insert: bool = False
    ) -> None:
        if not items or len(set(items)) != len(items):
            raise ValueError("Pin needs at least one item, each named once")
        places = tuple(places) or tuple(range(1, len(items) + 1))
        if len(places) != len(items) or len(set(places)) != len(places) or min(places) < 1:
            raise ValueError("Pin needs one place for each item, from 1 on, each given once")
        by_place = sorted(zip(places, items, strict=True))
        self.places, self.items, self.scenes = [place for place, _ in by_place], [item for _, item in by_place], tuple(scenes)
        self._catalogue, self.insert = catalogue, insert

    def __call__(self, request: Request, candidates: Candidates) -> Candidates:
        if self.scenes and request.scene not in self.scenes:
            return candidates
        rows = self._catalogue.rows(self.items)
        fit = rows >= 0
        fit[fit] = self._catalogue.available[rows[fit]]
        if not (fit.any() if self.insert else np.isin(candidates.items, rows[fit]).any()):
            return candidates
        sources, items, pinned = [], [], []  # position each item comes from (-1: put in), its row, whether it is pinned
        for b in range(len(candidates)):
            allowed = fit if request.exclude is None else fit & ~np.isin(rows, request.exclude[b])
            start, end = int(candidates.offsets[b]), int(candidates.offsets[b + 1])
            here = candidates.items[start:end]
            allowed = allowed if self.insert else allowed & np.isin(rows, here)
            others = (start + np.flatnonzero(~np.isin(here, rows[allowed]))).tolist()
            line: list[tuple[int, int, bool]] = [(source, int(candidates.items[source]), False) for source in others]
            for place, row in zip(self.places, rows, strict=True):
                if row in rows[allowed]:
                    at = np.flatnonzero(here == row)
                    line.insert(place - 1, (start + int(at[0]) if len(at) else -1, int(row), True))
            sources.append([source for source, _, _ in line])
            items.append([item for _, item, _ in line])
            pinned.append([flag for _, _, flag in line])
        return _composed(candidates, sources, items, pinned)


def _composed(candidates: Candidates, sources: list[list[int]], items: list[list[int]], pinned: list[list[bool]]) -> Candidates:
    """Candidates whose rows come from these positions; rows from nowhere (-1) get the next one's score and empty columns."""
    offsets = offsets_of([len(one) for one in items])
    source = np.array([one for part in sources for one in part], np.int64)
    fresh = source < 0
    columns: dict[str, NDArray[Any]] = {}
    for name, values in {"scores": candidates.scores, **candidates.columns}.items():
        empty: Any = np.nan if values.dtype.kind == "f" else -1 if values.dtype.kind == "i" else np.zeros(1, values.dtype)[0]
        taken = np.full(len(source), empty, values.dtype)
        taken[~fresh] = values[source[~fresh]]
        columns[name] = taken
    flags = np.array([one for part in pinned for one in part], np.float32)
    if "propensity" in columns:
        columns["propensity"][flags > 0] = 1.0
    columns["pinned"] = np.maximum(flags, np.nan_to_num(columns["pinned"])) if "pinned" in columns else flags
    scores = columns.pop("scores")
    for b in range(len(offsets) - 1):
        part = scores[offsets[b] : offsets[b + 1]]
        for at in np.flatnonzero(fresh[offsets[b] : offsets[b + 1]])[::-1]:
            part[at] = part[at + 1] if at + 1 < len(part) else (np.nan_to_num(part[at - 1]) if at else 0.0)
    return Candidates(np.array([one for part in items for one in part], np.int64), scores, offsets, columns)


@njit(cache=True, nogil=True)
def _arranged(
    items: Ints, offsets: Ints, codes: NDArray[np.int32], values: int, most: int, window: int, k: int, strict: bool
) -> tuple[Ints, NDArray[np.bool_]]:
    """Positions in their new order, and which of these places keep the rule. ``window`` 0: the page is one window."""
    order = np.empty(len(items), np.int64)
    kept = np.ones(len(items), np.bool_)
    width = codes.shape[1]
    counts = np.zeros(values + 1, np.int64)
    for b in range(len(offsets) - 1):
        start, end = offsets[b], offsets[b + 1]
        n = end - start
        places = min(k, n) if k > 0 else n
        free = np.ones(n, np.bool_)
        counts[:] = 0
        first, placed, full = 0, 0, False
        while placed < places:
            if window > 0 and placed >= window:  # the oldest item leaves the window
                row = items[order[start + placed - window]]
                if 0 <= row < len(codes):
                    for w in range(width):
                        if codes[row, w] < 0 or codes[row, w] >= values:
                            break
                        counts[codes[row, w]] -= 1
            while not free[first]:
                first += 1
            chosen = -1
            if not full:
                for i in range(first, n):
                    if free[i]:
                        row, fits = items[start + i], True
                        if 0 <= row < len(codes):
                            for w in range(width):
                                if codes[row, w] < 0 or codes[row, w] >= values:
                                    break
                                if counts[codes[row, w]] >= most:
                                    fits = False
                                    break
                        if fits:
                            chosen = i
                            break
            if chosen < 0:
                full = window == 0  # counts only grow within a page: nothing will fit any more
                if strict:
                    break
                chosen = first
            order[start + placed] = start + chosen
            free[chosen] = False
            row = items[start + chosen]
            if 0 <= row < len(codes):
                for w in range(width):
                    if codes[row, w] < 0 or codes[row, w] >= values:
                        break
                    counts[codes[row, w]] += 1
            placed += 1
        short = placed < places
        for i in range(n):
            if free[i]:
                order[start + placed] = start + i
                kept[start + placed] = not short
                placed += 1
    return order, kept
