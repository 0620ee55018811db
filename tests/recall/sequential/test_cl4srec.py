import math

import pytest
import torch

from palate.batch import Batch
from palate.layers import losses
from palate.layers.foretelling import compared
from palate.recall.sequential.cl4srec import CL4SRec
from tests.conftest import Beats
from tests.recall.sequential.naive import transformed
from tests.recall.walked import learned, some_interactions
from tests.worlds import Interests, more

SMALL = {"dim": 24, "heads": 1, "length": 7, "dropout": 0.1, "negatives": 8}


def made(**options: object) -> CL4SRec:
    torch.manual_seed(0)
    model = CL4SRec(some_interactions(items=30), dim=8, length=10, **options).eval()  # type: ignore[arg-type]
    for weight in model.parameters():
        weight.data.normal_(0, 0.5)
    return model


def test_the_forward_is_sasrec_s_place_by_place() -> None:
    model, ids = made(), torch.tensor([3, 1, 9])
    expected = transformed(model.transformer, model.table.weight[ids] * 8**0.5)
    torch.testing.assert_close(model.read(torch.tensor([[0, 3, 1, 9]]))[0, 1:], expected, rtol=1e-4, atol=1e-4)


def test_views_are_a_piece_a_list_with_holes_or_one_out_of_order() -> None:
    model, full = made(crop=0.5, masked=0.4, reorder=0.6), list(range(1, 11))
    lists = torch.tensor([[0, 0, *full[:8]]] * 400 + [full] * 400)
    seen = {"crop": 0, "masked": 0, "reorder": 0}
    starts = set()
    for before, after in zip(lists.tolist(), model.view(lists).tolist(), strict=True):
        was, now = [one for one in before if one], [one for one in after if one]
        assert after == [0] * (10 - len(now)) + now
        if 31 in now:
            seen["masked"] += 1
            assert now.count(31) == math.floor(0.4 * len(was))
            assert all(one in (own, 31) for one, own in zip(now, was, strict=True))
        elif len(now) < len(was):
            seen["crop"] += 1
            assert len(now) == len(was) // 2
            assert now == list(range(now[0], now[0] + len(now)))
            starts.add((len(was), now[0]))
        else:
            seen["reorder"] += 1
            moved = [place for place in range(len(was)) if now[place] != was[place]]
            assert sorted(now) == was
            assert not moved or moved[-1] - moved[0] < math.floor(0.6 * len(was))
    assert min(seen.values()) > 200
    assert starts == {(8, start) for start in range(1, 6)} | {(10, start) for start in range(1, 7)}


@pytest.mark.parametrize("within", [False, True])
def test_info_nce_by_hand(within: bool) -> None:
    torch.manual_seed(0)
    one, other = torch.randn(4, 3), torch.randn(4, 3)
    terms = []
    for mine, theirs in ((one, other), (other, one)) if within else ((one, other),):
        for b in range(4):
            against = [mine[b] @ theirs[c] / 0.7 for c in range(4)] + ([mine[b] @ mine[c] / 0.7 for c in range(4) if c != b] if within else [])
            terms.append(-math.log(math.exp(against[b]) / sum(math.exp(score) for score in against)))
    assert float(losses.info_nce(one, other, 0.7, within)) == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_the_loss_is_the_next_item_s_and_so_much_of_the_views() -> None:
    batch = Batch(item=torch.tensor([[0, 3, 1, 9, 2], [4, 5, 7, 7, 1]]), negative=torch.randint(1, 10, (2, 3)), log_q=torch.rand(2, 3) - 2)
    plain, model = made(contrast=0.0), made(contrast=0.3, temperature=0.5)
    model.view = lambda ids: ids.flip(1)  # type: ignore[method-assign]
    views = model.read(batch["item"][:, 1:].flip(1))[:, -1]
    before, after = batch["item"][:, :-1], batch["item"][:, 1:]
    states, target, whose = plain.read(before)[before > 0], after[before > 0], (before > 0).nonzero()[:, 0]
    told = compared(states, plain.table, target, batch["negative"][whose])
    torch.testing.assert_close(plain.loss(batch), losses.drawn_softmax(*told, batch["log_q"][whose]))
    expected = plain.loss(batch) + 0.3 * losses.info_nce(views, views, 0.5, within=True)
    torch.testing.assert_close(model.loss(batch), expected)


def test_views_cost_little_where_lists_are_few(beats: Beats) -> None:
    """No gain is claimed: in worlds of few lists none was found (see the class)."""
    train, found = more(80), {}
    world = Interests(train + 500, interests=1, groups=40, size=5, length=8)
    for contrast in (0.1, 0.0):
        options = {**SMALL, "contrast": contrast, "temperature": 5.0}
        found[contrast] = learned(CL4SRec, world, train, 5, options, epochs=20, batch_size=32, learning_rate=0.005)
    beats(-0.1, "hit@5", CL4SRec=found[0.1], without_views=found[0.0])
