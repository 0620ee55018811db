"""The last of the events held back, to try on them what was fitted on the others."""

from __future__ import annotations

import numpy as np

from palate.candidates import Ints, Ragged, offsets_of
from palate.state.rows import EventRows


def held_back(taken: EventRows, share: float, most: int) -> tuple[int, Ints, Ragged]:
    """The moment from which on the last ``share`` of the events lie, who was there before it and took something new then, and what.

    Of more than ``most`` of them every so many-th. Nobody where all events are of one moment.
    """
    known = taken.take((taken.users >= 0) & (taken.items >= 0))
    moment = int(known.times[int(len(known) * (1 - share))]) if len(known) else 0
    wide = np.int64(known.items.max(initial=0) + 1)
    before, after = (np.unique(part.users * wide + part.items) for part in (known.before(moment), known.since(moment)))
    new = np.setdiff1d(after, before, assume_unique=True)
    new = new[np.isin(new // wide, before // wide)]
    users, counts = np.unique(new // wide, return_counts=True)
    if len(users) > most:
        users = users[np.arange(most) * len(users) // most]
        new = new[np.isin(new // wide, users)]
        counts = np.unique(new // wide, return_counts=True)[1]
    return moment, users, Ragged(new % wide, offsets_of(counts))
