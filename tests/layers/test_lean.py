"""Compiled loops over exported weights give what the layers give."""

from typing import Any

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.contracts import Ranker
from palate.layers.embedding import Embedding
from palate.layers.lean import LeanFields
from palate.rank.interaction.deepfm import DeepFM
from palate.rank.interaction.mlp import MLP
from palate.recall.two_tower.dssm import DSSM
from palate.schema import Feature, Schema
from tests.worlds import TASKS

USER = (
    Feature("who", "user", "category", 9),
    Feature("past", "user", "sequence", 12, length=4, shares="film"),
    Feature("age", "user", "number"),
    Feature("hour", "context", "category", 26),
)
ITEM = (Feature("film", "item", "category", 12), Feature("tags", "item", "sequence", 7, length=3), Feature("year", "item", "number"))
PAIR = tuple(Feature(f"pair{n}", "pair", "number") for n in range(7))
SCHEMA = Schema((*USER, *ITEM, *PAIR), TASKS)


def made(features: tuple[Feature, ...], size: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for one in features:
        if one.kind == "number":
            found[one.name] = rng.normal(3, 2, size).astype(np.float32)
        else:
            found[one.name] = rng.integers(0, one.vocab_size, (size, one.length) if one.kind == "sequence" else size)
    return found


def strange(model: Any) -> Any:
    """Weights that are far from their start, and numbers that are centred."""
    torch.manual_seed(0)
    model.embedding.reset(0.5)
    if isinstance(model, Ranker):
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.embedding.standardise(Batch.of(made(SCHEMA.features, 50, 9)))
    return model.eval()


@pytest.mark.parametrize("options", [{}, {"hidden": (33,), "normalise": False}, {"hidden": ()}])
@pytest.mark.parametrize("size", [0, 1, 5])
def test_a_tower(options: dict[str, Any], size: int) -> None:
    model = strange(DSSM(SCHEMA, dim=6, **options))
    columns = made(USER, size)
    columns["past"][:1] = 0  # a user without a past
    columns["age"][:1] = np.nan
    lean = model.exported()
    assert lean is not None
    found = lean(columns)
    with torch.inference_mode():
        expected = model.encode_user(Batch.of(columns)).numpy()
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(expected[:1], lean({name: values[:1] for name, values in columns.items()}), atol=1e-5)


@pytest.mark.parametrize(("model", "options"), [(DeepFM, {}), (DeepFM, {"hidden": (9, 5), "dim": 3}), (MLP, {}), (MLP, {"hidden": (6, 5, 4)})])
@pytest.mark.parametrize("lengths", [(8,), (3, 0, 5)])
def test_a_ranker(model: Any, options: dict[str, Any], lengths: tuple[int, ...]) -> None:
    ranker = strange(model(SCHEMA, **options))
    lean = ranker.exported()
    assert lean is not None
    users, items, pairs = made(USER, len(lengths)), made(ITEM, 20), made(PAIR, 8)
    rows = np.array([4, 19, 0, 4, 7, 7, 2, 11])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    with torch.inference_mode():
        packed = lean.pack(ranker.half(Batch.of(items), "item")).numpy()
        each = {name: values.repeat(lengths, 0) for name, values in users.items()}
        every = Batch.of({**each, **{name: values[rows] for name, values in items.items()}, **pairs})
        expected = ranker.predict(every).numpy()
    found = lean(users, pairs, packed, rows, offsets)
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std() > 0.01


def test_a_ranker_asked_by_nobody() -> None:
    lean = strange(DeepFM(SCHEMA)).exported()
    found = lean(made(USER, 0), made(PAIR, 0), np.zeros((5, 2 + 256 + 16 + 16), np.float32), np.empty(0, np.int64), np.zeros(1, np.int64))
    assert found is not None
    assert found.shape == (0, 2)


def test_what_the_layers_have_to_judge_is_left_to_them() -> None:
    model = strange(DSSM(SCHEMA, dim=4))
    lean, columns = model.exported(), made(USER, 2)
    for name, wrong in (("who", np.array([1, 9])), ("who", np.array([-1, 2])), ("who", np.array([1.0, 2.0])), ("past", np.ones(2, np.int64))):
        assert lean({**columns, name: wrong}) is None
    ranker = strange(DeepFM(SCHEMA))
    pairs = made(PAIR, 3)
    pairs["pair3"][1] = np.inf
    packed = np.zeros((5, 2 + 256 + 16 + 16), np.float32)
    assert ranker.exported()(made(USER, 1), pairs, packed, np.array([0, 1, 2]), np.array([0, 3])) is None


def test_what_cannot_be_exported_says_so() -> None:
    text = Feature("text", "user", "vector", dim=3)
    schema = Schema((*USER, text, *ITEM), TASKS)
    assert LeanFields.of(Embedding(schema.features, 4), "user") is None
    assert DSSM(schema).exported() is None
    assert DeepFM(SCHEMA, form="serial").exported() is None

    class Other(DSSM):
        def encode_user(self, batch: Batch) -> torch.Tensor:
            return -super().encode_user(batch)

    assert Other(SCHEMA).exported() is None
