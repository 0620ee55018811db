"""The filter of every index of the catalog: none but the ids asked for, and k of them where k are there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate.build import build
from palate.candidates import Floats, Ints, Ragged
from palate.catalog import ENTRIES, load
from palate.index.exact import Exact
from tests.index.test_index import clusters, recall

NAMES = [entry.name for entry in ENTRIES if entry.kind == "index"]
SIZE, K = 6_000, 30


@pytest.fixture(scope="module")
def world() -> tuple[Floats, Ints, Floats, dict[str, Any]]:
    vectors = clusters(SIZE, 24, 0)
    ids = np.random.default_rng(1).permutation(8_000)[:SIZE].astype(np.int64)
    return vectors, ids, clusters(40, 24, 2), {name: build(load(name, "index"), {}).fit(vectors, ids) for name in NAMES}


def right(vectors: Floats, ids: Ints, queries: Floats, only: Ints, exclude: Ragged | None = None) -> Ints:
    chosen = np.isin(ids, only)
    return Exact().fit(vectors[chosen], ids[chosen]).search(queries, K, exclude)[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.004, 0.1, 0.3, 0.8])
def test_of_a_random_share(name: str, share: float, world: tuple[Floats, Ints, Floats, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, ids, queries, indexes = world
    monkeypatch.setattr("palate.index.approximate.FEW", 100)
    random = np.random.default_rng(3)
    only = random.permutation(np.concatenate([random.choice(ids, int(share * SIZE), replace=False), [70_000, 9_999]]))
    found, scores = indexes[name].search(queries, K, only=only)
    assert np.isin(found[found >= 0], only).all()
    there = min(K, int(np.isin(only, ids).sum()))
    assert ((found >= 0).sum(1) == there).all(), "k come back where k are there"
    assert (np.diff(scores[:, :there], axis=1) <= 0).all()
    wanted = right(vectors, ids, queries, only)
    assert recall(found[:, :there], wanted[:, :there]) >= (1.0 if name == "Exact" else 0.9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("few", [0, 5_000])
def test_of_the_far_side(name: str, few: int, world: tuple[Floats, Ints, Floats, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The hardest case: what may come lies where nobody would look for it. A structure finds k of them; where they are few, the best."""
    vectors, ids, queries, indexes = world
    monkeypatch.setattr("palate.index.approximate.FEW", few)
    shares = []
    for b in range(0, len(queries), 4):
        only = ids[np.argsort(vectors @ queries[b])[:2_000]]
        found, _ = indexes[name].search(queries[b : b + 1], K, only=only)
        assert np.isin(found, only).all()
        shares.append(recall(found, right(vectors, ids, queries[b : b + 1], only)))
    if few and name not in ("PQ", "IVFPQ"):  # where the best are cut off, many are as good to a hair
        assert np.mean(shares) >= (1.0 if name == "Exact" else 0.6)


@pytest.mark.parametrize("name", NAMES)
def test_with_exclusions_additions_and_removals(name: str, world: tuple[Floats, Ints, Floats, dict[str, Any]]) -> None:
    vectors, ids, queries, _ = world
    index = build(load(name, "index"), {}).fit(vectors[:5_000], ids[:5_000])
    index.add(ids[5_000:], vectors[5_000:])
    index.remove(ids[::9])
    left = np.ones(SIZE, bool)
    left[::9] = False
    for only in (ids[::3], ids[::40], ids[5_100:5_140], np.empty(0, np.int64)):
        wanted = right(vectors[left], ids[left], queries, only)
        exclude = Ragged.of([row[row >= 0][::2] for row in wanted])
        wanted = right(vectors[left], ids[left], queries, only, exclude)
        found, _ = index.search(queries, K, exclude, only)
        assert ((found >= 0).sum(1) == (wanted >= 0).sum(1)).all()
        for b, row in enumerate(found):
            some = set(row[row >= 0].tolist())
            assert some <= set(only.tolist()) - set(ids[::9].tolist()) - set(exclude[b].tolist())
        shares = [np.isin(best[best >= 0], row).mean() for row, best in zip(found, wanted, strict=True) if (best >= 0).any()]
        assert not shares or np.mean(shares) >= (1.0 if name == "Exact" else 0.9)


@pytest.mark.parametrize("name", NAMES)
def test_all_come_back_where_all_are_asked_for(name: str, world: tuple[Floats, Ints, Floats, dict[str, Any]]) -> None:
    _, ids, queries, indexes = world
    found, _ = indexes[name].search(queries[:2], SIZE)
    assert (np.sort(found, axis=1) == np.sort(ids)).all()
