from typing import Any

import pytest
import torch

from palate.batch import Batch
from palate.rank.interaction.deepfm import DeepFM
from palate.rank.interaction.fibinet import FiBiNET
from palate.rank.interaction.mlp import MLP
from palate.schema import Schema
from tests.conftest import Beats
from tests.rank.interaction.stopped import stopped
from tests.worlds import additive, columns, parity, ring, schema_of_everything

SCHEMA = schema_of_everything()


@pytest.mark.parametrize("pairs", ["all", "each", "interaction"])
def test_it_is_the_formula_of_the_paper(pairs: Any) -> None:
    torch.manual_seed(0)
    model = FiBiNET(SCHEMA, dim=4, hidden=(6, 5), pairs=pairs).eval()
    model.embedding.reset(0.5)
    model.bias.data.normal_()
    batch = Batch(columns(SCHEMA, 7))
    both = model.embedding(batch)
    fields, linear = both[..., :4], both[..., 4:].sum(1)
    weights = torch.relu(torch.relu(fields.mean(2) @ model.senet.into.weight.T) @ model.senet.out.weight.T)
    inputs = []
    for vectors in (fields, fields * weights[:, :, None]):
        place = 0
        for i in range(len(SCHEMA.features)):
            for j in range(i + 1, len(SCHEMA.features)):
                matrix = model.pairs.weight[{"all": 0, "each": i, "interaction": place}[pairs]]
                inputs.append((vectors[:, i] @ matrix) * vectors[:, j])
                place += 1
    torch.testing.assert_close(model(batch), model.bias + linear + model.tower(torch.cat(inputs, 1)))


def test_one_feature_has_no_pair() -> None:
    with pytest.raises(ValueError, match="two features"):
        FiBiNET(Schema(SCHEMA.features[:1], SCHEMA.labels))


def test_a_ring_needs_a_matrix_between_the_two(beats: Beats) -> None:
    """Inner products of one table are the same whichever way round, bilinear ones are not; both are read by the same linear layer."""
    world = ring()
    own = stopped(FiBiNET, world, dim=8, hidden=(), pairs="all")
    beats(0.2, FiBiNET=own, DeepFM=stopped(DeepFM, world, dim=8, hidden=(), form="serial"))


def test_fields_that_say_nothing(beats: Beats) -> None:
    """Eight of twelve fields are noise, and the pairs they add do no harm. That the excitation helps here is not claimed: see the model."""
    world, small = parity(noise=8), {"dim": 8, "hidden": (32, 16), "learning_rate": 0.002}
    beats(-0.01, FiBiNET=stopped(FiBiNET, world, **small), MLP=stopped(MLP, world, **small))


def test_nothing_is_lost_where_nothing_is_crossed(beats: Beats) -> None:
    world, small = additive(), {"dim": 8, "hidden": (32, 16)}
    beats(-0.015, FiBiNET=stopped(FiBiNET, world, **small), MLP=stopped(MLP, world, **small))
