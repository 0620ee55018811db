"""IVF: vectors in lists around centroids; a query looks into the lists of the nearest centroids.

Jegou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search", TPAMI 2011 (here without the quantization).
"""

from __future__ import annotations

import math
from typing import Any, Literal

from palate.candidates import Floats
from palate.index.external import Library, faiss

ENOUGH = 100  #: vectors a list holds on average, at least


class IVF(Library):
    """``lists`` (0: twice the square root of the number of vectors, each of 100 at least), of which ``probes`` are searched.

    ``iterations`` of k-means on directions. ``head``: share of the longest vectors that are compared exactly. ``bits`` a number: with 8 instead of
    32 a vector takes a quarter of the memory and less time, and scores are true to about a half per cent. ``threads`` while building.
    """

    def __init__(
        self, lists: int = 0, probes: int = 12, iterations: int = 10, head: float = 0.03, bits: Literal[8, 32] = 32, threads: int = 1
    ) -> None:
        super().__init__(head, threads)
        if lists < 0 or probes < 1 or iterations < 1:
            raise ValueError("lists must be 0 or more, probes and iterations at least 1")
        self.lists, self.probes, self.iterations, self.bits = lists, probes, iterations, bits

    def _structure(self, vectors: Floats) -> Any:
        size, dim = vectors.shape
        lists = min(self.lists, size) or max(1, min(round(2 * math.sqrt(size)), size // ENOUGH))
        quantizer = faiss.IndexFlatIP(dim)
        if self.bits == 8:
            body = faiss.IndexIVFScalarQuantizer(quantizer, dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False)
        else:
            body = faiss.IndexIVFFlat(quantizer, dim, lists, faiss.METRIC_INNER_PRODUCT)
        body.own_fields = True
        quantizer.this.disown()  # the lists own it now
        body.cp.niter, body.cp.spherical, body.cp.min_points_per_centroid = self.iterations, True, 1
        body.train(vectors)
        body.set_direct_map_type(faiss.DirectMap.Array)  # so that vectors can be read back
        return body

    def _parameters(self, k: int, hidden: int, share: float, selector: Any) -> Any:
        probes = self.probes * min(4, 1 + hidden / k) / share  # what it hides are its best: look as far as k + hidden results lie
        return faiss.SearchParametersIVF(nprobe=round(probes), sel=selector)
