"""Every index of the catalog against every vector compared by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate.build import OptionError, build
from palate.candidates import Floats, Ints, Ragged
from palate.catalog import ENTRIES, load
from palate.index.annoy import Annoy
from palate.index.approximate import FOLD
from palate.index.exact import Exact
from palate.index.heaps import best_of
from palate.index.hnsw import HNSW
from palate.index.ivf import IVF
from palate.index.ivfpq import IVFPQ
from palate.index.kdtree import KDTree
from palate.index.lsh import LSH
from palate.index.pq import PQ
from palate.index.topk import nearest_of_all

NAMES = [entry.name for entry in ENTRIES if entry.kind == "index"]
APPROXIMATE = [name for name in NAMES if name not in ("Exact", "Int8")]
EXACT = ("Exact", "KDTree")
ROUNDED = ("Int8", "PQ", "IVFPQ")  #: scores are those of rounded vectors
ROUGH: dict[str, dict[str, Any]] = {  #: options that find less
    "HNSW": {"links": 4, "build": 8, "search": 8},
    "IVF": {"lists": 100, "probes": 2},
    "IVFPQ": {"lists": 100, "probes": 2},
    "PQ": {"group": 8},
    "LSH": {"tables": 1},
    "KDTree": {"search": 100},
    "Annoy": {"search": 100},
}
THOROUGH: dict[str, dict[str, Any]] = {  #: options that find more than the usual ones
    "HNSW": {"bits": 32, "search": 64},
    "IVF": {"bits": 32, "probes": 32},
    "IVFPQ": {"group": 1, "probes": 32},
    "PQ": {"group": 1},
    "LSH": {"probes": 128},
    "Annoy": {"search": 4_000},
}


def clusters(size: int, dim: int, seed: int) -> Floats:
    """Vectors around centres, with lengths of a long tail: as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((60, dim))
    vectors = centres[rng.integers(60, size=size)] + 0.5 * rng.standard_normal((size, dim))
    lengths = np.exp(0.5 * rng.standard_normal((size, 1)))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * lengths).astype(np.float32)


def by_hand(vectors: Floats, ids: Ints, query: Floats, k: int, without: Any = ()) -> list[int]:
    left = set(map(int, without))
    scored = [(-float(np.float32(v @ query)), int(i)) for v, i in zip(vectors, ids, strict=True) if int(i) not in left]
    return [i for _, i in sorted(scored)[:k]]


def recall(found: Ints, right: Ints) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), right.tolist(), strict=True)]))


@pytest.fixture(scope="module")
def world() -> tuple[Floats, Ints, Floats]:
    vectors = clusters(6_000, 24, 0)
    ids = np.random.default_rng(1).permutation(8_000)[:6_000].astype(np.int64)
    return vectors, ids, clusters(80, 24, 2)


def test_best_of_equals_a_sort_with_ties_and_infinities() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 50, 400):
        for k in (1, 3, 20, 400):
            scores = rng.integers(-4, 5, size).astype(np.float32)
            scores[rng.random(size) < 0.2] = -np.inf
            at, values = best_of(scores, k)
            right = [n for n in np.lexsort((np.arange(size), -scores)) if scores[n] > -np.inf][:k]
            assert at.tolist() == right
            assert values.tolist() == scores[right].tolist()


def test_exact_is_exact_single_and_in_bulk(world: tuple[Floats, Ints, Floats]) -> None:
    vectors, ids, queries = world
    index = Exact().fit(vectors, ids)
    exclude = Ragged.of([np.random.default_rng(b).choice(ids, b * 7, replace=False) for b in range(len(queries))])
    found, scores = index.search(queries, 30, exclude)
    for b in range(0, len(queries), 5):
        assert found[b].tolist() == by_hand(vectors, ids, queries[b], 30, exclude[b])
        alone, _ = index.search(queries[b : b + 1], 30, Ragged.of([exclude[b]]))
        assert alone[0].tolist() == found[b].tolist()
    assert (np.diff(scores, axis=1) <= 0).all()


def test_ties_go_to_the_smaller_id() -> None:
    same = np.ones((50, 4), np.float32)
    index = Exact().fit(same, np.arange(50)[::-1].astype(np.int64))
    found, _ = index.search(np.ones((1, 4), np.float32), 10)
    assert found[0].tolist() == list(range(10))


