"""PQ: every vector compared, each kept as a few bytes: its numbers in groups, each group as the nearest of 256 codewords.

Jegou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", TPAMI 2011 (asymmetric distance computation).
"""

from __future__ import annotations

import numpy as np

from palate.candidates import Floats
from palate.index.quantized import Quantized


class PQ(Quantized):
    """``group``: how many numbers one byte stands for: 2 keeps an eighth of the memory, 8 a thirty-second, at the price of recall.

    ``iterations`` of k-means. ``head``: share of the longest vectors that are kept as they are and compared exactly. Scores are those of the
    rounded vectors.
    """

    def __init__(self, group: int = 2, iterations: int = 8, head: float = 0.03) -> None:
        super().__init__(group, iterations, head)

    def _centroids(self, vectors: Floats) -> Floats:
        return np.zeros((1, vectors.shape[1]), np.float32)

    def _read(self, lists: int, k: int, hidden: int, share: float) -> int:
        return lists
