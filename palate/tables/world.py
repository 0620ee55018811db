"""World: what every source of data returns, public data set or synthetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from palate.tables.events import Events


@dataclass(frozen=True)
class World:
    """``users`` and ``items`` have their column "id" first. ``terms``: the data's terms of use. ``truth``: known preferences, if any.
    ``log``: for events out of a state's own log, the log's identity and the number of the last event; ``ranked_out``: ``user item time`` of what
    recall offered for its pages and a later stage put far down (None: nobody kept that)."""

    events: Events
    users: pl.DataFrame
    items: pl.DataFrame
    name: str
    terms: str = ""
    truth: Any = None
    log: Mapping[str, int] = field(default_factory=dict)
    ranked_out: pl.DataFrame | None = None
