"""Negatives for retrieval: other people's items in the batch, draws from the catalogue, and items that speak for one user in vain.

An item that was shown and not taken is no negative here: it was relevant enough to be retrieved, and a recall model taught to avoid
it learns the reverse of its duty. So no function of this file takes exposures but to leave them out (``Own.of``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.batch import Batch
from palate.candidates import Ints
from palate.schema import nearest

KINDS = ("uniform", "popularity", "hard", "ranked_out")
OWN = ("hard", "ranked_out")  #: kinds that are drawn from items of each user's own
OPTIONS = ("power", "ranks")  #: what a recipe's table says beside the shares


class Own:
    """Items of each user's own to draw negatives from: user u's are as likely as each other. Ids are rows + 1, and 0 is nobody and none."""

    def __init__(self, users: Any, items: Any, n_users: int, n_items: int) -> None:
        """``users items``: pairs of catalogue rows, in any order, each pair counted once."""
        self._size = n_items + 1
        self.keys = torch.unique((torch.as_tensor(users).long() + 1) * self._size + torch.as_tensor(items).long() + 1)
        self._start = torch.searchsorted(self.keys, torch.arange(n_users + 2) * self._size)  # [U + 2]

    @classmethod
    def of(cls, users: Ints, items: Ints, apart: tuple[Ints, Ints], n_users: int, n_items: int) -> Own:
        """These pairs but those that ``apart`` has too: what the user took, or was shown. Pairs of unknown rows (-1) are left out."""
        keys, gone = (of[0][known] * np.int64(n_items) + of[1][known] for of in ((users, items), apart) for known in [(of[0] >= 0) & (of[1] >= 0)])
        keys = np.setdiff1d(keys, gone)
        return cls(keys // max(n_items, 1), keys % max(n_items, 1), n_users, n_items)

    def __len__(self) -> int:
        return len(self.keys)

    def count(self, users: Tensor) -> Tensor:
        """How many items each of these users has, of the same shape."""
        return self._start[users + 1] - self._start[users]

    def draw(self, users: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """An id for each of ``users [N]``; 0 for one who has none."""
        chance, count = torch.rand(users.shape, generator=generator, dtype=torch.double), self.count(users)
        if not len(self):
            return torch.zeros_like(users)
        place = self._start[users] + torch.minimum((chance * count).long(), count - 1)
        return torch.where(count > 0, self.keys[place.clamp(0, len(self) - 1)] % self._size, 0)

    def has(self, users: Tensor, items: Tensor) -> Tensor:
        """bool ``[B, ...]``: whether an id of ``items [B, ...]`` is user b's own."""
        if not len(self):
            return torch.zeros_like(items, dtype=torch.bool)
        keys = users * self._size + items
        return self.keys[torch.searchsorted(self.keys, keys).clamp_(max=len(self) - 1)] == keys


