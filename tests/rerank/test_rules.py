"""Spread, Cap, Block, Pin: each keeps its rule, keeps the rest of the order, and says what happens when it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.build import OptionError, build
from palate.candidates import Candidates, Ragged
from palate.rerank.rules import Block, Cap, Pin, Spread
from palate.state.catalogue import Catalogue
from tests.rerank.test_mmr import request


def shop(kinds: str) -> Catalogue:
    """One item for each letter, of that kind ('-': none); id i0, i1, ..."""
    made = Catalogue()
    for row, kind in enumerate(kinds):
        made.add(f"i{row}", {"kind": None if kind == "-" else kind})
    return made


def line(n: int, *more: int) -> Candidates:
    """Items 0..n-1 in order (and further requests of that many)."""
    sizes = [n, *more]
    items = np.concatenate([np.arange(size) for size in sizes])
    scores = np.concatenate([np.linspace(1, 0.1, size) for size in sizes]).astype(np.float32)
    return Candidates(items, scores, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def test_spread_by_hand() -> None:
    world = shop("aaabbc")
    found = Spread(world, attribute="kind", most=1, window=2)(request(1), line(6))
    assert found.items.tolist() == [0, 3, 1, 4, 2, 5]
    found = Spread(world, attribute="kind", most=1, window=3)(request(1, k=4), line(6))
    assert found.items.tolist() == [0, 3, 5, 1, 2, 4]
    assert Spread(shop("aaa"), attribute="kind")(request(1), line(3)).items.tolist() == [0, 1, 2]  # nothing else to show


@settings(max_examples=60, deadline=None)
@given(st.text("abcd-", min_size=1, max_size=30), st.integers(1, 3), st.integers(2, 6), st.integers(1, 30))
def test_spread_breaks_its_rule_only_when_it_must(kinds: str, most: int, window: int, k: int) -> None:
    found = Spread(shop(kinds), attribute="kind", most=most, window=window)(request(2, k=k), line(len(kinds), 3 if len(kinds) > 3 else 0))
    order = found.items[: len(kinds)].tolist()
    assert sorted(order) == list(range(len(kinds)))
    for place in range(min(k, len(order))):
        above = [kinds[item] for item in order[max(0, place - window + 1) : place]]
        fits = [item for item in sorted(order[place:]) if kinds[item] == "-" or above.count(kinds[item]) < most]
        assert order[place] == (fits[0] if fits else min(order[place:]))
    tail = order[min(k, len(order)) :]
    assert tail == sorted(tail)


def test_several_values_count_each() -> None:
    world = Catalogue()
    for name, genres in (("a", ["x", "y"]), ("b", ["y"]), ("c", ["x"]), ("d", [])):
        world.add(name, {"genres": genres})
    assert Spread(world, attribute="genres", window=2)(request(1), line(4)).items.tolist() == [0, 3, 1, 2]
    assert Cap(world, attribute="genres", most=1)(request(1, k=2), line(4)).items.tolist() == [0, 3, 1, 2]


def test_cap_by_hand() -> None:
    world = shop("aaaab-")
    assert Cap(world, attribute="kind", most=2)(request(1, k=4), line(6)).items.tolist() == [0, 1, 4, 5, 2, 3]
    assert Cap(world, attribute="kind", most=1)(request(1, k=5), line(6)).items.tolist() == [0, 4, 5, 1, 2, 3]  # filled all the same
    strict = Cap(world, attribute="kind", most=1, strict=True)
    assert strict(request(1, k=5), line(6)).items.tolist() == [0, 4, 5]
    assert strict(request(1, k=3), line(6)).items.tolist() == [0, 4, 5, 1, 2, 3]
    both = strict(request(2, k=2), line(6, 4))
    assert both.items.tolist() == [0, 4, 1, 2, 3, 5, 0]
    assert both.offsets.tolist() == [0, 6, 7]


def test_block() -> None:
    world = shop("aabbc")
    assert Block(world, items=["i1", "i9"])(request(1), line(5)).items.tolist() == [0, 2, 3, 4]
    step = Block(world, items=["i9"], attribute="kind", values=["b", "c"])
    found = step(request(2), line(5, 3))
    assert found.items.tolist() == [0, 1, 0, 1]
    assert found.offsets.tolist() == [0, 2, 4]
    for row in range(5, 10):
        world.add(f"i{row}", {"kind": "a"})
    world.update(0, {"kind": "c"})
    assert step(request(1), line(10)).items.tolist() == [1, 5, 6, 7, 8]


def test_pin_moves_inserts_and_passes_over() -> None:
    world = shop("abcdef")
    offered = line(4).with_columns(like=np.array([0.9, 0.8, 0.7, 0.6]), propensity=np.array([1.0, 1.0, 0.3, 0.2]))
    step = Pin(world, items=["i3", "i5", "unknown"], places=[1, 3, 2], insert=True)
    found = step(request(1), offered)
    assert found.items.tolist() == [3, 0, 5, 1, 2]
    assert found.columns["pinned"].tolist() == [1, 0, 1, 0, 0]
    assert found.columns["propensity"].tolist() == [1, 1, 1, 1, 0.3]
    assert found.columns["like"][0] == 0.6
    assert np.isnan(found.columns["like"][2])
    assert found.scores[2] == found.scores[3]
    assert np.isfinite(found.scores).all()
    seen = step(request(1, exclude=Ragged.of([[5]])), offered)
    assert seen.items.tolist() == [3, 0, 1, 2]
    careful = Pin(world, items=["i3", "i5"], places=[1, 3])(request(1), offered)  # i5 did not come through the filters
    assert careful.items.tolist() == [3, 0, 1, 2]
    assert careful.columns["pinned"].tolist() == [1, 0, 0, 0]
    world.withdraw(3)
    assert step(request(1), offered).items.tolist() == [0, 1, 5, 2, 3]


def test_pin_on_short_lists_scenes_and_batches() -> None:
    world = shop("abcdef")
    step = Pin(world, items=["i4", "i5"], places=[1, 9], scenes=["home"], insert=True)
    assert step(request(1), line(2)).items.tolist() == [0, 1]
    found = step(request(3, scene="home", exclude=Ragged.of([[], [4], [4, 5]])), line(2, 0, 6))
    assert [found.items[found.offsets[b] : found.offsets[b + 1]].tolist() for b in range(3)] == [[4, 0, 1, 5], [5], [0, 1, 2, 3, 4, 5]]
    assert np.isfinite(found.scores).all()


def test_wrong_options_are_named() -> None:
    world = shop("ab")
    for cls, options, text in (
        (Spread, {"attribute": "knd"}, "did you mean 'kind'"),
        (Spread, {"attribute": "kind", "window": 1}, "window >= 2"),
        (Cap, {"attribute": "kind", "most": 0}, "most >= 1"),
        (Block, {}, "needs items"),
        (Block, {"items": ["i0"], "attribute": "kind"}, "together"),
        (Pin, {"items": ["i0", "i0"]}, "once"),
        (Pin, {"items": ["i0"], "places": [0]}, "from 1 on"),
    ):
        with pytest.raises(OptionError, match=text):
            build(cls, options, world)
