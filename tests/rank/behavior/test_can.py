import functools
from typing import Any

import pytest
import torch

from palate.batch import Batch
from palate.contracts import Ranker
from palate.rank.behavior.can import CAN
from palate.rank.behavior.din import DIN
from palate.rank.interaction.deepfm import DeepFM
from palate.rank.interaction.mlp import MLP
from palate.schema import MissingFeature
from tests.conftest import Beats
from tests.rank.behavior.judged import held_out
from tests.worlds import CoActing, columns, schema_of_everything

SCHEMA = schema_of_everything()
FITTING: dict[str, Any] = {"epochs": 10, "batch_size": 250, "learning_rate": 0.02}


def made(**options: Any) -> CAN:
    torch.manual_seed(0)
    model = CAN(SCHEMA, dim=4, hidden=(6,), micro=(5, 4, 3), **options).eval()
    model.embedding.reset(0.5)
    model.induction.reset(0.5)
    model.feed.reset(0.5)
    return model


def perceptron(entries: torch.Tensor, vector: torch.Tensor, c: int) -> torch.Tensor:
    """``entries`` hold a 5 x 4 matrix, 4 biases, a 4 x 3 matrix and 3 biases."""
    first, one, second, other = entries.split([20, 4, 12, 3])
    hidden = vector**c @ first.view(5, 4) + one
    return (torch.selu(hidden) if c == 1 else torch.tanh(hidden)) @ second.view(4, 3) + other


@pytest.mark.parametrize(("orders", "independent"), [(1, False), (3, False), (3, True)])
def test_one_row_by_hand(orders: int, independent: bool) -> None:
    model, batch = made(orders=orders, independent=independent), Batch(columns(SCHEMA, 6))
    found, fields, induced = model(batch), model.embedding(batch), model.induction(batch)
    assert model.induction.names == ("item_id", "genre")
    for row in range(6):
        known = [fields[row].flatten()]
        for entries in induced[row]:
            for name in ("user_id", "history", "history_gaps", "history_genre"):
                total = torch.zeros(3)
                for one in batch[name][row].view(-1):
                    for c in range(1, orders + 1) if one > 0 else ():
                        mine = entries.view(-1, 39)[c - 1 if independent else 0]
                        total = total + perceptron(mine, model.feed.rows(name, one), c)
                known.append(total)
        torch.testing.assert_close(model.tower(torch.cat(known)[None])[0], found[row])


def test_both_sides_have_tables_of_their_own() -> None:
    model = made()
    owners = [model.embedding.table.weight, model.induction.table.weight, model.feed.table.weight]
    assert len({weight.data_ptr() for weight in owners}) == 3
    assert [weight.shape[1] for weight in owners] == [4, 39, 5]


def test_the_features_named_and_no_others() -> None:
    model = made(induction=("genre",), feed=("user_id", "history"))
    assert model.induction.names == ("genre",)
    assert list(model.fed) == ["user_id", "history"]
    with pytest.raises(ValueError, match=r"feed: no category or sequence 'histroy' of the user.*'history'"):
        made(feed=("histroy",))
    with pytest.raises(ValueError, match="induction: no category 'year' of the item"):
        made(induction=("year",))
    with pytest.raises(MissingFeature, match="of the user"):
        CAN(SCHEMA.only("item"))


@pytest.mark.parametrize(
    ("options", "text"), [({"micro": (4,)}, "micro must be"), ({"micro": (4, 0)}, "micro must be"), ({"orders": 0}, "orders must")]
)
def test_sizes_that_cannot_be(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        CAN(SCHEMA, **options)


def test_one_users_columns_expanded_over_candidates_answer_the_same() -> None:
    model = made()
    user, item = columns(SCHEMA, 1, "user", "context"), columns(SCHEMA, 7, "item", "pair", seed=2)
    expanded = Batch({**item, **{name: values.expand(7, *values.shape[1:]) for name, values in user.items()}})
    assert len(model.fed_vectors(expanded)[0]) == 1
    torch.testing.assert_close(model(expanded), model(Batch({name: values.contiguous() for name, values in expanded.items()})))


@functools.cache
def where_pairs_act(cls: type[Ranker], dim: int = 4) -> float:
    return held_out(cls, CoActing(6000), 5000, {"dim": dim, "hidden": (32,)}, **FITTING)


def test_where_each_pair_has_a_weight_of_its_own_it_wins(beats: Beats) -> None:
    """Over models whose pairs share vectors of the same size."""
    for cls in (MLP, DeepFM, DIN):
        beats(0.1, CAN=where_pairs_act(CAN), **{cls.__name__: where_pairs_act(cls)})


def test_it_also_wins_over_inner_products_of_eight_times_the_size(beats: Beats) -> None:
    beats(0.04, CAN=where_pairs_act(CAN), DeepFM=where_pairs_act(DeepFM, 32))


def test_where_items_act_alone_it_does_not_lose_much(beats: Beats) -> None:
    """It has about forty times the numbers an item, and nothing to learn with them: at most .04 of AUC are lost by equal training."""
    world, options = CoActing(6000, acts=False), {"dim": 4, "hidden": (32,)}
    beats(-0.04, CAN=held_out(CAN, world, 5000, options, **FITTING), MLP=held_out(MLP, world, 5000, options, **FITTING))
