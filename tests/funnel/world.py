"""A small world with every stage of the funnel trained just enough to be real."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from palate.candidates import DAY, Candidates, Ints, Request
from palate.datasets.interactions import Interactions
from palate.features.counters import Count, Rate, RouteRank, RouteScore
from palate.features.history import History
from palate.features.pipeline import FeaturePipeline
from palate.features.transforms import Category, Number, Tags
from palate.funnel.filters import Available, Exclude
from palate.funnel.funnel import Funnel, Route
from palate.funnel.steps import Prerank, Rank, VectorRetriever
from palate.index.exact import Exact
from palate.rank.interaction.deepfm import DeepFM
from palate.recall.neighbor.itemcf import ItemCF
from palate.recall.popular.popular import Popular
from palate.recall.two_tower.dssm import DSSM
from palate.schema import Label
from palate.state.catalogue import Catalogue
from palate.state.past import Past
from palate.state.rows import EventRows

GENRES = ("Action", "Drama", "Horror", "Comedy", "War")
TASKS = ("choose", "like", "love")
NOW = 400 * DAY


@dataclass
class World:
    users: Catalogue
    items: Catalogue
    rows: EventRows
    past: Past
    pipeline: FeaturePipeline
    interactions: Interactions

    def request(self, users: Ints, now: int = NOW, **fields: Any) -> Request:
        return self.past.request(users, np.full(len(users), now), **fields)

    def popular(self) -> Popular:
        return Popular().fit(self.interactions)

    def itemcf(self) -> ItemCF:
        return ItemCF().fit(self.interactions)

    def dssm(self, seed: int = 0) -> DSSM:
        torch.manual_seed(seed)
        return DSSM(self.pipeline.schema.only("user", "item", "context"), dim=16, hidden=(32,)).eval()

    def deepfm(self, seed: int = 0) -> DeepFM:
        torch.manual_seed(seed)
        model = DeepFM(self.pipeline.schema, dim=8, hidden=(64, 32)).eval()
        with torch.no_grad():  # as if trained: so that scores differ from item to item
            for weight in model.parameters():
                weight.add_(0.15 * torch.randn_like(weight))
        return model

    def routes(self) -> list[Route]:
        return [
            Route("itemcf", self.itemcf(), 120, priority=1),
            Route("vector", VectorRetriever(self.dssm(), self.pipeline, Exact()), 100),
            Route("popular", self.popular(), 80),
        ]

    def funnel(self, **changes: Any) -> Funnel:
        parts: dict[str, Any] = {
            "recall": self.routes(),
            "filters": [Available(self.items), Exclude()],
            "prerank": Prerank(self.dssm(1), self.pipeline, 60),
            "rank": Rank(self.deepfm(), self.pipeline, {"choose": 1.0, "like": 0.5}),
            "fallback": self.popular(),
        }
        return Funnel(**{**parts, **changes})


def world(n_users: int = 80, n_items: int = 400, events: int = 4_000, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    users, items = Catalogue("users"), Catalogue("items")
    for u in range(n_users):
        users.add(f"u{u}", {"age": float(rng.integers(18, 70)), "gender": str(rng.choice(["F", "M"]))})
    for i in range(n_items):
        genres = [str(g) for g in rng.choice(GENRES, rng.integers(1, 3), replace=False)]
        items.add(f"i{i}", {"genres": genres, "year": float(rng.integers(1950, 2000))}, created=DAY)
    popularity = 1.0 / np.arange(1, n_items + 1)
    values = rng.integers(1, 6, events).astype(np.float32)
    signals = (1 + 2 * (values >= 4) + 4 * (values >= 5)).astype(np.uint32)
    rows = EventRows(
        rng.integers(0, n_users, events),
        rng.choice(n_items, events, p=popularity / popularity.sum()).astype(np.int64),
        np.sort(rng.integers(2 * DAY, NOW, events)),
        signals,
        values,
        ("rated", "like", "love"),
    )
    past = Past(rows, n_users, n_items, windows=(0, 7 * DAY))
    features = [
        Category(column="user.id", part="user_id"),
        Category(column="user.gender"),
        Number(column="user.age", scale="standard"),
        Category(column="item.id", part="item_id"),
        Tags(column="item.genres", length=3),
        Number(column="item.year", scale="standard"),
        History(attribute="id", length=10, part="history"),
        Count(of="item", signal="rated", window=7),
        Rate(of="item", signal="like", among="rated", window=0, prior=20),
        Count(of="user", signal="rated", window=0),
        RouteScore(route="itemcf"),
        RouteRank(route="itemcf"),
        RouteRank(route="popular"),
    ]
    pipeline = FeaturePipeline(features, [Label(task) for task in TASKS]).fit(users, items, rows, past.counts)
    return World(users, items, rows, past, pipeline, Interactions.of(rows, n_users, n_items))


def lists(candidates: Candidates) -> list[list[int]]:
    return [candidates.items[candidates.offsets[b] : candidates.offsets[b + 1]].tolist() for b in range(len(candidates))]
