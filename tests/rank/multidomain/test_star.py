from functools import lru_cache

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from palate.batch import Batch
from palate.contracts import Ranker
from palate.datasets.pointwise import Pointwise
from palate.rank.interaction.mlp import MLP
from palate.rank.multidomain.star import STAR
from palate.schema import Schema
from palate.training.trainer import Trainer
from tests.conftest import Beats
from tests.worlds import Scenes, columns, part_of, schema_of_everything

WIDTHS = {"dim": 8, "hidden": (32, 16), "dropout": 0.0}


def scattered() -> STAR:
    """A model in which every scene has weights of its own."""
    torch.manual_seed(0)
    model = STAR(schema_of_everything(), dim=4, hidden=(6,), dropout=0.0)
    for name, weight in model.named_parameters():
        if "norm" in name or "layers" in name:
            torch.nn.init.normal_(weight, 0.5)
    return model


def by_hand(model: STAR, batch: Batch, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Row by row, from each row's mean and variance ``[B, W]``."""
    fields, scenes, norm, rows = model.embedding(batch).flatten(1), batch["scene"], model.norm, []
    for n, p in enumerate(scenes.tolist()):
        x = norm.gain * norm.gains[p] * (fields[n] - mean[n]) / (variance[n] + norm.eps).sqrt() + norm.bias + norm.biases[p]
        first, last = model.layers
        x = torch.relu(x @ (first.weight * first.weights[p]) + first.bias + first.biases[p])
        rows.append(x @ (last.weight * last.weights[p]) + last.bias + last.biases[p])
    return torch.stack(rows) + model.auxiliary(torch.cat([model.scene(batch).flatten(1), fields], 1))


def test_it_is_the_formula_of_the_paper() -> None:
    """Batches of mixed scenes: each scene's own statistics in training, the moving ones afterwards."""
    model, batch = scattered().train(), Batch(columns(schema_of_everything(), 90))
    fields, scenes = model.embedding(batch).flatten(1).detach(), batch["scene"]
    assert all(int((scenes == p).sum()) >= 16 for p in scenes.unique())
    mean = torch.stack([fields[scenes == p].mean(0) for p in scenes])
    variance = torch.stack([fields[scenes == p].var(0, correction=0) for p in scenes])
    torch.testing.assert_close(model(batch), by_hand(model, batch, mean, variance), atol=1e-4, rtol=1e-4)
    moving = model.eval().norm
    torch.testing.assert_close(model(batch), by_hand(model, batch, moving.means[scenes], moving.variances[scenes]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(moving.means[scenes], mean)  # after one batch they are its own


def test_a_scene_never_seen_has_the_mean_of_the_known_ones() -> None:
    model, batch = scattered(), Batch(columns(schema_of_everything(), 60))
    model.train()(batch)
    model.eval()
    shares = model.seen / model.seen.sum()
    with torch.no_grad():
        for scene in (0, 1):
            for part, names in ((model.norm, ("gains", "biases", "means", "variances")), *((layer, ("weights", "biases")) for layer in model.layers)):
                for name in names:
                    getattr(part, name)[scene] = 99.0  # not looked at
            unseen = Batch(batch | {"scene": torch.full((60,), scene)})
            found = model(unseen)
            for part, names in ((model.norm, ("gains", "biases", "means", "variances")), *((layer, ("weights", "biases")) for layer in model.layers)):
                for name in names:
                    values = getattr(part, name)
                    values[scene] = torch.tensordot(shares, values, 1)  # shares of scenes never seen are 0
            scenes = unseen["scene"]
            torch.testing.assert_close(found, by_hand(model, unseen, model.norm.means[scenes], model.norm.variances[scenes]), atol=1e-4, rtol=1e-4)


def test_a_row_alone_in_its_scene_does_not_spoil_training() -> None:
    model, batch = STAR(schema_of_everything(), dim=4, hidden=(6,)).train(), Batch(columns(schema_of_everything(), 40))
    batch["scene"] = torch.tensor([3] + [2] * 39)
    batch |= {"label:choose": torch.ones(40), "label:like": torch.ones(40)}
    model.loss(batch).backward()
    assert all(bool(torch.isfinite(weight.grad.to_dense()).all()) for weight in model.parameters())
    assert bool(torch.isfinite(model.norm.variances).all())


def test_a_domain_that_is_no_category_is_refused() -> None:
    schema = schema_of_everything()
    with pytest.raises(ValueError, match="'age' must be a category"):
        STAR(Schema(schema.features, schema.labels, domain="age"))


def fitted(model: Ranker, rows: Pointwise) -> Ranker:
    Trainer(epochs=10, batch_size=512, learning_rate=0.02, threads=1).fit(model, rows)
    return model


def aucs(model: Ranker, rows: Pointwise) -> list[float]:
    """One for each scene."""
    batch = rows.batch(torch.arange(len(rows)))
    with torch.inference_mode():
        found = model.predict(batch)[:, 0].numpy()
    return [float(roc_auc_score(batch["label:click"][rows.groups == scene], found[rows.groups == scene])) for scene in rows.groups.unique()]


@lru_cache
def plain(differ: bool) -> dict[str, float]:
    """The plain ways: without the scene, one model for each scene, the scene as a feature. Mean AUC over scenes."""
    world = Scenes(differ)
    blind = world.schema.without(["scene"])
    torch.manual_seed(0)
    found = {"pooled": aucs(fitted(MLP(blind, **WIDTHS), world.train), world.test), "separate": []}
    for scene in range(4):
        train, test = (part_of(rows, rows.groups.numpy() == scene, True) for rows in (world.train, world.test))
        found["separate"] += aucs(fitted(MLP(blind, **WIDTHS), train), test)
    found["feature"] = aucs(fitted(MLP(world.schema, **WIDTHS), world.train), world.test)
    return {way: float(np.mean(values)) for way, values in found.items()}


def test_where_scenes_share_some_and_differ_in_some_it_beats_the_plain_ways(beats: Beats) -> None:
    world = Scenes()
    torch.manual_seed(0)
    model = fitted(STAR(world.schema, **WIDTHS), world.train)
    own = np.mean(aucs(model, world.test))
    for way, found in plain(True).items():
        beats(0.015, STAR=own, **{f"MLP, {way}": found})
    batch = world.test.batch(torch.arange(100))
    assert bool(torch.isfinite(model.predict(Batch(batch | {"scene": torch.full((100,), 6)}))).all())


def test_where_scenes_are_alike_it_loses_little(beats: Beats) -> None:
    world = Scenes(differ=False)
    torch.manual_seed(0)
    own = np.mean(aucs(fitted(STAR(world.schema, **WIDTHS), world.train), world.test))
    for way, found in plain(False).items():
        beats(-0.04, STAR=own, **{f"MLP, {way}": found})
