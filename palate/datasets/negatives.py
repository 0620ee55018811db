"""Negatives for retrieval: other people's items in the batch and uniform draws from the catalogue. Nothing else ever is one.

An item that was shown and not taken is no negative here: it was relevant enough to be retrieved, and a recall model taught to avoid
it learns the reverse of its duty. So no function of this file takes exposures.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
