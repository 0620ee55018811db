import numpy as np
import pytest
import torch

from palate.datasets.columns import Spans
from palate.datasets.pointwise import Pointwise


def rows() -> Pointwise:
    return Pointwise(
        {"pair": np.arange(4, dtype=np.float64)},
        {"take": np.array([1, 0, np.nan, 1], np.float32)},
        groups=np.array([5, 9, 5, 5]),
        user_columns={"age": np.array([30, 40], np.int32)},
        user_index=np.array([0, 1, 0, 0]),
        item_columns={"tags": np.array([[2, 0], [3, 4], [5, 6]])},
        item_index=np.array([2, 1, 0, 2]),
    )


def test_columns_are_looked_up() -> None:
    batch = rows().batch(torch.tensor([1, 3]))
    assert {name: values.tolist() for name, values in batch.items()} == {
        "group": [9, 5],
        "pair": [1.0, 3.0],
        "age": [40, 30],
        "tags": [[3, 4], [5, 6]],
        "label:take": [0.0, 1.0],
    }
    assert batch["age"].dtype == torch.int64
    assert batch["pair"].dtype == torch.float32


def test_weights_come_with_their_rows() -> None:
    columns, labels, groups = {"pair": np.arange(3.0)}, {"take": np.ones(3)}, np.zeros(3, np.int64)
    weighted = Pointwise(columns, labels, groups, weights=np.array([0.5, 0.0, 2.0]))
    assert weighted.batch(torch.tensor([2, 0]))["weight"].tolist() == [2.0, 0.5]
    assert "weight" not in rows().batch(torch.tensor([0]))
    for wrong, message in (([1.0, 2.0], "2 weights, but 3 rows"), ([1.0, -1.0, 1.0], "0 or more"), ([1.0, np.nan, 1.0], "finite")):
        with pytest.raises(ValueError, match=message):
            Pointwise(columns, labels, groups, weights=np.array(wrong))


def test_groups_come_whole() -> None:
    grouped = rows().by_group()
    assert len(grouped) == 2
    assert grouped.batch(torch.tensor([1, 0]))["pair"].tolist() == [1.0, 0.0, 2.0, 3.0]


def test_spans_are_windows_of_one_array() -> None:
    spans = Spans(np.array([7, 8, 9], np.int32), np.array([0, 1, 3]), np.array([2, 2, 0]), 3)
    assert spans[torch.tensor([0, 1, 2])].tolist() == [[7, 8, 0], [8, 9, 0], [0, 0, 0]]
    looked_up = Spans(np.array([0, 1]), np.array([0]), np.array([2]), 2, lookup=np.array([40, 50]))
    assert looked_up[torch.tensor([0])].tolist() == [[40, 50]]
    assert Spans(np.empty(0, np.int64), np.array([0]), np.array([0]), 2)[torch.tensor([0])].tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("starts", "lengths", "width", "text"),
    [([2], [2], 3, "outside"), ([-1], [1], 3, "outside"), ([0], [3], 2, "does not fit"), ([0, 1], [1], 3, "2 starts but 1 lengths")],
)
def test_bad_spans_are_refused(starts: list[int], lengths: list[int], width: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Spans(np.arange(3), np.array(starts), np.array(lengths), width)


def test_lengths_and_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="'pair' has 3 rows, the others 4"):
        Pointwise({"pair": np.zeros(3)}, {}, np.zeros(4))
    with pytest.raises(ValueError, match="user row 2 of example 1"):
        Pointwise({}, {}, np.zeros(2), user_columns={"age": np.zeros(2)}, user_index=np.array([0, 2]))
    with pytest.raises(ValueError, match="go together"):
        Pointwise({}, {}, np.zeros(2), item_columns={"year": np.zeros(2)})


def test_thinned_keeps_every_positive_and_a_share_of_the_negatives_and_says_which() -> None:
    labels = np.r_[np.ones(50), np.zeros(5000), [np.nan] * 7].astype(np.float32)
    rows = Pointwise({"x": np.arange(len(labels), dtype=np.float32)}, {"click": labels}, np.zeros(len(labels), np.int64))
    few = rows.thinned(0.1, seed=1)
    batch = few.batch(torch.arange(len(few)))
    assert int((batch["label:click"] == 1).sum()) == 50
    assert int(torch.isnan(batch["label:click"]).sum()) == 7
    assert 430 < int((batch["label:click"] == 0).sum()) < 570
    assert torch.all(batch["kept"] == 0.1)
    assert torch.equal(batch["x"], few.batch(torch.arange(len(few)))["x"])
    assert len(rows.thinned(1.0)) == len(rows)
    for rate in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="share of negatives"):
            rows.thinned(rate)
