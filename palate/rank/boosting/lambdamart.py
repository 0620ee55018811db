"""LambdaMART: trees that follow each pair's pull towards the right order, weighed by what swapping the two would change in NDCG.

Burges, "From RankNet to LambdaRank to LambdaMART: An Overview", MSR-TR-2010-82, 2010.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from palate.rank.boosting.forest import Trees, grow
from palate.rank.boosting.gbdt import GBDT
from palate.rank.boosting.rows import Rows, sigmoid, vector
from palate.schema import Schema


class LambdaMART(GBDT):
    """The first task's trees order the rows of each group; only pairs with a row among the first ``k`` by score pull. Other tasks are ``GBDT``'s.

    What orders is no probability. One is made of it by Platt's scaling, a line through it as log-odds, learned from the rows to validate on (without
    them, from those learnt from); it keeps the order. The first task must be of 0 and 1.
    """

    def __init__(
        self,
        schema: Schema,
        k: int = 10,
        trees: int = 300,
        leaves: int = 31,
        learning_rate: float = 0.05,
        least: int = 20,
        l2: float = 1.0,
        rows: float = 1.0,
        columns: float = 1.0,
        patience: int = 30,
        categories: int = 128,
        smoothing: float = 20.0,
        threads: int = 1,
    ) -> None:
        super().__init__(schema, trees, leaves, learning_rate, least, l2, rows, columns, patience, categories, smoothing, threads)
        if k < 1:
            raise ValueError(f"k must be 1 or more, not {k}")
        if schema.labels[0].kind != "binary":
            raise ValueError(f"LambdaMART orders by its first task, which must be of 0 and 1: {self.tasks[0]!r} is a number")
        self.k, self.line = k, np.array([1.0, 0.0])

    @staticmethod
    def minimises(first: bool, loss: str, kind: str) -> bool:
        return loss == "lambdarank" if first else GBDT.minimises(first, loss, kind)

    def learn(self, task: int, rows: Rows, held: Rows | None) -> Trees:
        if task:
            return super().learn(task, rows, held)
        ranking = {"objective": "lambdarank", "metric": "ndcg", "eval_at": [self.k], "lambdarank_truncation_level": self.k, "bagging_by_query": True}
        trees = grow(rows, held, self.inputs.split_by_sets, self.most, self.patience, {**self.options, **ranking}, grouped=True)
        judged = held if held is not None and len(held) else rows
        self.line = platt(trees.sum(judged.columns, self.threads), judged)
        return trees

    def score(self, task: int, columns: NDArray[np.float32]) -> NDArray[np.float64]:
        if task:
            return super().score(task, columns)
        return self.base[0] + self.line[0] * self.trees[0].sum(columns, self.threads) + self.line[1]

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {**super().arrays(), "line": self.line}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        self.line = vector(arrays, "line", 2)
        return super().from_arrays(arrays)


def platt(scores: NDArray[np.float64], rows: Rows, steps: int = 50) -> NDArray[np.float64]:
    """a > 0 and b with the least log loss of ``offset + a score + b``, by Newton's steps. Platt, Advances in Large Margin Classifiers, 1999.

    Labels are drawn in a little, as there, so that no perfect order makes a infinite.
    """
    line = np.array([1.0, 0.0])
    if not len(rows):
        return line
    positive = float((rows.labels > 0).sum())
    high, low = (positive + 1) / (positive + 2), 1 / (len(rows) - positive + 2)
    wanted, both = np.where(rows.labels > 0, high, low), np.stack((scores, np.ones_like(scores)))
    for _ in range(steps):
        found = sigmoid(rows.offset + line @ both)
        slope = both @ (rows.weights * (found - wanted))
        curve = (both * (rows.weights * found * (1 - found))) @ both.T + 1e-9 * np.eye(2) * rows.weights.sum()
        step = np.linalg.solve(curve, slope)
        line = line - step.clip(-2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return np.array([max(float(line[0]), 1e-3), float(line[1])])
