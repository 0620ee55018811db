"""How a ranker does in a world of ``tests/worlds.py``."""

from typing import Any

import numpy as np
import torch

from palate.batch import Batch
from palate.contracts import Ranker
from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import auc
from palate.training.trainer import Trainer
from tests.worlds import more


def held_out(cls: type[Ranker], world: Any, train: int, options: dict[str, Any], **training: Any) -> float:
    """AUC on the rows from ``train`` on of a world with one task, after fitting on those before; ``train`` as the test says it, not the bench."""
    torch.manual_seed(0)
    train = more(train)
    model = cls(world.schema, **options)
    known = {name: values[:train] for name, values in world.columns.items()}
    rows = Pointwise(known, {model.tasks[0]: world.labels[:train]}, np.arange(train))
    Trainer(threads=1, **training).fit(model, rows)
    with torch.inference_mode():
        scores = model(Batch.of({name: values[train:] for name, values in world.columns.items()}))[:, 0]
    return auc(world.labels[train:], scores.numpy())
