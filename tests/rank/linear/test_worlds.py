"""FM wins where pairs count, FFM where each pair has its own way of meeting; where neither is so they lose little."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

from palate.contracts import Ranker
from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import auc
from palate.rank.linear.ffm import FFM
from palate.rank.linear.fm import FM
from palate.rank.linear.lr import LR
from palate.training.trainer import Trainer
from tests.conftest import Beats
from tests.worlds import met, more

SIZES: dict[type[Ranker], dict[str, Any]] = {LR: {}, FM: {"dim": 12}, FFM: {"dim": 2}}  # FM and FFM have 12 numbers a value


@cache
def held_out(cls: type[Ranker], of: str) -> float:
    """AUC on rows that were not trained on, the mean over two worlds; a third part says when to stop."""
    torch.set_num_threads(1)
    found = []
    for seed in (0, 1):
        (schema, train), (_, valid), (_, test) = (met(rows, of, seed, part) for part, rows in enumerate((more(6000), 2000, 4000)))
        torch.manual_seed(seed)
        model = cls(schema, **SIZES[cls])
        Trainer(epochs=30, batch_size=512, learning_rate=0.02, seed=seed).fit(model, train, lambda model=model, valid=valid: judged(model, valid))  # type: ignore[misc]
        found.append(judged(model, test))
    return float(np.mean(found))


def judged(model: Ranker, rows: Pointwise) -> float:
    batch = rows.batch(torch.arange(len(rows)))
    with torch.inference_mode():
        return auc(batch["label:take"].numpy(), model.predict(batch)[:, 0].numpy())


def test_fm_wins_where_pairs_count(beats: Beats) -> None:
    beats(0.1, FM=held_out(FM, "pairs"), LR=held_out(LR, "pairs"))


def test_ffm_wins_over_fm_of_its_size_where_fields_matter(beats: Beats) -> None:
    beats(0.01, FFM=held_out(FFM, "fields"), FM=held_out(FM, "fields"))


def test_they_lose_little_where_values_count_alone(beats: Beats) -> None:
    beats(-0.015, FM=held_out(FM, "values"), LR=held_out(LR, "values"))
    beats(-0.015, FFM=held_out(FFM, "values"), LR=held_out(LR, "values"))


def test_ffm_loses_little_where_pairs_meet_alike(beats: Beats) -> None:
    beats(-0.04, FFM=held_out(FFM, "pairs"), FM=held_out(FM, "pairs"))
