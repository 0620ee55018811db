from __future__ import annotations

import numpy as np
import polars

from palate.state.catalogue import Catalogue
from palate.state.rows import event_rows
from palate.tables.events import Events
from palate.tables.signals import Signal

SIGNALS = (Signal("any"), Signal("like", ("rating",), 4.0), Signal("low", ("rating", "vote"), None, 3.3), Signal("view", ("view",)))


def test_rows_signals_and_order() -> None:
    frame = polars.DataFrame(
        {
            "user": ["b", "a", "stranger", "a", "b"],
            "item": ["x", "y", "x", "gone", "y"],
            "time": [30, 10, 20, 10, 10],
            "kind": ["rating", "view", "rating", "vote", "rating"],
            "value": polars.Series([5.0, None, 3.3, 1.0, 4.0], dtype=polars.Float32),
        }
    )
    users = Catalogue.of(polars.DataFrame({"id": ["a", "b"]}), "users")
    items = Catalogue.of(polars.DataFrame({"id": ["x", "y"]}))
    rows = event_rows(Events(frame), users, items, SIGNALS)
    assert rows.names == ("any", "like", "low", "view")
    assert rows.times.tolist() == [10, 10, 10, 20, 30]
    assert rows.users.tolist() == [0, 0, 1, -1, 1]  # the order of the table within an instant
    assert rows.items.tolist() == [1, -1, 1, 0, 0]
    assert rows.signals.tolist() == [0b1001, 0b0101, 0b0011, 0b0101, 0b0011]
    assert np.isnan(rows.values[0])
    assert rows.users.dtype == rows.items.dtype == rows.times.dtype == np.int64
    assert rows.signals.dtype == np.uint32
    ordered = frame.sort("time", maintain_order=True)[["kind", "value"]].rows()
    truth = [sum(signal.shown_by(*event) << place for place, signal in enumerate(SIGNALS)) for event in ordered]
    assert rows.signals.tolist()[:3] == truth[:3]


def test_empty_table_and_empty_catalogues() -> None:
    frame = polars.DataFrame(schema={"user": polars.String, "item": polars.String, "time": polars.Int64, "kind": polars.String})
    assert len(event_rows(Events(frame), Catalogue("users"), Catalogue(), SIGNALS)) == 0
    one = polars.DataFrame({"user": ["a"], "item": ["x"], "time": [1], "kind": ["view"]})
    rows = event_rows(Events(one), Catalogue("users"), Catalogue(), SIGNALS)
    assert rows.users.tolist() == rows.items.tolist() == [-1]
