"""On the synthetic world: what was shown and not taken never makes a negative for recall."""

import numpy as np
import torch

from palate.datasets.pairs import Pairs
from palate.state.catalogue import Catalogue
from palate.state.rows import EventRows, event_rows
from palate.tables.events import Events
from palate.tables.signals import Signal
from palate.tables.sources.synthetic import synthetic

WORLD = synthetic(users=60, items=200, events=4000, seed=3)
USERS, ITEMS = Catalogue.of(WORLD.users, "users"), Catalogue.of(WORLD.items)
SIGNALS = (Signal("shown", ("impression",)), Signal("taken", ("click",)))


def pairs(rows: EventRows, uniform: int = 0) -> Pairs:
    taken = rows.showing("taken")
    return Pairs(taken.items, taken.users, {"item_id": np.arange(len(ITEMS)) + 2}, {"user_id": taken.users + 2}, uniform=uniform)


def rows_of(events: Events) -> EventRows:
    return event_rows(events, USERS, ITEMS, SIGNALS)


def test_items_that_were_only_shown_are_never_columns() -> None:
    rows = rows_of(WORLD.events)
    only_shown = set(rows.showing("shown").items.tolist()) - set(rows.showing("taken").items.tolist())
    assert len(only_shown) > 20  # else this proves nothing
    data = pairs(rows)
    columns = {item for start in range(0, len(data), 64) for item in data.batch(torch.arange(start, min(start + 64, len(data))))["item_row"].tolist()}
    assert not columns & only_shown


def test_with_or_without_exposures_the_batches_are_the_same() -> None:
    rows = rows_of(WORLD.events)
    without = rows.showing("taken")
    assert len(without) < len(rows)
    for uniform in (0, 50):
        one, other = pairs(rows, uniform), pairs(without, uniform)
        chosen = torch.arange(100)
        first, second = (data.batch(chosen, torch.Generator().manual_seed(0)) for data in (one, other))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_shown_items_are_drawn_no_more_than_others() -> None:
    """Uniform draws know nothing of who was shown what: a user's skipped items come up as often as any."""
    rows = rows_of(WORLD.events)
    took = set(zip(rows.showing("taken").users.tolist(), rows.showing("taken").items.tolist(), strict=True))
    skipped = set(zip(rows.showing("shown").users.tolist(), rows.showing("shown").items.tolist(), strict=True)) - took
    data, generator = pairs(rows, uniform=200), torch.Generator().manual_seed(1)
    hits = draws = 0
    for start in range(0, len(data) - 1, 16):
        batch = data.batch(torch.arange(start, min(start + 16, len(data))), generator)
        users, items = batch["user_row"].tolist(), batch["item_row"][len(batch["user_row"]) :].tolist()
        hits += sum((user, item) in skipped for user in users for item in items)
        draws += len(users) * len(items)
    skips = np.bincount([user for user, _ in skipped], minlength=len(USERS))
    expected = np.mean(skips[rows.showing("taken").users]) / len(ITEMS)
    assert abs(hits / draws - expected) < 0.1 * expected
