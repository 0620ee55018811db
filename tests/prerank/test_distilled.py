import numpy as np
import torch

from palate.datasets.pointwise import Pointwise
from palate.layers.losses import listnet
from palate.prerank.distilled import Distilled
from palate.recall.two_tower.dssm import DSSM
from palate.training.trainer import Trainer
from tests.worlds import columns, schema_of_everything

SCHEMA = schema_of_everything()
REQUESTS, CANDIDATES = 30, 40


def taught_rows() -> tuple[Pointwise, torch.Tensor]:
    """Requests whose candidates are scored by a teacher that two towers can copy: an inner product of known vectors."""
    users, items = columns(SCHEMA, REQUESTS, "user", "context"), columns(SCHEMA, 50, "item")
    random = np.random.default_rng(0)
    request = np.repeat(np.arange(REQUESTS), CANDIDATES)
    item = np.concatenate([random.permutation(50)[:CANDIDATES] for _ in range(REQUESTS)])
    teacher = (random.normal(size=(REQUESTS, 3)) @ random.normal(size=(3, 50)))[request, item]
    rows = Pointwise({}, {"teacher": teacher.astype(np.float32)}, request, users, request, items, item)
    return rows, torch.as_tensor(teacher).view(REQUESTS, CANDIDATES)


def test_the_student_learns_the_teachers_order() -> None:
    rows, teacher = taught_rows()
    torch.manual_seed(0)
    student = DSSM(SCHEMA, dim=8, hidden=(32,))
    lesson = Distilled(student)
    Trainer(epochs=150, batch_size=10, learning_rate=0.01).fit(lesson, rows.by_group())
    with torch.inference_mode():
        scores = lesson.scores(rows.batch(torch.arange(len(rows)))).view(REQUESTS, CANDIDATES)
    kept = [len(set(s.topk(10).indices.tolist()) & set(t.topk(5).indices.tolist())) / 5 for s, t in zip(scores, teacher, strict=True)]
    assert np.mean(kept) > 0.9  # a quarter would be chance


def test_the_loss_by_hand_and_each_user_encoded_as_on_its_own() -> None:
    rows, _ = taught_rows()
    lesson = Distilled(DSSM(SCHEMA, dim=8, hidden=(32,)), temperature=2.0, pointwise=0.3).eval()
    batch = rows.by_group().batch(torch.tensor([4, 2]))
    scores = (lesson.student.encode_user(batch) * lesson.student.encode_item(batch)).sum(1)
    torch.testing.assert_close(lesson.scores(batch), scores)
    teacher = batch["label:teacher"]
    expected = listnet(5 * scores, teacher, batch["group"], 2.0) + 0.3 * ((5 * scores - teacher) ** 2).mean()
    torch.testing.assert_close(lesson.loss(batch), expected)


def test_every_weight_gets_a_gradient() -> None:
    rows, _ = taught_rows()
    lesson = Distilled(DSSM(SCHEMA, dim=8, hidden=(32,)))
    lesson.loss(rows.by_group().batch(torch.arange(5))).backward()
    for name, weight in lesson.named_parameters():
        assert weight.grad is not None, name
        assert float(weight.grad.to_dense().abs().sum()) > 0, name
