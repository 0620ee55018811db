"""What a user did, place by place, and the candidate in the same tables: the common ground of models that read a history.

Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from palate.batch import Batch
from palate.layers.embedding import Embedding, column_of, once
from palate.schema import PADDING, Feature, MissingFeature, Schema, nearest


class Past(NamedTuple):
    """``history [N, L, K*D]``, events oldest first, zeros after the last; ``mask [N, L]`` whether there is an event; ``candidate [N, K*D]``;
    ``gaps [N, L, D]`` how long ago each event was, if asked for and there.

    L is the longest history of the batch (at least 1), not the columns' length. Where all rows are one user's (columns expanded over candidates)
    all but ``candidate`` have one row, ``[1, ...]``, and broadcast.
    """

    history: Tensor
    mask: Tensor
    candidate: Tensor
    gaps: Tensor | None


class Behaviors(nn.Module):
    """Finds a schema's behaviour sequences. Has no weights, but for a map of the ``query`` to the events' width where they differ.

    Events are shown by the history (the part, which must share the item id's table) and, for each other table of the items, by the first of the
    user's sequences of the same length that shares it (a history of genres shares ``genre``); those sequences must have the same event at
    the same place. ``query`` names the features (of item or context) that the candidate is shown by; none: those the events share. With
    ``timed`` the sequence ``<history>_gaps`` of time gaps, if there is one, is read too. ``events`` and ``items`` are the sequences and
    the item features whose tables they have, ``gaps`` the sequence of gaps or "", ``unpooled`` all of these sequences:

        self.behaviors = Behaviors(schema, dim)
        self.embedding = Embedding(schema.features, dim, unpooled=self.behaviors.unpooled)
        ...
        fields = self.embedding(batch)                       # [N, F, D]: everything but these sequences, F = len(embedding.names)
        past = self.behaviors(batch, self.embedding, fields)
    """

    def __init__(self, schema: Schema, dim: int, query: Sequence[str] = (), timed: bool = False) -> None:
        super().__init__()
        history, item = schema.part("history"), schema.part("item_id")
        if history.kind != "sequence" or _table(history) != _table(item):
            raise MissingFeature(f"{history.name!r} must be a sequence that shares the table of {item.name!r}: a history of item ids")
        found = {_table(item): (history.name, item.name)}
        owned = {_table(f): f.name for f in reversed(schema.of("item")) if f.kind in ("category", "sequence")}
        for feature in schema.of("user"):
            if feature.kind == "sequence" and feature.length == history.length and _table(feature) in owned:
                found.setdefault(_table(feature), (feature.name, owned[_table(feature)]))
        self.events, self.items = zip(*found.values(), strict=True)
        gaps = f"{history.name}_gaps"
        self.gaps = gaps if timed and gaps in schema and schema[gaps].kind == "sequence" and schema[gaps].length == history.length else ""
        self.unpooled: tuple[str, ...] = (*self.events, self.gaps) if self.gaps else self.events
        self.length, self.width = history.length, len(self.events) * dim
        for name in query:
            if name not in schema or schema[name].owner not in ("item", "context"):
                raise ValueError(f"query: no feature {name!r} of item or context{nearest(name, [f.name for f in schema.of('item', 'context')])}")
        self.query = tuple(query) or self.items
        self.align = nn.Linear(len(query) * dim, self.width) if query and self.query != self.items else None

    def forward(self, batch: Batch, embedding: Embedding, fields: Tensor) -> Past:
        """From the ``fields [N, F, D]`` that ``embedding`` made of all owners of ``batch``."""
        ids = self.ids(batch, len(fields))
        vectors = [embedding.rows(name, ids[name]) for name in self.events]
        gaps = embedding.rows(self.gaps, ids[self.gaps]) if self.gaps else None
        return Past(torch.cat(vectors, -1), ids[self.events[0]] != PADDING, self.candidate(embedding, fields), gaps)

    def candidate(self, embedding: Embedding, fields: Tensor) -> Tensor:
        """``[N, K*D]``: the query's fields side by side, mapped to the events' width if they are not the events' own."""
        chosen = torch.cat([fields[:, embedding.names.index(name)] for name in self.query], 1)
        return chosen if self.align is None else self.align(chosen)

    def ids(self, batch: Batch, size: int) -> dict[str, Tensor]:
        """The ids ``[size, L]`` of each unpooled sequence, ``[1, L]`` where all rows are one user's; L is the longest history."""
        columns = {name: column_of(batch, name, 2) for name in self.unpooled}
        if len({tuple(column.shape) for column in columns.values()} | {(size, self.length)}) > 1:
            shapes = ", ".join(f"{name} {list(column.shape)}" for name, column in columns.items())
            raise ValueError(f"sequences of a history have different lengths: {shapes}, wanted {[size, self.length]}")
        found = {name: once(column) for name, column in columns.items()}
        if any(len(ids) > 1 for ids in found.values()):
            found = columns
        filled = (found[self.events[0]] != PADDING).any(0).nonzero()
        longest = int(filled[-1]) + 1 if len(filled) else 1
        return {name: ids[:, :longest] for name, ids in found.items()}


class Events:
    """The events of a batch, for models of histories so long that only some of them are looked at; those of one user are looked up once.

    ``ids`` by sequence and ``mask``, whether there is an event: ``[N, L]``, or ``[1, L]`` for one user.
    """

    def __init__(self, behaviors: Behaviors, embedding: Embedding, batch: Batch, size: int) -> None:
        self.behaviors, self.embedding, self.ids = behaviors, embedding, behaviors.ids(batch, size)
        self.mask = self.ids[behaviors.events[0]] != PADDING
        self.one = self._rows(self.ids) if len(self.mask) == 1 else None

    def all(self) -> Tensor:
        """``[N, L, W]``, or ``[1, L, W]`` for one user, without the gaps."""
        if self.one is not None:
            return self.one[..., : self.behaviors.width]
        return self._rows({name: self.ids[name] for name in self.behaviors.events})

    def products(self, queries: Tensor, rows: slice) -> Tensor:
        """``[n, L]``: the events' inner products with ``queries [n, W]`` of these rows."""
        parts = zip(self.behaviors.events, queries.chunk(len(self.behaviors.events), 1), strict=True)
        first, *others = (self.embedding.products(name, self.ids[name][rows], part) for name, part in parts)
        for other in others:
            first = first + other
        return first

    def at(self, places: Tensor) -> Tensor:
        """``[N, K, W]`` of the events at ``places [N, K]``, the gaps at the end."""
        if self.one is not None:
            return self.one[0].index_select(0, places.flatten()).unflatten(0, places.shape)
        return self._rows({name: ids.gather(1, places) for name, ids in self.ids.items()})

    def _rows(self, ids: dict[str, Tensor]) -> Tensor:
        return torch.cat([self.embedding.rows(name, some) for name, some in ids.items()], -1)


def _table(feature: Feature) -> str:
    return feature.shares or feature.name
