"""Two public splits and the full-ranking metrics, with numpy, scipy and polars only: what ours and a peer's interpreter both import."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds


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


def cut(split: Split, share: float = 0.1, seed: int = 0, together: bool = False) -> Split:
    """The split with a share of each user's training items to ask for in place of the test's: drawn at random, or ``together``: what lies nearest to
    one drawn item.

    Gowalla's test rows are no random part. On a random fifth of its train ItemCF has .95 of plain GF-CF's NDCG@20, on the test rows .81, on a fifth
    that lies together .80; UserCF .94, .89 and .89; SLIM on the last two .97 and .96; GF-CF with alpha .1 instead of .3 .97 and .95.
    """
    random, train = np.random.default_rng(seed), split.train
    counts, first = np.diff(train.indptr), train.indptr[:-1]
    users = np.repeat(np.arange(train.shape[0]), counts)
    if together:
        vectors = _vectors(train)
        drawn = (first + (random.random(len(counts)) * counts).astype(np.int64))[users]
        apart = -np.einsum("ij,ij->i", vectors[train.indices], vectors[train.indices[drawn]])
        apart[drawn] = -np.inf
    else:
        apart = random.random(train.nnz)
    order = np.lexsort((apart, users))
    place = np.arange(train.nnz) - first[users]
    asked = np.zeros(train.nnz, bool)
    asked[order] = place < (share * counts)[users].astype(np.int64)
    parts = [csr_matrix((train.data[mask], (users[mask], train.indices[mask])), train.shape) for mask in (~asked, asked)]
    return replace(split, train=parts[0], seen=parts[0], test=parts[1])


def _vectors(train: csr_matrix, dim: int = 64) -> np.ndarray:
    """Items' directions ``[I, dim]`` in a truncated SVD of ``D^-1/2 train D^-1/2``."""
    by_user, by_item = (1 / np.sqrt(np.maximum(np.asarray(train.sum(axis)).ravel(), 1)) for axis in (1, 0))
    _, sizes, vectors = svds(train.multiply(by_user[:, None]).multiply(by_item).tocsr(), dim, random_state=0)
    found: np.ndarray = vectors.T * sizes
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


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
