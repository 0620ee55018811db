from typing import Any

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.rank.behavior.convlstm import ConvLSTM
from palate.rank.interaction.mlp import MLP
from tests.conftest import Beats
from tests.rank.behavior.judged import held_out
from tests.worlds import Drift, columns, schema_of_everything

SCHEMA = schema_of_everything()
SMALL: dict[str, Any] = {"dim": 8, "hidden": (32,), "dropout": 0.0}
FITTING: dict[str, Any] = {"epochs": 6, "batch_size": 128, "learning_rate": 0.02}


def test_one_row_by_hand() -> None:
    """h_t = LSTM(ReLU(sum over j of W_j e_{t + j - 1})); tower([fields; h_T])."""
    torch.manual_seed(0)
    model, batch = ConvLSTM(SCHEMA, dim=4, hidden=(6,), channels=5, state=3).eval(), Batch(columns(SCHEMA, 6))
    model.embedding.reset(0.5)
    batch["history"][0] = batch["history_genre"][0] = batch["history_gaps"][0] = 0
    fields, found = model.embedding(batch), model(batch)
    past, lstm = model.behaviors(batch, model.embedding, fields), model.recurrence
    for row in range(6):
        events = torch.cat([past.history, past.gaps], 2)[row, past.mask[row]]  # [l, C]
        padded, state, cell = torch.nn.functional.pad(events, (0, 0, 1, 1)), torch.zeros(3), torch.zeros(3)
        for t in range(len(events)):
            pattern = torch.relu(sum(model.convolution.weight[:, :, j] @ padded[t + j] for j in range(3)) + model.convolution.bias)
            gates = lstm.weight_ih_l0 @ pattern + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ state + lstm.bias_hh_l0
            enter, forget, new, leave = gates.chunk(4)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
            state = torch.sigmoid(leave) * torch.tanh(cell)
        torch.testing.assert_close(model.tower(torch.cat([fields[row].flatten(), state])[None])[0], found[row])


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel must be odd"):
        ConvLSTM(SCHEMA, kernel=4)


def test_it_sees_the_order(beats: Beats) -> None:
    world = Drift(3500)
    beats(0.15, ConvLSTM=held_out(ConvLSTM, world, 2500, SMALL, **FITTING), MLP=held_out(MLP, world, 2500, SMALL, **FITTING))


def test_it_does_not_lose_where_the_history_says_nothing(beats: Beats) -> None:
    world, random = Drift(3500), np.random.default_rng(1)
    world.labels = (random.random(len(world.labels)) < np.where(world.columns["item_id"] % 8 < 4, 0.9, 0.1)).astype(np.float32)
    beats(-0.01, ConvLSTM=held_out(ConvLSTM, world, 2500, SMALL, **FITTING), MLP=held_out(MLP, world, 2500, SMALL, **FITTING))
