import pytest
import torch

from palate.batch import Batch
from palate.layers.towers import Block
from palate.rank.interaction.mlp import MLP
from tests.conftest import Beats
from tests.rank.interaction.stopped import stopped
from tests.worlds import additive, columns, scaled, schema_of_everything


def test_lhuc_sees_the_user_and_the_context() -> None:
    schema = schema_of_everything()
    model = MLP(schema, dim=4, hidden=(6, 5), block="lhuc").eval()
    model.embedding.reset(0.5)
    batch = Batch(columns(schema, 7))
    fields = model.embedding(batch)
    seen = [model.embedding.names.index(f.name) for f in model.embedding.features if f.owner in ("user", "context")]
    assert len(seen) == 7
    torch.testing.assert_close(model(batch), model.tower(fields.flatten(1), fields[:, seen].flatten(1)))


def test_scenes_that_scale_what_is_hidden(beats: Beats) -> None:
    """Over the plain tower, which sees the scene as well; .01 in the worlds of seeds 0, 1 and 2."""
    world, small = scaled(), {"dim": 8, "hidden": (32,), "learning_rate": 0.01}
    beats(0.005, MLP_with_LHUC=stopped(MLP, world, block="lhuc", **small), MLP=stopped(MLP, world, **small))


@pytest.mark.parametrize("block", ["lhuc", "recycle"])
def test_nothing_is_lost_where_nothing_is_crossed(beats: Beats, block: Block) -> None:
    world, small = additive(), {"dim": 8, "hidden": (32, 16)}
    beats(-0.01, MLP_with_blocks=stopped(MLP, world, block=block, **small), MLP=stopped(MLP, world, **small))
