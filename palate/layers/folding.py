"""Vectors of users from their histories, for models that learned one of each user: ridge regression of the vectors on what was taken."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from palate.datasets.interactions import Interactions


def folded(interactions: Interactions, targets: Tensor, regularization: float = 0.5, steps: int = 30) -> Tensor:
    """M ``[I, D]`` minimising ``|X M - T|^2 + regularization |M|^2``: T = ``targets [U, D]``, rows of X the histories over the roots of their sizes.

    By conjugate gradients on ``(X X' + regularization I) A = T``, ``M = X' A``: two sparse products a step, nothing users x users or items x items.
    """
    sizes = np.repeat(np.diff(interactions.offsets), np.diff(interactions.offsets)).astype(np.float32)
    x = csr_matrix((1 / np.sqrt(sizes), interactions.items, interactions.offsets), (interactions.n_users, interactions.n_items))
    residual = targets.detach().numpy().astype(np.float32)
    found, way = np.zeros_like(residual), residual.copy()
    square = (residual**2).sum(0)
    enough = 1e-11 * square
    for _ in range(steps):
        if (square <= enough).all():
            break
        image = x @ (x.T @ way) + np.float32(regularization) * way
        step = square / np.maximum((way * image).sum(0), np.finfo(np.float32).tiny)
        found += step * way
        residual = residual - step * image
        before, square = square, (residual**2).sum(0)
        way = residual + square / np.maximum(before, np.finfo(np.float32).tiny) * way
    return torch.from_numpy(np.ascontiguousarray(x.T @ found, np.float32))
