"""A history as one vector: its events weighed by what they say about the candidate, and summed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from palate.layers.activations import ACTIVATIONS


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis of the places where ``mask`` is true, 0 elsewhere (all zeros where it is nowhere true)."""
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1) * mask


def weighted_sum(weights: Tensor, history: Tensor) -> Tensor:
    """``weights [N, L]`` times ``history [N, L, W]`` (or ``[1, L, W]``, one history for all), summed over places: ``[N, W]``."""
    if len(history) == 1:
        return weights @ history[0]
    return torch.bmm(weights[:, None], history)[:, 0]


class ActivationUnit(nn.Module):
    """How much each event counts for the candidate: weight = MLP([e; a; e - a; e * a]), any real number, 0 where there is no event.

    ``history [N, L, W]`` (or ``[1, L, W]``, one for all), ``mask`` alike, ``candidate [N, W] -> [N, L]``. The first layer is linear in e once a is
    known: e (W_e + W_d + a W_p) + a (W_a - W_d), so [e; a; e - a; e * a] is never written out. Only places with an event enter
    Dice's statistics. Zhou et al., KDD 2018, section 4.3.
    """

    def __init__(self, width: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"attention sizes must be one or more numbers of 1 or more, not {tuple(hidden)}")
        self.first = nn.Parameter(torch.empty(4, width, hidden[0]))  # of e, a, e - a, e * a
        self.bias = nn.Parameter(torch.zeros(hidden[0]))
        self.activations = nn.ModuleList(ACTIVATIONS[activation](size) for size in hidden)
        self.layers = nn.ModuleList(nn.Linear(size, following) for size, following in pairwise((*hidden, 1)))
        nn.init.xavier_normal_(self.first.data.view(-1, hidden[0]))

    def forward(self, history: Tensor, mask: Tensor, candidate: Tensor) -> Tensor:
        size, length = len(candidate), history.shape[1]
        of_event, of_candidate, of_difference, of_product = self.first.unbind()
        by_row = torch.addcmul(of_event + of_difference, candidate[:, :, None], of_product)  # [N, W, H]
        shift = torch.addmm(self.bias, candidate, of_candidate - of_difference)  # [N, H]
        if len(history) == 1:  # one product for all rows, place by place
            values = (history[0] @ by_row.transpose(0, 1).flatten(1)).view(length, size, -1) + shift[None]  # [L, N, H]
            there = mask.T.expand(length, size)
        else:
            values, there = torch.baddbmm(shift[:, None], history, by_row), mask  # [N, L, H]
        values, places = values.flatten(0, 1), None  # [N*L, H]
        if not bool(mask.all()):
            places = there.flatten().nonzero()[:, 0]
            values = values.index_select(0, places)
        for activation, layer in zip(self.activations, self.layers, strict=True):
            values = layer(activation(values))
        weights = values[:, 0]
        if places is not None:
            weights = weights.new_zeros(size * length).index_copy(0, places, weights)
        weights = weights.view(there.shape)
        return weights.T if len(history) == 1 else weights


class Heads(nn.Module):
    """Several attentions of the candidate side by side: ``events [N, L, Z]``, ``mask [N, L]``, ``candidate [N, W] -> [N, heads * Z]``.

    Head i is the sum of the events weighed by softmax((W_bi z)(W_ai a)) over the places where ``mask`` is true (zeros where there is none);
    the inner products, over ``dim`` entries, are not scaled. Pi et al., CIKM 2020, section 3.3.
    """

    def __init__(self, width: int, candidate: int, dim: int, heads: int) -> None:
        super().__init__()
        self.of_event = nn.Parameter(torch.empty(heads, dim, width))
        self.of_candidate = nn.Parameter(torch.empty(heads, candidate, dim))
        for weight in (self.of_event, self.of_candidate):
            for head in weight.data:
                nn.init.xavier_normal_(head)

    def forward(self, events: Tensor, mask: Tensor, candidate: Tensor) -> Tensor:
        queries = (candidate @ self.of_candidate @ self.of_event).transpose(0, 1)  # [N, heads, Z]
        weights = masked_softmax(queries @ events.transpose(1, 2), mask[:, None])  # [N, heads, L]
        return (weights @ events).flatten(1)
