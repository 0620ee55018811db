"""The whole funnel against every single route of its own: MovieLens-100K, MovieLens-1M, and a synthetic world whose optimum is known.

``python -m bench.funnel [--data-dir F] [--only ml100k ml1m synthetic] [--seeds 1]`` prints one JSON line a system. Judged on warm users with their
history fixed at the cut; every difference is paired by user with its bootstrap interval.

Recipes are chosen on validation, but not blindly: these figures had been seen when the recipes took their present form.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from palate.assembly import OpenRun
from palate.candidates import DAY, Candidates, Request
from palate.evaluation import offline
from palate.evaluation.judged import Judged, compare
from palate.recipe import Recipe
from palate.tables.events import Events
from palate.tables.sources.synthetic import synthetic
from palate.tables.world import World
from palate.workflow import past_of, train

RECIPES = Path(__file__).parents[1] / "recipes"
K = (10, 20)


def ml1m(folder: Path) -> World:
    """MovieLens-1M with the place in each user's own order as the time: the last 10 % of every user lie after one moment.

    Ratings whose place is unknown (order -1) are left out.
    """
    ratings = pl.read_parquet(folder / "ratings.parquet").filter(pl.col("order") >= 0)
    share = pl.col("order").rank("ordinal").over("user_id") / pl.len().over("user_id")
    frame = ratings.select(
        user=pl.col("user_id").cast(pl.String),
        item=pl.col("movie_id").cast(pl.String),
        time=((share * 1000).ceil() * DAY).cast(pl.Int64) + 10_000 * DAY,
        kind=pl.lit("rating"),
        value=pl.col("rating").cast(pl.Float32),
    )
    events, _ = Events.of(frame.sort("time", maintain_order=True), now=20_000 * DAY)
    users = pl.read_parquet(folder / "users.parquet").rename({"user_id": "id"}).with_columns(pl.col("age").cast(pl.Int64))
    movies = pl.read_parquet(folder / "movies.parquet").rename({"movie_id": "id"})
    movies = movies.with_columns(pl.col("genres").str.split("|"), year=pl.col("title").str.extract(r"\((\d{4})\)$").cast(pl.Int64))
    return World(events=events, users=users, items=movies, name="MovieLens-1M")


def plan(name: str, data_dir: Path, seed: int) -> tuple[Recipe, World | None]:
    """The recipe and world of one case."""
    recipe = Recipe.load(RECIPES / ("synthetic.toml" if name == "synthetic" else "movielens.toml"))
    recipe = replace(recipe, seed=seed)
    if name == "ml1m":
        examples = replace(recipe.examples, folds=3, share=0.3, moments=2, requests=4000)
        return replace(recipe, name="ml1m", split={"name": "global_time", "ratio": 0.9}, examples=examples), ml1m(data_dir / "ml-1m")
    if name == "synthetic":
        return recipe, synthetic(users=2000, items=1000, events=400_000, seed=seed)
    return recipe, None


def judge(name: str, run: OpenRun, world: World | None) -> list[dict[str, Any]]:
    """The final list and each route alone on the same questions."""
    recipe, cut = run.recipe, int(run.run.manifest["cut"])
    rows = run.base.joined(run.rows("test.parquet"))
    past = past_of(recipe, rows, (len(run.users), len(run.items)))
    asked = offline.warm(rows, cut, (recipe.evaluation.relevant or (recipe.positive,))[0])
    funnel = run.funnel(strict=True)
    systems = {"funnel": offline.evaluate(funnel.recommend, past, asked, K, system="funnel")}
    for route in funnel.routes:
        systems[route.name] = offline.evaluate(route.retriever.retrieve, past, asked, K, system=route.name)
    lines = []
    for system, judged in systems.items():
        line: dict[str, Any] = {"bench": "funnel", "case": name, "system": system, "protocol": "warm users, history fixed at the cut, full ranking"}
        line |= {"users": len(asked), "ndcg@10": round(judged.mean("ndcg@10"), 4), "recall@20": round(judged.mean("recall@20"), 4)}
        if system != "funnel":
            paired = compare(systems["funnel"], judged, "ndcg@10")
            line |= {"funnel_minus_route": round(paired.difference, 4), "low": round(paired.low, 4), "high": round(paired.high, 4)}
        if world is not None and world.truth is not None:
            line["expected_click_rate@10"] = round(Known(run, world.truth).rate(judged), 4)
        lines.append(line)
    if world is not None and world.truth is not None:
        lines += bounds(name, asked, past, Known(run, world.truth))
    return lines


class Known:
    """The world's truth by catalogue row: a synthetic id is a letter and the world's own row."""

    def __init__(self, run: OpenRun, truth: Any) -> None:
        self.truth = truth
        self.users, self.items = (np.array([int(one[1:]) for one in catalogue.ids]) for catalogue in (run.users, run.items))
        self.rows = np.full(self.items.max() + 1, -1, np.int64)
        self.rows[self.items] = np.arange(len(self.items))

    def rate(self, judged: Judged) -> float:
        """Mean known probability of a click over the first ten of each list."""
        items = judged.items[:, :10]
        there = items.ravel() >= 0
        users = np.repeat(judged.users, items.shape[1])[there]
        return float(self.truth.probability(self.users[users], self.items[items.ravel()[there]]).mean())

    def best(self, user: int, k: int, exclude: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Catalogue rows of the k items this user would click most surely, of those not excluded and known to the run."""
        rows = self.rows[self.truth.best(int(self.users[user]), len(self.rows), self.items[exclude])]
        return rows[rows >= 0][:k]


