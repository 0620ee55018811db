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
from palate.training.adversarial import perturbed
from palate.training.trainer import Diverged, Progress, Trainer
from tests.worlds import labelled, paired, schema_of_everything

SCHEMA = schema_of_everything()


def ranker() -> DeepFM:
    torch.manual_seed(3)
    return DeepFM(SCHEMA, dim=4, hidden=(8,), dropout=0.2)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


WAYS: list[dict[str, Any]] = [
    {"weight_decay": 0.1},
    {"optimizer": "sgd", "momentum": 0.9, "l2": 0.01, "schedule": "cosine"},
    {"optimizer": "adagrad", "tables": "adagrad", "schedule": "step", "every": 1.0, "factor": 0.5},
    {"optimizer": "rmsprop", "tables": "rmsprop", "table_learning_rate": 0.02, "warmup": 1.5},
    {"optimizer": "ftrl", "tables": "ftrl", "l1": 0.01, "beta": 0.5, "schedule": "cosine"},
    {"tables": "sgd", "schedule": "cosine", "warmup": 0.5, "l2": 0.01},
    {"adversarial": 0.5, "epsilon": 0.1},
]


def hand_made(model: Model, trainer: Trainer, data: Pointwise, epochs: int = 3) -> None:
    """The loop that ``Trainer`` stands for, without any of its parts but the optimisers."""
    torch.manual_seed(trainer.seed)
    generator = torch.Generator().manual_seed(trainer.seed)
    model.begin(data)
    steps = trainer.optimizers(model)
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in steps.items()}
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(data), generator=generator).split(trainer.batch_size)
        for step, chosen in enumerate(order):
            batch = data.batch(chosen, generator)
            for optimizer in steps.values():
                optimizer.zero_grad()
            model.loss(batch).backward()
            if trainer.adversarial:
                table = model.embedding.table.weight  # type: ignore[union-attr]
                kept, gradient = table.detach().clone(), table.grad.to_dense()  # type: ignore[union-attr]
                with torch.no_grad():
                    table += trainer.epsilon * torch.nn.functional.normalize(gradient, dim=1)
                (trainer.adversarial * model.loss(batch)).backward()
                with torch.no_grad():
                    table.copy_(kept)
            done = epoch + step / len(order)
            pace = {"constant": 1.0, "step": trainer.factor ** int(done / trainer.every), "cosine": (1 + math.cos(math.pi * done / epochs)) * 0.5}
            warm = min(1.0, (done + 1 / len(order)) / trainer.warmup) if trainer.warmup else 1.0
            for name, optimizer in steps.items():
                if getattr(optimizer, "method", "") != "ftrl":
                    optimizer.param_groups[0]["lr"] = rates[name] * (pace[trainer.schedule] * warm)
                optimizer.step()


@pytest.mark.parametrize("options", WAYS)
def test_it_equals_a_loop_written_by_hand(options: dict[str, Any]) -> None:
    data = labelled(SCHEMA, 50)
    fitted, by_hand, plain = ranker(), ranker(), ranker()
    trainer = Trainer(**{"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "seed": 5, **options})
    trainer.fit(fitted, data)
    hand_made(by_hand, trainer, data)
    assert same(fitted, by_hand)
    Trainer(epochs=3, batch_size=16, learning_rate=0.01, seed=5).fit(plain, data)
    assert not same(fitted, plain)


class Stops:
    """A data set whose reader is interrupted at batch number ``at``."""

    def __init__(self, data: Any, at: int) -> None:
        self.data, self.left = data, at

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.data.batch(chosen, generator)


@pytest.mark.parametrize("options", WAYS)
def test_interrupted_and_resumed_it_ends_with_the_same_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    data, fitted, undisturbed = labelled(SCHEMA, 50), ranker(), ranker()
    trainer = Trainer(**{"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "save_every": 1, **options})
    for at in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(ranker(), Stops(data, at), checkpoint=tmp_path / "a.safetensors")  # type: ignore[arg-type]
    trainer.fit(fitted, data, checkpoint=tmp_path / "a.safetensors")
    trainer.fit(undisturbed, data)
    assert same(fitted, undisturbed)


def test_adversarial_rows_stand_a_step_along_their_gradient_and_come_back() -> None:
    model, data = ranker(), labelled(SCHEMA, 8)
    model.train()
    model.loss(data.batch(torch.arange(8))).backward()
    table = model.embedding.table.weight
    before, gradient = table.detach().clone(), table.grad.to_dense()
    read = gradient.norm(dim=1) > 0
    with perturbed(model, 0.3):
        moved = table.detach() - before
        torch.testing.assert_close(moved.norm(dim=1), torch.where(read, 0.3, 0.0))
        torch.testing.assert_close(torch.cosine_similarity(moved, gradient, dim=1)[read], torch.ones(int(read.sum())))
    assert torch.equal(table, before)


def test_the_loss_at_the_worst_place_near_by_is_higher() -> None:
    model, data = ranker().eval(), labelled(SCHEMA, 60)
    Trainer(epochs=5, batch_size=16, learning_rate=0.01).fit(model, data)
    batch = data.batch(torch.arange(60))
    loss = model.loss(batch)
    loss.backward()
    random = torch.Generator().manual_seed(0)
    with perturbed(model, 0.05):
        worst = model.loss(batch)
    table = model.embedding.table.weight
    with torch.no_grad():
        table += 0.05 * torch.nn.functional.normalize(torch.randn(table.shape, generator=random), dim=1)
    anywhere = model.loss(batch)
    assert worst - loss > 3 * (anywhere - loss).abs()


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
    assert [one.learning_rate for one in ends] == [0.001, 0.001]
    assert ends[0].seconds_left == pytest.approx(40 / ends[0].rows_per_second)
    assert ends[1].seconds_left == 0
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
    ("options", "text"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"patience": 0}, "patience"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"warmup": -1.0}, "warmup"),
        ({"factor": 0.0}, "factor"),
        ({"schedule": "cosin"}, "one of constant, step, cosine"),
        ({"l1": 0.1}, "l1 is for 'ftrl'"),
        ({"momentum": 0.1, "tables": "ftrl"}, "momentum is for 'sgd'"),
        ({"adversarial": math.nan}, "adversarial"),
    ],
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
