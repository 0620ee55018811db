"""Hard negatives: what the model itself would offer too soon, looked for anew before each epoch.

Huang et al., "Embedding-based Retrieval in Facebook Search", KDD 2020, section 6.1: not the first of a list, which is likely to be wanted, but ranks
101 to 500 of it, and among other negatives, never alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from palate.batch import Batch
from palate.candidates import Histories, Ints, Ragged, Request, offsets_of, spans
from palate.contracts import Examples, Recaller
from palate.datasets.negatives import Own, Sampler
from palate.datasets.sequences import Sequences

HELD = 64  #: hard items of a user that an epoch draws from: what bounds the memory, drawn anew from the ranks before each
ASKED = 1024  #: users asked at once


class Mined:
    """Examples whose ``sampler`` has a share of hard negatives: the trainer's ``renew`` fills it.

    Each user is asked as after training: by the latest items of the whole list. The ranks are those of the list without what the user took, and
    without the pairs of ``apart`` (user rows, item rows), such as what was shown. A user with nothing at those ranks has no hard negatives.
    """

    def __init__(self, examples: Examples, sampler: Sampler, sequences: Sequences, apart: tuple[Ints, Ints] | None = None) -> None:
        first, last = sampler.ranks
        if first >= sampler.size:
            raise ValueError(f"ranks = [{first}, {last}]: there are only {sampler.size} items, so that no list is that long")
        self.examples, self.sampler, self.sequences = examples, sampler, sequences
        users = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))
        gone = users * np.int64(sampler.size) + sequences.items
        if apart is not None:
            known = (apart[0] >= 0) & (apart[1] >= 0)
            gone = np.concatenate((gone, apart[0][known] * np.int64(sampler.size) + apart[1][known]))
        gone = np.unique(gone)
        self._gone = Ragged(gone % sampler.size, offsets_of(np.bincount(gone // sampler.size, minlength=len(sequences))))

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        return self.examples.batch(chosen, generator)

    def renew(self, model: Recaller, generator: torch.Generator | None = None) -> None:
        """Ask the model as it is now."""
        first, last = self.sampler.ranks
        training = model.training
        model.eval()
        users, items = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for start in range(0, len(self.sequences), ASKED):
            found = model.retrieve(self._request(start, min(start + ASKED, len(self.sequences))), last)
            lengths = np.diff(found.offsets)
            place, owner = np.arange(len(found.items)) - np.repeat(found.offsets[:-1], lengths), found.requests
            within = np.flatnonzero(place >= first - 1)
            drawn = torch.rand(len(within), generator=generator, dtype=torch.double).numpy()
            order = within[np.lexsort((drawn, owner[within]))]
            turn = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
            kept = order[turn < HELD]
            users.append(owner[kept] + start)
            items.append(found.items[kept])
        model.train(training)
        self.sampler.own["hard"] = Own(np.concatenate(users), np.concatenate(items), len(self.sequences), self.sampler.size)

    def _request(self, start: int, stop: int) -> Request:
        places, offsets = spans(self.sequences.offsets, np.arange(start, stop))
        size = len(places)
        signals, values = np.full(size, 0xFFFF_FFFF, np.uint32), np.full(size, np.nan, np.float32)
        histories = Histories(self.sequences.items[places], np.arange(size), signals, values, offsets)
        gone, bounds = spans(self._gone.offsets, np.arange(start, stop))
        return Request(np.arange(start, stop), histories, np.full(stop - start, size), exclude=Ragged(self._gone.values[gone], bounds))

    def state(self) -> Mapping[str, Tensor]:
        """What an epoch that is broken off needs to go on."""
        return {"hard": self.sampler.own["hard"].keys}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        keys, width = state["hard"].numpy(), self.sampler.size + 1
        self.sampler.own["hard"] = Own(keys // width - 1, keys % width - 1, len(self.sequences), self.sampler.size)
