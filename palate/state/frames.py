"""The log as tables, for training again."""

from __future__ import annotations

import json
import sqlite3

import polars

EVENTS = {
    "event_id": polars.String,
    "user": polars.String,
    "item": polars.String,
    "time": polars.Int64,
    "kind": polars.String,
    "value": polars.Float32,
    "request_id": polars.String,
    "context": polars.String,
    "key": polars.Int64,
    "sequence": polars.Int64,
}
PAGES = {
    "request_id": polars.String,
    "user": polars.String,
    "now": polars.Int64,
    "as_of": polars.Int64,
    "items": polars.String,
    "page": polars.String,
}


def events_frame(connection: sqlite3.Connection) -> polars.DataFrame:
    """Every event, in the order the live state keeps them (time, then key); each key of a context is a column of its own.

    A context's column that holds different kinds of values comes as text.
    """
    query = "SELECT event_id, user, item, time, kind, value, request_id, context, key, sequence FROM events ORDER BY time, key"
    found = connection.execute(query).fetchall()
    frame = polars.DataFrame(found, schema=EVENTS, orient="row")
    contexts = [json.loads(text) if text else {} for text in frame["context"]] if frame["context"].null_count() < len(frame) else []
    names = list(dict.fromkeys(name for context in contexts for name in context))
    columns = [context_column(name if name not in EVENTS else f"context.{name}", [context.get(name) for context in contexts]) for name in names]
    return frame.select("user", "item", "time", "kind", "value", "request_id", "event_id", "sequence").with_columns(columns)


def context_column(name: str, values: list[object]) -> polars.Series:
    """Values of a context as a column; of different kinds, as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and all(abs(value) < 2**63 for value in values if isinstance(value, int)):
        return polars.Series(name, values, polars.Float64 if float in kinds else polars.Int64, strict=False)
    if kinds in ({bool}, {str}):
        return polars.Series(name, values)
    return polars.Series(name, [None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values], polars.String)


def pages_frame(connection: sqlite3.Connection) -> polars.DataFrame:
    """Every page in the order it was served; ``items`` as a list of ids."""
    found = connection.execute("SELECT request_id, user, now, as_of, items, page FROM pages ORDER BY number").fetchall()
    frame = polars.DataFrame(found, schema=PAGES, orient="row")
    return frame.with_columns(frame["items"].str.json_decode(polars.List(polars.String)))
