"""Two public splits and the full-ranking metrics, with numpy, scipy and polars only: what ours and a peer's interpreter both import."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Split:
    """Users x items: fitted on ``train``, asked for ``test``; items of ``seen`` are not ranked. ``k`` is the length the anchors use."""

    name: str
    train: csr_matrix
    seen: csr_matrix
    test: csr_matrix
    k: int


def _matrix(users: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    made = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
    made.sum_duplicates()
    made.data[:] = 1
    return made


def ml100k(bench_dir: Path, asked: str = "test") -> Split:
    """MovieLens-100K, 8:1:1 within each user. ``asked="valid"`` ranks for the validation items (only training items are then seen)."""
    folder = bench_dir / "splits/ml100k_general_8_1_1"
    parts = {part: pl.read_csv(folder / f"{part}.tsv", separator="\t") for part in ("train", "valid", "test")}
    ids = {name: np.unique(np.concatenate([part[name].to_numpy() for part in parts.values()])) for name in ("user_id", "item_id")}
    shape = len(ids["user_id"]), len(ids["item_id"])
    of = {p: _matrix(*(np.searchsorted(ids[name], frame[name].to_numpy()) for name in ids), shape) for p, frame in parts.items()}
    return Split("ml100k_general_8_1_1", of["train"], of["train"] + of["valid"] if asked == "test" else of["train"], of[asked], 10)


def gowalla(data_dir: Path) -> Split:
    """Gowalla, the split of LightGCN."""
    parts = {part: pl.read_parquet(data_dir / f"gowalla/{part}.parquet") for part in ("train", "test")}
    shape = (29_858, 40_981)
    train, test = (_matrix(frame["user"].to_numpy(), frame["item"].to_numpy(), shape) for frame in parts.values())
    return Split("gowalla_lightgcn", train, train, test, 20)


def music(data_dir: Path) -> Split:
    """Amazon's music, DeepCF's file: one item of each user is asked for, among all."""
    parts = [pl.read_parquet(data_dir / f"amazon-music/{part}.parquet") for part in ("train", "test_candidates")]
    train, test = (_matrix(frame["user"].to_numpy(), frame["item"].to_numpy(), (1776, 12_929)) for frame in parts)
    return Split("amazon_music", train, train, test, 20)


def cut(split: Split, share: float = 0.1, seed: int = 0) -> Split:
    """The split with a share of each user's training items to ask for in place of the test's."""
    random, train = np.random.default_rng(seed), split.train
    users = np.repeat(np.arange(train.shape[0]), np.diff(train.indptr))
    order = np.lexsort((random.random(train.nnz), users))
    place = np.arange(train.nnz) - train.indptr[:-1][users]
    asked = np.zeros(train.nnz, bool)
    asked[order] = place < (share * np.diff(train.indptr))[users].astype(np.int64)
    parts = [csr_matrix((train.data[mask], (users[mask], train.indices[mask])), train.shape) for mask in (~asked, asked)]
    return replace(split, train=parts[0], seen=parts[0], test=parts[1])


def figures(lists: np.ndarray, split: Split) -> dict[str, float]:
    """Mean Recall and NDCG at ``split.k`` over users who have test items; ``lists`` int64 ``[U, k]`` item rows, -1 for none."""
    k = split.k
    gains = 1 / np.log2(np.arange(2, k + 2))
    sizes = np.diff(split.test.indptr)
    asked = np.flatnonzero(sizes)
    found = np.zeros((len(asked), k))
    for place, user in enumerate(asked):
        found[place] = np.isin(lists[user], split.test.indices[split.test.indptr[user] : split.test.indptr[user + 1]])
    ideal = np.cumsum(gains)[np.minimum(sizes[asked], k) - 1]
    return {
        f"recall@{k}": round(float((found.sum(1) / sizes[asked]).mean()), 4),
        f"ndcg@{k}": round(float((found @ gains / ideal).mean()), 4),
    }


def ranked(scores: Callable[[np.ndarray], np.ndarray], split: Split) -> np.ndarray:
    """The first ``split.k`` of a score function ``users [B] -> [B, I]``, seen items left out, ties by item row."""
    lists = []
    for start in range(0, split.train.shape[0], 1000):
        users = np.arange(start, min(start + 1000, split.train.shape[0]))
        block = np.array(scores(users), np.float32)
        block[split.seen[users].nonzero()] = -np.inf
        first = np.sort(np.argpartition(-block, split.k, axis=1)[:, : split.k], axis=1)
        order = np.argsort(-np.take_along_axis(block, first, axis=1), axis=1, kind="stable")
        lists.append(np.take_along_axis(first, order, axis=1))
    return np.concatenate(lists)


def peak_mb() -> float:
    """This process's largest resident size so far, MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
