"""Sequences: what each user took, in order of time, and the examples that models of item ids learn from.

In batches an item is its catalogue row + 1 and a user its row + 1; 0 is padding, or nobody known. Lists stand at the right: the last place is the
latest, so a place means the same in a long list and in a short one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palate.batch import Batch
from palate.candidates import Ints, offsets_of
from palate.datasets.interactions import Interactions
from palate.datasets.negatives import Sampler, keeping
from palate.state.rows import EventRows


@dataclass(frozen=True, eq=False)
class Sequences:
    """Item rows in order, one list a user: user u's are ``items[offsets[u]:offsets[u + 1]]`` (int64), oldest first, repeated ones kept.

    ``foretold`` bool, one an item of a list: which of them something is to be learnt of; the others are only what came before (None: all are).
    """

    offsets: Ints
    items: Ints
    n_items: int
    foretold: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if len(self.items) and not (self.items.min() >= 0 and self.items.max() < self.n_items):
            raise ValueError(f"item rows must lie in [0, {self.n_items}), not {self.items.min()} to {self.items.max()}")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, rows: EventRows, n_users: int, n_items: int) -> Self:
        """From events, which are in order of time; those of unknown users and items are left out."""
        known = np.flatnonzero((rows.users >= 0) & (rows.items >= 0))
        order = known[np.argsort(rows.users[known], kind="stable")]
        return cls(offsets_of(np.bincount(rows.users[order], minlength=n_users)), rows.items[order], n_items)

    @classmethod
    def unordered(cls, interactions: Interactions) -> Self:
        """From a matrix, each user's items by time (by row where times are equal)."""
        users = np.repeat(np.arange(interactions.n_users), np.diff(interactions.offsets))
        return cls(interactions.offsets, interactions.items[np.lexsort((interactions.times, users))], interactions.n_items)

    @property
    def counts(self) -> Ints:
        """How often each item was taken ``[I]``."""
        return np.bincount(self.items, minlength=self.n_items)

    def thinned(self, subsample: float, seed: int) -> Self:
        """The same lists with fewer of the hot items among what is learnt of: each with the chance of ``negatives.keeping``, drawn once.

        How much hotter they are is thinned with them: where what is popular is what is wanted, lists get worse.
        """
        chance = keeping(self.counts, subsample)[self.items]
        return replace(self, foretold=np.random.default_rng(seed).random(len(self.items)) < chance)

    def shortened(self) -> Self:
        """The lists without what is not to be foretold."""
        if self.foretold is None:
            return self
        offsets = offsets_of(self.foretold.astype(np.int64))[self.offsets]
        return replace(self, offsets=offsets, items=self.items[self.foretold], foretold=None)


