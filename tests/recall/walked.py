"""How recall models do in a world of lists (``tests/worlds.py``): how often the next item of a list is among the first k."""

from typing import Any

import numpy as np
import torch

from palate.contracts import Recaller
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences
from palate.recall.neighbor.itemcf import ItemCF
from palate.recall.popular.popular import Popular
from palate.state.catalogue import Catalogue
from palate.training.trainer import Trainer

DRAWN = {"uniform": 0.5, "popularity": 0.5}


def hits(model: Any, world: Any, train: int, k: int) -> float:
    request, wanted = world.asked(train)
    found = model.retrieve(request, k)
    return float((found.items == wanted[found.requests]).sum()) / len(wanted)


def learned(cls: type[Recaller], world: Any, train: int, k: int, options: dict[str, Any], **training: Any) -> float:
    """Of a model fitted on the first ``train`` lists, asked about the others."""
    torch.manual_seed(0)
    rows = world.rows(train)
    given = (Interactions.of(rows, train, world.items), *([Catalogue()] if "catalogue" in cls.__init__.__annotations__ else []))
    model, sequences = cls(*given, **options), Sequences.of(rows, train, world.items)
    Trainer(threads=1, **training).fit(model, model.learn_from(sequences, Sampler(torch.from_numpy(sequences.counts), DRAWN)))
    return hits(model, world, train, k)


def without_order(world: Any, train: int, k: int) -> float:
    """Of neighbours, who know what goes with what and nothing of order."""
    return hits(
        ItemCF(
            neighbors=world.items,
        ).fit(Interactions.of(world.rows(train), train, world.items)),
        world,
        train,
        k,
    )


def popular(world: Any, train: int, k: int) -> float:
    return hits(Popular().fit(Interactions.of(world.rows(train), train, world.items)), world, train, k)


def some_interactions(users: int = 6, items: int = 9) -> Interactions:
    """What a model is made with where only the sizes matter, every user having taken something."""
    return Interactions(np.arange(users + 1), np.arange(users) % items, np.ones(users, np.float32), np.zeros(users, np.int64), items)
