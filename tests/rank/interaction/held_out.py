"""How well rankers do on rows of a world that they were not trained on. Each answer is worked out once, whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from palate.contracts import Ranker
from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import auc
from palate.schema import Schema
from palate.training.trainer import Trainer
from tests.worlds import more

World = Callable[..., tuple[Schema, Pointwise]]


def held_out(cls: type[Ranker], world: World, *, rows: int, of: Any = (), epochs: int = 20, seeds: int = 2, **options: Any) -> float:
    """Mean AUC over so many ``seeds`` of a ranker of 8 dims, trained on ``rows`` of ``world(rows, *of, seed=)``, on 4,000 others."""
    return _held_out(cls, world, rows, of, epochs, seeds, tuple(options.items()))


@cache
def _held_out(cls: type[Ranker], world: World, rows: int, of: Any, epochs: int, seeds: int, options: Any) -> float:
    torch.set_num_threads(1)
    schema, train = world(more(rows), *of, seed=0)
    batch = world(4000, *of, seed=1)[1].batch(torch.arange(4000))
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = cls(schema, **{"dim": 8, "dropout": 0.0, **dict(options)})
        Trainer(epochs=epochs, batch_size=256, learning_rate=0.01, seed=seed).fit(model, train)
        with torch.inference_mode():
            found.append(auc(batch["label:take"].numpy(), model(batch)[:, 0].numpy()))
    return float(np.mean(found))
