import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from palate.batch import Batch
from palate.contracts import Ranker
from palate.rank.interaction.mlp import MLP
from palate.rank.multitask.esmm import ESMM, joint
from palate.schema import Label, Schema
from palate.training.trainer import Trainer
from tests.conftest import Beats
from tests.worlds import ClickedSample, columns, schema_of_everything

NAN = float("nan")


def test_the_loss_is_the_papers() -> None:
    """BCE(click, pCTR) + BCE(click and buy, pCTR pCVR) over all exposures, each times its label's weight."""
    schema = schema_of_everything(Label("click"), Label("buy", weight=3.0))
    model, batch = ESMM(schema, dim=4, hidden=(6,)).eval(), Batch(columns(schema, 5))
    batch["label:click"], batch["label:buy"] = torch.tensor([0.0, 0, 1, 1, 1]), torch.tensor([NAN, 1, 0, 1, NAN])
    ctr, cvr = model.predict(batch).T
    both = binary_cross_entropy((ctr * cvr)[:4], torch.tensor([0.0, 0, 0, 1]))  # not clicked: no conversion; unknown after a click: left out
    torch.testing.assert_close(model.loss(batch), binary_cross_entropy(ctr, batch["label:click"]) + 3 * both)


def test_the_product_is_exact_at_any_size() -> None:
    for a, b in ((0.3, -1.2), (-60.0, -50.0), (60.0, 50.0), (-90.0, 20.0)):
        one, other = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
        logit = joint(one, other)
        against = math.fsum((math.exp(-a), math.exp(-b), math.exp(-a - b)))
        assert float(logit.detach()) == pytest.approx(-math.log(against), rel=1e-5)
        logit.backward()
        assert bool(torch.isfinite(one.grad) & torch.isfinite(other.grad))


def test_it_starts_at_the_rate_after_clicks() -> None:
    world = ClickedSample()
    model = ESMM(Schema(world.features, (Label("click"), Label("buy"))), dim=4)
    world.buy = np.nan_to_num(world.buy)  # also where what was not clicked is said not to be bought
    model.begin(world.rows("click", "buy"))
    assert float(torch.sigmoid(model.bias[1]).detach()) == pytest.approx(world.buy[world.click > 0].mean(), abs=1e-4)


def test_one_task_is_refused() -> None:
    with pytest.raises(ValueError, match="ESMM needs a label for the click"):
        ESMM(schema_of_everything(Label("click")))


def errors(world: ClickedSample, cls: type[Ranker], tasks: tuple[str, ...], clicked: bool, epochs: int) -> list[float]:
    """After each epoch: how far the last task's probability is from the truth over all exposures (root mean square)."""
    torch.manual_seed(0)
    model, board, found = cls(Schema(world.features, tuple(map(Label, tasks))), dim=8, hidden=(32,), dropout=0.0), world.board(), []

    def score() -> float:
        with torch.inference_mode():
            found.append(float(np.sqrt(np.mean((model.predict(board)[:, -1].numpy() - world.buys.ravel()) ** 2))))
        return len(found)

    Trainer(epochs=epochs, batch_size=256, learning_rate=0.005, threads=1).fit(model, world.rows(*tasks, clicked=clicked), score)
    return found


def test_over_all_exposures_it_is_closer_than_a_model_of_clicked_rows_at_its_best(beats: Beats) -> None:
    world = ClickedSample()
    beats(0.08, "error", ESMM=errors(world, ESMM, ("click", "buy"), False, 8)[-1], MLP_of_clicks=min(errors(world, MLP, ("buy",), True, 12)))


def test_where_nearly_all_is_clicked_it_loses_nothing_much(beats: Beats) -> None:
    world = ClickedSample(base=4.0, slope=0.5)
    beats(-0.02, "error", ESMM=errors(world, ESMM, ("click", "buy"), False, 6)[-1], MLP_of_clicks=errors(world, MLP, ("buy",), True, 6)[-1])
