import torch

from palate.batch import Batch
from palate.rank.multitask.sharedbottom import SharedBottom
from tests.worlds import columns, schema_of_everything


def test_it_is_a_tower_a_task_on_one_perceptron() -> None:
    torch.manual_seed(0)
    model, batch = SharedBottom(schema_of_everything(), dim=4, hidden=(6,), tower=(5,)).eval(), Batch(columns(schema_of_everything(), 7))
    model.embedding.reset(0.5)
    layer, tower = model.shared.layers[0], model.heads.towers.layers[0]
    shared = torch.relu(model.embedding(batch).flatten(1) @ layer.weight[:, 0] + layer.bias[0])
    for k in range(2):
        hidden = torch.relu(shared @ tower.weight[:, k] + tower.bias[k])
        torch.testing.assert_close(model(batch)[:, k], hidden @ model.heads.output.weight[:, k, 0] + model.heads.bias[k])
