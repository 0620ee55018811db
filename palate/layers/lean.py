"""Trained weights as plain arrays and compiled loops, for requests of a few rows: there torch spends more on its calls than on the sums.

Equal to the layers they are made from within rounding. ``of`` gives None where a model has what they do not know, and an answer is None
for columns that they cannot take: then the layers answer, or say what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from palate.layers.embedding import Embedding
from palate.layers.towers import Tower
from palate.schema import Owner

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Columns = Mapping[str, NDArray[Any]]

_CONTRACT = {"contract"}  # fused multiply-add; nothing that would forget NaN


def _plain(tensor: Tensor) -> Floats:
    """A copy of its own as contiguous float32."""
    return np.array(tensor.detach().cpu().numpy(), np.float32, order="C")


class LeanFields:
    """The fields ``[B, F, D]`` of some owners of an embedding."""

    def __init__(self, embedding: Embedding, *owners: Owner) -> None:
        plan = embedding.plan(*owners)
        self.names, self.places, self.dim = plan.names, plan.places, embedding.dim
        self.bags, self.numbers = (*plan.categories, *plan.sequences), tuple(plan.numbers)
        self.starts = np.array([embedding._start[name] for name in self.bags], np.int64)
        self.sizes = np.array([embedding._rows[name] for name in self.bags], np.int64)
        self.single = len(plan.categories)
        self.table = np.zeros((1, self.dim), np.float32) if embedding.table is None else _plain(embedding.table.weight)
        rows = [embedding._number_at[name] for name in self.numbers]
        self.centre, self.inverse = _plain(embedding.centre)[rows], _plain(embedding.inverse)[rows]
        self.vectors = np.zeros((0, self.dim), np.float32) if embedding.numbers is None else _plain(embedding.numbers)[rows]

    @classmethod
    def of(cls, embedding: Embedding, *owners: Owner) -> Self | None:
        """None where these owners have vectors among their features."""
        return None if embedding.plan(*owners).vectors else cls(embedding, *owners)

    def values(self, columns: Columns) -> Floats:
        """The numbers as they come, float32 ``[F, N]``."""
        return np.stack([columns[name] for name in self.numbers], dtype=np.float32) if self.numbers else np.empty((0, 0), np.float32)

    def __call__(self, columns: Columns) -> Floats | None:
        parts = [columns[name] for name in self.bags]
        size = len(columns[self.names[0]]) if self.names else 1
        if any(len(part) != size or part.dtype != np.int64 or part.ndim != 1 + (n >= self.single) for n, part in enumerate(parts)):
            return None
        spans = np.zeros(len(parts) + 1, np.int64)
        ids = np.empty((size, 0), np.int64)
        if parts:
            shaped = [part[:, None] if n < self.single else part for n, part in enumerate(parts)]
            np.cumsum([part.shape[1] for part in shaped], out=spans[1:])
            ids = np.concatenate(shaped, 1)
        values = self.values(columns)
        if len(values) and values.shape[1] != size:
            return None
        out = np.zeros((size, len(self.names), self.dim), np.float32)
        sound = _fields(ids, spans, self.single, self.starts, self.sizes, self.table, values, self.centre, self.inverse, self.vectors, out)
        return out if sound else None


@njit(cache=True, nogil=True, fastmath=_CONTRACT)
def _fields(ids, spans, single, starts, sizes, table, values, centre, inverse, vectors, out):  # type: ignore[no-untyped-def]
    bags = len(starts)
    for b in range(out.shape[0]):
        for s in range(bags):
            count = 0
            into = out[b, s]
            for at in range(spans[s], spans[s + 1]):
                id = ids[b, at]
                if id < 0 or id >= sizes[s]:
                    return False
                if s >= single and id == 0:  # padding
                    continue
                row = table[starts[s] + id]
                for d in range(len(into)):
                    into[d] += row[d]
                count += 1
            if count > 1:
                for d in range(len(into)):
                    into[d] /= count
        for f in range(len(centre)):
            value = (values[f, b] - centre[f]) * inverse[f]
            if np.isfinite(value):
                into = out[b, bags + f]
                for d in range(len(into)):
                    into[d] = value * vectors[f, d]
    return True


def _following(tower: Tower) -> list[tuple[Floats, Floats]]:
    """Weight ``[in, out]`` and bias of each layer after the first."""
    found = []
    for layer in tower.layers:
        assert isinstance(layer, nn.Linear)
        found.append((_plain(layer.weight.T), _plain(layer.bias)))
    return found


@njit(cache=True, nogil=True, fastmath=_CONTRACT)
def _dense(values, weight, bias, bent):  # type: ignore[no-untyped-def]
    """``values [N, I] @ weight [I, O] + bias``, negative values of ``bent`` ones taken for 0 first; four inputs at a time.

    Everything is indexed in place: a slice inside the loops would cost more than its sums.
    """
    size, width = weight.shape
    out = np.empty((len(values), width), np.float32)
    zero = np.float32(0.0)
    for n in range(len(values)):
        for h in range(width):
            out[n, h] = bias[h]
        for quarter in range(size // 4):
            i = 4 * quarter
            a, b, c, d = values[n, i], values[n, i + 1], values[n, i + 2], values[n, i + 3]
            if bent:
                a, b, c, d = max(a, zero), max(b, zero), max(c, zero), max(d, zero)
            for h in range(width):
                out[n, h] += a * weight[i, h] + b * weight[i + 1, h] + c * weight[i + 2, h] + d * weight[i + 3, h]
        for i in range(size - size % 4, size):
            a = max(values[n, i], zero) if bent else values[n, i]
            for h in range(width):
                out[n, h] += a * weight[i, h]
    return out


@njit(cache=True, nogil=True, fastmath=_CONTRACT)
def _unit(vectors):  # type: ignore[no-untyped-def]
    for b in range(vectors.shape[0]):
        length = 0.0
        for d in range(vectors.shape[1]):
            length += vectors[b, d] * vectors[b, d]
        scale = np.float32(1.0 / max(np.sqrt(length), 1e-12))
        for d in range(vectors.shape[1]):
            vectors[b, d] *= scale


class LeanTower:
    """Columns of some owners to vectors ``[B, D]``: the fields, flat, through a tower; of length 1 where ``normalise``."""

    def __init__(self, fields: LeanFields, tower: Tower, normalise: bool) -> None:
        self.fields, self.normalise = fields, normalise
        self.layers = [(_plain(tower.weight), _plain(tower.bias)), *_following(tower)]

    @classmethod
    def of(cls, embedding: Embedding, tower: Tower, normalise: bool, *owners: Owner) -> Self | None:
        fields = LeanFields.of(embedding, *owners)
        return cls(fields, tower, normalise) if fields is not None and tower.plain else None

    def __call__(self, columns: Columns) -> Floats | None:
        """float32 ``[B, D]``; None for columns that the layers have to judge."""
        found = self.fields(columns)
        if found is None:
            return None
        values: Floats = found.reshape(len(found), found.shape[1] * found.shape[2])  # -1 would not do for nobody
        for place, (weight, bias) in enumerate(self.layers):
            values = _dense(values, weight, bias, place > 0)
        if self.normalise:
            _unit(values)
        return values


class LeanHalves:
    """A ranker whose first layer adds up over owners: halves of one row ``[W]`` each, side by side what is ``linear [T]``, ``first [H]``,
    ``sum [D]`` and ``square [D]`` (D may be 0), and what follows them.

    ``user``: fields of the users and the context. ``pair``: fields of both sides, numbers only: their halves are never written out.
    """

    def __init__(self, user: LeanFields, pair: LeanFields, tower: Tower, bias: Tensor | None, second: Tensor | None, tasks: int) -> None:
        self.user, self.pair, self.tasks = user, pair, tasks
        self.bias = np.zeros(tasks, np.float32) if bias is None else _plain(bias)
        self.second = np.zeros((0, tasks), np.float32) if second is None else _plain(second)
        self.linear, self.crossed = second is not None, len(self.second)
        self.depth = len(self.second) if second is not None else user.dim  # entries of a field that enter the tower
        self.hidden, self._first = tower.width, _plain(tower.weight).reshape(-1, self.depth, tower.width)
        self.first_bias = _plain(tower.bias)
        self.layers = _following(tower)
        self.alone = self._half(np.eye(len(pair.numbers), dtype=np.float32)[:, :, None] * pair.vectors[None], pair)  # [F, W]

    @classmethod
    def of(cls, embedding: Embedding, tower: Tower, bias: Tensor | None, second: Tensor | None, tasks: int) -> Self | None:
        """``second [D, T]`` and the ``bias``: those of a factorization machine; None without one.

        None where a pair's field is no number or the tower is not plain.
        """
        user, pair = LeanFields.of(embedding, "user", "context"), LeanFields.of(embedding, "pair")
        if user is None or pair is None or pair.bags or not len(tower.layers) or not tower.plain:
            return None
        return cls(user, pair, tower, bias, second, tasks)

    def pack(self, half: Mapping[str, Tensor]) -> Tensor:
        """A half of the layers, as one ``[N, W]``."""
        first = half["first"]
        if not self.linear:
            return first
        parts = (half["linear"], first, half["sum"], half["square"])
        whole = first.new_empty(len(first), sum(part.shape[1] for part in parts))
        place = 0
        for part in parts:
            whole[:, place : place + part.shape[1]] = part
            place += part.shape[1]
        return whole

    def _half(self, fields: Floats, source: LeanFields) -> Floats:
        """``[N, W]`` of fields ``[N, F, D]``."""
        into = fields[:, :, : self.depth]
        weight = self._first[source.places.numpy()].reshape(-1, self.hidden)
        first = into.reshape(len(into), len(weight)) @ weight if len(source.names) else np.zeros((len(into), self.hidden), np.float32)
        if not self.linear:
            return np.ascontiguousarray(first)
        return np.concatenate([fields[:, :, self.depth :].sum(1), first, into.sum(1), np.square(into).sum(1)], 1, dtype=np.float32)

    def __call__(self, user: Columns, pairs: Columns, items: Floats, rows: Ints, offsets: Ints) -> Floats | None:
        """Probabilities float32 ``[N, T]`` of candidates ``rows``, those of request b from ``offsets[b]``; ``items [M, W]``: packed, by row."""
        fields = self.user(user)
        if fields is None:
            return None
        mine = self._half(fields, self.user)
        values = self.pair.values(pairs)
        if len(values) and values.shape[1] != len(rows):
            return None
        if len(mine) == 1 < len(offsets) - 1:  # users without fields: one row for all
            mine = mine.repeat(len(offsets) - 1, 0)
        linear = self.tasks if self.linear else 0
        pair, start = self.pair, np.empty((len(rows), self.tasks), np.float32)
        hidden = np.empty((len(rows), self.hidden), np.float32)
        sound = _added(
            mine, items, rows, offsets, values, pair.centre, pair.inverse, self.alone, linear, self.first_bias, self.second, self.bias, hidden, start
        )
        if not sound:
            return None
        for weight, bias in self.layers:
            hidden = _dense(hidden, weight, bias, True)
        _chances(hidden, start)
        return start


@njit(cache=True, nogil=True, fastmath=_CONTRACT)
def _added(  # type: ignore[no-untyped-def]
    users, items, rows, offsets, values, centre, inverse, alone, linear, first_bias, second, bias, hidden, logits
):
    """The sum of the halves: ``hidden [N, H]`` before the bend, and what goes past the tower in ``logits [N, T]``."""
    width, fields, tasks, crossed, first = users.shape[1], len(centre), logits.shape[1], len(second), hidden.shape[1]
    plain = width - crossed  # as far as this it is linear in the numbers; behind it the squares
    whole = np.empty(width, np.float32)
    given = np.zeros(fields, np.float32)
    for b in range(len(offsets) - 1):
        for n in range(offsets[b], offsets[b + 1]):
            row = rows[n]
            for w in range(width):
                whole[w] = users[b, w] + items[row, w]
            for f in range(fields):
                if not np.isfinite(values[f, n]):
                    return False
                given[f] = (values[f, n] - centre[f]) * inverse[f]
                if not np.isfinite(given[f]):
                    given[f] = 0.0
            for part in range(fields // 7):  # loops over few entries cost more to begin than to run
                f = 7 * part
                a, c, d, e, g, i, j = given[f], given[f + 1], given[f + 2], given[f + 3], given[f + 4], given[f + 5], given[f + 6]
                for w in range(plain):
                    four = a * alone[f, w] + c * alone[f + 1, w] + d * alone[f + 2, w] + e * alone[f + 3, w]
                    whole[w] += four + g * alone[f + 4, w] + i * alone[f + 5, w] + j * alone[f + 6, w]
            for f in range(fields - fields % 7, fields):
                a = given[f]
                for w in range(plain):
                    whole[w] += a * alone[f, w]
            for f in range(fields):
                given[f] *= given[f]
            for part in range(fields // 7):
                f = 7 * part
                a, c, d, e, g, i, j = given[f], given[f + 1], given[f + 2], given[f + 3], given[f + 4], given[f + 5], given[f + 6]
                for w in range(plain, width):
                    four = a * alone[f, w] + c * alone[f + 1, w] + d * alone[f + 2, w] + e * alone[f + 3, w]
                    whole[w] += four + g * alone[f + 4, w] + i * alone[f + 5, w] + j * alone[f + 6, w]
            for f in range(fields - fields % 7, fields):
                a = given[f]
                for w in range(plain, width):
                    whole[w] += a * alone[f, w]
            for h in range(first):
                hidden[n, h] = whole[linear + h] + first_bias[h]
            for t in range(tasks):
                logits[n, t] = bias[t] + (whole[t] if linear else np.float32(0.0))
            for d in range(crossed):
                entry = whole[linear + first + d]
                product = np.float32(0.5) * (entry * entry - whole[plain + d])
                for t in range(tasks):
                    logits[n, t] += product * second[d, t]
    return True


@njit(cache=True, nogil=True, fastmath=_CONTRACT)
def _chances(tower, logits):  # type: ignore[no-untyped-def]
    """``logits`` plus the tower's, as probabilities."""
    for n in range(logits.shape[0]):
        for t in range(logits.shape[1]):
            logits[n, t] = np.float32(1.0) / (np.float32(1.0) + np.exp(-(logits[n, t] + tower[n, t])))
