"""Recallers fitted in a world of tribes, and how close a stranger's list comes to that of a known user with the same history."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

from palate.contracts import Recaller
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences
from palate.training.trainer import Trainer
from tests.worlds import Tribes

Any_recaller = TypeVar("Any_recaller", bound=Recaller)
TRAINING = ("epochs", "batch_size", "learning_rate", "weight_decay")


def fitted(cls: type[Any_recaller], world: Tribes, **options: Any) -> Any_recaller:
    """By the trainer's options among ``options`` and the model's own."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    training = {name: options.pop(name) for name in TRAINING if name in options}
    model = cls(world.interactions, **options)
    sequences = Sequences.of(world.rows, *world.train.shape)
    Trainer(**training).fit(model, model.learn_from(sequences, Sampler(torch.from_numpy(sequences.counts))))
    return model


def found(model: Recaller, world: Tribes, known: bool = True, k: int = 10) -> float:
    """Recall at ``k`` of what was held out."""
    return world.recall(model.retrieve(world.request(known), k))


def agreement(model: Recaller, world: Tribes, k: int = 10) -> float:
    """Share of the known users' lists that they get as strangers too, with the same history."""
    one, other = (model.retrieve(world.request(known), k) for known in (True, False))
    lists = [np.split(lists.items, lists.offsets[1:-1]) for lists in (one, other)]
    return float(np.mean([len(np.intersect1d(*pair)) / k for pair in zip(*lists, strict=True)]))
