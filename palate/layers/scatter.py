"""Sums by row: what a table's gradient is made of, in compiled loops that never write out one vector a place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor


def summed(places: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Rows int64 ``[R]``, each once, and the sum ``[R, D]`` of ``values [N, D]`` of each row; ``places [N]`` says whose each is.

    Rows come in the order in which they are first read: numbering them by a small hash table costs the same however large the table is, and less
    than sorting.
    """
    rows, number = _numbered(places.contiguous().numpy(), -1)
    return torch.from_numpy(rows), torch.from_numpy(_summed(values.contiguous().numpy(), number, len(rows)))


def spread(ids: Tensor, padding: int, values: Tensor) -> tuple[Tensor, Tensor]:
    """The same where row n of ``values [N, D]`` belongs in equal shares to those of ``ids [N, L]`` that are not ``padding``."""
    rows, number = _numbered(ids.contiguous().numpy().ravel(), padding)
    return torch.from_numpy(rows), torch.from_numpy(_spread(values.contiguous().numpy(), number.reshape(ids.shape), len(rows)))


def mean(weight: Tensor, ids: Tensor, padding: int) -> Tensor:
    """``[N, D]``: the mean of the rows ``ids [N, L]`` of ``weight [V, D]``, each id within it, without ``padding``; zeros where nothing is left."""
    return torch.from_numpy(_mean(weight.detach().contiguous().numpy(), ids.contiguous().numpy(), padding))


@njit(cache=True, nogil=True)
def _numbered(places, padding):  # type: ignore[no-untyped-def]
    """The distinct ``places`` without ``padding``, and the number of each place among them (-1: padding)."""
    room = 16
    while room < 2 * len(places):
        room *= 2
    slots = np.full(room, -1, np.int64)
    rows, inverse = np.empty(len(places), np.int64), np.empty(len(places), np.int64)
    count = 0
    for n in range(len(places)):
        place = places[n]
        if place == padding:
            inverse[n] = -1
            continue
        mixed = np.uint64(place) * np.uint64(0x9E3779B97F4A7C15)
        at = np.int64((mixed >> np.uint64(32)) & np.uint64(room - 1))
        while slots[at] >= 0 and rows[slots[at]] != place:
            at = (at + 1) & (room - 1)
        if slots[at] < 0:
            slots[at] = count
            rows[count] = place
            count += 1
        inverse[n] = slots[at]
    return rows[:count].copy(), inverse


@njit(cache=True, nogil=True)
def _summed(values, inverse, size):  # type: ignore[no-untyped-def]
    found = np.zeros((size, values.shape[1]), values.dtype)
    for n in range(len(values)):
        row = inverse[n]
        if row < 0:
            continue
        for d in range(values.shape[1]):
            found[row, d] += values[n, d]
    return found


@njit(cache=True, nogil=True)
def _spread(values, number, size):  # type: ignore[no-untyped-def]
    found = np.zeros((size, values.shape[1]), values.dtype)
    share = np.empty(values.shape[1], values.dtype)
    for n in range(len(values)):
        count = 0
        for m in range(number.shape[1]):
            count += number[n, m] >= 0
        if not count:
            continue
        for d in range(values.shape[1]):
            share[d] = values[n, d] / count
        for m in range(number.shape[1]):
            row = number[n, m]
            if row >= 0:
                for d in range(values.shape[1]):
                    found[row, d] += share[d]
    return found


@njit(cache=True, nogil=True, fastmath={"contract"})
def _mean(weight, ids, padding):  # type: ignore[no-untyped-def]
    found = np.zeros((len(ids), weight.shape[1]), weight.dtype)
    for n in range(len(ids)):
        count = 0
        for m in range(ids.shape[1]):
            row = ids[n, m]
            if row != padding:
                count += 1
                for d in range(weight.shape[1]):
                    found[n, d] += weight[row, d]
        if count:
            share = weight.dtype.type(1.0) / weight.dtype.type(count)
            for d in range(weight.shape[1]):
                found[n, d] *= share
    return found


class Mean(torch.autograd.Function):
    """``[N, D]``: the mean of the rows ``ids [N, L]`` of ``weight [V, D]`` without ``padding``; the gradient has each row once."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.padding, ctx.shape = padding, weight.shape
        return mean(weight, ids, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        return _sparse(*spread(ids, ctx.padding, gradient), ctx.shape), None, None


class Looked(torch.autograd.Function):
    """``[..., D]``: the rows ``ids [...]`` of ``weight [V, D]``, for ids that repeat much; the gradient has each row but ``padding`` once."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.padding, ctx.shape = padding, weight.shape
        return torch.nn.functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        rows, number = _numbered(ids.contiguous().numpy().ravel(), ctx.padding)
        sums = _summed(gradient.reshape(-1, gradient.shape[-1]).contiguous().numpy(), number, len(rows))
        return _sparse(torch.from_numpy(rows), torch.from_numpy(sums), ctx.shape), None, None


def _sparse(rows: Tensor, sums: Tensor, shape: torch.Size) -> Tensor:
    return torch.sparse_coo_tensor(rows[None], sums, shape, check_invariants=False)


class Products(torch.autograd.Function):
    """``[N, L]``: the inner products of ``vectors [N, D]`` with the rows ``ids [N, L]`` of ``weight [V, D]``; the gradient has each row once."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, weight, ids)
        return torch.from_numpy(_products(*(one.detach().contiguous().numpy() for one in (vectors, weight, ids))))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        vectors, weight, ids = ctx.saved_tensors
        rows, number = _numbered(ids.contiguous().numpy().ravel(), -1)
        pulls, own, table, places = (one.detach().contiguous().numpy() for one in (gradient, vectors, weight, ids))
        of_vectors, sums = _products_back(pulls, own, table, places, number.reshape(ids.shape), len(rows))
        return torch.from_numpy(of_vectors), _sparse(torch.from_numpy(rows), torch.from_numpy(sums), weight.shape), None


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _products(vectors, weight, ids):  # type: ignore[no-untyped-def]
    found = np.empty(ids.shape, weight.dtype)
    for n in range(len(ids)):
        for m in range(ids.shape[1]):
            row, total = ids[n, m], weight.dtype.type(0.0)
            for d in range(weight.shape[1]):
                total += vectors[n, d] * weight[row, d]
            found[n, m] = total
    return found


@njit(cache=True, nogil=True, fastmath={"contract"})
def _products_back(gradient, vectors, weight, ids, number, size):  # type: ignore[no-untyped-def]
    of_vectors, sums = np.zeros_like(vectors), np.zeros((size, weight.shape[1]), weight.dtype)
    for n in range(len(ids)):
        for m in range(ids.shape[1]):
            row, place, pull = ids[n, m], number[n, m], gradient[n, m]
            if pull == 0:  # no negative here
                continue
            for d in range(weight.shape[1]):
                of_vectors[n, d] += pull * weight[row, d]
                sums[place, d] += pull * vectors[n, d]
    return of_vectors, sums
