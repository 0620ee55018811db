"""Boosted trees by LightGBM: grown, asked, and kept as its text. The only file that imports it.

Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NIPS 2017.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.rank.boosting.rows import Rows

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

END = "end of trees\n"
FIXED = {"verbosity": -1, "deterministic": True, "force_col_wise": True, "boost_from_average": False, "feature_pre_filter": False}
SETS = {"min_data_per_group": 20, "cat_smooth": 20.0}  # a category of a few hundred rows may be told apart


def engine() -> Any:
    """LightGBM; ValueError says how to install it."""
    try:
        import lightgbm
    except ImportError as error:
        raise ValueError("boosted trees need LightGBM, which is not installed: python -m pip install 'palate[trees]'") from error
    return lightgbm


class Trees:
    """A forest that is grown. ``text`` is LightGBM's own, without what it was made from; none: no trees, whose sum is 0."""

    def __init__(self, text: str, columns: int) -> None:
        """ValueError where the text is no forest over so many columns: LightGBM itself trusts it and reads where it points."""
        self.text = text
        self.shape = checked(text, columns) if text else (0, 0)  #: trees, and the most leaves of one
        self._booster = engine().Booster(model_str=text) if text else None

    def sum(self, columns: Floats, threads: int) -> Doubles:
        """The trees' sum for each row, ``[N]``."""
        if self._booster is None or not len(columns):
            return np.zeros(len(columns))
        found: Doubles = self._booster.predict(columns, raw_score=True, num_threads=threads)
        return found

    def leaves(self, columns: Floats, threads: int) -> NDArray[np.int64]:
        """Which leaf of each tree a row falls into, ``[N, M]``."""
        if self._booster is None or not len(columns):
            return np.zeros((len(columns), self.shape[0]), np.int64)
        return np.asarray(self._booster.predict(columns, pred_leaf=True, num_threads=threads)).astype(np.int64).reshape(len(columns), -1)


def grow(rows: Rows, held: Rows | None, sets: Sequence[int], trees: int, patience: int, options: dict[str, Any], grouped: bool = False) -> Trees:
    """``trees`` of them, fewer where ``held`` rows have found ``patience`` more of them no better. ``sets``: the columns that are categories."""
    lightgbm, width = engine(), rows.columns.shape[1]
    if not len(rows):
        return Trees("", width)

    def data(some: Rows, reference: Any = None) -> Any:
        sizes = None
        if grouped:
            some = some.take(np.argsort(some.groups, kind="stable"))
            sizes = np.unique(some.groups, return_counts=True)[1]
        return lightgbm.Dataset(
            some.columns,
            some.labels,
            weight=some.weights,
            init_score=None if grouped else some.offset,
            group=sizes,
            categorical_feature=list(sets),
            reference=reference,
            params={**FIXED, **SETS, **options},
        )

    learnt, stopping = data(rows), {}
    if held is not None and len(held):
        stopping = {"valid_sets": [data(held, learnt)], "callbacks": [lightgbm.early_stopping(patience, verbose=False)]}
    booster = lightgbm.train({**FIXED, **SETS, **options}, learnt, num_boost_round=trees, **stopping)
    text = booster.model_to_string(num_iteration=booster.best_iteration if stopping else None)
    text = (
        re.sub(r"^tree_sizes=.*\n", "", text[: text.index(END)], flags=re.M) + END
    )  # what follows is how it was made; sizes are for readers in parallel
    return Trees(text, width)


def checked(text: str, columns: int) -> tuple[int, int]:
    """How many trees it has, and the most leaves of one. ValueError where it does not hold together or looks beyond so many ``columns``."""
    head, *blocks = text.removesuffix(END).split("\nTree=")
    if not text.endswith("\n" + END) or not head.startswith("tree\nversion=v4\n") or "tree_sizes" in head or END in text[: -len(END)]:
        raise ValueError("is no forest in LightGBM's text, version 4")
    facts = _facts(head)
    if (facts.get("num_class"), facts.get("num_tree_per_iteration"), facts.get("max_feature_idx")) != ("1", "1", str(columns - 1)):
        raise ValueError(f"is no forest of single trees over {columns} columns")
    most = 0
    for number, block in enumerate(blocks):
        place, _, body = block.partition("\n")
        try:
            if place != str(number):
                raise ValueError("is out of order")
            most = max(most, _tree(_facts(body), columns))
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            raise ValueError(f"tree {number} does not hold together ({error})") from error
    return len(blocks), most


def _facts(block: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in block.splitlines() if "=" in line]
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise ValueError("a fact stands twice")
    return {name: value for name, _, value in pairs}


def _tree(facts: dict[str, str], columns: int) -> int:
    """How many leaves it has."""
    leaves, sets = int(facts["num_leaves"]), int(facts["num_cat"])
    if facts["is_linear"] != "0" or leaves < 1 or sets < 0:
        raise ValueError("is of another kind")
    values = np.array(facts["leaf_value"].split(), np.float64)
    if len(values) != leaves or not np.isfinite(values).all() or not np.isfinite(float(facts["shrinkage"])):
        raise ValueError("leaf values")
    if leaves == 1:
        return leaves
    feature, decision, left, right = (
        np.array(facts[name].split(), np.int64) for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    threshold = np.array(facts["threshold"].split(), np.float64)
    if any(len(one) != leaves - 1 for one in (feature, decision, left, right, threshold)):
        raise ValueError("lengths of its splits")
    if feature.min() < 0 or feature.max() >= columns or decision.min() < 0 or decision.max() > 15:
        raise ValueError("split on a column that is not there")
    children = np.concatenate((left, right))
    if not np.array_equal(np.sort(children), np.concatenate((np.arange(-leaves, 0), np.arange(1, leaves - 1)))):
        raise ValueError("its splits are no tree")
    if ((left > 0) & (left <= np.arange(leaves - 1))).any() or ((right > 0) & (right <= np.arange(leaves - 1))).any():
        raise ValueError("a split lies below itself")
    by_set = (decision & 1) == 1
    if by_set.any() or sets:
        bounds = np.array(facts["cat_boundaries"].split(), np.int64)
        words = np.array(facts["cat_threshold"].split(), np.int64)
        chosen = threshold[by_set]
        whole = ((chosen == np.floor(chosen)) & (chosen >= 0) & (chosen < sets)).all()
        if len(bounds) != sets + 1 or bounds[0] != 0 or (np.diff(bounds) < 0).any() or bounds[-1] != len(words) or not whole:
            raise ValueError("sets of categories")
    return leaves
