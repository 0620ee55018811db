"""Moments: what is kept as spans is what would have been written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palate.datasets.columns import Columns, Spans
from palate.datasets.moments import moments
from palate.features.pipeline import FeaturePipeline
from palate.state.past import Past
from tests.features import small


def test_columns_equal_those_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.datasets.moments.CHUNK", 17)
    users, items, rows = small.users(), small.items(), small.events(7, 11, 200)
    past = Past(rows, 7, 11, small.WINDOWS, limit=9, audience=small.AUDIENCE)
    pipeline = FeaturePipeline(small.features()).fit(users, items, rows, context={**rows.context, "hour": [3.0] * len(rows)})
    taken = rows.showing("like")
    expected = pipeline.encode_users(past.request(taken.users, taken.times))
    fixed, varying = moments(pipeline, past, taken.users, taken.times)
    assert isinstance(varying["history_id"], Spans)
    assert fixed.keys() | varying.keys() == expected.keys()
    assert not fixed.keys() & varying.keys()
    chosen = torch.from_numpy(np.random.default_rng(0).permutation(len(taken)))
    found = Columns(fixed).take(torch.from_numpy(taken.users)[chosen]) | Columns(varying).take(chosen)
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name].numpy(), column[chosen.numpy()], err_msg=name)
    assert (expected["history_genres_like"] > 0).any(1).mean() > 0.5
    assert len({int(n) for n in (expected["history_id"] > 0).sum(1)}) > 3, "histories of many lengths"


def test_without_gaps_no_history_is_written_out() -> None:
    users, items, rows = small.users(), small.items(), small.events(7, 11)
    past = Past(rows, 7, 11, small.WINDOWS, audience=small.AUDIENCE)
    kept = [feature for feature in small.features() if not getattr(feature, "gaps", False) and feature.owner != "context"]
    _, varying = moments(FeaturePipeline(kept).fit(users, items, rows), past, rows.users, rows.times)
    assert [name for name, column in varying.items() if isinstance(column, Spans)] == ["history_genres_like", "studios"]
    assert all(isinstance(column, Spans) or column.ndim == 1 for column in varying.values())
