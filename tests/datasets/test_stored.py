from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from palate.datasets.pointwise import Pointwise
from palate.datasets.stored import Stored
from palate.rank.interaction.deepfm import DeepFM
from palate.training.trainer import Trainer
from tests.worlds import columns, schema_of_everything

SCHEMA = schema_of_everything()


def made(size: int = 230) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    found = {name: values.numpy() for name, values in columns(SCHEMA, size).items()}
    labels = {f"label:{label.name}": random.integers(0, 2, size).astype(np.float32) for label in SCHEMA.labels}
    return {**found, **labels, "group": np.arange(size) // 5}


def stored(folder: Path, window: int = 50, parts: int = 3) -> tuple[Stored, dict[str, np.ndarray]]:
    every = made()
    cuts = np.linspace(0, 230, parts + 1).astype(int)
    return Stored.write(folder, [{name: values[a:b] for name, values in every.items()} for a, b in pairwise(cuts)], window), every


def test_any_rows_are_those_that_were_written(tmp_path: Path) -> None:
    rows, every = stored(tmp_path)
    assert len(rows) == 230
    for chosen in (torch.arange(230), torch.tensor([229, 0, 49, 50, 3, 151]), torch.tensor([7])):
        batch = rows.batch(chosen)
        assert set(batch) == set(every)
        for name, values in batch.items():
            assert values.dtype in (torch.int64, torch.float32)
            np.testing.assert_array_equal(values.numpy(), every[name][chosen.numpy()])
    assert len(rows._kept) <= 2


def test_an_order_is_a_permutation_that_stays_in_a_window(tmp_path: Path) -> None:
    rows, _ = stored(tmp_path)
    order = rows.order(torch.Generator().manual_seed(1))
    assert sorted(order.tolist()) == list(range(230))
    windows = torch.unique_consecutive(order // 50)
    assert len(windows) == 5
    assert not torch.equal(order, rows.order(torch.Generator().manual_seed(2)))


def test_it_trains_as_rows_in_memory_do(tmp_path: Path) -> None:
    """With one window the order is a permutation of all, and the same permutation gives the same weights."""
    rows, every = stored(tmp_path, window=230)

    class Ordered(Pointwise):
        def order(self, generator: torch.Generator) -> torch.Tensor:
            return rows.order(generator)

    labels = {label.name: every[f"label:{label.name}"] for label in SCHEMA.labels}
    memory = Ordered({feature.name: every[feature.name] for feature in SCHEMA.features}, labels, every["group"])
    weights = []
    for examples in (rows, memory):
        torch.manual_seed(0)
        model = DeepFM(SCHEMA, dim=4, hidden=(8,))
        Trainer(epochs=2, batch_size=64).fit(model, examples)
        weights.append(model.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    stored(tmp_path)
    (tmp_path / "003.column").write_bytes(b"\0" * 11)
    with pytest.raises(ValueError, match=r"003\.column has 11 bytes"):
        Stored(tmp_path)
    (tmp_path / "003.column").unlink()
    with pytest.raises(ValueError, match=r"003\.column is missing"):
        Stored(tmp_path)
    with pytest.raises(ValueError, match="no stored rows here"):
        Stored(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="beyond 32 bits"):
        Stored.write(tmp_path / "wide", [{"x": np.array([2**40])}])
    with pytest.raises(ValueError, match="must hold numbers"):
        Stored.write(tmp_path / "text", [{"x": np.array(["a"])}])
    with pytest.raises(ValueError, match="differs from the first"):
        Stored.write(tmp_path / "parts", [{"x": np.arange(3)}, {"y": np.arange(3)}])
    assert not (tmp_path / "parts" / "rows.json").exists()
    with pytest.raises(ValueError, match="window"):
        Stored(tmp_path, 0)
