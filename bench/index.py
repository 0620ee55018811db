"""Vector indexes: recall@100 against queries per CPU second, beside every vector compared.

    python -m bench.index [--items 100000] [--queries 300] [--data-dir FOLDER]

The made vectors have the shape of trained ones: directions in clusters of unequal size under a falling spectrum, lengths of a long tail, and users
who are not items but sums of a few. With ``--data-dir`` the iALS vectors of Gowalla's 40,981 items (``gowalla/train.parquet``) are searched too.
Queries are asked one at a time, as a request does, on one thread; CPU seconds are the process's; the best of three rounds counts.
One JSON line a measurement: each is a point of the recall/latency curve.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the libraries are loaded: one query is too little for two threads
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import polars as pl

from palate.candidates import Floats, Ints
from palate.datasets.interactions import Interactions
from palate.index.exact import Exact
from palate.index.hnsw import HNSW
from palate.index.ivf import IVF
from palate.recall.factor.ials import IALS
from palate.state.rows import EventRows

K = 100
SEARCH, PROBES = (8, 16, 32, 64, 128), (4, 8, 12, 16, 32, 64)


def made(items: int, users: int, dim: int = 64, clusters: int = 400, seed: int = 0) -> tuple[Floats, Floats]:
    """Vectors of items ``[items, dim]`` and of users ``[users, dim]``."""
    rng = np.random.default_rng(seed)
    spectrum = 1.0 / np.sqrt(1.0 + np.arange(dim) / 4.0)
    centres = rng.standard_normal((clusters, dim)) * spectrum
    share = rng.dirichlet(np.full(clusters, 0.5))
    direction = centres[rng.choice(clusters, items, p=share)] + 0.6 * rng.standard_normal((items, dim)) * spectrum
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    vectors = (direction * np.exp(0.5 * rng.standard_normal((items, 1)))).astype(np.float32)
    tastes = rng.choice(clusters, (users, 3), p=share)
    taken = centres[tastes].mean(1) + 0.4 * rng.standard_normal((users, dim)) * spectrum
    return vectors, taken.astype(np.float32)


def gowalla(folder: Path, users: int, dim: int = 64) -> tuple[Floats, Floats]:
    """iALS vectors of the items and of some users."""
    frame = pl.read_parquet(folder / "gowalla" / "train.parquet")
    ids = [frame[side].to_numpy().astype(np.int64) for side in ("user", "item")]
    nothing = np.zeros(len(frame), np.int64)
    rows = EventRows(ids[0], ids[1], nothing, nothing.astype(np.uint32), nothing.astype(np.float32), ("taken",))
    model = IALS(dim=dim).fit(Interactions.of(rows, int(ids[0].max()) + 1, int(ids[1].max()) + 1))
    chosen = np.random.default_rng(0).choice(len(model.user_factors), users, replace=False)
    return np.ascontiguousarray(model.items[:, :dim]), np.ascontiguousarray(model.user_factors[chosen][:, :dim])


def cpu_seconds(index: Any, queries: Floats) -> tuple[float, Ints]:
    """Of the quickest of three rounds, and what was found."""
    best, found = np.inf, np.empty((0, K), np.int64)
    for _ in range(3):
        begun = time.process_time()
        found = np.concatenate([index.search(queries[b : b + 1], K)[0] for b in range(len(queries))])
        best = min(best, time.process_time() - begun)
    return best, found


def measured(name: str, vectors: Floats, queries: Floats) -> Iterator[dict[str, Any]]:
    ids = np.arange(len(vectors))
    exact = Exact().fit(vectors, ids)
    exact.search(queries[:1], K)  # compiled
    base, right = cpu_seconds(exact, queries)
    shared = {"bench": "index", "vectors": name, "items": len(vectors), "dim": vectors.shape[1], "k": K}
    yield {
        **shared,
        "index": "Exact",
        "recall": 1.0,
        "per_cpu_second": round(len(queries) / base),
        "us": round(1e6 * base / len(queries)),
        "ratio": 1.0,
    }
    begun = time.process_time()
    exact.search(queries, K)
    yield {**shared, "index": "Exact", "in_bulk": True, "per_cpu_second": round(len(queries) / (time.process_time() - begun))}
    kinds: tuple[tuple[type[HNSW] | type[IVF], str, tuple[int, ...], Literal[8, 32]], ...] = (
        (IVF, "probes", PROBES, 32),
        (IVF, "probes", PROBES, 8),
        (HNSW, "seen", SEARCH, 32),
        (HNSW, "seen", SEARCH, 8),
    )
    for kind, option, values, bits in kinds:
        begun = time.process_time()
        standard = kind().bits == bits
        index = kind(bits=bits).fit(vectors, ids)
        build = time.process_time() - begun
        usual = getattr(index, option)
        for value in values:
            setattr(index, option, value)
            took, found = cpu_seconds(index, queries)
            recall = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found.tolist(), right.tolist(), strict=True)]))
            point = {
                "index": kind.__name__,
                "bits": bits,
                "search" if kind is HNSW else option: value,
                "default": standard and value == usual,
                "build_cpu_s": round(build, 1),
            }
            speed = {"per_cpu_second": round(len(queries) / took), "us": round(1e6 * took / len(queries)), "ratio": round(base / took, 1)}
            yield {**shared, **point, "recall": round(recall, 4), **speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    worlds = {"made": made(options.items, options.queries)}
    if options.data_dir is not None:
        worlds["gowalla"] = gowalla(options.data_dir, options.queries)
    for name, (vectors, queries) in worlds.items():
        for line in measured(name, vectors, queries):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
