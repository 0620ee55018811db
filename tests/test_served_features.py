"""Every transform in one recipe, from the events to a served page: what the ranker sees while serving is what it learnt from, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from palate import catalog
from palate.assembly import OpenRun, open_run
from palate.recipe import Recipe
from palate.recommender import Recommender
from palate.skew import skew
from palate.state.own import read_log
from palate.tables.events import Events
from palate.tables.sources.synthetic import synthetic
from palate.tables.world import World
from palate.workflow import Training, past_of, prepare, train

DAY = 86_400_000
RECIPE = """
name = "everything"
seed = 3
threads = 1
positive = "click"
[data]
source = "synthetic"
created = "created"
[signals]
click = { kinds = ["click"] }
like = { kinds = ["like"] }
[state]
windows = [1, 7, 0]
history = 40
audience = 12
[tasks]
click = { signal = "click" }
[examples]
folds = 2
moments = 2
negatives = 10
[models.popular]
name = "Popular"
[models.itemcf]
name = "ItemCF"
[models.ranker]
name = "MLP"
dim = 4
hidden = [16]
training = { epochs = 1, batch_size = 512 }
[[recall]]
model = "itemcf"
quota = 30
[[recall]]
model = "popular"
quota = 30
[rank]
model = "ranker"
"""
FEATURES: list[dict[str, object]] = [
    {"name": "Category", "column": "user.country"},
    {"name": "Category", "column": "context.scene", "part": "domain"},
    {"name": "Category", "column": "context.device"},
    {"name": "Tags", "column": "item.tags", "length": 2},
    {"name": "Number", "column": "item.price", "scale": "log1p"},
    {"name": "Quantile", "column": "item.price", "label": "price_place"},
    {"name": "Bucket", "column": "user.age", "by": "tree", "signal": "like", "among": "click", "buckets": 4, "least": 20},
    {"name": "Quantile", "column": "context.battery"},
    {"name": "FID", "column": "item.author", "buckets": 64},
    {"name": "History", "attribute": "author", "length": 10, "signal": "like", "gaps": True},
    {"name": "History", "attribute": "category", "length": 10, "signal": "click"},
    {"name": "Cross", "of": ["user.gender", "item.category"], "buckets": 128},
    {"name": "Cross", "of": ["user.country", "item.tags", "context.device"], "buckets": 512, "length": 2},
    {"name": "Cross", "of": ["item.category", "item.author"], "buckets": 256},
    {"name": "Cross", "of": ["user.country", "context.scene"], "buckets": 64},
    {"name": "TimeParts", "parts": ["hour", "weekday", "holiday"], "offset": 8.0, "holidays": ["01-01"]},
    {"name": "Recency", "of": "user", "signal": "like"},
    {"name": "Recency", "of": "item", "half": 0.5},
    {"name": "Recency", "of": "age", "half": 30},
    {"name": "Count", "of": "item", "signal": "click", "window": [1, 7, 0]},
    {"name": "Count", "of": "user", "signal": "like", "window": 7},
    {"name": "Rate", "of": "item", "signal": "like", "among": "click", "window": [7, 0], "prior": "fit"},
    {"name": "Active", "of": "user", "signal": "click", "window": [1, 7], "least": 2},
    {"name": "Newcomer", "of": "user", "signal": "click"},
    {"name": "Match", "attribute": "id"},
    {"name": "Match", "attribute": "tags", "window": [1, 7], "scale": "share"},
    {"name": "Match", "attribute": "author", "signal": "like", "window": 0},
    {"name": "Audience", "attribute": "gender", "length": 10},
    {"name": "Audience", "attribute": "age", "length": 12, "edges": [25, 40, 55], "signal": "click"},
    {"name": "RouteScore", "route": "itemcf"},
    {"name": "RouteRank", "route": "itemcf"},
]


def toml(value: object) -> str:
    if isinstance(value, (list, bool)):
        return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


TEXT = RECIPE + "".join("[[features]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in one.items()) for one in FEATURES)


def world() -> World:
    """The synthetic world with a device and a battery: who opens a page on a TV has no battery."""
    made = synthetic(users=100, items=80, events=4000, seed=4)
    frame, rng = made.events.frame, np.random.default_rng(0)
    page = frame["time"].to_numpy() // 1000 + (frame["user"].hash(1).to_numpy() % 1000).astype(np.int64)
    device = np.array(["phone", "tv", "web"])[page % 3]
    battery = [None if one == "tv" else round(float(level), 2) for one, level in zip(device, rng.random(len(frame)), strict=True)]
    events = frame.with_columns(device=pl.Series(device.tolist()), battery=pl.Series(battery, dtype=pl.Float64))
    return World(Events(events), made.users, made.items, "everything", made.terms)


WORLD = world()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    return train(Recipe.parse(TEXT), tmp_path_factory.mktemp("everything") / "run", world=WORLD)


def test_the_recipe_names_every_transform_that_needs_no_vectors() -> None:
    assert {entry.name for entry in catalog.ENTRIES if entry.kind == "feature"} - {one["name"] for one in FEATURES} == {"Vector"}


def test_what_is_served_is_what_is_learnt_from_bit_by_bit(trained: OpenRun, tmp_path: Path) -> None:
    with Recommender.load(trained.folder, tmp_path, keep_features=1.0) as service:
        users = [user for user in service.users.ids if user][:10]
        service.put_item("fresh", {"author": "nobody yet", "tags": ["new"], "category": "c", "price": 3.0})
        service.put_user("just came", {"gender": "female", "age": 33})  # attributes are those of now: a later change would be a skew
        for turn in range(3):
            for n, user in enumerate(users):
                context = {"device": ["tv", "phone", "watch"][n % 3], "battery": None if n % 3 == 0 else n / 10}
                page = service.recommend(user, 5, context=context, scene=["home", "search"][n % 2], attributes={"country": "DE"} if n == 4 else None)
                service.record([{"user": user, "item": item, "kind": ["click", "like"][turn % 2]} for item in page.ids[:2]])
            service.record([{"user": users[turn], "item": "fresh", "kind": "click"}])
            service.record([{"user": "just came", "item": service.items.ids[turn], "kind": "like"}])
        service.recommend("just came", 5)
        service.recommend(history=service.items.ids[:4], k=5, context={"device": "web", "battery": 0.5})
    found = skew(trained.folder, tmp_path)
    assert found.clean, found.to_json()["differences"][:3]
    assert found.pages == 32
    assert found.features >= 40


def test_the_context_of_events_reaches_training(trained: OpenRun) -> None:
    data = prepare(Recipe.parse(TEXT), WORLD)
    assert set(data.train.context) == {"scene", "device", "battery"}
    frame = WORLD.events.frame
    lookup = {(user, time): device for user, time, device in frame.select("user", "time", "device").iter_rows()}
    devices = data.train.context["device"]
    for n in range(0, len(data.train), 97):
        assert devices[n] == lookup[data.users.ids[data.train.users[n]], int(data.train.times[n])]
    pipeline = trained.parts.pipeline
    assert pipeline is not None
    assert pipeline.schema["context_device"].vocab_size == 5
    assert pipeline.schema["context_scene"].vocab_size == 4
    training = Training(Recipe.parse(TEXT), data)
    examples, _ = training.examples()
    seen = np.bincount(examples.users["context_device"], minlength=5)
    assert (seen[2:] > 0.15 * seen.sum()).all(), "each device in its share"
    assert len(np.unique(examples.users["context_battery"])) > 10


def test_a_request_has_the_context_in_which_its_user_came_next(trained: OpenRun) -> None:
    again = open_run(trained.folder)
    assert set(again.base.context) == {"scene", "device", "battery"}
    rows = again.base
    assert rows.context["device"].tolist() == trained.base.context["device"].tolist()
    whole = again.start
    user = int(rows.users[10])
    mine = np.flatnonzero((whole.users == user) & (whole.items >= 0))
    past = past_of(again.recipe, whole, (len(again.users), len(again.items)))
    asked = np.array([whole.times[mine[0]] - 1, whole.times[mine[3]], whole.times[mine[3]] + 1, whole.times.max() + 1, 0])
    found = past.request(np.array([user, user, user, user, -1]), asked).context["device"]
    after = [next((n for n in mine if whole.times[n] >= now), None) for now in asked[:4]]
    assert found.tolist() == [None if n is None else whole.context["device"][n] for n in after] + [None]
    told = past.request(np.array([user]), asked[:1], context={"device": ["given"]})
    assert told.context == {"device": ["given"]}


def test_pages_of_a_log_bring_their_requests_context(trained: OpenRun, tmp_path: Path) -> None:
    with Recommender.load(trained.folder, tmp_path) as service:
        user = next(user for user in service.users.ids if user)
        page = service.recommend(user, 3, context={"device": "tv", "battery": 0.25}, scene="search")
        service.record(
            [
                {"user": user, "item": page.ids[0], "kind": "click", "request_id": page.request_id},
                {"user": user, "item": page.ids[1], "kind": "click", "request_id": page.request_id, "device": "phone"},
                {"user": user, "item": page.ids[2], "kind": "click"},
            ]
        )
        other = service.recommend(user, 3)
    frame = read_log(tmp_path, trained.users, trained.items).events.frame
    shown = frame.filter(pl.col("kind") == "impression")
    assert shown.select("device", "battery", "scene").rows() == [("tv", 0.25, "search")] * 3 + [(None, None, None)] * len(other.ids)
    clicks = frame.filter(pl.col("kind") == "click").sort("item").select("item", "device", "battery", "scene").rows()
    expected = {page.ids[0]: ("tv", 0.25, "search"), page.ids[1]: ("phone", 0.25, "search"), page.ids[2]: (None, None, None)}
    assert {item: rest for item, *rest in clicks} == {item: list(rest) for item, rest in expected.items()}
