import inspect

import numpy as np
import pytest
import torch

from palate.datasets import negatives
from palate.datasets.negatives import log_mixed, taken
from palate.datasets.pairs import Pairs


def pairs(uniform: int = 0) -> Pairs:
    return Pairs(
        items=np.array([3, 0, 3]),
        users=np.array([10, 11, 12]),
        item_columns={"item_id": np.arange(5) + 2},
        user_columns={"user_id": np.array([2, 3])},
        user_index=np.array([0, 1, 1]),
        moment_columns={"hour": np.array([4, 5, 6])},
        uniform=uniform,
    )


def test_a_batch_by_hand() -> None:
    batch = pairs().batch(torch.tensor([2, 1]))
    expected = {"user_row": [12, 11], "user_id": [3, 3], "hour": [6, 5], "item_id": [5, 2], "item_row": [3, 0]}
    assert {name: batch[name].tolist() for name in expected} == expected
    assert batch["log_q"].exp().tolist() == pytest.approx([2 / 3, 1 / 3])


def test_uniform_draws_follow_and_the_mix_is_a_distribution() -> None:
    batch = pairs(uniform=6).batch(torch.tensor([0, 1]), torch.Generator().manual_seed(1))
    assert batch["item_row"][:2].tolist() == [3, 0]
    assert len(batch["item_id"]) == len(batch["log_q"]) == 8
    assert torch.equal(batch["item_id"], batch["item_row"] + 2)
    log_q = log_mixed(torch.tensor([1, 0, 0, 2, 0]), 2, 6)
    assert float(log_q.exp().sum()) == pytest.approx(1)
    assert float(log_q[3].exp()) == pytest.approx((2 * 2 / 3 + 6 / 5) / 8)
    torch.testing.assert_close(batch["log_q"], log_q[batch["item_row"]])


def test_log_q_is_how_often_items_are_drawn() -> None:
    """Counted over many batches: the share of columns that hold each item."""
    data, generator = pairs(uniform=3), torch.Generator().manual_seed(2)
    drawn = torch.cat([data.batch(torch.randint(3, (2,), generator=generator), generator)["item_row"] for _ in range(4000)])
    shares = torch.bincount(drawn, minlength=5) / len(drawn)
    torch.testing.assert_close(shares, log_mixed(torch.tensor([1, 0, 0, 2, 0]), 2, 3).exp(), atol=0.01, rtol=0)


def test_own_items_are_no_negatives() -> None:
    user_row, item_row = torch.tensor([7, 8, 7, -1, -1]), torch.tensor([1, 1, 2, 3, 4, 2, 9])
    expected = [
        [0, 1, 1, 0, 0, 1, 0],  # user 7 took 1 and 2
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0],  # strangers are not one user
        [0, 0, 0, 0, 0, 0, 0],
    ]
    assert taken(user_row, item_row).int().tolist() == expected


def test_exposures_cannot_be_handed_in() -> None:
    """Only taken items and catalogue-wide draws make negatives: no argument of either file takes what was shown."""
    arguments = set(inspect.signature(Pairs).parameters)
    for function in (negatives.log_mixed, negatives.taken):
        arguments |= set(inspect.signature(function).parameters)
    assert arguments == {
        *("items", "users", "item_columns", "user_columns", "user_index", "moment_columns", "uniform"),
        *("counts", "batch", "user_row", "item_row"),
    }


def test_bad_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="item row 5 of example 0"):
        Pairs(np.array([5]), np.array([0]), {"item_id": np.arange(5)}, {})
    with pytest.raises(ValueError, match="2 users but 1 items"):
        Pairs(np.array([1]), np.array([0, 1]), {"item_id": np.arange(5)}, {})
    with pytest.raises(ValueError, match="uniform"):
        Pairs(np.array([1]), np.array([0]), {"item_id": np.arange(5)}, {}, uniform=-1)
