"""What every recall model of rows promises, asked of each one in the catalog."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from palate import catalog
from palate.build import build, parameters
from palate.candidates import Candidates
from palate.contracts import Recaller, Similar
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences
from palate.index.exact import Exact
from palate.training.trainer import Trainer
from tests.contract.options import BESIDE, judge, others
from tests.worlds import Shop

SHOP = Shop()
EVERYBODY = list(range(SHOP.users))
found = [(entry.name, entry.load()) for entry in catalog.ENTRIES if entry.kind == "recall"]
RECALLERS = [pytest.param(cls, id=name) for name, cls in found if isinstance(cls, type) and issubclass(cls, Recaller)]
every_recaller = pytest.mark.parametrize("cls", RECALLERS)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make(cls: type[Recaller], interactions: Interactions = SHOP.interactions, **options: Any) -> Recaller:
    torch.manual_seed(0)
    return build(cls, options, interactions, SHOP.catalogue)


def examples(model: Recaller) -> Any:
    sequences = Sequences.of(SHOP.rows, SHOP.users, SHOP.items)
    return model.learn_from(sequences, Sampler(torch.from_numpy(sequences.counts)))


def fitted(cls: type[Recaller], epochs: int = 2, batch_size: int = 16, learning_rate: float = 0.01, **options: Any) -> Recaller:
    model = make(cls, **options)
    Trainer(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate).fit(model, examples(model))
    return model


@cache
def _fitted_once(cls: type[Recaller]) -> Recaller:
    return fitted(cls)


def ready(cls: type[Recaller]) -> Recaller:
    """One with the weights of one that was fitted with the usual options."""
    model = make(cls)
    model.load_state_dict(_fitted_once(cls).state_dict())
    return model.eval()


def same(one: Candidates, other: Candidates) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("items", "scores", "offsets"))


def read_back(cls: type[Recaller], model: Recaller, **options: Any) -> Recaller:
    """As a run reads it: into a model made of a matrix of the same size with nothing in it."""
    other = make(cls, Interactions.empty(SHOP.users, SHOP.items), **options)
    other.load_state_dict(load(save({name: values.contiguous() for name, values in model.state_dict().items()})))
    return other.eval()


@every_recaller
def test_it_keeps_the_contract_of_a_retriever(cls: type[Recaller]) -> None:
    model, request = ready(cls), SHOP.request(EVERYBODY)
    for k in (0, 1, 7, SHOP.items, 10**6):
        offered = model.retrieve(request, k)
        assert len(offered) == len(request)
        assert (offered.items.dtype, offered.scores.dtype, offered.offsets.dtype) == (np.int64, np.float32, np.int64)
        assert np.isfinite(offered.scores).all()
        for b in range(len(request)):
            span = slice(offered.offsets[b], offered.offsets[b + 1])
            items, scores = offered.items[span], offered.scores[span]
            left = set(range(SHOP.items)) - set(request.exclude[b].tolist())
            assert len(set(items.tolist()) & left) == len(items) == min(k, len(left))
            assert np.array_equal(np.lexsort((items, -scores)), np.arange(len(items))), "best first, ties by catalogue row"


@every_recaller
def test_an_answer_does_not_depend_on_the_rest_of_the_batch(cls: type[Recaller]) -> None:
    model = ready(cls)
    whole = model.retrieve(SHOP.request(EVERYBODY), 8)
    for user in (0, 11, SHOP.users - 1):
        alone = model.retrieve(SHOP.request([user]), 8)
        span = slice(whole.offsets[user], whole.offsets[user + 1])
        np.testing.assert_allclose(alone.scores, whole.scores[span], rtol=1e-5, atol=1e-5)
        assert len(set(alone.items.tolist()) & set(whole.items[span].tolist())) >= 7  # a tie may fall otherwise


@every_recaller
def test_every_weight_gets_a_gradient(cls: type[Recaller]) -> None:
    for options in [{}] + [{name: value} for name, values, each in others(cls, SHOP.interactions, SHOP.catalogue) if each for value in values]:
        model = make(cls, **options).train()
        data = examples(model)
        model.begin(data)
        model.loss(data.batch(torch.arange(len(data)), torch.Generator().manual_seed(0))).backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None, f"{name} with {options}"
            assert float(weight.grad.to_dense().abs().sum()) > 0, f"{name} with {options}"


@every_recaller
def test_every_option_changes_something(cls: type[Recaller]) -> None:
    request, brief = SHOP.request(EVERYBODY), {"epochs": 1, "batch_size": 32}
    plain = fitted(cls, **brief).retrieve(request, 12)
    assert same(plain, fitted(cls, **brief).retrieve(request, 12))  # else any difference below would prove nothing
    for name, values, each in others(cls, SHOP.interactions, SHOP.catalogue):
        wanted = BESIDE.get(f"{cls.__name__}.{name}", BESIDE.get(name, {}))
        beside = brief | {key: value for key, value in wanted.items() if key in parameters(cls)}
        usual = plain if beside == brief else fitted(cls, **beside).retrieve(request, 12)
        judge(name, values, each, lambda value: not same(usual, fitted(cls, **beside, **{name: value}).retrieve(request, 12)))  # noqa: B023


@every_recaller
def test_it_learns_what_everybody_took(cls: type[Recaller]) -> None:
    model = fitted(cls, epochs=1)
    data = examples(model)
    generator = torch.Generator()

    def now() -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            return float(model.eval().loss(data.batch(torch.arange(len(data)), generator.manual_seed(0))))

    before = now()
    Trainer(epochs=4, batch_size=16, learning_rate=0.01).fit(model, data)
    assert now() < before


@every_recaller
def test_saved_and_read_back_it_answers_the_same(cls: type[Recaller]) -> None:
    model, request = _fitted_once(cls), SHOP.request(EVERYBODY)  # no copy: nothing of it may be outside what is saved
    assert same(model.retrieve(request, 9), read_back(cls, model).retrieve(request, 9))
    assert same(model.retrieve(SHOP.stranger([3, 4]), 9), read_back(cls, model).retrieve(SHOP.stranger([3, 4]), 9))


@every_recaller
def test_a_stranger_is_answered_from_the_history(cls: type[Recaller]) -> None:
    model = ready(cls)
    one, other = model.retrieve(SHOP.stranger([2, 5, 7]), 10), model.retrieve(SHOP.stranger([21, 25, 28]), 10)
    assert len(one.items) == len(other.items) == 10
    assert np.isfinite(one.scores).all()
    assert not same(one, other)
    assert len(model.retrieve(SHOP.stranger([]), 10).items) == 0


@every_recaller
def test_rows_that_are_not_known_count_for_nothing(cls: type[Recaller]) -> None:
    model = ready(cls)
    assert same(model.retrieve(SHOP.stranger([2, -1, 5, 10**9, SHOP.items]), 10), model.retrieve(SHOP.stranger([2, 5]), 10))


@every_recaller
def test_it_can_be_trained_after_it_has_answered(cls: type[Recaller]) -> None:
    model, request = ready(cls), SHOP.request(EVERYBODY)
    before = model.retrieve(request, 9)
    Trainer(epochs=1, batch_size=16, learning_rate=0.01).fit(model, examples(model))
    assert not same(before, model.retrieve(request, 9))


@every_recaller
def test_behind_an_index_the_answer_is_the_same(cls: type[Recaller]) -> None:
    if not cls.inner:
        pytest.skip("its score is no inner product")
    model, request = ready(cls), SHOP.request(EVERYBODY)
    plain = model.retrieve(request, 9)
    again = model.search_with(Exact().fit(model.items, np.arange(SHOP.items))).retrieve(request, 9)
    assert plain.offsets.tolist() == again.offsets.tolist()
    np.testing.assert_allclose(plain.scores, again.scores, rtol=1e-5, atol=1e-5)
    assert len(model.retrieve(SHOP.request([]), 9)) == 0


@every_recaller
def test_similar_items_are_others_best_first(cls: type[Recaller]) -> None:
    model = ready(cls)
    assert isinstance(model, Similar)
    items, scores = model.similar(3, 6)
    if not len(items):
        pytest.skip("it has no vectors of items")
    assert 3 not in items.tolist()
    assert (np.diff(scores) <= 0).all()
    for _ in range(2):  # again after more training: nothing is kept of the vectors as they were
        unit = model.items / np.linalg.norm(model.items, axis=1, keepdims=True)
        items, scores = model.similar(3, 6)
        np.testing.assert_allclose(scores, unit[items] @ unit[3], atol=1e-5)
        Trainer(epochs=1, batch_size=16, learning_rate=0.01).fit(model, examples(model))
    assert len(model.similar(SHOP.items + 4, 6)[0]) == 0
