import torch

from palate.batch import Batch
from palate.rank.interaction.mlp import MLP
from palate.rank.interaction.nfm import NFM
from palate.rank.interaction.xdeepfm import xDeepFM
from tests.conftest import Beats
from tests.rank.interaction.held_out import held_out
from tests.worlds import columns, polynomial, schema_of_everything

PRODUCTS = {"rows": 2000, "of": (((0, 1, 2), (3, 4, 5)), 4.0)}  #: two products of three numbers
PLAIN = {"rows": 2000, "of": (((0,), (1,), (2, 3)), 2.0)}  #: two numbers and a product of two


def test_it_is_the_formula_of_the_paper() -> None:
    """logit = linear + w . [p^1, p^2] + tower + b; p^k_h sums the entries of X^k_h = sum over i, j of W^{k,h}_ij X^{k-1}_i * X^0_j."""
    torch.manual_seed(0)
    schema = schema_of_everything()
    model = xDeepFM(schema, dim=4, hidden=(6, 5), maps=(3, 2)).eval()
    model.embedding.reset(0.5)
    batch = Batch(columns(schema, 7))
    both = model.embedding(batch)
    fields = before = both[..., :4]
    pooled = []
    for weight, size in zip(model.cin.weights, (3, 2), strict=True):
        before = torch.einsum("nid,njd,ijh->nhd", before, fields, weight.view(before.shape[1], fields.shape[1], size))
        pooled.append(before.sum(2))
    expected = both[..., 4:].sum(1) + torch.cat(pooled, 1) @ model.out + model.tower(fields.flatten(1)) + model.bias
    torch.testing.assert_close(model(batch), expected)


def test_several_products_of_three_are_found(beats: Beats) -> None:
    own = held_out(xDeepFM, polynomial, **PRODUCTS, hidden=(16,), maps=(8, 8))
    beats(0.3, xDeepFM=own, FM=held_out(NFM, polynomial, **PRODUCTS, hidden=(), batch_norm=False))  # pairs only
    beats(0.02, xDeepFM=own, MLP=held_out(MLP, polynomial, **PRODUCTS, hidden=(64, 64)))  # almost five times its weights


def test_nothing_is_lost_where_pairs_are_enough(beats: Beats) -> None:
    own = held_out(xDeepFM, polynomial, **PLAIN, hidden=(16,), maps=(8, 8))
    beats(-0.01, xDeepFM=own, MLP=held_out(MLP, polynomial, **PLAIN, hidden=(16,)))
