"""Trace: what each stage did with a request's items, so that "why this one?" and "why not that one?" have an answer.

It holds the (immutable) candidates after each stage, so it costs nothing but their memory; everything else is worked out when asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palate.candidates import Candidates, Ints


@dataclass(frozen=True, slots=True)
class Passage:
    """One stage of one call. ``after`` are the candidates it handed on (for a route: what it offered; None where it failed).

    ``kind`` is recall, merge, filter, prerank, rank, rerank, fallback or page; ``outcome`` ok, error, timeout, invalid (scores that are
    not finite, or an answer to other requests), open (its breaker was open) or skipped (no time was left).
    """

    stage: str
    kind: str
    outcome: str
    seconds: float
    after: Candidates | None
    message: str = ""


@dataclass(slots=True)
class Trace:
    """Give an empty one to ``Funnel.recommend``; read it afterwards."""

    passages: list[Passage] = field(default_factory=list)

    @property
    def degraded(self) -> list[str]:
        """``"stage: outcome"`` of every stage that the answer had to do without, once each."""
        return list(dict.fromkeys(f"{one.stage}: {one.outcome}" for one in self.passages if one.outcome != "ok"))

    def note(self, passage: Passage) -> None:
        self.passages.append(passage)

    def summary(self, request: int = 0) -> list[dict[str, Any]]:
        """For each stage: its name, kind, outcome, µs and how many items of this request came out of it, as plain JSON."""
        found = []
        for one in self.passages:
            entry: dict[str, Any] = {"stage": one.stage, "kind": one.kind, "outcome": one.outcome, "microseconds": round(1e6 * one.seconds)}
            if one.after is not None:
                entry["items"] = int(one.after.offsets[request + 1] - one.after.offsets[request])
            if one.message:
                entry["message"] = one.message
            found.append(entry)
        return found

    def why(self, item: int, request: int = 0) -> list[dict[str, Any]]:
        """The way of one item (a row) through the stages: place and score in each that had it; ``dropped`` where it was left out."""
        way = []
        inside = False
        for one in self.passages:
            entry: dict[str, Any] = {"stage": one.stage, "kind": one.kind}
            if one.after is None:
                entry["outcome"] = one.outcome
                way.append(entry)
                continue
            start, stop = int(one.after.offsets[request]), int(one.after.offsets[request + 1])
            at = np.flatnonzero(one.after.items[start:stop] == item)
            if len(at):
                entry["place"] = int(at[0])
                entry["score"] = float(one.after.scores[start + int(at[0])])
                inside = inside or one.kind != "recall"
            elif inside:
                entry["dropped"] = True
                inside = False
            elif one.kind != "recall":
                continue
            else:
                entry["offered"] = False
            way.append(entry)
        return way

    def dropped_by(self, item: int, request: int = 0) -> str | None:
        """The stage that left an item out: ``"recall"`` if no route offered it, None if it is on the page."""
        dropped: str | None = "recall"
        for entry in self.why(item, request):
            if entry["kind"] == "recall":
                continue
            if entry.get("dropped"):
                dropped = str(entry["stage"])
            elif "place" in entry:
                dropped = None
        return dropped

    def dropped(self, request: int = 0) -> dict[str, Ints]:
        """Rows that each stage left out (only stages that left any)."""
        found: dict[str, Ints] = {}
        before: Ints | None = None
        for one in self.passages:
            if one.kind == "recall" or one.after is None:
                continue
            now = one.after.items[one.after.offsets[request] : one.after.offsets[request + 1]]
            if before is not None:
                gone = before[~np.isin(before, now)]
                if len(gone):
                    found[one.stage] = gone
            before = now
        return found