def true_scores(vectors: Floats, ids: Ints, queries: Floats, found: Ints) -> Floats:
    place = np.full(int(ids.max()) + 1, -1)
    place[ids] = np.arange(len(ids))
    return np.einsum("bkd,bd->bk", vectors[place[found]], queries)


@pytest.mark.parametrize("name", NAMES)
def test_nearly_all_are_found_and_more_for_more_work(name: str, world: tuple[Floats, Ints, Floats]) -> None:
    vectors, ids, queries = world
    right, _ = Exact().fit(vectors, ids).search(queries, 50)
    usual = recall(build(load(name, "index"), {}).fit(vectors, ids).search(queries, 50)[0], right)
    assert usual >= 0.9
    found, scores = build(load(name, "index"), THOROUGH.get(name, {})).fit(vectors, ids).search(queries, 50)
    assert recall(found, right) >= (1.0 if name in EXACT else max(0.95, usual))
    truth = true_scores(vectors, ids, queries, found)
    if name not in ROUNDED:
        np.testing.assert_allclose(scores, truth, rtol=1e-4, atol=1e-4)
    assert np.abs(scores - truth).max() < 0.03 * truth.max()


@pytest.mark.parametrize("name", ["HNSW", "IVF"])
def test_eight_bits_a_number(name: str, world: tuple[Floats, Ints, Floats]) -> None:
    vectors, ids, queries = world
    right, _ = Exact().fit(vectors, ids).search(queries, 50)
    found, scores = build(load(name, "index"), {**THOROUGH[name], "bits": 8}).fit(vectors, ids).search(queries, 50)
    assert recall(found, right) >= 0.95
    truth = true_scores(vectors, ids, queries, found)
    assert 0 < np.abs(scores - truth).max() < 0.02 * truth.max()


@pytest.mark.parametrize("name", NAMES)
def test_exclusion_is_exact_and_leaves_no_gap(name: str, world: tuple[Floats, Ints, Floats]) -> None:
    vectors, ids, queries = world
    index = build(load(name, "index"), {}).fit(vectors, ids)
    best, _ = Exact().fit(vectors, ids).search(queries, 300)
    exclude = Ragged.of(list(best[:, :200]))  # the hardest case: exactly what the query would find
    found, _ = index.search(queries, 50, exclude)
    for b in range(len(queries)):
        assert not set(found[b]) & set(best[b, :200])
    assert (found >= 0).all()
    assert recall(found, best[:, 200:250]) >= (0.7 if name in ROUNDED[1:] else 0.85)  # far out, many are as good to a hair


@pytest.mark.parametrize("name", NAMES)
def test_added_is_found_and_removed_is_gone(name: str, world: tuple[Floats, Ints, Floats]) -> None:
    vectors, ids, queries = world
    index = build(load(name, "index"), {}).fit(vectors, ids)
    query = queries[:1]
    star = (4 * query / np.linalg.norm(query)).astype(np.float32)
    index.add(np.array([9_000]), star)
    assert len(index) == 6_001
    assert index.search(query, 5)[0][0, 0] == 9_000
    index.add(np.array([int(ids[17])]), 2 * star)  # an id that is there already moves
    assert len(index) == 6_001
    found = index.search(query, 6_001)[0][0]
    assert found[:2].tolist() == [ids[17], 9_000]
    assert (found == ids[17]).sum() == 1
    index.remove(np.array([9_000, int(ids[17]), 123_456, int(ids[17])]))
    assert len(index) == 5_999
    assert not set(index.search(query, 200)[0][0]) & {9_000, int(ids[17])}
    index.remove(np.repeat(ids[:40], 3))
    assert len(index) == 5_960
    index.remove(ids)
    assert len(index) == 0
    assert (index.search(query, 3)[0] == -1).all()
    index.add(np.array([4]), star)
    assert index.search(query, 1)[0].tolist() == [[4]]


