"""Losses as plain functions of scores: no model, no state. All give a scalar, the mean over what they compare.

Pair-wise ones take ``positive [B]`` and ``negative [B, N]``; an entry of minus infinity means "no negative here" and counts for nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def _mean_where(values: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)


def binary_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean log loss of ``logits [B]`` against ``labels [B]`` in [0, 1]; rows labelled NaN are left out (0 when none is left).

    With ``weights [B]`` (0 or more) the mean is weighted: only their ratios matter.
    """
    known = ~torch.isnan(labels)
    values = F.binary_cross_entropy_with_logits(logits, torch.where(known, labels, 0.0), reduction="none")
    if weights is None:
        return _mean_where(values, known)
    weights = torch.where(known, weights, 0.0)
    return (weights * values).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def mean_squared_error(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean squared difference of ``scores [B]`` and ``labels [B]``; rows labelled NaN are left out (0 when none is left)."""
    known = ~torch.isnan(labels)
    return _mean_where((scores - torch.where(known, labels, 0.0)) ** 2, known)


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -ln sigmoid(positive - negative). Rendle et al., UAI 2009."""
    known = torch.isfinite(negative)
    margin = positive[:, None] - torch.where(known, negative, 0.0)  # [B, N]
    return _mean_where(F.softplus(-margin), known)


def hinge(positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    """Mean of max(0, margin - (positive - negative)). Weimer et al., 2008."""
    known = torch.isfinite(negative)
    return _mean_where(torch.relu(margin - positive[:, None] + torch.where(known, negative, 0.0)), known)


def sampled_softmax(scores: Tensor, log_q: Tensor | None = None) -> Tensor:
    """Cross-entropy of each row of ``scores [B, N]`` whose right answer is column b of row b.

    ``log_q`` ``[N]`` or ``[B, N]`` is each column's log-probability of being drawn; subtracting it makes the sampled softmax an estimate of
    the full one (Bengio, Senecal, 2008; Yi et al., RecSys 2019). Infinity marks a column that is not to be compared in that row.
    """
    corrected = scores if log_q is None else scores - log_q
    return F.cross_entropy(corrected, torch.arange(len(scores), device=scores.device))


def listwise(scores: Tensor, teacher: Tensor, groups: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence from softmax(scores) to softmax(teacher / temperature) within each group, mean over groups.

    ``scores teacher groups`` are ``[N]``; rows of one group share a number in ``groups`` and need not stand together.
    Cao et al. (ListNet), ICML 2007.
    """
    _, group = torch.unique(groups, return_inverse=True)
    size = int(group.max()) + 1 if len(group) else 0
    log_p = _log_softmax(teacher / temperature, group, size)
    log_s = _log_softmax(scores, group, size)
    return (log_p.exp() * (log_p - log_s)).sum() / max(size, 1)


def _log_softmax(scores: Tensor, group: Tensor, size: int) -> Tensor:
    highest = scores.detach().new_full((size,), -torch.inf).scatter_reduce(0, group, scores.detach(), "amax")
    shifted = scores - highest[group]
    return shifted - scores.new_zeros(size).index_add(0, group, shifted.exp()).log()[group]
