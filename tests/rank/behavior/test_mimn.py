from itertools import pairwise
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from palate.batch import Batch
from palate.rank.behavior.din import DIN
from palate.rank.behavior.mimn import MIMN
from palate.rank.interaction.mlp import MLP
from tests.conftest import Beats
from tests.rank.behavior.judged import held_out
from tests.worlds import Drift, columns, labelled, schema_of_everything

SCHEMA = schema_of_everything()
SMALL: dict[str, Any] = {"dim": 8, "hidden": (32,)}
FITTING: dict[str, Any] = {"epochs": 6, "batch_size": 200, "learning_rate": 0.03}


def made(**options: Any) -> MIMN:
    torch.manual_seed(0)
    model = MIMN(SCHEMA, dim=4, hidden=(6,), **options).eval()
    model.embedding.reset(0.5)
    torch.nn.init.normal_(model.memory.balance.weight)
    return model


def test_one_row_by_hand() -> None:
    """``tests/layers/test_memory.py`` has the memory itself."""
    model, batch = made(), Batch(columns(SCHEMA, 6))
    fields, memory, found = model.embedding(batch), model.remember(batch), model(batch)
    past = model.behaviors(batch, model.embedding, fields)
    looked = model.memory.look(past.candidate, memory)
    for row in range(6):
        candidate, mean = past.candidate[row], past.history[row, past.mask[row]].mean(0)
        channels = memory["channels"][row]
        attention = torch.stack([one @ model.attention.weight.T @ candidate for one in channels]).softmax(0)
        known = torch.cat([fields[row].flatten(), mean, mean * candidate, looked[row], attention @ channels])
        torch.testing.assert_close(model.tower(known[None])[0], found[row])


def events(batch: Batch, start: int, stop: int) -> Batch:
    """The batch with these events of its histories alone, at the left of the columns."""
    moved = Batch(batch)
    for name in ("history", "history_genre"):
        moved[name] = torch.zeros_like(batch[name])
        moved[name][:, : stop - start] = batch[name][:, start:stop]
    return moved


@pytest.mark.parametrize("pieces", [(0, 1, 2, 3, 4, 5), (0, 3, 5), (0, 5)])
def test_event_by_event_the_memory_is_what_the_whole_history_makes(pieces: tuple[int, ...]) -> None:
    """Also when it was on disk in between; and it answers without any history in the batch."""
    model, batch = made(), Batch(columns(SCHEMA, 6))
    memory = None
    with torch.no_grad():
        for start, stop in pairwise(pieces):
            memory = model.remember(events(batch, start, stop), memory)
            memory = load(save({name: values.contiguous() for name, values in memory.items()}))
        whole = model.remember(batch)
        assert memory.keys() == whole.keys()
        for name, values in whole.items():
            torch.testing.assert_close(memory[name], values, atol=1e-6, rtol=0)
        rest = Batch({name: values for name, values in batch.items() if name not in ("history", "history_genre")})
        torch.testing.assert_close(model.answer(rest, memory), model(batch))


def test_a_users_memory_serves_all_candidates() -> None:
    model = made()
    user, item = columns(SCHEMA, 1, "user", "context"), columns(SCHEMA, 7, "item", "pair", seed=2)
    expanded = Batch({**item, **{name: values.expand(7, *values.shape[1:]) for name, values in user.items()}})
    assert len(model.remember(expanded)["use"]) == 1
    torch.testing.assert_close(model(expanded), model(Batch({name: values.contiguous() for name, values in expanded.items()})))
    with pytest.raises(ValueError, match="memories of 3 users, but 7 rows"):
        model.answer(expanded, model.memory.empty(3))


def test_the_loss_has_the_variance_of_what_was_written() -> None:
    batch = labelled(SCHEMA, 12).batch(torch.arange(12))
    plain, model = made(utilisation=0.0), made(utilisation=0.7)
    use = model.remember(batch)["use"]
    by_hand = sum(((row - row.mean()) ** 2).sum() for row in use) / 12
    torch.testing.assert_close(model.loss(batch), plain.loss(batch) + 0.7 * by_hand)
    with pytest.raises(ValueError, match="utilisation must be"):
        made(utilisation=-1.0)


def test_the_utilisation_loss_evens_out_the_slots() -> None:
    def spread(utilisation: float) -> float:
        torch.manual_seed(0)
        model, world = MIMN(SCHEMA, dim=4, hidden=(6,), utilisation=utilisation), labelled(SCHEMA, 64)
        steps = torch.optim.SGD(model.memory.parameters(), 0.3)
        batch = world.batch(torch.arange(64))
        for _ in range(20):
            steps.zero_grad()
            model.loss(batch).backward()
            steps.step()
        use = model.remember(batch)["use"].detach()
        return float((use / use.sum(1, keepdim=True)).std(1).mean())

    assert spread(1.0) < 0.7 * spread(0.0)


def test_where_interest_drifts_through_a_long_history_it_wins(beats: Beats) -> None:
    """Over pooling and DIN, to which all three genres look alike (the most there is to have is .9)."""
    world = Drift(2000, length=24)
    found = {cls.__name__: held_out(cls, world, 1600, SMALL, **FITTING) for cls in (MIMN, MLP, DIN)}
    for plain in ("MLP", "DIN"):
        beats(0.15, MIMN=found["MIMN"], **{plain: found[plain]})


def test_where_order_says_nothing_it_does_not_lose(beats: Beats) -> None:
    world = Drift(2000, drifts=False)
    beats(-0.02, MIMN=held_out(MIMN, world, 1600, SMALL, **FITTING), MLP=held_out(MLP, world, 1600, SMALL, **FITTING))
