"""The loop closes: what was served and what users did with it is what the next run learns from, and it is worth more than the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from palate.asks import Ask, Page
from palate.assembly import OpenRun
from palate.recipe import Recipe
from palate.recommender import Recommender
from palate.state.catalogue import Catalogue
from palate.state.log import StateError
from palate.state.own import read_log, world_of
from palate.tables.events import Events
from palate.tables.sources.synthetic import synthetic
from palate.tables.world import World
from palate.workflow import load_world, train

MARGIN = 1.3  #: the second run's expected clicks on fresh requests over the first's
ROUNDS, SERVED, FRESH, K = 8, 400, 100, 10
WORLD = synthetic(users=SERVED + FRESH, items=300, events=20_000, seed=5)
FIRST = """
name = "first"
positive = "click"
fallback = "popular"
[data]
source = "synthetic"
[signals]
click = { kinds = ["click"] }
like = { kinds = ["like"] }
buy = { kinds = ["buy"] }
[state]
windows = [7, 0]
seen = { kind = "exact", days = 30 }
[models.popular]
name = "Popular"
[models.fresh]
name = "Fresh"
[[recall]]
model = "popular"
quota = 300
[[recall]]
model = "fresh"
quota = 300
[[rerank]]
name = "Explore"
share = 0.3
temperature = 2.0
"""
LATER = FIRST.replace('name = "first"', 'name = "later"').replace(
    "[[recall]]",
    """
