from __future__ import annotations

import inspect
import json
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest

from palate.candidates import DAY
from palate.state.catalogue import Catalogue
from palate.state.embedded import Embedded
from palate.state.interface import BornBefore, State
from palate.state.log import StateError, StateLocked, StorageFull
from palate.state.past import Past
from palate.state.rows import EventRows, event_rows
from palate.tables.events import Events
from tests.state.worlds import NOW, SIGNALS, WINDOWS, Clock, opened, rating


def many(n: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        rating(
            f"u{rng.randrange(9)}", f"i{rng.randrange(12)}", rng.randrange(1, 6), NOW - rng.randrange(30 * DAY) // 1000 * 1000, event_id=f"e{n}-{k}"
        )
        for k in range(n)
    ]


def ids(state: Embedded, rows: Any) -> list[str]:
    return [state.items.ids[row] for row in rows]


def test_an_event_counts_at_once_and_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as state:
        out = state.append([rating("ann", "tea", 5, event_id="1"), rating("ann", "jam", 2, NOW, event_id="2"), rating("bob", "tea", 4, event_id="3")])
        assert [one.status for one in out] == ["accepted"] * 3
        assert [one.sequence for one in out] == [1, 2, 3]
        before = state.digest()
    with opened(tmp_path) as state:
        assert state.digest() == before
        assert state.sequence == 3
        request = state.request(["ann", "nobody", None])
        assert request.users.tolist() == [0, -1, -1]
        assert ids(state, request.histories.items) == ["tea", "jam"]
        assert request.histories.signals.tolist() == [0b111, 0b001]
        assert request.histories.offsets.tolist() == [0, 2, 2, 2]
        assert request.now.tolist() == [NOW + 1] * 3  # later than the latest event
        assert request.as_of == 3
        assert request.exclude is not None
        assert sorted(ids(state, request.exclude[0])) == ["jam", "tea"]
        assert request.counts is not None
        counted = request.counts.items(state.items.rows(["tea"]), request.now[:1])
        assert counted[0, :, 2].tolist() == [2, 2, 1]


def test_the_same_event_twice_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as state:
        event = rating("ann", "tea", event_id="x")
        assert [one.status for one in state.append([event, event])] == ["accepted", "duplicate"]
        before = state.digest()
        assert state.append([event])[0].status == "duplicate"
        assert state.append([{**event, "item": "other"}])[0].status == "duplicate"
        nameless = rating("ann", "jam", 3)  # known by what it says, as it has a time
        assert [one.status for one in state.append([nameless, nameless])] == ["accepted", "duplicate"]
        timeless = {"user": "ann", "item": "jam", "kind": "view"}  # nothing says that these two are one
        assert [one.status for one in state.append([timeless, timeless])] == ["accepted", "accepted"]
        assert "other" not in state.items
        assert state.digest() != before
        assert state.sequence == 4


def test_200_orders_of_arrival_one_digest() -> None:
    events = many(40)
    late = [
        rating("u1", "i3", 4, 5, event_id="old"),
        rating("u1", "i4", 4, 5, event_id="old too"),
        rating("u1", "i5", 4, NOW + 1000, event_id="soon"),
    ]
    digests = set()
    for seed in range(200):
        mixed = [*events, *late, *random.Random(seed).sample(events, 10)]  # some come twice
        random.Random(seed).shuffle(mixed)
        with opened(None, history_limit=3) as state:
            for start in range(0, len(mixed), 7):
                state.append(mixed[start : start + 7])
                if seed % 2:
                    state.request(["u1"])
            digests.add(state.digest())
    assert len(digests) == 1
    with opened(None, history_limit=3) as state:
        state.append([*events, *late[1:]])
        assert state.digest() not in digests  # one event less is another state


