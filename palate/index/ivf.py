"""IVF: vectors in lists around centroids; a query looks into the lists of the nearest centroids.

Jegou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", TPAMI 2011 (here without the quantization).
"""

from __future__ import annotations

import math
from typing import Any

from palate.candidates import Floats
from palate.index.approximate import Approximate, faiss

ENOUGH = 40  #: vectors a centroid is trained on at least


class IVF(Approximate):
    """``lists`` (0: twice the square root of the number of vectors), of which ``probes`` are searched.

    ``head``: share of the longest vectors that are compared exactly. ``threads`` while building. ``iterations`` of k-means on directions.
    """

    def __init__(self, lists: int = 0, probes: int = 16, iterations: int = 10, head: float = 0.02, threads: int = 1) -> None:
        super().__init__(head, threads)
        if lists < 0 or probes < 1 or iterations < 1:
            raise ValueError("lists must be 0 or more, probes and iterations at least 1")
        self.lists, self.probes, self.iterations = lists, probes, iterations

    def _structure(self, vectors: Floats) -> Any:
        size, dim = vectors.shape
        lists = min(self.lists or round(2 * math.sqrt(size)), max(1, size // ENOUGH))
        quantizer = faiss.IndexFlatIP(dim)
        body = faiss.IndexIVFFlat(quantizer, dim, lists, faiss.METRIC_INNER_PRODUCT)
        body.own_fields = True
        quantizer.this.disown()  # the lists own it now
        body.cp.niter, body.cp.spherical, body.cp.min_points_per_centroid = self.iterations, True, 1
        body.train(vectors)
        body.set_direct_map_type(faiss.DirectMap.Array)  # so that vectors can be read back
        return body

    def _parameters(self, k: int, hidden: int, selector: Any) -> Any:
        probes = self.probes * min(4, 1 + hidden / k)  # what it hides are its best: look as far as k + hidden results lie
        return faiss.SearchParametersIVF(nprobe=round(probes), sel=selector)
