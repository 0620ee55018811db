"""HNSW: a graph of near neighbours in layers, walked from the coarse to the fine.

Malkov, Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable Small World Graphs", TPAMI 2020.
"""

from __future__ import annotations

from typing import Any

from palate.candidates import Floats
from palate.index.approximate import Approximate, faiss


class HNSW(Approximate):
    """``links`` of a node, ``build`` and ``search``: how many nodes are kept in sight while building and while searching.

    ``head``: share of the longest vectors that are compared exactly. ``threads`` while building: more than one builds faster, but not the
    same graph each time. A query looks at as many more nodes as it excludes.
    """

    def __init__(self, links: int = 32, build: int = 200, search: int = 64, head: float = 0.02, threads: int = 1) -> None:
        super().__init__(head, threads)
        if min(links, build, search) < 1:
            raise ValueError("links, build and search must be at least 1")
        if links < 2:
            raise ValueError("links must be at least 2")
        self.links, self.build, self.seen = links, build, search

    def _structure(self, vectors: Floats) -> Any:
        body = faiss.IndexHNSWFlat(vectors.shape[1], self.links, faiss.METRIC_INNER_PRODUCT)
        body.hnsw.efConstruction = self.build
        return body

    def _parameters(self, k: int, hidden: int, selector: Any) -> Any:
        return faiss.SearchParametersHNSW(efSearch=self.seen + min(hidden, 4 * self.seen), sel=selector)
