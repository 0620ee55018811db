"""The synthetic world: what is drawn agrees with what is said to be true."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from palate.tables.events import COLUMNS
from palate.tables.sources.synthetic import BEHAVIOURS, SCENES, START, synthetic
from palate.tables.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return synthetic(users=400, items=300, events=200_000, seed=3)


def rows(world: World, kind: str) -> pl.DataFrame:
    return world.events.frame.filter(pl.col("kind") == kind).with_columns(
        pl.col("user").str.slice(1).cast(pl.Int64), pl.col("item").str.slice(1).cast(pl.Int64)
    )


def test_tables_hold_what_is_promised(world: World) -> None:
    frame = world.events.frame
    assert frame.height == 200_000
    assert frame.columns == [*COLUMNS, "scene", "position", "propensity"]
    assert frame["time"].is_sorted()
    assert set(frame["kind"]) == {"impression", *BEHAVIOURS}
    assert set(frame["scene"]) == set(SCENES)
    assert world.users.columns == ["id", "age", "gender", "country"]
    assert world.items.columns == ["id", "title", "category", "tags", "author", "price", "created"]
    assert world.items["tags"].list.len().unique().sort().to_list() == [1, 2]
    assert world.items["title"].str.split(" ").list.len().unique().to_list() == [4]
    assert frame.filter(pl.col("value").is_not_null())["kind"].unique().to_list() == ["buy"]
    assert (world.items.height, world.users.height) == (300, 400)


def test_same_seed_same_world_other_seed_other_world() -> None:
    one, same, other = (synthetic(50, 40, 2000, seed=seed) for seed in (1, 1, 2))
    assert_frame_equal(one.events.frame, same.events.frame)
    assert_frame_equal(one.items, same.items)
    assert not one.events.frame.equals(other.events.frame)


def test_pages_show_different_items_that_exist(world: World) -> None:
    shown = rows(world, "impression")
    pages = shown.group_by("request_id").agg(
        pl.col("item").n_unique().alias("items"), pl.len(), pl.col("position"), pl.col("time").n_unique().alias("times")
    )
    assert (pages["items"] == pages["len"]).all()
    assert (pages["times"] == 1).all()
    assert pages.filter(pl.col("len") == 10)["position"].list.sort().to_list()[0] == list(range(10))
    created = world.items["created"].to_numpy()
    assert (created[shown["item"].to_numpy()] <= shown["time"].to_numpy()).all()
    assert (created > START).sum() > 60  # some appear on the way


def test_what_follows_refers_to_what_was_shown(world: World) -> None:
    keys = ["request_id", "user", "item", "scene", "position", "propensity"]
    shown = rows(world, "impression").select(*keys, "time")
    for before, kind in (("impression", "click"), ("click", "like"), ("click", "buy")):
        earlier = rows(world, before).select(*keys, "time")
        joined = rows(world, kind).select(*keys, "time").join(earlier, on=keys, how="left")
        assert joined["time_right"].null_count() == 0
        assert (joined["time"] > joined["time_right"]).all()
    assert shown.height > 100_000
    bought = rows(world, "buy")
    assert np.allclose(world.items["price"].to_numpy()[bought["item"].to_numpy()], bought["value"].to_numpy())


def test_clicks_follow_the_truth(world: World) -> None:
    """Observed rates agree with stated probabilities: overall, in ten bands, by position and by scene."""
    shown = rows(world, "impression")
    truth = world.truth
    chance = truth.probability(shown["user"].to_numpy(), shown["item"].to_numpy(), "click", shown["scene"].to_numpy())
    looked = chance * truth.looked_at(shown["position"].to_numpy())
    clicks = rows(world, "click").select("request_id", "item", clicked=pl.lit(1.0))
    table = shown.with_columns(said=pl.Series(looked)).join(clicks, on=["request_id", "item"], how="left").fill_null(0.0)
    table = table.filter(pl.col("time") < table["time"].max() - 3_600_000)  # the last pages' clicks may be cut off
    assert abs(chance.mean() - 0.3) < 0.03
    bands = table.with_columns(band=(pl.col("said") * 10).floor())
    for key in ("band", "position", "scene"):
        for _, part in bands.group_by(key):
            spread = np.sqrt((part["said"] * (1 - part["said"])).sum()) / part.height
            assert abs(part["clicked"].mean() - part["said"].mean()) < 4.5 * spread + 1e-9  # type: ignore[operator]


def test_later_behaviours_follow_the_truth(world: World) -> None:
    truth, rng = world.truth, np.random.default_rng(0)
    n = 200_000
    users, items = rng.integers(0, 400, n), rng.integers(0, 300, n)
    done = truth.draw(rng, users, items, np.zeros(n, np.int64), "search")
    for behaviour in BEHAVIOURS:
        said = truth.probability(users, items, behaviour, "search")
        assert 0 < said.min() <= said.max() < 1
        assert abs(done[behaviour].mean() - said.mean()) < 5 * np.sqrt(said.mean() / n)
        assert not (done[behaviour] & ~done["click"]).any()


def test_propensities_are_how_often_the_policy_chooses() -> None:
    """Inverse propensity weights sum to one over the first place, item group by item group; so do later places'."""
    world = synthetic(users=3, items=40, events=150_000, seed=5, categories=4, days=30)
    shown = rows(world, "impression")
    assert shown["propensity"].is_between(0, 1, closed="right").all()
    created = world.items["created"].to_numpy()
    old = np.flatnonzero(created <= START)
    first = shown.filter(pl.col("position") == 0)
    pages = first.height
    for item in old[:12]:
        chosen = first.filter(pl.col("item") == item)
        weight = (1 / chosen["propensity"].to_numpy()).sum() / pages  # mean of 1[chosen] / P(chosen): 1 where P is right
        spread = np.sqrt((1 / chosen["propensity"].to_numpy() ** 2).sum()) / pages
        assert abs(weight - 1) < 4.5 * spread
    last = shown.filter(pl.col("position") == 9)
    above = shown.filter(pl.col("position") < 9).group_by("request_id").agg(pl.col("item").alias("above"))
    last = last.join(above, on="request_id")
    for item in old[:12]:
        free = last.filter(~pl.col("above").list.contains(int(item)))  # pages where it could still be chosen
        chosen = free.filter(pl.col("item") == item)["propensity"].to_numpy()
        assert abs((1 / chosen).sum() / free.height - 1) < 4.5 * np.sqrt((1 / chosen**2).sum()) / free.height


