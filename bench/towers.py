"""A two-tower model on data that does not say when: each item of a user is told from the user's others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.ranked import Split, figures, ranked
from palate import catalog
from palate.batch import Batch
from palate.build import build
from palate.contracts import Embedder
from palate.datasets.columns import Spans
from palate.datasets.interactions import Interactions
from palate.datasets.pairs import Pairs
from palate.schema import UNKNOWN, Feature, Schema

MOST = 400  #: items of a user that are read when a list is asked for


class Towers:
    """``model`` and its ``examples``: up to ``width`` of the user's other items, from a place in an order drawn once, as the history of each."""

    def __init__(self, name: str, options: dict[str, Any], data: Interactions, seed: int, width: int = 50, uniform: int = 1024) -> None:
        ids = data.n_items + UNKNOWN + 1
        features = (Feature("history", "user", "sequence", ids, length=MOST), Feature("item_id", "item", "category", ids))
        self.model: Embedder = build(catalog.load(name), options, Schema(features, user_id="", item_id="item_id"))
        counts = np.diff(data.offsets)
        users = np.repeat(np.arange(data.n_users), counts)
        mixed = data.items[np.lexsort((np.random.default_rng(seed).random(len(users)), users))]
        twice = np.arange(len(users)) + data.offsets[users]  # each user's items twice: those after one of them, once round, are the others
        values = np.empty(2 * len(users), np.int64)
        values[twice] = values[twice + counts[users]] = mixed + UNKNOWN + 1
        others = Spans(values, twice + 1, np.minimum(counts[users] - 1, width), width)
        self.items = {"item_id": np.arange(data.n_items) + UNKNOWN + 1}
        self.examples = Pairs(mixed, users, self.items, {"history": others}, uniform=uniform)
        self.histories = Spans(values, 2 * data.offsets[:-1], np.minimum(counts, MOST), MOST)

    def figures(self, split: Split) -> dict[str, float]:
        """Of the test items of everybody, all items being ranked."""
        training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            items = self.model.encode_item(Batch({name: torch.from_numpy(column) for name, column in self.items.items()}))
            found = figures(ranked(self._scores(items), split), split)
        self.model.train(training)
        return found

    def _scores(self, items: Tensor) -> Callable[[np.ndarray], np.ndarray]:
        return lambda users: (self.model.encode_user(Batch(history=self.histories[torch.from_numpy(users)])) @ items.T).numpy()
