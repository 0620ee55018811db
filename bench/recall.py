"""iALS and ItemCF beside implicit: quality, CPU seconds of the fit, memory, and what one request costs.

    python -m bench.recall --data-dir FOLDER --bench-dir FOLDER [--seeds 5] [--peers PYTHON] [CASE ...]

BENCH_DIR holds ``splits/ml100k_general_8_1_1``, DATA_DIR ``gowalla/``. ``--peers`` names an interpreter (or an environment's folder) that has
implicit; it then runs each case right after ours. One JSON line a fit, then one with the ratio. Every case runs in a process of its own,
on one thread. Compilation is outside ``cpu_seconds`` and reported as ``jit_seconds``. Settings are the peer's (chosen on validation
rows for ML-100K, untuned for Gowalla); implicit counts ``alpha`` where Hu et al. count ``1 + alpha``, so ours is one less.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.ranked import Split, figures, gowalla, ml100k, peak_mb, ranked
from palate.candidates import Histories, Ragged, Request
from palate.datasets.interactions import Interactions
from palate.recall.factor.ials import IALS
from palate.recall.neighbor.itemcf import ItemCF

CASES = ("ials-ml100k", "ials-ml100k-weak", "ials-gowalla", "itemcf-ml100k", "itemcf-gowalla")


def interactions(split: Split) -> Interactions:
    """The training matrix as what models are fitted on (these splits are ranked without times)."""
    train = split.train
    return Interactions(train.indptr.astype(np.int64), train.indices.astype(np.int64), train.data, np.zeros(train.nnz, np.int64), train.shape[1])


def request(split: Split, users: np.ndarray, limit: int | None = None) -> Request:
    """What these users ask: their training items as history (the last ``limit``), their seen items excluded."""
    rows = [split.train.indices[split.train.indptr[u] : split.train.indptr[u + 1]] for u in users]
    history = Ragged.of([row[-limit:] if limit else row for row in rows])
    seen = Ragged.of([split.seen.indices[split.seen.indptr[u] : split.seen.indptr[u + 1]] for u in users])
    n = len(history.values)
    signals, values = np.zeros(n, np.uint32), np.full(n, np.nan, np.float32)
    now = np.zeros(len(users), np.int64)
    return Request(users.astype(np.int64), Histories(history.values, np.zeros(n, np.int64), signals, values, history.offsets), now, exclude=seen)


def retrieved(model: IALS | ItemCF, split: Split) -> np.ndarray:
    """Each user's first ``split.k``, item rows ``[U, k]``, -1 for none."""
    users = np.arange(split.train.shape[0])
    found = model.retrieve(request(split, users), split.k)
    lists = np.full((len(users), split.k), -1)
    lists[found.requests, np.arange(len(found.items)) - np.repeat(found.offsets[:-1], np.diff(found.offsets))] = found.items
    return lists


def microseconds(model: IALS | ItemCF, split: Split, k: int = 200, most: int = 500) -> dict[str, float]:
    """Time of one request with up to 200 history items, p50 and p99."""
    spans = []
    for user in range(min(most, split.train.shape[0])):
        one = request(split, np.array([user]), 200)
        start = time.perf_counter()
        model.retrieve(one, k)
        spans.append((time.perf_counter() - start) * 1e6)
    return {"request_p50_us": round(float(np.percentile(spans, 50)), 1), "request_p99_us": round(float(np.percentile(spans, 99)), 1)}


def ials(split: Split, case: str, seeds: int) -> Iterator[dict[str, Any]]:
    """One line a seed: factors as fitted (what implicit ranks by) and answers from the history (what we serve)."""
    regularization, alpha = {"ials-ml100k": (30.0, 3.0), "ials-ml100k-weak": (0.05, 9.0), "ials-gowalla": (10.0, 7.0)}[case]
    data = interactions(split)
    small = Interactions(np.array([0, 1, 2]), np.array([0, 1]), np.ones(2, np.float32), np.zeros(2, np.int64), 2)
    start = time.process_time()
    IALS(64, iterations=1).fit(small)
    jit, before = time.process_time() - start, peak_mb()
    for seed in range(seeds if "ml100k" in case else 1):
        model = IALS(64, regularization, alpha, iterations=15, seed=seed)
        start = time.process_time()
        model.fit(data)
        seconds, peak = time.process_time() - start, peak_mb()
        line = {"seed": seed, "cpu_seconds": round(seconds, 3), "jit_seconds": round(jit, 3), "rss_before_mb": before, "rss_fit_mb": peak}
        fitted = figures(ranked(lambda users, m=model: m.user_factors[users] @ m.items.T, split), split)
        served = {f"served_{name}": value for name, value in figures(retrieved(model, split), split).items()}
        yield line | fitted | served | microseconds(model, split)


