"""What every model with weights promises, asked of each one in the catalog."""

from __future__ import annotations

import copy
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from palate import catalog
from palate.batch import Batch
from palate.build import OptionError, build, options_of
from palate.contracts import Embedder, Halved, Model, Ranker
from palate.layers.halves import rows
from palate.schema import UNKNOWN
from palate.training.trainer import Examples, Trainer
from tests.contract.options import BESIDE, judge, others
from tests.worlds import Checkerboard, columns, labelled, paired, schema_of_everything

SCHEMA = schema_of_everything()
ENTRIES = [entry for entry in catalog.ENTRIES if entry.kind in ("recall", "prerank", "rank")]


def entries_of(*kinds: type) -> list[Any]:
    return [pytest.param(cls, id=entry.name) for entry in ENTRIES if isinstance(cls := entry.load(), type) and issubclass(cls, kinds)]


BLIND = ("LR",)  #: linear models
MODELS, RANKERS, EMBEDDERS = entries_of(Ranker, Embedder), entries_of(Ranker), entries_of(Embedder)
every_model = pytest.mark.parametrize("cls", MODELS)
every_ranker = pytest.mark.parametrize("cls", RANKERS)
every_embedder = pytest.mark.parametrize("cls", EMBEDDERS)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make(cls: type[Model], schema: Any = SCHEMA, **options: Any) -> Model:
    torch.manual_seed(0)
    return build(cls, options, schema)


def examples(model: Model | type[Model], size: int = 64) -> Examples:
    return (
        labelled(SCHEMA, size) if issubclass(model if isinstance(model, type) else type(model), Ranker) else paired(SCHEMA, size, items=80, uniform=7)
    )


def answers(model: Model, batch: Batch) -> Tensor:
    """Logits ``[N, T]`` or scores ``[N, N]``."""
    model.eval()
    with torch.inference_mode():
        return model(batch) if isinstance(model, Ranker) else model.encode_user(batch) @ model.encode_item(batch).T


def fitted(cls: type[Model], epochs: int = 2, **options: Any) -> Model:
    model = make(cls, **options)
    Trainer(epochs=epochs, batch_size=16, learning_rate=0.01).fit(model, examples(model))
    return model


@cache
def _fitted_once(cls: type[Model]) -> Model:
    return fitted(cls)


def ready(cls: type[Model]) -> Model:
    """A copy of one fitted with the usual options."""
    return copy.deepcopy(_fitted_once(cls))


def test_the_catalog_has_them() -> None:
    assert len(RANKERS) >= 2
    assert len(EMBEDDERS) >= 1


@every_model
def test_every_weight_gets_a_gradient(cls: type[Model]) -> None:
    wanted = [{}] + [{name: value} for name, values, each in others(cls, SCHEMA) if each for value in values]
    for options in wanted:
        model = make(cls, **options).train()
        data = examples(model)
        model.loss(data.batch(torch.arange(len(data)), torch.Generator().manual_seed(0))).backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None, f"{name} with {options}"
            assert float(weight.grad.to_dense().abs().sum()) > 0, f"{name} with {options}"


@every_model
def test_every_option_changes_something(cls: type[Model]) -> None:
    batch = Batch(columns(SCHEMA, 10, seed=3))
    plain = answers(fitted(cls, epochs=1), batch)
    assert torch.equal(plain, answers(fitted(cls, epochs=1), batch))  # else any difference below would prove nothing
    for name, values, each in others(cls, SCHEMA):
        beside = BESIDE.get(name, {})
        usual = answers(fitted(cls, epochs=1, **beside), batch) if beside else plain
        judge(name, values, each, lambda value: not torch.equal(usual, answers(fitted(cls, epochs=1, **beside, **{name: value}), batch)))  # noqa: B023


@every_model
def test_it_fits_one_batch(cls: type[Model]) -> None:
    options = {"dropout": 0.0} if any(name == "dropout" for name, _, _ in others(cls, SCHEMA)) else {}
    model = make(cls, **options)
    if isinstance(model, Ranker):
        data: Examples = labelled(SCHEMA, 32)
    else:
        data = paired(SCHEMA, 32, items=32)
    batch = data.batch(torch.arange(32))
    start = float(model.loss(batch).detach())
    for _ in range(15):
        Trainer(epochs=10, batch_size=32, learning_rate=0.01).fit(model, data)
        if float(model.loss(batch).detach()) < 0.15 * start:
            return
    pytest.fail(f"from {start:.3f} no further than {float(model.loss(batch).detach()):.3f}")


