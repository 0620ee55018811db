"""What is computed once instead of once a candidate: a request's user side, and each item's side, kept by catalogue row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palate.batch import Batch
from palate.candidates import Candidates, Histories, Ints, Ragged, Request
from palate.features.pipeline import FeaturePipeline

BLOCK = 65_536  #: candidates (or items) that go through a model at once

_last = threading.local()


def user_columns(pipeline: FeaturePipeline, request: Request) -> dict[str, NDArray[Any]]:
    """Columns of the users and the context, ``[B, ...]``. Each thread keeps those of its last request, as several stages ask for them."""
    if getattr(_last, "request", None) is not request or _last.pipeline is not pipeline:
        columns = pipeline.encode_users(request)
        _last.request, _last.pipeline, _last.columns = request, pipeline, columns
    found: dict[str, NDArray[Any]] = _last.columns
    return found


def user_batch(pipeline: FeaturePipeline, request: Request) -> Batch:
    """``user_columns`` as a model reads them."""
    return Batch.of(user_columns(pipeline, request))


def slice_request(request: Request, start: int, stop: int) -> Request:
    """Requests ``start`` to ``stop`` of a batch."""
    if start == 0 and stop == len(request):
        return request
    past = request.histories
    events = slice(int(past.offsets[start]), int(past.offsets[stop]))
    histories = Histories(
        past.items[events], past.times[events], past.signals[events], past.values[events], past.offsets[start : stop + 1] - past.offsets[start]
    )
    exclude = request.exclude
    if exclude is not None:
        limits = exclude.offsets[start : stop + 1]
        exclude = Ragged(exclude.values[limits[0] : limits[-1]], limits - limits[0])
    return Request(
        request.users[start:stop],
        histories,
        request.now[start:stop],
        {name: values[start:stop] for name, values in request.attributes.items()},
        {name: values[start:stop] for name, values in request.context.items()},
        request.scene,
        request.parameters,
        exclude,
        request.counts,
        request.as_of,
        request.deadline,
        request.rng,
    )


def slice_candidates(candidates: Candidates, start: int, stop: int) -> Candidates:
    """The candidates of requests ``start`` to ``stop``."""
    if start == 0 and stop == len(candidates):
        return candidates
    limits = candidates.offsets[start : stop + 1]
    mine = slice(int(limits[0]), int(limits[-1]))
    columns = {name: values[mine] for name, values in candidates.columns.items()}
    return Candidates(candidates.items[mine], candidates.scores[mine], limits - limits[0], columns)


def blocks(candidates: Candidates, most: int = BLOCK) -> list[tuple[int, int]]:
    """Runs of requests with at most ``most`` candidates together (one request may have more)."""
    if len(candidates.items) <= most:
        return [(0, len(candidates))]
    found, start = [], 0
    while start < len(candidates):
        stop = int(np.searchsorted(candidates.offsets, candidates.offsets[start] + most, side="right")) - 1
        stop = max(stop, start + 1)
        found.append((start, stop))
        start = stop
    return found


class ItemSide:
    """Tensors ``[N, ...]`` by name that ``compute`` makes of item columns, computed when first asked for and kept by row.

    Follows the catalogue: a changed item is computed anew, a new one has a place at once. Call it within ``torch.inference_mode``.
    """

    def __init__(self, pipeline: FeaturePipeline, compute: Callable[[Batch], Mapping[str, Tensor]]) -> None:
        self._pipeline, self._compute = pipeline, compute
        self._catalogue = pipeline.items
        self._writing = threading.Lock()
        self._version = self._catalogue.version
        self._kept: tuple[dict[str, Tensor], NDArray[np.bool_]] = ({}, np.zeros(0, bool))

    def take(self, rows: Ints) -> dict[str, Tensor]:
        """The tensors of these rows ``[N]``. ``IndexError`` for a row that the catalogue does not have."""
        chosen = torch.from_numpy(rows)
        return {name: values.index_select(0, chosen) for name, values in self.whole(rows).items()}

    def whole(self, rows: Ints) -> dict[str, Tensor]:
        """The tensors by row, at least those of ``rows`` filled in. Do not change them."""
        if self._catalogue.version != self._version or not self._kept[0]:
            self._follow()
        tensors, known = self._kept
        if not known[rows].all():
            self._fill(rows)
            tensors, known = self._kept
        return tensors

    def warm(self) -> None:
        """Compute all rows that are not known yet."""
        with torch.inference_mode():
            self._follow()
            self._fill(np.arange(len(self._catalogue)))

    def _follow(self) -> None:
        with self._writing:
            version, size = self._catalogue.version, len(self._catalogue)  # the version first: what changes later is taken in next time
            tensors, known = self._kept
            if len(known) < size or not tensors:
                room = size + size // 4 + 64
                if not tensors:
                    shapes = self._compute(Batch.of(self._pipeline.encode_items(np.zeros(min(size, 1), np.int64))))
                    tensors = {name: values.new_empty((0, *values.shape[1:])) for name, values in shapes.items()}
                grown = {}
                for name, values in tensors.items():
                    grown[name] = values.new_empty((room, *values.shape[1:]))
                    grown[name][: len(values)] = values
                wider = np.zeros(room, bool)
                wider[: len(known)] = known
                tensors, known = grown, wider
            changed = self._catalogue.changed_since(self._version)
            known[changed[changed < len(known)]] = False
            self._kept = (tensors, known)
            self._version = version

    def _fill(self, rows: Ints) -> None:
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self._catalogue)):
            raise IndexError(f"the catalogue has rows 0 to {len(self._catalogue) - 1}, not {rows.min()} to {rows.max()}")
        with self._writing:
            tensors, known = self._kept
            missing = np.unique(rows[~known[rows]])
            for start in range(0, len(missing), BLOCK):
                some = missing[start : start + BLOCK]
                made = self._compute(Batch.of(self._pipeline.encode_items(some)))
                for name, values in made.items():
                    tensors[name].index_copy_(0, torch.from_numpy(some), values)
                known[some] = True
