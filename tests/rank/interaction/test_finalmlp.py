from typing import Any

import pytest
import torch

from palate.batch import Batch
from palate.rank.interaction.finalmlp import FinalMLP
from palate.rank.interaction.mlp import MLP
from tests.conftest import Beats
from tests.rank.interaction.stopped import stopped
from tests.worlds import additive, columns, schema_of_everything, two_sides

SCHEMA = schema_of_everything()
SMALL: dict[str, Any] = {"dim": 4, "hidden": (8, 6), "other": (4,)}


def test_it_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    model = FinalMLP(SCHEMA, heads=2, **SMALL).eval()
    for part in (model.embedding, *(stream.seen for stream in model.streams)):
        part.reset(0.5)
    batch = Batch(columns(SCHEMA, 7))
    flat, streams = model.embedding(batch).flatten(1), []
    for stream in model.streams:
        scales = 2 * torch.sigmoid(stream.gate.out(torch.relu(stream.gate.into(stream.seen(batch).flatten(1)))))
        values = (scales * flat) @ stream.tower.weight + stream.tower.bias
        for layer in stream.tower.layers:
            values = layer(torch.relu(values))
        streams.append(torch.relu(values))
    one, other, fusion = *streams, model.fusion
    expected = fusion.bias + one @ fusion.linear[:6] + other @ fusion.linear[6:]
    for n in range(7):
        for task in range(2):
            for head in range(2):  # 3 entries of the first stream, 2 of the second
                matrix = fusion.weight[head].view(3, 2, 2)[:, task]
                expected[n, task] += one[n, 3 * head : 3 * head + 3] @ matrix @ other[n, 2 * head : 2 * head + 2]
    torch.testing.assert_close(model(batch), expected)


def test_the_gates_look_where_they_are_told() -> None:
    model = FinalMLP(SCHEMA, first="context", second="learned", **SMALL).eval()
    batch = Batch(columns(SCHEMA, 2))
    assert model.streams[0].seen.names == ("hour", "scene")
    assert model.streams[1].learned.shape == (1, 4)
    assert FinalMLP(SCHEMA, first="none", **SMALL).streams[0].gate is None
    only_users = SCHEMA.only("user")
    assert FinalMLP(only_users, **SMALL).streams[1].learned is not None  # no item to look at
    assert model(batch).shape == (2, 2)


@pytest.mark.parametrize(("options", "text"), [({"heads": 3}, "heads"), ({"hidden": ()}, "hidden"), ({"first": "all"}, "first and second")])
def test_what_cannot_be_is_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        FinalMLP(SCHEMA, **{**SMALL, **options})


def test_two_sides_that_are_multiplied(beats: Beats) -> None:
    """Over the plain tower of as many units in all; .03, .00 and .03 in the worlds of seeds 0, 1 and 2."""
    world, small = two_sides(), {"dim": 8, "learning_rate": 0.01}
    beats(0.015, FinalMLP=stopped(FinalMLP, world, hidden=(8,), other=(8,), **small), MLP=stopped(MLP, world, hidden=(16,), **small))


def test_nothing_is_lost_where_nothing_is_crossed(beats: Beats) -> None:
    world, small = additive(), {"dim": 8, "hidden": (32, 16)}
    beats(-0.01, FinalMLP=stopped(FinalMLP, world, other=(32, 16), **small), MLP=stopped(MLP, world, **small))
