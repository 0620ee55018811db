import pytest
import torch

from palate.batch import Batch
from palate.rank.interaction.mlp import MLP
from palate.rank.interaction.neuralinteraction import NeuralInteraction
from tests.conftest import Beats
from tests.rank.interaction.stopped import stopped
from tests.worlds import additive, columns, products, schema_of_everything

SCHEMA = schema_of_everything()


@pytest.mark.parametrize("gates", [False, True])
def test_all_pairs_are_multiplied_and_compressed(gates: bool) -> None:
    torch.manual_seed(0)
    model = NeuralInteraction(SCHEMA, dim=4, hidden=(6, 5), mixes=3, gates=gates).eval()
    model.embedding.reset(0.5)
    batch = Batch(columns(SCHEMA, 7))
    fields, count = model.embedding(batch), len(SCHEMA.features)
    pairs = torch.stack([fields[:, i] * fields[:, j] for i in range(count) for j in range(i, count)], 1)
    assert pairs.shape == (7, count * (count + 1) // 2, 4)
    flat, found = fields.flatten(1), torch.einsum("npd,pk->nkd", pairs, model.compress).flatten(1)  # [N, 3 D]
    if gates:
        found = found * 2 * torch.sigmoid(model.gate.out(torch.relu(model.gate.into(flat))))
    first = flat @ model.tower.weight + found @ model.crossed.weight.T
    torch.testing.assert_close(model(batch), model.tower.rest(first))


def test_mixes_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="mixes"):
        NeuralInteraction(SCHEMA, mixes=0)


@pytest.mark.parametrize("gates", [False, True])
def test_products_of_numbers(beats: Beats, gates: bool) -> None:
    """Over the plain tower of as many units."""
    world, small = products(), {"dim": 8, "hidden": (16,)}
    beats(0.01, NeuralInteraction=stopped(NeuralInteraction, world, gates=gates, **small), MLP=stopped(MLP, world, **small))


@pytest.mark.parametrize("gates", [False, True])
def test_nothing_is_lost_where_nothing_is_crossed(beats: Beats, gates: bool) -> None:
    world, small = additive(), {"dim": 8, "hidden": (32, 16)}
    beats(-0.01, NeuralInteraction=stopped(NeuralInteraction, world, gates=gates, **small), MLP=stopped(MLP, world, **small))
