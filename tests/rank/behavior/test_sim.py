from functools import cache
from typing import Any

import pytest
import torch

from palate.batch import Batch
from palate.contracts import Ranker
from palate.evaluation.metrics.rating import auc
from palate.rank.behavior.din import DIN
from palate.rank.behavior.sim import SIM
from palate.training.trainer import Trainer
from tests.conftest import Beats
from tests.worlds import LongAgo, columns, labelled, schema_of_everything

SCHEMA = schema_of_everything()
SMALL: dict[str, Any] = {"dim": 16, "hidden": (64, 32), "dropout": 0.0}


def made(**options: Any) -> SIM:
    torch.manual_seed(0)
    model = SIM(SCHEMA, dim=4, hidden=(6,), **options).eval()
    model.embedding.reset(0.5)
    return model


@cache
def held_out(cls: type[Ranker], world: LongAgo, length: int, epochs: int, **options: Any) -> float:
    torch.manual_seed(0)
    train = len(world.user) * 2 // 3
    schema, rows = world.rows(length, 0, train)
    _, rest = world.rows(length, train)
    model = cls(schema, **SMALL, **options)
    Trainer(epochs=epochs, batch_size=64, learning_rate=0.01, threads=1).fit(model, rows)
    with torch.inference_mode():
        scores = torch.cat([model(rest.batch(some))[:, 0] for some in torch.arange(len(rest)).split(200)])
    return auc(world.labels[train:], scores.numpy())


@pytest.mark.parametrize("hard", ["", "genre"])
def test_one_row_by_hand(hard: str) -> None:
    """Search, heads sum over k of softmax((W_b z)(W_a a)) z, the last events through DIN's unit, then the tower."""
    model, batch = made(hard=hard, k=2, heads=3, recent=2), Batch(columns(SCHEMA, 12))
    batch["genre"][:6] = batch["history_genre"][:6, 0]  # these find something
    fields, found = model.embedding(batch), model(batch)
    past = model.behaviors(batch, model.embedding, fields)
    for row in range(12):
        events, gaps, a = past.history[row, past.mask[row]], past.gaps[row, past.mask[row]], past.candidate[row]
        if hard:
            chosen = [place for place in range(len(events)) if batch["history_genre"][row, place] == batch["genre"][row]][-2:]
        else:
            relevance = [(model.soft.of_event.weight @ e) @ (model.soft.of_candidate.weight @ a) for e in events]
            chosen = sorted(range(len(events)), key=lambda place: -relevance[place])[:2]
        z = torch.cat([events, gaps], 1)[chosen]  # [K, Z]
        heads = []
        for of_event, of_candidate in zip(model.exact.of_event, model.exact.of_candidate, strict=True):
            weights = torch.stack([(of_event @ one) @ (a @ of_candidate) for one in z]).softmax(0) if chosen else torch.zeros(0)
            heads.append(weights @ z)
        last = events[-2:]
        short = model.unit(last[None], torch.ones(1, len(last), dtype=torch.bool), a[None])[0] @ last
        torch.testing.assert_close(model.tower(torch.cat([fields[row].flatten(), *heads, short])[None])[0], found[row])


@pytest.mark.parametrize("hard", ["", "genre"])
def test_one_users_candidates_are_scored_alike_however_the_columns_lie(hard: str) -> None:
    model = made(hard=hard, k=2)
    user, item = columns(SCHEMA, 1, "user", "context", seed=1), columns(SCHEMA, 30, "item", "pair", seed=2)
    expanded = Batch({**item, **{name: values.expand(30, *values.shape[1:]) for name, values in user.items()}})
    torch.testing.assert_close(model(expanded), model(Batch({name: values.contiguous() for name, values in expanded.items()})))


def test_the_loss_adds_what_soft_search_predicts_by_itself() -> None:
    model, plain = made(auxiliary=2.0), made(hard="genre")
    batch = labelled(SCHEMA, 16).batch(torch.arange(16))
    _, candidate, events = model.read(batch)
    history, mask = events.all(), events.mask
    relevance = torch.einsum("nlw,dw,dv,nv->nl", history, model.soft.of_event.weight, model.soft.of_candidate.weight, candidate) * mask
    guesses = model.guess(torch.cat([torch.einsum("nl,nlw->nw", relevance, history), candidate], 1))
    total = torch.zeros(())
    for t, label in enumerate(SCHEMA.labels):
        total = total + label.weight * (model.task_loss(label, model(batch)[:, t], batch) + 2 * model.task_loss(label, guesses[:, t], batch))
    torch.testing.assert_close(model.loss(batch), total)
    torch.testing.assert_close(plain.loss(batch), Ranker.loss(plain, batch))


def test_hard_search_goes_by_a_feature_that_the_history_shows() -> None:
    with pytest.raises(ValueError, match=r"hard must be .* item_id, genre, not 'scene'"):
        made(hard="scene")


@cache
def long_ago(**options: Any) -> LongAgo:
    return LongAgo(240, **options)


def test_hard_search_finds_what_lies_far_back(beats: Beats) -> None:
    world = long_ago()
    beats(0.3, SIM=held_out(SIM, world, 5500, 3, hard="genre"), DIN=held_out(DIN, world, 100, 3))


def test_soft_search_finds_what_lies_far_back(beats: Beats) -> None:
    beats(0.2, SIM=held_out(SIM, long_ago(), 5500, 3), chance=0.5)  # the last 100 events say nothing: what sees only them is there (see above)


@pytest.mark.parametrize("hard", ["", "genre"])
def test_it_does_not_lose_where_the_last_events_say_all(beats: Beats, hard: str) -> None:
    world = long_ago(ago=False, since=100)
    beats(-0.02, SIM=held_out(SIM, world, 200, 4, hard=hard), DIN=held_out(DIN, world, 100, 4))
