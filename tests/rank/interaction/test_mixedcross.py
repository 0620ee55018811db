import pytest
import torch

from palate.batch import Batch
from palate.rank.interaction.mixedcross import MixedCross
from palate.rank.interaction.mlp import MLP
from tests.conftest import Beats
from tests.rank.interaction.stopped import stopped
from tests.worlds import additive, columns, products, ring, schema_of_everything

SCHEMA = schema_of_everything()


def test_each_head_crosses_in_its_own_way() -> None:
    torch.manual_seed(0)
    model = MixedCross(SCHEMA, dim=10, hidden=(6,), blocks=2).eval()
    model.embedding.reset(0.5)
    batch, count = Batch(columns(SCHEMA, 5)), len(SCHEMA.features)
    base = fields = model.embedding(batch)
    for layer in model.layers:
        assert layer.sizes == [3, 3, 2, 2]
        cross, bilinear, attention, _ = layer.heads
        mine, theirs = base.split([3, 3, 2, 2], 2), fields.split([3, 3, 2, 2], 2)
        crossed = mine[0] * (theirs[0].flatten(1) @ cross.full.weight + cross.full.bias).view(5, count, 3)
        turned, plain = torch.zeros(5, count, 3), torch.zeros(5, count, 2)
        for i in range(count):
            for j in range(count):
                if i != j:
                    turned[:, i] += (theirs[1][:, i] @ bilinear.weight[i]) * mine[1][:, j]
                    plain[:, i] += theirs[3][:, i] * mine[3][:, j]
        query, key, value, kept = (theirs[2] @ attention.over.weight).chunk(4, 2)
        seen = torch.relu(torch.softmax(query @ key.transpose(1, 2), 2) @ value + kept)
        fields = fields + torch.cat([crossed, turned, seen, plain], 2) @ layer.out
    torch.testing.assert_close(model(batch), model.tower(fields.flatten(1)))


@pytest.mark.parametrize(("kinds", "dim"), [((), 8), (("other",), 8), (("fm", "fm", "fm"), 2)])
def test_kinds_that_cannot_be_are_refused(kinds: tuple[str, ...], dim: int) -> None:
    with pytest.raises(ValueError, match="kinds"):
        MixedCross(SCHEMA, dim=dim, kinds=kinds)


def test_one_kind_alone_is_not_enough_in_a_ring(beats: Beats) -> None:
    """Without the heads that turn a vector the world cannot be told; both are read by the same linear layer."""
    world, small = ring(), {"dim": 8, "hidden": ()}
    beats(0.1, MixedCross=stopped(MixedCross, world, **small), only_fm=stopped(MixedCross, world, kinds=("fm",), **small))


def test_products_of_numbers(beats: Beats) -> None:
    """Over the plain tower of as many units; but one kind alone does as well as all four, and none of these is missed.

    AUC in the ring: all .824; only cross .831, bilinear .830, attention .828, fm .512; without them .819, .823, .823, .822.
    Of products: all .860; only cross .860, bilinear .867, attention .835, fm .861; without them .859, .859, .860, .862.
    """
    world, small = products(), {"dim": 8, "hidden": (16,)}
    every = stopped(MixedCross, world, **small)
    beats(0.01, MixedCross=every, MLP=stopped(MLP, world, **small))
    beats(-0.01, only_bilinear=stopped(MixedCross, world, kinds=("bilinear",), **small), MixedCross=every)
    beats(-0.01, without_bilinear=stopped(MixedCross, world, kinds=("cross", "attention", "fm"), **small), MixedCross=every)


def test_nothing_is_lost_where_nothing_is_crossed(beats: Beats) -> None:
    world, small = additive(), {"dim": 8, "hidden": (32, 16)}
    beats(-0.01, MixedCross=stopped(MixedCross, world, **small), MLP=stopped(MLP, world, **small))
