"""The protocols of new users and of sessions on a whole recipe: who asks, and what knowing a part of what they did is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from palate.assembly import Parts
from palate.evaluation import offline
from palate.recipe import Recipe
from palate.tables.sources.synthetic import synthetic
from palate.workflow import Training, evaluate, past_of, prepare, train

WORLD = synthetic(users=200, items=150, events=16_000, seed=3)
TEXT = """
name = "shop"
positive = "click"
threads = 1
[data]
source = "synthetic"
[signals]
click = { kinds = ["click"] }
[models.similar]
name = "ItemCF"
[[recall]]
model = "MODEL"
quota = 30
[evaluation]
k = [10]
samples = 20
[split]
"""


def test_new_users_are_asked_after_a_part_of_what_they_did(tmp_path: Path) -> None:
    recipe = Recipe.parse(TEXT.replace("MODEL", "similar") + 'name = "new_users"\nratio = 0.7\n')
    run = train(recipe, tmp_path / "run", world=WORLD)
    held = run.rows("test.parquet")
    assert not set(held.users.tolist()) & set(run.base.users.tolist())
    assert len(np.unique(run.base.users)) == len(set(WORLD.events.of_kinds("click").frame["user"])) - len(np.unique(held.users))
    found = evaluate(run)
    assert found["funnel"]["protocol"] == "strong generalisation"
    assert found["protocols"] == []
    assert 20 < found["funnel"]["questions"] <= 60
    assert "nothing was learnt from those who are held out" in found["subtitle"]
    asked = offline.fold_in(held, "click")
    past = past_of(recipe, run.base, (len(run.users), len(run.items)))
    folded = offline.evaluate(run.funnel(strict=True).recommend, past, asked, (10,)).mean("ndcg@10")
    final = next(one for one in found["funnel"]["systems"] if one["system"] == "funnel")
    assert final["metrics"]["ndcg@10"]["value"] == round(folded, 12)
    assert folded > 0.1, "ten items by chance give about 0.05"


def test_a_session_is_gone_on_with_from_its_own_beginning() -> None:
    recipe = Recipe.parse(TEXT.replace("MODEL", "similar") + 'name = "by_session"\nratio = 0.7\n')
    data = prepare(recipe, WORLD)
    parts = Parts(recipe, data.items, data.users, models=Training(recipe, data).recall(data.train, data.cut, "the earlier events"))
    rows = data.train.joined(data.rest())
    asked = offline.prefixes(rows, data.cut, "click")
    assert len(asked) > 200
    assert asked.now.min() >= data.cut
    assert asked.known is not None
    assert (asked.now[np.repeat(np.arange(len(asked)), np.diff(asked.known.offsets))] - asked.known.times < 1_800_000 * 4).all()
    past = past_of(recipe, rows, (len(data.users), len(data.items)))
    judged = offline.evaluate(parts.funnel(strict=True).recommend, past, asked, (10,), exclude_seen=False)
    assert judged.label == "full ranking"
    assert judged.protocol == "session prefixes"
    by_chance = 10 / len(data.items)
    assert judged.mean("hit@10") > 1.5 * by_chance
    assert set(judged.groups) == {"one event known", "two to four", "five or more"}
