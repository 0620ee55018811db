import pytest
import torch

from palate.batch import Batch
from palate.rank.interaction.allinteraction import AllInteraction
from palate.rank.interaction.mlp import MLP
from tests.conftest import Beats
from tests.rank.interaction.stopped import stopped
from tests.worlds import additive, columns, products, schema_of_everything

SCHEMA = schema_of_everything()


@pytest.mark.parametrize("gates", [False, True])
def test_every_field_meets_every_mix(gates: bool) -> None:
    torch.manual_seed(0)
    model = AllInteraction(SCHEMA, dim=4, hidden=(6, 5), mixes=3, gates=gates).eval()
    model.embedding.reset(0.5)
    batch = Batch(columns(SCHEMA, 7))
    fields = model.embedding(batch)
    flat, mixes = fields.flatten(1), [sum(float(weight) * fields[:, f] for f, weight in enumerate(row)) for row in model.mix.detach()]
    found = torch.stack([(fields[:, f] * mix).sum(1) for f in range(len(SCHEMA.features)) for mix in mixes], 1)  # [N, F 3]
    if gates:
        found = found * 2 * torch.sigmoid(model.gate.out(torch.relu(model.gate.into(flat))))
    first = flat @ model.tower.weight + found @ model.crossed.weight.T
    torch.testing.assert_close(model(batch), model.tower.rest(first))


def test_mixes_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="mixes"):
        AllInteraction(SCHEMA, mixes=0)


@pytest.mark.parametrize("gates", [False, True])
def test_products_of_numbers(beats: Beats, gates: bool) -> None:
    """Over the plain tower of as many units."""
    world, small = products(), {"dim": 8, "hidden": (16,)}
    beats(0.01, AllInteraction=stopped(AllInteraction, world, gates=gates, **small), MLP=stopped(MLP, world, **small))


@pytest.mark.parametrize("gates", [False, True])
def test_nothing_is_lost_where_nothing_is_crossed(beats: Beats, gates: bool) -> None:
    world, small = additive(), {"dim": 8, "hidden": (32, 16)}
    beats(-0.01, AllInteraction=stopped(AllInteraction, world, gates=gates, **small), MLP=stopped(MLP, world, **small))
