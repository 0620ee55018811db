"""Lists in order, the examples cut from them, and the negatives drawn beside them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.datasets.negatives import Own, Sampler
from palate.datasets.sequences import Bags, Prefixes, Sequences, Taken, Windows
from palate.state.rows import EventRows

lists = st.lists(st.lists(st.integers(0, 8), max_size=9), min_size=1, max_size=6)


def made(users: list[list[int]], n_items: int = 9) -> Sequences:
    offsets = np.concatenate(([0], np.cumsum([len(one) for one in users]))).astype(np.int64)
    return Sequences(offsets, np.array([item for one in users for item in one], np.int64), n_items)


def rows_of(ids: torch.Tensor) -> list[int]:
    return [int(one) - 1 for one in ids if one]


def test_events_become_lists_in_order_of_time() -> None:
    users, items = np.array([1, 0, 1, -1, 0, 1]), np.array([4, 2, 4, 3, -1, 0])
    rows = EventRows(users, items, np.arange(6), np.ones(6, np.uint32), np.ones(6, np.float32), ("taken",))
    found = Sequences.of(rows, 3, 5)
    assert [found.items[found.offsets[u] : found.offsets[u + 1]].tolist() for u in range(3)] == [[2], [4, 4, 0], []]
    assert found.counts.tolist() == [1, 0, 1, 0, 2]
    with pytest.raises(ValueError, match="item rows must lie in"):
        made([[0, 9]])


@settings(max_examples=60, deadline=None)
@given(lists, st.integers(1, 5))
def test_windows_foretell_every_item_but_the_first_once(users: list[list[int]], length: int) -> None:
    windows, foretold = Windows(made(users), length), [[] for _ in users]
    for n in range(len(windows)):
        batch = windows.batch(torch.tensor([n]))
        items, user = rows_of(batch["item"][0]), int(batch["user"]) - 1
        assert batch["item"].shape[1] <= length + 1
        assert len(items) >= 2
        assert batch["item"][0, -1] > 0
        foretold[user] = items[1:] + foretold[user]  # from the end to the beginning
    assert foretold == [one[1:] for one in users]


@settings(max_examples=60, deadline=None)
@given(lists, st.integers(1, 5))
def test_prefixes_are_what_came_before_each_item(users: list[list[int]], length: int) -> None:
    prefixes = Prefixes(made(users), length)
    wanted = [(u, one[max(n - length, 0) : n], one[n]) for u, one in enumerate(users) for n in range(1, len(one))]
    wanted.sort(key=lambda row: len(row[1]))  # batches come in order of length
    assert len(prefixes) == len(wanted)
    if wanted:
        batch = prefixes.batch(torch.arange(len(prefixes)))
        rows = zip(batch["user"], batch["history"], batch["item"], strict=True)
        assert [(int(user) - 1, rows_of(history), int(item) - 1) for user, history, item in rows] == wanted


@pytest.mark.parametrize("cls", [Windows, Prefixes])
def test_shared_draws_are_one_set_for_a_batch_whose_lists_come_in_order_of_length(cls: type[Windows] | type[Prefixes]) -> None:
    data = made([[0, 1, 2, 3, 4], [4, 5], [6, 7, 8]])
    sampler = Sampler(torch.from_numpy(data.counts), {"popularity": 1.0})
    of_batch = Windows(data, 9, sampler, 50, "batch") if cls is Windows else Prefixes(data, 9, sampler, 50, shared=True)
    batch = of_batch.batch(torch.tensor([0, 2, 1]), torch.Generator().manual_seed(0))
    sizes = (batch["item" if cls is Windows else "history"] > 0).sum(1)
    assert len(sizes.unique()) > 1
    assert bool((sizes.diff() >= 0).all())
    assert batch["negative"].shape == (50,)
    assert torch.equal(batch["log_q"], sampler.log_q[batch["negative"]])
    own = cls(data, 9, sampler, 50).batch(torch.tensor([0, 2, 1]))["negative"]
    assert own.shape == ((3, 4, 50) if cls is Windows else (3, 50))
    of_list = Windows(data, 9, sampler, 50, "list").batch(torch.tensor([0, 2, 1]))
    assert of_list["negative"].shape == of_list["log_q"].shape == (3, 50)
    assert not torch.equal(of_list["negative"][0], of_list["negative"][1])


@settings(max_examples=60, deadline=None)
@given(lists, st.integers(0, 4))
def test_a_bag_holds_each_item_once(users: list[list[int]], most: int) -> None:
    bags = Bags(made(users), most)
    assert len(bags) == sum(bool(one) for one in users)
    if len(bags):
        batch = bags.batch(torch.arange(len(bags)))
        for user, history in zip(batch["user"], batch["history"], strict=True):
            taken = users[int(user) - 1]
            latest = list(dict.fromkeys(taken[::-1]))[::-1]
            assert rows_of(history) == (latest[-most:] if most else latest)


def test_negatives_of_a_user_are_never_what_they_took() -> None:
    users = [[0, 1, 2, 3, 4, 5, 6, 7], [8, 8], [0]]
    data = Taken(made(users), Sampler(torch.from_numpy(made(users).counts)), 40)
    assert len(data) == 10
    batch = data.batch(torch.arange(10), torch.Generator().manual_seed(0))
    pairs = set(zip((batch["user"] - 1).tolist(), (batch["item"] - 1).tolist(), strict=True))
    assert pairs == {(u, item) for u, one in enumerate(users) for item in one}
    for user, negative in zip(batch["user"].tolist(), batch["negative"], strict=True):
        left = negative[negative > 0] - 1
        assert not set(left.tolist()) & set(users[user - 1])
    assert int((batch["negative"][batch["user"] > 1] == 0).sum()) == 0
    assert float((batch["negative"] == 0).float().mean()) < 0.6  # only who took most of the catalogue runs out of draws


@pytest.mark.parametrize("mixture", [{"uniform": 1.0}, {"popularity": 1.0}, {"uniform": 1.0, "popularity": 3.0}])
def test_draws_have_the_probabilities_that_log_q_says(mixture: dict[str, float]) -> None:
    counts = torch.tensor([0, 1, 4, 16, 81])
    sampler = Sampler(counts, mixture)
    drawn = sampler.draw((200_000,), torch.Generator().manual_seed(1))
    observed = torch.bincount(drawn, minlength=6).double() / len(drawn)
    assert observed[0] == 0
    torch.testing.assert_close(observed, sampler.log_q.double().exp(), atol=0.004, rtol=0)
    popular = counts.double() ** 0.75
    wanted = sum(
        share / sum(mixture.values()) * {"uniform": torch.full((5,), 0.2), "popularity": popular / popular.sum()}[name]
        for name, share in mixture.items()
    )
    torch.testing.assert_close(sampler.log_q[1:].double().exp(), wanted.double(), atol=1e-6, rtol=0)


def test_a_sampler_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'uniform'"):
        Sampler(torch.ones(3), {"unifrom": 1.0})
    with pytest.raises(ValueError, match="share above 0"):
        Sampler(torch.ones(3), {"uniform": 0.0})
    with pytest.raises(ValueError, match="share of 'popularity'"):
        Sampler(torch.ones(3), {"popularity": -1.0})
    with pytest.raises(ValueError, match="at least one item"):
        Sampler(torch.ones(0))


def test_thinned_lists_lose_hot_items_where_they_are_foretold() -> None:
    users = [[0, 1, 0, 2, 0, 3, 0], [0, 0, 4], [5]] * 200
    lists = made(users)
    thin = lists.thinned(0.05, seed=1)
    assert thin.foretold is not None
    kept = np.bincount(lists.items[thin.foretold], minlength=lists.n_items) / np.maximum(lists.counts, 1)
    frequency = lists.counts / lists.counts.sum()
    np.testing.assert_allclose(kept[:6], np.minimum(1, np.sqrt(0.05 / frequency[:6])), atol=0.05)
    assert np.array_equal(thin.foretold, lists.thinned(0.05, seed=1).foretold)
    assert not np.array_equal(thin.foretold, lists.thinned(0.05, seed=2).foretold)
    assert np.array_equal(thin.items, lists.items)  # what is no longer foretold is still what came before
    plain, fewer = Prefixes(lists, 9), Prefixes(thin, 9, later=2)
    batch = fewer.batch(torch.arange(len(fewer)))
    wanted = [(u, place) for u, (start, stop) in enumerate(pairwise(lists.offsets)) for place in range(start + 1, stop) if thin.foretold[place]]
    rows = zip((batch["user"] - 1).tolist(), batch["history"], (batch["item"] - 1).tolist(), batch["later"].tolist(), strict=True)
    found = sorted((user, rows_of(history), item, later) for user, history, item, later in rows)
    assert len(found) < len(plain)
    assert found == sorted(
        (
            u,
            lists.items[lists.offsets[u] : place].tolist(),
            int(lists.items[place]),
            [int(lists.items[p]) + 1 if p < lists.offsets[u + 1] and thin.foretold[p] else 0 for p in (place + 1, place + 2)],
        )
        for u, place in wanted
    )


def test_in_windows_and_pairs_they_are_gone_and_in_bags_they_cannot_be() -> None:
    lists = made([[0, 1, 0, 2, 0, 3, 0], [0, 0, 4], [5]] * 50)
    thin = lists.thinned(0.02, seed=1)
    assert thin.foretold is not None
    short = thin.shortened()
    assert short.items.tolist() == lists.items[thin.foretold].tolist()
    one, other = Windows(thin, 4), Windows(short, 4)
    batches = [data.batch(torch.arange(len(data))) for data in (one, other)]
    assert torch.equal(batches[0]["item"], batches[1]["item"])
    taken = Taken(thin, Sampler(torch.from_numpy(lists.counts)), 5)
    batch = taken.batch(torch.arange(len(taken)), torch.Generator().manual_seed(0))
    users = np.repeat(np.arange(len(lists)), np.diff(lists.offsets))
    pairs = set(zip(users[thin.foretold].tolist(), lists.items[thin.foretold].tolist(), strict=True))
    assert set(zip((batch["user"] - 1).tolist(), (batch["item"] - 1).tolist(), strict=True)) == pairs
    every = set(zip(users.tolist(), lists.items.tolist(), strict=True))
    assert len(pairs) < len(every)
    drawn = zip(np.repeat(batch["user"] - 1, 5).tolist(), (batch["negative"].flatten() - 1).tolist(), strict=True)
    assert not every & set(drawn), "what is left out is no negative"
    with pytest.raises(ValueError, match="would be a negative"):
        Bags(thin)


def test_negatives_of_one_user_come_with_windows_prefixes_and_pairs() -> None:
    lists = made([[0, 1, 2, 3], [4, 5, 6]], 10)
    sampler = Sampler(torch.from_numpy(lists.counts), {"ranked_out": 1.0}, ranked_out=Own([0, 1, 1], [8, 7, 9], 2, lists.n_items))
    windows = [Windows(lists, 3, sampler, 6, each) for each in ("place", "list", "batch")]
    assert [one.batch(torch.arange(2))["negative"].shape for one in windows] == [(2, 3, 6), (2, 6), (2, 3, 6)]
    for data in (*windows, Prefixes(lists, 3, sampler, 6), Taken(lists, sampler, 6)):
        batch = data.batch(torch.arange(len(data)), torch.Generator().manual_seed(0))
        for user, negative in zip(batch["user"].tolist(), batch["negative"], strict=True):
            assert set((negative - 1).flatten().tolist()) <= ({8}, {7, 9})[user - 1]
