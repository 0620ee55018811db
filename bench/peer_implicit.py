"""The peer of ``bench.recall``: implicit's ALS and cosine neighbours, run by an interpreter that has implicit, numpy, scipy and polars.

    python -m bench.peer_implicit CASE DATA_DIR BENCH_DIR SEEDS

CASE is one of ``bench.recall``'s. One JSON line a fit; CPU seconds of ``fit`` alone, one thread.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import implicit.als
import implicit.nearest_neighbours
import numpy as np

from bench.ranked import figures, gowalla, ml100k, peak_mb, ranked


def main(case: str, data_dir: str, bench_dir: str, seeds: str) -> None:
    split = gowalla(Path(data_dir)) if "gowalla" in case else ml100k(Path(bench_dir))
    settings = {"ials-ml100k": (30.0, 4.0), "ials-ml100k-weak": (0.05, 10.0), "ials-gowalla": (10.0, 8.0)}.get(case, (0.0, 0.0))
    before = peak_mb()
    for seed in range(int(seeds) if case.startswith("ials-ml100k") else 1):
        model: Any
        if case.startswith("ials"):
            model = implicit.als.AlternatingLeastSquares(
                64, regularization=settings[0], alpha=settings[1], iterations=15, num_threads=1, random_state=seed, use_gpu=False
            )
        else:
            model = implicit.nearest_neighbours.CosineRecommender(K=100, num_threads=1)
        start = time.process_time()
        model.fit(split.train, show_progress=False)
        seconds = time.process_time() - start
        peak = peak_mb()

        def scores(users: np.ndarray, model: Any = model) -> np.ndarray:
            if case.startswith("ials"):
                return np.asarray(model.user_factors[users] @ model.item_factors.T)
            return np.asarray((split.train[users] @ model.similarity).toarray())

        line = {"case": case, "by": "implicit " + implicit.__version__, "seed": seed, "cpu_seconds": round(seconds, 3)}
        print(json.dumps(line | {"rss_before_mb": before, "rss_fit_mb": peak} | figures(ranked(scores, split), split)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