class Windows:
    """Stretches of a user's list: ``item`` int64 ``[B, L + 1]``, of which each but the first is what came after those before it.

    L is ``length``, or less where no list of the batch is that long.

    A list is cut from its end into windows that share one item, so that every item but the first is once something to be foreseen.
    Batches come in order of length and also have ``user [B]``, and with a ``sampler`` ``negative`` and ``log_q``, how likely each is drawn, of the
    same shape: ``[B, L, negatives]`` for ``each`` ``place``, ``[B, negatives]`` for each ``list``, or ``[negatives]`` for each ``batch`` (of which
    only what is not a user's own can be drawn; else it is for each place).
    Here each item is both history and something to be foretold: what is not to be is left out of the lists, as a word is in word2vec.
    """

    per_user: ClassVar[bool] = True  #: negatives are drawn for one user at a time
    single: ClassVar[bool] = True  #: a taken item can be left out of what is learnt without becoming a negative

    def __init__(
        self,
        sequences: Sequences,
        length: int,
        sampler: Sampler | None = None,
        negatives: int = 1,
        each: Literal["place", "list", "batch"] = "place",
    ) -> None:
        if length < 1 or negatives < 1:
            raise ValueError(f"length and negatives must be 1 or more, not {length} and {negatives}")
        sequences = sequences.shortened()
        sizes = np.diff(sequences.offsets)
        windows = np.maximum(-(-(sizes - 1) // length), 0)
        users = np.repeat(np.arange(len(sequences)), windows)
        place = np.arange(len(users)) - np.repeat(offsets_of(windows)[:-1], windows)
        start, stop = sequences.offsets[:-1][users], sequences.offsets[1:][users] - place * length
        self._start, self._stop, self._users = (torch.from_numpy(array) for array in (start, stop, users))
        self._items = torch.from_numpy(sequences.items)
        self.length, self._sampler, self._negatives, self._each = length, sampler, negatives, each

    def __len__(self) -> int:
        return len(self._users)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        chosen = chosen[torch.argsort((self._stop[chosen] - self._start[chosen]).clamp(max=self.length + 1), stable=True)]
        start, stop = self._start[chosen], self._stop[chosen]
        longest = min(self.length + 1, int((stop - start).max()))
        batch = Batch(user=self._users[chosen] + 1, item=ending(self._items, start, stop, longest))
        if self._sampler is not None:
            shape = (len(chosen),) if self._each == "list" else (len(chosen), longest - 1)
            _draw(self._sampler, batch, shape, self._negatives, self._each == "batch", generator)
        return batch


class Steps:
    """``Windows`` whose lists are compared with each other, place by place, and with ``negatives`` drawn for each place, or once where ``shared``.

    Batches have ``user [B]``, ``item [B, L + 1]``, ``negative`` int64 ``[L, negatives]`` (``[negatives]``) and ``log_q [L, B + negatives]``: the
    logarithm of how often each list's next item, and then each of those drawn, is expected among what is compared at that place.
    """

    single: ClassVar[bool] = True

    def __init__(self, sequences: Sequences, length: int, sampler: Sampler, negatives: int = 0, shared: bool = False) -> None:
        self._windows, self._sampler, self._negatives, self._shared = Windows(sequences, length), sampler, negatives, shared
        counts = torch.from_numpy(sequences.counts).double()
        self._share = torch.cat((torch.zeros(1), counts / counts.sum().clamp(min=1))).float()

    def __len__(self) -> int:
        return len(self._windows)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        batch = self._windows.batch(chosen, generator)
        after = batch["item"][:, 1:].T
        others = (after > 0).sum(1, keepdim=True)  # lists at each place
        batch["negative"] = self._sampler.draw((self._negatives,) if self._shared else (len(after), self._negatives), generator)
        column = torch.cat((after, batch["negative"].expand(len(after), -1)), 1)
        expected = others * self._share[column] + self._negatives * self._sampler.log_q[column].exp()
        batch["log_q"] = expected.clamp(min=1e-12).log()
        return batch


class Prefixes:
    """Each item but a list's first, and what came before it: ``history`` int64 ``[B, L]``, ``item [B]``, ``user [B]``.

    L is ``length``, or less where no list of the batch is that long; batches come in order of length. With a ``sampler`` also
    ``negative [B, negatives]`` and ``log_q``, how likely each is drawn: ``[negatives]`` where they are ``shared`` by a batch. With
    ``later`` also ``later [B, later]``: the items after that one, 0 beyond the end of the list. What is not to be foretold is in histories only.
    """

    per_user: ClassVar[bool] = True
    single: ClassVar[bool] = True

    def __init__(
        self, sequences: Sequences, length: int, sampler: Sampler | None = None, negatives: int = 1, shared: bool = False, later: int = 0
    ) -> None:
        if length < 1 or negatives < 1:
            raise ValueError(f"length and negatives must be 1 or more, not {length} and {negatives}")
        users = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))
        start = sequences.offsets[:-1][users]
        wanted = np.ones(len(users), bool) if sequences.foretold is None else sequences.foretold
        places = np.flatnonzero((np.arange(len(users)) > start) & wanted)
        self._wanted = torch.from_numpy(wanted)
        self._place, self._start, self._users = (torch.from_numpy(array) for array in (places, start[places], users[places]))
        self._stop = torch.from_numpy(sequences.offsets[1:][users[places]])
        self._items = torch.from_numpy(sequences.items)
        self.length, self._sampler, self._negatives, self._shared, self._later = length, sampler, negatives, shared, later

    def __len__(self) -> int:
        return len(self._place)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        chosen = chosen[torch.argsort((self._place[chosen] - self._start[chosen]).clamp(max=self.length), stable=True)]
        place, start = self._place[chosen], self._start[chosen]
        history = ending(self._items, start, place, min(self.length, int((place - start).max())))
        batch = Batch(user=self._users[chosen] + 1, history=history, item=self._items[place] + 1)
        if self._later:
            after = place[:, None] + torch.arange(1, self._later + 1)
            ends, after = after >= self._stop[chosen, None], after.clamp(max=len(self._items) - 1)
            batch["later"] = torch.where(ends | ~self._wanted[after], 0, self._items[after] + 1)
        if self._sampler is not None:
            _draw(self._sampler, batch, (len(chosen),), self._negatives, self._shared, generator)
        return batch


