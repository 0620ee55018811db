import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.cli import Spinner
from palate.rank.interaction.mlp import MLP
from palate.training.curves import Curves, Missing
from palate.training.tensorboard import TensorBoard
from palate.training.trainer import Progress, Trainer
from palate.training.wandb import WeightsAndBiases
from tests.worlds import labelled, schema_of_everything


def watched(watcher: Any, epochs: int = 2) -> list[Progress]:
    """A fitting of two steps an epoch that ``watcher`` is told of, and what it was told."""
    schema, told = schema_of_everything(), []
    torch.manual_seed(0)

    def report(now: Progress) -> None:
        told.append(now)
        watcher("ranker", 3, now)

    Trainer(epochs=epochs, batch_size=20, schedule="step", report=report).fit(MLP(schema, dim=4, hidden=(4,)), labelled(schema, 40), lambda: 0.5)
    return told


def test_every_report_is_a_line(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "curves.jsonl")
    told = watched(curves)
    lines = [json.loads(line) for line in curves.path.read_text().splitlines()]
    assert [(one["model"], one["fit"], one["epoch"], one["step"], one["steps"], one["loss"], one["score"]) for one in lines] == [
        ("ranker", 3, now.epoch, now.step, 2, now.loss, now.score) for now in told
    ]
    ends = [one for one in lines if one["score"] is not None]
    assert [one["learning_rate"] for one in ends] == [0.001, 0.0005]
    assert all(one["rows_per_second"] > 0 for one in ends)


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "curves.jsonl")
    curves("a", 1, Progress(1, 1, 1, 1, 0.5, 3.0, float("-inf")))
    assert json.loads(curves.path.read_text())["score"] is None


@pytest.mark.parametrize(
    ("module", "make", "extra"),
    [
        ("torch.utils.tensorboard", lambda folder: TensorBoard(folder), r"palate\[tensorboard\]"),
        ("wandb", lambda folder: WeightsAndBiases("project", folder), r"palate\[wandb\]"),
    ],
)
def test_a_library_that_is_missing_is_named_with_the_way_to_get_it(monkeypatch: Any, tmp_path: Path, module: str, make: Any, extra: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Missing, match=f"pip install '{extra}'"):
        make(tmp_path)


def test_tensorboard_gets_a_run_for_each_fitting(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path)
    told = watched(board)
    board.close()
    found = accumulator.EventAccumulator(str(tmp_path / "03-ranker")).Reload()
    assert [(one.step, one.value) for one in found.Scalars("score")] == [(2, 0.5), (4, 0.5)]
    assert [one.value for one in found.Scalars("loss")] == pytest.approx([now.loss for now in told])


class Project:
    """What stands in for wandb's run: keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []
        self.metrics: dict[str, str] = {}
        self.finished = False

    def define_metric(self, name: str, step_metric: str) -> None:
        self.metrics[name] = step_metric

    def log(self, values: dict[str, float]) -> None:
        self.lines.append(values)

    def finish(self) -> None:
        self.finished = True


def test_weights_and_biases_is_offline_unless_it_is_told_otherwise(monkeypatch: Any, tmp_path: Path) -> None:
    project, asked = Project(), []
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **options: asked.append(options) or project))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    watcher = WeightsAndBiases("shop", tmp_path / "run")
    told = watched(watcher)
    watcher.close()
    assert asked == [{"project": "shop", "dir": str(tmp_path / "run"), "mode": "offline"}]
    assert project.metrics == {"03-ranker/*": "03-ranker/step"}
    assert [(one["03-ranker/step"], one["03-ranker/loss"]) for one in project.lines] == [((n.epoch - 1) * 2 + n.step, n.loss) for n in told]
    assert project.finished
    monkeypatch.setenv("WANDB_MODE", "online")
    WeightsAndBiases("shop", tmp_path / "run")
    assert asked[-1]["mode"] == "online"


def test_weights_and_biases_itself_keeps_a_run_of_its_own_offline(monkeypatch: Any, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    watcher = WeightsAndBiases("shop", tmp_path)
    watched(watcher, epochs=1)
    watcher.close()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_a_terminal_is_told_rate_and_time_left() -> None:
    shown: list[str] = []
    spinner = Spinner("training shop.toml", shown.append, lambda line: None)
    spinner.fitting("ranker", 3, Progress(2, 5, 30, 40, 0.4321, 104_321.0, seconds_left=83.4))
    assert shown == ["training shop.toml: ranker ████░░░░░░░░ epoch 2 of 5, loss 0.4321, 104,321 rows/s, 1:23 left at most"]
