import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from palate.batch import Batch
from palate.contracts import Model
from palate.datasets.pointwise import Pointwise
from palate.rank.interaction.deepfm import DeepFM
from palate.recall.two_tower.dssm import DSSM
from palate.training.optimizers import optimizers
from palate.training.trainer import Diverged, Progress, Trainer
from tests.worlds import labelled, paired, schema_of_everything

SCHEMA = schema_of_everything()


def ranker() -> DeepFM:
    torch.manual_seed(3)
    return DeepFM(SCHEMA, dim=4, hidden=(8,), dropout=0.2)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_it_equals_a_loop_written_by_hand() -> None:
    data = labelled(SCHEMA, 50)
    fitted, by_hand = ranker(), ranker()
    Trainer(epochs=3, batch_size=16, learning_rate=0.01, weight_decay=0.1, seed=5).fit(fitted, data)

    torch.manual_seed(5)
    generator = torch.Generator().manual_seed(5)
    by_hand.begin(data)
    steps = optimizers(by_hand, 0.01, 0.1)
    by_hand.train()
    for _ in range(3):
        order = torch.randperm(50, generator=generator)
        for chosen in order.split(16):
            loss = by_hand.loss(data.batch(chosen, generator))
            for optimizer in steps.values():
                optimizer.zero_grad()
            loss.backward()
            for optimizer in steps.values():
                optimizer.step()
    assert same(fitted, by_hand)


@pytest.mark.parametrize("tables", ["adam", "adagrad"])
def test_a_rerun_gives_the_same_bits_and_another_seed_others(tables: Any) -> None:
    def fit(seed: int) -> DSSM:
        torch.manual_seed(0)
        model = DSSM(SCHEMA, dim=4, hidden=(8,), dropout=0.1)
        Trainer(epochs=2, batch_size=16, tables=tables, seed=seed).fit(model, paired(SCHEMA, 48, uniform=5))
        return model

    assert same(fit(1), fit(1))
    assert not same(fit(1), fit(2))


def test_it_leaves_the_global_chance_and_the_threads_alone() -> None:
    model, threads = DSSM(SCHEMA, dim=4, dropout=0.5), torch.get_num_threads()
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    Trainer(epochs=1, batch_size=16, threads=2).fit(model, paired(SCHEMA, 20))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


def test_it_keeps_the_weights_of_the_best_score_and_stops() -> None:
    model, seen = ranker(), []
    scores = iter([0.5, 0.7, math.nan, 0.6, 0.9])

    def score() -> float:
        assert not model.training
        seen.append({name: values.clone() for name, values in model.state_dict().items()})
        return next(scores)

    fitting = Trainer(epochs=5, batch_size=16, patience=2).fit(model, labelled(SCHEMA, 40), score)
    assert fitting.best == 2
    assert len(fitting.scores) == 4
    assert all(torch.equal(values, seen[1][name]) for name, values in model.state_dict().items())


class Explodes(Model):
    examples = Pointwise

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.steps = 0

    def loss(self, batch: Batch) -> Tensor:
        self.steps += 1
        return self.weight * (math.inf if self.steps == 3 else 1.0)


def test_a_loss_that_is_not_finite_stops_at_once() -> None:
    model = Explodes()
    with pytest.raises(Diverged, match="epoch 2, step 1"):
        Trainer(epochs=5, batch_size=20).fit(model, labelled(SCHEMA, 40))
    assert model.steps == 3
    assert torch.isfinite(model.weight)


def test_progress_is_told() -> None:
    told: list[Progress] = []
    fitting = Trainer(epochs=2, batch_size=16, report=told.append).fit(ranker(), labelled(SCHEMA, 40), score=lambda: 0.25)
    ends = [one for one in told if one.score is not None]
    assert [(one.epoch, one.step, one.steps, one.score) for one in ends] == [(1, 3, 3, 0.25), (2, 3, 3, 0.25)]
    assert [one.loss for one in ends] == fitting.losses
    assert all(one.rows_per_second > 0 for one in ends)
    assert fitting.rows == 80


def test_only_rows_that_were_read_are_updated() -> None:
    model = ranker()
    before = model.embedding.table.weight.detach().clone()
    data = labelled(SCHEMA, 4)
    Trainer(epochs=1, batch_size=2, weight_decay=0.1, learning_rate=0.1).fit(model, data)
    changed = (model.embedding.table.weight != before).any(1)
    batch, plan = data.batch(torch.arange(4)), model.embedding.plan()
    read = torch.zeros(len(before), dtype=torch.bool)
    for name, start in model.embedding._start.items():
        ids = batch[name].flatten()
        read[ids[ids > 0] + start] = True
    assert len(plan) == len(SCHEMA.features)
    assert torch.equal(changed, read)


@pytest.mark.parametrize(
    ("options", "text"), [({"epochs": 0}, "epochs"), ({"batch_size": 0}, "batch_size"), ({"learning_rate": 0.0}, "learning_rate")]
)
def test_options_that_make_no_sense(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Trainer(**options)


def test_nothing_to_fit_on() -> None:
    with pytest.raises(ValueError, match="no examples"):
        Trainer().fit(ranker(), labelled(SCHEMA, 0))


def test_a_finished_checkpoint_gives_its_weights_at_once(tmp_path: Path) -> None:
    first, second = ranker(), ranker()
    trainer, data = Trainer(epochs=3, batch_size=16), labelled(SCHEMA, 40)
    scores = iter([0.1, 0.3, 0.2])
    trainer.fit(first, data, lambda: next(scores), tmp_path / "a.safetensors")
    again = trainer.fit(second, data, lambda: pytest.fail("it fitted again"), tmp_path / "a.safetensors")
    assert same(first, second)
    assert again.scores == [0.1, 0.3, 0.2]
