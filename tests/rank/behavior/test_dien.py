import functools
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from palate.batch import Batch
from palate.contracts import Ranker
from palate.rank.behavior.dien import DIEN
from palate.rank.behavior.din import DIN
from palate.rank.interaction.mlp import MLP
from tests.conftest import Beats
from tests.rank.behavior.judged import held_out
from tests.worlds import Drift, columns, labelled, schema_of_everything

SCHEMA = schema_of_everything()
SMALL: dict[str, Any] = {"dim": 8, "hidden": (32,)}
FITTING: dict[str, Any] = {"epochs": 10, "batch_size": 200, "learning_rate": 0.03}


def made(**options: Any) -> DIEN:
    torch.manual_seed(0)
    model = DIEN(SCHEMA, dim=4, hidden=(6,), **options).eval()
    model.embedding.reset(0.5)
    return model


def test_one_row_by_hand() -> None:
    """h_t = GRU(e_t); a = softmax(h_t W e); h'_t = AUGRU(h_t, a_t); tower([fields; h'_T])."""
    model, batch = made(), Batch(columns(SCHEMA, 6))
    fields, found = model.embedding(batch), model(batch)
    past = model.behaviors(batch, model.embedding, fields)
    for row in range(6):
        events = past.history[row, past.mask[row]]  # [l, W]
        state, states = torch.zeros(8), []
        w, u, wb, ub = model.extractor.weight_ih_l0, model.extractor.weight_hh_l0, model.extractor.bias_ih_l0, model.extractor.bias_hh_l0
        for event in events:
            (wr, wk, wn), (ur, uk, un) = (event @ w.T + wb).chunk(3), (state @ u.T + ub).chunk(3)
            reset, keep = torch.sigmoid(wr + ur), torch.sigmoid(wk + uk)
            state = keep * state + (1 - keep) * torch.tanh(wn + reset * un)
            states.append(state)
        attention = torch.stack([h @ model.attention.weight.T @ past.candidate[row] for h in states]).softmax(0)
        interest = torch.zeros(8)
        for h, a in zip(states, attention, strict=True):
            (wr, wu, wn), (ur, uu, un) = (h @ model.evolution.weight + model.evolution.bias).chunk(3), (interest @ model.evolution.recurrent).chunk(3)
            update = a * torch.sigmoid(wu + uu)
            interest = (1 - update) * interest + update * torch.tanh(wn + torch.sigmoid(wr + ur) * un)
        torch.testing.assert_close(model.tower(torch.cat([fields[row].flatten(), interest])[None])[0], found[row])


def test_the_auxiliary_loss_tells_the_next_event_from_another() -> None:
    model, batch = made(), Batch(columns(SCHEMA, 16))
    past = model.behaviors(batch, model.embedding, model.embedding(batch))
    h, ids = model.interests(past), batch["history"]
    torch.manual_seed(3)
    found = model.next_event(past, h, ids)
    torch.manual_seed(3)
    pairs = [(row, t) for row in range(16) for t in range(past.mask.shape[1] - 1) if past.mask[row, t + 1]]
    drawn = [pairs[int(one)] for one in torch.randint(len(pairs), (len(pairs),))]
    right = [-F.logsigmoid(h[row, t] @ past.history[row, t + 1]) for row, t in pairs]
    wrong = [
        -torch.log(1 - torch.sigmoid(h[row, t] @ past.history[other, s + 1]))
        for (row, t), (other, s) in zip(pairs, drawn, strict=True)
        if ids[row, t + 1] != ids[other, s + 1]  # the positive is no negative
    ]
    assert 0 < len(wrong) < len(right)
    torch.testing.assert_close(found, torch.stack(right).mean() + torch.stack(wrong).mean())


def test_the_loss_is_the_tasks_and_alpha_times_the_auxiliary_one() -> None:
    data = labelled(SCHEMA, 12)
    batch = data.batch(torch.arange(12))
    losses = []
    for alpha in (0.0, 1.0, 3.0):
        model = made(auxiliary=alpha)
        torch.manual_seed(5)
        losses.append(float(model.loss(batch).detach()))
    torch.testing.assert_close(losses[0], float(super(DIEN, model).loss(batch).detach()))
    torch.testing.assert_close(losses[2] - losses[0], 3 * (losses[1] - losses[0]))
    with pytest.raises(ValueError, match="auxiliary must be"):
        made(auxiliary=-1.0)


def test_histories_of_one_event_and_of_none_have_no_next_one() -> None:
    model, data = made(), labelled(SCHEMA, 4)
    batch = data.batch(torch.arange(4))
    for name in ("history", "history_genre"):
        batch[name] = batch[name].clone()
        batch[name][:, 1:] = 0
        batch[name][0] = 0
    _, past = model._read(batch)
    assert past.history.shape[1] == 1
    assert float(model.next_event(past, model.interests(past), batch["history"])) == 0
    model.loss(batch).backward()
    assert all(torch.isfinite(weight.grad.to_dense()).all() for weight in model.parameters() if weight.grad is not None)


def test_one_users_columns_expanded_over_candidates_answer_the_same() -> None:
    model = made()
    user, item = columns(SCHEMA, 1, "user", "context"), columns(SCHEMA, 7, "item", "pair", seed=2)
    expanded = Batch({**item, **{name: values.expand(7, *values.shape[1:]) for name, values in user.items()}})
    torch.testing.assert_close(model(expanded), model(Batch({name: values.contiguous() for name, values in expanded.items()})))


@functools.cache
def where_interest_drifts(cls: type[Ranker], **options: Any) -> float:
    return held_out(cls, Drift(2600), 2000, {**SMALL, **options}, **FITTING)


def test_where_interest_drifts_it_wins(beats: Beats) -> None:
    """Over pooling and DIN, to which all three genres look alike (the most there is to have is .9)."""
    for cls in (MLP, DIN):
        beats(0.2, DIEN=where_interest_drifts(DIEN), **{cls.__name__: where_interest_drifts(cls)})


def test_the_auxiliary_loss_makes_it_learn_sooner(beats: Beats) -> None:
    beats(0.05, DIEN=where_interest_drifts(DIEN), without_auxiliary=where_interest_drifts(DIEN, auxiliary=0.0))


def test_where_order_says_nothing_it_does_not_lose(beats: Beats) -> None:
    world = Drift(2600, drifts=False)
    beats(-0.02, DIEN=held_out(DIEN, world, 2000, SMALL, **FITTING), MLP=held_out(MLP, world, 2000, SMALL, **FITTING))