@every_model
def test_it_can_be_trained_after_it_has_answered(cls: type[Model]) -> None:
    for options in [{}] + [{name: value} for name, values, each in others(cls, SCHEMA) if each for value in values]:
        model = make(cls, **options)
        batch, data = Batch(columns(SCHEMA, 4)), examples(model)
        answers(model, batch)
        if isinstance(model, Halved):
            with torch.inference_mode():
                model.half(batch, "item"), model.half(batch, "pair")
        model.train().loss(data.batch(torch.arange(8), torch.Generator().manual_seed(0))).backward()
        if isinstance(model, Halved):
            model.combine(model.half(batch, "user", "context"), model.half(batch, "item"), model.half(batch, "pair")).sum().backward()


@every_model
def test_saved_and_loaded_it_answers_the_same(cls: type[Model]) -> None:
    model, other = ready(cls), make(cls)
    batch = Batch(columns(SCHEMA, 10, seed=3))
    assert not torch.equal(answers(model, batch), answers(other, batch))
    other.load_state_dict(load(save({name: values.contiguous() for name, values in model.state_dict().items()})))
    assert torch.equal(answers(model, batch), answers(other, batch))


@every_model
def test_an_answer_does_not_depend_on_the_rest_of_the_batch(cls: type[Model]) -> None:
    model, batch = ready(cls), Batch(columns(SCHEMA, 20, seed=3))
    whole = answers(model, batch)
    for row in (0, 7, 19):
        alone = answers(model, batch.take(slice(row, row + 1)))
        expected = whole[row : row + 1] if isinstance(model, Ranker) else whole[row : row + 1, row : row + 1]
        torch.testing.assert_close(alone, expected, atol=1e-5, rtol=0)


@every_model
def test_the_same_seed_gives_the_same_weights(cls: type[Model]) -> None:
    one, other = fitted(cls).state_dict(), fitted(cls).state_dict()
    assert all(torch.equal(values, other[name]) for name, values in one.items())


def strange(size: int, owners: tuple[Any, ...]) -> dict[str, Tensor]:
    """Users or items of which nothing is known."""
    empty = {}
    for feature in SCHEMA.of(*owners):
        if feature.kind == "category":
            empty[feature.name] = torch.full((size,), UNKNOWN)
        elif feature.kind == "sequence":
            empty[feature.name] = torch.zeros(size, feature.length, dtype=torch.int64)
        else:
            empty[feature.name] = torch.full((size,) if feature.kind == "number" else (size, feature.dim), float("nan"))
    return empty


@every_model
def test_unseen_users_and_items_get_an_answer(cls: type[Model]) -> None:
    model, known = ready(cls), columns(SCHEMA, 3, seed=3)
    for owners in (("user", "context"), ("item",), ("pair",), ("user", "context", "item", "pair")):
        assert torch.isfinite(answers(model, Batch({**known, **strange(3, owners)}))).all(), owners
    if isinstance(model, Ranker):
        one = answers(model, Batch({**known, **strange(3, ("user", "context"))}))
        assert len(torch.unique(one[:, 0])) == 3  # a stranger's items are still told apart


HOSTILE = [
    ("user_id", torch.tensor([2, 40, 3]), "'user_id'"),
    ("user_id", torch.tensor([2, -1, 3]), "'user_id'"),
    ("item_id", torch.tensor([2, 2**62, 3]), "'item_id'"),
    ("item_id", torch.tensor([2.0, 3.0, 4.0]), "'item_id' must hold whole ids"),
    ("history", torch.full((3, 5), 60), "'history'"),
    ("history", torch.full((3, 5), -7), "'history'"),
    ("tags", torch.tensor([2, 3, 4]), "'tags' must be"),
    ("tags", torch.full((3, 3), 12), "'tags'"),
    ("year", torch.zeros(3, 2), "'year' must be"),
    ("text", torch.zeros(3, 5), "'text' must be"),
    ("age", torch.zeros(4), "different lengths"),
    ("user_id", torch.tensor([2, 3]), "different lengths"),
]


