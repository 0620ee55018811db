"""How good is a list? In a made world one can ask the truth: train on its log, then compare with chance and with the best possible.

python examples/a_world_with_known_tastes.py
"""

from __future__ import annotations

import tempfile

import numpy as np

import palate
from palate.tables.sources.synthetic import synthetic

RECIPE = """
name = "made"
positive = "click"
[data]
source = "synthetic"
[signals]
click = { kinds = ["click"] }
[models.taste]
name = "IALS"
dim = 16
[models.similar]
name = "ItemCF"
[models.hot]
name = "Popular"
[[recall]]
model = "taste"
[[recall]]
model = "similar"
[[recall]]
model = "hot"
"""


def main(people: int = 200, k: int = 10) -> dict[str, float]:
    """Mean probability that a listed item is clicked when looked at: chance, the most popular, ours, the best that could be listed."""
    world = synthetic(users=500, items=300, events=60_000, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        run = palate.train(palate.Recipe.parse(RECIPE), folder, world=world, holdout=False)
        with palate.Recommender.load(run) as recommender:
            ours = [recommender.recommend(f"u{user}", k, log=False).ids for user in range(people)]
    clicks = world.events.frame.filter(kind="click")
    popular = clicks["item"].value_counts(sort=True)["item"].to_list()
    rows = {item: row for row, item in enumerate(world.items["id"])}
    chance: dict[str, list[float]] = {"any item": [], "the most popular": [], "palate": [], "the best": []}
    for user in range(people):
        taken = {rows[item] for item in clicks.filter(user=f"u{user}")["item"]}
        likely = world.truth.of_user(user)
        chance["any item"].append(float(likely.mean()))
        chance["the most popular"].append(float(np.mean([likely[rows[item]] for item in popular if rows[item] not in taken][:k])))
        chance["palate"].append(float(np.mean([likely[rows[item]] for item in ours[user]])))
        chance["the best"].append(float(likely[world.truth.best(user, k, exclude=sorted(taken))].mean()))
    return {name: float(np.mean(values)) for name, values in chance.items()}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<18}{value:.3f}")
