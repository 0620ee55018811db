"""Sums over owners: what a model computes once for the user, once ahead for each item, and adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Half = Mapping[str, Tensor]


def total(halves: Sequence[Half]) -> Half:
    """The sum by name of halves ``[N, ...]`` or ``[1, ...]`` (one row counts for all)."""
    if len(halves) == 1:
        return halves[0]
    summed = dict(halves[0])
    for half in halves[1:]:
        for name, values in half.items():
            summed[name] = summed[name] + values
    return summed


def rows(half: Half, chosen: Tensor) -> dict[str, Tensor]:
    """Rows ``chosen`` int64 ``[n]`` of a half kept for a whole catalogue."""
    return {name: values.index_select(0, chosen) for name, values in half.items()}


def of_numbers(values: Tensor, vectors: Tensor, half_of_fields: Callable[[Tensor], Half], squared: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The half of fields that are numbers ``values [N, F]`` times ``vectors [F, D]``, without writing out ``[N, F, D]``.

    Every part of a half is a sum over fields, linear in each (or of second degree: those ``squared``). So the half of each field alone, at
    value 1, is all that is needed: F rows instead of N times F vectors.
    """
    alone = half_of_fields(torch.diag_embed(vectors.T, dim1=0, dim2=1))  # [F, F, D]: row f holds field f only
    squares = values.square()
    found = {}
    for name, part in alone.items():
        by_value = (squares if name in squared else values) @ part.flatten(1)
        found[name] = by_value.view(len(values), *part.shape[1:])
    return found


def placed(fields: Tensor, places: Tensor, among: Tensor) -> Tensor:
    """Of ``fields [N, f, D]``, which stand at ``places [f]``, those that stand at ``among [G]``: ``[N, G, D]``, in halves that add up.

    Zeros for a place of ``among`` that they do not have; ``[N, 1, 1]`` where they have none of them.
    """
    into, source = (among[:, None] == places).nonzero().unbind(1)
    if not len(into):
        return fields.new_zeros(len(fields), 1, 1)
    found = fields.index_select(1, source)
    if len(into) == len(among):
        return found
    return fields.new_zeros(len(fields), len(among), fields.shape[2]).index_copy(1, into, found)


def share(fields: Tensor, weight: Tensor, places: Tensor) -> Tensor:
    """Of the product of all fields with ``weight [F D, P]`` the share ``[N, P]`` of ``fields [N, f, D]``, which stand at ``places [f]``."""
    dim = fields.shape[2]
    if len(places) * dim != len(weight):
        weight = weight.view(-1, dim, weight.shape[1]).index_select(0, places).flatten(0, 1)
    return fields.flatten(1) @ weight
