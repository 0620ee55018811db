"""HNSW: a graph of near neighbours in layers, walked from the coarse to the fine.

Malkov, Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable Small World Graphs", TPAMI 2020.
"""

from __future__ import annotations

from typing import Any, Literal

from palate.candidates import Floats
from palate.index.external import Library, faiss


class HNSW(Library):
    """``links`` of a node, ``build`` and ``search``: how many nodes are kept in sight while building and while searching.

    ``head``: share of the longest vectors that are compared exactly. ``bits`` a number: a walk through a graph is a walk through memory, so 8
    (a quarter of it) is the default: half as quick again as 32 at the same recall, with scores true to about a half per cent. ``threads`` while
    building: more than one builds faster, but not the same graph each time. A query looks at as many more nodes as it excludes,
    and at more where a filter leaves few.
    """

    def __init__(self, links: int = 32, build: int = 200, search: int = 32, head: float = 0.03, bits: Literal[8, 32] = 8, threads: int = 1) -> None:
        super().__init__(head, threads)
        if links < 2 or min(build, search) < 1:
            raise ValueError("links must be at least 2, build and search at least 1")
        self.links, self.build, self.seen, self.bits = links, build, search, bits

    def _structure(self, vectors: Floats) -> Any:
        dim = vectors.shape[1]
        if self.bits == 8:
            body = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, self.links, faiss.METRIC_INNER_PRODUCT)
        else:
            body = faiss.IndexHNSWFlat(dim, self.links, faiss.METRIC_INNER_PRODUCT)
        body.hnsw.efConstruction = self.build
        body.train(vectors)
        return body

    def _parameters(self, k: int, hidden: int, share: float, selector: Any) -> Any:
        return faiss.SearchParametersHNSW(efSearch=round((self.seen + min(hidden, 4 * self.seen)) / share), sel=selector)