def test_best_is_the_top_of_probability(world: World) -> None:
    truth = world.truth
    for user in (0, 7, 399):
        for behaviour in BEHAVIOURS:
            chance = truth.probability(np.full(300, user), np.arange(300), behaviour, "search")
            np.testing.assert_allclose(truth.of_user(user, behaviour, "search"), chance, rtol=1e-5)
            best = truth.best(user, 5, exclude=[3, 4], behaviour=behaviour, scene="search")
            kept = np.setdiff1d(np.arange(300), [3, 4])
            np.testing.assert_allclose(chance[best], np.sort(chance[kept])[::-1][:5], rtol=1e-5)
    assert len(truth.best(0, 1000)) == 300
    assert len(truth.best(0, 1000, exclude=range(300))) == 0
    assert len(truth.best(0, 0)) == 0


def test_preferences_are_worth_knowing(world: World) -> None:
    """The best list of each user beats one best list for all, and that one beats a random one."""
    every = np.stack([world.truth.of_user(user) for user in range(400)])
    own = np.sort(every, 1)[:, -10:].mean()
    shared = np.sort(every.mean(0))[-10:].mean()
    assert own > shared + 0.1 > every.mean() + 0.2


def test_users_answer_served_lists(world: World) -> None:
    truth, rng = world.truth, np.random.default_rng(1)
    best = truth.best(5, 10)
    answers = [truth.respond(rng, 5, best) for _ in range(400)]
    kinds = {kind for answer in answers for item in answer for kind in item}
    assert kinds <= set(BEHAVIOURS)
    clicked = np.mean([["click" in item for item in answer] for answer in answers])
    said = (truth.probability(np.full(10, 5), best) * truth.looked_at(np.arange(10))).mean()
    assert abs(clicked - said) < 0.04
    assert truth.respond(rng, 5, []) == []


def test_small_worlds_and_bad_options() -> None:
    for users, items, events in ((1, 4, 1), (1, 4, 300), (2, 5, 100), (1000, 5, 50)):
        assert len(synthetic(users, items, events).events) == events
    for options, words in (({"users": 0}, "users"), ({"items": 3}, "items"), ({"events": 0}, "events"), ({"click_rate": 1.0}, "click_rate")):
        with pytest.raises(ValueError, match=words):
            synthetic(**options)  # type: ignore[arg-type]
    truth = synthetic(5, 5, 50).truth
    with pytest.raises(ValueError, match="scene must be one of 'home', 'search'"):
        truth.probability(np.zeros(1, np.int64), np.zeros(1, np.int64), scene="hme")
    with pytest.raises(ValueError, match="behaviour must be one of"):
        truth.of_user(0, "clck")
