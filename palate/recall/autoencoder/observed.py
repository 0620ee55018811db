"""The loss of autoencoders that look at what was taken and at as much as is drawn of the rest."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Kind = Literal["log", "square"]


def observed(scores: Tensor, ids: Tensor, negatives: int, kind: Kind) -> Tensor:
    """Sum over what each row took (as 1) and ``negatives`` uniform draws for each of it that it did not take (as 0), the mean over rows.

    ``scores [B, I]``, ``ids [B, L]`` (column + 1, each once, 0 is none). ``log`` loss of logits, or half the ``square`` of the error.
    """
    columns = scores.shape[1]
    there = ids > 0
    taken = torch.zeros(len(ids), columns + 1, dtype=torch.bool).scatter_(1, ids, True)
    drawn = torch.randint(0, columns, (len(ids), ids.shape[1] * negatives))
    counted = there.repeat(1, negatives) & ~taken[:, 1:].gather(1, drawn)
    near, far = scores.gather(1, (ids - 1).clamp(min=0)), scores.gather(1, drawn)
    if kind == "log":
        near, far = F.softplus(-near), F.softplus(far)
    else:
        near, far = 0.5 * (1 - near) ** 2, 0.5 * far**2
    return (torch.where(there, near, 0.0).sum() + torch.where(counted, far, 0.0).sum()) / max(len(ids), 1)
