import polars as pl
import pytest
import torch

from palate.batch import Batch
from palate.layers import losses
from palate.recall.multi_interest.comirec import ComiRec
from palate.state.catalogue import Catalogue
from tests.conftest import Beats
from tests.recall.made import request
from tests.recall.multi_interest.test_mind import squashed
from tests.recall.walked import learned, some_interactions
from tests.worlds import Interests, more

GENRES = [["a"], ["a", "b"], ["b"], [], ["c"], ["c"], ["a"], ["b"], None]
CATALOGUE = Catalogue.of(pl.DataFrame({"id": [f"i{row}" for row in range(9)], "genres": GENRES}, schema_overrides={"genres": pl.List(pl.String)}))
SMALL = {"dim": 4, "length": 9, "dropout": 0.0, "negatives": 20}
FITTING = {"epochs": 8, "batch_size": 128, "learning_rate": 0.02}


def made(**options: object) -> ComiRec:
    torch.manual_seed(0)
    model = ComiRec(some_interactions(), CATALOGUE, dim=4, length=5, interests=3, **options).eval()  # type: ignore[arg-type]
    for weight in model.parameters():
        weight.data.normal_(0, 0.7)
    return model


def interests(model: ComiRec, ids: list[int], extraction: str) -> torch.Tensor:
    vectors = [model.table.weight[one] for one in ids]
    if extraction == "attention":
        places = model.places[-len(ids) :]
        strength = torch.stack([model.weigh.weight @ torch.tanh(model.wide.weight @ (v + p)) for v, p in zip(vectors, places, strict=True)])  # [L, K]
        return torch.stack([sum(w * v for w, v in zip(torch.softmax(strength[:, k], 0), vectors, strict=True)) for k in range(3)])
    said = [[model.to_capsule.weight[4 * k : 4 * k + 4] @ v for k in range(3)] for v in vectors]
    logits = torch.zeros(len(ids), 3)
    for _ in range(3):
        shares = torch.softmax(logits, 1)
        capsules = [squashed(sum(shares[place, k] * said[place][k] for place in range(len(ids)))) for k in range(3)]
        logits = logits + torch.tensor([[float(capsules[k] @ said[place][k]) for k in range(3)] for place in range(len(ids))])
    return torch.stack(capsules)


@pytest.mark.parametrize("extraction", ["attention", "capsule"])
def test_the_forward_item_by_item(extraction: str) -> None:
    model = made(extraction=extraction)
    found = model.encode_users(Batch(history=torch.tensor([[3, 1, 9, 2, 2], [0, 0, 0, 4, 6]])))
    torch.testing.assert_close(found[0], interests(model, [3, 1, 9, 2, 2], extraction), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[1], interests(model, [4, 6], extraction), rtol=1e-3, atol=1e-4)


def test_the_interest_that_likes_the_item_best_learns() -> None:
    model = made()
    batch = Batch(history=torch.tensor([[3, 1, 9, 2, 2]]), item=torch.tensor([5]), negative=torch.tensor([[1, 5, 9]]), log_q=torch.full((1, 3), -2.0))
    own, table = interests(model, [3, 1, 9, 2, 2], "attention"), model.table.weight
    best = own[(own @ table[5]).argmax()][None]
    against = (best @ table[[1, 5, 9]].T).masked_fill(torch.tensor([[False, True, False]]), -torch.inf)
    torch.testing.assert_close(model.loss(batch), losses.drawn_softmax(best @ table[5], against, batch["log_q"]))


def test_the_varied_list_is_the_greedy_one() -> None:
    """Item by item the one of the largest score plus diversity times how many of other categories stand already."""
    plain, varied = made(), made(diversity=0.8)
    asked = request([[2, 0, 8], [3, 5]], exclude=[[2, 0, 8], [3, 5]])
    offered, found = plain.retrieve(asked, 9), varied.retrieve(asked, 4)
    kinds = [genres[0] if genres else f"none {row}" for row, genres in enumerate(GENRES)]
    for b in range(2):
        part = slice(offered.offsets[b], offered.offsets[b + 1])
        scores = dict(zip(offered.items[part].tolist(), offered.scores[part].tolist(), strict=True))
        chosen: list[int] = []
        for _ in range(4):
            gains = {one: score + 0.8 * sum(kinds[one] != kinds[other] for other in chosen) for one, score in scores.items() if one not in chosen}
            chosen.append(max(gains, key=lambda one: gains[one]))
        assert found.items[found.offsets[b] : found.offsets[b + 1]].tolist() == chosen
    assert len({kinds[item] for item in found.items}) >= len({kinds[item] for item in plain.retrieve(asked, 4).items})


def test_a_category_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="genres"):
        made(diversity=0.5, category="genre")


def test_several_vectors_find_several_interests(beats: Beats) -> None:
    train = more(500)
    world = Interests(train + 400, interests=3)
    found = {k: learned(ComiRec, world, train, 15, {**SMALL, "interests": k}, **FITTING) for k in (4, 1)}
    beats(0.05, "hit@15", ComiRec=found[4], one_vector=found[1])


def test_with_one_interest_several_vectors_lose_little(beats: Beats) -> None:
    train = more(500)
    world = Interests(train + 400, interests=1)
    found = {k: learned(ComiRec, world, train, 5, {**SMALL, "interests": k}, **FITTING) for k in (4, 1)}
    beats(-0.1, "hit@5", ComiRec=found[4], one_vector=found[1])
