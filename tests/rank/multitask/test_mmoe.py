import copy

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from palate.batch import Batch
from palate.contracts import Ranker
from palate.datasets.pointwise import Pointwise
from palate.rank.multitask.mmoe import MMoE
from palate.rank.multitask.sharedbottom import SharedBottom
from palate.training.trainer import Trainer
from tests.conftest import Beats
from tests.worlds import Regimes, columns, schema_of_everything


def fitted(model: Ranker, rows: Pointwise, epochs: int = 10, learning_rate: float = 0.02) -> Ranker:
    Trainer(epochs=epochs, batch_size=256, learning_rate=learning_rate, threads=1).fit(model, rows)
    return model


def aucs(model: Ranker, rows: Pointwise) -> list[float]:
    batch = rows.batch(torch.arange(len(rows)))
    with torch.inference_mode():
        found = model.eval().predict(batch).numpy()
    return [float(roc_auc_score(batch[f"label:{task}"], found[:, t])) for t, task in enumerate(model.tasks)]


def weights(model: Ranker) -> int:
    return sum(part.numel() for part in model.parameters())


def test_it_is_the_formula_of_the_paper() -> None:
    """y^k = h^k(sum over i of softmax(W^k x)_i E_i(x))."""
    torch.manual_seed(0)
    model, batch = MMoE(schema_of_everything(), dim=4, hidden=(6,), experts=3, tower=(5,)).eval(), Batch(columns(schema_of_everything(), 7))
    model.embedding.reset(0.5)
    x, layer = model.embedding(batch).flatten(1), model.experts.layers[0]
    for k in range(2):
        share = (x @ model.gates.scores.weight[:, k]).softmax(1)
        mixed = sum(share[:, i, None] * torch.relu(x @ layer.weight[:, i] + layer.bias[i]) for i in range(3))
        tower = model.heads.towers.layers[0]
        hidden = torch.relu(mixed @ tower.weight[:, k] + tower.bias[k])
        torch.testing.assert_close(model(batch)[:, k], hidden @ model.heads.output.weight[:, k, 0] + model.heads.bias[k])


def pair(world: Regimes) -> tuple[float, float]:
    torch.manual_seed(0)
    shared = SharedBottom(world.schema, dim=4, hidden=(32,), tower=(), dropout=0.0)
    experts = MMoE(world.schema, dim=4, hidden=(2,), experts=8, tower=(), dropout=0.0, gate_dropout=0.0)
    assert weights(experts) < weights(shared) < 1.05 * weights(experts)
    return float(np.mean(aucs(fitted(experts, world.train), world.test))), float(np.mean(aucs(fitted(shared, world.train), world.test)))


def test_where_tasks_conflict_gates_beat_a_shared_bottom_of_the_same_size(beats: Beats) -> None:
    experts, shared = pair(Regimes())
    beats(0.02, MMoE=experts, SharedBottom=shared)


def test_where_tasks_are_one_it_loses_next_to_nothing(beats: Beats) -> None:
    experts, shared = pair(Regimes(skills=1))
    beats(-0.006, MMoE=experts, SharedBottom=shared)


def test_with_gate_dropout_no_gate_lives_on_one_expert() -> None:
    """Whichever expert is lost, what is left must do: the worst loss of AUC, without the dropout and with it."""
    world = Regimes(segments=4, skills=2, numbers=6, sharp=4.0, size=4000)
    lost = {}
    for rate in (0.0, 0.1):
        torch.manual_seed(0)
        model = MMoE(world.schema, dim=4, hidden=(8,), experts=4, tower=(8,), dropout=0.0, gate_dropout=rate)
        whole = np.mean(aucs(fitted(model, world.train, epochs=12, learning_rate=0.05), world.test))
        without = []
        for expert in range(4):
            less = copy.deepcopy(model)
            less.gates.allowed = torch.arange(4) != expert
            without.append(np.mean(aucs(less, world.test)))
        lost[rate] = whole - min(without)
    assert lost[0.1] < 0.5 * lost[0.0]
