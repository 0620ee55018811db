"""What every ranker fitted without gradients promises, asked of each one in the catalog."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch import Tensor

from palate import assembly, catalog
from palate.batch import Batch
from palate.build import OptionError, build
from palate.contracts import Counter, Forest, Model, Ranker
from palate.datasets.pointwise import Pointwise
from palate.schema import UNKNOWN, Schema
from palate.store import RunError
from tests.contract.options import judge, others
from tests.worlds import columns, schema_of_everything

SCHEMA = schema_of_everything()
FORESTS = [pytest.param(entry.load(), id=entry.name) for entry in catalog.ENTRIES if entry.kind == "rank" and not issubclass(entry.load(), Model)]
every_forest = pytest.mark.parametrize("cls", FORESTS)
#: other options that one needs in order to matter among few rows, and values that are refused
BESIDE: dict[str, dict[str, Any]] = {"patience": {"trees": 60, "learning_rate": 0.5}}
SMALL: dict[str, Any] = {"trees": 12, "least": 5, "leaves": 7, "learning_rate": 0.3, "categories": 20}


def learnable(size: int = 400, seed: int = 0, **more: Any) -> Pointwise:
    """Random rows in which both tasks depend on numbers, categories and ids; some of the second's labels are missing."""
    random = np.random.default_rng(seed)
    values = columns(SCHEMA, size, seed=seed)
    odds = values["year"] + values["route.score"] + (values["genre"] % 2) * 2.0 - (values["user_id"] % 3) + values["text"][:, 0]
    labels = {name: (odds.numpy() + random.normal(size=size) > 0).astype(np.float32) for name in ("choose", "like")}
    labels["like"][::3] = np.nan
    return Pointwise(values, labels, random.integers(0, max(size // 10, 1), size), **more)


def make(cls: Any, schema: Schema = SCHEMA, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    return build(cls, options, schema)


def fitted(cls: Any, seed: int = 0, **options: Any) -> Any:
    return make(cls, seed=seed, **{**SMALL, **options}).fit(learnable(), learnable(200, seed=1))


def answers(forest: Any, seed: int = 3, size: int = 60) -> Tensor:
    return forest.predict(Batch(columns(SCHEMA, size, seed=seed)))


def test_the_catalog_has_them() -> None:
    assert {param.id for param in FORESTS} >= {"GBDT", "LambdaMART", "GBDTLR"}


@every_forest
def test_it_is_a_forest_and_nothing_else(cls: Any) -> None:
    forest = make(cls)
    assert isinstance(forest, Forest)
    assert not isinstance(forest, (Counter, Ranker))
    assert forest.tasks == ("choose", "like")
    assert forest.eval() is forest


@every_forest
def test_it_learns_every_task(cls: Any) -> None:
    forest, held = fitted(cls, trees=60), learnable(400, seed=5)
    batch = held.batch(torch.arange(400))
    found = forest.predict(batch)
    assert found.shape == (400, 2)
    assert found.dtype == torch.float32
    assert bool(((found >= 0) & (found <= 1)).all())
    for t, task in enumerate(forest.tasks):
        label = batch[f"label:{task}"]
        above = found[label == 1, t][:, None] > found[label == 0, t]
        assert above.float().mean() > 0.7, task


@every_forest
def test_saved_and_loaded_it_answers_the_same(cls: Any) -> None:
    forest = fitted(cls)
    arrays = load(save({name: np.ascontiguousarray(values) for name, values in assembly.arrays_of(forest).items()}))
    again = assembly.load_weights(make(cls, **SMALL), arrays, "model.safetensors")
    assert torch.equal(answers(forest), answers(again))
    assert all(np.array_equal(values, again.arrays()[name]) for name, values in forest.arrays().items())


@every_forest
def test_what_is_kept_is_checked_when_it_is_read(cls: Any) -> None:
    arrays = assembly.arrays_of(fitted(cls))

    def refused(text: str, **changed: Any) -> None:
        wrong = {name: values for name, values in {**arrays, **changed}.items() if values is not None}
        with pytest.raises(RunError, match=text):
            assembly.load_weights(make(cls, **SMALL), wrong, "model.safetensors")

    refused("has no array 'trees/like'", **{"trees/like": None})
    refused("has an array 'more'", more=np.zeros(3))
    refused("base", base=np.zeros(3))
    refused("means of user_id", **{"means/user_id": np.zeros((2, 7), np.float32)})
    text = arrays["trees/choose"].tobytes().decode()
    for old, new in (
        ("tree\n", "three\n"),
        ("max_feature_idx=", "max_feature_idx=1"),
        ("\nleft_child=", "\nleft_child=70 "),
        ("\nsplit_feature=", "\nsplit_feature=9"),
        ("\nleaf_value=", "\nleaf_value=nan "),
        ("\nnum_leaves=", "\nnum_leaves=9"),
        ("\nTree=1\n", "\nTree=2\n"),
        ("\nis_linear=0", "\nis_linear=1"),
        ("end of trees\n", ""),
    ):
        assert old in text, old
        broken = np.frombuffer(text.replace(old, new, 1).encode(), np.uint8)
        refused("trees/choose", **{"trees/choose": broken})
    refused("trees/choose", **{"trees/choose": np.array([200, 201], np.uint8)})


@every_forest
def test_an_answer_does_not_depend_on_the_rest_of_the_batch(cls: Any) -> None:
    forest, batch = fitted(cls), Batch(columns(SCHEMA, 20, seed=3))
    whole = forest.predict(batch)
    for row in (0, 7, 19):
        torch.testing.assert_close(forest.predict(batch.take(slice(row, row + 1))), whole[row : row + 1], atol=1e-6, rtol=0)


@every_forest
def test_columns_that_are_expanded_do_as_well(cls: Any) -> None:
    """As in serving: a user's columns stand once for all candidates, and nothing may be written."""
    forest, batch = fitted(cls), Batch(columns(SCHEMA, 20, seed=3))
    users = {f.name: batch[f.name][:1].expand(20, *batch[f.name].shape[1:]) for f in SCHEMA.of("user", "context")}
    copied = {name: values.clone() for name, values in users.items()}
    with torch.inference_mode():
        assert torch.equal(forest.predict(Batch({**batch, **users})), forest.predict(Batch({**batch, **copied})))


@every_forest
def test_the_same_seed_gives_the_same_forest_and_another_another(cls: Any) -> None:
    drawn = {"rows": 0.6, "columns": 0.5}
    assert torch.equal(answers(fitted(cls, **drawn)), answers(fitted(cls, **drawn)))
    assert not torch.equal(answers(fitted(cls, **drawn)), answers(fitted(cls, seed=1, **drawn)))


@every_forest
def test_fitting_again_forgets_what_was_fitted_before(cls: Any) -> None:
    again = make(cls, **SMALL).fit(learnable(300, seed=8)).fit(learnable(), learnable(200, seed=1))
    assert torch.equal(answers(again), answers(fitted(cls)))


@every_forest
def test_every_option_changes_something(cls: Any) -> None:
    for name, values, each in others(cls, SCHEMA):
        start = {key: value for key, value in {**SMALL, **BESIDE.get(name, {})}.items() if key != name}
        plain = answers(fitted(cls, **{**start, name: _default(cls, name)}))
        judge(name, values, each, lambda value: not torch.equal(plain, answers(fitted(cls, **{**start, name: value}))))  # noqa: B023


def _default(cls: Any, name: str) -> Any:
    import inspect

    return inspect.signature(cls).parameters[name].default


@every_forest
def test_threads_change_no_answer(cls: Any) -> None:
    torch.testing.assert_close(answers(fitted(cls)), answers(fitted(cls, threads=2)), atol=1e-5, rtol=0)


@every_forest
def test_weights_count_and_rows_without_weight_do_not(cls: Any) -> None:
    plain, light = learnable(400), learnable(400, weights=np.where(np.arange(400) < 250, 1.0, 0.0))
    alone = make(cls, **SMALL, smoothing=1e-6).fit(_first(plain, 250))
    weighed = make(cls, **SMALL, smoothing=1e-6).fit(light)
    assert not torch.equal(answers(weighed), answers(make(cls, **SMALL, smoothing=1e-6).fit(plain)))
    assert np.corrcoef(answers(weighed)[:, 0], answers(alone)[:, 0])[0, 1] > 0.8


def _first(rows: Pointwise, size: int) -> Pointwise:
    batch = rows.batch(torch.arange(size))
    labels = {task: batch.pop(f"label:{task}") for task in ("choose", "like")}
    groups = batch.pop("group")
    return Pointwise(batch, labels, groups)


@every_forest
def test_probabilities_allow_for_negatives_that_were_left_out(cls: Any) -> None:
    """Three of four negatives dropped and said so, the mean prediction for new rows stays near the rate among all."""
    rows, fresh = learnable(3000), learnable(3000, seed=1).batch(torch.arange(3000))
    every = rows.batch(torch.arange(3000))
    left = (every["label:choose"] == 1) | (torch.rand(3000, generator=torch.Generator().manual_seed(99)) < 0.25)
    batch = rows.batch(torch.nonzero(left)[:, 0])
    labels, groups = {task: batch.pop(f"label:{task}") for task in ("choose", "like")}, batch.pop("group")
    kept = torch.full((len(groups),), 0.25)
    rate = float(every["label:choose"].mean())
    found = {}
    for name, some in (("told", Pointwise(batch, labels, groups, kept=kept)), ("not", Pointwise(batch, labels, groups))):
        found[name] = float(make(cls, **SMALL).fit(some).predict(fresh)[:, 0].mean())
    assert abs(found["told"] - rate) < 0.1 < abs(found["not"] - rate)


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


@every_forest
def test_unseen_users_and_items_get_an_answer(cls: Any) -> None:
    forest, known = fitted(cls), columns(SCHEMA, 20, seed=3)
    for owners in (("user", "context"), ("item",), ("pair",), ("user", "context", "item", "pair")):
        assert torch.isfinite(forest.predict(Batch({**known, **strange(20, owners)}))).all(), owners
    one = forest.predict(Batch({**known, **strange(20, ("user", "context"))}))
    assert len(torch.unique(one[:, 0])) > 10  # a stranger's items are still told apart


HOSTILE = [
    ("user_id", torch.tensor([2, 40, 3]), "'user_id'"),
    ("user_id", torch.tensor([2, -1, 3]), "'user_id'"),
    ("item_id", torch.tensor([2, 2**62, 3]), "'item_id'"),
    ("item_id", torch.tensor([2.0, 3.0, 4.0]), "'item_id' must hold whole ids"),
    ("genre", torch.tensor([2, 9, 3]), "'genre'"),
    ("history", torch.full((3, 5), 60), "'history'"),
    ("history", torch.full((3, 5), -7), "'history'"),
    ("tags", torch.tensor([2, 3, 4]), "'tags' must be"),
    ("tags", torch.full((3, 3), 12), "'tags'"),
    ("year", torch.zeros(3, 2), "'year' must be"),
    ("text", torch.zeros(3, 5), "'text' must be"),
    ("age", torch.zeros(4), "different lengths"),
    ("user_id", torch.tensor([2, 3]), "different lengths"),
    ("item_id", torch.tensor([2, 3]), "different lengths"),
]


@pytest.fixture(scope="module")
def grown() -> dict[Any, Any]:
    return {param.values[0]: fitted(param.values[0]) for param in FORESTS}


@every_forest
@pytest.mark.parametrize(("name", "values", "text"), HOSTILE, ids=lambda value: str(value)[:30].replace("\n", " "))
def test_hostile_columns_are_a_clear_error(grown: dict[Any, Any], cls: Any, name: str, values: Tensor, text: str) -> None:
    batch = Batch(columns(SCHEMA, 3))
    batch[name] = values
    with pytest.raises(ValueError, match=text):
        grown[cls].predict(batch)


@every_forest
def test_a_missing_column_is_named(grown: dict[Any, Any], cls: Any) -> None:
    batch = Batch(columns(SCHEMA, 3))
    del batch["tags"]
    with pytest.raises(ValueError, match="no column 'tags'"):
        grown[cls].predict(batch)


@every_forest
def test_little_to_learn_from_is_no_crash(cls: Any) -> None:
    one_answer = columns(SCHEMA, 30)
    for labels in (
        {"choose": np.ones(30), "like": np.full(30, np.nan)},
        {"choose": np.zeros(30), "like": np.zeros(30)},
        {"choose": np.full(30, np.nan), "like": np.ones(30)},
    ):
        forest = make(cls, **SMALL).fit(Pointwise(one_answer, labels, np.zeros(30, np.int64)))
        found = answers(forest)
        assert torch.isfinite(found).all()
        again = assembly.load_weights(make(cls, **SMALL), assembly.arrays_of(forest), "model.safetensors")
        assert torch.equal(found, answers(again))
    with pytest.raises(ValueError, match="no examples"):
        make(cls).fit(Pointwise(columns(SCHEMA, 0), {"choose": np.zeros(0), "like": np.zeros(0)}, np.zeros(0, np.int64)))


@every_forest
def test_asked_before_it_is_fitted_it_says_so(cls: Any) -> None:
    with pytest.raises(RuntimeError, match="not fitted"):
        answers(make(cls))


@every_forest
def test_options_that_cannot_be_are_named(cls: Any) -> None:
    wrong = {"trees": 0, "leaves": 1, "learning_rate": 0.0, "least": 0, "l2": -1.0, "rows": 1.5, "columns": 0.0, "patience": 0, "threads": 0}
    for name, value in {**wrong, "smoothing": 0.0, "categories": -1}.items():
        with pytest.raises(OptionError, match=name):
            make(cls, **{name: value})
    with pytest.raises(OptionError, match="did you mean 'trees'"):
        make(cls, treees=8)
    with pytest.raises(OptionError, match="label"):
        make(cls, Schema(SCHEMA.features))


@every_forest
def test_without_the_library_it_says_how_to_install_it(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    with pytest.raises(OptionError, match=r"pip install 'palate\[trees\]'"):
        make(cls)
