"""Cleaning: filters that say what they took away."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from palate.tables.events import Events
from palate.tables.report import RejectedRows, Report


def k_core(events: Events, users: int = 5, items: int = 5) -> tuple[Events, Report]:
    """The largest part in which every user has at least ``users`` events and every item at least ``items``.

    Rows taken away stand in the report, numbered from 1, with the side that fell short first.
    """
    if users < 0 or items < 0:
        raise ValueError(f"users and items must not be negative: {users}, {items}")
    user_codes, item_codes = _codes(events.frame["user"]), _codes(events.frame["item"])
    alive = np.arange(len(events), dtype=np.int64)
    fell = np.zeros(len(events), np.int8)  # 1: the user fell short, 2: the item
    while len(alive):
        few_users = np.bincount(user_codes[alive])[user_codes[alive]] < users
        few_items = np.bincount(item_codes[alive])[item_codes[alive]] < items
        gone = few_users | few_items
        if not gone.any():
            break
        fell[alive[gone]] = np.where(few_users[gone], 1, 2)
        alive = alive[~gone]
    places = np.flatnonzero(fell)
    by_user = pl.Series(fell[places] == 1)
    taken = events.frame.select("user", "item")[places]
    table = taken.select(
        row=pl.Series(places + 1),
        column=pl.when(by_user).then(pl.lit("user")).otherwise(pl.lit("item")),
        value=pl.when(by_user).then("user").otherwise("item"),
        reason=pl.when(by_user).then(pl.lit(f"has fewer than {users} events")).otherwise(pl.lit(f"has fewer than {items} events")),
    )
    kept = events.take(fell == 0)
    return kept, Report("k-core", len(events), len(kept), RejectedRows("events", table))


def _codes(ids: pl.Series) -> NDArray[np.int64]:
    """Dense numbers for ids, in no order that means anything."""
    return ids.rank("dense").cast(pl.Int64).to_numpy() - 1 if len(ids) else np.zeros(0, np.int64)
