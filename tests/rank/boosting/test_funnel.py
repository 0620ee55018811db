"""A recipe names boosted trees as its ranker by one line: trained, published, opened, asked; a teacher as well."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from palate.assembly import OpenRun, open_run
from palate.contracts import Forest
from palate.recipe import Recipe, RecipeError
from palate.state.past import Past
from palate.tables.sources.synthetic import synthetic
from palate.workflow import evaluate, train

TEXT = (Path(__file__).parents[3] / "recipes" / "synthetic.toml").read_text(encoding="utf-8")
WORLD = synthetic(users=120, items=100, events=5000, seed=2)
TRAINED = re.search(r"(?ms)^\[models\.ranker\]\n.*?(?=^\[)", TEXT).group(0)  # type: ignore[union-attr]


def recipe(name: str, more: str = "") -> str:
    return TEXT.replace(TRAINED, f'[models.ranker]\nname = "{name}"\n{more}\n')


def answers(run: OpenRun, one_by_one: bool = False) -> tuple[np.ndarray, np.ndarray]:
    past = Past(run.base, len(run.users), len(run.items), run.windows, run.bucket, run.history_limit)
    funnel, asked = run.funnel(strict=True), [np.arange(-1, 30)] if not one_by_one else [np.array([user]) for user in range(-1, 30)]
    found = [funnel.recommend(past.request(users, np.full(len(users), run.run.manifest["cut"])), 10) for users in asked]
    return np.concatenate([one.items for one in found]), np.concatenate([one.scores for one in found])


@pytest.mark.parametrize("name", ["GBDT", "LambdaMART", "GBDTLR"])
def test_one_line_makes_it_the_ranker(tmp_path: Path, name: str) -> None:
    text = recipe(name, "trees = 40").replace('[[rerank]]\nname = "Explore"\nshare = 0.2\n', "")
    assert "Explore" not in text
    run = train(Recipe.parse(text), tmp_path / "run", world=WORLD)
    ranker = run.parts.models["ranker"]
    assert isinstance(ranker, Forest)
    assert ranker.tasks == ("click", "like", "buy")
    again = open_run(run.folder)
    assert run.parts.models["light"] is not None  # distilled from it
    for one, other, alone in zip(answers(run), answers(again), answers(again, one_by_one=True), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, alone, rtol=1e-5)
    assert len(np.unique(answers(run)[1])) > 50
    if name == "GBDT":
        assert evaluate(run)["funnel"]
        other = train(Recipe.parse(text), tmp_path / "other", world=WORLD)
        first, second = (one.run.manifest["files"]["model-ranker.safetensors"]["sha256"] for one in (run, other))
        assert first == second


def test_what_does_not_fit_a_forest_is_named_with_its_line() -> None:
    for more, text in (
        ("training = { epochs = 3 }", "fitted without training"),
        ("treees = 3", "did you mean 'trees'"),
        ("trees = 0", "trees must be 1 or more"),
        ('trees = "many"', "option 'trees' of GBDT must be int"),
        ('teacher = "light"', "fitted without teacher"),
    ):
        with pytest.raises(RecipeError, match=rf"line \d+: .*{text}"):
            Recipe.parse(recipe("GBDT", more))
    left_out = Recipe.parse(recipe("GBDT", 'without = ["user_*"]'))
    assert left_out.models["ranker"].without == ("user_*",)


def test_without_the_library_a_recipe_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(RecipeError, match=r"pip install 'palate\[trees\]'"):
        Recipe.parse(recipe("GBDT"))
    assert Recipe.parse(TEXT)
