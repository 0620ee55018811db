import pytest
import torch

from palate.batch import Batch
from palate.rank.interaction.dcn import DCN
from palate.rank.interaction.dcnv2 import DCNv2
from palate.rank.interaction.mlp import MLP
from palate.rank.interaction.nfm import NFM
from tests.conftest import Beats
from tests.rank.interaction.held_out import held_out
from tests.worlds import columns, polynomial, schema_of_everything

PRODUCTS = {"rows": 2000, "of": (((0, 1, 2), (3, 4, 5)), 4.0)}  #: two products of three numbers
PLAIN = {"rows": 2000, "of": (((0,), (1,), (2, 3)), 2.0)}  #: two numbers and a product of two


@pytest.mark.parametrize("form", ["stacked", "parallel"])
def test_it_is_the_formula_of_the_paper(form: str) -> None:
    """x_{l+1} = x_0 * (W x_l + b) + x_l, read by the tower or beside it."""
    torch.manual_seed(0)
    schema = schema_of_everything()
    model = DCNv2(schema, dim=4, hidden=(6, 5), layers=2, form=form).eval()
    model.embedding.reset(0.5)
    batch = Batch(columns(schema, 7))
    start = crossed = model.embedding(batch).flatten(1)
    for layer in model.crossed.cross.layers:
        torch.nn.init.normal_(layer.bias)
        crossed = start * (crossed @ layer.weight + layer.bias) + crossed
    tower = model.crossed.tower
    expected = tower(crossed) if form == "stacked" else tower(start) + crossed @ model.crossed.out
    torch.testing.assert_close(model(batch), expected)


def test_several_products_of_three_are_found(beats: Beats) -> None:
    own = held_out(DCNv2, polynomial, **PRODUCTS, hidden=(16,), layers=2, form="parallel")
    beats(0.3, DCNv2=own, FM=held_out(NFM, polynomial, **PRODUCTS, hidden=(), batch_norm=False))  # pairs only
    beats(0.02, DCNv2=own, MLP=held_out(MLP, polynomial, **PRODUCTS, hidden=(64, 64)))  # a third more weights
    beats(0.05, DCNv2=own, DCN=held_out(DCN, polynomial, **PRODUCTS, hidden=(16,), layers=2))  # a vector in place of the matrix


@pytest.mark.parametrize("options", [{"form": "stacked"}, {"form": "parallel", "rank": 8}], ids=str)
def test_stacked_or_of_low_rank_they_are_found_too(beats: Beats, options: dict[str, object]) -> None:
    own = held_out(DCNv2, polynomial, **PRODUCTS, hidden=(16,), layers=2, **options)
    beats(0.01, DCNv2=own, MLP=held_out(MLP, polynomial, **PRODUCTS, hidden=(64, 64)))


def test_nothing_is_lost_where_pairs_are_enough(beats: Beats) -> None:
    own = held_out(DCNv2, polynomial, **PLAIN, hidden=(16,), layers=2, form="parallel")
    beats(-0.01, DCNv2=own, MLP=held_out(MLP, polynomial, **PLAIN, hidden=(16,)))
