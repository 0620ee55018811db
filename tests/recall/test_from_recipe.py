"""Routes by place, author and session, and hybrids of other models, from a recipe to a service and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from palate.assembly import OpenRun, open_run
from palate.recipe import Recipe, RecipeError
from palate.recommender import Recommender
from palate.state.past import Past
from palate.tables.events import Events
from palate.tables.sources.synthetic import synthetic
from palate.tables.world import World
from palate.workflow import train

TEXT = """
name = "routes"
positive = "click"
fallback = "popular"
[data]
source = "synthetic"
created = "created"
[signals]
click = { kinds = ["click"] }
like = { kinds = ["like"] }
[state]
windows = [0]
former = 30
[[features]]
name = "Category"
column = "user.id"
part = "user_id"
[[features]]
name = "Category"
column = "item.id"
part = "item_id"
[[features]]
name = "History"
attribute = "id"
length = 10
signal = "like"
part = "history"
[models.mixed]
name = "Weighted"
models = ["itemcf", "towers"]
k = 5
[models.deep]
name = "Cascade"
models = ["switched", "fresh"]
[models.switched]
name = "Switching"
models = ["popular", "mixed"]
events = [3]
[models.popular]
name = "Popular"
[models.fresh]
name = "Fresh"
[models.itemcf]
name = "ItemCF"
[models.towers]
name = "DSSM"
dim = 8
hidden = [16]
training = { epochs = 1, batch_size = 256, learning_rate = 0.01, uniform = 16 }
[models.near]
name = "Near"
radius_km = 200
[models.followed]
name = "Followed"
[models.similar]
name = "SimilarAuthors"
[models.former]
name = "Former"
[models.session]
name = "Session"
gap_minutes = 1440
[[recall]]
model = "near"
quota = 20
priority = 9
[[recall]]
model = "followed"
quota = 12
deadline_ms = 50
[[recall]]
model = "similar"
quota = 15
[[recall]]
model = "session"
quota = 15
[[recall]]
model = "former"
quota = 8
[[recall]]
model = "deep"
quota = 30
"""


def placed() -> World:
    """The synthetic world, its people and things somewhere around Lisbon, and events that know where they were."""
    world, random = synthetic(users=120, items=100, events=5000, seed=2), np.random.default_rng(0)
    where = {name: pl.Series(38 + random.normal(0, 1, 120)) for name in ("latitude", "longitude")}
    follows = pl.Series([[author] for author in random.choice(world.items["author"].unique().sort().to_numpy(), 120).tolist()])
    there = {name: pl.Series(38 + random.normal(0, 1, 100)) for name in ("latitude", "longitude")}
    events = Events(world.events.frame.with_columns(latitude=pl.lit(38.5), longitude=pl.lit(38.5)))
    return World(events, world.users.with_columns(**where, follows=follows), world.items.with_columns(**there), "placed")


WORLD = placed()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    return train(Recipe.parse(TEXT), tmp_path_factory.mktemp("routes") / "run", world=WORLD)


def test_every_route_offers_what_its_quota_allows_and_the_same_when_read_back(run: OpenRun) -> None:
    past = Past(run.base, len(run.users), len(run.items), run.windows, run.bucket, run.history_limit)
    request = past.request(np.arange(-1, 60), np.full(61, run.run.manifest["cut"]))
    assert request.context["latitude"][5] in (38.5, None), "the events' place is the request's"
    again = {route.name: route for route in open_run(run.folder).parts.routes()}
    for route in run.parts.routes():
        if route.name == "former":
            continue  # nothing was served yet
        offered = route.retriever.retrieve(request, route.quota)
        other = again[route.name].retriever.retrieve(request, route.quota)
        assert route.quota >= np.diff(offered.offsets).max() > 5
        np.testing.assert_array_equal(offered.items, other.items)
        np.testing.assert_array_equal(offered.scores, other.scores)
        if route.name != "deep":
            assert len(offered.items) > 300, route.name
    assert len(run.funnel(strict=True).recommend(request, 10).items) > 500
    order = ["near", "followed", "similar", "session", "former", "popular", "itemcf", "towers", "mixed", "switched", "fresh", "deep"]
    assert list(run.recipe.recalled) == order, "parts before wholes"
    weights = run.parts.models["mixed"].weights
    assert weights.sum() == pytest.approx(1)
    assert not np.allclose(weights, 0.5)
    assert run.similar is run.parts.models["itemcf"]


def test_a_part_sees_of_histories_what_it_would_see_as_a_route(run: OpenRun) -> None:
    past = Past(run.base, len(run.users), len(run.items), run.windows, run.bucket, run.history_limit)
    request = past.request(np.arange(60), np.full(60, run.run.manifest["cut"]))
    others, click = run.parts.others(), 1
    alone = run.parts.models["itemcf"].retrieve(request.showing(click), 30)
    np.testing.assert_array_equal(others.named("itemcf").retrieve(request, 30).scores, alone.scores)
    towers = run.parts.retriever("towers").retrieve(request, 30)
    np.testing.assert_array_equal(others.named("towers").retrieve(request, 30).scores, towers.scores)
    assert not np.array_equal(run.parts.retriever("towers").retrieve(request.showing(click), 30).scores, towers.scores)


def test_a_service_follows_and_moves_at_once(run: OpenRun, tmp_path: Path) -> None:
    with Recommender.load(run.folder, tmp_path / "state") as service:
        author = WORLD.items["author"][0]
        routes = {route.name: route.retriever for route in service._funnel.routes}
        service.put_user("newcomer", {"follows": [author], "latitude": 10.0, "longitude": 10.0})
        service.put_item("around the corner", {"latitude": 10.5, "longitude": 10.2, "author": author})
        request = service.state.request(["newcomer"])
        row = service.items.row("around the corner")
        assert routes["near"].retrieve(request, 5).items.tolist() == [row]
        assert routes["followed"].retrieve(request, 5).items[0] == row, "the newest of the followed author"
        moved = service.state.request(["newcomer"], context={"latitude": [38.0], "longitude": [38.0]})
        assert row not in routes["near"].retrieve(moved, 20).items
        assert len(routes["near"].retrieve(moved, 20).items) == 20
        assert row in routes["deep"].retrieve(request, 120).items, "Fresh is a part of it"
        assert "around the corner" in service.recommend("newcomer", 10).ids


def test_what_a_page_had_no_place_for_is_offered_again(run: OpenRun, tmp_path: Path) -> None:
    def offered(service: Recommender, user: str | None) -> list[str]:
        former = next(route.retriever for route in service._funnel.routes if route.name == "former")
        return [service.items.ids[row] for row in former.retrieve(service.state.request([user]), 50).items]

    with Recommender.load(run.folder, tmp_path / "state") as service:
        assert offered(service, "u3") == []
        page = service.recommend("u3", 4, why=True)
        left = offered(service, "u3")
        assert len(left) == 30
        ranked = service._funnel.recommend(replace(service.state.request(["u3"]), former=None, exclude=None), 100)
        assert not set(left) & set(page.ids)
        assert set(left) < {service.items.ids[row] for row in ranked.items}
        assert service.recommend("u3", 4, log=False).ids != page.ids, "a look without effect"
        assert offered(service, "u3") == left
        service.record([{"user": "u3", "item": left[0], "time": page.now + 1, "kind": "click"}])
        assert offered(service, "u3") == left[1:], "taken meanwhile"
        again = service.recommend("u3", 4)
        latest = offered(service, "u3")
        assert not set(latest) & {*page.ids, *again.ids}
        assert offered(service, None) == offered(service, "u4") == []
        service.recommend(None, 4)
    with Recommender.load(run.folder, tmp_path / "state") as service:
        assert offered(service, "u3") == latest, "read back from the log of pages"
        service.forget("u3")
        assert offered(service, "u3") == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('models = ["itemcf", "towers"]', 'models = ["itemfc", "towers"]', r"line \d+: \[models.mixed\].* 'itemfc'; did you mean 'itemcf'"),
        ('models = ["switched", "fresh"]', 'models = ["switched", "deep"]', r"a hybrid cannot be made of itself: deep -> deep"),
        ('models = ["popular", "mixed"]', 'models = ["popular", "deep"]', r"be made of itself: (deep -> switched|switched -> deep)"),
        ('models = ["popular", "mixed"]', 'models = ["popular"]', "models must be two or more"),
        ('models = ["popular", "mixed"]', "", "needs the option 'models'"),
        ("former = 30", "former = 0", r"\[models.former\]: Former offers what \[state\] former keeps"),
        ("events = [3]", "events = [3, 5]", "events must be 1 rising numbers"),
        ("k = 5", "fixed = [1]", "fixed must be 2 weights"),
        ('models = ["itemcf", "towers"]\nk = 5', 'models = ["itemcf", "ranker"]\n[models.ranker]\nname = "LR"', "'ranker' is a rank model"),
    ],
)  # fmt: skip
def test_slips_in_hybrids_are_refused(right: str, wrong: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Recipe.parse(TEXT.replace(right, wrong))


def test_what_reads_ratings_is_given_them_and_no_click(tmp_path: Path) -> None:
    """Item n is rated 1 + n % 5 by all, and as often only clicked: who learned from clicks would know nothing, or that all are near 1."""
    world = synthetic(users=60, items=40, events=3000, seed=3)
    frame, random = world.events.frame.with_columns(kind=pl.lit("click")), np.random.default_rng(0)
    stars = 1 + frame["item"].cast(pl.Categorical).to_physical().to_numpy() % 5
    value = pl.Series(np.where(random.random(len(frame)) < 0.5, stars, np.nan).astype(np.float32)).fill_nan(None)
    models = {"stars": "BiasSVD", "centred": 'ItemCF"\nsimilarity = "adjusted_cosine', "alike": 'UserCF"\nsimilarity = "pearson'}
    text = 'name = "rated"\npositive = "click"\n[data]\nsource = "synthetic"\n[signals]\nclick = { kinds = ["click"] }\n'
    text += "".join(f'[models.{name}]\nname = "{model}"\n[[recall]]\nmodel = "{name}"\n' for name, model in models.items())
    rated = replace(world, events=Events(frame.with_columns(value=value)))
    found = train(Recipe.parse(text), tmp_path / "run", world=rated, holdout=False).parts.models
    assert found["stars"].mean == pytest.approx(stars.mean(), abs=0.3)
    truth = dict(zip(frame["item"].to_list(), stars.tolist(), strict=True))
    biases = found["stars"].items[:, found["stars"].dim]
    ids = [str(one) for one in rated.items["id"].to_list()]
    assert np.corrcoef(biases, [truth.get(one, 3) for one in ids])[0, 1] > 0.9
    assert len(found["centred"].sources.columns) > 0
    assert len(found["alike"].users.columns) < 0.9 * len(frame.unique(["user", "item"]))