@pytest.mark.parametrize("cut", [0, 60, 150])
def test_base_and_log_together_equal_past(tmp_path: Path, cut: int) -> None:
    events = sorted(many(150, seed=3), key=lambda event: event["time"])
    table = polars.DataFrame(events).cast({"value": polars.Float32})
    users = Catalogue.of(polars.DataFrame({"id": table["user"].unique(maintain_order=True)}), "users")
    items = Catalogue.of(polars.DataFrame({"id": table["item"].unique(maintain_order=True)}))
    base = event_rows(Events(table[:cut]), users, items, SIGNALS)
    with Embedded(tmp_path, users, items, SIGNALS, WINDOWS, base=base, clock=Clock()) as state:
        state.append(events[cut:])
    with Embedded(tmp_path, users, items, SIGNALS, WINDOWS, base=base, clock=Clock()) as state:
        everything = event_rows(Events(table), users, items, SIGNALS)
        past = Past(everything, len(users), len(items), WINDOWS)
        asked = state.request([*users.ids, None])
        truth = past.request(asked.users, asked.now)
        for name in ("items", "times", "signals", "values", "offsets"):
            if cut != 150 and name in ("items", "signals", "values"):
                continue  # events of one instant: the log orders them by their ids
            assert getattr(asked.histories, name).tobytes() == getattr(truth.histories, name).tobytes()
        assert asked.exclude is not None
        assert truth.exclude is not None
        assert [sorted(asked.exclude[b]) for b in range(len(asked))] == [truth.exclude[b].tolist() for b in range(len(asked))]
        assert asked.counts is not None
        assert truth.counts is not None
        rows, now = np.arange(-1, len(items)), np.full(len(items) + 1, asked.now[0])
        assert asked.counts.items(rows, now).tobytes() == truth.counts.items(rows, now).tobytes()
        assert asked.counts.users(asked.users, asked.now).tobytes() == truth.counts.users(asked.users, asked.now).tobytes()
        digest = state.digest()
        frame = state.events_frame()
        assert len(frame) == 150 - cut
    # trained again on everything: the log is in the base now, and must not count twice
    with Embedded(tmp_path, users, items, SIGNALS, WINDOWS, base=everything, base_sequence=150 - cut, clock=Clock()) as state:
        if cut == 150:
            assert state.digest() == digest
        now = state.request([None]).now
        assert state.sequence == 150 - cut
        again = state.request([None]).counts
        assert again is not None
        assert again.items(rows, np.full(len(rows), now[0])).tobytes() == truth.counts.items(rows, np.full(len(rows), now[0])).tobytes()


def test_events_frame_is_what_training_reads(tmp_path: Path) -> None:
    with opened(tmp_path) as state:
        state.append([rating("a", "x", 4, 5, event_id="b", device="tv", slot=3), rating("a", "y", 2, 5, event_id="a", context={"device": "phone"})])
        frame = state.events_frame()
        assert frame["time"].to_list() == [5, 5]
        assert set(frame["device"]) == {"tv", "phone"}
        rows = event_rows(Events(frame.drop("sequence")), state.users, state.items, SIGNALS)
        live = state.request(["a"]).histories
        assert rows.items.tobytes() == live.items.tobytes()  # the order of one instant, too
        assert rows.signals.tobytes() == live.signals.tobytes()


def test_what_is_not_sound_is_put_aside_and_the_rest_lands(tmp_path: Path) -> None:
    with opened(tmp_path) as state:
        out = state.append([rating("a", "x"), {"user": "a"}, rating("a", "x", time=NOW + 301_000), "nonsense", rating("a", "y", float("inf"))])  # type: ignore[list-item]
        assert [one.status for one in out] == ["accepted", "rejected", "rejected", "rejected", "rejected"]
        assert [one.field for one in out[1:]] == ["item", "time", "", "value"]
        letters = state.dead_letters()
        assert [letter["reason"] for letter in letters] == [one.reason for one in out[1:]]
        assert "minutes in the future" in out[2].reason
        assert state.sequence == 1
        assert state.append([]) == []


def test_strict_takes_no_strangers() -> None:
    items = Catalogue()
    items.add("known")
    with opened(None, items=items, strict=True) as state:
        assert state.append([rating("a", "known")])[0].field == "user"
        state.put_user("a")
        assert state.append([rating("a", "known"), rating("a", "other")])[1].reason == "item is not known"
        assert len(items) == 1


