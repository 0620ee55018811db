"""Small worlds for the routes, and requests out of lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from palate.candidates import DAY, Histories, Ragged, Request
from palate.datasets.interactions import Interactions
from palate.state.catalogue import Catalogue

NOW = 1_000 * DAY


def interactions(dense: np.ndarray[Any, Any], times: np.ndarray[Any, Any] | None = None, now: int = NOW) -> Interactions:
    """From a dense matrix ``[U, I]`` whose zeros are what was not taken."""
    users, items = np.nonzero(dense)
    offsets = np.zeros(len(dense) + 1, np.int64)
    np.cumsum(np.bincount(users, minlength=len(dense)), out=offsets[1:])
    moments = np.full(len(users), NOW - DAY) if times is None else times[users, items]
    return Interactions(offsets, items.astype(np.int64), dense[users, items].astype(np.float32), moments.astype(np.int64), dense.shape[1], now)


def request(
    histories: Sequence[Sequence[int]],
    exclude: Sequence[Sequence[int]] | None = None,
    values: Sequence[Sequence[float]] | None = None,
    ages: Sequence[Sequence[float]] | None = None,
    users: Sequence[int] | None = None,
    now: int = NOW,
) -> Request:
    """``ages`` of the events in days, ``values`` NaN unless given, users strangers unless given."""
    items = Ragged.of(histories)
    flat = [one for row in values for one in row] if values else [np.nan] * len(items.values)
    times = now - (np.array([one for row in ages for one in row]) * DAY if ages else np.ones(len(items.values)) * DAY)
    history = Histories(items.values, times.astype(np.int64), np.zeros(len(flat), np.uint32), np.array(flat, np.float32), items.offsets)
    rows = np.full(len(histories), -1) if users is None else np.array(users)
    return Request(rows.astype(np.int64), history, np.full(len(rows), now), exclude=None if exclude is None else Ragged.of(exclude))


def lists(candidates: Any) -> list[list[int]]:
    return [candidates.items[candidates.offsets[b] : candidates.offsets[b + 1]].tolist() for b in range(len(candidates))]


def random_matrix(users: int = 30, items: int = 25, seed: int = 0, ratings: bool = False) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(seed)
    taken = random.random((users, items)) < 0.25
    taken[:, -1] = False  # nobody took the last item
    return np.where(taken, random.integers(1, 6, taken.shape) if ratings else 1, 0).astype(np.float64)


def checkerboard(size: int = 12) -> np.ndarray[Any, Any]:
    """Users and items of two kinds; everyone took all items of the own kind, but user u not item u."""
    board = (np.arange(size)[:, None] % 2 == np.arange(size) % 2).astype(np.float64)
    np.fill_diagonal(board, 0)
    return board


def catalogue(size: int = 25, seed: int = 0) -> Catalogue:
    random = np.random.default_rng(seed)
    genres = ["drama", "comedy", "war", "romance", "noir"]
    return Catalogue.of(
        pl.DataFrame(
            {
                "id": [f"i{row}" for row in range(size)],
                "genres": [random.choice(genres, random.integers(1, 4), replace=False).tolist() for _ in range(size)],
                "year": random.integers(1950, 2000, size),
                "studio": random.choice(["north", "south", "east"], size),
                "title": [" ".join(random.choice(["the", "red", "house", "of", "night", "sea"], 3)) for _ in range(size)],
            }
        ),
        created={f"i{row}": NOW - (row + 1) * DAY for row in range(size)},
    )
