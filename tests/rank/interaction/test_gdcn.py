import pytest
import torch

from palate.batch import Batch
from palate.rank.interaction.dcnv2 import DCNv2
from palate.rank.interaction.gdcn import GDCN
from palate.rank.interaction.mlp import MLP
from tests.conftest import Beats
from tests.rank.interaction.held_out import held_out
from tests.worlds import columns, polynomial, schema_of_everything, switched

PRODUCTS = {"rows": 2000, "of": (((0, 1, 2), (3, 4, 5)), 4.0)}  #: two products of three numbers
PLAIN = {"rows": 2000, "of": (((0,), (1,), (2, 3)), 2.0)}  #: two numbers and a product of two


@pytest.mark.parametrize("form", ["stacked", "parallel"])
def test_it_is_the_formula_of_the_paper(form: str) -> None:
    """x_{l+1} = x_0 * (W x_l + b) * sigmoid(V x_l) + x_l, read by the tower or beside it."""
    torch.manual_seed(0)
    schema = schema_of_everything()
    model = GDCN(schema, dim=4, hidden=(6, 5), layers=2, form=form).eval()
    model.embedding.reset(0.5)
    batch = Batch(columns(schema, 7))
    start = crossed = model.embedding(batch).flatten(1)
    width = start.shape[1]
    for layer in model.crossed.cross.layers:
        torch.nn.init.normal_(layer.bias)
        w, v = layer.weight[:, :width], layer.weight[:, width:]
        crossed = start * (crossed @ w + layer.bias) * torch.sigmoid(crossed @ v) + crossed
    tower = model.crossed.tower
    expected = tower(crossed) if form == "stacked" else tower(start) + crossed @ model.crossed.out
    torch.testing.assert_close(model(batch), expected)


def test_the_gate_switches_products_on_and_off(beats: Beats) -> None:
    """One layer makes pairs only; with the gate it also knows when each counts."""
    options = {"rows": 3000, "epochs": 15, "hidden": (), "layers": 1}
    beats(0.12, GDCN=held_out(GDCN, switched, **options), DCNv2=held_out(DCNv2, switched, **options))


def test_products_of_three_are_found(beats: Beats) -> None:
    own = held_out(GDCN, polynomial, **PRODUCTS, hidden=(16,), layers=2, form="parallel")
    beats(0.015, GDCN=own, MLP=held_out(MLP, polynomial, **PRODUCTS, hidden=(64, 64)))


def test_nothing_is_lost_where_pairs_are_enough(beats: Beats) -> None:
    own = held_out(GDCN, polynomial, **PLAIN, hidden=(16,), layers=2, form="parallel")
    beats(-0.01, GDCN=own, MLP=held_out(MLP, polynomial, **PLAIN, hidden=(16,)))