def test_given_history_and_attributes_go_before_what_is_known() -> None:
    with opened(None) as state:
        state.append([rating("a", "x"), rating("b", "y"), rating("b", "z", 1)])
        request = state.request(["a", None], history=[["z", "?", "y"], None], attributes={"age": [3, 4]}, context={"hour": [1, 2]}, scene="home")
        assert ids(state, request.histories.items) == ["z", "y"]
        assert (np.diff(request.histories.times) > 0).all()
        assert (request.histories.times < request.now[0]).all()
        assert request.histories.signals.tolist() == [7, 7]
        assert request.exclude is not None
        assert set(ids(state, request.exclude[0])) == {"x", "y", "z"}
        assert len(request.exclude[1]) == 0
        assert request.scene == "home"
        with pytest.raises(ValueError, match="'age' has 1 entries for 2"):
            state.request(["a", "b"], attributes={"age": [1]})


def test_a_repeat_state_offers_again() -> None:
    with opened(None, repeat=True) as state:
        state.append([rating("a", "x")])
        exclude = state.request(["a"]).exclude
        assert exclude is not None
        assert len(exclude[0]) == 0


@pytest.mark.parametrize("seen", ["exact", "bloom", "counting"])
def test_pages_are_replayed_and_their_items_not_shown_again_even_after_a_restart(tmp_path: Path, seen: Any) -> None:
    page = {"request_id": "r1", "user": "ann", "now": NOW, "as_of": 0, "items": ["x", "y"], "scores": np.array([0.5, 0.25])}
    with opened(tmp_path, seen=seen) as state:
        for one in "xyz":
            state.put_item(one, {"title": one.upper()})
        assert state.save_page(page)
        assert not state.save_page({**page, "items": ["z"]})
    with opened(tmp_path, seen=seen) as state:
        assert state.page("r1") == {**page, "scores": [0.5, 0.25]}
        assert state.page("r2") is None
        rows = state.items.rows(["x", "y", "z"])
        assert state.seen("ann", NOW + 5).contains(rows).tolist() == [True, True, False]
        request = state.request(["ann"])
        if seen == "exact":
            assert request.exclude is not None
            assert set(ids(state, request.exclude[0])) == {"x", "y"}
        else:
            assert request.parameters["seen"][0].contains(rows).tolist() == [True, True, False]
        state.show("ann", np.array([rows[2]]), NOW)
        assert state.seen("ann", NOW + 5).contains(rows).all()
        assert not state.seen("ann", NOW + 99 * DAY).contains(rows).any()
        frame = state.pages_frame()
        assert frame["items"].to_list() == [["x", "y"]]
        assert json.loads(frame["page"][0])["user"] == "ann"


@pytest.mark.parametrize(
    "page", [{}, {"request_id": ""}, {"request_id": " "}, {"request_id": "a", "user": "\n"}, {"request_id": "a", "score": float("nan")}]
)
def test_a_page_that_cannot_be_kept_is_an_error(page: dict[str, Any]) -> None:
    with opened(None) as state, pytest.raises(ValueError):
        state.save_page(page)


def test_new_and_changed_items_last(tmp_path: Path) -> None:
    with opened(tmp_path) as state:
        assert state.put_item("tea", {"price": 3, "tags": ["hot"]}, created=77) == 0
        state.append([rating("a", "jam")])
        state.put_item("tea", {"price": 4})
        state.put_item("jam", {"price": 1}, available=False)
        state.put_user("a", {"age": 30})
        state.withdraw("tea")
        state.withdraw("tea", True)
        with pytest.raises(KeyError):
            state.withdraw("nothing")
        with pytest.raises(ValueError, match="consists of blanks"):
            state.put_item("  ")
        with pytest.raises(ValueError, match="price"):
            state.put_item("tea", {"price": "dear"})
    with opened(tmp_path) as state:
        assert state.items.ids == ["tea", "jam"]
        assert state.items.attributes(0) == {"price": 4, "tags": ["hot"]}
        assert state.items.created[0] == 77
        assert state.items.available.tolist() == [True, False]
        assert state.users.attributes(0) == {"age": 30}