[models.ials]
name = "IALS"
dim = 16
[models.itemcf]
name = "ItemCF"
[models.content]
name = "Content"
attributes = ["tags", "author", "category"]
[models.ranker]
name = "MLP"
dim = 8
hidden = [32]
training = { epochs = 4, batch_size = 512, learning_rate = 0.01 }
[tasks]
click = { signal = "click" }
[examples]
folds = 4
pages = "impression"
[rank]
model = "ranker"
[[features]]
name = "Category"
column = "user.country"
[[features]]
name = "Tags"
column = "item.tags"
length = 2
[[features]]
name = "History"
attribute = "category"
length = 20
[[features]]
name = "Category"
column = "item.category"
[[features]]
name = "Count"
of = "item"
signal = "click"
window = 0
[[features]]
name = "RouteScore"
route = "ials"
[[features]]
name = "RouteScore"
route = "content"
[[features]]
name = "RouteScore"
route = "popular"
[[recall]]
model = "ials"
priority = 9
[[recall]]
model = "itemcf"
priority = 8
[[recall]]
model = "content"
priority = 7
[[recall]]""",
    1,
)


def expected_clicks(service: Recommender) -> float:
    """Mean known chance that an item of a fresh user's first page is clicked, if looked at. A fresh user was never served and is known by
    attributes and by five clicks elsewhere on items drawn at random."""
    rng = np.random.default_rng(9)
    users = list(range(SERVED, SERVED + FRESH))
    asks = []
    for user in users:
        offered = rng.permutation(len(WORLD.items))
        chances = WORLD.truth.of_user(user)[offered]
        clicked = offered[rng.random(len(offered)) < chances][:5]
        asks.append(Ask(k=K, history=[f"i{row}" for row in clicked], attributes={"country": WORLD.users["country"][user]}, log=False))
    found, pages = [], service.answer(asks)
    for user, page in zip(users, pages, strict=True):
        assert isinstance(page, Page)
        assert len(page.ids) == K
        rows = np.array([int(item[1:]) for item in page.ids])
        found.append(WORLD.truth.probability(np.full(K, user), rows).mean())
    return float(np.mean(found))


def serve(service: Recommender, rounds: int, rng: np.random.Generator) -> int:
    """Everybody asks ``rounds`` times and does with the page what the world says; how many pages were served."""
    for _ in range(rounds):
        users = rng.permutation(SERVED).tolist()
        pages = service.answer([Ask(user=f"u{user}", k=K) for user in users])
        events = []
        for user, page in zip(users, pages, strict=True):
            assert isinstance(page, Page)
            done = WORLD.truth.respond(rng, user, [int(item[1:]) for item in page.ids])
            told = {"user": f"u{user}", "request_id": page.request_id}
            events += [{**told, "item": item, "kind": kind} for item, kinds in zip(page.ids, done, strict=True) for kind in kinds]
        assert {outcome["status"] for outcome in service.record(events)} == {"accepted"}
    return rounds * SERVED


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OpenRun]:
    """A folder with a first run, trained on 500 events, and its state after some thousand pages."""
    folder = tmp_path_factory.mktemp("loop")
    small = World(Events(WORLD.events.frame.head(500)), WORLD.users, WORLD.items.drop("created"), "small")
    first = train(Recipe.parse(FIRST), folder / "first", world=small, holdout=False)
    with Recommender.load(first, folder / "first" / "state") as service:
        serve(service, ROUNDS, np.random.default_rng(1))
    return folder, first


def test_a_run_trained_on_its_own_pages_and_events_beats_the_first(served: tuple[Path, OpenRun]) -> None:
    folder, _ = served
    with Recommender.load(folder / "first", folder / "first" / "state") as service:
        before = expected_clicks(service)
        world = world_of(service.state)
        told = service.state.sequence
    assert world.events.frame["kind"].value_counts().filter(pl.col("kind") == "impression")["count"].item() == ROUNDS * SERVED * K
    second = train(Recipe.parse(LATER), folder / "second", world=world, holdout=False)
    assert list(second.base_sequence.values()) == [told]
    with Recommender.load(second, folder / "first" / "state") as service:
        after = expected_clicks(service)
        assert service.state.sequence == told
    print(f"expected clicks of {FRESH} fresh users: {before:.4f} before, {after:.4f} ({after / before - 1:+.0%}) after {ROUNDS * SERVED} own pages")
    assert after > MARGIN * before
    best = np.mean([WORLD.truth.of_user(user)[WORLD.truth.best(user, K)].mean() for user in range(SERVED, SERVED + FRESH)])
    assert after < best


def test_the_log_of_a_folder_is_the_world_of_its_state(served: tuple[Path, OpenRun]) -> None:
    folder, first = served
    place = folder / "first" / "state"
    with Recommender.load(folder / "first", place) as service:
        live, read = world_of(service.state), read_log(place, Catalogue.of(first.users.frame()), Catalogue.of(first.items.frame()))
        assert read.events.frame.equals(live.events.frame)  # while the service has it open
        assert read.log == live.log
        assert read.items.equals(live.items)
        assert read.users.equals(live.users)
    again = load_world(Recipe.parse(LATER.replace('source = "synthetic"', 'log = "state"')), folder / "first")
    assert again.events.frame.equals(live.events.frame)
    assert again.items.equals(live.items)
    pages = live.events.frame.filter(pl.col("kind") == "impression")
    done = live.events.frame.filter(pl.col("kind") != "impression")
    assert pages["propensity"].is_between(0, 1, closed="right").all()
    assert (pages["propensity"] < 1).sum() > 0.2 * pages.height  # explored, and it is known how likely that was
    assert done.join(pages, on=["request_id", "user", "item"], how="semi").height == done.height  # every reaction is to a page
    with pytest.raises(StateError, match="no log here"):
        read_log(folder)


def test_after_training_on_a_log_its_events_count_once(served: tuple[Path, OpenRun]) -> None:
    folder, _ = served
    place = folder / "first" / "state"
    recipe = Recipe.parse(FIRST.replace('source = "synthetic"', 'log = "state"'))
    for holdout in (False, True):  # what is held out of training is not held out of the service
        run = train(recipe, folder / f"counted-{holdout}", world=read_log(place), holdout=holdout)
        total = read_log(place).events.frame.filter(pl.col("kind") == "click").height
        assert total == sum(run.start.showing("click").items >= 0)
        for state, more in ((place, 0), (folder / f"other-{holdout}", 1)):
            with Recommender.load(run, state) as service:
                if more:
                    service.record([{"user": "u1", "item": "i1", "kind": "click"}])
                counts = service.state.request([None]).counts
                assert counts is not None
                rows = np.arange(len(service.items))
                found = counts.items(rows, np.full(len(rows), 2**52))[:, counts.signals.index("click"), -1].sum()
                assert found == total + more


@pytest.mark.parametrize("kind", ["exact", "bloom", "counting"])
def test_nothing_is_shown_twice_within_the_window(tmp_path: Path, kind: str) -> None:
    world = World(Events(WORLD.events.frame.head(500)), WORLD.users, WORLD.items.drop("created"), "small")
    run = train(Recipe.parse(FIRST.replace('"exact"', f'"{kind}"')), tmp_path / "run", world=world, holdout=False)
    shown: list[str] = []
    for _ in range(2):  # the second time from disk
        with Recommender.load(run.folder, tmp_path / "state") as service:
            for _ in range(8):
                shown += service.recommend("u3", k=K).ids
    assert len(set(shown)) == len(shown)
    assert len(shown) > 12 * K  # of 300 items the first two routes know some 130
