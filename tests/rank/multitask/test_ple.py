import numpy as np
import torch

from palate.batch import Batch
from palate.rank.multitask.mmoe import MMoE
from palate.rank.multitask.ple import PLE
from tests.conftest import Beats
from tests.rank.multitask.test_mmoe import aucs, fitted, weights
from tests.worlds import LoudTask, columns, schema_of_everything


def test_two_levels_are_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    model, batch = PLE(schema_of_everything(), dim=4, hidden=(6,), experts=2, shared=1).eval(), Batch(columns(schema_of_everything(), 7))
    model.embedding.reset(0.5)
    x, owner = model.embedding(batch).flatten(1), [0, 1, 0, 1, 2]  # of each expert: task 0, task 1, or 2: shared
    reads = [x, x, x]
    for experts, gates, groups in zip(model.experts, model.gates, (3, 2), strict=True):
        layer = experts.layers[0]
        given = [torch.relu(reads[group] @ layer.weight[:, e] + layer.bias[e]) for e, group in enumerate(owner)]
        mixed = []
        for group in range(groups):
            seen = [e for e in range(5) if group == 2 or owner[e] in (group, 2)]
            share = (reads[group] @ gates.scores.weight[:, group, seen]).softmax(1)
            mixed.append(sum(share[:, n, None] * given[e] for n, e in enumerate(seen)))
        reads = mixed
    torch.testing.assert_close(model(batch), model.heads(torch.stack(reads, 1)))


def pair(loud: float) -> tuple[list[float], list[float]]:
    """Of one level, quiet and loud; then MMoE's. PLE is the smaller one."""
    found = []
    for seed in (0, 1):
        world = LoudTask(loud, seed=seed)
        torch.manual_seed(seed)
        ours = PLE(world.schema, dim=4, hidden=(8,), experts=2, shared=1, levels=1, tower=(8,), dropout=0.0)
        peer = MMoE(world.schema, dim=4, hidden=(8,), experts=6, tower=(8,), dropout=0.0, gate_dropout=0.0)
        assert weights(ours) < weights(peer)
        found.append([*aucs(fitted(ours, world.train), world.test), *aucs(fitted(peer, world.train), world.test)])
    mean = np.mean(found, 0).tolist()
    return mean[:2], mean[2:]


def test_where_mmoe_lets_one_task_sink_experts_of_its_own_hold_it(beats: Beats) -> None:
    ours, peer = pair(30.0)
    beats(0.04, PLE=ours[0], MMoE=peer[0])
    beats(-0.02, PLE_on_the_loud_task=ours[1], MMoE=peer[1])


def test_where_tasks_weigh_the_same_it_loses_little(beats: Beats) -> None:
    ours, peer = pair(1.0)
    beats(-0.02, PLE=np.mean(ours), MMoE=np.mean(peer))
