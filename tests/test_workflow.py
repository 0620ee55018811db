"""From tables to a run: repeatable, blind to what comes after the cut, and clear about data that do not do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from palate.assembly import OpenRun, open_run
from palate.recipe import Recipe
from palate.state.past import Past
from palate.store import RunError, unfinished
from palate.tables.events import Events
from palate.tables.sources.synthetic import synthetic
from palate.tables.world import World
from palate.workflow import evaluate, prepare, train, write_report

RECIPES = Path(__file__).parent.parent / "recipes"
TEXT = (RECIPES / "synthetic.toml").read_text(encoding="utf-8")
WORLD = synthetic(users=120, items=100, events=5000, seed=2)
SHOP = """
name = "shop"
positive = "click"
[data]
events = "events.csv"
items = "items.csv"
[signals]
click = { kinds = ["click"] }
[models.similar]
name = "ItemCF"
[models.hot]
name = "Popular"
[[recall]]
model = "similar"
[[recall]]
model = "hot"
"""


def of(world: World, events: pl.DataFrame, **tables: pl.DataFrame) -> World:
    return World(Events(events), tables.get("users", world.users), tables.get("items", world.items), "changed")


def hashes(run: OpenRun) -> dict[str, str]:
    """SHA-256 of everything that was learnt."""
    learnt = ("model-", "pipeline", "powers")
    return {name: facts["sha256"] for name, facts in run.run.manifest["files"].items() if name.startswith(learnt)}


def answers(run: OpenRun, users: int = 40) -> tuple[np.ndarray, np.ndarray]:
    past = Past(run.base, len(run.users), len(run.items), run.windows, run.bucket, run.history_limit)
    found = run.funnel(strict=True).recommend(past.request(np.arange(-1, users), np.full(users + 1, run.run.manifest["cut"])), 10)
    return found.items, found.scores


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    return train(Recipe.parse(TEXT), tmp_path_factory.mktemp("trained") / "run", world=WORLD)


def test_a_run_read_back_gives_the_same_answers(trained: OpenRun) -> None:
    again = open_run(trained.folder)
    for one, other in zip(answers(trained), answers(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(answers(trained)[0]) == 410
    assert set(trained.parts.models) == set(trained.recipe.models)
    assert trained.run.check()


def test_the_same_seed_gives_the_same_run_bit_for_bit_and_another_seed_another(trained: OpenRun, tmp_path: Path) -> None:
    again = train(Recipe.parse(TEXT), tmp_path / "again", world=WORLD)
    assert hashes(again) == hashes(trained)
    assert len(hashes(again)) == 14
    assert again.run.manifest["files"] == trained.run.manifest["files"]
    other = train(Recipe.parse(TEXT.replace("seed = 7", "seed = 8")), tmp_path / "other", world=WORLD)
    assert hashes(other)["model-ranker.safetensors"] != hashes(trained)["model-ranker.safetensors"]


@pytest.mark.parametrize(("seed", "pages"), [(0, ""), (1, "impression")])
def test_nothing_after_the_cut_reaches_what_is_learnt(tmp_path: Path, seed: int, pages: str) -> None:
    recipe = Recipe.parse(TEXT.replace("[examples]", f'[examples]\npages = "{pages}"'))
    cut = prepare(recipe, WORLD).cut
    rng = np.random.default_rng(seed)
    frame = WORLD.events.frame
    before, after = frame.filter(pl.col("time") < cut), frame.filter(pl.col("time") >= cut)
    size = after.height
    after = after.with_columns(
        user=pl.Series([f"new user {n}" if n % 3 == 0 else f"u{n}" for n in rng.integers(0, 120, size).tolist()]),
        item=pl.Series([f"new item {n}" if n % 3 == 0 else f"i{n}" for n in rng.integers(0, 100, size).tolist()]),
        time=pl.Series(np.r_[np.full(10, cut), np.sort(rng.integers(cut, cut + 10**9, size - 10))]),
        kind=pl.Series(rng.choice(["click", "like", "buy", "impression"], size).tolist()),
        value=pl.Series(rng.normal(5, 100, size), dtype=pl.Float32),
    )
    born_later = WORLD.items.filter(pl.col("created") >= cut)
    assert born_later.height
    items = pl.concat(
        [
            WORLD.items.filter(pl.col("created") < cut),
            born_later.with_columns(tags=pl.lit([["made", "up"]]).list.first(), category=pl.lit("new"), price=pl.lit(1e6)),
            born_later.with_columns(id="later " + pl.col("id"), author=pl.lit("nobody")),
        ],
        how="vertical_relaxed",
    )
    assert prepare(recipe, of(WORLD, pl.concat([before, after]), items=items)).cut == cut
    runs = [
        train(recipe, tmp_path / name, world=world)
        for name, world in {"real": WORLD, "changed": of(WORLD, pl.concat([before, after]), items=items)}.items()
    ]
    assert hashes(runs[0]) == hashes(runs[1])
    files = [run.run.manifest["files"] for run in runs]
    assert files[0]["events.parquet"] == files[1]["events.parquet"]
    assert files[0]["test.parquet"] != files[1]["test.parquet"]
    assert runs[1].users.row("new user 3") >= 0
    assert runs[1].items.row("new item 3") >= 0


def test_what_was_held_out_is_only_what_comes_after_the_cut(trained: OpenRun) -> None:
    cut = trained.run.manifest["cut"]
    assert trained.base.times.max() < cut <= trained.rows("test.parquet").times.min()
    assert len(trained.items) == len(WORLD.items)
    assert trained.run.manifest["fitted"] < len(trained.items)


# ── too little data ──


def first(n: int) -> pl.DataFrame:
    return WORLD.events.frame.head(n)


CLICKS = WORLD.events.frame.filter(pl.col("kind") == "click")
TOO_LITTLE: dict[str, pl.DataFrame] = {
    "nothing at all": first(0),
    "one event": CLICKS.head(1),
    "two events": CLICKS.head(2),
    "impressions only": WORLD.events.frame.filter(pl.col("kind") == "impression"),
    "one user": CLICKS.with_columns(user=pl.lit("u1")),
    "one item": CLICKS.with_columns(item=pl.lit("i1")),
    "one user, one item": CLICKS.with_columns(user=pl.lit("u1"), item=pl.lit("i1")),
    "one moment": CLICKS.with_columns(time=pl.lit(1_700_000_000_000)),
    "everybody once": CLICKS.unique("user", maintain_order=True),
    "forty clicks": CLICKS.head(40),
}


@pytest.mark.parametrize("holdout", [True, False])
@pytest.mark.parametrize("name", TOO_LITTLE)
@pytest.mark.parametrize("recipe", ["whole", "shop"])
def test_too_little_data_gives_a_run_that_answers_or_an_error_that_says_why(tmp_path: Path, recipe: str, name: str, holdout: bool) -> None:
    text = SHOP if recipe == "shop" else TEXT.replace("epochs = 4", "epochs = 1").replace("epochs = 2", "epochs = 1")
    world = of(WORLD, TOO_LITTLE[name])
    failed = ""
    try:
        run = train(Recipe.parse(text), tmp_path / "run", world=world, holdout=holdout)
    except ValueError as error:
        failed = f"{type(error).__name__}: {error}"
    if failed:
        assert failed.startswith("ValueError: ")  # no other kind of it
        assert any(words in failed for words in ("nothing to train on", "no time to cut", "no examples for the ranker", "no events to split"))
        assert not (tmp_path / "run" / "current").exists()
        return
    assert len(answers(run, 5)[0]) > 0
    if holdout and len(run.rows("test.parquet")):
        assert evaluate(run)["funnel"]


def test_all_values_equal(tmp_path: Path) -> None:
    text = SHOP.replace('click = { kinds = ["click"] }', 'click = { kinds = ["rating"] }\nlove = { min_value = 5 }')
    same = CLICKS.with_columns(kind=pl.lit("rating"), value=pl.lit(3.0, pl.Float32))
    run = train(Recipe.parse(text), tmp_path / "run", world=of(WORLD, same))
    assert not len(run.base.showing("love"))
    assert evaluate(run)["funnel"]


# ── recipes with less, and other splits ──


def test_trainings_into_one_folder_at_the_same_time_do_not_touch_each_other(tmp_path: Path) -> None:
    recipe, seen = Recipe.parse(SHOP), []

    def report(line: str) -> None:
        if "ItemCF" in line or "similar" in line:
            with pytest.raises(RunError, match="is training this recipe on these events"):
                train(recipe, tmp_path / "run", world=WORLD)
            seen.extend((tmp_path / "run").glob(".training-*"))

    with unfinished(tmp_path / "run", "another") as other:
        (other / "weights").write_text("half")
        train(recipe, tmp_path / "run", world=WORLD, report=report)
        assert (other / "weights").read_text() == "half"
    assert len(set(seen)) == 2
    assert not list((tmp_path / "run").glob(".training-*"))


def test_the_shop_of_the_readme(tmp_path: Path) -> None:
    """Files beside the recipe; no features, no ranker, no table of users."""
    WORLD.events.frame.filter(pl.col("kind") != "impression").select("user", "item", "time", "kind").write_csv(tmp_path / "events.csv")
    WORLD.items.select("id", "title", "price").write_csv(tmp_path / "items.csv")
    (tmp_path / "shop.toml").write_text(SHOP, encoding="utf-8")
    told: list[str] = []
    run = train(tmp_path / "shop.toml", tmp_path / "run", report=told.append)
    assert any("accepted" in line for line in told)
    assert any("ItemCF" in line or "similar" in line for line in told)
    assert run.parts.pipeline is None
    assert len(answers(run)[0]) == 410
    results = evaluate(run)
    assert results["funnel"]
    assert (run.folder / f"evaluation-{run.run.version}.json").is_file()
    json.dumps(results, allow_nan=False)


def metrics(results: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in results["funnel"]["systems"] if one["system"] == "funnel")
    return found


@pytest.mark.parametrize(("split", "options"), [("leave_last_out", "last = 1"), ("ratio", "ratio = 0.7"), ("by_session", "ratio = 0.8")])
def test_other_splits_from_end_to_end(tmp_path: Path, split: str, options: str) -> None:
    clicks = of(WORLD, CLICKS)
    run = train(Recipe.parse(SHOP + f'[split]\nname = "{split}"\n{options}\n'), tmp_path / "run", world=clicks)
    results = evaluate(run)
    asked = metrics(results)
    by_user = split != "by_session"
    assert (f"held out by {split}" in results["subtitle"]) == by_user  # said, because it is no forecast
    assert not by_user or not any(one["protocol"] == "rolling" for one in results["protocols"])
    held = run.rows("test.parquet")
    if split == "leave_last_out":
        before = {(u, i) for u, i in zip(run.base.users.tolist(), run.base.items.tolist(), strict=True)}
        new = {u for u, i in zip(held.users.tolist(), held.items.tolist(), strict=True) if (u, i) not in before}
        assert asked["users"] == len(new)  # everybody whose last click is not on an item that they had clicked before
    assert asked["users"] > 20
    assert 0 < asked["metrics"]["recall@10"]["value"] < 1


def test_a_split_by_user_shows_a_question_nothing_that_was_held_out(tmp_path: Path) -> None:
    """With a held-out event visible, nobody could be asked for it: it would be excluded as used."""
    everyone = pl.DataFrame({"user": [f"u{n % 30}" for n in range(120)], "item": [f"i{n % 4}" for n in range(30) for _ in range(4)]})
    times = np.arange(120, dtype=np.int64) * 1000 + 1_700_000_000_000
    frame = CLICKS.head(120).with_columns(user=everyone["user"], item=pl.Series([f"i{n // 30}" for n in range(120)]), time=pl.Series(times))
    run = train(Recipe.parse(SHOP + '[split]\nname = "leave_last_out"\n'), tmp_path / "run", world=of(WORLD, frame))
    assert metrics(evaluate(run))["users"] == 30


def test_every_fitting_leaves_its_curve_as_json_lines_and_in_the_report(trained: OpenRun, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (trained.folder / f"curves-{trained.run.version}.jsonl").read_text().splitlines()]
    kept = trained.run.json("curves.json")
    for name, curve in kept.items():
        last = max(line["fit"] for line in lines if line["model"] == name)
        ends = {line["epoch"]: line for line in lines if line["fit"] == last and line["step"] == line["steps"]}
        assert [ends[epoch]["loss"] for epoch in sorted(ends)] == curve["losses"]
        assert [line["score"] for line in ends.values() if line["score"] is not None] == curve["scores"]
    assert set(kept) == {"two_tower", "light", "ranker"} == {line["model"] for line in lines}
    page = write_report(trained, tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(f"training loss of {name}" in page for name in kept)
    assert "NDCG@10 (validation) of ranker" in page
