import numpy as np

from palate.candidates import Candidates, Ragged


def candidates():
    return Candidates(
        np.array([5, 3, 9, 1, 2]), np.array([0.1, 0.9, 0.5, 0.5, 0.5], np.float32), np.array([0, 3, 5]), {"x": np.array([1, 2, 3, 4, 5])}
    )


def test_rescored_orders_each_request_by_score_then_row():
    new = candidates().rescored(np.array([1, 2, 2, 7, 7], np.float32))
    assert new.items.tolist() == [3, 9, 5, 1, 2]
    assert new.columns["x"].tolist() == [2, 3, 1, 4, 5]


def test_top_and_take_keep_requests_apart():
    assert candidates().top(2).items.tolist() == [5, 3, 1, 2]
    assert candidates().top(2).offsets.tolist() == [0, 2, 4]
    assert candidates().take(np.array([True, False, False, False, True])).offsets.tolist() == [0, 1, 2]
    assert candidates().top(0).items.tolist() == []
    one = Candidates(np.array([4, 7]), np.zeros(2, np.float32), np.array([0, 2]))
    assert one.top(1).items.tolist() == [4]
    assert one.top(9) is one


def test_nothing_is_mutated():
    before = candidates()
    before.rescored(np.arange(5, dtype=np.float32), y=np.arange(5)).with_columns(z=np.arange(5))
    assert list(before.columns) == ["x"]
    assert before.items.tolist() == [5, 3, 9, 1, 2]


def test_ragged_lists():
    lists = Ragged.of([[1, 2], [], [3]])
    assert [lists[n].tolist() for n in range(3)] == [[1, 2], [], [3]]
    assert len(Ragged.of([])) == 0
    assert len(Ragged.empty(4)) == 4


def test_columns_are_those_of_the_rows_that_were_taken() -> None:
    rng = np.random.default_rng(3)
    first = Candidates(rng.permutation(40), rng.normal(size=40).astype(np.float32), np.array([0, 40]), {"a": np.arange(40.0)})
    scores = rng.integers(-3, 3, 40).astype(np.float32)
    scores[scores == 0] *= rng.choice([-1, 1], int((scores == 0).sum()))  # zeros of both signs tie
    order = np.lexsort((first.items, -scores))
    second = first.rescored(scores, b=scores * 2).top(30).with_columns(c=np.arange(30), a=-np.arange(30.0))
    assert second.items.tolist() == first.items[order][:30].tolist()
    third = second.rescored(-second.scores).take(np.arange(30) % 2 == 0)
    again = np.lexsort((second.items, second.scores))[::2]
    assert list(third.columns) == ["a", "b", "c"]
    assert len(third.columns) == 3
    assert "d" not in third.columns
    assert third.columns.get("d") is None
    assert third.columns["a"].tolist() == (-np.arange(30.0))[again].tolist()
    assert third.columns["b"].tolist() == (scores * 2)[order][:30][again].tolist()
    assert third.columns["c"].tolist() == again.tolist()
    assert second.columns["b"] is second.columns["b"]
