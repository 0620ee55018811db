"""The only training loop: slices of resident tensors, early stopping, checkpoints that resume bit for bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from palate.contracts import Examples, Model
from palate.training import checkpoint as files
from palate.training.optimizers import optimizers


class Diverged(RuntimeError):
    """The loss was not a finite number."""


@dataclass(frozen=True, slots=True)
class Progress:
    """``step`` of ``steps`` in ``epoch`` of ``epochs`` (all from 1); ``loss`` mean over the epoch so far; ``score`` at its end."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rows_per_second: float
    score: float | None = None


@dataclass
class Fitting:
    """What happened: mean ``losses`` and ``scores`` by epoch, the epoch (from 1) whose weights were kept, rows trained on and seconds."""

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best: int = 0
    rows: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Trainer:
    """Fits any Model on any data set.

    ``learning_rate weight_decay`` for dense weights (AdamW); ``tables`` the optimiser of embedding tables, at ``table_learning_rate`` (None: the
    same). ``patience``: epochs without a better score before it stops. ``save_every``: steps between checkpoints (0: one an epoch).
    ``threads``: torch's threads while fitting (0: leave as they are). The same seed, threads, model and data give the same bits.
    """

    epochs: int = 20
    batch_size: int = 2048
    learning_rate: float = 0.001
    weight_decay: float = 0.0
    tables: Literal["adam", "adagrad"] = "adam"
    table_learning_rate: float | None = None
    patience: int = 2
    seed: int = 0
    save_every: int = 0
    threads: int = 0
    report: Callable[[Progress], None] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, not {self.learning_rate}")

    def fit(self, model: Model, batches: Examples, score: Callable[[], float] | None = None, checkpoint: Path | None = None) -> Fitting:
        """Minimise ``model.loss`` over ``batches``; the model ends with the weights of the best ``score()`` (without one: the last).

        ``score`` is called after each epoch, the model in eval mode; higher is better, NaN is worst. ``checkpoint`` names a file: where it
        exists, fitting goes on from it (a finished one gives its weights at once). Raises Diverged at the first loss that is not finite,
        ValueError without examples, BadCheckpoint where the file belongs to other options, weights or data.
        """
        if not len(batches):
            raise ValueError("there are no examples to fit on")
        before = torch.get_num_threads()
        if self.threads:
            torch.set_num_threads(self.threads)
        try:
            with torch.random.fork_rng(devices=[]):
                return _Run(self, model, batches, score, checkpoint).go()
        finally:
            torch.set_num_threads(before)
            model.eval()


