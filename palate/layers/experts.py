"""Perceptrons side by side, each layer of all of them in one product, and the gates that mix what they give.

Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from palate.layers.towers import Dropout


class Beside(nn.Module):
    """``count`` linear layers: ``[N, inputs]`` (all read the same) or ``[N, count, inputs]`` (each its own) ``-> [N, count, outputs]``."""

    def __init__(self, count: int, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, count, outputs))  # inputs first: seen flat, one wide matrix
        self.bias = nn.Parameter(torch.zeros(count, outputs)) if bias else None
        nn.init.normal_(self.weight, 0, (2 / (inputs + outputs)) ** 0.5)  # Xavier's, of each layer by itself

    def forward(self, values: Tensor) -> Tensor:
        if values.dim() == 2:
            found = (values @ self.weight.flatten(1)).view(len(values), *self.weight.shape[1:])
        else:
            found = torch.bmm(values.transpose(0, 1), self.weight.transpose(0, 1)).transpose(0, 1)
        return found if self.bias is None else found + self.bias


class Experts(nn.Module):
    """``count`` perceptrons of the layers ``hidden``, ReLU and dropout after each: ``[N, inputs]`` or ``[N, count, inputs] -> [N, count, width]``.

    Without a hidden layer they give what they get.
    """

    def __init__(self, count: int, inputs: int, hidden: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        if min((*hidden, 1)) < 1:
            raise ValueError(f"hidden sizes must be 1 or more, not {tuple(hidden)}")
        self.layers = nn.ModuleList(Beside(count, *pair) for pair in pairwise((inputs, *hidden)))
        self.dropout = Dropout(dropout)
        self.width = (inputs, *hidden)[-1]

    def forward(self, values: Tensor) -> Tensor:
        for layer in self.layers:
            values = self.dropout(torch.relu(layer(values)))
        return values


class Gates(nn.Module):
    """``count`` gates ``softmax(W x)`` over ``experts``: of ``[N, inputs]`` or ``[N, count, inputs]`` the shares ``[N, count, experts]``.

    ``allowed`` bool ``[count, experts]``: which experts a gate may use (None: all). In training each share is set to 0 with probability ``dropout``
    and the rest are divided by their sum, so that no gate comes to live on one expert (Zhao et al., "Recommending What Video to Watch
    Next", RecSys 2019, section 4.2); a gate that would lose all keeps all.
    In our worlds gates did not collapse without it either; what it gave is that any one expert could be lost at little cost.
    """

    allowed: Tensor | None

    def __init__(self, count: int, inputs: int, experts: int, dropout: float = 0.0, allowed: Tensor | None = None) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"gate_dropout must be at least 0 and below 1, not {dropout}")
        self.count, self.rate = count, dropout
        self.scores = Beside(count, inputs, experts, bias=False)
        self.register_buffer("allowed", allowed, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        scores = self.scores(values)  # [N, count, E]
        if self.allowed is not None:
            scores = scores.masked_fill(~self.allowed, -torch.inf)
        if self.training and self.rate:
            left = scores.masked_fill(torch.rand_like(scores) < self.rate, -torch.inf)  # before the softmax: a share that is left is never 0 / 0
            scores = torch.where((left > -torch.inf).any(-1, keepdim=True), left, scores)
        return scores.softmax(-1)


class Heads(nn.Module):
    """A tower of the layers ``hidden`` and one output for each task: ``[N, inputs]`` or ``[N, T, inputs] -> [N, T]``."""

    def __init__(self, tasks: int, inputs: int, hidden: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.towers = Experts(tasks, inputs, hidden, dropout)
        self.output = Beside(tasks, self.towers.width, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(tasks))

    def forward(self, values: Tensor) -> Tensor:
        return self.output(self.towers(values)).squeeze(-1) + self.bias
