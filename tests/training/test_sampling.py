"""What served pages ranked out, and fewer positives of hot items: where it must help, and where it must do no harm."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Own, Sampler
from palate.datasets.sequences import Sequences
from palate.recall.neural.gmf import GMF
from palate.state.rows import EventRows
from palate.training.trainer import Trainer
from tests.conftest import Beats
from tests.worlds import SIZE, Tribes

ROWS = 40_000  #: pairs trained on, whatever is left out; more where there are more users


def learned(rows: EventRows, size: tuple[int, int], ranked_out: Own | None = None, subsample: float = 0.0) -> GMF:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, lists = GMF(Interactions.of(rows, *size), dim=16, negatives=1), Sequences.of(rows, *size)
    mixture = {"uniform": 1.0} if ranked_out is None else {"uniform": 0.8, "ranked_out": 0.2}
    data = model.learn_from(
        lists.thinned(subsample, 0) if subsample else lists, Sampler(torch.from_numpy(lists.counts), mixture, ranked_out=ranked_out)
    )
    Trainer(epochs=max(round(ROWS * SIZE["times"] / len(data)), 1), batch_size=256, learning_rate=0.01).fit(model, data)
    return model


def test_ranked_out_by_chance_does_little_harm(beats: Beats) -> None:
    world, random = Tribes(), np.random.default_rng(1)
    users, items = world.train.shape
    fallen = [(user, item) for user in range(users) for item in random.choice(items, 8, replace=False)]
    out = Own.of(*np.array(fallen).T, (world.rows.users, world.rows.items), users, items)
    plain, told = (world.recall(learned(world.rows, (users, items), own).retrieve(world.request(), 10)) for own in (None, out))
    beats(-0.05, "recall@10", a_fifth_ranked_out_by_chance=told, uniform=plain)


def crowded(world: Tribes, hot: int, each: int) -> tuple[EventRows, tuple[int, int]]:
    """The world's events, and of everybody ``each`` of ``hot`` more items that all take, whatever they like."""
    random, (users, items) = np.random.default_rng(0), world.train.shape
    more = np.concatenate([items + random.choice(hot, each, replace=False) for _ in range(users)])
    who, what = np.concatenate((world.rows.users, np.repeat(np.arange(users), each))), np.concatenate((world.rows.items, more))
    order = random.permutation(len(who))
    signals, values = np.ones(len(who), np.uint32), np.full(len(who), np.nan, np.float32)
    return EventRows(who[order], what[order], np.arange(len(who)), signals, values, ("taken",)), (users, items + hot)


def of_taste(model: Any, world: Tribes, k: int = 10) -> float:
    """Share of what was held out, which is by taste, among the first k of a list of everything."""
    found = model.retrieve(world.request(), k)
    own = found.items < world.held.shape[1]
    return float(world.held[found.requests[own], found.items[own]].sum() / world.held.sum())


def test_fewer_hot_positives_leave_room_for_taste(beats: Beats) -> None:
    """Who takes what everybody takes says nothing; learnt from as often as it happens it stands before all else."""
    world = Tribes()
    rows, size = crowded(world, 20, 12)
    plain, thinned = (of_taste(learned(rows, size, subsample=share), world) for share in (0.0, 0.001))
    beats(0.04, "recall@10 of what is liked", few_hot_positives=thinned, all_of_them=plain)


def test_where_hardly_an_item_is_hot_nothing_is_lost(beats: Beats) -> None:
    world = Tribes()
    plain, thinned = (of_taste(learned(world.rows, world.train.shape, subsample=share), world) for share in (0.0, 0.02))
    beats(-0.03, "recall@10", few_hot_positives=thinned, all_of_them=plain)
