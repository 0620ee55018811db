"""The same funnel with other rankers: final NDCG@10 on MovieLens-100K, beside that of the recipe's own DeepFM.

    python -m bench.rankers [--only DIN DCNv2 MMoE GBDT] [--seed 7]

Each is ``recipes/movielens.toml`` with the table ``[models.ranker]`` written anew: one line where the model reads what DeepFM does, and with DIN the
histories and film ids that it is about. Judged on warm users with their history fixed at the cut; differences are paired by user.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from typing import Any

from bench.funnel import RECIPES, K
from palate.evaluation import offline
from palate.evaluation.judged import Judged, compare
from palate.recipe import Recipe
from palate.workflow import past_of, train

USER = '"user_id", "user_gender", "user_occupation", "user_age"'
IDS = f'{USER}, "history_*", "item_id", "item_genres"'
FEW = f"without = [{IDS}]"
TRAINING = "training = { epochs = 20, batch_size = 2048, learning_rate = 0.001, patience = 3 }"
RANKERS = {
    "MLP": ("hidden = [64, 32]", FEW, TRAINING),
    "DCNv2": ("dim = 8", "hidden = [64, 32]", FEW, TRAINING),
    "MMoE": ("dim = 8", "hidden = [64, 32]", FEW, TRAINING),
    "DIN": (
        "dim = 8",
        "hidden = [64, 32]",
        'without = ["user_id", "user_gender", "user_occupation", "user_age", "item_genres", "history_genres"]',
        TRAINING,
    ),
    "GBDT": (FEW,),
    "LambdaMART": (FEW,),
}


def recipe_with(model: str) -> Recipe:
    """The recipe whose ``[models.ranker]`` is this model."""
    text = (RECIPES / "movielens.toml").read_text("utf-8")
    if model == "DeepFM":
        return Recipe.parse(text)
    table = "\n".join(("[models.ranker]", f'name = "{model}"', *RANKERS[model]))
    made, count = re.subn(r"(?ms)^\[models\.ranker\]\n.*?(?=^\[)", lambda found: table + "\n\n", text)
    if count != 1:
        raise RuntimeError("the recipe has no table [models.ranker]")
    return Recipe.parse(made)


def judged(model: str, seed: int) -> tuple[Judged, dict[str, Any]]:
    from dataclasses import replace

    begun = time.process_time()
    recipe = replace(recipe_with(model), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = train(recipe, folder, report=lambda line: print(line, file=sys.stderr, flush=True))
        cut = int(run.run.manifest["cut"])
        rows = run.base.joined(run.rows("test.parquet"))
        past = past_of(recipe, rows, (len(run.users), len(run.items)))
        asked = offline.warm(rows, cut, (recipe.evaluation.relevant or (recipe.positive,))[0])
        found = offline.evaluate(run.funnel(strict=True).recommend, past, asked, K, system=model)
        validation = run.run.json("curves.json").get("ranker", {})
    line = {"bench": "rankers", "model": model, "seed": seed, "users": len(asked), "ndcg@10": round(found.mean("ndcg@10"), 4)}
    scores = validation.get("scores") or []
    return found, line | {"validation": round(max(scores), 4) if scores else None, "cpu_seconds": round(time.process_time() - begun, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=["DIN", "DCNv2", "MMoE", "GBDT"], choices=list(RANKERS))
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    base, line = judged("DeepFM", given.seed)
    print(json.dumps(line), flush=True)
    for model in given.only:
        found, line = judged(model, given.seed)
        paired = compare(found, base, "ndcg@10")
        gap = {"minus_deepfm": round(paired.difference, 4), "low": round(paired.low, 4), "high": round(paired.high, 4)}
        print(json.dumps(line | gap), flush=True)


if __name__ == "__main__":
    main()
