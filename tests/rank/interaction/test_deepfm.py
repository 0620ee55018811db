import torch

from palate.batch import Batch
from palate.rank.interaction.deepfm import DeepFM
from palate.schema import Feature, Label, Schema
from tests.worlds import columns, schema_of_everything

SCHEMA = Schema(tuple(Feature(name, "user", "category", 9) for name in "abc"), (Label("click"),))


def parts(model: DeepFM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    both = model.embedding(batch)
    return both[..., : model.dim], both[..., model.dim :]


def test_one_task_at_first_is_the_formula_of_the_paper() -> None:
    """y = w0 + sum of w_i + sum over i < j of <v_i, v_j> + MLP([v_1 ... v_F])."""
    model = DeepFM(SCHEMA, dim=4, hidden=(6, 5)).eval()
    model.embedding.reset(0.5)
    model.bias.data.fill_(0.3)
    batch = Batch(columns(SCHEMA, 7))
    vectors, weights = parts(model, batch)
    second = sum((vectors[:, i] * vectors[:, j]).sum(1) for i in range(3) for j in range(i + 1, 3))
    expected = 0.3 + weights.sum(1)[:, 0] + second + model.tower(vectors.flatten(1))[:, 0]
    torch.testing.assert_close(model(batch)[:, 0], expected)


def test_serial_feeds_the_products_to_the_tower() -> None:
    model = DeepFM(SCHEMA, dim=4, hidden=(6, 5), form="serial").eval()
    model.embedding.reset(0.5)
    batch = Batch(columns(SCHEMA, 7))
    vectors, weights = parts(model, batch)
    products = torch.stack([(vectors[:, i] * vectors[:, j]).sum(1) for i, j in ((0, 1), (0, 2), (1, 2))], 1)
    first = vectors.flatten(1) @ model.tower.weight + products @ model.crossed.weight.T
    torch.testing.assert_close(model(batch), weights.sum(1) + model.tower.rest(first))


def test_a_task_without_labels_in_a_batch_learns_nothing_from_it() -> None:
    schema = schema_of_everything()
    model = DeepFM(schema, dim=4, hidden=(6,), dropout=0.0)
    batch = Batch(columns(schema, 8))
    batch["label:choose"], batch["label:like"] = torch.ones(8), torch.full((8,), torch.nan)
    model.loss(batch).backward()
    assert model.bias.grad[0] != 0
    assert model.bias.grad[1] == 0


def test_a_task_weighs_what_its_label_says() -> None:
    torch.manual_seed(0)
    batch = Batch(columns(SCHEMA, 8))
    batch["label:a"], batch["label:b"] = torch.ones(8), torch.zeros(8)
    two = Schema(SCHEMA.features, (Label("a"), Label("b", weight=3.0)))
    model = DeepFM(two, dim=4).eval()
    torch.nn.init.zeros_(model.tower.layers[-1].weight)
    logits = model(batch)
    expected = torch.nn.functional.softplus(-logits[:, 0]).mean() + 3 * torch.nn.functional.softplus(logits[:, 1]).mean()
    torch.testing.assert_close(model.loss(batch), expected)


def test_probabilities() -> None:
    model = DeepFM(SCHEMA, dim=4).eval()
    batch = Batch(columns(SCHEMA, 8))
    torch.testing.assert_close(model.predict(batch), torch.sigmoid(model(batch)))
