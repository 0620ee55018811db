"""How a ranker does in a world whose features are drawn: fitted on half of the rows, stopped by a quarter, judged by the last.

Each answer is worked out once, whoever asks.
"""

from functools import cache
from typing import Any

import numpy as np
import torch

from palate.batch import Batch
from palate.contracts import Ranker
from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import auc
from palate.training.trainer import Trainer
from tests.worlds import Drawn


@cache
def stopped(cls: type[Ranker], world: Drawn, learning_rate: float = 0.005, epochs: int = 12, **options: Any) -> float:
    """AUC on the last quarter of the world's rows, of the weights that were best on the third."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, half = cls(world.schema, **options), len(world.labels) // 2

    def judged(start: int, end: int) -> float:
        batch = Batch.of({name: values[start:end] for name, values in world.columns.items()})
        with torch.inference_mode():
            return auc(world.labels[start:end], model.eval()(batch)[:, 0].numpy())

    rows = Pointwise({name: values[:half] for name, values in world.columns.items()}, {"click": world.labels[:half]}, np.arange(half))
    trainer = Trainer(epochs=epochs, batch_size=128, learning_rate=learning_rate, patience=2, threads=1)
    trainer.fit(model, rows, lambda: judged(half, half * 3 // 2))
    return judged(half * 3 // 2, len(world.labels))
