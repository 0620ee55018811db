"""LightGBM's text read by hand, node by node."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def trees_of(text: str) -> list[dict[str, list[str]]]:
    """Each tree's facts."""
    blocks = text.removesuffix("end of trees\n").split("\nTree=")[1:]
    return [{name: value.split() for name, _, value in (line.partition("=") for line in block.splitlines()) if value} for block in blocks]


def leaf_of(tree: dict[str, list[str]], row: np.ndarray[Any, Any]) -> int:
    """Which leaf ``row [C]`` falls into."""
    if int(tree["num_leaves"][0]) == 1:
        return 0
    node = 0
    while node >= 0:
        value, kind = float(row[int(tree["split_feature"][node])]), int(tree["decision_type"][node])
        threshold = float(tree["threshold"][node])
        if kind & 1:
            start, stop = (int(tree["cat_boundaries"][int(threshold) + n]) for n in (0, 1))
            words = [int(word) for word in tree["cat_threshold"][start:stop]]
            left = not math.isnan(value) and int(value) // 32 < len(words) and bool(words[int(value) // 32] >> (int(value) % 32) & 1)
        elif math.isnan(value):
            left = bool(kind & 2) if kind >> 2 & 3 == 2 else threshold >= 0
        else:
            left = value <= threshold
        node = int(tree["left_child" if left else "right_child"][node])
    return -node - 1


def sum_of(text: str, row: np.ndarray[Any, Any]) -> float:
    """The sum of the leaves that ``row`` falls into."""
    return sum(float(tree["leaf_value"][leaf_of(tree, row)]) for tree in trees_of(text))
