from typing import Any

import pytest
import torch

from palate.batch import Batch
from palate.rank.behavior.din import DIN
from palate.rank.interaction.mlp import MLP
from tests.conftest import Beats
from tests.rank.behavior.judged import held_out
from tests.worlds import Tastes, columns, schema_of_everything

SCHEMA = schema_of_everything()
SMALL: dict[str, Any] = {"dim": 8, "hidden": (32,), "dropout": 0.0}
FITTING: dict[str, Any] = {"epochs": 6, "batch_size": 128, "learning_rate": 0.02}


def made(**options: Any) -> DIN:
    torch.manual_seed(0)
    model = DIN(SCHEMA, dim=4, hidden=(6,), attention=(5,), **options).eval()
    model.embedding.reset(0.5)
    return model


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("activation", ["dice", "prelu"])
def test_one_row_by_hand(softmax: bool, activation: Any) -> None:
    """tower([fields; sum of a(e, c) e]), a = MLP([e; c; e - c; e * c]), without a softmax unless it is asked for."""
    model, batch = made(softmax=softmax, activation=activation), Batch(columns(SCHEMA, 6))
    fields, found, table = model.embedding(batch), model(batch), model.embedding.table.weight
    start = {name: model.embedding._start[name] for name in ("item_id", "genre")}
    for row in range(6):
        item = torch.cat([table[start[name] + batch[name][row]] for name in ("item_id", "genre")])
        events, weights = [], []
        for place in range(int((batch["history"][row] > 0).sum())):
            event = torch.cat([table[start["item_id"] + batch["history"][row, place]], table[start["genre"] + batch["history_genre"][row, place]]])
            inner = torch.cat([event, item, event - item, event * item]) @ model.unit.first.flatten(0, 1) + model.unit.bias
            events.append(event)
            weights.append(model.unit.layers[0](model.unit.activations[0](inner[None]))[0, 0])
        shares = torch.stack(weights).softmax(0) if softmax else torch.stack(weights)
        interest = (shares[:, None] * torch.stack(events)).sum(0)
        torch.testing.assert_close(model.tower(torch.cat([fields[row].flatten(), interest])[None])[0], found[row])


def test_one_users_candidates_are_scored_alike_however_the_columns_lie() -> None:
    model = made()
    user, item = columns(SCHEMA, 1, "user", "context", seed=1), columns(SCHEMA, 9, "item", "pair", seed=2)
    expanded = Batch({**item, **{name: values.expand(9, *values.shape[1:]) for name, values in user.items()}})
    torch.testing.assert_close(model(expanded), model(Batch({name: values.contiguous() for name, values in expanded.items()})))


def test_it_looks_at_the_events_of_the_candidates_genre(beats: Beats) -> None:
    world = Tastes(4000)
    beats(0.05, DIN=held_out(DIN, world, 3000, SMALL, **FITTING), MLP=held_out(MLP, world, 3000, SMALL, **FITTING))


def test_it_does_not_lose_where_all_events_count_the_same(beats: Beats) -> None:
    world = Tastes(4000, by_genre=False)
    beats(-0.015, DIN=held_out(DIN, world, 3000, SMALL, **FITTING), MLP=held_out(MLP, world, 3000, SMALL, **FITTING))
