"""MMR equals a plain greedy loop over the paper's formula, and follows the catalogue."""

from __future__ import annotations

import numpy as np
import pytest

from palate.build import OptionError, build
from palate.candidates import Candidates, Histories, Request, offsets_of
from palate.rerank.mmr import MMR
from palate.state.catalogue import Catalogue

TAGS = "abcdefgh"


def catalogue(n: int, seed: int = 0) -> Catalogue:
    rng = np.random.default_rng(seed)
    made = Catalogue()
    for row in range(n):
        tags = [str(tag) for tag in rng.choice(list(TAGS), rng.integers(0, 4), replace=False)]
        made.add(f"i{row}", {"genres": tags, "kind": str(rng.choice(list("xyz"))), "vector": rng.normal(size=5).tolist()})
    return made


def request(size: int, k: int | None = None, **more: object) -> Request:
    parameters = {} if k is None else {"k": k}
    return Request(np.arange(size), Histories.empty(size), np.zeros(size, np.int64), parameters=parameters, **more)  # type: ignore[arg-type]


def ranked(lengths: list[int], n_items: int, seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    items = np.concatenate([rng.permutation(n_items)[:length] for length in lengths])
    scores = rng.random(len(items)).astype(np.float32) * 1e-3
    unsorted = Candidates(items, scores, offsets_of(lengths), {"route.score": scores * 2})
    return unsorted.rescored(scores)


def similarity(world: Catalogue, attribute: str, left: int, right: int) -> float:
    a, b = world.column(attribute)[left], world.column(attribute)[right]
    if attribute == "vector":
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    a, b = (set(x) if isinstance(x, list) else {x} for x in (a, b))
    return len(a & b) / len(a | b) if a & b else 0.0


def plain(world: Catalogue, attribute: str, items: np.ndarray, scores: np.ndarray, relevance: float, k: int) -> list[int]:
    """The formula, word for word."""
    scaled = (scores.astype(float) - scores.min()) / (scores.max() - scores.min())
    rest, chosen = list(range(len(items))), []
    while rest and len(chosen) < k:
        near = [max((similarity(world, attribute, items[i], items[j]) for j in chosen), default=0.0) for i in rest]
        values = [relevance * scaled[i] - (1 - relevance) * one for i, one in zip(rest, near, strict=True)]
        chosen.append(rest.pop(int(np.argmax(values))))
    return [int(items[i]) for i in chosen + rest]


@pytest.mark.parametrize("attribute", ["genres", "kind", "vector"])
@pytest.mark.parametrize("relevance", [0.0, 0.3, 0.7, 1.0])
def test_equal_to_a_plain_loop(attribute: str, relevance: float) -> None:
    world = catalogue(60)
    offered = ranked([40, 0, 25], 60)
    found = MMR(world, relevance=relevance, attribute=attribute)(request(3, k=12), offered)
    assert found.offsets.tolist() == [0, 40, 40, 65]
    for b in range(3):
        part = slice(offered.offsets[b], offered.offsets[b + 1])
        if part.stop > part.start:
            assert found.items[part].tolist() == plain(world, attribute, offered.items[part], offered.scores[part], relevance, 12)
    assert dict(zip(found.items[:40], found.scores[:40], strict=True)) == dict(zip(offered.items[:40], offered.scores[:40], strict=True))
    np.testing.assert_array_equal(found.columns["route.score"], found.scores * 2)


def test_vectors_from_python_equal_those_of_an_attribute() -> None:
    world = catalogue(50)
    offered = ranked([50], 50)
    vectors = np.array(world.column("vector"))
    given = MMR(world, vectors=vectors * 3)(request(1, k=20), offered)
    assert given.items.tolist() == MMR(world, attribute="vector")(request(1, k=20), offered).items.tolist()


def test_one_answer_does_not_depend_on_the_batch_and_pool_limits_who_competes() -> None:
    world = catalogue(80)
    offered = ranked([50, 60], 80)
    step = MMR(world, attribute="genres", relevance=0.4, pool=15)
    both = step(request(2, k=10), offered)
    for b in range(2):
        one = offered.take(offered.requests == b)
        alone = step(request(1, k=10), Candidates(one.items, one.scores, np.array([0, len(one.items)]), one.columns))
        assert alone.items.tolist() == both.items[both.offsets[b] : both.offsets[b + 1]].tolist()
        assert set(alone.items[:15].tolist()) == set(one.items[:15].tolist())
        assert alone.items[15:].tolist() == one.items[15:].tolist()


def test_diversity_grows_as_relevance_falls() -> None:
    world = catalogue(300, seed=3)
    offered = ranked([300], 300)

    def alike(relevance: float) -> float:
        page = MMR(world, relevance=relevance, attribute="genres")(request(1, k=20), offered).items[:20]
        return float(np.mean([similarity(world, "genres", a, b) for a in page for b in page if a != b]))

    assert alike(1.0) > alike(0.9) > alike(0.2)


def test_follows_the_catalogue() -> None:
    world = Catalogue()
    for name, kind in (("a", "x"), ("b", "x"), ("c", "y")):
        world.add(name, {"kind": [kind]})
    offered = Candidates(np.array([0, 1, 2]), np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 3]))
    step = MMR(world, relevance=0.4, attribute="kind")
    assert step(request(1), offered).items.tolist() == [0, 2, 1]
    world.update(1, {"kind": ["z", "w", "v"]})
    world.update(2, {"kind": ["x"]})
    assert step(request(1), offered).items.tolist() == [0, 1, 2]
    row = world.add("d", {"kind": ["u"]})
    more = Candidates(np.array([0, 2, row, 99, -1]), np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32), np.array([0, 5]))
    assert step(request(1), more).items.tolist() == [0, row, 99, -1, 2]


def test_without_attribute_the_telling_one_is_taken() -> None:
    offered = ranked([40], 60)
    world = catalogue(60)
    assert MMR(world)(request(1), offered).items.tolist() == MMR(world, attribute="genres")(request(1), offered).items.tolist()
    texts = Catalogue()
    for row in range(60):
        texts.add(f"i{row}", {"title": f"title {row}", "kind": world.column("kind")[row]})
    assert MMR(texts)(request(1), offered).items.tolist() == MMR(world, attribute="kind")(request(1), offered).items.tolist()


def test_hostile_scores() -> None:
    world = catalogue(10)
    scores = np.array([np.nan, np.inf, -np.inf, 1, 1], np.float32)
    offered = Candidates(np.arange(5), scores, np.array([0, 5]))
    assert sorted(MMR(world, attribute="kind")(request(1), offered).items.tolist()) == [0, 1, 2, 3, 4]
    assert len(MMR(world, attribute="kind")(request(2, k=5), Candidates.empty(2)).items) == 0


def test_wrong_options_are_named() -> None:
    world = catalogue(3)
    with pytest.raises(OptionError, match="did you mean 'genres'"):
        build(MMR, {"attribute": "genre"}, world)
    with pytest.raises(OptionError, match="between 0 and 1"):
        build(MMR, {"attribute": "genres", "relevance": 2.0}, world)
    with pytest.raises(OptionError, match="needs an attribute"):
        build(MMR, {}, Catalogue())
    with pytest.raises(OptionError, match="pool"):
        build(MMR, {"attribute": "genres", "pool": -1}, world)
