import torch

from palate.batch import Batch
from palate.layers import losses
from palate.recall.multi_interest.mind import MIND
from tests.conftest import Beats
from tests.recall.walked import learned, some_interactions
from tests.worlds import Interests, more

SMALL = {"dim": 4, "length": 9, "hidden": (32,), "negatives": 20}
FITTING = {"epochs": 8, "batch_size": 128, "learning_rate": 0.02}


def made(**options: object) -> MIND:
    torch.manual_seed(0)
    model = MIND(some_interactions(), dim=4, hidden=(5,), interests=3, length=8, **options).eval()  # type: ignore[arg-type]
    for weight in model.parameters():
        weight.data.normal_(0, 0.7)
    return model


def squashed(v: torch.Tensor) -> torch.Tensor:
    return v / v.norm() * v.norm() ** 2 / (1 + v.norm() ** 2)


def routed(model: MIND, ids: list[int], interests: int, rounds: int) -> list[torch.Tensor]:
    """Algorithm 1 of the paper, item by item and capsule by capsule, then the perceptron."""
    said = [model.bilinear.weight @ model.table.weight[one] for one in ids]
    logits = [[float(model.logits[k, 8 - len(ids) + place]) for k in range(interests)] for place in range(len(ids))]
    for turn in range(rounds):
        shares = [torch.softmax(torch.tensor(row), 0) for row in logits]
        capsules = [squashed(sum(shares[place][k] * said[place] for place in range(len(ids)))) for k in range(interests)]
        if turn < rounds - 1:
            logits = [[logits[place][k] + float(capsules[k] @ said[place]) for k in range(interests)] for place in range(len(ids))]
    tower = model.tower
    return [tower.layers[0](torch.relu(one @ tower.weight + tower.bias)) for one in capsules]


def test_the_forward_capsule_by_capsule() -> None:
    model = made()
    found = model.encode_users(Batch(history=torch.tensor([[3, 1, 9, 2, 2, 5, 7, 1], [0, 0, 0, 0, 4, 5, 6, 6], [0, 0, 0, 0, 0, 0, 0, 8]])))
    for row, ids, interests in ((0, [3, 1, 9, 2, 2, 5, 7, 1], 3), (1, [4, 5, 6, 6], 2), (2, [8], 1)):  # log2 of 8, 4 and 1
        expected = routed(model, ids, interests, 3)
        for k in range(3):
            torch.testing.assert_close(found[row, k], expected[k if k < interests else 0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(made(adaptive=False).encode_users(Batch(history=torch.tensor([[8]])))[0, 2], routed(model, [8], 3, 3)[2])


def test_the_loss_by_hand() -> None:
    model = made(power=2.0)
    batch = Batch(history=torch.tensor([[0, 3, 1, 9, 2], [0, 0, 0, 4, 6]]), item=torch.tensor([5, 2]), negative=torch.tensor([[1, 5, 9], [3, 3, 8]]))
    batch["log_q"] = torch.rand(2, 3) - 2
    states = []
    for ids, item, interests in (([3, 1, 9, 2], 5, 2), ([4, 6], 2, 1)):
        vectors = routed(model, ids, interests, 3)
        agree = torch.stack([vector @ model.table.weight[item] for vector in vectors])
        strength = torch.softmax(torch.stack([one * abs(one) for one in agree]), 0)
        states.append(sum(share * vector for share, vector in zip(strength, vectors, strict=True)))
    state, table = torch.stack(states), model.table.weight
    against = torch.einsum("bd,bnd->bn", state, table[batch["negative"]]).masked_fill(batch["negative"] == batch["item"][:, None], -torch.inf)
    expected = losses.drawn_softmax((state * table[batch["item"]]).sum(1), against, batch["log_q"])
    torch.testing.assert_close(model.loss(batch), expected, rtol=1e-3, atol=1e-4)


def test_several_vectors_find_several_interests(beats: Beats) -> None:
    train = more(500)
    world = Interests(train + 400, interests=3)
    found = {k: learned(MIND, world, train, 15, {**SMALL, "interests": k}, **FITTING) for k in (4, 1)}
    beats(0.05, "hit@15", MIND=found[4], one_vector=found[1])


def test_with_one_interest_several_vectors_lose_little(beats: Beats) -> None:
    train = more(500)
    world = Interests(train + 400, interests=1)
    found = {k: learned(MIND, world, train, 5, {**SMALL, "interests": k}, **FITTING) for k in (4, 1)}
    beats(-0.1, "hit@5", MIND=found[4], one_vector=found[1])