class _Run:
    """One fitting: everything that a checkpoint must hold is an attribute here."""

    def __init__(self, options: Trainer, model: Model, batches: Examples, score: Callable[[], float] | None, path: Path | None) -> None:
        self.options, self.model, self.batches, self.score, self.path = options, model, batches, score, path
        self.optimizers = optimizers(model, options.learning_rate, options.weight_decay, options.tables, options.table_learning_rate)
        self.steps = math.ceil(len(batches) / options.batch_size)
        self.generator = torch.Generator().manual_seed(options.seed)
        torch.manual_seed(options.seed)
        self.epoch, self.step, self.total, self.finished = 0, 0, 0.0, False
        self.at_epoch_start = self.generator.get_state()
        self.best: dict[str, Tensor] = {}
        self.fitting = Fitting()

    def go(self) -> Fitting:
        if self.path is not None and self.path.exists():
            self.restore(self.path)
        else:
            self.model.begin(self.batches)
        while self.epoch < self.options.epochs and not self.finished:
            self.run_epoch()
        if self.best:
            self.model.load_state_dict(self.best)
        return self.fitting

    def run_epoch(self) -> None:
        now = self.generator.get_state()
        self.generator.set_state(self.at_epoch_start)
        order = torch.randperm(len(self.batches), generator=self.generator)
        if self.step:  # resumed in the middle: the order is drawn again, then chance goes on where it was
            self.generator.set_state(now)
        self.model.train()
        start = shown = time.perf_counter()
        size, first = self.options.batch_size, self.step
        while self.step < self.steps:
            batch = self.batches.batch(order[self.step * size : (self.step + 1) * size], self.generator)
            loss = self.model.loss(batch)
            value = float(loss.detach())
            if not math.isfinite(value):
                where = f"epoch {self.epoch + 1}, step {self.step + 1}"
                raise Diverged(
                    f"the loss became {value} at {where}: try a smaller learning_rate, and look for extreme values in the features and labels"
                )
            self.model.zero_grad(set_to_none=True)
            loss.backward()
            for optimizer in self.optimizers.values():
                optimizer.step()
            self.step += 1
            self.total += value
            clock = time.perf_counter()
            if self.options.report and clock - shown > 0.2:
                shown = clock
                self.show(self.epoch + 1, self.rows(first) / (clock - start))
            if self.path is not None and self.options.save_every and self.step % self.options.save_every == 0 and self.step < self.steps:
                self.save(self.path)
        seconds = time.perf_counter() - start
        self.fitting.rows += self.rows(first)
        self.fitting.seconds += seconds
        self.end_epoch(self.rows(first) / max(seconds, 1e-9))

    def rows(self, first: int) -> int:
        return min(self.step * self.options.batch_size, len(self.batches)) - first * self.options.batch_size

    def end_epoch(self, rate: float) -> None:
        fitting = self.fitting
        fitting.losses.append(self.total / self.steps)
        value = None
        self.epoch += 1
        if self.score is None:
            fitting.best = self.epoch
        else:
            self.model.eval()
            value = float(self.score())
            value = -math.inf if math.isnan(value) else value
            if not fitting.best or value > fitting.scores[fitting.best - 1]:
                fitting.best = self.epoch
                self.best = {name: values.detach().clone() for name, values in self.model.state_dict().items()}
            fitting.scores.append(value)
            self.finished = self.epoch - fitting.best >= self.options.patience
        self.show(self.epoch, rate, value)
        self.finished = self.finished or self.epoch == self.options.epochs
        self.step, self.total = 0, 0.0
        self.at_epoch_start = self.generator.get_state()
        if self.path is not None:
            self.save(self.path)

    def show(self, epoch: int, rate: float, score: float | None = None) -> None:
        if self.options.report:
            self.options.report(Progress(epoch, self.options.epochs, self.step, self.steps, self.total / max(self.step, 1), rate, score))

    def facts(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to fit."""
        free = ("report", "threads", "save_every")
        options = {one.name: getattr(self.options, one.name) for one in fields(self.options) if one.name not in free}
        shapes = {name: list(values.shape) for name, values in self.model.state_dict().items()}
        return {"options": options, "shapes": shapes, "examples": len(self.batches)}

    def save(self, path: Path) -> None:
        tensors = {f"model/{name}": values for name, values in self.model.state_dict().items()}
        tensors |= {f"best/{name}": values for name, values in self.best.items()}
        for name, optimizer in self.optimizers.items():
            for place, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}/{place}/{key}": values for key, values in state.items()}
        tensors |= {"random/global": torch.get_rng_state(), "random/own": self.generator.get_state(), "random/epoch": self.at_epoch_start}
        place = {"epoch": self.epoch, "step": self.step, "total": self.total.hex(), "finished": self.finished}
        files.save(path, tensors, {**self.facts(), **place, "fitting": asdict(self.fitting)})

    def restore(self, path: Path) -> None:
        tensors, facts = files.load(path)
        for key, wanted in self.facts().items():
            if facts.get(key) != wanted:
                raise files.BadCheckpoint(f"{path} was made with other {key}; delete it to train from the start")
        parts: dict[str, dict[str, Tensor]] = {}
        for name, values in tensors.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = values
        self.model.load_state_dict(parts["model"])
        self.best = parts.get("best", {})
        for name, optimizer in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, values in parts.get(name, {}).items():
                place, _, what = key.partition("/")
                state.setdefault(int(place), {})[what] = values
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        torch.set_rng_state(parts["random"]["global"])
        self.generator.set_state(parts["random"]["own"])
        self.at_epoch_start = parts["random"]["epoch"]
        self.epoch, self.step, self.total = facts["epoch"], facts["step"], float.fromhex(facts["total"])
        self.finished, self.fitting = facts["finished"], Fitting(**facts["fitting"])
