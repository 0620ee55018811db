"""What every recall model without gradients promises, asked of each one in the catalog."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from palate import catalog
from palate.build import OptionError, build
from palate.candidates import DAY, Candidates, Ragged
from palate.contracts import Counter, Model, Others, Rehearsal, Similar
from palate.datasets.held import held_back
from palate.datasets.interactions import Interactions
from palate.recall.content.tag import Tag
from palate.recall.neighbor.itemcf import ItemCF
from palate.recall.popular.popular import Popular
from palate.state.rows import EventRows
from tests.contract.options import BESIDE, given, judge, others
from tests.worlds import Town

SHOP = Town()
EVERYBODY = list(range(SHOP.users))
LISTS_FOR_ALL = {"Popular", "Fresh", "Former"}  #: no history moves their list

found = [(entry.name, entry.load()) for entry in catalog.ENTRIES if entry.kind == "recall"]
COUNTERS = [pytest.param(cls, id=name) for name, cls in found if not (isinstance(cls, type) and issubclass(cls, Model))]
PERSONAL = [pytest.param(cls, id=name) for name, cls in found if name not in LISTS_FOR_ALL and not issubclass(cls, Model)]
every_counter = pytest.mark.parametrize("cls", COUNTERS)
every_personal = pytest.mark.parametrize("cls", PERSONAL)


def make(cls: type, **options: Any) -> Any:
    return build(cls, {**given(cls), **options}, *SHOP.provided, PARTS)


def fitted(cls: type, **options: Any) -> Counter:
    counter: Counter = make(cls, **options).fit(SHOP.interactions)
    return counter


def parts(rows: EventRows) -> dict[str, Any]:
    """What hybrids are made of here, fitted on these events."""
    taken = Interactions.of(rows, SHOP.users, SHOP.items, now=SHOP.now)
    return {"itemcf": ItemCF().fit(taken), "tag": Tag(SHOP.catalogue).fit(taken), "popular": Popular().fit(taken)}


def rehearse(models: Sequence[str], share: float) -> Rehearsal:
    moment, users, taken = held_back(SHOP.rows, share, 1000)
    return Rehearsal(Others(parts(SHOP.rows.before(moment)).__getitem__), SHOP.past.request(users, np.full(len(users), moment)), taken)


PARTS = Others(parts(SHOP.rows).__getitem__, rehearse=rehearse)


def same(one: Candidates, other: Candidates) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("items", "scores", "offsets"))


def test_the_catalog_has_them() -> None:
    assert len(COUNTERS) >= 8


@every_counter
def test_it_keeps_the_contract_of_a_retriever(cls: type) -> None:
    counter, request = fitted(cls), SHOP.request(EVERYBODY)
    assert isinstance(counter, Counter)
    for k in (0, 1, 7, SHOP.items, 10**6):
        offered = counter.retrieve(request, k)
        assert len(offered) == len(request)
        assert offered.offsets[-1] == len(offered.items) == len(offered.scores)
        assert (offered.items.dtype, offered.scores.dtype, offered.offsets.dtype) == (np.int64, np.float32, np.int64)
        assert np.isfinite(offered.scores).all()
        for b in range(len(request)):
            span = slice(offered.offsets[b], offered.offsets[b + 1])
            items, scores = offered.items[span], offered.scores[span]
            assert len(items) <= k
            assert len(set(items.tolist())) == len(items)
            assert ((items >= 0) & (items < SHOP.items)).all()
            assert not set(items.tolist()) & set(request.exclude[b].tolist())
            assert np.array_equal(np.lexsort((items, -scores)), np.arange(len(items))), "best first, ties by catalogue row"


@every_counter
def test_fewer_are_the_first_of_more(cls: type) -> None:
    counter, request = fitted(cls), SHOP.request(EVERYBODY)
    assert same(counter.retrieve(request, 5), counter.retrieve(request, 20).top(5))


@every_counter
def test_an_answer_does_not_depend_on_the_rest_of_the_batch(cls: type) -> None:
    counter = fitted(cls)
    whole = counter.retrieve(SHOP.request(EVERYBODY), 8)
    for user in (0, 11, SHOP.users - 1):
        alone = counter.retrieve(SHOP.request([user]), 8)
        span = slice(whole.offsets[user], whole.offsets[user + 1])
        assert alone.items.tolist() == whole.items[span].tolist()
        np.testing.assert_allclose(alone.scores, whole.scores[span], rtol=1e-5, atol=1e-5)


@every_counter
def test_saved_and_loaded_it_answers_the_same(cls: type) -> None:
    counter, request = fitted(cls), SHOP.request(EVERYBODY)
    arrays = load(save({name: np.ascontiguousarray(values) for name, values in counter.arrays().items()}))
    again = make(cls).from_arrays(arrays)
    assert same(counter.retrieve(request, 9), again.retrieve(request, 9))


@every_counter
def test_the_same_data_gives_the_same_answers(cls: type) -> None:
    request = SHOP.request(EVERYBODY)
    assert same(fitted(cls).retrieve(request, 9), fitted(cls).retrieve(request, 9))


@every_counter
def test_fitting_again_forgets_what_was_fitted_before(cls: type) -> None:
    other, request = Town(seed=5), SHOP.request(EVERYBODY)
    counter = make(cls).fit(other.interactions)
    assert same(counter.fit(SHOP.interactions).retrieve(request, 9), fitted(cls).retrieve(request, 9))


@every_counter
def test_every_option_changes_something(cls: type) -> None:
    request = SHOP.request(EVERYBODY)
    for name, values, each in others(cls, *SHOP.provided, PARTS):
        beside = BESIDE.get(name, {})
        plain = fitted(cls, **beside).retrieve(request, 12)
        judge(name, values, each, lambda value: not same(plain, fitted(cls, **beside, **{name: value}).retrieve(request, 12)))  # noqa: B023


@every_counter
def test_a_stranger_with_a_history_gets_an_answer(cls: type) -> None:
    offered = fitted(cls).retrieve(SHOP.stranger([3, 0, 5]), 5)
    assert len(offered.items) == 5


@every_personal
def test_another_history_gives_another_answer(cls: type) -> None:
    counter = fitted(cls)
    assert not same(counter.retrieve(SHOP.stranger([3, 0]), 5), counter.retrieve(SHOP.stranger([9, 17]), 5))


@every_counter
def test_history_rows_it_was_not_fitted_on_are_ignored(cls: type) -> None:
    counter = fitted(cls)
    strange = counter.retrieve(SHOP.stranger([-1, 10**12, 3, SHOP.items, 0, -5]), 6)
    plain = counter.retrieve(SHOP.stranger([3, 0]), 6)
    assert strange.items.tolist() == plain.items.tolist()
    np.testing.assert_allclose(strange.scores, plain.scores, rtol=1e-5)


@every_personal
def test_who_comes_back_after_years_gets_the_list_of_who_was_long_away(cls: type) -> None:
    if "half_life_days" not in inspect.signature(cls.__init__).parameters:
        pytest.skip("time does not count")
    counter, asked = fitted(cls, half_life_days=1.0), SHOP.stranger([3, 0, 5])
    lists = [counter.retrieve(replace(asked, now=asked.now + days * DAY), 8).items.tolist() for days in (35, 200, 10_000)]
    assert lists[0] == lists[1] == lists[2] != []


@every_counter
def test_hostile_exclusions_and_users_do_no_harm(cls: type) -> None:
    counter, request = fitted(cls), SHOP.stranger([3, 0])
    wide = np.array([-1, 10**12, 3, 3, 7, -(2**62)], np.int64)
    for users in (-1, 10**12, -(2**40)):
        asked = replace(request, users=np.array([users]), exclude=Ragged(wide, np.array([0, len(wide)])))
        offered = counter.retrieve(asked, 6)
        assert not {3, 7} & set(offered.items.tolist())
        assert len(offered.items) > 0


@every_counter
def test_nobody_asking_and_nothing_known(cls: type) -> None:
    counter = fitted(cls)
    assert len(counter.retrieve(SHOP.request([]), 5)) == 0
    empty = counter.retrieve(SHOP.stranger([]), 5)
    assert len(empty) == 1
    assert np.isfinite(empty.scores).all()


@every_counter
def test_a_table_without_events_is_no_crash(cls: type) -> None:
    none = np.empty(0, np.int64)
    rows = EventRows(none, none, none, np.empty(0, np.uint32), np.empty(0, np.float32), ("taken",))
    counter = make(cls).fit(Interactions.of(rows, 0, SHOP.items))
    offered = counter.retrieve(SHOP.stranger([3, 0]), 5)
    assert np.isfinite(offered.scores).all()


@every_counter
def test_one_user_and_equal_values_are_no_crash(cls: type) -> None:
    rows = SHOP.rows.take(np.arange(12))
    alone = EventRows(np.zeros(12, np.int64), rows.items, rows.times, rows.signals, np.full(12, 3, np.float32), rows.names)
    counter = make(cls).fit(Interactions.of(alone, 1, SHOP.items, weighted=True))
    offered = counter.retrieve(SHOP.stranger(rows.items[:3].tolist(), value=3.0), 5)
    assert np.isfinite(offered.scores).all()


@every_counter
def test_asked_before_it_is_fitted_it_says_so(cls: type) -> None:
    with pytest.raises(RuntimeError, match="not fitted"):
        make(cls).retrieve(SHOP.request([0]), 5)


@every_counter
def test_similar_items_are_others_best_first(cls: type) -> None:
    counter = fitted(cls)
    if not isinstance(counter, Similar):
        pytest.skip("it knows no similar items")
    items, scores = counter.similar(3, 6)
    assert len(items) == len(scores) > 0
    assert 3 not in items
    assert np.array_equal(np.lexsort((items, -scores)), np.arange(len(items)))
    for item in (-1, SHOP.items, 10**12):
        assert len(counter.similar(item, 6)[0]) == 0


@every_counter
def test_a_misspelt_option_is_an_error(cls: type) -> None:
    with pytest.raises(OptionError, match="has no option 'neighbor_count'"):
        make(cls, neighbor_count=8)
