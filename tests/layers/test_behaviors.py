from dataclasses import replace

import pytest
import torch

from palate.batch import Batch
from palate.layers.behaviors import Behaviors
from palate.layers.embedding import Embedding, tables
from palate.schema import Feature, MissingFeature, Schema
from tests.worlds import columns, schema_of_everything

SCHEMA = schema_of_everything()


def made(schema: Schema = SCHEMA, **options: object) -> tuple[Behaviors, Embedding]:
    behaviors = Behaviors(schema, 4, **options)
    return behaviors, Embedding(schema.features, 4, 0.5, behaviors.unpooled)


def test_finds_the_sequences_that_share_items_tables() -> None:
    behaviors, embedding = made(timed=True)
    assert (behaviors.events, behaviors.items, behaviors.gaps) == (("history", "history_genre"), ("item_id", "genre"), "history_gaps")
    assert set(embedding.names) == {f.name for f in SCHEMA.features} - {"history", "history_genre", "history_gaps"}
    assert "history_gaps" in made()[1].names  # nobody asked for it: pooled like any other


def test_events_and_candidate_by_hand() -> None:
    behaviors, embedding = made(timed=True)
    batch = Batch(columns(SCHEMA, 6))
    past = behaviors(batch, embedding, embedding(batch))
    longest = int((batch["history"] > 0).sum(1).max())
    assert past.history.shape == (6, longest, 8)
    assert past.gaps.shape == (6, longest, 4)
    assert torch.equal(past.mask, batch["history"][:, :longest] > 0)
    assert bool((past.history[~past.mask] == 0).all())
    for row in range(6):
        same = Batch(batch, item_id=batch["history"][row : row + 1, 0].expand(6), genre=batch["history_genre"][row : row + 1, 0].expand(6))
        torch.testing.assert_close(behaviors(same, embedding, embedding(same)).candidate[0], past.history[row, 0])


def test_one_users_columns_are_read_once() -> None:
    behaviors, embedding = made(timed=True)
    user, item = columns(SCHEMA, 1, "user", "context", seed=1), columns(SCHEMA, 7, "item", "pair", seed=2)
    expanded = Batch({**item, **{name: values.expand(7, *values.shape[1:]) for name, values in user.items()}})
    copied = Batch({name: values.contiguous() for name, values in expanded.items()})
    one, many = (behaviors(batch, embedding, embedding(batch)) for batch in (expanded, copied))
    assert one.history.shape == (1, int((user["history"] > 0).sum()), 8)
    torch.testing.assert_close(embedding(expanded), embedding(copied))
    for name in ("history", "mask", "gaps"):
        assert torch.equal(getattr(one, name).expand_as(getattr(many, name)), getattr(many, name))
    assert torch.equal(one.candidate, many.candidate)


def test_padding_learns_nothing() -> None:
    behaviors, embedding = made()
    batch = Batch(columns(SCHEMA, 6))
    behaviors(batch, embedding, embedding(batch)).history.sum().backward()
    (weight,) = tables(embedding)
    read = set(torch.nonzero(weight.grad.to_dense().abs().sum(1))[:, 0].tolist())
    starts = embedding._start["history"], embedding._start["history_genre"]
    assert read == {int(i) + start for name, start in zip(behaviors.events, starts, strict=True) for i in batch[name].unique() if i > 0}


def test_a_query_of_other_features_is_mapped_to_the_events_width() -> None:
    behaviors, embedding = made(query=("text", "hour"))
    batch = Batch(columns(SCHEMA, 6))
    fields = embedding(batch)
    wanted = torch.cat([fields[:, embedding.names.index("text")], fields[:, embedding.names.index("hour")]], 1)
    torch.testing.assert_close(behaviors(batch, embedding, fields).candidate, behaviors.align(wanted))
    assert made(query=("item_id", "genre"))[0].align is None
    with pytest.raises(ValueError, match=r"query: no feature 'txt'.*'text'"):
        made(query=("txt",))
    with pytest.raises(ValueError, match="query: no feature 'age'"):
        made(query=("age",))


def test_tags_of_an_item_are_a_table_too() -> None:
    features = tuple(replace(f, shares="tags", vocab_size=12) if f.name == "history_genre" else f for f in SCHEMA.features)
    behaviors, _ = made(Schema(features, SCHEMA.labels, history="history", item_id="item_id"))
    assert behaviors.items == ("item_id", "tags")


def test_what_is_no_history_of_items_is_refused() -> None:
    with pytest.raises(MissingFeature, match="history"):
        Behaviors(Schema(SCHEMA.features, SCHEMA.labels, item_id="item_id"), 4)
    with pytest.raises(MissingFeature, match="shares the table of 'item_id'"):
        Behaviors(Schema(SCHEMA.features, SCHEMA.labels, item_id="item_id", history="history_genre"), 4)


def test_sequences_that_do_not_lie_side_by_side_are_refused() -> None:
    behaviors, embedding = made()
    batch = Batch(columns(SCHEMA, 3))
    batch["history_genre"] = batch["history_genre"][:, :4]
    with pytest.raises(ValueError, match="different lengths"):
        behaviors(batch, embedding, embedding(batch))


def test_another_behaviours_history_is_left_alone() -> None:
    other = Feature("history_cart", "user", "sequence", 60, length=5, shares="item_id")
    behaviors, embedding = made(Schema((*SCHEMA.features, other), SCHEMA.labels, history="history", item_id="item_id"))
    assert "history_cart" in embedding.names
    assert behaviors.events == ("history", "history_genre")
