"""Attention of a candidate over states: a softmax over bilinear scores. Zhou et al., "Deep Interest Evolution Network", AAAI 2019, equation 12."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.layers.pooling import masked_softmax


class TargetAttention(nn.Module):
    """``a_t = exp(h_t W e) / sum over j of exp(h_j W e)`` of states ``h`` and a candidate ``e``; 0 where there is no state, also for all."""

    def __init__(self, states: int, candidate: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(candidate, states))
        nn.init.xavier_normal_(self.weight)

    def forward(self, states: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[N, L]`` of ``states [N, L, S]`` (``[1, L, S]``: the same for all), ``candidate [N, C]`` and ``mask [N, L]`` or ``[1, L]``."""
        query = candidate @ self.weight  # [N, S]
        scores = query @ states[0].T if len(states) == 1 else (states @ query[:, :, None])[:, :, 0]  # [N, L]
        return torch.softmax(scores, 1) if mask is None else masked_softmax(scores, mask)
