from itertools import combinations

import torch

from palate.batch import Batch
from palate.layers.norms import BatchNorm
from palate.rank.interaction.nfm import NFM
from palate.schema import Feature, Label, Schema
from tests.conftest import Beats
from tests.rank.interaction.held_out import held_out
from tests.worlds import agreement, columns

SCHEMA = Schema(tuple(Feature(name, "user", "category", 9) for name in "abc"), (Label("click"),))
ALIKE = {"rows": 3000, "of": (((0, 1, 2, 3),),), "epochs": 10}  #: what counts is whether the first pair agrees as the second does
PAIRS = {"rows": 3000, "of": (((0, 1), (2, 3)),), "epochs": 10}  #: what counts is how many pairs agree


def formula(model: NFM, batch: Batch) -> torch.Tensor:
    both = model.embedding(batch)
    vectors, weights = both[..., :4], both[..., 4:].sum(1)
    pooled = sum(vectors[:, i] * vectors[:, j] for i, j in combinations(range(3), 2))
    if isinstance(model.norm, BatchNorm):
        mean, deviation = model.norm.running_mean, torch.sqrt(model.norm.running_var + model.norm.eps)
        pooled = (pooled - mean) / deviation * model.norm.weight + model.norm.bias
    return weights + model.tower(pooled)


def test_it_is_the_formula_of_the_paper() -> None:
    """y = w0 + sum of w_i + h' MLP(sum over i < j of v_i * v_j), the sum normalised or as it is."""
    torch.manual_seed(0)
    for batch_norm in (False, True):
        model = NFM(SCHEMA, dim=4, hidden=(6, 5), batch_norm=batch_norm)
        model.embedding.reset(0.5)
        batch = Batch(columns(SCHEMA, 7))
        model(batch)  # the running mean and deviation are no longer 0 and 1
        model.eval()
        torch.testing.assert_close(model(batch), formula(model, batch))


def test_a_last_batch_of_one_row_can_be_trained_on() -> None:
    model = NFM(SCHEMA, dim=4).train()
    batch = Batch(columns(SCHEMA, 1))
    batch["label:click"] = torch.ones(1)
    before = model.norm.running_mean.clone()
    model.loss(batch).backward()
    assert torch.equal(model.norm.running_mean, before)
    assert model.tower.weight.grad is not None


def test_a_tower_over_the_products_finds_what_their_sum_hides(beats: Beats) -> None:
    own = held_out(NFM, agreement, **ALIKE, hidden=(32,))
    beats(0.4, NFM=own, FM=held_out(NFM, agreement, **ALIKE, hidden=()))


def test_nothing_is_lost_where_the_sum_says_all(beats: Beats) -> None:
    own = held_out(NFM, agreement, **PAIRS, hidden=(32,))
    beats(-0.01, NFM=own, FM=held_out(NFM, agreement, **PAIRS, hidden=(), batch_norm=False))
