"""Losses as plain functions of scores: no model, no state. All give a scalar, the mean over what they compare.

Pair-wise ones take ``positive [B]`` and ``negative [B, N]``; an entry of minus infinity means "no negative here" and counts for nothing.
List-wise ones take ``scores labels groups``, all ``[N]``: rows of one group share a number in ``groups`` and need not stand together; rows
labelled NaN are left out, and so are groups in which nothing is left to compare. Each group weighs the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def _mean_where(values: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)


def _weighted(values: Tensor, known: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return _mean_where(values, known)
    weights = torch.where(known, weights, 0.0)
    return (weights * values).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def binary_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean log loss of ``logits [B]`` against ``labels [B]`` in [0, 1]; rows labelled NaN are left out (0 when none is left).

    With ``weights [B]`` (0 or more) the mean is weighted: only their ratios matter.
    """
    known = ~torch.isnan(labels)
    values = F.binary_cross_entropy_with_logits(logits, torch.where(known, labels, 0.0), reduction="none")
    return _weighted(values, known, weights)


def mean_squared_error(scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared difference of ``scores [B]`` and ``labels [B]``, with ``weights [B]`` a weighted mean; rows labelled NaN are left out."""
    known = ~torch.isnan(labels)
    return _weighted((scores - torch.where(known, labels, 0.0)) ** 2, known, weights)


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


def gbce(positive: Tensor, negative: Tensor, power: float = 1.0) -> Tensor:
    """Log loss of a positive ``[B]``, its probability to the ``power``, and of negatives ``[B, N]``, the mean over all 1 + N.

    With negatives at a rate alpha of all items, ``power = t (alpha - 1) + 1`` takes a share t of what sampling adds to the positive's probability
    (t = 0: plain log loss). Petrov, Macdonald, RecSys 2023.
    """
    known = torch.isfinite(negative)
    against = F.softplus(torch.where(known, negative, -torch.inf)).sum()
    return (power * F.softplus(-positive).sum() + against) / (len(positive) + known.sum()).clamp(min=1)


def drawn_softmax(positive: Tensor, negative: Tensor, log_q: Tensor) -> Tensor:
    """Cross-entropy of ``positive [B]`` among itself and ``negative [B, N]`` drawn with log-probabilities ``log_q [B, N]``.

    Each negative stands for 1 / (N q) items, so that the sum estimates that of the full softmax (Bengio, Senecal, 2008).
    """
    corrected = negative - log_q - math.log(max(negative.shape[1], 1))
    return F.cross_entropy(torch.cat((positive[:, None], corrected), 1), torch.zeros(len(positive), dtype=torch.long, device=positive.device))


def top1(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of sigmoid(negative - positive) + sigmoid(negative^2). Hidasi et al., ICLR 2016."""
    known = torch.isfinite(negative)
    against = torch.where(known, negative, 0.0)
    return _mean_where(torch.sigmoid(against - positive[:, None]) + torch.sigmoid(against.square()), known)


def top1_max(positive: Tensor, negative: Tensor) -> Tensor:
    """``top1`` with each negative weighed by its softmax among those of its row; mean over rows. Hidasi, Karatzoglou, CIKM 2018."""
    positive, negative, share = _shares(positive, negative)
    each = torch.sigmoid(negative - positive[:, None]) + torch.sigmoid(negative.square())
    return (share.exp() * each).sum() / max(len(positive), 1)


def bpr_max(positive: Tensor, negative: Tensor, regularization: float = 0.0) -> Tensor:
    """Mean over rows of -ln sum_j s_j sigmoid(positive - negative_j) + regularization * sum_j s_j negative_j^2.

    s is the softmax of a row's negatives. Hidasi, Karatzoglou, CIKM 2018.
    """
    positive, negative, share = _shares(positive, negative)
    right = -torch.logsumexp(share + F.logsigmoid(positive[:, None] - negative), 1)
    return (right + regularization * (share.exp() * negative.square()).sum(1)).sum() / max(len(positive), 1)


def _shares(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that have a negative: the positives, the negatives (0 where there is none) and the logarithms of their softmax."""
    known = torch.isfinite(negative)
    some = known.any(1)
    known, negative = known[some], negative[some]
    return positive[some], torch.where(known, negative, 0.0), F.log_softmax(torch.where(known, negative, -torch.inf), 1)


def info_nce(one: Tensor, other: Tensor, temperature: float = 1.0, within: bool = False) -> Tensor:
    """Cross-entropy of finding row b of ``other [B, D]`` by row b of ``one``: their inner products over ``temperature``, all rows compared.

    van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018. ``within``: the other rows of the same side are
    compared too, and both sides are asked: the 2B - 1 others of Chen et al., "A Simple Framework for Contrastive Learning", ICML 2020.
    """
    place = torch.arange(len(one), device=one.device)
    if not within:
        return F.cross_entropy(one @ other.T / temperature, place)
    both = torch.cat((one, other))
    scores = (both @ both.T / temperature).masked_fill(torch.eye(len(both), dtype=torch.bool, device=one.device), -torch.inf)
    return F.cross_entropy(scores, torch.cat((place + len(one), place)))


def cosine_contrastive(positive: Tensor, negative: Tensor, margin: float = 0.0, weight: float = 1.0) -> Tensor:
    """Mean over positives of 1 - cosine, plus ``weight`` times the mean of max(0, cosine - margin) over the negatives of its row.

    ``positive [B, P]`` and ``negative [B, N]`` are cosines; here too minus infinity means "none". Mao et al., "SimpleX: A Simple and Strong Baseline
    for Collaborative Filtering", CIKM 2021 (P = 1).
    """
    there, known = torch.isfinite(positive), torch.isfinite(negative)
    near = torch.where(there, 1 - positive, 0.0).sum(1)
    far = torch.relu(torch.where(known, negative - margin, 0.0)).sum(1) / known.sum(1).clamp(min=1)
    return (near + weight * there.sum(1) * far).sum() / there.sum().clamp(min=1)


def listnet(scores: Tensor, labels: Tensor, groups: Tensor, temperature: float = 1.0) -> Tensor:
    """Divergence (KL) from softmax(scores) to softmax(labels / temperature) within each group, mean over groups.

    Its gradient is that of the cross-entropy of the top-one probabilities. Cao et al., "Learning to Rank: From Pairwise Approach to
    Listwise Approach", ICML 2007. With labels of 0 and 1 and temperature 1 a taken row is wanted only e times as often as another:
    ``softmax`` asks for more.
    """
    scores, labels, group, size = _grouped(scores, labels, groups)
    log_p = _log_softmax(labels / temperature, group, size)
    log_s = _log_softmax(scores, group, size)
    return (log_p.exp() * (log_p - log_s)).sum() / max(size, 1)


def softmax(scores: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Cross-entropy of softmax(scores) within each group against labels (0 or more) over their sum; mean over groups that have a label above 0.

    ListNet's top-one with the labels themselves as strengths; for labels of 0 and 1 a bound on NDCG and on the reciprocal rank: Bruch et al.,
    "An Analysis of the Softmax Cross Entropy Loss for Learning-to-Rank with Binary Relevance", ICTIR 2019.
    """
    scores, labels, group, size = _grouped(scores, labels, groups)
    total = labels.new_zeros(size).index_add_(0, group, labels)
    shares = labels / total.clamp(min=torch.finfo(labels.dtype).tiny)[group]
    return -(shares * _log_softmax(scores, group, size)).sum() / (total > 0).sum().clamp(min=1)


def lambdarank(scores: Tensor, labels: Tensor, groups: Tensor, k: int = 0) -> Tensor:
    """Sum over pairs of a group, i above j by label, of |change of NDCG@k if they swapped places| x ln(1 + exp(score_j - score_i)); mean over groups.

    Gains are 2^label - 1 (labels 0 or more), discounts 1 / log2(1 + place) by the scores as they stand (``k`` 0: of all places). Its gradient
    is LambdaRank's: Burges, Ragno, Le, "Learning to Rank with Nonsmooth Cost Functions", NIPS 2006.
    """
    scores, labels, group, size = _grouped(scores, labels, groups)
    better, worse = _pairs(labels, group, size)
    with torch.no_grad():
        highest = labels.new_full((size,), -torch.inf).scatter_reduce(0, group, labels, "amax")[group]
        gains = (labels - highest).exp2() - (-highest).exp2()  # over 2^highest: a label of hundreds does not overflow, and the ratio is the same
        discount = _discounts(scores, group, size, k)
        best = scores.new_zeros(size).index_add_(0, group, gains * _discounts(labels, group, size, k))
        change = (gains[better] - gains[worse]) * (discount[better] - discount[worse]).abs() / best[group[better]]
        counted = change > 0
    better, worse = better[counted], worse[counted]
    lost = change[counted] * F.softplus(scores[worse] - scores[better])
    return lost.sum() / _mixed(labels, group, size).sum().clamp(min=1)


def pairwise(scores: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """``bpr`` of all pairs of a group whose labels differ: mean over a group's pairs, then over groups."""
    scores, labels, group, size = _grouped(scores, labels, groups)
    better, worse = _pairs(labels, group, size)
    pairs = torch.bincount(group[better], minlength=size)
    lost = F.softplus(scores[worse] - scores[better]) / pairs[group[better]]
    return lost.sum() / (pairs > 0).sum().clamp(min=1)


POINTWISE: dict[str, Callable[..., Tensor]] = {"binary_cross_entropy": binary_cross_entropy, "mean_squared_error": mean_squared_error}
GROUPWISE: dict[str, Callable[..., Tensor]] = {"listnet": listnet, "softmax": softmax, "lambdarank": lambdarank, "bpr": pairwise}


def of_task(loss: str, scores: Tensor, labels: Tensor, groups: Tensor | None, weights: Tensor | None = None) -> Tensor:
    """The loss that a ``Label`` names. Row ``weights`` are those of point-wise losses; ``lambdarank@10`` looks at the first 10 places."""
    name, _, k = loss.partition("@")
    if name in POINTWISE:
        return POINTWISE[name](scores, labels, weights)
    if groups is None:
        raise ValueError(f"the loss {loss!r} compares the rows of a group: the examples need groups")
    return GROUPWISE[name](scores, labels, groups, int(k)) if k else GROUPWISE[name](scores, labels, groups)


def _grouped(scores: Tensor, labels: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """The rows that have a label and are not alone in their group, their groups as numbers from 0, and how many groups these are."""
    known = ~torch.isnan(labels)
    if not bool(known.all()):
        scores, labels, groups = scores[known], labels[known], groups[known]
    _, group, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    several = counts[group] > 1
    if not bool(several.all()):
        return _grouped(scores[several], labels[several], groups[several])
    return scores, labels, group, len(counts)


def _log_softmax(scores: Tensor, group: Tensor, size: int) -> Tensor:
    highest = scores.detach().new_full((size,), -torch.inf).scatter_reduce(0, group, scores.detach(), "amax")
    shifted = scores - highest[group]
    return shifted - scores.new_zeros(size).index_add(0, group, shifted.exp()).log()[group]


def _lowest(labels: Tensor, group: Tensor, size: int) -> Tensor:
    return labels.new_full((size,), torch.inf).scatter_reduce(0, group, labels, "amin")


def _mixed(labels: Tensor, group: Tensor, size: int) -> Tensor:
    """bool ``[G]``: groups whose labels are not all the same."""
    return torch.zeros(size, dtype=torch.bool).index_fill_(0, group[labels > _lowest(labels, group, size)[group]], True)


def _pairs(labels: Tensor, group: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Places of all pairs of one group, the first labelled higher than the second: ``[P]`` and ``[P]``."""
    order = torch.argsort(group, stable=True)
    counts = torch.bincount(group, minlength=size)
    starts = torch.cumsum(counts, 0) - counts
    above = (labels > _lowest(labels, group, size)[group]).nonzero()[:, 0]  # all that can be better than something
    each = counts[group[above]]
    better = torch.repeat_interleave(above, each)
    first = torch.cumsum(each, 0) - each
    place = torch.arange(len(better)) - torch.repeat_interleave(first - starts[group[above]], each)
    worse = order[place]
    differ = labels[better] > labels[worse]
    return better[differ], worse[differ]


def _discounts(scores: Tensor, group: Tensor, size: int, k: int) -> Tensor:
    """1 / log2(1 + place) ``[N]`` of each row, places from 1 by score within its group; 0 beyond the first ``k`` (0: none is beyond)."""
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    counts = torch.bincount(group, minlength=size)
    place = torch.empty_like(order)
    place[order] = 1 + torch.arange(len(order)) - torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    discount = 1 / (1 + place.to(scores.dtype)).log2()
    return torch.where(place <= k, discount, 0.0) if k else discount
