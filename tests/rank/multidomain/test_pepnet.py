import numpy as np
import torch

from palate.batch import Batch
from palate.rank.multidomain.pepnet import PEPNet
from tests.conftest import Beats
from tests.rank.multidomain.test_star import WIDTHS, aucs, fitted, plain
from tests.worlds import Scenes, columns, schema_of_everything


def gate(unit: torch.nn.Module, values: torch.Tensor) -> torch.Tensor:
    """2 sigmoid(W' relu(W x + b) + b')."""
    return 2 * torch.sigmoid(torch.relu(values @ unit.into.weight.T + unit.into.bias) @ unit.out.weight.T + unit.out.bias)


def test_it_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    model, batch = PEPNet(schema_of_everything(), dim=4, hidden=(6, 5), prior=("user_id", "genre")).eval(), Batch(columns(schema_of_everything(), 7))
    for part in (model.embedding, model.scene, model.prior):
        part.reset(0.5)
    e = model.embedding(batch).flatten(1)
    o = e * gate(model.epnet, torch.cat([model.scene(batch).flatten(1), e], 1))
    prior = torch.cat([model.prior(batch).flatten(1), o], 1)
    for t in range(2):
        h = o
        for layer, unit, width in zip(model.layers, model.ppnet, (6, 5), strict=True):
            h = torch.relu(h @ layer.weight[:, t] + layer.bias[t]) * gate(unit, prior)[:, t * width : (t + 1) * width]
        torch.testing.assert_close(model(batch)[:, t], h @ model.output.weight[:, t, 0] + model.bias[t])


def test_gates_learn_from_the_embeddings_but_do_not_move_them() -> None:
    """With the way through the towers cut, nothing reaches the embeddings; the gates' own tables still learn."""
    model, batch = PEPNet(schema_of_everything(), dim=4, hidden=(6,)).eval(), Batch(columns(schema_of_everything(), 7))
    e = model.embedding(batch).flatten(1)
    model.epnet.scales(torch.cat([model.scene(batch).flatten(1), e.detach()], 1))
    read = []
    for unit in (model.epnet, *model.ppnet):
        unit.into.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    model(batch)
    assert len(read) == 2
    for values, width in zip(read, (4, 8), strict=True):
        for table, reached in ((model.embedding.table.weight, False), (model.scene.table.weight, width == 4), (model.prior.table.weight, width == 8)):
            gradient = torch.autograd.grad(values.sum(), table, retain_graph=True, allow_unused=True)[0]
            assert (gradient is not None) == reached


def test_where_scenes_share_some_and_differ_in_some_it_beats_the_plain_ways(beats: Beats) -> None:
    world = Scenes()
    torch.manual_seed(0)
    own = np.mean(aucs(fitted(PEPNet(world.schema, gate=16, **WIDTHS), world.train), world.test))
    for way, found in plain(True).items():
        beats(0.008, PEPNet=own, **{f"MLP, {way}": found})


def test_where_scenes_are_alike_it_loses_little(beats: Beats) -> None:
    world = Scenes(differ=False)
    torch.manual_seed(0)
    own = np.mean(aucs(fitted(PEPNet(world.schema, gate=16, **WIDTHS), world.train), world.test))
    for way, found in plain(False).items():
        beats(-0.03, PEPNet=own, **{f"MLP, {way}": found})
