import pytest
import torch

from palate.batch import Batch
from palate.layers.embedding import Embedding, tables
from palate.schema import Feature
from tests.worlds import columns, schema_of_everything

CATEGORY = Feature("color", "item", "category", 5)
TAGS = Feature("tags", "item", "sequence", 7, length=4)
PAST = Feature("past", "user", "sequence", 5, length=3, shares="color")
PRICE = Feature("price", "item", "number")
TEXT = Feature("text", "item", "vector", dim=2)


def test_fields_by_hand() -> None:
    embedding = Embedding((PRICE, TAGS, CATEGORY, TEXT, PAST), 3)
    assert embedding.names == ("color", "tags", "past", "price", "text")
    batch = Batch(
        color=torch.tensor([4, 2]),
        tags=torch.tensor([[2, 6, 0, 0], [0, 0, 0, 0]]),
        past=torch.tensor([[4, 0, 0], [2, 3, 4]]),
        price=torch.tensor([2.0, float("nan")]),
        text=torch.tensor([[1.0, 0.0], [1.0, 1.0]]),
    )
    fields = embedding(batch)
    weight = embedding.table.weight
    assert fields.shape == (2, 5, 3)
    assert len(weight) == 5 + 7  # the history has the colours' rows
    torch.testing.assert_close(fields[0, 0], weight[4])
    torch.testing.assert_close(fields[0, 1], (weight[5 + 2] + weight[5 + 6]) / 2)
    torch.testing.assert_close(fields[1, 1], torch.zeros(3))
    torch.testing.assert_close(fields[1, 2], weight[2:5].mean(0))
    torch.testing.assert_close(fields[0, 3], 2 * embedding.numbers[0])
    torch.testing.assert_close(fields[1, 3], torch.zeros(3))
    torch.testing.assert_close(fields[1, 4], embedding.vectors["4"].weight.sum(1))


def test_owners_take_their_share_of_the_fields() -> None:
    schema = schema_of_everything()
    embedding = Embedding(schema.features, 4)
    batch = Batch(columns(schema, 6))
    whole = embedding(batch)
    for owners in (("user",), ("item",), ("pair",), ("user", "context")):
        plan = embedding.plan(*owners)
        torch.testing.assert_close(embedding(batch, *owners), whole[:, plan.places])
        assert {schema[name].owner for name in plan.names} == set(owners)


def test_gradient_is_sparse_and_touches_the_rows_read() -> None:
    embedding = Embedding((CATEGORY, TAGS), 2)
    embedding(Batch(color=torch.tensor([4]), tags=torch.tensor([[3, 3, 0, 0]]))).sum().backward()
    (weight,) = tables(embedding)
    assert weight.grad.is_sparse
    assert sorted(set(torch.nonzero(weight.grad.to_dense().abs().sum(1))[:, 0].tolist())) == [4, 5 + 3]


@pytest.mark.parametrize("value", [-1, 5, 2**40])
def test_an_id_of_another_feature_is_never_read(value: int) -> None:
    embedding = Embedding((CATEGORY, TAGS), 2)
    with pytest.raises(ValueError, match="'color'"):
        embedding(Batch(color=torch.tensor([value]), tags=torch.zeros(1, 4, dtype=torch.int64)))
    with pytest.raises(ValueError, match="'tags'"):
        embedding(Batch(color=torch.tensor([2]), tags=torch.full((1, 4), -1 if value < 0 else value + 2)))


def test_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="no column 'color'"):
        Embedding((CATEGORY,), 2)(Batch(colour=torch.tensor([2])))


def test_numbers_are_standardised() -> None:
    always, share = Feature("always", "item", "number"), Feature("share", "item", "number")
    features = (CATEGORY, PRICE, always, share)
    embedding = Embedding(features, 3)
    prices = torch.tensor([1000.0, 1002.0, float("nan"), 1004.0, float("inf")])
    batch = Batch(color=torch.full((5,), 2), price=prices, always=torch.full((5,), 7.0), share=torch.tensor([0.0, 0, 0, 0, 0.5]))
    embedding.standardise(batch)
    fields = embedding(batch)
    deviation = (8 / 3) ** 0.5
    for row, value in enumerate((-2 / deviation, 0, 0, 2 / deviation, 0)):  # what is missing stands at the mean
        torch.testing.assert_close(fields[row, 1], value * embedding.numbers[0])
    torch.testing.assert_close(fields[0, 2], 7 * embedding.numbers[1])

    torch.testing.assert_close(fields[4, 3], (0.5 - 0.1) * embedding.numbers[2])  # centred, but not widened

    other = Embedding(features, 3)
    other.load_state_dict(embedding.state_dict())
    torch.testing.assert_close(other(batch), fields)


def test_only_numbers() -> None:
    schema = schema_of_everything()
    embedding = Embedding(schema.features, 4)
    batch = Batch(columns(schema, 6))
    embedding.standardise(batch)
    values, vectors = embedding.only_numbers(batch, "pair")
    torch.testing.assert_close(values[:, :, None] * vectors, embedding(batch, "pair"))
    assert embedding.only_numbers(batch, "user") is None
