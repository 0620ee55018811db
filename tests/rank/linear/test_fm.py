import torch

from palate.batch import Batch
from palate.rank.linear.fm import FM
from palate.schema import Feature, Label, Schema
from tests.worlds import TASKS, columns, schema_of_everything

SCHEMA = Schema(tuple(Feature(name, "user", "category", 9) for name in "abc"), (Label("click"),))


def test_linear_time_gives_the_sum_over_pairs_of_the_paper() -> None:
    """y = w0 + sum of w_i x_i + sum over i < j of <v_i, v_j> x_i x_j, pair by pair, for each task."""
    schema = schema_of_everything(*TASKS)
    model = FM(schema, dim=3).eval()
    model.embedding.reset(0.5)
    model.bias.data = torch.tensor([0.3, -0.2])
    batch = Batch(columns(schema, 7))
    fields = model.embedding(batch)  # [7, F, 2 (3 + 1)]
    found = model(batch)
    for row in range(7):
        for t in range(2):
            expected = model.bias[t].item()
            for i in range(len(schema.features)):
                expected += (fields[row, i, 4 * t + 3]).item()
                for j in range(i):
                    expected += (fields[row, i, 4 * t : 4 * t + 3] @ fields[row, j, 4 * t : 4 * t + 3]).item()
            assert abs(found[row, t].item() - expected) < 1e-4


def test_a_task_does_not_learn_from_the_other() -> None:
    model, batch = FM(schema_of_everything(), dim=3), Batch(columns(schema_of_everything(), 8))
    batch["label:choose"], batch["label:like"] = torch.ones(8), torch.full((8,), torch.nan)
    model.loss(batch).backward()
    gradient = model.embedding.table.weight.grad.to_dense()
    assert float(gradient[:, :4].abs().sum()) > 0
    assert float(gradient[:, 4:].abs().sum()) == 0


def test_an_id_is_told_from_another_by_its_weight_and_its_vector() -> None:
    model = FM(SCHEMA, dim=2).eval()
    with torch.no_grad():
        model.embedding.reset(0.5)
        batch = Batch(columns(SCHEMA, 5))
        before = model(batch)
        model.embedding.table.weight[:, 2] += 1.0
    torch.testing.assert_close(model(batch), before + 3.0)
