"""Dynamic routing: what items say, gathered into a few capsules, each item going where it agrees.

Sabour, Frosst, Hinton, "Dynamic Routing Between Capsules", NIPS 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor


def squash(vectors: Tensor) -> Tensor:
    """The same directions, with a length of |v|^2 / (1 + |v|^2)."""
    square = vectors.square().sum(-1, keepdim=True)
    return vectors * (square / (1 + square) / (square + 1e-9).sqrt())


def route(said: Tensor, logits: Tensor, there: Tensor, rounds: int) -> Tensor:
    """Capsules ``[B, K, D]`` of what each place says to each of them, ``said [B, K, L, D]`` (or ``[B, 1, L, D]``, to all the same).

    ``logits [B, K, L]`` at first; in every round but the last they grow by how much place and capsule agree. ``there [B, L]``: where something is.
    Each place divides itself among the capsules. Only the last round is part of the gradient.
    """
    fixed = said.detach()
    for _ in range(rounds - 1):
        capsules = _gathered(fixed, logits, there)
        logits = logits + (fixed @ capsules[..., None])[..., 0]
    return _gathered(said, logits, there)


def _gathered(said: Tensor, logits: Tensor, there: Tensor) -> Tensor:
    shares = torch.softmax(logits, 1) * there[:, None]  # [B, K, L]
    return squash((shares[:, :, None] @ said)[:, :, 0])
