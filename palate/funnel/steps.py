"""Trained models put to work: as a route (``VectorRetriever``), as a light scorer that keeps the best (``Prerank``), as the ranker (``Rank``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from palate.batch import Batch
from palate.candidates import Candidates, Floats, Grounds, Ints, Ragged, Request, offsets_of
from palate.contracts import Embedder, Forest, Halved, Ranker
from palate.features.pipeline import FeaturePipeline
from palate.funnel.filters import Asked
from palate.funnel.sides import BLOCK, ItemSide, blocks, slice_candidates, slice_request, user_batch, user_columns
from palate.index.retrievers import strongest
from palate.index.topk import distinct, plain
from palate.schema import nearest
from palate.state.catalogue import Catalogue

LEAST = 1e-30  #: the least probability, so that its logarithm exists
REPEATED = 8_388_608  #: bytes of users' columns repeated at once: what a model makes of a history is many times as large
FEW = 64  #: requests up to which exported weights answer; torch is quicker for many


class Index(Protocol):
    """Nearest neighbours by inner product (see ``palate.index``)."""

    def fit(self, vectors: Floats, ids: Ints) -> Self: ...

    def search(self, queries: Floats, k: int, exclude: Ragged | None = None, only: Ints | None = None) -> tuple[Ints, Floats]: ...

    def add(self, ids: Ints, vectors: Floats) -> None: ...

    def remove(self, ids: Ints) -> None: ...

    def __len__(self) -> int: ...


class _UserSide:
    """An embedder's user vectors: for few users from its weights as exported when this was made, else from itself."""

    def __init__(self, embedder: Embedder, pipeline: FeaturePipeline) -> None:
        self._embedder, self._pipeline = embedder, pipeline
        self._lean = embedder.exported()

    def vectors(self, request: Request) -> Floats:
        """float32 ``[B, D]``; ``ValueError`` where one is not finite."""
        size = len(request)
        vectors = self._lean(user_columns(self._pipeline, request)) if self._lean is not None and size <= FEW else None
        if vectors is None:
            batch, encode = user_batch(self._pipeline, request), self._embedder.encode_user
            with torch.inference_mode():
                parts = [encode(batch.take(slice(start, start + BLOCK)) if size > BLOCK else batch) for start in range(0, max(size, 1), BLOCK)]
                vectors = (parts[0] if len(parts) == 1 else torch.cat(parts)).numpy()
        if not np.isfinite(vectors).all():
            raise ValueError(f"{type(self._embedder).__name__} gave a user a vector that is not finite")
        return vectors


