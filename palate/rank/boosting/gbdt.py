"""GBDT: a sum of small trees, each grown to mend what those before it got wrong.

Friedman, "Greedy Function Approximation: A Gradient Boosting Machine", Annals of Statistics 29(5), 2001.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palate.batch import Batch
from palate.datasets.pointwise import Pointwise
from palate.rank.boosting.forest import Trees, engine, grow
from palate.rank.boosting.inputs import Inputs
from palate.rank.boosting.rows import Rows, base, rows_of, sigmoid, vector
from palate.schema import Schema


class GBDT:
    """Each task has ``trees`` of at most ``leaves``, fitted to its log loss (a number's: to its squared error) on the rows that have its label.

    Each tree counts ``learning_rate``, sees a share ``rows`` of the rows and ``columns`` of the columns, has at least ``least`` rows in a leaf and
    pays ``l2`` for a leaf's square. Given rows to validate on, growth stops ``patience`` trees after the best. ``categories smoothing``: see
    ``Inputs``.
    A task's weight changes nothing here, for no other task shares its trees.
    """

    def __init__(
        self,
        schema: Schema,
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
        engine()
        name = type(self).__name__
        if not schema.labels:
            raise ValueError(f"{name} needs at least one label: name the tasks in the recipe")
        if not schema.features:
            raise ValueError(f"{name} needs at least one feature")
        for label in schema.labels:
            if label.loss and not self.minimises(label.name == schema.labels[0].name, label.loss, label.kind):
                raise ValueError(f"{name} cannot fit the task {label.name!r} by the loss {label.loss!r}")
        for option, value, least_ in (
            ("trees", trees, 1),
            ("leaves", leaves, 2),
            ("least", least, 1),
            ("patience", patience, 1),
            ("threads", threads, 1),
        ):
            if value < least_:
                raise ValueError(f"{option} must be {least_} or more, not {value}")
        for option, share in (("learning_rate", learning_rate), ("rows", rows), ("columns", columns)):
            if not 0 < share <= 1:
                raise ValueError(f"{option} must be above 0 and at most 1, not {share}")
        if not l2 >= 0:
            raise ValueError(f"l2 must be 0 or more, not {l2}")
        self.labels, self.tasks = schema.labels, tuple(label.name for label in schema.labels)
        self.inputs = Inputs(schema, categories, smoothing)
        self.most, self.patience, self.threads = trees, patience, threads
        seed = int(torch.randint(2**31 - 1, ()))  # of the generator that other rankers draw their weights from
        self.options: dict[str, Any] = {
            "num_leaves": leaves,
            "learning_rate": learning_rate,
            "min_data_in_leaf": least,
            "lambda_l2": l2,
            "bagging_fraction": rows,
            "bagging_freq": int(rows < 1),
            "feature_fraction": columns,
            "num_threads": threads,
            "seed": seed,
        }
        self.trees: list[Trees] = []
        self.base = np.zeros(len(self.tasks))  # what each task's trees are added to, [T]

    @staticmethod
    def minimises(first: bool, loss: str, kind: str) -> bool:
        """Whether this ``loss`` is what the task's trees are fitted to (``first``: the task is the first)."""
        return loss == ("binary_cross_entropy" if kind == "binary" else "mean_squared_error")

    def fit(self, examples: Pointwise, validation: Pointwise | None = None) -> Self:
        """Grow every task's trees on ``examples``; ValueError without any."""
        if not len(examples):
            raise ValueError("there are no examples to fit on")
        self.trees, self.base = [], np.zeros(len(self.tasks))
        columns, means = self.inputs.fit(examples)
        told, judged = self.inputs.told(examples), None
        if validation is not None and len(validation):
            judged = self.inputs.told(validation), self.inputs.every(validation)
        for task in range(len(self.tasks)):
            rows, judges = rows_of(told, self.tasks, task, np.concatenate((columns, means[task]), 1)).known, None
            if judged is not None:
                held, kept = judged
                judges = rows_of(held, self.tasks, task, np.concatenate((kept, self.inputs.task_means(held, task)), 1)).known
            self.base[task] = base(rows, self.labels[task].kind == "number")
            self.trees.append(self.learn(task, rows.shifted(self.base[task]), None if judges is None else judges.shifted(self.base[task])))
        return self

    def learn(self, task: int, rows: Rows, held: Rows | None) -> Trees:
        """The trees of one task."""
        objective = "regression" if self.labels[task].kind == "number" else "binary"
        return grow(rows, held, self.inputs.split_by_sets, self.most, self.patience, {**self.options, "objective": objective})

    def predict(self, batch: Batch) -> Tensor:
        """Each task's probability (of a task that is a number: its value), float32 ``[B, T]``."""
        if not self.trees:
            raise RuntimeError(f"{type(self).__name__} is not fitted")
        columns = self.inputs.columns(batch)
        found = np.empty((len(columns), len(self.tasks)))
        for task, label in enumerate(self.labels):
            values = self.score(task, np.concatenate((columns, self.inputs.task_means(batch, task)), 1))
            found[:, task] = values if label.kind == "number" else sigmoid(values)
        return torch.from_numpy(found.astype(np.float32))

    def score(self, task: int, columns: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds of the task (or its value), ``[N]``."""
        return self.base[task] + self.trees[task].sum(columns, self.threads)

    def eval(self) -> Self:
        """As it is: asked is no other than fitted."""
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        texts = {f"trees/{task}": np.frombuffer(one.text.encode("ascii"), np.uint8) for task, one in zip(self.tasks, self.trees, strict=True)}
        return {"base": self.base, **texts, **self.inputs.arrays()}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take back what ``arrays`` gave; ValueError where it does not fit."""
        self.base = vector(arrays, "base", len(self.tasks))
        self.inputs.read(arrays)
        width = self.inputs.width
        self.trees = [Trees(arrays[f"trees/{task}"].tobytes().decode("ascii"), width) for task in self.tasks]
        return self
