"""Int8: every vector compared, each kept in a quarter of the memory: a byte a number and one scale a vector.

Symmetric linear quantization, as in Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018. Every vector has its own scale, so that a short one is as true as a long one; the query is rounded to sixteen bits,
so that next to nothing is lost on its side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from palate.candidates import Floats
from palate.index.exact import Exact

STEP = 16  #: numbers are kept in multiples of so many, which is what the compiled loop adds at once
TAIL = 4  #: bytes of a vector's scale, behind its numbers

Codes = NDArray[np.int8]


@njit(cache=True, nogil=True)
def _products(codes: Codes, scales: Floats, query: NDArray[np.int16], scale: np.float32, out: Floats) -> None:
    """``out[n] = scale * scales[n] * codes[n] . query``, whole numbers up to the last step; ``codes`` may have a tail."""
    for n in range(len(out)):
        total = np.int32(0)
        for d in range(len(query)):
            total = np.int32(total + np.int32(codes[n, d]) * np.int32(query[d]))
        out[n] = np.float32(total) * scales[n] * scale


class Int8(Exact):
    """As ``Exact``, with scores true to about a half per cent: what is found differs only among neighbours of nearly the same score."""

    def _kept(self, vectors: Floats) -> NDArray[Any]:
        size, dim = vectors.shape
        kept = np.zeros((size, -(-dim // STEP) * STEP + TAIL), np.int8)
        most = np.abs(vectors).max(1, initial=0.0)
        scales = np.where(most > 0, most / np.float32(127), np.float32(1))
        kept[:, :dim] = np.rint(vectors / scales[:, None])
        kept[:, -TAIL:] = scales.astype(np.float32)[:, None].view(np.int8)
        return kept

    def _again(self, kept: NDArray[Any], dim: int) -> Floats:
        return kept[:, :dim] * _scales(kept)[:, None]

    def _scores(self, kept: NDArray[Any], queries: Floats) -> Floats:
        size, dim = queries.shape
        scales = _scales(kept)
        reach = np.float32(min(32_767, (2**31 - 1) // (127 * dim)))  # so that no sum leaves 32 bits
        most = np.abs(queries).max(1, initial=0.0)
        steps = np.where(most > 0, most / reach, np.float32(1)).astype(np.float32)
        rounded = np.zeros((size, kept.shape[1] - TAIL), np.int16)
        rounded[:, :dim] = np.rint(queries / steps[:, None])
        out = np.empty((size, len(kept)), np.float32)
        for b in range(size):
            _products(kept, scales, rounded[b], steps[b], out[b])
        return out


def _scales(kept: NDArray[Any]) -> Floats:
    """``[N]``, a view"""
    return kept[:, -TAIL:].view(np.float32)[:, 0]
