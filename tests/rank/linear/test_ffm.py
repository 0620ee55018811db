import torch

from palate.batch import Batch
from palate.rank.linear.ffm import FFM, _Pairs
from tests.worlds import TASKS, columns, schema_of_everything


def test_the_sum_over_pairs_of_the_paper() -> None:
    """y = w0 + sum of w_i + sum over i < j of <v_{i, field of j}, v_{j, field of i}>, pair by pair, for each task."""
    schema = schema_of_everything(*TASKS)
    model = FFM(schema, dim=3).eval()
    model.embedding.reset(0.5)
    model.bias.data = torch.tensor([0.3, -0.2])
    batch, fields = Batch(columns(schema, 4)), len(schema.features)
    vectors = model.embedding(batch).view(4, fields, 2, fields, 3)  # row, feature's own field, task, field met, entry
    found = model(batch)
    for row in range(4):
        for t in range(2):
            expected = model.bias[t].item()
            for i in range(fields):
                expected += (vectors[row, i, t, i, 0]).item()
                for j in range(i):
                    expected += (vectors[row, i, t, j] @ vectors[row, j, t, i]).item()
            assert abs(found[row, t].item() - expected) < 1e-4


def test_the_written_out_gradient_is_that_of_the_formula() -> None:
    vectors = torch.randn(3, 4, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    mirror = torch.arange(4 * 2 * 4).view(4, 2, 4).transpose(0, 2).flatten()
    assert torch.autograd.gradcheck(lambda values: _Pairs.apply(values, mirror), (vectors,))


def test_it_starts_above_zero_and_unknown_ids_at_zero() -> None:
    model = FFM(schema_of_everything())
    weight = model.embedding.table.weight
    assert weight.min().item() == 0
    assert int((weight.sum(1) == 0).sum()) == 2 * len(model.embedding.plan().categories + ["history_gaps", "tags"])
