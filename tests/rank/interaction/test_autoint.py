import torch

from palate.batch import Batch
from palate.rank.interaction.autoint import AutoInt
from palate.rank.interaction.mlp import MLP
from palate.rank.interaction.nfm import NFM
from tests.conftest import Beats
from tests.rank.interaction.held_out import held_out
from tests.worlds import columns, schema_of_everything, slots

TURNED = {"rows": 3000, "of": (True,), "seeds": 1}
PLAIN = {"rows": 3000, "of": (False,), "seeds": 1}


def test_it_is_the_formula_of_the_paper() -> None:
    """logit = w . [e_1, ..., e_F] + b after two interacting layers (of two heads), and the tower of AutoInt+."""
    torch.manual_seed(0)
    schema = schema_of_everything()
    for hidden in ((), (6, 5)):
        model = AutoInt(schema, dim=4, hidden=hidden, per_head=3).eval()
        model.embedding.reset(0.5)
        batch = Batch(columns(schema, 7))
        start = fields = model.embedding(batch)
        for block in model.attention.blocks:
            q, k, v, r = (each.view(-1, 2, 3) if n < 3 else each for n, each in enumerate(block.weight.split(6, 1)))
            scores = torch.einsum("nmd,dhs,nkc,chs->nhmk", fields, q, fields, k)
            mixed = torch.einsum("nhmk,nkd,dhs->nmhs", torch.softmax(scores, 3), fields, v)
            fields = torch.relu(mixed.flatten(2) + fields @ r)
        expected = fields.flatten(1) @ model.out.weight.T + model.out.bias
        if hidden:
            expected = expected + model.tower(start.flatten(1))
        torch.testing.assert_close(model(batch), expected)


def test_it_finds_the_slot_that_matters_in_this_row(beats: Beats) -> None:
    own = held_out(AutoInt, slots, **TURNED, blocks=1, per_head=8)
    beats(0.15, AutoInt=own, FM=held_out(NFM, slots, **TURNED, hidden=(), batch_norm=False))
    beats(0.02, AutoInt=own, MLP=held_out(MLP, slots, **TURNED, hidden=(64, 64)))  # nine times its weights


def test_nothing_is_lost_where_pairs_are_enough(beats: Beats) -> None:
    own = held_out(AutoInt, slots, **PLAIN, blocks=1, per_head=8)
    beats(-0.01, AutoInt=own, FM=held_out(NFM, slots, **PLAIN, hidden=(), batch_norm=False))
