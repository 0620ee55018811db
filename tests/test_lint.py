"""Leaks planted in a recipe or its tables are each found, named and priced; the recipes that come with palate have none."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from palate.cli import app
from palate.lint import lint, partial_rank_correlation, tells
from palate.recipe import Recipe
from palate.tables.events import Events
from palate.tables.sources.synthetic import synthetic
from palate.tables.world import World
from palate.workflow import prepare

TEXT = (Path(__file__).parent.parent / "recipes" / "synthetic.toml").read_text(encoding="utf-8")
WORLD = synthetic(users=150, items=100, events=8000, seed=4)


def with_feature(text: str, **options: Any) -> str:
    lines = "\n".join(f"{name} = {value}" for name, value in options.items())
    return text.replace("[models.popular]", f"[[features]]\n{lines}\n[models.popular]", 1)


def kinds(recipe: str, world: World = WORLD) -> dict[str, str]:
    return {one.check: one.where for one in lint(Recipe.parse(recipe), world, measure=False) if one.level == "leak"}


def with_column(world: World, name: str, values: dict[str, float]) -> World:
    items = world.items.with_columns(pl.col("id").replace_strict(values, default=0.0).cast(pl.Float64).alias(name))
    return replace(world, items=items)


def clicks(world: World, until: float = 1.0) -> dict[str, float]:
    frame = world.events.frame.filter(pl.col("kind") == "click").sort("time")
    counts = frame.head(int(len(frame) * until)).group_by("item").len()
    return {str(item): float(count) for item, count in counts.iter_rows()}


def test_the_recipe_as_it_is_has_no_leak() -> None:
    found = lint(Recipe.parse(TEXT), WORLD, measure=False)
    assert [one for one in found if one.level == "leak"] == []
    assert [(one.check, one.where) for one in found] == [("ids", "user_id")]  # its ranker reads who is asked
    assert 'without = ["user_id"]' in found[0].message
    blind = TEXT.replace('name = "DeepFM"', 'name = "DeepFM"\nwithout = ["user_id"]')
    assert lint(Recipe.parse(blind), WORLD, measure=False) == []


def split_by(name: str) -> str:
    return re.sub(r'\[split\]\nname = "global_time"[^\n]*\n(ratio = [^\n]*\n)?', f'[split]\nname = "{name}"\n', TEXT)


@pytest.mark.parametrize(("name", "found"), [("ratio", {"split"}), ("leave_last_out", {"split"}), ("by_session", set()), ("global_time", set())])
def test_a_split_that_is_no_moment(name: str, found: set[str]) -> None:
    assert f'name = "{name}"' in split_by(name)
    assert set(kinds(split_by(name))) == found


def test_a_column_that_was_computed_over_all_of_time() -> None:
    text = with_feature(TEXT, name='"Number"', column='"item.clicks"')
    assert kinds(text, with_column(WORLD, "clicks", clicks(WORLD))) == {"future": "item_clicks"}
    assert kinds(text, with_column(WORLD, "clicks", clicks(WORLD, 0.75))) == {}, "what was known before the cut is no leak"
    noise = dict(zip(map(str, WORLD.items["id"]), np.random.default_rng(0).random(len(WORLD.items)), strict=True))
    assert kinds(text, with_column(WORLD, "clicks", noise)) == {}


def test_the_target_among_the_inputs() -> None:
    frame = WORLD.events.frame
    liked = frame["kind"].is_in(["like"]).cast(pl.Float64)
    random = pl.Series(np.random.default_rng(0).random(len(frame)))
    for values, found in ((liked + random * 0.1, {"target": "context_mood"}), (random, {})):
        world = replace(WORLD, events=Events(frame.with_columns(mood=values)))
        text = with_feature(TEXT, name='"Number"', column='"context.mood"').replace('given = "click"', 'given = ""')
        assert kinds(text, world) == found


def test_a_vocabulary_from_the_future() -> None:
    prepared = prepare(Recipe.parse(TEXT), WORLD)
    early, late = prepared.items.ids[:5], [str(one) for one in prepared.later["id"]]
    assert late, "some items of the world are born after the cut"
    declared = with_feature(TEXT, name='"Category"', column='"item.id"', label='"known"', values=str([*early, late[0]]))
    assert kinds(declared) == {"vocabulary": "known"}
    assert kinds(with_feature(TEXT, name='"Category"', column='"item.id"', label='"known"', values=str(early))) == {}


def test_what_was_shown_taken_for_taken() -> None:
    text = TEXT.replace("[signals]\n", '[signals]\nseen = { kinds = ["impression", "click"] }\n', 1)
    text = text.replace("[examples]", '[examples]\npages = "impression"', 1) if "pages =" not in TEXT else text
    found = kinds(text)
    assert found["shown"] == "[signals] seen"


def test_a_leak_is_priced_by_training_with_and_without_it() -> None:
    quick = TEXT.replace("epochs = 4", "epochs = 1").replace("epochs = 5", "epochs = 3")
    text = with_feature(quick, name='"Number"', column='"item.clicks"').replace('name = "DeepFM"', 'name = "DeepFM"\nwithout = ["user_id"]')
    found = lint(Recipe.parse(text), with_column(WORLD, "clicks", clicks(WORLD)))
    assert [one.check for one in found] == ["future"]
    assert found[0].metric == "NDCG@10"
    assert found[0].inflated is not None
    assert found[0].clean is not None
    assert 0 < found[0].clean < 1
    assert found[0].inflated != found[0].clean


def test_partial_correlation_by_hand() -> None:
    random = np.random.default_rng(0)
    before, news = random.random(300), random.random(300)
    after = before + news
    assert partial_rank_correlation(before + after, after, before) > 0.9
    assert abs(partial_rank_correlation(before, after, before)) < 1e-6
    assert abs(partial_rank_correlation(random.random(300), after, before)) < 0.2
    assert partial_rank_correlation(np.ones(300), after, before) == 0.0


def test_a_column_that_tells_alone() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    every = np.ones(400, bool)
    assert tells(list(labels * 3.0), labels, every) == 1.0
    assert tells(list(-labels * 3.0), labels, every) == 1.0
    assert tells([f"v{label}" for label in labels], labels, every) == 1.0
    assert tells([f"v{n}" for n in range(400)], labels, every) < 0.6, "a value seen once tells nothing of other rows"
    assert tells(list(random.random(400)), labels, every) < 0.6


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "clean.toml"
    path.write_text(TEXT, "utf-8")
    said = CliRunner().invoke(app, ["lint", str(path), "--no-measure"])
    assert said.exit_code == 0, said.output
    assert "0 leaks, 1 notes" in said.stdout
