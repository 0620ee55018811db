"""A ranker served in halves gives what its forward gives."""

from typing import Any

import pytest
import torch

from palate.batch import Batch
from palate.contracts import Halved
from palate.layers.halves import rows
from palate.rank.interaction.deepfm import DeepFM
from palate.rank.interaction.mlp import MLP
from palate.schema import Feature, Schema
from tests.worlds import TASKS, columns, schema_of_everything

SCHEMA = schema_of_everything()
MODELS = [
    (DeepFM, {}),
    (DeepFM, {"form": "serial"}),
    (MLP, {}),
    (DeepFM, {"hidden": ()}),
    (MLP, {"hidden": (8,)}),
    (MLP, {"block": "lhuc"}),
    (MLP, {"block": "recycle"}),
]


@pytest.mark.parametrize(("model", "options"), MODELS)
def test_halves_add_up_to_forward(model: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ranker = model(SCHEMA, **options).eval()
    ranker.embedding.reset(0.5)
    assert isinstance(ranker, Halved)
    user, catalogue = Batch(columns(SCHEMA, 1, "user", "context")), Batch(columns(SCHEMA, 30, "item"))
    chosen = torch.tensor([4, 4, 0, 29, 7])
    pairs = Batch(columns(SCHEMA, 5, "pair"))
    every = Batch({name: values.expand(5, *values.shape[1:]) for name, values in user.items()} | catalogue.take(chosen) | pairs)
    with torch.inference_mode():
        cached = ranker.half(catalogue, "item")
        found = ranker.combine(ranker.half(user, "user", "context"), rows(cached, chosen), ranker.half(pairs, "pair"))
        torch.testing.assert_close(found, ranker(every), atol=1e-5, rtol=0)
    assert found.shape == (5, 2)


@pytest.mark.parametrize(("model", "options"), [one for one in MODELS if "hidden" not in one[1]])
def test_an_owner_without_features_adds_nothing(model: Any, options: dict[str, Any]) -> None:
    schema = Schema((Feature("u", "user", "category", 9), Feature("i", "item", "category", 9)), TASKS)
    ranker = model(schema, **options).eval()
    batch = Batch(columns(schema, 4))
    halves = [ranker.half(batch, owner) for owner in ("user", "item", "context", "pair")]
    torch.testing.assert_close(ranker.combine(*halves), ranker(batch), atol=1e-6, rtol=0)
