"""The same funnel with more routes: merged recall and final NDCG@10 on MovieLens-100K before and after, paired by user.

    python -m bench.routes [--only SASRec LightGCN EASE ComiRec YouTubeDNN] [--seed 7]

Before: ``recipes/movielens.toml``. After: with the named models as routes, of 100 candidates each, their scores and ranks read by the ranker; the
first four together where all are named, then each alone. Judged on warm users with their history fixed at the cut.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from typing import Any

from bench.funnel import RECIPES, K
from palate.evaluation import offline, stages
from palate.evaluation.judged import FINAL
from palate.evaluation.metrics.statistics import paired
from palate.evaluation.stages import Measured
from palate.funnel.trace import Trace
from palate.recipe import Recipe
from palate.workflow import past_of, train

MODELS = {
    "SASRec": 'dim = 64\nheads = 2\nloss = "full"\ntraining = { epochs = 14, batch_size = 64, learning_rate = 0.001 }',
    "LightGCN": 'loss = "softmax"\ntraining = { epochs = 30, batch_size = 256, learning_rate = 0.02 }',
    "EASE": "regularization = 250",
    "ComiRec": "dim = 64\nnegatives = 128\ntraining = { epochs = 5, batch_size = 512, learning_rate = 0.003 }",
    "YouTubeDNN": "dim = 32\nhidden = [64]\ntraining = { epochs = 4, batch_size = 512, learning_rate = 0.01 }",
}
TOGETHER = ["SASRec", "LightGCN", "EASE", "ComiRec"]  #: put in at once as well


def recipe_with(names: list[str]) -> Recipe:
    """The recipe with these as routes, and their scores and ranks as features."""
    text = (RECIPES / "movielens.toml").read_text("utf-8")
    for name in names:
        own = name.lower()
        feature = f'\n[[features]]\nname = "RouteScore"\nroute = "{own}"\n[[features]]\nname = "RouteRank"\nroute = "{own}"\n'
        route = f'\n[[recall]]\nmodel = "{own}"\nquota = 100\npriority = 10\n'
        text += f'\n[models.{own}]\nname = "{name}"\n{MODELS[name]}\n{feature}{route}'
    return Recipe.parse(text)


def measured(names: list[str], seed: int) -> tuple[Measured, dict[str, Any]]:
    begun = time.process_time()
    recipe = replace(recipe_with(names), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = train(recipe, folder, report=lambda line: print(line, file=sys.stderr, flush=True))
        cut = int(run.run.manifest["cut"])
        rows = run.base.joined(run.rows("test.parquet"))
        past = past_of(recipe, rows, (len(run.users), len(run.items)))
        asked = offline.warm(rows, cut, (recipe.evaluation.relevant or (recipe.positive,))[0])
        funnel = run.funnel(strict=True)
        quotas = {route.model: route.quota for route in recipe.recall}
        found = stages.measure(stages.observer(funnel.recommend, Trace, rank=funnel.rank), past, asked, quotas, K)
    line: dict[str, Any] = {"bench": "routes", "routes": names, "seed": seed, "users": len(asked)}
    line["merged_recall"] = round(float(found.shares["recall of merged"].mean()), 4)
    line["merged_candidates"] = round(found.sizes["merged"], 1)
    line["ndcg@10"] = round(found.systems[FINAL].mean("ndcg@10"), 4)
    for name in names:
        own = name.lower()
        line[own] = {what: round(float(found.shares[f"{what} {own}"].mean()), 4) for what in ("recall of", "only")}
    return found, line | {"cpu_seconds": round(time.process_time() - begun, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    base, line = measured([], given.seed)
    print(json.dumps(line), flush=True)
    for names in [*([TOGETHER] if set(TOGETHER) <= set(given.only) else []), *([name] for name in given.only)]:
        found, line = measured(names, given.seed)
        values = {
            "merged_recall": (found.shares["recall of merged"], base.shares["recall of merged"]),
            "ndcg@10": (found.systems[FINAL].values("ndcg@10"), base.systems[FINAL].values("ndcg@10")),
        }
        for name, (ours, before) in values.items():
            gap = paired(ours, before, base.systems[FINAL].users)
            line |= {f"more:{name}": [round(gap.difference, 4), round(gap.low, 4), round(gap.high, 4)]}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