def itemcf(split: Split, case: str, seeds: int) -> Iterator[dict[str, Any]]:
    """Each target's 100 nearest (RecBole's way) and each source's (implicit's way)."""
    data = interactions(split)
    small = Interactions(np.array([0, 2]), np.array([0, 1]), np.ones(2, np.float32), np.zeros(2, np.int64), 2)
    start = time.process_time()
    ItemCF(2).fit(small)
    jit, before = time.process_time() - start, peak_mb()
    for keep in ("source", "target"):
        model = ItemCF(100, keep=keep)  # type: ignore[arg-type]
        start = time.process_time()
        model.fit(data)
        seconds, peak = time.process_time() - start, peak_mb()
        line = {"keep": keep, "cpu_seconds": round(seconds, 3), "jit_seconds": round(jit, 3), "rss_before_mb": before, "rss_fit_mb": peak}
        yield line | figures(retrieved(model, split), split) | microseconds(model, split)


def one(case: str, data_dir: Path, bench_dir: Path, seeds: int) -> None:
    split = gowalla(data_dir) if "gowalla" in case else ml100k(bench_dir)
    for line in (ials if case.startswith("ials") else itemcf)(split, case, seeds):
        print(json.dumps({"case": case, "by": "palate"} | line), flush=True)


def run(command: list[str]) -> list[dict[str, Any]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parent.parent)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for line in lines:
        print(json.dumps(line), flush=True)
    return lines


def compared(case: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means, the peer's standard deviation over seeds, and the ratios of CPU seconds and of memory that the fit added."""
    line: dict[str, Any] = {"case": case, "compared": "palate / implicit"}
    ours = [one for one in ours if one.get("keep", "source") == "source"]  # like with like: implicit keeps each source's neighbours
    for name in (name for name in theirs[0] if "@" in name):
        a, b = ([one[name] for one in lines] for lines in (ours, theirs))
        line[name] = [round(float(np.mean(a)), 4), round(float(np.mean(b)), 4)]
        if len(b) > 1:
            line[name].append(round(float(np.std(b, ddof=1)), 4))
    seconds = [float(np.mean([one["cpu_seconds"] for one in lines])) for lines in (ours, theirs)]
    added = [round(lines[0]["rss_fit_mb"] - lines[0]["rss_before_mb"], 1) for lines in (ours, theirs)]
    return line | {
        "cpu_ratio": round(seconds[0] / seconds[1], 3),
        "rss_fit_mb": [lines[0]["rss_fit_mb"] for lines in (ours, theirs)],
        "added_mb": added,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all if none is given")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--bench-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", default="", help="an interpreter, or the folder of an environment, that has implicit")
    parser.add_argument("--here", action="store_true", help="run the one case in this process")
    options = parser.parse_args()
    data_dir, bench_dir = options.data_dir.resolve(), options.bench_dir.resolve()
    if options.here:
        return one(options.cases[0], data_dir, bench_dir, options.seeds)
    wrong = set(options.cases) - set(CASES)
    if wrong:
        parser.error(f"no case {', '.join(wrong)}; known: {', '.join(CASES)}")
    peer = f"{Path(options.peers).resolve()}/bin/python" if Path(options.peers).is_dir() and options.peers else options.peers
    rest = ["--data-dir", str(data_dir), "--bench-dir", str(bench_dir), "--seeds", str(options.seeds), "--here"]
    for case in options.cases or CASES:
        ours = run([sys.executable, "-m", "bench.recall", case, *rest])
        if peer:
            theirs = run([peer, "-m", "bench.peer_implicit", case, str(data_dir), str(bench_dir), str(options.seeds)])
            print(json.dumps(compared(case, ours, theirs)), flush=True)
    return None


if __name__ == "__main__":
    main()