class Bags:
    """A user and all they took, each item once: ``user`` int64 ``[B]``, ``history [B, L]``, L the largest bag of the batch.

    Who took nothing is no example. With ``most`` a bag is the user's latest ``most`` items.
    """

    def __init__(self, sequences: Sequences, most: int = 0) -> None:
        if sequences.foretold is not None:
            raise ValueError("subsample: of a bag nothing can be left out, for what a user took would be a negative of that user")
        size = max(sequences.n_items, 1)
        key = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets)) * np.int64(size) + sequences.items
        _, last = np.unique(key[::-1], return_index=True)  # of a repeated item its latest place stands
        places = np.sort(len(key) - 1 - last)
        users, items = key[places] // size, sequences.items[places]
        offsets = offsets_of(np.bincount(users, minlength=len(sequences)))
        there = np.flatnonzero(np.diff(offsets))
        stop = offsets[1:][there]
        start = np.maximum(offsets[:-1][there], stop - most) if most else offsets[:-1][there]
        self._users, self._start, self._stop, self._items = (torch.from_numpy(array) for array in (there, start, stop, items))

    def __len__(self) -> int:
        return len(self._users)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        start, stop = self._start[chosen], self._stop[chosen]
        return Batch(user=self._users[chosen] + 1, history=ending(self._items, start, stop, int((stop - start).max())))


class Taken:
    """A user and an item taken: ``user`` int64 ``[B]``, ``item [B]``, ``negative [B, negatives]``: items that the user did not take.

    A draw that hits what the user took is drawn again, three times at the most: what is left after that (users who took most of the catalogue)
    is 0, which is no negative.
    """

    per_user: ClassVar[bool] = True
    single: ClassVar[bool] = True

    def __init__(self, sequences: Sequences, sampler: Sampler, negatives: int = 1) -> None:
        if negatives < 1:
            raise ValueError(f"negatives must be 1 or more, not {negatives}")
        self._size = sequences.n_items + 1
        users = torch.from_numpy(np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))) + 1
        keys = users * self._size + torch.from_numpy(sequences.items) + 1
        self._keys = torch.unique(keys)
        self._pairs = self._keys if sequences.foretold is None else torch.unique(keys[torch.from_numpy(sequences.foretold)])
        self._sampler, self._negatives = sampler, negatives

    def __len__(self) -> int:
        return len(self._pairs)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        users, items = self._pairs[chosen] // self._size, self._pairs[chosen] % self._size
        shape = (len(chosen), self._negatives)
        negative = self._sampler.draw(shape, generator, users)
        for _ in range(3):
            hit = self.taken(users, negative)
            count = int(hit.sum())
            if not count:
                break
            negative[hit] = self._sampler.draw((count,), generator, users[:, None].expand(shape)[hit])
        else:
            negative[self.taken(users, negative)] = 0
        return Batch(user=users, item=items, negative=negative)

    def taken(self, users: Tensor, items: Tensor) -> Tensor:
        """bool ``[B, N]``: whether user b took ``items [B, N]``."""
        keys = users[:, None] * self._size + items
        place = torch.searchsorted(self._keys, keys).clamp_(max=len(self._keys) - 1)
        return self._keys[place] == keys


def _draw(sampler: Sampler, batch: Batch, shape: tuple[int, ...], count: int, shared: bool, generator: torch.Generator | None) -> None:
    """``negative`` and ``log_q`` into the batch: ``count`` for each place of this shape, or for all of them."""
    if shared and not sampler.shares:
        batch["negative"] = sampler.draw((count,), generator)
        batch["log_q"] = sampler.log_q[batch["negative"]]
    else:
        sampler.into(batch, (*shape, count), generator)


def ending(items: Tensor, start: Tensor, stop: Tensor, length: int) -> Tensor:
    """Ids ``[B, length]`` of the ``items`` (rows) at places before ``stop [B]``, the latest last; 0 where that is before ``start [B]``."""
    place = stop[:, None] - length + torch.arange(length)
    there = place >= start[:, None]
    return torch.where(there, items[place.clamp_(min=0)] + 1, 0)
