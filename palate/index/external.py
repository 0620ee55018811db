"""Structures that faiss makes and searches: ``HNSW`` and ``IVF``."""

from __future__ import annotations

from typing import Any

import faiss as library
import numpy as np

from palate.candidates import Floats, Ints
from palate.index.approximate import Approximate, Bits

faiss: Any = library  # its type stubs know only a part of it


class Library(Approximate):
    """A subclass says which structure (``_structure``) and how to search it (``_parameters``). ``threads`` while building."""

    def __init__(self, head: float, threads: int) -> None:
        super().__init__(head)
        if threads < 1:
            raise ValueError("threads must be at least 1")
        self.threads = threads

    def _structure(self, vectors: Floats) -> Any:
        """An empty, trained faiss index for vectors like these."""
        raise NotImplementedError

    def _parameters(self, k: int, hidden: int, share: float, selector: Any) -> Any:
        """faiss search parameters for ``k`` results of which a ``share`` of all may come, less ``hidden``; ``selector`` (None: none) masks them."""
        raise NotImplementedError

    def _filled(self, body: Any, vectors: Floats) -> Any:
        """With ``threads`` threads: with more than one, a graph depends on who was first."""
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(self.threads)
        try:
            if body is None:
                body = self._structure(vectors)
            body.add(np.ascontiguousarray(vectors))
            return body
        finally:
            faiss.omp_set_num_threads(before)

    def _made(self, vectors: Floats) -> Any:
        return self._filled(None, vectors)

    def _grown(self, body: Any, vectors: Floats) -> Any:
        return self._filled(faiss.clone_index(body), vectors)

    def _thinned(self, body: Any, at: Ints) -> Any:
        """What was learned stays, so that vectors of few bits are rounded to what they are already."""
        empty = faiss.clone_index(body)
        empty.reset()
        return self._filled(empty, self._vectors(body, at))

    def _vectors(self, body: Any, at: Ints) -> Floats:
        found: Floats = body.reconstruct_batch(at)
        return found

    def _found(self, body: Any, queries: Floats, k: int, hidden: int, share: float, bits: Bits) -> tuple[Floats, Ints]:
        selector = faiss.IDSelectorBitmap(bits) if len(bits) else None
        scores, at = body.search(queries, k, params=self._parameters(k, hidden, share, selector))
        return scores, at

    def _bytes(self, body: Any) -> int:
        total = 0

        def count(part: bytes) -> int:
            nonlocal total
            total += len(part)
            return len(part)

        faiss.write_index(body, faiss.PyCallbackIOWriter(count))
        return total
