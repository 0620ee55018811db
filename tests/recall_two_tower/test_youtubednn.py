import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.recall.two_tower.youtubednn import YouTubeDNN
from palate.schema import Schema
from palate.training.trainer import Trainer
from tests.conftest import Beats
from tests.worlds import Trends, more, paired, schema_of_everything

SCHEMA = schema_of_everything()


def made(**options: object) -> YouTubeDNN:
    torch.manual_seed(0)
    return YouTubeDNN(SCHEMA, dim=4, hidden=(8, 6), **options).eval()  # type: ignore[arg-type]


def test_the_formula() -> None:
    """u = relu(W3 relu(W2 relu(W1 [mean of what was watched; ...]))), v the sum of the item's fields, in tables of their own."""
    model, batch = made(), paired(SCHEMA, 6, items=6, uniform=3).batch(torch.arange(6), torch.Generator().manual_seed(1))
    table, start = model.embedding.table.weight, model.embedding._start
    fields = []
    for name in model.embedding.names:
        values = batch[name]
        if SCHEMA[name].kind == "category":
            fields.append(table[start[name] + values])
        elif SCHEMA[name].kind == "sequence":
            means = [[table[start[name] + one] for one in row if one] for row in values.tolist()]
            fields.append(torch.stack([torch.stack(rows).mean(0) if rows else torch.zeros(4) for rows in means]))
        else:
            fields.append(values[:, None] * model.embedding.numbers[model.embedding._number_at[name]])
    hidden = torch.relu(torch.cat(fields, 1) @ model.tower.weight + model.tower.bias)
    for layer in model.tower.layers:
        hidden = torch.relu(layer(hidden))
    torch.testing.assert_close(model.encode_user(batch), hidden)
    rows, at = model.classes.table.weight, model.classes._start
    tags = [torch.stack([rows[at["tags"] + one] for one in row if one] or [torch.zeros(4)]).mean(0) for row in batch["tags"].tolist()]
    expected = rows[at["item_id"] + batch["item_id"]] + rows[at["genre"] + batch["genre"]] + torch.stack(tags)
    expected = expected + batch["year"][:, None] * model.classes.numbers[0] + batch["text"] @ next(iter(model.classes.vectors.values())).weight.T
    torch.testing.assert_close(model.encode_item(batch), expected)
    assert not set(model.embedding.names) & {"item_id", "genre", "year", "text"}


def test_the_loss_by_hand() -> None:
    model, batch = made(), paired(SCHEMA, 6, items=6, uniform=3).batch(torch.arange(6), torch.Generator().manual_seed(1))
    batch["user_row"][1] = 0  # users 0 and 1 are one person
    scores = model.encode_user(batch) @ model.encode_item(batch).T - batch["log_q"]
    users, items = batch["user_row"].tolist(), batch["item_row"].tolist()
    own, terms = {(user, items[b]) for b, user in enumerate(users)}, []
    for b in range(6):
        against = [scores[b, n] for n in range(9) if n == b or (users[b], items[n]) not in own]
        terms.append(torch.stack(against).logsumexp(0) - scores[b, b])
    torch.testing.assert_close(model.loss(batch), torch.stack(terms).mean())


def test_with_a_temperature_scores_are_cosines() -> None:
    plain, model = made(), made(temperature=0.2)
    batch = paired(SCHEMA, 6, items=6, uniform=3).batch(torch.arange(6), torch.Generator().manual_seed(1))
    u, v = plain.encode_user(batch), plain.encode_item(batch)
    scores = model.encode_user(batch) @ model.encode_item(batch).T
    torch.testing.assert_close(scores, u @ v.T / (u.norm(dim=1)[:, None] * v.norm(dim=1)))
    own = (batch["item_row"] == batch["item_row"][:6, None]) & (torch.arange(9) != torch.arange(6)[:, None])  # all six are different people
    expected = torch.nn.functional.cross_entropy((scores / 0.2 - batch["log_q"]).masked_fill(own, -torch.inf), torch.arange(6))
    torch.testing.assert_close(model.loss(batch), expected)
    with pytest.raises(ValueError, match="temperature must be 0 or more"):
        made(temperature=-1.0)


def test_outside_training_an_example_is_as_old_as_now() -> None:
    model, batch = made(age="age"), Batch(paired(SCHEMA, 6).batch(torch.arange(6)))
    other, now = Batch(batch, age=batch["age"] + 3), Batch(batch, age=torch.zeros(6))
    torch.testing.assert_close(model.encode_user(other), made().encode_user(now))
    torch.testing.assert_close(model.train().encode_user(other), made().encode_user(other))
    with pytest.raises(ValueError, match="age must name a number"):
        made(age="user_id")


def found(world: Trends, aged: bool) -> float:
    """How much of what is taken when the window is over is among the first 10."""
    torch.manual_seed(0)
    schema = world.schema if aged else Schema(tuple(f for f in world.schema.features if f.name != "age"), user_id="user_id", item_id="item_id")
    model = YouTubeDNN(schema, dim=8, hidden=(16,), age="age" if aged else "")
    Trainer(epochs=8, batch_size=128, learning_rate=0.01, threads=1).fit(model, world.pairs(aged))
    with torch.inference_mode():
        users = Batch(user_id=torch.arange(50) + 2, age=torch.rand(50))
        scores = model.encode_user(users) @ model.encode_item(Batch(item_id=torch.arange(40) + 2)).T
    best = scores.topk(10).indices.numpy()
    return float(np.mean([(world.wanted[None] == row[:, None]).any(0).mean() for row in best]))


def test_the_age_of_examples_tells_what_is_in_fashion_now(beats: Beats) -> None:
    world = Trends(more(3000), drifts=True)
    beats(0.2, "hit@10", YouTubeDNN=found(world, True), without_age=found(world, False))


def test_where_nothing_changes_the_age_costs_little(beats: Beats) -> None:
    world = Trends(more(3000), drifts=False)
    beats(-0.1, "hit@10", YouTubeDNN=found(world, True), without_age=found(world, False))
