"""A small real run to serve: 40 people, 60 things of four kinds, names in several scripts, trained by the workflow itself."""

from __future__ import annotations

import csv
import random
from pathlib import Path

DAY = 86_400
START = 1_700_000_000
KINDS = ("tea", "café", "酒", "water")

RECIPE = """
name = "small"
seed = 1
positive = "took"
fallback = "popular"

[data]
events = "events.csv"
users = "users.csv"
items = "items.csv"
kind = "click"

[signals]
took = { kinds = ["click", "rating"] }
liked = { kinds = ["rating"], min_value = 4 }

[state]
windows = [7, 0]
bucket = 1
history = 50

[models.popular]
name = "Popular"
[models.fresh]
name = "Fresh"
[models.itemcf]
name = "ItemCF"
neighbors = 20

[[recall]]
model = "itemcf"
quota = 40
priority = 2
[[recall]]
model = "popular"
quota = 100
[[recall]]
model = "fresh"
quota = 10
"""


def item(number: int) -> str:
    """Ids that hurt: with slashes, spaces, percent signs and other scripts."""
    return {3: "a/b c", 4: "100%", 5: "ürün-五", 6: "x?y=1&z#q", 7: "..", 8: "'; DROP TABLE items;--"}.get(number, f"i{number}")


def user(number: int) -> str:
    return {2: "zoë/2", 3: "../../etc"}.get(number, f"u{number}")


def write_tables(folder: Path, seed: int = 3) -> None:
    """events.csv, users.csv, items.csv and recipe.toml. Each person has a favourite kind and takes it three times out of four."""
    chance = random.Random(seed)
    kinds = [KINDS[number % 4] for number in range(60)]
    with open(folder / "items.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "kind"])
        rows.writerows([item(n), f"Thing {n}", kinds[n]] for n in range(60))
    with open(folder / "users.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "town"])
        rows.writerows([user(n), ("north", "south")[n % 2]] for n in range(40))
    with open(folder / "events.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "time", "kind", "value"])
        for n in range(40):
            favourite = [i for i in range(60) if kinds[i] == KINDS[n % 4]]
            taken: set[int] = set()
            for step in range(16):
                wanted = chance.choice(favourite) if chance.random() < 0.75 else chance.randrange(60)
                if wanted in taken:
                    continue
                taken.add(wanted)
                rated = chance.random() < 0.3
                moment = START + step * DAY + n * 60
                rows.writerow([user(n), item(wanted), moment, "rating" if rated else "click", chance.randint(1, 5) if rated else ""])
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")


def make_run(folder: Path) -> Path:
    """Train the recipe; the run's folder."""
    from palate.workflow import train

    write_tables(folder)
    train(folder / "recipe.toml", folder / "run", holdout=False)
    return folder / "run"
