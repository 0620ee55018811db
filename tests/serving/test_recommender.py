"""The recommender in process: pages, replay, what was shown, what is told, what is forgotten."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from palate.asks import Ask, AskError, Conflict, NotDurable, NotFound, Page
from palate.recommender import Recommender
from palate.state.log import StateLocked
from tests.serving.world import item, user


@pytest.fixture
def made(run: Path) -> Iterator[Recommender]:
    with Recommender.load(run) as recommender:
        yield recommender


def test_ids_are_the_users_own_strings(made: Recommender) -> None:
    page = made.recommend(user(2), 10)
    assert len(page.items) == 10
    assert set(page.ids) <= {item(n) for n in range(60)}
    assert [shown.position for shown in page.items] == list(range(10))
    assert page.degraded == ()
    assert page.versions["run"]


def test_nothing_taken_before_comes_back(made: Recommender, run: Path) -> None:
    base = made.run.base
    row = made.users.row(user(5))
    taken = {made.items.ids[one] for one in base.items[base.users == row].tolist()}
    assert taken
    assert not taken & set(made.recommend(user(5), 60).ids)


def test_what_is_shown_is_never_shown_again_until_nothing_is_left(made: Recommender) -> None:
    seen: list[str] = []
    for _ in range(8):
        seen += made.recommend(user(7), 10).ids
    assert len(seen) == len(set(seen))
    assert made.recommend(user(7), 10).items == ()


def test_a_stranger_with_an_id_is_remembered(made: Recommender) -> None:
    first, second = made.recommend("nobody-yet", 10), made.recommend("nobody-yet", 10)
    assert len(first.items) == len(second.items) == 10
    assert not set(first.ids) & set(second.ids)


def test_a_look_has_no_effect(made: Recommender) -> None:
    before = made.state.digest()
    looks = [made.recommend(user(1), 10, log=False).ids for _ in range(3)]
    assert looks[0] == looks[1] == looks[2]
    assert made.state.digest() == before
    assert made.recommend(user(1), 10).ids == looks[0]


def test_the_same_request_id_gives_the_same_page(made: Recommender) -> None:
    first = made.recommend(user(1), 10, request_id="r-1")
    again = made.recommend(user(1), 10, request_id="r-1")
    assert again.replayed
    assert not first.replayed
    assert again.ids == first.ids
    assert (again.propensities, again.as_of, again.now, again.versions) == (first.propensities, first.as_of, first.now, first.versions)
    assert again.scores == first.scores
    assert made.recommend(user(1), 10).ids != first.ids
    with pytest.raises(Conflict) as caught:
        made.recommend(user(2), 10, request_id="r-1")
    assert caught.value.field == "request_id"


def test_a_history_given_in_the_call_decides(made: Recommender) -> None:
    tea = [item(n) for n in range(0, 24, 4)]
    page = made.recommend(history=tea, k=10, log=False)
    assert not set(tea) & set(page.ids)
    kinds = made.items.column("kind")
    share = sum(kinds[made.items.row(one)] == "tea" for one in page.ids[:5])
    assert share >= 3
    assert page.ids != made.recommend(k=10, log=False).ids


def test_a_history_of_unknown_items_says_so_and_answers_as_for_a_stranger(made: Recommender) -> None:
    page = made.recommend(history=["never", "heard of"], k=10, log=False)
    assert page.ids == made.recommend(k=10, log=False).ids
    assert page.notes == ("history: 2 of 2 items are not known",)


def test_none_all_and_no_user(made: Recommender) -> None:
    assert made.recommend(user(1), 0).items == ()
    assert len(made.recommend(None, 10_000, log=False).items) == 60
    assert len(made.recommend(None, 10).items) == 10


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"k": -1}, "k"),
        ({"k": 1.5}, "k"),
        ({"k": True}, "k"),
        ({"user": ""}, "user"),
        ({"user": "a\x00b"}, "user"),
        ({"user": "  "}, "user"),
        ({"user": "\ud800"}, "user"),
        ({"user": 7}, "user"),
        ({"user": "x" * 600}, "user"),
        ({"history": "i1"}, "history"),
        ({"history": ["i1", 2]}, "history/1"),
        ({"attributes": ["town"]}, "attributes"),
        ({"context": {1: 2}}, "context"),
        ({"scene": None}, "scene"),
        ({"request_id": "\n"}, "request_id"),
    ],
)
def test_what_cannot_be_asked_names_its_field(made: Recommender, arguments: dict[str, object], field: str) -> None:
    before = made.state.digest()
    with pytest.raises(AskError) as caught:
        made.recommend(**arguments)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert made.state.digest() == before


def test_events_move_the_list_on(made: Recommender) -> None:
    before = made.recommend(user(1), 10, log=False)
    outcomes = made.record([{"user": user(1), "item": one, "kind": "click", "event_id": f"e{one}"} for one in before.ids[:2]])
    assert [one["status"] for one in outcomes] == ["accepted", "accepted"]
    after = made.recommend(user(1), 10, log=False)
    assert after.as_of > before.as_of
    assert not set(before.ids[:2]) & set(after.ids)
    again = made.record([{"user": user(1), "item": before.ids[0], "kind": "click", "event_id": f"e{before.ids[0]}"}])
    assert again[0]["status"] == "duplicate"


def test_a_poison_event_does_not_hold_up_the_rest(made: Recommender) -> None:
    good = {"user": user(1), "item": item(1), "kind": "click"}
    bad = [
        {},
        {"user": user(1)},
        {**good, "value": "much"},
        {**good, "item": ["a"]},
        {**good, "time": "yesterday"},
        3,
        None,
        {**good, "user": "\x00"},
    ]
    outcomes = made.record([*bad, good])  # type: ignore[list-item]
    assert [one["status"] for one in outcomes] == ["rejected"] * len(bad) + ["accepted"]
    assert all(one["reason"] for one in outcomes[:-1])


def test_a_new_item_is_recommended_at_once(made: Recommender) -> None:
    assert made.put_item("brand/new", {"title": "New thing", "kind": "tea"})
    assert not made.put_item("brand/new", {"title": "New thing, renamed"})
    assert made.items.attributes(made.items.row("brand/new"))["title"] == "New thing, renamed"
    assert "brand/new" in made.recommend("somebody", 60, log=False).ids
    made.put_item("brand/new", available=False)
    assert "brand/new" not in made.recommend("somebody", 61, log=False).ids
    made.put_item("brand/new", available=True)
    assert "brand/new" in made.recommend("somebody", 61, log=False).ids


def test_the_date_of_a_known_item_stays(made: Recommender) -> None:
    assert made.put_item("dated", created=1_000)
    assert not made.put_item("dated", {"title": "Dated"}, created=1_000)
    with pytest.raises(Conflict, match="came to be at 1000") as refused:
        made.put_item("dated", created=2_000)
    assert refused.value.field == "created"
    assert made.items.created[made.items.row("dated")] == 1_000


def test_a_log_that_cannot_be_read_now_says_so_and_is_not_called_damaged(made: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def execute(self, *_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as failing:
        failing.setattr(made.state._log, "_reader", Failing())  # type: ignore[attr-defined]
        with pytest.raises(NotDurable, match=r"cannot be read now: disk I/O error$"):
            made.recommend(user(1), request_id="asked before?")
    assert made.recommend(user(1), request_id="asked before?").ids


def test_what_goes_with_an_item(made: Recommender) -> None:
    found = made.similar(item(0), 5)
    assert 0 < len(found) <= 5
    assert item(0) not in [one for one, _ in found]
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert made.similar(item(0), 0) == []
    made.put_item("brand-new")
    assert made.similar("brand-new", 5) == []
    with pytest.raises(NotFound):
        made.similar("nothing", 5)
    with pytest.raises(AskError):
        made.similar(item(0), -1)


def test_forgetting_a_user(run: Path, tmp_path: Path) -> None:
    with Recommender.load(run, tmp_path) as made:
        made.record([{"user": user(4), "item": item(9), "kind": "click"}, {"user": "newcomer", "item": item(9), "kind": "click"}])
        made.recommend(user(4), 5, request_id="mine")
        found = made.forget(user(4))
        assert found["stale"] == ["fresh", "itemcf", "popular"]
        assert made.forget("newcomer")["stale"] == []
        assert made.state.page("mine") is None
        assert user(4) not in made.state.events_frame()["user"].to_list()
        stranger = made.recommend(None, 10, log=False).ids
        assert made.recommend(user(4), 10, log=False).ids == stranger
    with Recommender.load(run, tmp_path) as made:  # and it stays so
        assert made.recommend(user(4), 10, log=False).ids == stranger


def test_everything_survives_a_restart(run: Path, tmp_path: Path) -> None:
    with Recommender.load(run, tmp_path) as made:
        page = made.recommend(user(1), 10, request_id="kept")
        made.record([{"user": user(1), "item": item(2), "kind": "rating", "value": 5, "event_id": "once"}])
        made.put_item("late", {"title": "Late", "kind": "water"})
        made.put_user("guest", {"town": "north"})
        digest = made.state.digest()
    with Recommender.load(run, tmp_path) as made:
        assert made.state.digest() == digest
        assert made.recommend(user(1), 10, request_id="kept").ids == page.ids
        assert not set(page.ids) & set(made.recommend(user(1), 60).ids)
        assert made.record([{"user": user(1), "item": item(2), "kind": "rating", "value": 5, "event_id": "once"}])[0]["status"] == "duplicate"
        assert "late" in made.recommend("x", 61, log=False).ids
        assert made.users.attributes(made.users.row("guest")) == {"town": "north"}


def test_the_page_log_holds_what_training_needs(made: Recommender) -> None:
    page = made.recommend(user(1), 5, scene="home", attributes={"town": "south"}, context={"device": "phone"})
    frame = made.state.pages_frame()
    assert frame.height >= 1
    record = made.state.page(page.request_id)
    assert record is not None
    assert record["items"] == page.ids
    assert record["positions"] == [0, 1, 2, 3, 4]
    assert record["propensities"] == page.propensities
    assert record["versions"] == page.versions
    assert record["as_of"] == page.as_of
    assert record["scene"] == "home"
    assert record["given"] == {"attributes": {"town": "south"}, "context": {"device": "phone"}}
    assert {"itemcf.score", "popular.rank"} <= set(record["scores"])


def test_why_tells_the_stages(made: Recommender) -> None:
    page = made.recommend(user(1), 5, log=False, why=True)
    assert page.trace
    assert list(page.trace["reasons"]) == page.ids
    assert any(text.startswith("goes with Thing ") for text in page.trace["reasons"].values())
    assert made.recommend(user(1), 5, log=False).trace is None


def test_many_threads_never_show_a_user_the_same_item_twice(run: Path, tmp_path: Path) -> None:
    with Recommender.load(run, tmp_path) as made:
        shown: dict[str, list[str]] = {user(n): [] for n in range(4)}
        replies: list[list[str]] = []
        failures: list[BaseException] = []

        def ask(number: int) -> None:
            try:
                for turn in range(5):
                    who = user((number + turn) % 4)
                    shown[who] += made.recommend(who, 2).ids
                    made.record([{"user": who, "item": item(turn), "kind": "click"}])
                replies.append(made.recommend(user(9), 3, request_id="shared").ids)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        for ids in shown.values():
            assert len(ids) == len(set(ids))
        assert all(reply == replies[0] for reply in replies)


def test_two_recommenders_do_not_share_a_folder(run: Path, tmp_path: Path) -> None:
    with Recommender.load(run, tmp_path), pytest.raises(StateLocked, match="in use by process"):
        Recommender.load(run, tmp_path)


def test_asks_answered_together_are_answered_as_alone(made: Recommender) -> None:
    asks = [Ask(user(n), 5, log=False) for n in range(6)] + [Ask(None, 5, [item(1), item(2)], log=False), Ask(user(1), 3, log=False), Ask(k=-1)]
    asks.append(Ask(user(2), 5, attributes={"town": "north"}, log=False))
    together = made.answer(asks)
    for ask, page in zip(asks, together, strict=True):
        if ask.k < 0:
            assert isinstance(page, AskError)
            continue
        assert isinstance(page, Page)
        alone = made.recommend(ask.user, ask.k, history=ask.history, attributes=ask.attributes, log=False)
        assert page.ids == alone.ids
        assert page.scores == alone.scores


def test_two_asks_of_one_user_answered_together_do_not_repeat_items(made: Recommender) -> None:
    pages = made.answer([Ask(user(1), 5), Ask(user(2), 5), Ask(user(1), 5), Ask(user(1), 5, request_id="a"), Ask(user(1), 5, request_id="a")])
    assert all(isinstance(page, Page) for page in pages)
    ids = [one for place in (0, 2, 3) for one in pages[place].ids]  # type: ignore[union-attr]
    assert len(ids) == len(set(ids)) == 15
    assert pages[3].ids == pages[4].ids  # type: ignore[union-attr]


def test_a_failing_ask_does_not_harm_those_beside_it(made: Recommender) -> None:
    request = made.state.request

    def picky(users: list[str | None], **rest: object) -> object:
        if "poison" in users:
            raise KeyError("poison")
        return request(users, **rest)  # type: ignore[arg-type]

    made.state.request = picky  # type: ignore[method-assign, assignment]
    pages = made.answer([Ask(user(1), 5), Ask("poison", 5), Ask(user(2), 5)])
    assert isinstance(pages[1], KeyError)
    assert [len(page.ids) for page in (pages[0], pages[2])] == [5, 5]  # type: ignore[union-attr]