class Sampler:
    """Draws items as negatives from a mixture: ``{"uniform": 0.5, "popularity": 0.5}`` draws half of them from all items alike.

    ``counts [I]``: how often each item was taken. ``popularity`` draws in proportion to ``counts ** power`` (0.75: Mikolov et al., NIPS 2013).
    ``hard``: what the model itself has at ``ranks`` (from 1) of the list it would give the user, looked for before each epoch
    (``training.mined.Mined``); what stands above is likely to be wanted (Huang et al., KDD 2020, section 6.1). ``ranked_out``: what recall offered
    the user and a later stage put far down, by a service's log. Both must be the smaller part: few items drawn again and again in the place of all
    others teach that even what is like the user's own is worse than anything. In two small worlds ``ranked_out`` gained nothing and lost some.
    For a user who has no such items the other kinds step in.

    Ids are rows + 1. ``log_q [I + 1]`` is the log-probability of each id under the first two kinds (0, which is never drawn: minus infinity).
    """

    def __init__(
        self,
        counts: Tensor,
        mixture: Mapping[str, float] | None = None,
        power: float = 0.75,
        ranks: tuple[int, int] = (101, 500),
        ranked_out: Own | None = None,
    ) -> None:
        shares = dict(mixture or {"uniform": 1.0})
        for name, share in shares.items():
            if name not in KINDS:
                raise ValueError(f"there is no way {name!r} to draw negatives{nearest(name, (*KINDS, *OPTIONS))}")
            if not 0 <= share < float("inf"):
                raise ValueError(f"the share of {name!r} must be 0 or more, not {share}")
        if not 0 <= power < float("inf"):
            raise ValueError(f"power must be a number of at least 0, not {power}")
        if len(ranks) != 2 or not all(type(rank) is int for rank in ranks) or not 1 <= ranks[0] <= ranks[1]:
            raise ValueError(f"ranks must be the first and the last place of a list, such as [101, 500], not {list(ranks)}")
        total = sum(shares.values())
        if not len(counts) or not total > 0:
            raise ValueError("negatives need at least one item and a share above 0")
        known = counts.double().clamp(min=0)
        popular = torch.where(known > 0, known**power, 0.0)
        alike = torch.full_like(known, 1 / len(known))
        popular = popular / popular.sum() if popular.sum() > 0 else alike
        own = {name: shares[name] / total for name in OWN if shares.get(name)}
        common = total - sum(shares.get(name, 0.0) for name in OWN)
        mixed = (shares.get("uniform", 0.0) * alike + shares.get("popularity", 0.0) * popular) / common if common > 0 else alike
        self.size, self.ranks, self.shares = len(known), (ranks[0], ranks[1]), own  #: ``shares`` of the kinds of ``OWN``
        self.log_q = torch.cat((torch.zeros(1, dtype=torch.double), mixed)).log().float()
        self._reached = None if not shares.get("popularity") else mixed.cumsum(0)
        self.own: dict[str, Own] = {} if ranked_out is None else {"ranked_out": ranked_out}

    @classmethod
    def of(cls, counts: Tensor, table: Mapping[str, Any] | None = None, ranked_out: Own | None = None) -> Sampler:
        """As a recipe says it: the shares, and ``power`` and ``ranks`` beside them."""
        options = {name: value for name, value in (table or {}).items() if name in OPTIONS}
        return cls(counts, {name: value for name, value in (table or {}).items() if name not in OPTIONS}, **options, ranked_out=ranked_out)

    def into(self, batch: Batch, shape: tuple[int, ...], generator: torch.Generator | None = None) -> None:
        """``negative`` and ``log_q`` of this shape, put into the batch, drawn for its ``user [B]``."""
        batch["negative"] = self.draw(shape, generator, batch["user"])
        batch["log_q"] = self.log_probability(batch["negative"], batch["user"])

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None, users: Tensor | None = None) -> Tensor:
        """Ids int64 of this shape, drawn independently; for ``users [B]``, B the first of the shape, where a kind is each user's own."""
        drawn = self._common(shape, generator)
        if not self.shares:
            return drawn
        if users is None:
            raise ValueError(f"{' and '.join(self.shares)} are items of one user, and here negatives are drawn for several users at once")
        chance, above = torch.rand(shape, generator=generator), 0.0
        every = users.view(-1, *[1] * (len(shape) - 1)).expand(shape)
        for name, share in self.shares.items():
            mine = (chance >= above) & (chance < above + share)
            above += share
            own = self._own(name).draw(every[mine], generator)
            drawn[mine] = torch.where(own > 0, own, drawn[mine])
        return drawn

    def log_probability(self, items: Tensor, users: Tensor) -> Tensor:
        """Log-probability of each of ``items [B, ...]`` (ids) to be drawn for ``users [B]``.

        It is that of the whole mixture, the user's own items as they are now: an item that two kinds can give counts both chances. So a corrected
        softmax estimates the full one, and hard negatives only make the estimate steadier where it matters. Where all draws are hard it
        estimates the softmax over the items that can be drawn, and no correction makes that all items.
        """
        common = self.log_q[items]
        if not self.shares:
            return common
        every = users.view(-1, *[1] * (items.ndim - 1))
        rest, chance = torch.ones(every.shape), torch.zeros(items.shape)
        for name, share in self.shares.items():
            own = self._own(name)
            count = own.count(every)
            rest = rest - torch.where(count > 0, share, 0.0)
            chance = chance + torch.where(own.has(every, items), share / count.clamp(min=1), 0.0)
        return (rest.clamp(min=0.0) * common.exp() + chance).log()

    def _common(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        if self._reached is None:
            return torch.randint(1, self.size + 1, shape, generator=generator)
        chance = torch.rand(shape, generator=generator, dtype=torch.double) * self._reached[-1]
        return torch.searchsorted(self._reached, chance, right=True).clamp_(max=self.size - 1) + 1

    def _own(self, name: str) -> Own:
        if name not in self.own:
            raise RuntimeError(f"the sampler has a share of {name} and was given none: see training/mined.py and the log of a service")
        return self.own[name]


def keeping(counts: Ints, subsample: float) -> np.ndarray[Any, Any]:
    """The chance ``[I]`` that a positive stays where those of hot items are thinned: ``min(1, sqrt(subsample / f))``, f the item's share of all.

    Mikolov et al., "Distributed Representations of Words and Phrases and their Compositionality", NIPS 2013, section 2.3.
    """
    if not 0 < subsample < float("inf"):
        raise ValueError(f"subsample must be a share above 0, not {subsample}")
    return np.minimum(1, np.sqrt(subsample * counts.sum() / np.maximum(counts, 1)))


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
