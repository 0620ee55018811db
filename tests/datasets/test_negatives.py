"""Negatives that are each user's own: what they are drawn from, how likely, and what they never are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.datasets.negatives import Own, Sampler, keeping

COUNTS = torch.tensor([8, 4, 2, 1, 1, 0])
POOL = ([0, 0, 2, 2, 2, 2], [1, 3, 0, 1, 4, 5])  # user 1 has nothing of their own
USERS = torch.tensor([1, 2, 3])


def sampler(mixture: dict[str, float], **options: object) -> Sampler:
    made = Sampler(COUNTS, mixture, ranked_out=Own(*POOL, 3, 6), **options)  # type: ignore[arg-type]
    made.own["hard"] = Own([0, 2], [5, 5], 3, 6)
    return made


def test_own_items_are_drawn_alike_and_known_again() -> None:
    own = Own([2, 0, 2, 0, 2, 2, 2], [5, 3, 0, 1, 1, 4, 4], 3, 6)
    assert own.count(torch.tensor([[0, 1], [2, 3]])).tolist() == [[0, 2], [0, 4]]
    drawn = own.draw(torch.tensor([1, 2, 3]).repeat(20_000), torch.Generator().manual_seed(0)).view(-1, 3)
    for column, wanted in ((0, [2, 4]), (1, [0]), (2, [1, 2, 5, 6])):
        ids, counts = torch.unique(drawn[:, column], return_counts=True)
        assert ids.tolist() == wanted
        torch.testing.assert_close(counts / len(drawn), torch.full((len(wanted),), 1 / len(wanted)), atol=0.02, rtol=0)
    asked = torch.arange(7).expand(3, 7)
    assert own.has(USERS[:, None], asked).int().tolist() == [[0, 0, 1, 0, 1, 0, 0], [0] * 7, [0, 1, 1, 0, 0, 1, 1]]
    empty = Own([], [], 3, 6)
    assert empty.draw(USERS).tolist() == [0, 0, 0]
    assert not empty.has(USERS[:, None], asked).any()


def test_what_was_shown_or_taken_is_never_own() -> None:
    users, items = np.array([0, 0, 1, 1, -1, 1]), np.array([1, 2, 1, 2, 3, -1])
    own = Own.of(users, items, (np.array([0, 1, 1, -1]), np.array([2, 2, -1, 1])), 2, 4)
    assert own.draw(torch.tensor([1, 2]).repeat(50)).view(-1, 2).unique(dim=0).tolist() == [[2, 2]]


@pytest.mark.parametrize(
    "mixture",
    [
        {"ranked_out": 1.0, "uniform": 1.0},
        {"ranked_out": 1.0, "hard": 2.0, "popularity": 1.0},
        {"ranked_out": 0.3, "uniform": 0.4, "popularity": 0.3},
        {"hard": 1.0},
    ],
)
def test_draws_have_the_probabilities_that_log_q_says(mixture: dict[str, float]) -> None:
    made, batch = sampler(mixture), Batch(user=USERS)
    made.into(batch, (3, 5, 20_000), torch.Generator().manual_seed(1))
    every = made.log_probability(torch.arange(7).expand(3, 7), USERS).exp()
    torch.testing.assert_close(every.sum(1), torch.ones(3))
    for user in range(3):
        observed = torch.bincount(batch["negative"][user].flatten(), minlength=7) / 100_000
        torch.testing.assert_close(observed, every[user], atol=0.006, rtol=0)
    picked = every.log().gather(1, batch["negative"].flatten(1)).view_as(batch["negative"])
    torch.testing.assert_close(batch["log_q"], picked)


def test_corrected_draws_sum_to_the_whole_softmax() -> None:
    """E[exp(s) / q] over the user's own mixture is the sum over all items; over hard draws alone it is that of the items they come from."""
    scores, batch = torch.tensor([0.0, 0.3, -1.0, 2.0, 0.5, 1.0, -0.4]), Batch(user=USERS)
    made = sampler({"uniform": 0.5, "ranked_out": 0.3, "hard": 0.2})
    made.into(batch, (3, 200_000), torch.Generator().manual_seed(2))
    sums = (scores[batch["negative"]] - batch["log_q"]).exp().mean(1)
    torch.testing.assert_close(sums, scores[1:].exp().sum().expand(3), rtol=0.01, atol=0)
    alone = sampler({"hard": 1.0})
    alone.into(batch, (3, 1000), torch.Generator().manual_seed(2))
    torch.testing.assert_close((scores[batch["negative"]] - batch["log_q"]).exp().mean(1)[0], scores[6].exp())


def test_without_own_kinds_nothing_is_drawn_otherwise() -> None:
    for mixture in ({"uniform": 1.0}, {"uniform": 0.5, "popularity": 0.5}):
        one, other = (Sampler(COUNTS, mixture).draw((3, 9), torch.Generator().manual_seed(4), users) for users in (None, USERS))
        assert torch.equal(one, other)


def test_a_table_of_a_recipe_and_its_mistakes() -> None:
    made = Sampler.of(COUNTS, {"uniform": 0.5, "hard": 0.5, "ranks": [2, 5], "power": 1.0})
    assert made.ranks == (2, 5)
    assert made.shares == {"hard": 0.5}
    for table, text in (
        ({"hrad": 1.0}, "did you mean 'hard'"),
        ({"uniform": 1.0, "rank": [1, 2]}, "did you mean 'ranks'"),
        ({"hard": 1.0, "ranks": [5, 2]}, "first and the last place"),
        ({"hard": 1.0, "ranks": [0, 2]}, "first and the last place"),
        ({"popularity": 1.0, "power": -1.0}, "power"),
    ):
        with pytest.raises(ValueError, match=text):
            Sampler.of(COUNTS, table)
    with pytest.raises(ValueError, match="several users at once"):
        sampler({"hard": 1.0}).draw((4,))
    with pytest.raises(RuntimeError, match="share of hard"):
        Sampler(COUNTS, {"hard": 1.0}).draw((3, 4), None, USERS)


def test_hot_positives_stay_with_the_chance_of_the_paper() -> None:
    counts = np.array([90, 9, 1, 0])
    np.testing.assert_allclose(keeping(counts, 0.01), [np.sqrt(0.01 / 0.9), np.sqrt(0.01 / 0.09), 1, 1])
    with pytest.raises(ValueError, match="subsample"):
        keeping(counts, 0.0)
