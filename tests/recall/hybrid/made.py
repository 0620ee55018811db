"""Hybrids of models fitted in a world, as the workflow makes them; and parts that say what they are told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from palate.candidates import Candidates, Histories, Ragged, Request
from palate.contracts import Others, Rehearsal
from palate.datasets.held import held_back
from palate.datasets.interactions import Interactions
from palate.state.rows import EventRows
from tests.worlds import Views


def others(world: Views, **makers: Callable[[], Any]) -> Others:
    """The models that the makers give, fitted on the world's training events, and what rehearsing them is."""

    def fitted(rows: EventRows, now: int) -> Others:
        taken = Interactions.of(rows, *world.size, now=now)
        return Others({name: make().fit(taken) for name, make in makers.items()}.__getitem__)

    def rehearse(models: Sequence[str], share: float) -> Rehearsal:
        moment, users, taken = held_back(world.rows, share, 2000)
        return Rehearsal(fitted(world.rows.before(moment), moment), world.past.request(users, np.full(len(users), moment)), taken)

    return Others(fitted(world.rows, world.now).named, rehearse=rehearse)


class Told:
    """Offers each request this list of (item, score); who excludes something does not get it."""

    def __init__(self, *lists: Sequence[tuple[int, float]]) -> None:
        self.lists = lists
        self.asked: list[list[int]] = []

    def retrieve(self, request: Request, k: int) -> Candidates:
        self.asked.append(request.users.tolist())
        mine = [self.lists[user] for user in request.users.tolist()]
        rows = Ragged.of([[item for item, _ in one[:k]] for one in mine])
        return Candidates(rows.values, np.array([score for one in mine for _, score in one[:k]], np.float32), rows.offsets)


def told(*parts: Told) -> Others:
    return Others({f"m{place}": part for place, part in enumerate(parts)}.__getitem__)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"m{place}" for place in range(count))


def asking(*lengths: int) -> Request:
    """Users 0, 1, ... with histories so long."""
    size = sum(lengths)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    none = np.zeros(size, np.int64)
    past = Histories(none, none, np.ones(size, np.uint32), np.ones(size, np.float32), offsets)
    return Request(np.arange(len(lengths)), past, np.full(len(lengths), 10))


def pairs(found: Candidates) -> list[list[tuple[int, float]]]:
    cut = found.offsets[1:-1]
    return [
        [(int(item), round(float(score), 5)) for item, score in zip(*one, strict=True)]
        for one in zip(np.split(found.items, cut), np.split(found.scores, cut), strict=True)
    ]
