"""Negatives for retrieval: other people's items in the batch and uniform draws from the catalogue. Nothing else ever is one.

An item that was shown and not taken is no negative here: it was relevant enough to be retrieved, and a recall model taught to avoid
it learns the reverse of its duty. So no function of this file takes exposures.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from palate.batch import Batch
from palate.schema import nearest

KINDS = ("uniform", "popularity")


class Sampler:
    """Draws items as negatives from a mixture: ``{"uniform": 0.5, "popularity": 0.5}`` draws half of them from all items alike.

    ``counts [I]``: how often each item was taken; ``popularity`` draws in proportion to ``counts ** power`` (0.75: Mikolov et al., NIPS 2013).
    Ids are rows + 1. ``log_q [I + 1]`` is the log-probability of each id under the mixture (0, which is never drawn: minus infinity).
    """

    def __init__(self, counts: Tensor, mixture: Mapping[str, float] | None = None, power: float = 0.75) -> None:
        shares = dict(mixture or {"uniform": 1.0})
        for name, share in shares.items():
            if name not in KINDS:
                raise ValueError(f"there is no way {name!r} to draw negatives{nearest(name, KINDS)}")
            if not 0 <= share < float("inf"):
                raise ValueError(f"the share of {name!r} must be 0 or more, not {share}")
        total = sum(shares.values())
        if not len(counts) or not total > 0:
            raise ValueError("negatives need at least one item and a share above 0")
        known = counts.double().clamp(min=0)
        popular = torch.where(known > 0, known**power, 0.0)
        alike = torch.full_like(known, 1 / len(known))
        popular = popular / popular.sum() if popular.sum() > 0 else alike
        mixed = (shares.get("uniform", 0.0) * alike + shares.get("popularity", 0.0) * popular) / total
        self.size = len(known)
        self.log_q = torch.cat((torch.zeros(1, dtype=torch.double), mixed)).log().float()
        self._reached = None if not shares.get("popularity") else mixed.cumsum(0)

    def into(self, batch: Batch, shape: tuple[int, ...], generator: torch.Generator | None = None) -> None:
        """``negative`` and ``log_q`` of this shape, put into the batch."""
        batch["negative"] = self.draw(shape, generator)
        batch["log_q"] = self.log_q[batch["negative"]]

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Ids int64 of this shape, drawn independently."""
        if self._reached is None:
            return torch.randint(1, self.size + 1, shape, generator=generator)
        chance = torch.rand(shape, generator=generator, dtype=torch.double) * self._reached[-1]
        return torch.searchsorted(self._reached, chance, right=True).clamp_(max=self.size - 1) + 1


def log_mixed(counts: Tensor, batch: int, uniform: int) -> Tensor:
    """Log-probability ``[I]`` of each catalogue item under the mix of ``batch`` in-batch and ``uniform`` uniform columns.

    ``counts [I]``: how often each item is an example's positive. Mixed negative sampling: Yang et al., WWW 2020 companion.
    """
    frequency = counts.double() / counts.sum().clamp(min=1)
    mixed = (batch * frequency + uniform / max(len(counts), 1)) / (batch + uniform)
    return mixed.clamp(min=1e-12).log().float()


def taken(user_row: Tensor, item_row: Tensor) -> Tensor:
    """bool ``[B, N]``: column n holds an item that row b's user took in this batch (column b of row b itself is False).

    ``user_row`` int64 ``[B]``, ``item_row`` int64 ``[N]`` whose first B are the users' own. Such columns must not serve as negatives.
    """
    size = len(user_row)
    strangers = -1 - torch.arange(size)  # two users the catalogue does not know are not one
    users, user = torch.unique(torch.where(user_row < 0, strangers, user_row), return_inverse=True)
    row, column = (item_row[:size, None] == item_row).nonzero(as_tuple=True)
    took = torch.zeros(len(users), len(item_row), dtype=torch.bool)
    took[user[row], column] = True
    mask = took.index_select(0, user)
    place = torch.arange(size)
    mask[place, place] = False
    return mask
