"""GBDTLR: the leaf that a row falls into is, for each boosted tree, a category of a logistic regression.

He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from palate.rank.boosting.forest import Trees
from palate.rank.boosting.gbdt import GBDT
from palate.rank.boosting.rows import Rows, sigmoid, vector
from palate.schema import Schema


class GBDTLR(GBDT):
    """``GBDT``'s trees say what is worth telling apart, a linear model what each leaf is worth: its values are learned together, not tree after tree.

    Of the groups a share ``apart`` grows no tree: as in the paper, where trees are older than the linear model, its weights are learned from them
    all; those that the trees learned by heart are then outvoted. ``penalty``, in rows, of the squared weights. Tasks must be of 0 and 1.
    """

    def __init__(
        self,
        schema: Schema,
        penalty: float = 300.0,
        apart: float = 0.0,
        trees: int = 100,
        leaves: int = 16,
        learning_rate: float = 0.1,
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
        if not penalty > 0:
            raise ValueError(f"penalty must be above 0, not {penalty}")
        if not 0 <= apart < 1:
            raise ValueError(f"apart must be at least 0 and below 1, not {apart}")
        for label in schema.labels:
            if label.kind != "binary":
                raise ValueError(f"GBDTLR is for tasks of 0 and 1: {label.name!r} is a number")
        self.penalty, self.apart = penalty, apart
        self.weights: list[NDArray[np.float64]] = []  # by task, of each tree's leaves and, last, of every row

    def learn(self, task: int, rows: Rows, held: Rows | None) -> Trees:
        """The task's trees and, kept beside them, its linear weights."""
        if not task:
            self.weights = []
        groups, place = np.unique(rows.groups, return_inverse=True)
        chosen = (np.random.default_rng(self.options["seed"]).random(len(groups)) >= self.apart)[place]
        trees = super().learn(task, rows.take(np.flatnonzero(chosen)), held)
        apart = rows.take(np.flatnonzero(~chosen)) if self.apart else rows
        self.weights.append(logistic(self._one_hot(trees, apart.columns), apart, self.penalty))
        return trees

    def _one_hot(self, trees: Trees, columns: NDArray[np.float32]) -> csr_matrix:
        """Ones at each row's leaves and in the last column, ``[N, M x leaves + 1]``."""
        count, most = trees.shape
        places = np.empty((len(columns), count + 1), np.int32)
        places[:, :count] = trees.leaves(columns, self.threads) + np.arange(count) * most
        places[:, count] = count * most
        offsets = np.arange(len(columns) + 1) * (count + 1)
        return csr_matrix((np.ones(places.size), places.ravel(), offsets), shape=(len(columns), count * most + 1))

    def score(self, task: int, columns: NDArray[np.float32]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.base[task] + self._one_hot(self.trees[task], columns) @ self.weights[task]
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {**super().arrays(), **{f"weights/{task}": one for task, one in zip(self.tasks, self.weights, strict=True)}}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        super().from_arrays(arrays)
        sizes = [count * most + 1 for count, most in (trees.shape for trees in self.trees)]
        self.weights = [vector(arrays, f"weights/{task}", size) for task, size in zip(self.tasks, sizes, strict=True)]
        return self


def logistic(values: csr_matrix, rows: Rows, penalty: float) -> NDArray[np.float64]:
    """Weights with the least weighted log loss of ``offset + values @ weights`` plus half the penalty (in rows of mean weight) times their squares.

    By L-BFGS; the last column is free of the penalty.
    """
    if not len(rows):
        return np.zeros(values.shape[1])
    shares = rows.weights / rows.weights.sum()
    penalties = np.full(values.shape[1], penalty / len(rows))
    penalties[-1] = 0.0
    turned = values.T.tocsr()

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = rows.offset + values @ weights
        value = shares @ (np.logaddexp(0, logits) - rows.labels * logits) + 0.5 * (penalties * weights) @ weights
        return float(value), turned @ (shares * (sigmoid(logits) - rows.labels)) + penalties * weights

    found: NDArray[np.float64] = minimize(loss, np.zeros(values.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 100, "ftol": 1e-7}).x
    return found
