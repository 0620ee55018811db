"""Rows that can be reproduced: each resolves, and a run of one gives figures that a hand can check."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bench import ctr
from palate import catalog, reproduce
from palate.build import build, options_of
from palate.cli import app
from palate.contracts import Model
from palate.datasets.clicks import Clicks
from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import auc
from palate.schema import Feature, Label, Schema
from palate.training.trainer import Trainer


@pytest.fixture
def small() -> Clicks:
    """Users and items of two colours; a user clicks the own colour nine times in ten."""
    random = np.random.default_rng(0)
    schema = Schema((Feature("user_id", "user", "category", 42), Feature("item_id", "item", "category", 32)), (Label("click"),))
    parts = {}
    for name, size in (("train", 3000), ("valid", 600), ("test", 600)):
        users, items = random.integers(2, 42, size), random.integers(2, 32, size)
        labels = ((users + items) % 2 == (random.random(size) < 0.1)).astype(np.float32)
        parts[name] = Pointwise({"user_id": users, "item_id": items}, {"click": labels}, users)
    return Clicks(schema, parts, "made")


def test_every_row_resolves_and_its_options_are_the_model_s() -> None:
    names = [row.name for row in reproduce.ROWS]
    assert len(set(names)) == len(names)
    for row in reproduce.ROWS:
        assert row.case in reproduce.CASES
        cls = catalog.load(row.model, "rank")
        known = options_of(cls)
        assert set(row.options) <= set(known), row.name
        if isinstance(cls, type) and issubclass(cls, Model):
            build(Trainer, {**reproduce.USUAL, **row.training})
        assert bool(row.theirs) == bool(row.source)


def test_a_run_measures_the_test_part_with_the_weights_validation_chose(small: Clicks) -> None:
    row = reproduce.Row("made", "DeepFM", options={"dim": 4, "hidden": (8,)}, training={"learning_rate": 0.02, "epochs": 12, "batch_size": 256})
    kept = []
    found = reproduce.run(row, small, seed=1, keep=kept.append)
    truth = small.parts["test"].labels.take(torch.arange(600))["label:click"].numpy()
    assert found["auc:click"] == round(auc(truth, kept[0][:, 0].astype(np.float64)), 5)
    assert found["auc:click"] > 0.8
    assert found["log_loss:click"] < 0.69
    assert found == {**reproduce.run(row, small, seed=1), **{key: found[key] for key in ("cpu_seconds", "rows_per_cpu_second", "peak_mb")}}
    assert reproduce.beside(row, [found])[0][0] == "cpu_seconds"


def test_the_interval_of_a_model_against_itself_is_nothing_and_against_chance_is_above(small: Clicks) -> None:
    test = small.parts["test"]
    truth = test.labels.take(torch.arange(600))["label:click"].numpy()
    noise = np.random.default_rng(1).random(600)
    same = ctr.interval(test, [noise], [noise])
    assert (same["minus"], same["low"], same["high"]) == (0.0, 0.0, 0.0)
    better = ctr.interval(test, [truth + 0.1 * noise], [noise])
    assert 0.3 < better["low"] < better["minus"] < better["high"] < 0.7
    both = ctr.interval(test, [truth + 0.1 * noise, noise], [noise, noise])  # of two seeds the mean
    assert both["minus"] == pytest.approx(better["minus"] / 2, abs=1e-5)


def test_the_list_and_a_misspelt_row() -> None:
    listed = CliRunner().invoke(app, ["reproduce", "--list", "--json"])
    assert {"row": "deepfm-ml100k", "model": "DeepFM", "data": "ml100k"}.items() <= json.loads(listed.stdout)[7].items()
    with pytest.raises(LookupError, match="did you mean 'deepfm-ml100k'"):
        reproduce.find("deepfm-ml10k")
