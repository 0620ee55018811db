"""Search in long histories: the few events among thousands that concern a candidate.

Pi et al., "Search-based User Interest Modeling with Lifelong Sequential Behavior Data for Click-Through Rate Prediction", CIKM 2020, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.schema import UNKNOWN


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and places ``[N, min(k, L)]`` of the k largest of each row of ``scores [N, L]``, in no order.

    A long row is folded into lanes first: the k largest lie in the k lanes with the largest maxima, so that few numbers are left to be sorted.
    """
    size, length = scores.shape
    depth = int((length / k) ** 0.5)
    if depth < 4:
        return scores.topk(min(k, length), 1, sorted=False)
    lanes = length // depth
    folded = scores[:, : depth * lanes].unflatten(1, (depth, lanes))
    best = folded.amax(1).topk(k, 1, sorted=False).indices  # [N, k]
    inside = (best[:, None] + lanes * torch.arange(depth)[:, None]).flatten(1)
    places = torch.cat([inside, torch.arange(depth * lanes, length).expand(size, -1)], 1)
    values, chosen = scores.gather(1, places).topk(k, 1, sorted=False)
    return values, places.gather(1, chosen)


def hard_search(events: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The last k events that are alike: places ``[N, K]`` and whether there is an event.

    ``events [N, L]`` (``[1, L]``: one history for all) are ids of an attribute, ``candidates [N]`` or ``[N, C]`` the candidate's; padding and
    unknown values are like nothing.
    """
    wanted = candidates.view(len(candidates), -1)  # [N, C]
    if len(events) == 1:  # sorted once: those of one value lie side by side, in their order
        ordered, order = events[0].sort(stable=True)
        first, end = torch.searchsorted(ordered, wanted), torch.searchsorted(ordered, wanted, right=True)
        at = end[:, :, None] - 1 - torch.arange(min(k, len(order)))  # [N, C, K]
        found = ((at >= first[:, :, None]) & (wanted > UNKNOWN)[:, :, None]).flatten(1)
        places = order[at.clamp(min=0).flatten(1)]
        if wanted.shape[1] == 1:
            return places, found
        last, chosen = largest(torch.where(found, places, -1), k)
        return places.gather(1, chosen), last >= 0
    alike = torch.zeros((), dtype=torch.bool)
    for ids in wanted.T:
        alike = alike | ((events == ids[:, None]) & (ids > UNKNOWN)[:, None])
    last, places = largest(torch.where(alike, torch.arange(1, events.shape[1] + 1, dtype=torch.int32), 0), k)
    return places, last > 0


class SoftSearch(nn.Module):
    """Relevance r = (W_b e)(W_a a) of events ``history [N, L, W]`` (or ``[1, L, W]``) to ``candidate [N, W]``: ``[N, L]``.

    Events and candidate are of the same tables, so W_a starts equal to W_b, with orthogonal rows: what is alike is found from the first step on,
    and exact search has something to learn from.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.of_event = nn.Linear(width, dim, bias=False)
        self.of_candidate = nn.Linear(width, dim, bias=False)
        nn.init.orthogonal_(self.of_event.weight)
        self.of_candidate.weight.data.copy_(self.of_event.weight)

    def forward(self, history: Tensor, candidate: Tensor) -> Tensor:
        if len(history) == 1:
            return self.of_candidate(candidate) @ self.of_event(history[0]).T
        return torch.bmm(history, self.query(candidate)[:, :, None])[:, :, 0]

    def query(self, candidate: Tensor) -> Tensor:
        """``[N, W]``: what an event's inner product with is its relevance."""
        return self.of_candidate(candidate) @ self.of_event.weight
