"""Losses of every item at once, whose scores are never whole in memory: those of a few rows are made, judged and turned into their gradient.

A matrix of states x items would cost more to write, to read and to be given by the system than to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 1 << 20  #: scores made at once: few enough to stay in the cache
FEWEST = 128  #: rows at once, however many items there are

Cost = Callable[[Tensor, slice], Tensor]
Amend = Callable[[Tensor, slice], object]


def blockwise(states: Tensor, weight: Tensor, cost: Cost, bias: Tensor | None = None) -> Tensor:
    """The sum of ``cost(scores, rows)`` over blocks of rows of ``states [B, D] @ weight [I, D].T + bias [I]``.

    ``cost`` gives a scalar and leaves its gradient in the place of the scores ``[rows, I]``.
    """
    found: Tensor = _Blockwise.apply(states, weight, bias, cost)
    return found


def multinomial(states: Tensor, weight: Tensor, ids: Tensor, bias: Tensor | None = None) -> Tensor:
    """-sum of log softmax(scores) over what each row took, ``ids [B, L]`` (item + 1, each once, 0 is none); the mean over rows."""
    there, columns = ids > 0, (ids - 1).clamp(min=0)
    counts = there.sum(1)

    def cost(scores: Tensor, rows: slice) -> Tensor:
        own = torch.where(there[rows], scores.gather(1, columns[rows]), 0.0).sum()
        highest = scores.amax(1, keepdim=True)
        sums = scores.sub_(highest).exp_().sum(1)
        scores.mul_((counts[rows] / sums)[:, None]).scatter_add_(1, columns[rows], -there[rows].to(scores.dtype))
        return (counts[rows] * (sums.log() + highest[:, 0])).sum() - own

    return blockwise(states, weight, cost, bias) / max(len(ids), 1)


def each_alone(states: Tensor, weight: Tensor, ids: Tensor) -> Tensor:
    """As ``multinomial``, but each item that a row took is compared with those it did not take, never with its others.

    A row of many items thus pushes none of them down for being likelier than the rest.
    """
    there = ids > 0
    columns = torch.where(there, ids, ids.amax(1, keepdim=True)).sub(1).clamp(min=0)  # in the place of padding an item of the same row

    def cost(scores: Tensor, rows: slice) -> Tensor:
        here, at = there[rows], columns[rows]
        own, highest = scores.gather(1, at), scores.amax(1, keepdim=True)
        scores.sub_(highest).exp_().scatter_(1, at, 0.0)
        taken = (own - highest).exp()
        sums = (taken + scores.sum(1, keepdim=True)).clamp(min=torch.finfo(scores.dtype).tiny)  # [rows, L]
        scores.mul_((here / sums).sum(1, keepdim=True)).scatter_(1, at, (taken / sums - 1) * here.any(1, keepdim=True))
        return torch.where(here, sums.log() + highest - own, 0.0).sum()

    return blockwise(states, weight, cost) / max(len(ids), 1)


def log_sum(states: Tensor, weight: Tensor, amend: Amend) -> Tensor:
    """``[B]``: log sum exp of each row of the scores ``states [B, D] @ weight [I, D].T``, which are made anew for the gradient.

    ``amend`` changes those of some ``rows [rows, I]`` in their place by what does not depend on them: corrections, or minus infinity for what does
    not count. Minus infinity where nothing counts.
    """
    found: Tensor = _LogSum.apply(states, weight, amend)
    return found


class _LogSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, amend: Amend) -> Tensor:
        found = states.new_empty(len(states))
        for part, scores in _blocks(states, weight):
            amend(scores, part)
            highest = scores.amax(1).clamp_(min=torch.finfo(scores.dtype).min)
            found[part] = scores.sub_(highest[:, None]).exp_().sum(1).log_().add_(highest)
        ctx.save_for_backward(states, weight, found)
        ctx.amend = amend
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        states, weight, found = ctx.saved_tensors
        of_states, of_weight = torch.empty_like(states), torch.zeros_like(weight)
        least = found.clamp(min=torch.finfo(found.dtype).min)
        for part, scores in _blocks(states, weight):
            ctx.amend(scores, part)
            scores.sub_(least[part, None]).exp_().mul_(gradient[part, None])
            torch.mm(scores, weight, out=of_states[part])
            of_weight.addmm_(scores.T, states[part])
        return of_states, of_weight, None


def _blocks(states: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The products of a few rows at a time, in the same memory."""
    rows = max(BLOCK // max(len(weight), 1), FEWEST)
    block = states.new_empty(min(rows, len(states)), len(weight))
    for start in range(0, len(states), rows):
        part = slice(start, start + rows)
        yield part, torch.mm(states[part], weight.T, out=block[: len(states[part])])


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, cost: Cost) -> Tensor:
        of_states, of_weight = torch.empty_like(states), torch.zeros_like(weight)
        of_bias = None if bias is None else torch.zeros_like(bias)
        total = states.new_zeros((), dtype=torch.double)
        for part, scores in _blocks(states, weight):
            if bias is not None:
                scores += bias
            total += cost(scores, part)
            if any(ctx.needs_input_grad):
                torch.mm(scores, weight, out=of_states[part])
                of_weight.addmm_(scores.T, states[part])
                if of_bias is not None:
                    of_bias += scores.sum(0)
        ctx.save_for_backward(of_states, of_weight, of_bias)
        return total.to(states.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if one is None else one.mul_(gradient) for one in ctx.saved_tensors), None  # in place: a second time torch says so
