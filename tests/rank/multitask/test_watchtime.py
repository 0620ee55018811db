import numpy as np
import pytest
import torch

from palate.batch import Batch
from palate.contracts import Ranker
from palate.rank.multitask.sharedbottom import SharedBottom
from palate.rank.multitask.watchtime import WatchTime, weighted_logistic
from palate.schema import Label
from palate.training.trainer import Trainer
from tests.conftest import Beats
from tests.worlds import Watched, columns, schema_of_everything


@pytest.mark.parametrize("form", ["known", "exact"])
def test_the_loss_is_weighted_logistic_regression(form: str) -> None:
    """- sum of w ln p over positives (w = T) and of ln(1 - p) over unit negatives; its gradient is that, its least value is 0."""
    times, z = torch.tensor([0.0, 0.5, 20.0, torch.nan]), torch.tensor([0.3, -1.0, 2.0, 1.0], requires_grad=True)
    plain = torch.zeros(())
    for time, logit in zip(times[:3], z[:3], strict=True):
        p = torch.sigmoid(logit)
        plain = plain - time * p.log() - (1.0 if form == "exact" or time == 0 else 0.0) * (1 - p).log()
    (wanted,), (found,) = torch.autograd.grad(plain / 3, z), torch.autograd.grad(weighted_logistic(z, times, form), z)  # type: ignore[arg-type]
    torch.testing.assert_close(found, wanted)
    best = times[1:3].log() if form == "exact" else torch.tensor([30.0, 30.0])
    assert float(weighted_logistic(best, times[1:3], form)) == pytest.approx(0, abs=1e-5)  # type: ignore[arg-type]


def test_a_time_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="below 0"):
        weighted_logistic(torch.zeros(1), torch.tensor([-1.0]), "known")


def test_beside_a_time_a_click_stays_a_probability() -> None:
    schema = schema_of_everything(Label("click"), Label("watch", kind="number"))
    model, batch = WatchTime(schema, dim=4, hidden=(6,), form="exact").eval(), Batch(columns(schema, 5))
    logits = model(batch)
    torch.testing.assert_close(model.predict(batch), torch.stack([torch.sigmoid(logits[:, 0]), logits[:, 1].exp()], 1))


def times_of(world: Watched, model: Ranker) -> np.ndarray:
    Trainer(epochs=10, batch_size=256, learning_rate=0.01, threads=1).fit(model, world.rows)
    with torch.inference_mode():
        return model.predict(world.board)[:, 0].numpy().reshape(world.mean.shape)


def gap(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean distance of the logarithms."""
    return float(np.abs(np.log(np.maximum(found, 0.01) / wanted)).mean())


def made(world: Watched, cls: type[Ranker], **options: str) -> Ranker:
    torch.manual_seed(0)
    return cls(world.schema, dim=4, hidden=(16,), dropout=0.0, **options)


def test_the_exact_form_finds_the_mean_and_the_known_one_its_stated_bias() -> None:
    world = Watched()
    exact, known = times_of(world, made(world, WatchTime, form="exact")), times_of(world, made(world, WatchTime, form="known"))
    assert exact.sum() == pytest.approx(world.mean.sum(), rel=0.2)  # within what a tail does to a sample's mean
    assert gap(exact, world.mean) < 0.3
    assert gap(known, world.mean / (1 - world.chance)) < 0.35  # E[T] / (1 - p)
    assert gap(known, world.mean) > 0.6


def both(world: Watched) -> dict[str, float]:
    exact = gap(times_of(world, made(world, WatchTime, form="exact")), world.mean)
    return {"WatchTime": exact, "SharedBottom": gap(times_of(world, made(world, SharedBottom)), world.mean)}


def test_where_times_have_a_tail_it_beats_squared_error(beats: Beats) -> None:
    world = Watched(seed=1)
    beats(0.1, "error", **both(world))


def test_where_times_lie_close_to_their_mean_it_loses_little(beats: Beats) -> None:
    world = Watched(tail=False)
    beats(-0.02, "error", **both(world))
