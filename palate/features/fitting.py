"""What fitting may see: the users and items of the training events, how often each occurs, and the context of the events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from palate.candidates import Ints
from palate.features.cross import Cross
from palate.features.kinds import Static, Transform, check_signal
from palate.features.numbers import Bucket
from palate.schema import nearest
from palate.state.catalogue import Catalogue
from palate.state.rows import EventRows


class Training:
    """What fitting may see: the users and items that occur in the training events, and how often."""

    def __init__(self, catalogues: Mapping[str, Catalogue], rows: Mapping[str, Ints], context: Mapping[str, Sequence[Any]]) -> None:
        self.catalogues = catalogues
        self.context = context
        self.events = {side: np.bincount(rows[side], minlength=len(catalogues[side])) for side in rows}
        self.seen = {side: np.flatnonzero(events).tolist() for side, events in self.events.items()}

    def check(self, feature: Transform) -> None:
        """ValueError where there is no column that the feature reads, or none of the context to learn from."""
        for column in feature.reads:
            side, _, attribute = column.partition(".")
            if side == "context":
                if isinstance(feature, Static) and feature.learns and attribute not in self.context:
                    raise ValueError(f"feature {feature.feature_name!r}: fit needs context={{{attribute!r}: one value an event}}, or values = [...]")
            elif attribute != "id" and attribute not in self.catalogues[side].attribute_names:
                known = [f"{side}.{name}" for name in ("id", *self.catalogues[side].attribute_names)]
                raise ValueError(f"feature {feature.feature_name!r}: no column {column!r}{nearest(column, known)}")
            if isinstance(feature, Cross):
                feature.check(column, self.of(column)[0])

    def rated(self, feature: Bucket, rows: EventRows) -> tuple[Ints, Ints]:
        """For each value of ``weighted``: how many of its events show the feature's signal, among those that show the other."""
        if not feature.signal:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        for signal in filter(None, (feature.signal, feature.among)):
            check_signal(feature.feature_name, signal, rows.names)
        tried = (rows.signals & rows.bit(feature.among)) != 0 if feature.among else np.ones(len(rows), bool)
        hit = tried & ((rows.signals & rows.bit(feature.signal)) != 0)
        if feature.owner == "context":
            return hit.astype(np.int64), tried.astype(np.int64)
        mine = rows.users if feature.owner == "user" else rows.items
        size, seen = len(self.catalogues[feature.owner]), self.seen[feature.owner]
        hits, trials = (np.bincount(mine, shown, size).astype(np.int64)[seen] for shown in (hit, tried))
        return hits, trials

    def weighted(self, feature: Any) -> tuple[list[Any], list[int]]:
        """Values of the feature's column, one an entity seen in training, and its number of events (of context: one an event)."""
        return self.of(feature.column)

    def of(self, column_name: str) -> tuple[list[Any], list[int]]:
        side, _, attribute = column_name.partition(".")
        if side == "context":
            values = list(self.context.get(attribute, ()))
            return values, [1] * len(values)
        catalogue, seen = self.catalogues[side], self.seen[side]
        column = catalogue.ids if attribute == "id" else catalogue.column(attribute)
        return [column[row] for row in seen], self.events[side][seen].tolist()
