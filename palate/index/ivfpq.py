"""IVFPQ: vectors in lists around centroids, what is left of each after its centroid kept as a few bytes.

Jegou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", TPAMI 2011.
"""

from __future__ import annotations

import math

import numpy as np

from palate.candidates import Floats
from palate.index.external import faiss
from palate.index.ivf import ENOUGH
from palate.index.quantized import Quantized


class IVFPQ(Quantized):
    """``lists`` (0: twice the square root of the number of vectors, each of 100 at least), of which ``probes`` are searched.

    ``group``: how many numbers one byte stands for. ``iterations`` of k-means. ``head``: share of the longest vectors that are kept as they are
    and compared exactly. Scores are those of the rounded vectors.
    """

    def __init__(self, lists: int = 0, probes: int = 12, group: int = 2, iterations: int = 8, head: float = 0.03) -> None:
        super().__init__(group, iterations, head)
        if lists < 0 or probes < 1:
            raise ValueError("lists must be 0 or more, probes at least 1")
        self.lists, self.probes = lists, probes

    def _centroids(self, vectors: Floats) -> Floats:
        size, dim = vectors.shape
        lists = min(self.lists, size) or max(1, min(round(2 * math.sqrt(size)), size // ENOUGH))
        means = faiss.Kmeans(dim, lists, niter=self.iterations, spherical=True, min_points_per_centroid=1)
        means.train(np.ascontiguousarray(vectors))
        centroids: Floats = np.ascontiguousarray(means.centroids)
        return centroids

    def _read(self, lists: int, k: int, hidden: int, share: float) -> int:
        return round(self.probes * min(4, 1 + hidden / k) / share)
