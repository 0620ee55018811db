"""Tasks of every kind: numbers beside probabilities, a loss of its own for each."""

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.datasets.pointwise import Pointwise
from palate.layers import losses
from palate.rank.interaction.mlp import MLP
from palate.schema import Label, Schema
from palate.training.trainer import Trainer
from tests.worlds import columns, schema_of_everything


def batch_of(schema: Schema, size: int = 12) -> Batch:
    random = np.random.default_rng(0)
    batch = Batch(columns(schema, size))
    for label in schema.labels:
        values = random.integers(0, 2, size) if label.kind == "binary" else random.normal(5, 2, size)
        batch[f"label:{label.name}"] = torch.as_tensor(values, dtype=torch.float32)
    batch["group"] = torch.arange(size) // 4
    return batch


def test_each_task_is_trained_by_the_loss_that_its_label_names() -> None:
    labels = (Label("a", weight=2.0), Label("b", loss="lambdarank@2"), Label("c", "number", weight=0.5), Label("d", loss="listnet"))
    schema = schema_of_everything(*labels)
    model, batch = MLP(schema, dim=4, hidden=(8,)).eval(), batch_of(schema)
    batch["weight"] = torch.arange(12).float()
    logits, given = model(batch), [batch[f"label:{label.name}"] for label in labels]
    expected = 2 * losses.binary_cross_entropy(logits[:, 0], given[0], batch["weight"])
    expected = expected + losses.lambdarank(logits[:, 1], given[1], batch["group"], 2)
    expected = expected + 0.5 * losses.mean_squared_error(logits[:, 2], given[2], batch["weight"])
    expected = expected + losses.listnet(logits[:, 3], given[3], batch["group"])
    torch.testing.assert_close(model.loss(batch), expected)


def test_a_number_is_predicted_as_it_is_and_starts_at_its_mean() -> None:
    schema = schema_of_everything(Label("a"), Label("minutes", "number"))
    model, batch = MLP(schema, dim=4, hidden=(8,)).eval(), batch_of(schema)
    rows = Pointwise(columns(schema, 12), {"a": batch["label:a"], "minutes": batch["label:minutes"]}, torch.arange(12))
    model.begin(rows)
    assert float(model.last_bias()[1].detach()) == pytest.approx(float(batch["label:minutes"].mean()), rel=1e-5)
    logits = model(batch)
    torch.testing.assert_close(model.predict(batch), torch.stack((torch.sigmoid(logits[:, 0]), logits[:, 1]), 1))


def test_a_number_is_learnt() -> None:
    schema = schema_of_everything(Label("minutes", "number"))
    given = columns(schema, 400)
    minutes = 30 + 2 * given["age"] + (given["genre"] % 2) * 5
    model = MLP(schema, dim=4, hidden=(16,), dropout=0.0)
    Trainer(epochs=40, batch_size=50, learning_rate=0.01).fit(model, Pointwise(given, {"minutes": minutes}, torch.arange(400)))
    assert float((model.predict(Batch(given))[:, 0] - minutes).pow(2).mean().sqrt()) < 0.25 * float(minutes.std())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"loss": "lambdarnk"}, "did you mean 'lambdarank'"),
        ({"loss": "listnet@3"}, "no loss"),
        ({"loss": "lambdarank@0"}, "no loss"),
        ({"loss": "lambdarank@"}, "no loss"),
        ({"weight": -1.0}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"kind": "number", "loss": "binary_cross_entropy"}, "labels of 0 and 1"),
    ],
)
def test_labels_that_make_no_sense(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Label("a", **options)


def test_a_schema_is_kept_with_its_losses() -> None:
    schema = schema_of_everything(Label("a", weight=0.3, loss="lambdarank@5"), Label("b", "number"))
    assert Schema.from_json(schema.to_json()) == schema
    older = schema.to_json()
    for label in older["labels"]:
        del label["loss"]
    assert [label.minimises for label in Schema.from_json(older).labels] == ["binary_cross_entropy", "mean_squared_error"]