@pytest.mark.parametrize("name", APPROXIMATE)
def test_newcomers_are_folded_in_and_the_masked_swept_out(name: str) -> None:
    vectors = clusters(FOLD * 5, 16, 3)
    ids = np.arange(len(vectors))
    index = build(load(name, "index"), {}).fit(vectors[:FOLD], ids[:FOLD])
    for start in range(FOLD, len(vectors), 500):
        index.add(ids[start : start + 500], vectors[start : start + 500])
    assert len(index) == len(vectors)
    assert index._state.long < len(index._state.head) + 1 < FOLD + 200
    queries = clusters(40, 16, 4)
    right, _ = Exact().fit(vectors, ids).search(queries, 20)
    assert recall(index.search(queries, 20)[0], right) >= 0.95
    gone = ids[::2]
    index.remove(gone)
    left, _ = Exact().fit(vectors[1::2], ids[1::2]).search(queries, 20)
    assert index._state.masked == 0, "a rebuild was due"
    assert recall(index.search(queries, 20)[0], left) >= 0.95


@pytest.mark.parametrize("name", NAMES)
def test_random_edits_equal_a_fresh_index(name: str) -> None:
    rng = np.random.default_rng(5)
    vectors = clusters(700, 8, 6)
    index = build(load(name, "index"), {}).fit(vectors[:300], np.arange(300))
    now = dict(enumerate(vectors[:300]))
    for _ in range(60):
        some = rng.choice(700, rng.integers(1, 12), replace=False).astype(np.int64)
        if rng.random() < 0.5:
            fresh = clusters(len(some), 8, int(rng.integers(1 << 30)))
            index.add(some, fresh)
            now.update(zip(some.tolist(), fresh, strict=True))
        else:
            index.remove(some)
            for one in some.tolist():
                now.pop(one, None)
    assert len(index) == len(now)
    ids = np.array(sorted(now))
    right, _ = Exact().fit(np.stack([now[i] for i in ids.tolist()]), ids).search(vectors[:50], 10)
    found, _ = index.search(vectors[:50], 10)
    if name == "Exact":
        assert found.tolist() == right.tolist()
    assert recall(found, right) >= (1.0 if name in EXACT else 0.95)


