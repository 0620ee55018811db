import torch

from palate.batch import Batch
from palate.rank.interaction.dcn import DCN
from palate.rank.interaction.mlp import MLP
from palate.rank.interaction.nfm import NFM
from tests.conftest import Beats
from tests.rank.interaction.held_out import held_out
from tests.worlds import columns, polynomial, schema_of_everything

PRODUCT = {"rows": 2000, "of": (((0, 1, 2),), 4.0)}  #: one product of three numbers
PLAIN = {"rows": 2000, "of": (((0,), (1,), (2, 3)), 2.0)}  #: two numbers and a product of two


def test_it_is_the_formula_of_the_paper() -> None:
    """logit = w . [x_L, h] + b, with x_{l+1} = x_0 x_l' w_l + b_l + x_l and h what the hidden layers make of x_0."""
    torch.manual_seed(0)
    schema = schema_of_everything()
    model = DCN(schema, dim=4, hidden=(6, 5), layers=2).eval()
    model.embedding.reset(0.5)
    torch.nn.init.normal_(model.cross.bias)
    batch = Batch(columns(schema, 7))
    start = model.embedding(batch).flatten(1)
    first, last = model.tower.layers
    deep = torch.relu(first(torch.relu(start @ model.tower.weight + model.tower.bias)))
    crossed = start
    for layer in range(2):
        crossed = start * (crossed @ model.cross.weight[:, layer])[:, None] + model.cross.bias[layer] + crossed
    weights = torch.cat([model.out, last.weight.T])  # w
    torch.testing.assert_close(model(batch), torch.cat([crossed, deep], 1) @ weights + last.bias)


def test_a_product_of_three_is_found_where_a_tower_needs_more_weights(beats: Beats) -> None:
    own = held_out(DCN, polynomial, **PRODUCT, hidden=(16,), layers=2)
    beats(0.25, DCN=own, FM=held_out(NFM, polynomial, **PRODUCT, hidden=(), batch_norm=False))  # pairs only
    beats(0.04, DCN=own, MLP=held_out(MLP, polynomial, **PRODUCT, hidden=(16,)))
    beats(0.005, DCN=own, larger_MLP=held_out(MLP, polynomial, **PRODUCT, hidden=(32, 16)))  # twice its weights


def test_nothing_is_lost_where_pairs_are_enough(beats: Beats) -> None:
    own = held_out(DCN, polynomial, **PLAIN, hidden=(16,), layers=2)
    beats(-0.01, DCN=own, MLP=held_out(MLP, polynomial, **PLAIN, hidden=(16,)))