def test_the_date_of_a_known_item_does_not_move(tmp_path: Path) -> None:
    items = Catalogue()
    items.add("old", {"price": 1}, created=55)
    items.add("undated")
    with Embedded(tmp_path, Catalogue("users"), items, clock=lambda: NOW) as state:
        state.append([rating("a", "rated")])
        state.put_item("old", {"price": 2}, created=55)
        state.put_item("undated", {"price": 2})
        for one, said in (("old", "came to be at 55"), ("undated", "no date"), ("rated", str(NOW))):
            with pytest.raises(BornBefore, match=rf"^created: '{one}' is known and .*{said}"):
                state.put_item(one, {"price": 3}, created=56)
        before = state.items.frame()
    assert before["palate.created"].to_list() == [55, 0, NOW]
    assert before["price"].to_list() == [2, 2, None], "a call that is refused changes nothing"
    with Embedded(tmp_path, Catalogue("users"), Catalogue(), clock=lambda: NOW) as state:  # without the run's tables
        assert dict(zip(state.items.ids, state.items.created.tolist(), strict=True)) == {"rated": NOW, "old": 55, "undated": 0}


def test_forgetting_leaves_no_byte(tmp_path: Path) -> None:
    canary = "canary-8472-ü"
    events = [rating(canary if k % 3 else f"u{k}", f"i{k % 7}", k % 5 + 1, NOW - k * DAY // 4, event_id=f"e{k}") for k in range(300)]
    users = Catalogue("users")
    row = users.add(canary, {"name": "canary-name-8472"})
    other = users.add("other")
    items = Catalogue()
    [items.add(f"i{k}") for k in range(7)]
    base = EventRows(
        np.array([row, other]), np.array([2, 3]), np.array([NOW - 9 * DAY, NOW - 8 * DAY]), np.array([7, 7], np.uint32), np.array([5, 5], np.float32),
        tuple(signal.name for signal in SIGNALS),
    )  # fmt: skip
    with opened(tmp_path, users=users, items=items, base=base) as state:
        state.append(events)
        state.append([{"user": canary, "item": "i1", "kind": "rating", "value": "bad"}, {"comment": canary}])  # type: ignore[list-item]
        for k in range(20):
            state.save_page({"request_id": f"r{k}", "user": canary if k % 2 else "u0", "now": NOW, "items": ["i1", "i2"]})
        state.put_user(canary, {"name": "canary-name-8472-new"})
        gone = state.forget(canary)
        assert gone == {"known": True, "trained": True, "events": 200, "pages": 10, "dead_letters": 2}
        for file in tmp_path.iterdir():
            for needle in (canary.encode(), json.dumps(canary).encode(), b"canary-name-8472"):
                assert needle not in file.read_bytes(), file.name
        assert canary not in users
        assert state.request([canary]).users.tolist() == [-1]
        assert state.page("r1") is None
        assert state.page("r0") is not None
        digest = state.digest()
        late = state.append([rating(canary, "i1", 5, NOW - DAY, event_id="e1")])[0]  # delivered again, after all
        assert (late.status, late.field) == ("rejected", "user")
        assert canary.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert state.digest() == digest
    # the events of the others alone make the same state
    with opened(None, users=_two(canary, "other"), items=items, base=base.take(slice(1, 2))) as truth:
        truth.append([event for event in events if event["user"] != canary])
        assert truth.digest() == digest
    # a run from before still names the user: a restart erases it there, too
    users = _two(canary, "other")
    with opened(tmp_path, users=users, items=items, base=base) as state:
        assert state.digest() == digest
        assert users.ids[:2] == ["", "other"]
        back = state.append([rating(canary, "i1", 5, NOW + 1000, event_id="back")])[0]
        assert back.status == "accepted"  # whoever comes back is new
        assert len(state.request([canary]).histories.items) == 1
    users = _two(canary, "other")
    with opened(tmp_path, users=users, items=items, base=base) as state:
        assert len(state.request([canary]).histories.items) == 1


def _two(*names: str) -> Catalogue:
    users = Catalogue("users")
    for name in names:
        users.add(name)
    return users


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StateLocked, match="in use by process"):
        opened(tmp_path)
    opened(tmp_path).close()


def test_closing_keeps_what_was_handed_in_and_refuses_the_rest(tmp_path: Path) -> None:
    state = opened(tmp_path)
    accepted: list[str] = []

    def pour(name: str) -> None:
        for k in range(10_000):
            try:
                state.append([rating(name, "x", event_id=f"{name}{k}")])
            except StateError:
                return
            accepted.append(f"{name}{k}")

    threads = [threading.Thread(target=pour, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    while len(accepted) < 50:
        pass
    state.close()
    state.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    with opened(tmp_path) as state:
        assert set(state.events_frame()["event_id"]) == set(accepted)


def test_requests_go_on_while_events_arrive() -> None:
    with opened(None) as state:
        state.append(many(50))
        stop = threading.Event()

        def pour() -> None:
            seed = 0
            while not stop.is_set():
                seed += 1
                state.append([{**event, "event_id": f"{seed}-{k}"} for k, event in enumerate(many(10, seed))])

        writer = threading.Thread(target=pour)
        writer.start()
        rows = np.arange(12)
        for _ in range(300):
            request = state.request(["u1"])
            assert request.counts is not None
            now = np.full(12, request.now[0])
            first = request.counts.items(rows, now)
            history = request.histories
            assert (np.diff(history.times) >= 0).all()
            assert request.counts.items(rows, now).tobytes() == first.tobytes()  # as of the request, whatever came since
        stop.set()
        writer.join()


def test_a_full_disk_is_named_and_reads_go_on(tmp_path: Path) -> None:
    with opened(tmp_path) as state:
        state.append([rating("a", "x", event_id="1")])
        with state._log.reading():
            state._log._connection.execute("PRAGMA max_page_count = 1")  # SQLite's own 'database or disk is full'
        big = [rating(f"u{k}", f"i{k}", event_id=f"b{k}") for k in range(3000)]
        with pytest.raises(StorageFull, match="nothing was kept") as error:
            state.append(big)
        assert isinstance(error.value, OSError)
        assert state.sequence == 1
        assert "u5" not in state.users
        assert len(state.request(["a"]).histories.items) == 1
        state._log._connection.execute("PRAGMA max_page_count = 1000000")
        assert {one.status for one in state.append(big)} == {"accepted"}
        assert state.sequence == 3001


def test_a_logged_page_can_be_rebuilt_from_its_as_of(tmp_path: Path) -> None:
    with opened(tmp_path) as state:
        state.append(many(80))
        request = state.request(["u1", "u2"])
        state.append([{**event, "event_id": f"later {k}"} for k, event in enumerate(many(60, seed=9))])  # some of them are late
        frame = state.events_frame().filter(polars.col("sequence") <= request.as_of).drop("sequence")
        past = Past(event_rows(Events(frame), state.users, state.items, SIGNALS), len(state.users), len(state.items), WINDOWS)
        truth = past.request(request.users, request.now)
        for name in ("items", "times", "signals", "values", "offsets"):
            assert getattr(request.histories, name).tobytes() == getattr(truth.histories, name).tobytes()
        rows, now = np.arange(len(state.items)), np.full(len(state.items), request.now[0])
        assert request.counts is not None
        assert truth.counts is not None
        assert request.counts.items(rows, now).tobytes() == truth.counts.items(rows, now).tobytes()
        assert request.counts.users(request.users, request.now).tobytes() == truth.counts.users(request.users, request.now).tobytes()


def test_embedded_keeps_the_promises_of_state() -> None:
    for name, promised in vars(State).items():
        if callable(promised) and not name.startswith("_"):
            wanted, given = inspect.signature(promised).parameters, inspect.signature(getattr(Embedded, name)).parameters
            assert set(wanted) <= set(given), name
            assert all(given[extra].default is not inspect.Parameter.empty for extra in set(given) - set(wanted)), name
    assert isinstance(Embedded.sequence, property)


def test_memory_stays_flat_under_ever_new_events_of_the_same_users() -> None:
    sizes = []
    with opened(None, history_limit=10, seen="bloom", seen_options={"capacity": 20}) as state:
        for round in range(40):
            state.append([rating(f"u{k % 20}", f"i{k % 30}", time=NOW - DAY + round * 100 + k, event_id=f"{round}-{k}") for k in range(100)])
            state.show("u1", np.arange(20), NOW)
            sizes.append(sum(state.nbytes.values()))
    assert sizes[-1] <= 1.05 * sizes[5]