@pytest.mark.parametrize("name", NAMES)
def test_odd_sizes(name: str) -> None:
    index = build(load(name, "index"), {})
    query = np.ones((1, 3), np.float32)
    assert index.search(query, 2)[0].tolist() == [[-1, -1]]
    index.fit(np.ones((1, 3), np.float32), np.array([7]))
    ids, scores = index.search(query, 3)
    assert ids.tolist() == [[7, -1, -1]]
    assert scores[0, 0] == pytest.approx(3.0, rel=1e-3)
    assert (scores[0, 1:] == -np.inf).all()
    assert index.search(query, 0)[0].shape == (1, 0)
    assert index.search(query, 2, Ragged.of([[7]]))[0].tolist() == [[-1, -1]]
    assert index.search(np.ones((0, 3), np.float32), 2)[0].shape == (0, 2)
    for nobody in (np.ones((0, 3), np.float32), np.ones((0, 2, 3), np.float32)):
        assert len(nearest_of_all(index, nobody, 2)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_named(name: str) -> None:
    index = build(load(name, "index"), {}).fit(np.ones((2, 3), np.float32), np.arange(2))
    with pytest.raises(ValueError, match="finite; 1 are not, the first that of id 8"):
        index.add(np.array([7, 8]), np.array([[1, 2, 3], [1, np.nan, 3]], np.float32))
    with pytest.raises(ValueError, match="holds vectors of 3 numbers, not 4"):
        index.add(np.array([7]), np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="queries must be"):
        index.search(np.ones((1, 4), np.float32), 1)
    with pytest.raises(ValueError, match="at least one number"):
        index.fit(np.ones((2, 0), np.float32), np.arange(2))
    with pytest.raises(ValueError, match="stands twice"):
        index.fit(np.ones((2, 3), np.float32), np.zeros(2, np.int64))
    assert len(index) == 2


def test_every_option_changes_something() -> None:
    vectors, queries = clusters(4_000, 16, 7), clusters(60, 16, 8)
    ids = np.arange(len(vectors))
    right, _ = Exact().fit(vectors, ids).search(queries, 20)

    def score(index: Any) -> float:
        return recall(index.fit(vectors, ids).search(queries, 20)[0], right)

    rough = HNSW(links=4, build=8, search=8, head=0.0)
    assert score(rough) < score(HNSW(links=16, build=8, search=8, head=0.0))
    assert score(rough) < score(HNSW(links=4, build=100, search=8, head=0.0))
    assert score(rough) < score(HNSW(links=4, build=8, search=100, head=0.0))
    coarse = IVF(lists=100, probes=2, head=0.0)
    assert score(coarse) < score(IVF(lists=100, probes=20, head=0.0))
    assert score(coarse) < score(IVF(lists=20, probes=2, head=0.0))
    assert score(coarse) != score(IVF(lists=100, probes=2, iterations=1, head=0.0))
    same = [score(HNSW()) for _ in range(2)]
    assert same[0] == same[1], "one thread builds the same graph"
    few = {"probes": 1, "head": 0.0}
    assert score(LSH(**few)) < score(LSH(**few | {"probes": 16}))
    assert score(LSH(tables=1, head=0.0)) < score(LSH(tables=8, head=0.0))
    assert score(LSH(bits=3, **few)) > score(LSH(bits=6, **few))
    assert score(LSH(**few)) != score(LSH(seed=1, **few))
    assert score(Annoy(search=100, head=0.0)) < score(Annoy(search=1_000, head=0.0))
    assert score(Annoy(trees=1, search=300, head=0.0)) < score(Annoy(trees=16, search=300, head=0.0))
    assert score(Annoy(leaf=8, search=300)) != score(Annoy(leaf=128, search=300))
    assert score(Annoy(search=300)) != score(Annoy(search=300, seed=1))
    assert score(KDTree(search=100, head=0.0)) < score(KDTree(head=0.0)) == 1.0
    assert score(KDTree(leaf=8, search=200)) != score(KDTree(leaf=64, search=200))
    assert score(PQ(group=8, head=0.0)) < score(PQ(group=2, head=0.0))
    assert score(PQ(iterations=1, group=8)) != score(PQ(group=8))
    small = {"group": 4, "head": 0.0}
    assert score(IVFPQ(probes=1, **small)) < score(IVFPQ(probes=20, **small))
    assert score(IVFPQ(lists=100, probes=4, **small)) < score(IVFPQ(lists=10, probes=4, **small))
    assert score(IVFPQ(iterations=1, **small)) != score(IVFPQ(**small))
    for name in APPROXIMATE:
        assert score(build(load(name, "index"), ROUGH[name] | {"head": 0.0})) < score(build(load(name, "index"), ROUGH[name] | {"head": 0.3}))
        with pytest.raises((OptionError, ValueError), match="head"):
            build(load(name, "index"), {"head": 1.5})


def test_readers_are_not_disturbed_by_a_writer() -> None:
    import threading

    vectors = clusters(3_000, 16, 9)
    for name in NAMES:
        index = build(load(name, "index"), {}).fit(vectors[:1_000], np.arange(1_000))
        failed: list[BaseException] = []
        done = threading.Event()

        def read(index: Any = index, failed: list[BaseException] = failed, done: threading.Event = done) -> None:
            try:
                while not done.is_set():
                    ids, scores = index.search(vectors[:2], 20, Ragged.of([[1, 2], [3]]))
                    assert (ids >= 0).all()
                    assert np.isfinite(scores).all()
            except BaseException as error:
                failed.append(error)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for start in range(1_000, 3_000, 20):
            index.add(np.arange(start, start + 20), vectors[start : start + 20])
            index.remove(np.arange(start - 990, start - 980))
        done.set()
        for reader in readers:
            reader.join()
        assert not failed, (name, failed)


@pytest.mark.parametrize("name", NAMES)
def test_an_index_leaves_the_callers_arrays_alone(name: str) -> None:
    vectors, ids = clusters(60, 4, 10), np.arange(60)
    before = vectors.copy()
    index = build(load(name, "index"), {}).fit(vectors[:50], ids[:50])
    index.add(ids[:55], clusters(55, 4, 11))
    index.add(ids[55:] + 100, clusters(5, 4, 12))
    assert (vectors == before).all()
    assert (ids == np.arange(60)).all()
