"""The protocols ask what they say they ask, and see nothing they should not see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.candidates import Candidates, Ragged, Request
from palate.evaluation import offline
from palate.evaluation.judged import compare, comparisons
from palate.state.past import Past
from palate.state.rows import EventRows

CUT = 1000


def rows(events: list[tuple[int, int, int, int]]) -> EventRows:
    """From (user, item, time, signals) rows."""
    table = np.array(sorted(events, key=lambda event: event[2]), np.int64).reshape(-1, 4)
    users, items, times, signals = table.T
    return EventRows(users.copy(), items.copy(), times.copy(), signals.astype(np.uint32), np.ones(len(table), np.float32), ("taken", "like"))


SMALL = rows(
    [
        (0, 0, 10, 1),
        (0, 1, 20, 3),
        (1, 0, 30, 1),
        (0, 2, 1000, 1),  # the cut itself belongs to what comes after
        (0, 3, 1005, 3),
        (0, 3, 1006, 1),
        (0, 1, 1007, 3),  # used before
        (1, 4, 1005, 1),  # item 4 is new
        (2, 0, 1001, 3),  # user 2 is new
        (2, 4, 1001, 2),
        (-1, 1, 1002, 3),
        (1, -1, 1003, 3),
    ]
)


def chance(n_items: int) -> EventRows:
    """900 events of 30 users by chance."""
    rng = np.random.default_rng(0)
    columns = (rng.integers(0, high, 900).tolist() for high in (30, n_items, 2000))
    return rows([(user, item, time, 3) for user, item, time in zip(*columns, strict=True)])


def lists(questions: offline.Questions) -> list[list[int]]:
    return [questions.relevant[n].tolist() for n in range(len(questions))]


def test_warm() -> None:
    asked = offline.warm(SMALL, CUT, "taken")
    assert asked.users.tolist() == [0, 1]
    assert asked.now.tolist() == [CUT, CUT]
    assert lists(asked) == [[2, 3], [4]]
    assert asked.dropped == 1
    assert lists(offline.warm(SMALL, CUT, "taken", repeats=True)) == [[1, 2, 3], [4]]
    liked = offline.warm(SMALL, CUT, "like")
    assert (liked.users.tolist(), lists(liked)) == ([0], [[3]])
    assert liked.later[0].tolist() == [1, 2, 3]
    assert liked.signals.tolist() == [3, 1, 3]
    assert sum(mask.sum() for mask in asked.groups.values()) == 2
    with pytest.raises(ValueError, match="no signal 'love'"):
        offline.warm(SMALL, CUT, "love")


def test_cold() -> None:
    asked = offline.cold_users(SMALL, CUT, "like")
    assert (asked.users.tolist(), lists(asked)) == ([2], [[0, 4]])
    new = offline.cold_items(SMALL, CUT, "taken")
    assert (new.users.tolist(), lists(new)) == ([0, 1], [[2, 3], [4]])
    assert new.groups["warm users"].tolist() == [True, True]


def test_rolling() -> None:
    asked = offline.rolling(SMALL, CUT, "taken")
    assert list(zip(asked.users.tolist(), asked.now.tolist(), lists(asked), strict=True)) == [
        (0, 1000, [2]),
        (0, 1005, [3]),
        (1, 1005, [4]),
        (2, 1001, [0]),
    ]
    assert asked.groups["first visits"].tolist() == [False, False, False, True]
    assert len(offline.rolling(SMALL, CUT, "taken", most=2)) == 2


def spy(seen: list[Request], n_items: int) -> offline.Recommend:
    """Recommends the lowest rows that are not excluded, and keeps the requests."""

    def recommend(request: Request, k: int) -> Candidates:
        seen.append(request)
        assert request.exclude is not None
        out = [np.setdiff1d(np.arange(n_items), request.exclude[b])[:k] for b in range(len(request))]
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in out])]).astype(np.int64)
        return Candidates(np.concatenate(out).astype(np.int64), np.ones(offsets[-1], np.float32), offsets)

    return recommend


def test_a_question_shows_only_what_came_before() -> None:
    past = Past(SMALL, 3, 5)
    seen: list[Request] = []
    judged = offline.evaluate(spy(seen, 5), past, offline.rolling(SMALL, CUT, "taken"), ks=(1, 2), chunk=3)
    assert [len(request) for request in seen] == [3, 1]
    assert seen[0].parameters["k"] == 2
    histories = seen[0].histories
    assert histories.items[histories.offsets[1] : histories.offsets[2]].tolist() == [0, 1, 2]  # user 0 at 1005, not 3 of that moment
    assert judged.items.tolist() == [[2, 3], [3, 4], [1, 2], [0, 1]]
    assert judged.metrics["recall@1"].tolist() == [1, 1, 0, 1]
    assert judged.mean("recall@1", "known users") == pytest.approx(2 / 3)
    assert judged.interval("recall@1").users == 3


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7), st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=60), st.integers(1, 29))
def test_no_question_sees_its_answer(events: list[tuple[int, int, int, int]], cut: int) -> None:
    made = rows(events)
    past = Past(made, 5, 8)
    for asked in (offline.warm(made, cut, "taken"), offline.rolling(made, cut, "taken"), offline.cold_users(made, cut, "like")):
        if not len(asked):
            continue
        request = past.request(asked.users, asked.now)
        assert request.exclude is not None
        for n in range(len(asked)):
            used = {i for u, i, t, _ in events if u == asked.users[n] and t < asked.now[n]}
            after = {
                i
                for u, i, t, s in events
                if u == asked.users[n]
                and s & made.bit("like" if asked.name == "cold users" else "taken")
                and (t == asked.now[n] if asked.name == "rolling" else t >= cut)
            }
            assert set(asked.relevant[n].tolist()) == after - used
            assert set(request.exclude[n].tolist()) == used
            assert len(asked.relevant[n]) > 0


def test_an_oracle_is_perfect_and_chunks_do_not_matter() -> None:
    made = chance(50)
    past, asked = Past(made, 30, 50), offline.warm(made, CUT, "taken")
    answers = {int(user): asked.relevant[n] for n, user in enumerate(asked.users)}

    def oracle(request: Request, k: int) -> Candidates:
        out = [answers[int(user)][:k] for user in request.users]
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in out])]).astype(np.int64)
        return Candidates(np.concatenate(out), np.ones(offsets[-1], np.float32), offsets)

    steps: list[tuple[int, int]] = []
    best = offline.evaluate(oracle, past, asked, system="oracle", progress=lambda done, of: steps.append((done, of)), chunk=7)
    assert best.mean("ndcg@10") == pytest.approx(1.0)
    assert best.mean("map@5") == pytest.approx(1.0)
    assert steps[-1] == (len(asked), len(asked))
    lowest = offline.evaluate(spy([], 50), past, asked, system="lowest")
    again = offline.evaluate(spy([], 50), past, asked, chunk=1)
    assert np.array_equal(lowest.items, again.items)
    found = compare(best, lowest)
    assert found.low > 0
    assert found.p_permutation < 0.01
    assert comparisons(best, [lowest], ("ndcg@10", "recall@5"))[1]["against"] == "lowest"
    with pytest.raises(ValueError, match="different questions"):
        compare(best, offline.evaluate(spy([], 50), past, asked.take(np.arange(5))))


def test_sampled_candidates_are_labelled_and_not_comparable() -> None:
    made = chance(200)
    past, asked = Past(made, 30, 200), offline.warm(made, CUT, "taken")
    full = offline.evaluate(spy([], 200), past, asked)
    few = offline.evaluate(spy([], 200), past, asked, candidates=20)
    assert full.label == "full ranking"
    assert few.label.startswith("sampled: 20")
    assert few.mean("recall@10") > full.mean("recall@10") + 0.1  # the well-known flattery
    sizes = np.diff(asked.relevant.offsets)
    every = offline.evaluate(spy([], 200), past, asked, ks=(200,), candidates=20)
    assert ((every.items >= 0).sum(1) == sizes + 20).all()
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(full, few)


def test_wrong_number_of_answers_is_an_error() -> None:
    past = Past(SMALL, 3, 5)
    with pytest.raises(ValueError, match="2 questions were asked and 1 answered"):
        offline.evaluate(lambda request, k: Candidates.empty(1), past, offline.warm(SMALL, CUT, "taken"))


def test_nothing_to_ask() -> None:
    asked = offline.warm(SMALL, 5000, "taken")
    assert len(asked) == 0
    judged = offline.evaluate(spy([], 5), Past(SMALL, 3, 5), asked)
    assert np.isnan(judged.mean("ndcg@10"))
    assert judged.figures(replicates=10)["metrics"]["ndcg@10"]["value"] is None


EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=50)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.integers(0, 29), st.integers(1, 6), st.booleans())
def test_a_prefix_is_what_came_before_in_the_same_session_and_nothing_else(
    events: list[tuple[int, int, int, int]], cut: int, gap: int, repeats: bool
) -> None:
    made = rows(events)
    asked = offline.prefixes(made, cut, "taken", gap=gap, repeats=repeats)
    parts = list(offline.asked_in_parts(asked, Past(made, 4, 6), 5, 3, exclude_seen=True))
    found = {}
    for part, request in parts:
        assert request.exclude is not None
        for b, n in enumerate(range(part.start, part.stop)):
            items = request.histories.items[request.histories.offsets[b] : request.histories.offsets[b + 1]].tolist()
            assert request.exclude[b].tolist() == sorted(set(items))
            found[int(asked.users[n]), int(asked.now[n])] = (sorted(items), asked.relevant[n].tolist())
    wanted = {}
    for user in range(4):
        mine = sorted((event for event in events if event[0] == user), key=lambda event: event[2])
        for now in sorted({event[2] for event in mine if event[2] >= cut and event[3] & 1}):
            session: list[tuple[int, int, int, int]] = []
            for event in (event for event in mine if event[2] <= now):
                if session and event[2] - session[-1][2] > gap:
                    session = []
                session.append(event)
            known = sorted(event[1] for event in session if event[2] < now)
            right = {event[1] for event in session if event[2] == now and event[3] & 1} - (set() if repeats else set(known))
            if known and right:
                wanted[user, now] = (known, sorted(right))
    assert found == wanted


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.floats(0.1, 0.9), st.booleans(), st.integers(0, 3))
def test_fold_in_parts_what_a_user_did_and_shows_only_one_part(
    events: list[tuple[int, int, int, int]], share: float, ordered: bool, seed: int
) -> None:
    made = rows(events)
    asked = offline.fold_in(made, "taken", share=share, ordered=ordered, seed=seed)
    learnt_from = Past(made.before(0), 4, 6, windows=(0,))
    for part, request in offline.asked_in_parts(asked, learnt_from, 5, 2):
        assert request.exclude is not None
        assert request.counts is not None
        assert not request.counts.users(request.users, request.now).any(), "counters know nothing of what is held out"
        for b, n in enumerate(range(part.start, part.stop)):
            mine = [event for event in events if event[0] == asked.users[n]]
            slots = slice(request.histories.offsets[b], request.histories.offsets[b + 1])
            known = sorted(zip(request.histories.items[slots].tolist(), request.histories.times[slots].tolist(), strict=True))
            assert known, "somebody of whom nothing is known is not asked"
            rest = [(event[1], event[2]) for event in mine]
            for one in known:
                rest.remove(one)
            assert rest
            size = int(np.ceil(share * len(mine) - 1e-9))
            assert len(known) == size or (ordered and len(known) < size)
            if ordered:
                assert max(time for _, time in known) < min(time for _, time in rest)
                assert asked.now[n] == min(time for _, time in rest)
            taken = {item for item, time in rest if any(e[1] == item and e[2] == time and e[3] & 1 for e in mine)}
            assert set(asked.relevant[n].tolist()) <= taken - {item for item, _ in known}
            assert request.exclude[b].tolist() == sorted({item for item, _ in known})
    with pytest.raises(ValueError, match="share must lie between 0 and 1"):
        offline.fold_in(made, "taken", share=1.0)


def test_fold_in_by_hand_and_by_chance() -> None:
    asked = offline.fold_in(SMALL, "taken", share=0.5)
    assert [asked.users.tolist(), asked.now.tolist(), lists(asked)] == [[0, 1], [1005, 1005], [[3], [4]]]  # of user 2 both came at once
    assert asked.dropped == 1  # user 0 had used item 1
    one, again, other = (offline.fold_in(chance(50), "taken", ordered=False, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.relevant.values, again.relevant.values)
    assert not np.array_equal(one.relevant.values, other.relevant.values)
    assert len(one.take(np.arange(3)).known or ()) == 3


def test_given_candidates_are_all_that_compete_and_are_labelled_sampled() -> None:
    asked = offline.warm(SMALL, CUT, "taken")
    judged = offline.evaluate(spy([], 5), Past(SMALL, 3, 5), asked, ks=(2,), candidates=Ragged.of([[4], [2, 3]]))
    assert judged.items.tolist() == [[2, 3], [2, 3]]  # of user 0: 2 and 3 are right, 4 is given; of user 1: 4 is right
    assert judged.label == "sampled: 1.5 given candidates, not comparable with full ranking"
    with pytest.raises(ValueError, match="given for 1 questions, and there are 2"):
        offline.evaluate(spy([], 5), Past(SMALL, 3, 5), asked, candidates=Ragged.of([[4]]))
