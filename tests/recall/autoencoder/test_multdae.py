"""Mult-DAE by hand, and where tastes have blocks."""

import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.datasets.interactions import Interactions
from palate.layers.bags import distinct
from palate.recall.autoencoder.multdae import MultDAE
from tests.recall.fitted import fitted, found
from tests.worlds import Tribes

HISTORIES = [[2, 5, 1], [4], [1, 2, 3, 4, 5, 6]]


def bags(histories):
    width = max(map(len, histories))
    return Batch(history=torch.tensor([[0] * (width - len(row)) + row for row in histories]))


def by_hand(model, histories, activate=np.tanh):
    """log pi of every item, from dense vectors of zeros and ones."""
    x = np.zeros((len(histories), model.n_items))
    for user, row in enumerate(histories):
        x[user, np.array(row) - 1] = 1 / np.sqrt(len(row))
    weights = {name: values.detach().double().numpy() for name, values in model.named_parameters()}
    values = x @ weights["encoder.weight"] + weights["encoder.bias"]
    for n in range(len(model.encoder.layers)):
        values = np.tanh(values) @ weights[f"encoder.layers.{n}.weight"].T + weights[f"encoder.layers.{n}.bias"]
    values = activate(values)
    for n in range(len(model.decoder.layers)):
        values = np.tanh(values @ weights[f"decoder.layers.{n}.weight"].T + weights[f"decoder.layers.{n}.bias"])
    logits = values @ weights["decoder.last.weight"].T + weights["decoder.last.bias"]
    return logits, logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize("hidden", [(), (4,)])
def test_loss_and_scores_are_the_paper_s(hidden):
    torch.manual_seed(0)
    model = MultDAE(Interactions.empty(3, 7), dim=3, hidden=hidden).eval()
    torch.nn.init.normal_(model.decoder.last.bias)
    logits, log_pi = by_hand(model, HISTORIES)
    expected = -np.mean([sum(log_pi[user, item - 1] for item in row) for user, row in enumerate(HISTORIES)])
    assert float(model.loss(bags(HISTORIES))) == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(model.scores(bags(HISTORIES)).numpy(), logits, atol=1e-5)


def test_dropout_leaves_items_out_and_lifts_the_rest():
    torch.manual_seed(0)
    model = MultDAE(Interactions.empty(3, 50), dim=3, dropout=0.5)
    with torch.no_grad():
        model.encoder.weight.copy_(torch.eye(50, 3) * 0)
        model.encoder.weight[:, 0] = 1
        sums = model.encoder(torch.arange(1, 51).expand(400, 50))[:, 0]
    kept = sums * 50**0.5 / 2  # how many were kept
    assert torch.allclose(kept, kept.round(), atol=1e-3)
    assert 24 < float(kept.mean()) < 26


def test_an_item_that_was_taken_twice_counts_once():
    model = MultDAE(Interactions.empty(3, 7), dim=3).eval()
    with torch.no_grad():
        assert torch.allclose(model.scores(bags([[2, 5, 2, 2]])), model.scores(bags([[5, 2]])))
    assert sorted(distinct(torch.tensor([[3, 0, 3, 1]]))[0].tolist()) == [0, 0, 1, 3]


def test_it_finds_blocks_and_where_there_are_none_popularity():
    model, world = {}, {"blocks": Tribes(), "none": Tribes(own=0)}
    for name, one in world.items():
        model[name] = found(fitted(MultDAE, one, dim=32, epochs=40, batch_size=64, learning_rate=0.003, weight_decay=3.0), one)
    assert model["blocks"] > world["blocks"].popular() + 0.45
    assert model["none"] > world["none"].popular() - 0.03


@pytest.mark.parametrize("options", [{"dim": 0}, {"hidden": (0,)}, {"dropout": 1.0}, {"length": 0}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MultDAE(Interactions.empty(3, 7), **options)
