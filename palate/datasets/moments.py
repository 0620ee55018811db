"""Users as they were at many moments, with histories as spans of one log: twenty million examples without twenty million lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from palate.candidates import Histories, Ints, Request
from palate.datasets.columns import Spans, Values
from palate.features.pipeline import FeaturePipeline
from palate.state.past import Past

CHUNK = 65_536  #: moments encoded at a time: bounds memory, changes no result


def moments(pipeline: FeaturePipeline, past: Past, users: Ints, now: Ints) -> tuple[dict[str, Values], dict[str, Values | Spans]]:
    """What ``pipeline.encode_users`` would give for ``users`` ``[E]`` (none of them -1) at ``now`` ``[E]``, kept small.

    First the columns that do not change, one row a user of the catalogue ``[U, ...]`` (to be looked up by ``users``); then those of the moment
    ``[E, ...]``: counts as they are, histories as ``Spans``. Only time gaps are written out, a byte a place.
    """
    fixed: dict[str, Values] = dict(pipeline.user_columns())
    varying: dict[str, Values | Spans] = {}
    shared: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
    gaps: set[str] = set()
    for history, lookup in pipeline.histories():
        key = (history.bit, history.length)
        if key not in shared:
            log = past.spans(users, now, history.length, history.bit)
            shared[key] = torch.from_numpy(log[0]), torch.from_numpy(log[1]), torch.from_numpy(log[2])
        items, starts, lengths = shared[key]
        varying[history.feature_name] = Spans(items, starts, lengths, history.length, lookup)
        gaps.update(history.names()[1:])
    written: dict[str, list[NDArray[Any]]] = {}
    for start in range(0, len(users), CHUNK):
        some = slice(start, start + CHUNK)
        lists = past.histories(users[some], now[some]) if gaps or pipeline.historic else Histories.empty(len(users[some]))
        context = past.context(users[some], now[some])
        columns = pipeline.encode_users(Request(users[some], lists, now[some], context=context, counts=past.counts))
        for name in columns.keys() - fixed.keys() - varying.keys():
            written.setdefault(name, []).append(columns[name].astype(np.int8) if name in gaps else columns[name])
    return fixed, varying | {name: np.concatenate(parts) for name, parts in written.items()}