@every_model
@pytest.mark.parametrize(("name", "values", "text"), HOSTILE, ids=lambda value: str(value)[:30].replace("\n", " "))
def test_hostile_columns_are_a_clear_error(cls: type[Model], name: str, values: Tensor, text: str) -> None:
    model, batch = make(cls), Batch(columns(SCHEMA, 3))
    batch[name] = values
    with pytest.raises(ValueError, match=text):
        answers(model, batch)


@every_model
def test_a_missing_column_is_named(cls: type[Model]) -> None:
    model, batch = make(cls), Batch(columns(SCHEMA, 3))
    del batch["tags"]
    with pytest.raises(ValueError, match="no column 'tags'"):
        answers(model, batch)


@every_model
def test_a_misspelt_option_is_named_with_the_right_one(cls: type[Model]) -> None:
    wanted = "dim" if "dim" in options_of(cls, SCHEMA) else options_of(cls, SCHEMA)[0]
    with pytest.raises(OptionError, match=f"did you mean '{wanted}'"):
        make(cls, **{wanted + wanted[-1]: 8})


@every_ranker
def test_a_ranker_without_tasks_is_refused(cls: type[Ranker]) -> None:
    schema = schema_of_everything()
    with pytest.raises(OptionError, match="label"):
        make(cls, type(schema)(schema.features))


@every_ranker
def test_logits_and_probabilities_have_a_column_a_task(cls: type[Ranker]) -> None:
    model, batch = make(cls).eval(), Batch(columns(SCHEMA, 5))
    assert model(batch).shape == (5, 2)
    predicted = model.predict(batch)
    assert predicted.shape == (5, 2)
    assert bool((predicted >= 0).all())
    if type(model).predict is Ranker.predict:
        torch.testing.assert_close(predicted, torch.sigmoid(model(batch)))


@every_ranker
def test_no_candidates_get_no_answers(cls: type[Ranker]) -> None:
    model = make(cls)
    assert answers(model, Batch(columns(SCHEMA, 3)).take(slice(0, 0))).shape == (0, 2)
    assert float(model.train().loss(examples(model).batch(torch.arange(0), torch.Generator())).detach()) == 0


@every_ranker
def test_halves_are_the_whole(cls: type[Ranker]) -> None:
    model = fitted(cls)
    if not isinstance(model, Halved):
        pytest.skip("it has no halves")
    batch = Batch(columns(SCHEMA, 9, seed=4))
    with torch.inference_mode():
        parts = [model.half(batch, "user", "context"), rows(model.half(batch, "item"), torch.arange(9)), model.half(batch, "pair")]
        torch.testing.assert_close(model.combine(*parts), model(batch), atol=1e-5, rtol=0)


@every_ranker
def test_a_ranker_solves_the_checkerboard(cls: type[Ranker]) -> None:
    if cls.__name__ in BLIND:
        pytest.skip("a sum of weights of users and items cannot")
    try:
        world = Checkerboard()
        model = make(cls, world.schema)
    except OptionError:  # it needs a history, a scene or a second task
        world = Checkerboard(parts=True)
        model = make(cls, world.schema)
    epoch = count()

    def solved() -> bool:
        return world.solved_by(answers(model, world.board())[:, 0].numpy().reshape(world.users, world.items))

    # At most 150 epochs; the score rises until the board is solved, and not any more.
    Trainer(epochs=150, batch_size=32, learning_rate=0.02).fit(model, world.rows(), lambda: np.inf if solved() else next(epoch))
    assert solved()


@every_embedder
def test_an_embedder_solves_the_checkerboard(cls: type[Embedder]) -> None:
    world = Checkerboard()
    model = make(cls, world.schema)
    Trainer(epochs=60, batch_size=16, learning_rate=0.01).fit(model, world.pairs(uniform=4))
    every = Batch.of({"user_id": np.arange(world.users) + 2, "item_id": np.arange(world.items) + 2})
    assert world.solved_by(answers(model, every).numpy())


@every_embedder
def test_vectors_have_the_stated_size(cls: type[Embedder]) -> None:
    model, batch = make(cls).eval(), Batch(columns(SCHEMA, 5))
    assert model.encode_user(batch).shape == model.encode_item(batch).shape == (5, model.dim)
