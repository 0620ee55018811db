"""The leading singular vectors of a sparse matrix."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from palate.candidates import Floats


def right_vectors(matrix: csr_matrix, most: int) -> Floats:
    """The right singular vectors of the ``most`` largest singular values above 0, float32 ``[columns, <= most]``, largest first.

    Each one's sign is such that its largest entry is positive. The same matrix gives the same vectors. Nothing as large as the matrix made dense is
    held, but the square of its shorter side where nearly all vectors are asked for.
    """
    least = min(matrix.shape)
    if least == 0 or matrix.nnz == 0:
        return np.zeros((matrix.shape[1], 0), np.float32)
    if most < least - 1:
        _, sizes, turned = svds(matrix.astype(np.float64), most, v0=np.random.default_rng(0).random(least), return_singular_vectors="vh")
    else:
        whole = matrix.astype(np.float64)
        tall = whole if whole.shape[0] >= whole.shape[1] else whole.T
        squares, vectors = np.linalg.eigh((tall.T @ tall).toarray())
        sizes = np.sqrt(np.maximum(squares, 0))
        turned = vectors.T if tall is whole else (whole.T @ vectors / np.maximum(sizes, 1e-300)).T
    order = np.argsort(-sizes, kind="stable")[:most]
    vectors = turned[order[sizes[order] > 1e-6 * sizes.max()]].T
    places = np.abs(vectors).argmax(axis=0)
    vectors *= np.sign(vectors[places, np.arange(vectors.shape[1])])
    return np.ascontiguousarray(vectors, np.float32)
