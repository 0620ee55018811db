import pytest
import torch
from torch.nn import functional as F

from palate.datasets.pairs import Pairs
from palate.recall.two_tower.dssm import DSSM
from palate.schema import Feature, MissingFeature, Schema
from palate.training.trainer import Trainer
from tests.worlds import paired, schema_of_everything

SCHEMA = schema_of_everything()


def scores_and_batch(**options: object) -> tuple[DSSM, torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = DSSM(SCHEMA, dim=4, hidden=(8,), temperature=0.5, **options).eval()  # type: ignore[arg-type]
    batch = paired(SCHEMA, 6, items=6, uniform=3).batch(torch.arange(6), torch.Generator().manual_seed(1))
    batch["user_row"][1] = 0  # users 0 and 1 are one person
    return model, model.encode_user(batch) @ model.encode_item(batch).T / 0.5, batch


def negatives(batch: dict[str, torch.Tensor]) -> list[tuple[int, int]]:
    users, items = batch["user_row"].tolist(), batch["item_row"].tolist()
    own = {(user, items[b]) for b, user in enumerate(users)}
    return [(b, n) for b in range(6) for n in range(9) if (users[b], items[n]) not in own]


def test_vectors_have_length_one_or_not() -> None:
    for normalise in (True, False):
        model, _, batch = scores_and_batch(normalise=normalise)
        lengths = model.encode_item(batch).norm(dim=1)
        assert bool(torch.allclose(lengths, torch.ones(9), atol=1e-5)) is normalise
        assert model.encode_user(batch).shape == (6, 4)


def test_pointwise_pairwise_hinge_by_hand() -> None:
    model, scores, batch = scores_and_batch(loss="pointwise")
    pairs = negatives(batch)
    assert len(pairs) < 6 * 8  # the six items are drawn again, so some columns are one's own
    mean = torch.stack([F.softplus(scores[b, n]) for b, n in pairs]).mean()
    torch.testing.assert_close(model.loss(batch), F.softplus(-scores.diagonal()).mean() + mean)
    for kind, function in (("pairwise", lambda gap: F.softplus(-gap)), ("hinge", lambda gap: torch.relu(1 - gap))):
        model, scores, batch = scores_and_batch(loss=kind)
        torch.testing.assert_close(model.loss(batch), torch.stack([function(scores[b, b] - scores[b, n]) for b, n in pairs]).mean())


@pytest.mark.parametrize("log_q", [True, False])
def test_listwise_by_hand(log_q: bool) -> None:
    model, scores, batch = scores_and_batch(log_q=log_q)
    rows = scores - batch["log_q"] if log_q else scores
    pairs = negatives(batch)
    each = [rows[b, b] - torch.logsumexp(torch.stack([rows[b, b], *[rows[b, n] for c, n in pairs if c == b]]), 0) for b in range(6)]
    torch.testing.assert_close(model.loss(batch), -torch.stack(each).mean())


def test_the_history_reads_the_items_own_table() -> None:
    model = DSSM(SCHEMA, dim=4)
    assert model.embedding._start["history"] == model.embedding._start["item_id"]


def test_pair_features_are_not_asked_for() -> None:
    assert not {"route.score", "route.rank"} & set(DSSM(SCHEMA).embedding.names)


def test_a_side_without_features_is_said() -> None:
    with pytest.raises(MissingFeature, match="of the user"):
        DSSM(Schema((Feature("i", "item", "category", 5),)))
    with pytest.raises(MissingFeature, match="of the item"):
        DSSM(Schema((Feature("u", "user", "category", 5),)))


def test_the_correction_keeps_popular_items_from_being_pushed_down() -> None:
    """One item is everybody's: with logQ it ends above the rare ones for a user who took something else, without it does not."""
    schema = Schema((Feature("u", "user", "category", 402), Feature("i", "item", "category", 22)))
    items = torch.cat((torch.zeros(300, dtype=torch.int64), torch.arange(100) % 19 + 1))
    gaps = []
    for log_q in (True, False):
        data = Pairs(items, torch.arange(400), {"i": torch.arange(20) + 2}, {"u": torch.zeros(400, dtype=torch.int64) + 2})
        torch.manual_seed(0)
        model = DSSM(schema, dim=8, hidden=(16,), temperature=0.3, log_q=log_q)
        Trainer(epochs=30, batch_size=40, learning_rate=0.01).fit(model, data)
        with torch.inference_mode():
            user = model.encode_user({"u": torch.tensor([2])})  # type: ignore[arg-type]
            scores = (user @ model.encode_item({"i": torch.arange(20) + 2}).T / 0.3)[0]  # type: ignore[arg-type]
        gaps.append(float(scores[0] - scores[1:].mean()))
    assert gaps[0] > gaps[1] + 1.5
    assert gaps[0] > 1.5
