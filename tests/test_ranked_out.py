"""What recall offered and a later stage put far down: kept with the page, and a negative of its user for recall; what was shown is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from palate.candidates import DAY, Candidates
from palate.funnel.trace import Passage, Trace
from palate.recall.neural.gmf import GMF
from palate.recipe import Recipe, RecipeError
from palate.recommender import Recommender, _ranked_out
from palate.state.catalogue import Catalogue
from palate.state.embedded import Embedded
from palate.state.own import world_of
from palate.tables.signals import Signal
from palate.workflow import Training, prepare
from tests.funnel import world as small

RECIPE = """
name = "own"
positive = "click"
[data]
log = "state"
[signals]
click = { kinds = ["click"] }
[state]
ranked_out = 4
[models.taken]
name = "GMF"
dim = 4
training = { epochs = 1, batch_size = 8, subsample = 0.5, sampler = { uniform = 0.5, ranked_out = 0.3, hard = 0.2, ranks = [1, 9] } }
[[recall]]
model = "taken"
"""


def passage(kind: str, *items: int) -> Passage:
    return Passage(kind, kind, "ok", 0.0, Candidates(np.array(items), np.zeros(len(items), np.float32), np.array([0, len(items)])))


def test_ranked_out_is_what_the_pre_ranker_left_and_the_lower_half_of_the_ranking() -> None:
    trace = Trace([passage("merge", 1, 2, 3, 4, 5, 6, 7, 8, 9), passage("filter", 1, 3, 4, 5, 6, 7, 8, 9), passage("prerank", 9, 8, 7, 6, 5)])
    trace.note(passage("rank", 5, 6, 7, 8, 9))
    trace.note(passage("rerank", 9, 6))
    assert sorted(_ranked_out(trace, 0, [9, 6], 50, "r")) == [1, 3, 4, 8]  # 2 was filtered: perhaps seen; 9 is shown; 5, 6, 7 were near the page
    drawn = {tuple(_ranked_out(trace, 0, [9, 6], 2, f"r{n}")) for n in range(40)}
    assert {len(one) for one in drawn} == {2}
    assert {row for one in drawn for row in one} == {1, 3, 4, 8}
    assert _ranked_out(trace, 0, [9, 6], 2, "r7") == _ranked_out(trace, 0, [9, 6], 2, "r7")
    assert _ranked_out(Trace([passage("merge", 1, 2, 3)]), 0, [1], 9, "r") == []  # nobody ranked them


def test_a_service_keeps_them_with_its_pages_and_forgets_them() -> None:
    here = small.world()
    recipe = Recipe.parse(RECIPE)
    signals = (Signal("rated"), Signal("like", min_value=4), Signal("love", min_value=5))
    state = Embedded(None, here.users, here.items, signals, (0, 7 * DAY), base=here.rows, clock=lambda: small.NOW)
    run: Any = SimpleNamespace(
        recipe=recipe, items=here.items, users=here.users, versions={"run": "1"}, similar=None, pipeline=here.pipeline, funnel=here.funnel
    )
    with Recommender(run, state) as service:
        user = str(here.users.ids[3])
        page = service.recommend(user, 5, request_id="page")
        record = service.state.page("page")
        assert record is not None
        assert len(record["ranked_out"]) == 4
        assert not set(record["ranked_out"]) & set(page.ids)
        service.recommend(None, 5, request_id="of nobody")
        nobody = service.state.page("of nobody")
        assert nobody is not None
        assert "ranked_out" not in nobody
        found = world_of(service.state).ranked_out
        assert found is not None
        assert found.rows() == [(user, item, page.now) for item in record["ranked_out"]]
        service.forget(user)
        gone = world_of(service.state).ranked_out
        assert gone is not None
        assert not len(gone)


def test_what_was_shown_or_taken_is_no_negative_and_later_pages_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [f"i{n}" for n in range(12)]
    with Embedded(None, Catalogue("users"), Catalogue("items")) as state:
        for item in items:
            state.put_item(item, created=1)
        pages = [
            {"request_id": "a", "user": "ann", "now": 10, "items": ["i0", "i1"], "ranked_out": ["i2", "i3", "i4", "i5", "gone"]},
            {"request_id": "b", "user": "ann", "now": 20, "items": ["i3"], "ranked_out": ["i1", "i5"]},
            {"request_id": "c", "user": "bob", "now": 30, "items": ["i2"], "ranked_out": ["i6"]},
            {"request_id": "d", "user": "bob", "now": 900, "items": ["i7"], "ranked_out": ["i8"]},
        ]
        for page in pages:
            state.save_page({"propensities": [1.0] * len(page["items"]), **page})  # type: ignore[arg-type]
        clicks = [("ann", "i0", 40), ("ann", "i4", 41), ("bob", "i9", 42), ("bob", "i10", 43), ("ann", "i11", 950)]
        state.append([{"user": user, "item": item, "kind": "click", "time": time} for user, item, time in clicks])
        world = world_of(state)
    recipe, samplers, told = Recipe.parse(RECIPE), [], []
    learn_from = GMF.learn_from

    def seen(self: GMF, sequences: Any, sampler: Any) -> Any:
        samplers.append(sampler)
        return learn_from(self, sequences, sampler)

    monkeypatch.setattr(GMF, "learn_from", seen)
    prepared = prepare(recipe, world, holdout=False)
    training = Training(recipe, prepared, told.append)

    def negatives(kind: str, sampler: Any) -> set[tuple[str, str]]:
        keys = sampler.own[kind].keys.numpy() - (len(prepared.items) + 2)
        pairs = [(key // (len(prepared.items) + 1), key % (len(prepared.items) + 1)) for key in keys]
        return {(prepared.users.ids[user], prepared.items.ids[item]) for user, item in pairs}

    training.recall(prepared.train, 10_000, "all")
    assert negatives("ranked_out", samplers[0]) == {("ann", "i2"), ("ann", "i5"), ("bob", "i6"), ("bob", "i8")}
    met = {("ann", one) for one in ("i0", "i1", "i3", "i4", "i11")} | {("bob", one) for one in ("i2", "i7", "i9", "i10")}
    hard = negatives("hard", samplers[0])
    assert len(hard) > 8
    assert not hard & met
    assert any("4 items that were ranked out" in line for line in told)
    assert any("positives, those of hot items, are left out" in line for line in told)
    training.recall(prepared.train.before(100), 100, "the past")
    assert negatives("ranked_out", samplers[1]) == {("ann", "i2"), ("ann", "i5"), ("bob", "i6")}


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("ranked_out = 0.3", "ranked = 0.3", "did you mean 'ranked_out'"),
        ("ranks = [1, 9]", "rank = [1, 9]", "did you mean 'ranks'"),
        ("ranks = [1, 9]", "ranks = [9, 1]", "first and the last place"),
        ("ranks = [1, 9]", "ranks = 9", "sampler"),
        ("subsample = 0.5", "subsample = 0", "subsample must be a share above 0"),
        ("subsample = 0.5", "subsampel = 0.5", "did you mean 'subsample'"),
        ('"GMF"', '"GRU4Rec"', "GRU4Rec draws no negatives for one user alone"),
        ('"GMF"', '"MultVAE"', "MultVAE"),
        ("ranked_out = 4", "ranked_out = -1", "ranked_out must be at least 0"),
    ],
)
def test_a_mistake_in_the_recipe_is_named(before: str, after: str, text: str) -> None:
    assert before in RECIPE
    with pytest.raises(RecipeError, match=text):
        Recipe.parse(RECIPE.replace(before, after))


def test_bags_cannot_be_thinned() -> None:
    text = RECIPE.replace('"GMF"', '"MultVAE"').replace("sampler = { uniform = 0.5, ranked_out = 0.3, hard = 0.2, ranks = [1, 9] }", "seed = 1")
    with pytest.raises(RecipeError, match="all that a user took at once"):
        Recipe.parse(text)