def bounds(name: str, asked: offline.Questions, past: Any, known: Known) -> list[dict[str, Any]]:
    """What the best and a random list would get, by the world's own truth."""
    rng = np.random.default_rng(0)

    def best(request: Request, k: int) -> Candidates:
        assert request.exclude is not None
        lists = [known.best(user, k, request.exclude[b]) for b, user in enumerate(request.users)]
        return Candidates(np.concatenate(lists), np.zeros(sum(map(len, lists)), np.float32), np.r_[0, np.cumsum([len(x) for x in lists])])

    def at_random(request: Request, k: int) -> Candidates:
        items = np.concatenate([rng.choice(past.n_items, k, replace=False) for _ in request.users])
        return Candidates(items, np.zeros(len(items), np.float32), np.arange(len(request) + 1) * k)

    lines = []
    for system, recommend in (("optimum", best), ("random", at_random)):
        judged = offline.evaluate(recommend, past, asked, K, system=system)
        line = {"bench": "funnel", "case": name, "system": system, "ndcg@10": round(judged.mean("ndcg@10"), 4)}
        lines.append({**line, "expected_click_rate@10": round(known.rate(judged), 4)})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=["ml100k", "ml1m", "synthetic"], choices=["ml100k", "ml1m", "synthetic"])
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    for name in chosen.only:
        if name == "ml1m" and not (chosen.data_dir / "ml-1m").is_dir():
            print(json.dumps({"bench": "funnel", "case": name, "left_out": f"no {chosen.data_dir / 'ml-1m'}"}), flush=True)
            continue
        for seed in range(chosen.seeds):
            with tempfile.TemporaryDirectory() as folder:
                wall, cpu = time.perf_counter(), time.process_time()
                recipe, world = plan(name, chosen.data_dir, 7 + seed)
                run = train(recipe, folder, world=world, report=lambda line: print(line, file=sys.stderr, flush=True))
                facts = {
                    "seed": 7 + seed,
                    "train_seconds": round(time.perf_counter() - wall, 1),
                    "train_cpu_seconds": round(time.process_time() - cpu, 1),
                }
                for line in judge(name, run, world):
                    print(json.dumps({**line, **facts}), flush=True)


if __name__ == "__main__":
    main()
