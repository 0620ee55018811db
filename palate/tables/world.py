"""World: what every source of data returns, public data set or synthetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from palate.tables.events import Events


@dataclass(frozen=True)
class World:
    """``users`` and ``items`` have their column "id" first. ``terms``: the data's terms of use. ``truth``: known preferences, if any."""

    events: Events
    users: pl.DataFrame
    items: pl.DataFrame
    name: str
    terms: str = ""
    truth: Any = None
