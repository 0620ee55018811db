"""A search over a recipe: it finds the option that was planted, survives a kill, sees no test event, and its result can be trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from palate.cli import app
from palate.recipe import Recipe, RecipeError
from palate.search import Found, search
from palate.tables.events import Events
from palate.tables.sources.synthetic import synthetic
from palate.tables.world import World
from palate.training.trials import Trial
from palate.workflow import prepare, train

WORLD = synthetic(users=80, items=50, events=3000, seed=1)
TEXT = """# a shop
name = "shop"
positive = "click"
threads = 1
[data]
source = "synthetic"
options = { users = 80, items = 50, events = 3000, seed = 1 }
created = "created"
[signals]
click = { kinds = ["click"] }
[tasks]
click = { signal = "click" }
[examples]
folds = 2
moments = 2
[[features]]
name = "Category"
column = "user.id"
part = "user_id"
[[features]]
name = "Category"
column = "item.id"
part = "item_id"
[[features]]
name = "RouteScore"
route = "similar"
[models.similar]
name = "ItemCF"
neighbors = 5  # as many as we like
[models.tower]
name = "DSSM"
dim = 4
hidden = [8]
training = { epochs = 3, batch_size = 128, learning_rate = 0.02, uniform = 16 }
[models.ranker]
name = "LR"
training = { epochs = 4, batch_size = 256, learning_rate = 0.02, patience = 4 }  # a few
[models.light]
name = "DSSM"
dim = 4
hidden = [8]
teacher = "ranker"
training = { epochs = 4, batch_size = 64, learning_rate = 0.01 }
[[recall]]
model = "similar"
quota = 20
[[recall]]
model = "tower"
quota = 10
[prerank]
model = "light"
keep = 15
[rank]
model = "ranker"
[evaluation]
k = [10]
[search]
models.similar.neighbors = [1, 10, 2]
"models.ranker.training.learning_rate" = { low = 1e-5, high = 0.1, log = true }
"models.light.training.learning_rate" = [1e-9, 0.03]
"models.tower.training.learning_rate" = [1e-9, 0.03]
"""
RANKED = """
name = "shop"
positive = "click"
seed = 3
threads = 1
[data]
source = "synthetic"
options = { users = 150, items = 80, events = 6000, seed = 1 }
created = "created"
[signals]
click = { kinds = ["click"] }
like = { kinds = ["like"] }
[tasks]
click = { signal = "click" }
[examples]
folds = 2
moments = 2
[[features]]
name = "Category"
column = "item.id"
part = "item_id"
[[features]]
name = "Category"
column = "user.id"
part = "user_id"
[[features]]
name = "RouteScore"
route = "itemcf"
[[features]]
name = "Category"
column = "item.category"
[models.itemcf]
name = "ItemCF"
neighbors = 20
[models.hot]
name = "Popular"
[models.ranker]
name = "DeepFM"
dim = 4
hidden = [16]
training = { epochs = 3, batch_size = 256 }
[[recall]]
model = "itemcf"
quota = 30
[[recall]]
model = "hot"
quota = 30
[rank]
model = "ranker"
[evaluation]
k = [10]
[search]
models.ranker.training.learning_rate = [1.2e-5, 0.0075]
"""


def recipe(*lines: str) -> Recipe:
    """The recipe with another [search]."""
    return Recipe.parse(TEXT[: TEXT.index("[search]")] + "[search]\n" + "\n".join(lines) if lines else TEXT)


def facts(trials: list[Trial]) -> list[tuple[Any, ...]]:
    return [(trial.number, trial.options, trial.state, trial.score, trial.scores) for trial in trials]


@pytest.fixture(scope="module")
def similar(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return search(recipe(), tmp_path_factory.mktemp("similar"), model="similar", method="grid", world=WORLD)


def test_one_neighbour_is_found_to_be_too_few(similar: Found) -> None:
    assert [trial.options for trial in similar.trials] == [{"models.similar.neighbors": n} for n in (1, 10, 2)]
    assert similar.best.options == {"models.similar.neighbors": 10}
    scores = [trial.score or 0 for trial in similar.trials]
    assert scores[1] > 1.3 * scores[0]


def test_a_hybrid_is_searched_with_its_parts_fitted_before_it(tmp_path: Path, similar: Found) -> None:
    parts = '[models.hot]\nname = "Popular"\n[models.mixed]\nname = "Weighted"\nmodels = ["hot", "similar"]\n[[recall]]\nmodel = "mixed"\n'
    text = TEXT[: TEXT.index("[search]")].replace("neighbors = 5 ", "neighbors = 10 ") + parts
    asked = Recipe.parse(text + "[search]\nmodels.mixed.fixed = [[1.0, 0.0], [0.0, 1.0]]\n")
    found = search(asked, tmp_path, model="mixed", method="grid", world=WORLD)
    assert [trial.state for trial in found.trials] == ["done", "done"]
    assert found.trials[1].score == pytest.approx(similar.trials[1].score), "of weight 1 it is the one part"
    assert found.trials[0].score != pytest.approx(similar.trials[1].score)


@pytest.mark.parametrize("model", ["ranker", "light", "tower"])
def test_a_model_that_cannot_learn_is_found_out(tmp_path: Path, model: str) -> None:
    asked, world = (Recipe.parse(RANKED), synthetic(users=150, items=80, events=6000, seed=1)) if model == "ranker" else (recipe(), WORLD)
    found = search(asked, tmp_path, model=model, method="grid", pruning="none", world=world)
    scores = [trial.score or 0 for trial in found.trials]
    assert len(scores) == 2
    assert scores[1] > 1.1 * scores[0], "the first is blind, or does not move"
    assert found.best.number == 1
    epochs = asked.models[model].training["epochs"]
    assert all(len(trial.scores) == epochs for trial in found.trials)
    kept = max if model == "ranker" else lambda values: values[-1]  # early stopping keeps the best epoch, the others their last
    assert scores == [kept(trial.scores) for trial in found.trials]


def test_what_falls_behind_is_pruned_and_named(tmp_path: Path) -> None:
    lines: list[str] = []
    asked = recipe('"models.ranker.training.learning_rate" = [0.1, 0.05, 0.03, 0.02, 1e-7]')
    found = search(asked, tmp_path, model="ranker", method="grid", world=WORLD, line=lines.append)
    assert [trial.state for trial in found.trials[:4]] == ["done"] * 4
    assert (found.trials[4].state, found.trials[4].note) == ("pruned", "behind the others after epoch 1")
    assert len(lines) == 5
    assert "pruned" in lines[4]
    assert f"best {found.best.score:.4f} (trial {found.best.number + 1})" in lines[4]
    assert "0:00 left  training.learning_rate 1e-07" in lines[4]
    page = (tmp_path / "search.html").read_text()
    assert page.count("<svg") == 2
    assert "behind the others after epoch 1" in page


def test_killed_after_three_trials_it_goes_on_to_the_same_end(tmp_path: Path) -> None:
    asked = recipe("models.similar.neighbors = { low = 1, high = 40 }")
    options: dict[str, Any] = {"model": "similar", "method": "random", "trials": 6, "world": WORLD}
    whole = search(asked, tmp_path / "whole", **options)
    told: list[str] = []

    def kill(line: str) -> None:
        told.append(line)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(asked, tmp_path / "cut", **options, line=kill)
    resumed = search(asked, tmp_path / "cut", **options, line=told.append)
    assert len(told) == 6
    assert facts(resumed.trials) == facts(whole.trials)
    assert resumed.text == whole.text
    with pytest.raises(ValueError, match="holds a search with another text"):
        search(recipe("models.similar.neighbors = [1]"), tmp_path / "cut", **options)


def poisoned(asked: Recipe) -> World:
    """The same world, but for all that comes after the cut."""
    cut = prepare(asked, WORLD).cut
    rng = np.random.default_rng(0)
    frame = WORLD.events.frame
    before, after = frame.filter(pl.col("time") < cut), frame.filter(pl.col("time") >= cut)
    size = after.height
    after = after.with_columns(
        user=pl.Series([f"new {n}" if n % 4 == 0 else f"u{n}" for n in rng.integers(0, 80, size).tolist()]),
        item=pl.Series([f"i{n}" for n in rng.integers(0, 50, size).tolist()]),
        time=pl.Series(np.r_[np.full(30, cut), np.sort(rng.integers(cut, cut + 10**9, size - 30))]),
        kind=pl.lit("click"),
    )
    made = World(Events(pl.concat([before, after])), WORLD.users, WORLD.items, "poisoned")
    assert prepare(asked, made).cut == cut
    return made


@pytest.mark.parametrize("model", ["similar", "ranker", ""])
def test_no_test_event_is_looked_at(tmp_path: Path, model: str) -> None:
    asked = recipe("models.similar.neighbors = [1, 10]", "models.ranker.training.epochs = [1]")
    worlds = {"real": WORLD, "poisoned": poisoned(asked)}
    found = [search(asked, tmp_path / name, model=model, method="grid", world=world) for name, world in worlds.items()]
    assert facts(found[0].trials) == facts(found[1].trials)
    assert found[0].best.score is not None
    assert 0.02 < found[0].best.score < 1


def test_the_recipe_that_results_keeps_its_comments_finds_its_files_and_trains(tmp_path: Path, similar: Found) -> None:
    assert "neighbors = 10  # as many as we like" in similar.text
    assert similar.text.startswith("# a shop\n")
    folder = tmp_path / "recipes"
    folder.mkdir()
    WORLD.events.of_kinds("click").frame.write_parquet(folder / "events.parquet")
    text = TEXT[TEXT.index("[signals]") : TEXT.index("[tasks]")] + '[models.similar]\nname = "ItemCF"\n[[recall]]\nmodel = "similar"\n'
    text = 'name = "files"\nthreads = 1\n[data]\nevents = "events.parquet"  # ours\n' + text + "[search]\nmodels.similar.neighbors = [1, 9]\n"
    (folder / "files.toml").write_text(text)
    found = search(folder / "files.toml", tmp_path / "out", method="grid")
    assert 'events = "../recipes/events.parquet"  # ours' in found.text
    assert Recipe.load(tmp_path / "out" / "best.toml").models["similar"].options == {"neighbors": found.best.options["models.similar.neighbors"]}
    run = train(tmp_path / "out" / "best.toml", tmp_path / "run")
    assert run.parts.models["similar"].neighbors == found.best.options["models.similar.neighbors"]


def test_the_command_in_two_processes_tries_the_same_as_in_one(tmp_path: Path, similar: Found) -> None:
    (tmp_path / "shop.toml").write_text(TEXT)
    arguments = ["search", str(tmp_path / "shop.toml"), "--model", "similar", "--method", "grid", "--out", str(tmp_path / "out"), "--jobs", "2"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [(one["options"], one["score"]) for one in told["trials"]] == [(trial.options, trial.score) for trial in similar.trials]
    assert min(one["memory"] for one in told["trials"]) > 10**8
    assert told["best"]["options"] == similar.best.options
    assert told["metric"] == "NDCG@10 (validation)"
    assert "best 0" in result.stderr
    again = CliRunner().invoke(app, arguments)
    assert "best.toml" in again.stdout


def bad(line: str, message: str) -> Any:
    return pytest.param(line, message, id=message[:40])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        bad("models.ranker.dmi = [8]", "LR has no option 'dmi'"),
        bad("models.similar.neighbours = [8]", "did you mean 'neighbors'"),
        bad("models.rankr.l2 = [8]", "no model in .models. 'rankr'; did you mean 'ranker'"),
        bad('"models.ranker.training.learning_rat" = [0.1]', "no option 'learning_rat'; did you mean 'learning_rate'"),
        bad("models.ranker.training.learning_rate = [0.1, -1]", "learning_rate must be a finite number above 0"),
        bad('models.similar.neighbors = [8, "9"]', "option 'neighbors' of ItemCF must be int, not '9'"),
        bad("models.similar.neighbors = { low = 1.5, high = 3 }", "must be int, not 1.5"),
        bad("models.similar.neighbors = { low = 5, high = 3 }", "low must be below high"),
        bad("models.similar.neighbors = { low = 5, hihg = 3 }", "no option 'hihg'; did you mean 'high'"),
        bad("models.similar.neighbors = { low = 5 }", "needs the option 'high'"),
        bad("models.similar.neighbors = 8", "must be a list of values or { low = ..., high = ... }, not 8"),
        bad("models.similar.neighbors = []", "must be a list of values"),
        bad("model.similar.neighbors = [8]", "only options of models can be searched, as models.NAME.OPTION, .*did you mean 'models'"),
        bad("models.similar = [8]", "only options of models can be searched"),
    ],
)
def test_a_bad_search_is_refused_with_its_line(line: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        recipe("", line)
    assert str(caught.value).startswith(f"recipe, line {TEXT[: TEXT.index('[search]')].count(chr(10)) + 3}: ")


def test_a_search_that_cannot_begin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"has no \[search\]"):
        search(Recipe.parse(TEXT[: TEXT.index("[search]")]), tmp_path)
    with pytest.raises(RecipeError, match=r"no model .*similer.*did you mean .similar"):
        search(recipe(), tmp_path, model="similer")
    with pytest.raises(RecipeError, match="names no option of 'light', only of similar"):
        search(recipe("models.similar.neighbors = [1]"), tmp_path, model="light")
    with pytest.raises(ValueError, match="jobs must be at least 1"):
        search(recipe(), tmp_path, jobs=0)
    with pytest.raises(ValueError, match="several processes read the data by themselves"):
        search(recipe(), tmp_path, jobs=2, world=WORLD)
    with pytest.raises(ValueError, match=r"no trial of 1 could be scored; the first one: .*dropout"):
        search(recipe("models.tower.dropout = [2.0]"), tmp_path / "d", model="tower", method="grid", world=WORLD)
    result = CliRunner().invoke(app, ["search", "x.toml", "--method", "gird"])
    assert "did you mean 'grid'" in result.stderr