class VectorRetriever:
    """A ``Retriever``: the items whose vectors have the largest inner product with the user's.

    Makes the vectors of all items of the catalogue that are available and fits the index on them; ``add`` and ``remove`` follow the catalogue
    (``items``; the pipeline's own if None).
    """

    def __init__(self, embedder: Embedder, pipeline: FeaturePipeline, index: Index, items: Catalogue | None = None) -> None:
        self.embedder, self.pipeline, self.index = embedder.eval(), pipeline, index
        self.items = pipeline.items if items is None else items
        self._users, self._asked = _UserSide(embedder, pipeline), Asked(self.items)
        rows = np.flatnonzero(self.items.available)
        self.index.fit(self.vectors(rows), rows)

    def vectors(self, rows: Ints) -> Floats:
        """Vectors of these items, float32 ``[N, D]``."""
        made = np.empty((len(rows), self.embedder.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(rows), BLOCK):
                some = Batch.of(self.pipeline.encode_items(rows[start : start + BLOCK]))
                made[start : start + BLOCK] = self.embedder.encode_item(some).numpy()
        return made

    def add(self, rows: Ints) -> None:
        """Take in new items and those whose attributes have changed; take out those that are not available."""
        there = self.items.available[rows]
        self.index.add(rows[there], self.vectors(rows[there]))
        self.index.remove(rows[~there])

    def remove(self, rows: Ints) -> None:
        """Offer these no more."""
        self.index.remove(rows)

    def retrieve(self, request: Request, k: int) -> Candidates:
        """Up to k items for each request, best first, ties by row, none of ``request.exclude``.

        What the request asks of the items (``parameters["where"]``) is asked of the index, so that k come back where k meet it.
        """
        ids, scores = self.index.search(self._users.vectors(request), min(k, len(self.index)), request.exclude, self._asked.rows(request))
        there = ids >= 0
        if there.all():
            return Candidates(ids.ravel(), scores.ravel(), np.arange(len(ids) + 1) * ids.shape[1])
        return Candidates(ids[there], scores[there], offsets_of(there.sum(1)))

    def grounds(self, request: Request, candidates: Candidates) -> Grounds:
        """The item of the history whose vector lies closest to a candidate's; the strength is their cosine."""
        n = len(self.items)
        offsets, items, weights = distinct(request.histories, request.now, n)
        rows = np.union1d(items, candidates.items[candidates.items < n])
        vectors = self.vectors(rows)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        place = np.searchsorted(rows, np.arange(n)).clip(max=max(len(rows) - 1, 0))
        return strongest(
            (offsets, items, weights), candidates, n, lambda own, other: np.einsum("pd,pd->p", vectors[place[own]], vectors[place[other]])
        )

    def similar(self, item: int, k: int) -> tuple[Ints, NDArray[Any]]:
        """The k items whose vectors have the largest inner product with this item's: rows and scores, best first."""
        ids, scores = self.index.search(self.vectors(np.array([item])), k, Ragged.of([[item]]))
        there = ids[0] >= 0
        return ids[0][there], scores[0][there]


class Prerank:
    """Scores by an embedder's inner product and keeps the best ``keep`` of each request. Item vectors are computed once."""

    def __init__(self, embedder: Embedder, pipeline: FeaturePipeline, keep: int = 300) -> None:
        if keep < 1:
            raise ValueError("keep must be at least 1")
        self.embedder, self.pipeline, self.keep = embedder.eval(), pipeline, keep
        self._users = _UserSide(embedder, pipeline)
        self.items = ItemSide(pipeline, lambda batch: {"vector": self.embedder.encode_item(batch)})

    def __call__(self, request: Request, candidates: Candidates) -> Candidates:
        if not len(candidates.items):
            return candidates
        return candidates.rescored(self.scores(request, candidates)).top(max(self.keep, request.parameters.get("k", 0)))

    def scores(self, request: Request, candidates: Candidates) -> Floats:
        """float32 ``[N]``."""
        users = self._users.vectors(request)  # [B, D]
        with torch.inference_mode():
            vectors: Floats = self.items.whole(candidates.items)["vector"].numpy()  # [n_items, D]
        if len(request) == 1:
            return vectors.take(candidates.items, 0) @ users[0]
        made = np.empty(len(candidates.items), np.float32)
        _products(vectors, plain(candidates.items, np.int64), plain(candidates.offsets, np.int64), plain(users, np.float32), made)
        return made


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _products(vectors: Floats, rows: Ints, offsets: Ints, users: Floats, out: Floats) -> None:
    for b in range(len(offsets) - 1):
        for n in range(offsets[b], offsets[b + 1]):
            row = rows[n]
            total = np.float32(0.0)
            for d in range(users.shape[1]):
                total += vectors[row, d] * users[b, d]
            out[n] = total


class Rank:
    """Scores every candidate: the product of each task's probability to its power. Each probability becomes a column named after the task.

    A task that is a number counts by its predicted value, which must be above 0 to tell candidates apart.

    ``powers`` by task (None: 1 each; a task that is left out does not count); a request's ``parameters["powers"]`` goes before them.
    Where the ranker is ``Halved`` the user's half is computed once a request and the items' halves are kept by row.
    """

    def __init__(self, ranker: Ranker | Forest, pipeline: FeaturePipeline, powers: Mapping[str, float] | None = None) -> None:
        self.ranker, self.pipeline, self.tasks = ranker.eval(), pipeline, ranker.tasks
        self.powers = self._checked(dict.fromkeys(self.tasks, 1.0) if powers is None else powers)
        model = ranker if isinstance(ranker, Ranker) else None  # a forest has neither halves nor logits
        self.halved: Halved | None = model if isinstance(model, Halved) and type(model).predict is Ranker.predict else None
        self._answers = None if model is None else model.answers
        halved = self.halved
        self.items = ItemSide(pipeline, dict if halved is None else lambda batch: halved.half(batch, "item"))
        plain = model is not None and type(model).answers is Ranker.answers and all(label.kind == "binary" for label in model.labels)
        self._lean = lean = model.exported() if model is not None and halved is not None and plain else None
        if halved is not None and lean is not None:
            self._packed = ItemSide(pipeline, lambda batch: {"half": lean.pack(halved.half(batch, "item"))})

    def _checked(self, powers: Mapping[str, float]) -> dict[str, float]:
        for task, power in powers.items():
            if task not in self.tasks:
                raise ValueError(f"powers: the ranker has no task {task!r}{nearest(str(task), self.tasks)}")
            if isinstance(power, bool) or not isinstance(power, (int, float)) or not math.isfinite(power):
                raise ValueError(f"powers: {task} must be a finite number, not {power!r}")
        if not any(powers.values()):
            raise ValueError(f"powers: give at least one of {', '.join(self.tasks)} a power")
        return dict(powers)

    def __call__(self, request: Request, candidates: Candidates) -> Candidates:
        if not len(candidates.items):
            return candidates
        powers = self._checked(request.parameters["powers"]) if "powers" in request.parameters else self.powers
        probabilities = self.probabilities(request, candidates)  # [N, T]
        weights = np.array([powers.get(task, 0.0) for task in self.tasks], np.float32)
        scores = np.exp(np.log(np.maximum(probabilities, LEAST)) @ weights)
        return candidates.rescored(scores, **{task: probabilities[:, t] for t, task in enumerate(self.tasks)})

    def probabilities(self, request: Request, candidates: Candidates) -> Floats:
        """Each task's probability, float32 ``[N, T]``."""
        with torch.inference_mode():
            parts = blocks(candidates)
            if self._lean is not None and len(request) <= FEW and len(parts) == 1:
                user, pairs = user_columns(self.pipeline, request), self.pipeline.encode_pairs(request, candidates)
                whole: Floats = self._packed.whole(candidates.items)["half"].numpy()
                found = self._lean(user, pairs, whole, candidates.items, candidates.offsets)
                if found is not None:
                    return found
            if len(parts) == 1:
                return _array(self._block(request, candidates))
            made = np.empty((len(candidates.items), len(self.tasks)), np.float32)
            for start, stop in parts:
                some = self._block(slice_request(request, start, stop), slice_candidates(candidates, start, stop))
                made[int(candidates.offsets[start]) : int(candidates.offsets[stop])] = _array(some)
            return made

    def _block(self, request: Request, candidates: Candidates) -> Tensor:
        users: Mapping[str, Tensor] = user_batch(self.pipeline, request)
        items = self.items.take(candidates.items)
        pairs: Mapping[str, Tensor] = Batch.of(_finite(self.pipeline.encode_pairs(request, candidates)))
        if self.halved is not None:
            users = self.halved.half(Batch(users), "user", "context")
            pairs = self.halved.half(Batch(pairs), "pair") if pairs else pairs
        wide = sum(values[0].nbytes for values in users.values())
        runs = blocks(candidates, max(REPEATED // max(wide, 1), 1))
        if len(runs) == 1:
            return self._run(users, items, pairs, candidates.requests, len(request))
        made = []
        for start, stop in runs:
            mine = slice(int(candidates.offsets[start]), int(candidates.offsets[stop]))
            if mine.start < mine.stop:  # else a request without candidates, which no model need know
                theirs = _rows(users, slice(start, stop))
                made.append(self._run(theirs, _rows(items, mine), _rows(pairs, mine), candidates.requests[mine] - start, stop - start))
        return torch.cat(made)

    def _run(self, users: Mapping[str, Tensor], items: Mapping[str, Tensor], pairs: Mapping[str, Tensor], requests: Ints, size: int) -> Tensor:
        """What belongs to ``size`` requests is repeated for their candidates; what belongs to one is not, but shown to each."""
        if size > 1:
            chosen = torch.from_numpy(requests)
            users = {name: values.index_select(0, chosen) for name, values in users.items()}
        elif self.halved is None:
            users = {name: values.expand(len(requests), *values.shape[1:]) for name, values in users.items()}
        if self.halved is None:
            return self.ranker.predict(Batch({**users, **items, **pairs}))
        assert self._answers is not None
        return self._answers(self.halved.combine(users, items, *([pairs] if pairs else [])))


def _rows(columns: Mapping[str, Tensor], chosen: slice) -> dict[str, Tensor]:
    return {name: values[chosen] for name, values in columns.items()}


def _finite(columns: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """The columns; ``ValueError`` where one is not finite: layers read that as 0, and a broken counter would pass unnoticed."""
    for name, values in columns.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"feature {name!r} is not finite")
    return columns


def _array(tensor: Tensor) -> Floats:
    made: Floats = tensor.to(torch.float32).numpy()
    return made
