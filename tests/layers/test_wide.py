import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.layers.halves import total
from palate.layers.wide import Crosses, Wide
from palate.schema import Feature, MissingFeature, Schema
from tests.worlds import columns, schema_of_everything

SCHEMA = schema_of_everything()


def wide(crosses: Crosses, buckets: int = 2**16) -> Wide:
    """With weights that are drawn, for nothing would come of those it starts with."""
    torch.manual_seed(0)
    made = Wide(SCHEMA, 2, crosses, buckets).eval()
    assert all(not weight.any() for weight in made.parameters())
    made.embedding.reset(0.5)
    if made.crossed is not None:
        made.crossed.weight.data.normal_()
        made.crossed.weight.data[0] = 0.0
    return made


def test_every_combination_has_a_weight_of_its_own_where_there_is_room() -> None:
    made = wide((("genre", "scene"), ("genre", "hour")))
    genres, scenes, hours = (x.flatten() for x in torch.meshgrid(torch.arange(9), torch.arange(5), torch.arange(26), indexing="ij"))
    batch = Batch(columns(SCHEMA, len(genres)) | {"genre": genres, "scene": scenes, "hour": hours})
    half = made.half(batch)
    rows = [made._rows(place, half[f"cross {place}"])[:, 0] for place in range(2)]
    assert sorted(torch.unique(rows[0]).tolist()) == list(range(1, 46))
    assert sorted(torch.unique(rows[1]).tolist()) == list(range(46, 46 + 9 * 26))
    assert len(torch.unique(rows[0] * 9 * 5 + genres * 5 + scenes)) == 45  # one row a combination
    table = made.crossed.weight
    expected = made.embedding(batch).sum(1) + table[rows[0]] + table[rows[1]]
    torch.testing.assert_close(made(batch), expected)


def test_more_combinations_than_buckets_are_spread_evenly() -> None:
    made = wide((("user_id", "item_id"),), buckets=300)
    users, items = (x.flatten() for x in torch.meshgrid(torch.arange(40), torch.arange(60), indexing="ij"))
    rows = made._rows(0, made.half(Batch(columns(SCHEMA, 2400) | {"user_id": users, "item_id": items}))["cross 0"])[:, 0]
    counts = torch.bincount(rows, minlength=301)
    assert counts[0] == 0
    assert len(counts) == 301
    assert float(counts[1:].double().var()) == pytest.approx(8.0, rel=0.4)  # as of balls thrown at random: mean 8, variance 8
    swapped = made._rows(0, made.half(Batch(columns(SCHEMA, 1600) | {"user_id": items[:1600] % 40, "item_id": users[:1600]}))["cross 0"])
    assert (swapped[:, 0] != rows[:1600]).float().mean() > 0.9  # (3, 5) is not (5, 3)


def test_the_events_of_a_sequence_are_crossed_one_by_one() -> None:
    made = wide((("history", "item_id", "scene"), ("genre", "scene")))
    batch = Batch(columns(SCHEMA, 30))
    batch["history"][0] = 0
    found = made(batch)
    for n in range(30):
        one = batch.take(slice(n, n + 1))
        events = one["history"][0][one["history"][0] > 0]
        rows = [made.half(Batch({**one, "history": torch.cat([event[None], torch.zeros(4, dtype=torch.int64)])[None]})) for event in events]
        pairs = [made.crossed.weight[made._rows(0, half["cross 0"])[0, 0]] for half in rows]
        own = made.crossed.weight[made._rows(1, made.half(one)["cross 1"])[0, 0]]
        crossed = torch.stack(pairs).mean(0) if pairs else torch.zeros(2)
        torch.testing.assert_close(found[n], made.embedding(one).sum(1)[0] + own + crossed)


@pytest.mark.parametrize("buckets", [3, 2**16])
def test_halves_add_up_also_with_one_users_columns_for_many_candidates(buckets: int) -> None:
    made = wide((("user_id", "item_id"), ("history_genre", "genre"), ("hour", "scene")), buckets)
    items, user = columns(SCHEMA, 20, "item", "pair"), columns(SCHEMA, 1, "user", "context", seed=5)
    every = Batch({name: values.expand(20, *values.shape[1:]) for name, values in user.items()} | items)
    parts = [made.half(Batch(user), "user", "context"), made.half(Batch(items), "item"), made.half(Batch(items), "pair")]
    torch.testing.assert_close(made.combine(total(parts)), made(every))


def test_only_what_was_read_gets_a_gradient() -> None:
    made = wide((("history", "genre"), ("user_id", "genre")))
    batch = Batch(columns(SCHEMA, 12))
    half = made.half(batch)
    made(batch).sum().backward()
    read = torch.cat([made._rows(place, half[f"cross {place}"]).flatten() for place in range(2)])
    gradient = made.crossed.weight.grad.to_dense()
    assert set(gradient.any(1).nonzero()[:, 0].tolist()) == set(read[read > 0].tolist())


def test_nothing_learns_nothing_also_where_a_sequence_has_one_place() -> None:
    schema = Schema((Feature("last", "user", "sequence", 9, length=1), Feature("genre", "item", "category", 9)))
    made = Wide(schema, 2, (("last", "genre"),))
    made(Batch.of({"last": np.array([[3], [0]]), "genre": np.array([2, 2])})).sum().backward()
    assert made.crossed.weight.grad.to_dense().any(1).nonzero()[:, 0].tolist() == [1 + 3 + 9 * 2]


@pytest.mark.parametrize(
    ("crosses", "text"),
    [
        ((("genre",),), "genre must be"),
        ((("genre", "genre"),), "two or more"),
        ((("genre", "age"),), "categories"),
        ((("history", "tags"),), "at most one"),
    ],
)
def test_crosses_that_make_no_sense(crosses: Crosses, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Wide(SCHEMA, 1, crosses)


def test_a_cross_of_something_unknown_names_the_nearest() -> None:
    with pytest.raises(MissingFeature, match="did you mean 'genre'"):
        Wide(SCHEMA, 1, (("genres", "scene"),))
    with pytest.raises(ValueError, match="buckets"):
        Wide(SCHEMA, 1, (("genre", "scene"),), 0)
