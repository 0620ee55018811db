"""Propagation over the graph of who took what: users and items as one set of nodes, each edge over the roots of its ends' degrees."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.candidates import offsets_of
from palate.datasets.interactions import Interactions

warnings.filterwarnings("ignore", "Sparse (CSR tensor support is in beta|invariant checks are implicitly disabled)")


class Edges:
    """The graph in rows: ``offsets`` int32 ``[N + 1]``, ``columns`` int32 ``[2 E]``, N = users and then items, each pair there and back.

    ``rows`` int64 ``[2 E]`` are the entries' rows, and ``pair`` int64 ``[2 E]`` which of the E pairs each is: an edge goes both ways or neither.
    """

    def __init__(self, interactions: Interactions) -> None:
        back = interactions.by_item
        pairs, users = len(interactions), interactions.n_users
        counts = np.concatenate((np.diff(interactions.offsets), np.diff(back.offsets)))
        columns = np.concatenate((interactions.items + users, back.items))
        pair = np.concatenate((np.arange(pairs), np.argsort(interactions.items, kind="stable")))
        self.offsets, self.columns = (torch.from_numpy(part.astype(np.int32)) for part in (offsets_of(counts), columns))
        self.rows, self.pair = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)), torch.from_numpy(pair)
        self.pairs, self.nodes, self.users = pairs, len(counts), users

    def normalised(self, kept: Tensor | None = None) -> Tensor:
        """``D^-1/2 A D^-1/2`` ``[N, N]`` in rows, of the pairs ``kept`` (bool ``[E]``; all where None is given), with the degrees that are left.

        What is dropped keeps its place, as a zero.
        """
        there = torch.ones(len(self.columns)) if kept is None else kept[self.pair].float()
        degrees = torch.zeros(self.nodes).index_add_(0, self.rows, there)
        scale = torch.where(degrees > 0, degrees.rsqrt(), 0.0)
        values = there * scale[self.rows] * scale[self.columns]
        return torch.sparse_csr_tensor(self.offsets, self.columns, values, (self.nodes, self.nodes), check_invariants=False)


class _Sum(torch.autograd.Function):
    """``[x +] A_1 x + A_2 A_1 x + ...`` of symmetric A: nothing between is kept, its gradient is the same from the other end.

    ``disturb`` changes what each step gives by something that does not depend on x.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, own: bool, disturb: Callable[[Tensor], Tensor] | None, *steps: Tensor) -> Tensor:
        ctx.steps, ctx.own = steps, own
        total, last = values.clone() if own else torch.zeros_like(values), values
        for step in steps:
            last = step @ last if disturb is None else disturb(step @ last)
            total += last
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient.contiguous()
        back = gradient
        for step in reversed(ctx.steps[1:]):
            back = gradient + step @ back
        back = ctx.steps[0] @ back if ctx.steps else torch.zeros_like(gradient)
        return (gradient + back if ctx.own else back), None, None, *(None for _ in ctx.steps)


def propagated(values: Tensor, steps: Sequence[Tensor], own: bool = True, disturb: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """The sum of ``values [N, D]`` (if ``own``) and of what each of the symmetric matrices ``steps`` makes of what came before it."""
    return _Sum.apply(values, own, disturb, *steps)
