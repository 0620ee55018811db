"""Models at work: the fast path equals the plain one, a batch equals its requests, and the caches follow the catalogue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.candidates import Candidates, Request, offsets_of
from palate.contracts import Ranker
from palate.funnel import sides, steps
from palate.funnel.merge import snake_merge
from palate.funnel.sides import ItemSide, blocks, slice_candidates, slice_request
from palate.funnel.steps import Prerank, Rank, VectorRetriever
from palate.index.exact import Exact
from palate.index.hnsw import HNSW
from palate.index.lsh import LSH
from palate.rank.interaction.mlp import MLP
from tests.funnel.world import NOW, TASKS, World, lists, world


@pytest.fixture
def here() -> World:
    return world()


def offered(here: World, request: Request) -> Candidates:
    routes = here.routes()
    return snake_merge([r.name for r in routes], [r.retriever.retrieve(request, r.quota) for r in routes], [r.quota for r in routes])


class Plain(Ranker):
    """A ranker without halves."""

    def __init__(self, inner: Ranker, schema: object) -> None:
        super().__init__(schema)  # type: ignore[arg-type]
        self.inner = inner

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.inner(batch)


def by_the_pipeline(here: World, ranker: Ranker, request: Request, candidates: Candidates) -> np.ndarray:
    with torch.inference_mode():
        return ranker.eval().predict(Batch.of(here.pipeline.encode(request, candidates))).numpy()


def test_rank_equals_the_model_over_the_encoded_rows(here: World) -> None:
    for size in (1, 7):
        request = here.request(np.arange(size))
        candidates = offered(here, request)
        for ranker in (here.deepfm(), Plain(here.deepfm(), here.pipeline.schema), MLP(here.pipeline.schema, hidden=(16,))):
            expected = by_the_pipeline(here, ranker, request, candidates)
            step = Rank(ranker, here.pipeline, {"choose": 1.0, "love": -0.5})
            np.testing.assert_allclose(step.probabilities(request, candidates), expected, rtol=2e-5, atol=1e-6)
            found = step(request, candidates)
            scores = expected[:, 0] * expected[:, 2] ** -0.5
            order = np.lexsort((candidates.items, -scores, candidates.requests))
            np.testing.assert_allclose(found.scores, scores[order], rtol=1e-4)
            for t, task in enumerate(TASKS):
                assert found.columns[task].shape == found.items.shape
                np.testing.assert_allclose(np.sort(found.columns[task]), np.sort(expected[:, t]), rtol=1e-4)


def test_a_batch_equals_its_requests_one_by_one_whatever_the_block(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    request = here.request(np.arange(11), attributes={"age": [20.0 + b for b in range(11)]})
    candidates = offered(here, request)
    ranker, light = here.deepfm(), here.dssm(1)
    whole = Rank(ranker, here.pipeline).probabilities(request, candidates)
    light_scores = Prerank(light, here.pipeline, 9).scores(request, candidates)
    monkeypatch.setattr(sides.blocks, "__defaults__", (500,))
    assert len(blocks(candidates)) > 3
    np.testing.assert_allclose(Rank(ranker, here.pipeline).probabilities(request, candidates), whole, rtol=2e-5, atol=1e-6)
    for b in range(11):
        one, its = slice_request(request, b, b + 1), slice_candidates(candidates, b, b + 1)
        mine = slice(candidates.offsets[b], candidates.offsets[b + 1])
        np.testing.assert_allclose(Rank(ranker, here.pipeline).probabilities(one, its), whole[mine], rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(Prerank(light, here.pipeline, 9).scores(one, its), light_scores[mine], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("halved", [False, True])
def test_what_is_repeated_for_candidates_is_bounded_and_a_request_alone_is_not_repeated(
    here: World, monkeypatch: pytest.MonkeyPatch, halved: bool
) -> None:
    """A history of 10,000 events, repeated for each candidate of each request of a group, were gigabytes."""
    request = here.request(np.arange(10))
    offers = offered(here, here.request(np.arange(1, 10)))
    candidates = replace(offers, offsets=np.append(0, offers.offsets))  # nothing for the first
    inner = MLP(here.pipeline.schema, hidden=(16,))
    ranker = inner if halved else Plain(inner, here.pipeline.schema)
    seen: list[int] = []
    shares = {feature.name for feature in here.pipeline.schema.of("user", "context")}

    def watch(given: dict[str, torch.Tensor], names: set[str]) -> None:
        seen.append(sum(values.nbytes for name, values in given.items() if name in names and len(values) > 1 and values.stride(0)))

    if halved:
        combine = inner.combine
        monkeypatch.setattr(inner, "combine", lambda *halves: (watch(halves[0], set(halves[0])), combine(*halves))[1])
    else:
        monkeypatch.setattr(ranker, "forward", lambda batch: (watch(batch, shares), inner(batch))[1])
    step = Rank(ranker, here.pipeline)
    step._lean = None
    whole = step.probabilities(request, candidates)
    assert len(seen) == 1
    assert seen[0] > 0
    few = 0.4 * seen.pop()
    monkeypatch.setattr(steps, "REPEATED", int(few), raising=False)
    np.testing.assert_allclose(step.probabilities(request, candidates), whole, rtol=2e-5, atol=1e-6)
    assert len(seen) > 2
    assert 0 < max(seen) <= few
    seen.clear()
    monkeypatch.setattr(steps, "REPEATED", 0, raising=False)
    apart = step.probabilities(request, candidates)
    assert seen == [0] * 9
    ones = [step.probabilities(slice_request(request, b, b + 1), slice_candidates(candidates, b, b + 1)) for b in range(1, 10)]
    np.testing.assert_allclose(apart, np.concatenate(ones), rtol=2e-5, atol=1e-6)
    assert halved or np.array_equal(apart, np.concatenate(ones)), "to the bit: halves of several users are made together"


def test_blocks_cover_all_and_keep_to_the_limit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = rng.integers(0, 30, rng.integers(1, 40))
        candidates = Candidates(np.zeros(lengths.sum(), np.int64), np.zeros(lengths.sum(), np.float32), offsets_of(lengths))
        parts = blocks(candidates, 40)
        assert [b for start, stop in parts for b in range(start, stop)] == list(range(len(lengths)))
        assert all(lengths[start:stop].sum() <= 40 or stop == start + 1 for start, stop in parts)


def test_powers(here: World) -> None:
    ranker = here.deepfm()
    with pytest.raises(ValueError, match="no task 'chose'; did you mean 'choose'"):
        Rank(ranker, here.pipeline, {"chose": 1.0})
    with pytest.raises(ValueError, match="finite"):
        Rank(ranker, here.pipeline, {"choose": float("nan")})
    with pytest.raises(ValueError, match="at least one"):
        Rank(ranker, here.pipeline, {"choose": 0.0})
    request = here.request(np.array([3]))
    candidates = offered(here, request)
    by_like = Rank(ranker, here.pipeline, {"like": 1.0})(request, candidates)
    tuned = Rank(ranker, here.pipeline, {"choose": 1.0})(here.request(np.array([3]), parameters={"powers": {"like": 1.0}}), candidates)
    assert tuned.items.tolist() == by_like.items.tolist()
    np.testing.assert_allclose(by_like.scores, by_like.columns["like"], rtol=1e-5)
    product = by_the_pipeline(here, ranker, request, candidates).prod(1)
    np.testing.assert_allclose(Rank(ranker, here.pipeline)(request, candidates).scores.max(), product.max(), rtol=1e-4)


def test_prerank_keeps_the_best_by_inner_product(here: World) -> None:
    request, light = here.request(np.arange(4)), here.dssm(1)
    candidates = offered(here, request)
    with torch.inference_mode():
        users = light.encode_user(Batch.of(here.pipeline.encode_users(request))).numpy()
        items = light.encode_item(Batch.of(here.pipeline.item_columns())).numpy()
    scores = (users[candidates.requests] * items[candidates.items]).sum(1)
    found = Prerank(light, here.pipeline, 30)(request, candidates)
    assert np.diff(found.offsets).tolist() == [30] * 4
    for b in range(4):
        mine = slice(candidates.offsets[b], candidates.offsets[b + 1])
        best = candidates.items[mine][np.argsort(-scores[mine])][:30]
        assert set(best) == set(lists(found)[b])
    longer = Prerank(light, here.pipeline, 30)(here.request(np.arange(4), parameters={"k": 50}), candidates)
    assert np.diff(longer.offsets).tolist() == [50] * 4, "never fewer than the page is long"


def test_vector_retriever(here: World) -> None:
    model = here.dssm()
    request = here.request(np.arange(5))
    assert request.exclude is not None
    found = VectorRetriever(model, here.pipeline, Exact()).retrieve(request, 50)
    with torch.inference_mode():
        users = model.encode_user(Batch.of(here.pipeline.encode_users(request)))
        every = (users @ model.encode_item(Batch.of(here.pipeline.item_columns())).T).numpy()
    for b in range(5):
        every[b, request.exclude[b]] = -np.inf
        mine = slice(found.offsets[b], found.offsets[b + 1])
        assert found.offsets[b + 1] - found.offsets[b] == 50
        np.testing.assert_allclose(found.scores[mine], np.sort(every[b])[::-1][:50], rtol=1e-4, atol=1e-5)
        assert not set(found.items[mine]) & set(request.exclude[b])
    more = VectorRetriever(model, here.pipeline, Exact()).retrieve(request, 10_000)
    assert np.diff(more.offsets).tolist() == [400 - len(set(request.exclude[b].tolist())) for b in range(5)], (
        "k above the catalogue gives what there is"
    )
    near = VectorRetriever(model, here.pipeline, HNSW()).retrieve(request, 50)
    assert sum(len(set(a) & set(b)) for a, b in zip(lists(near), lists(found), strict=True)) > 0.9 * 250
    assert len(VectorRetriever(model, here.pipeline, Exact()).retrieve(here.request(np.array([-1])), 5).items) == 5, "a stranger is answered too"


def test_new_changed_and_withdrawn_items(here: World) -> None:
    retriever = VectorRetriever(here.dssm(), here.pipeline, Exact(), here.items)
    row = here.items.add("new", {"genres": ["War"], "year": 1999.0}, created=NOW)
    request = here.request(np.array([2]))
    assert row not in retriever.retrieve(request, 10_000).items
    retriever.add(np.array([row]))
    assert row in retriever.retrieve(request, 10_000).items
    here.items.withdraw(row)
    retriever.add(np.array([row]))
    assert row not in retriever.retrieve(request, 10_000).items
    rows, scores = retriever.similar(5, 7)
    assert len(rows) == 7
    assert 5 not in rows
    assert (np.diff(scores) <= 0).all()
    retriever.remove(rows)
    assert not set(retriever.similar(5, 7)[0]) & set(rows)


def test_a_vector_that_is_not_finite_is_an_error(here: World) -> None:
    model = here.dssm()
    with torch.no_grad():
        next(model.user_tower.parameters()).fill_(torch.nan)
    retriever = VectorRetriever(model, here.pipeline, Exact())
    with pytest.raises(ValueError, match="DSSM gave a user a vector that is not finite"):
        retriever.retrieve(here.request(np.array([1])), 5)


def test_the_items_side_follows_the_catalogue(here: World) -> None:
    calls: list[int] = []

    def compute(batch: Batch) -> dict[str, torch.Tensor]:
        calls.append(len(batch["item_year"]))
        return {"year": batch["item_year"] * 2}

    side = ItemSide(here.pipeline, compute)
    rows = np.array([3, 7, 3])

    def expected(rows: np.ndarray) -> list[float]:
        return (2 * here.pipeline.encode_items(rows)["item_year"]).tolist()

    with torch.inference_mode():
        assert side.take(rows)["year"].tolist() == expected(rows)
        before = len(calls)
        side.take(rows)
        assert len(calls) == before, "computed once"
        here.items.update(7, {"year": 1800.0})
        assert side.take(rows)["year"].tolist() == expected(rows)
        assert sum(calls[before:]) == 1, "only what changed"
        new = np.array([here.items.add(f"n{n}", {"year": 1900.0 + n}) for n in range(600)])
        assert side.take(new)["year"].tolist() == expected(new)
        assert side.take(rows)["year"].tolist() == expected(rows), "growing keeps what was there"
        side.warm()
        before = len(calls)
        side.take(np.arange(len(here.items)))
        assert len(calls) == before
        for bad in (-1, len(here.items)):
            with pytest.raises(IndexError):
                side.take(np.array([bad]))


def test_slices_of_a_request(here: World) -> None:
    request = here.request(np.arange(6), attributes={"age": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}, context={"hour": list(range(6))})
    part = slice_request(request, 2, 4)
    assert part.users.tolist() == [2, 3]
    assert part.attributes["age"] == [3.0, 4.0]
    assert part.context["hour"] == [2, 3]
    assert request.exclude is not None
    assert part.exclude is not None
    for n, b in enumerate((2, 3)):
        assert part.exclude[n].tolist() == request.exclude[b].tolist()
        mine = slice(part.histories.offsets[n], part.histories.offsets[n + 1])
        whole = slice(request.histories.offsets[b], request.histories.offsets[b + 1])
        assert part.histories.items[mine].tolist() == request.histories.items[whole].tolist()
    assert slice_request(request, 0, 6) is request


@pytest.mark.parametrize("index", [Exact, HNSW, LSH])
def test_what_a_request_asks_of_the_items_is_asked_of_the_index(here: World, index: type) -> None:
    retriever = VectorRetriever(here.dssm(), here.pipeline, index())
    conditions = [{"column": "genres", "one_of": ["War"]}, {"column": "year", "at_least": 1990}]
    request = here.request(np.arange(6), parameters={"where": conditions})
    found = retriever.retrieve(request, 12)
    meets = [row for row in range(len(here.items)) if "War" in here.items.attributes(row)["genres"] and here.items.attributes(row)["year"] >= 1990]
    everything = VectorRetriever(here.dssm(), here.pipeline, Exact()).retrieve(here.request(np.arange(6)), len(here.items))
    for b, row in enumerate(lists(found)):
        right = [item for item in lists(everything)[b] if item in set(meets)]
        assert len(row) == min(12, len(right)) > 5, "k come back where k are there"
        assert set(row) <= set(right)
        assert len(set(row) & set(right[:12])) >= (10 if index is HNSW else 12)  # HNSW keeps eight bits a number
