"""Few negatives kept: with the logit corrected probabilities are those of all rows, without it they are 1 / rate times too high."""

import numpy as np
import pytest
import torch

from palate import catalog
from palate.batch import Batch
from palate.build import build
from palate.contracts import Ranker
from palate.datasets.pointwise import Pointwise
from palate.evaluation.metrics.rating import calibration_error
from palate.rank.interaction.mlp import MLP
from palate.rank.multitask.esmm import ESMM
from palate.rank.multitask.watchtime import WatchTime
from palate.schema import Feature, Label, Schema
from palate.training.trainer import Trainer
from tests.worlds import labelled, schema_of_everything

VALUES = 12
RANKERS = [cls for cls in (entry.load() for entry in catalog.ENTRIES if entry.kind == "rank") if hasattr(cls, "thinned")]
OWN = [cls for cls in RANKERS if (cls.loss, cls.task_loss) != (Ranker.loss, Ranker.task_loss)]


def world(labels: tuple[Label, ...], size: int = 40_000) -> tuple[Schema, Pointwise, np.ndarray]:
    """A click rate of .02 to .2 by one category; a tenth to a half of the clicks are kept; a click lasts 1 to 12 units of time."""
    random = np.random.default_rng(0)
    schema = Schema((Feature("kind", "item", "category", VALUES + 2),), labels)
    kind = random.integers(0, VALUES, size)
    rates = np.linspace(0.02, 0.2, VALUES)
    click = random.random(size) < rates[kind]
    found = {"click": click.astype(np.float32)}
    if len(labels) > 1:
        found["buy"] = np.where(click, random.random(size) < np.linspace(0.5, 0.1, VALUES)[kind], np.nan).astype(np.float32)
    elif labels[0].kind == "number":
        found = {"time": np.where(click, 1.0 + kind, 0).astype(np.float32)}
    return schema, Pointwise({"kind": kind + 2}, found, np.arange(size)), rates


def predicted(model: Ranker, rows: object) -> np.ndarray:
    Trainer(epochs=12, batch_size=1024, learning_rate=0.02).fit(model, rows)  # type: ignore[arg-type]
    with torch.inference_mode():
        return model.predict({"kind": torch.arange(VALUES) + 2}).numpy()  # type: ignore[arg-type]


def test_probabilities_are_those_of_all_rows() -> None:
    schema, rows, rates = world((Label("click"),))
    torch.manual_seed(0)
    found = predicted(MLP(schema, dim=8, hidden=(16,), dropout=0.0), rows.thinned(0.1))[:, 0]
    np.testing.assert_allclose(found, rates, atol=0.035)
    every = rows.batch(torch.arange(len(rows)))
    truth, place = every["label:click"].numpy(), every["kind"].numpy() - 2
    raw = found / (found + 0.1 * (1 - found))  # what sigmoid(z) would be without the correction: p / (p + r (1 - p))
    assert calibration_error(truth, found[place].astype(np.float64)) < 0.02 < 0.2 < calibration_error(truth, raw[place].astype(np.float64))


def test_the_loss_is_that_of_shifted_logits() -> None:
    schema, rows, _ = world((Label("click"),), 200)
    model = MLP(schema, dim=4, hidden=(4,), dropout=0.0)
    batch = rows.thinned(0.25).batch(torch.arange(40))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(model(batch)[:, 0] - np.log(0.25), batch["label:click"])
    torch.testing.assert_close(model.loss(batch), expected)


@pytest.mark.parametrize("cls", OWN)
def test_every_ranker_with_a_loss_of_its_own_shifts_its_logits_too(cls: type[Ranker]) -> None:
    """At a rate of .1 the loss is what it was with the first task's last biases higher by ln 10."""
    schema = schema_of_everything()
    torch.manual_seed(0)
    model, batch = build(cls, {}, schema).eval(), labelled(schema, 40).batch(torch.arange(40))
    biases = [bias for bias in (model.last_bias(), getattr(model, "guess", model).last_bias) if isinstance(bias, torch.Tensor)]
    losses = []
    for kept, shift in ((0.1, 0.0), (1.0, 0.0), (1.0, np.log(10))):
        with torch.no_grad():
            for bias in biases:
                bias[0] += shift
        torch.manual_seed(0)  # negatives are drawn alike
        losses.append(model.loss(Batch(batch, kept=torch.full((40,), kept))).detach())
    assert abs(float(losses[0] - losses[1])) > 0.01
    torch.testing.assert_close(losses[0], losses[2])


def test_esmm_conversions_of_all_exposures() -> None:
    schema, rows, rates = world((Label("click"), Label("buy")))
    torch.manual_seed(0)
    found = predicted(ESMM(schema, dim=8, hidden=(16,), dropout=0.0), rows.thinned(0.1))
    np.testing.assert_allclose(found[:, 0], rates, atol=0.035)
    np.testing.assert_allclose(found[:, 1], np.linspace(0.5, 0.1, VALUES), atol=0.13)


@pytest.mark.parametrize("form", ["known", "exact"])
def test_watch_time_means_what_it_meant(form: str) -> None:
    schema, rows, rates = world((Label("time", "number"),))
    torch.manual_seed(0)
    found = predicted(WatchTime(schema, dim=8, hidden=(16,), dropout=0.0, form=form), rows.thinned(0.1))[:, 0]  # type: ignore[arg-type]
    mean = rates * (1.0 + np.arange(VALUES))
    expected = mean / (1 - rates) if form == "known" else mean
    np.testing.assert_allclose(found, expected, rtol=0.35, atol=0.05)
    assert abs(found.sum() / expected.sum() - 1) < 0.1
