"""Killed at random steps and resumed, the weights are those of a fitting that nobody disturbed, to the last bit."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from palate.datasets.pairs import Pairs
from palate.recall.two_tower.dssm import DSSM
from palate.training import checkpoint
from palate.training.trainer import Trainer
from tests.worlds import paired, schema_of_everything

ROOT = Path(__file__).parents[2]
EPOCHS, EXAMPLES, BATCH = 4, 80, 8
STEPS = EPOCHS * EXAMPLES // BATCH


class Killed:
    """A data set that kills its process when batch number ``at`` is asked for."""

    def __init__(self, data: Pairs, at: int) -> None:
        self.data, self.left = data, at

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, chosen: torch.Tensor, generator: torch.Generator | None = None) -> object:
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return self.data.batch(chosen, generator)


def fit(path: Path | None, at: int = -1, save_every: int = 1, epochs: int = EPOCHS, patience: int = 9) -> DSSM:
    """A fitting that uses chance everywhere: order, negatives and dropout; its score falls and rises."""
    schema = schema_of_everything()
    torch.manual_seed(1)
    model = DSSM(schema, dim=4, hidden=(8,), dropout=0.3)
    trainer = Trainer(epochs=epochs, batch_size=BATCH, learning_rate=0.01, patience=patience, threads=1, save_every=save_every)
    data = paired(schema, EXAMPLES, uniform=6)
    trainer.fit(model, Killed(data, at), lambda: -float(model.encode_item(data.batch(torch.arange(4))).sum().detach()), path)  # type: ignore[arg-type]
    return model


def forks() -> None:
    """For each line of input a fitting in a fork of this process, which has everything imported already, and how that ended."""
    fit(None)
    for line in sys.stdin:
        path, at, save_every = line.rsplit(maxsplit=2)
        child = os.fork()
        if not child:
            fit(Path(path), int(at), int(save_every))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[Path, int, int], int]]:
    """Fit in another process; its exit code."""
    code = "from tests.training.test_checkpoint import forks; forks()"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def one(path: Path, at: int, save_every: int) -> int:
            print(path, at, save_every, file=process.stdin, flush=True)
            return int(process.stdout.readline())  # type: ignore[union-attr]

        yield one
        process.stdin.close()


@pytest.mark.parametrize("save_every", [1, 3])
def test_killed_three_times_it_ends_with_the_same_bits(tmp_path: Path, run: Callable[[Path, int, int], int], save_every: int) -> None:
    path = tmp_path / "light.safetensors"
    seed = random.SystemRandom().randrange(10**6)
    steps = sorted(random.Random(seed).sample(range(2, STEPS), 3))
    done = 0
    for step in steps:
        at = step - done  # batches of this process before it dies
        assert run(path, at, save_every) == -signal.SIGKILL, f"seed {seed}"
        saved = checkpoint.load(path)[1] if path.exists() else {"epoch": 0, "step": 0}
        done = saved["epoch"] * EXAMPLES // BATCH + saved["step"]
        assert step - save_every <= done <= step, f"seed {seed}"
    resumed, undisturbed = fit(path, save_every=save_every), fit(None)
    for name, values in undisturbed.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], values), f"{name} differs, seed {seed}"


def test_a_torn_or_altered_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"a": torch.arange(100.0)}, {"epoch": 1})
    assert checkpoint.load(path)[1] == {"epoch": 1}
    whole = path.read_bytes()
    for broken in (b"", whole[:9], whole[:-1], bytes([whole[0] ^ 1]) + whole[1:], whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:]):
        path.write_bytes(broken)
        with pytest.raises(checkpoint.BadCheckpoint, match=r"a\.safetensors"):
            checkpoint.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(checkpoint.BadCheckpoint, match="checksum"):
        checkpoint.load(path)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"a": torch.arange(3.0)}, {"epoch": 1})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(checkpoint.BadCheckpoint):
            checkpoint.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"a": torch.zeros(1)}, {"epoch": 1})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, {"a": torch.ones(1)}, {"epoch": 2})
    assert checkpoint.load(path)[1] == {"epoch": 1}
    assert load_file(path)["a"].item() == 0


@pytest.mark.parametrize("fewer", [{"epochs": 2}, {"patience": 1}])
def test_a_finished_one_that_is_asked_for_more_goes_on_to_the_same_bits(tmp_path: Path, fewer: dict[str, int]) -> None:
    path = tmp_path / "a.safetensors"
    fit(path, **fewer)
    early = checkpoint.load(path)[1]["epoch"]
    longer, undisturbed = fit(path), fit(None)
    assert early < EPOCHS == checkpoint.load(path)[1]["epoch"]
    for name, values in undisturbed.state_dict().items():
        assert torch.equal(longer.state_dict()[name], values), name
    for less, text in (({"epochs": 3}, "other options, epochs 4 and not 3"), ({"patience": 8}, "other options, patience 9 and not 8")):
        with pytest.raises(checkpoint.BadCheckpoint, match=text):
            fit(path, **less)


def test_the_cosine_s_epochs_stay(tmp_path: Path) -> None:
    schema, path = schema_of_everything(), tmp_path / "a.safetensors"
    Trainer(epochs=1, batch_size=8, schedule="cosine").fit(DSSM(schema, dim=4), paired(schema, 20), checkpoint=path)
    with pytest.raises(checkpoint.BadCheckpoint, match="other options, epochs 1 and not 2"):
        Trainer(epochs=2, batch_size=8, schedule="cosine").fit(DSSM(schema, dim=4), paired(schema, 20), checkpoint=path)


def test_a_checkpoint_of_other_options_is_refused(tmp_path: Path) -> None:
    schema, path = schema_of_everything(), tmp_path / "a.safetensors"
    Trainer(epochs=1, batch_size=8).fit(DSSM(schema, dim=4), paired(schema, 20), checkpoint=path)
    with pytest.raises(checkpoint.BadCheckpoint, match="other options, seed 0 and not 3"):
        Trainer(epochs=1, batch_size=8, seed=3).fit(DSSM(schema, dim=4), paired(schema, 20), checkpoint=path)
    with pytest.raises(checkpoint.BadCheckpoint, match="other shapes"):
        Trainer(epochs=1, batch_size=8).fit(DSSM(schema, dim=5), paired(schema, 20), checkpoint=path)
    with pytest.raises(checkpoint.BadCheckpoint, match="other examples"):
        Trainer(epochs=1, batch_size=8).fit(DSSM(schema, dim=4), paired(schema, 21), checkpoint=path)
