"""Hard negatives are what the model itself ranks within the window, anew before each epoch, and never what a user took or was shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.candidates import Candidates, Request
from palate.datasets.negatives import Sampler
from palate.datasets.sequences import Sequences
from palate.index.topk import best_of
from palate.recall.neural.gmf import GMF
from palate.training.mined import HELD, Mined
from palate.training.trainer import Trainer
from tests.conftest import Beats
from tests.worlds import Shelves, Shop, Tribes

LISTS = Sequences(np.array([0, 3, 3, 5]), np.array([0, 2, 5, 9, 8]), 200)


class Ordered:
    """Likes items by their rows, the first most; or, ``turned``, the last."""

    training, turned = True, False

    def eval(self) -> None:
        self.training = False

    def train(self, mode: bool) -> None:
        self.training = mode

    def retrieve(self, request: Request, k: int) -> Candidates:
        assert not self.training
        rows = np.arange(200, dtype=np.float32) * (1 if self.turned else -1)
        found = best_of(lambda start, stop: np.tile(rows, (stop - start, 1)), len(request), 200, k, request.exclude)
        return found.take((np.diff(request.histories.offsets) > 0)[found.requests])


def own(mined: Mined, user: int) -> list[int]:
    """Rows that are a user's hard negatives."""
    hard = mined.sampler.own["hard"]
    return (np.flatnonzero(hard.has(torch.tensor([user + 1]), torch.arange(201)[None])[0].numpy()) - 1).tolist()


def test_hard_ones_stand_at_these_ranks_among_what_was_neither_taken_nor_shown() -> None:
    sampler = Sampler(torch.from_numpy(LISTS.counts), {"hard": 0.5, "uniform": 0.5}, ranks=(3, 6))
    shown = np.array([0, 0, -1, 2]), np.array([3, 6, 7, -1])
    mined, model = Mined([], sampler, LISTS, shown), Ordered()  # type: ignore[arg-type]
    mined.renew(model)  # type: ignore[arg-type]
    assert own(mined, 0) == [7, 8, 9, 10]  # 1 and 4 come first; 0, 2 and 5 were taken, 3 and 6 shown
    assert own(mined, 1) == []
    assert own(mined, 2) == [2, 3, 4, 5]
    assert model.training
    model.turned = True
    mined.renew(model)  # type: ignore[arg-type]
    assert own(mined, 0) == [194, 195, 196, 197]


def test_of_many_ranks_some_are_held_by_chance() -> None:
    sampler = Sampler(torch.from_numpy(LISTS.counts), {"hard": 1.0}, ranks=(11, 150))
    mined = Mined([], sampler, LISTS)  # type: ignore[arg-type]
    mined.renew(Ordered(), torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    first = own(mined, 2)
    assert len(first) == HELD
    assert set(first) <= set(range(10, 152))
    mined.renew(Ordered(), torch.Generator().manual_seed(2))  # type: ignore[arg-type]
    assert own(mined, 2) != first
    with pytest.raises(ValueError, match="only 200 items"):
        Mined([], Sampler(torch.ones(200), {"hard": 1.0}, ranks=(200, 300)), LISTS)  # type: ignore[arg-type]


def learned(world: Any, size: tuple[int, int], mixture: dict[str, float], ranks: tuple[int, int], epochs: int, seed: int = 0) -> GMF:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model, lists = GMF(world.interactions, dim=16, negatives=1), Sequences.of(world.rows, *size)
    sampler = Sampler(torch.from_numpy(lists.counts), mixture, ranks=ranks)
    examples: Any = model.learn_from(lists, sampler)
    examples = Mined(examples, sampler, lists) if "hard" in mixture else examples
    Trainer(epochs=epochs, batch_size=256, learning_rate=0.01, seed=seed).fit(model, examples)
    return model


def test_broken_off_within_an_epoch_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    shop = Shop()
    lists = Sequences.of(shop.rows, shop.users, shop.items)

    def fit(stop: int) -> GMF:
        torch.manual_seed(0)
        model, sampler = GMF(shop.interactions, dim=4), Sampler(torch.from_numpy(lists.counts), {"uniform": 0.5, "hard": 0.5}, ranks=(2, 9))

        class Ending(Mined):
            left = stop

            def batch(self, *given: Any) -> Any:
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
                return super().batch(*given)

        examples = Ending(model.learn_from(lists, sampler), sampler, lists)
        place = tmp_path / "kept" if stop < 1000 or (tmp_path / "kept").exists() else None
        Trainer(epochs=3, batch_size=64, learning_rate=0.05, save_every=1, threads=1).fit(model, examples, None, place)
        return model

    whole = fit(1000)
    with pytest.raises(KeyboardInterrupt):
        fit(7)
    assert (tmp_path / "kept").exists()
    again = fit(1001)
    assert all(torch.equal(one, other) for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_they_tell_apart_what_is_alike(beats: Beats) -> None:
    """Draws from everywhere soon say nothing new where the room is known and its shelves are not: hard ones do."""
    world = Shelves()
    plain, hard = (world.recall(learned(world, world.size, mixture, (11, 60), 15)) for mixture in ({"uniform": 1.0}, {"uniform": 0.5, "hard": 0.5}))
    beats(0.04, "recall@10", half_of_the_negatives_hard=hard, uniform=plain)


def test_where_nothing_is_alike_they_do_no_harm(beats: Beats) -> None:
    world = Tribes()
    found = []
    for mixture in ({"uniform": 1.0}, {"uniform": 0.7, "hard": 0.3}):
        model = learned(world, world.train.shape, mixture, (31, 80), 10)
        found.append(world.recall(model.retrieve(world.request(), 10)))
    beats(-0.03, "recall@10", a_third_of_the_negatives_hard=found[1], uniform=found[0])
