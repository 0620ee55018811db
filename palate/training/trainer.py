"""The only training loop: slices of resident tensors, schedules, early stopping, checkpoints that resume bit for bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from palate.contracts import Examples, Model
from palate.training import checkpoint as files
from palate.training import schedules
from palate.training.adversarial import perturbed
from palate.training.optimizers import Method, Rows, optimizers


class Diverged(RuntimeError):
    """The loss was not a finite number."""


@dataclass(frozen=True, slots=True)
class Progress:
    """``step`` of ``steps`` in ``epoch`` of ``epochs`` (all from 1); ``loss`` mean over the epoch so far; ``score`` at its end.

    ``learning_rate`` at the last step, of the weights that the schedule governs; ``seconds_left`` if every epoch is run at this speed.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rows_per_second: float
    score: float | None = None
    learning_rate: float = 0.0
    seconds_left: float = 0.0


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

    ``optimizer`` of dense weights, ``tables`` of embedding tables (only rows read are touched), at ``table_learning_rate`` (None: the same);
    a model's ``portions`` go before them. ``weight_decay`` is decoupled, ``l2`` a penalty in the gradient; ``momentum`` is of sgd, ``l1 beta``
    are of ftrl. ``schedule`` of the rates (ftrl has one of its own, and none of these): ``constant``, ``step`` (times ``factor`` after every
    ``every`` epochs) or ``cosine`` (to 0 over all ``epochs``), each after a ``warmup`` of so many epochs. ``adversarial``: weight of the
    loss with each table row that was read moved by ``epsilon`` to where the loss grows most (0: none; its authors begin with a fitted model).

    ``batch_size`` counts rows, or groups of rows where the data set draws those. ``patience``: epochs without a better score before it stops.
    ``save_every``: steps between checkpoints (0: one an epoch). ``threads``: torch's threads while fitting (0: leave as they are). The same
    seed, threads, model and data give the same bits.
    """

    epochs: int = 20
    batch_size: int = 2048
    learning_rate: float = 0.001
    optimizer: Method = "adam"
    tables: Method = "adam"
    table_learning_rate: float | None = None
    weight_decay: float = 0.0
    l2: float = 0.0
    l1: float = 0.0
    beta: float = 1.0
    momentum: float = 0.0
    schedule: schedules.Schedule = "constant"
    warmup: float = 0.0
    every: float = 1.0
    factor: float = 0.5
    adversarial: float = 0.0
    epsilon: float = 0.5
    patience: int = 2
    seed: int = 0
    save_every: int = 0
    threads: int = 0
    report: Callable[[Progress], None] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("learning_rate", "every", "factor", "epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, not {getattr(self, name)}")
        for name in ("warmup", "adversarial", "l1", "l2"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, not {getattr(self, name)}")
        if self.schedule not in get_args(schedules.Schedule):
            raise ValueError(f"schedule must be one of {', '.join(get_args(schedules.Schedule))}, not {self.schedule!r}")
        for name, method in (("l1", "ftrl"), ("momentum", "sgd")):
            if getattr(self, name) and method not in (self.optimizer, self.tables):
                raise ValueError(f"{name} is for {method!r}: name it as optimizer or tables")

    def optimizers(self, model: Model) -> dict[str, Optimizer]:
        """Those that these options and the model ask for, by name."""
        own = {"l1": self.l1, "l2": self.l2, "beta": self.beta, "momentum": self.momentum}
        return optimizers(model, self.learning_rate, self.weight_decay, self.tables, self.table_learning_rate, self.optimizer, **own)

    def pace(self, done: float, step: float) -> float:
        """What the learning rates are multiplied by at a step that takes ``step`` of an epoch, ``done`` epochs before it."""
        shape = schedules.constant(done)
        if self.schedule == "step":
            shape = schedules.step(done, self.every, self.factor)
        elif self.schedule == "cosine":
            shape = schedules.cosine(done, self.epochs)
        return shape * schedules.warm(done + step, self.warmup)

    def fit(self, model: Model, batches: Examples, score: Callable[[], float] | None = None, checkpoint: Path | None = None) -> Fitting:
        """Minimise ``model.loss`` over ``batches``; the model ends with the weights of the best ``score()`` (without one: the last).

        ``score`` is called after each epoch, the model in eval mode; higher is better, NaN is worst. ``checkpoint`` names a file: where it
        exists, fitting goes on from it; a finished one gives its weights at once, or goes on where ``patience`` or ``epochs`` asks for more
        (not with the cosine schedule, whose rates depend on ``epochs``). Raises Diverged at the first loss that is not finite,
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
        self.optimizers = options.optimizers(model)
        scheduled = [optimizer for optimizer in self.optimizers.values() if not (isinstance(optimizer, Rows) and optimizer.method == "ftrl")]
        self.rates = [(optimizer, float(optimizer.param_groups[0]["lr"])) for optimizer in scheduled]
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
        self.model.eval().finish()
        return self.fitting

    def run_epoch(self) -> None:
        now = self.generator.get_state()
        self.generator.set_state(self.at_epoch_start)
        order = self.order()
        renew = getattr(self.batches, "renew", None)
        if self.step:  # resumed in the middle: the order is drawn again, then chance goes on where it was
            self.generator.set_state(now)
        elif renew is not None:  # examples that depend on the model as it is now
            renew(self.model, self.generator)
        self.model.train()
        start = shown = time.perf_counter()
        size, first = self.options.batch_size, self.step
        while self.step < self.steps:
            batch = self.batches.batch(order[self.step * size : (self.step + 1) * size], self.generator)
            loss = self.model.loss(batch)
            value = self.finite(loss)
            self.model.zero_grad(set_to_none=True)
            loss.backward()
            if self.options.adversarial:
                with perturbed(self.model, self.options.epsilon):
                    loss = self.options.adversarial * self.model.loss(batch)
                    value += self.finite(loss)
                    loss.backward()
            pace = self.options.pace(self.epoch + self.step / self.steps, 1 / self.steps)
            for optimizer, rate in self.rates:
                optimizer.param_groups[0]["lr"] = rate * pace
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

    def finite(self, loss: Tensor) -> float:
        value = float(loss.detach())
        if not math.isfinite(value):
            where = f"epoch {self.epoch + 1}, step {self.step + 1}"
            raise Diverged(f"the loss became {value} at {where}: try a smaller learning_rate, and look for extreme values in the features and labels")
        return value

    def order(self) -> Tensor:
        """The epoch's order of all examples: their own (``order(generator)``, as rows in files have), else any."""
        own = getattr(self.batches, "order", None)
        return own(self.generator) if own is not None else torch.randperm(len(self.batches), generator=self.generator)

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
            loss, paced = self.total / max(self.step, 1), self.rates[0][0].param_groups[0]["lr"] if self.rates else self.options.learning_rate
            left = ((self.options.epochs - epoch) * len(self.batches) + len(self.batches) - self.rows(0)) / max(rate, 1e-9)
            left = 0.0 if self.finished else left
            self.options.report(Progress(epoch, self.options.epochs, self.step, self.steps, loss, rate, score, paced, left))

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
        if self.step:
            tensors |= {f"examples/{name}": values for name, values in getattr(self.batches, "state", dict)().items()}
        place = {"epoch": self.epoch, "step": self.step, "total": self.total.hex()}
        files.save(path, tensors, {**self.facts(), **place, "fitting": asdict(self.fitting)})

    def restore(self, path: Path) -> None:
        tensors, facts = files.load(path)
        for key, wanted in self.facts().items():
            there, which = facts.get(key), ""
            if key == "options" and isinstance(there, dict):
                more = ("patience",) if self.options.schedule == "cosine" else ("patience", "epochs")  # what may grow: all before stays the same
                grown = {name: wanted[name] for name in more if isinstance(there.get(name), int) and there[name] < wanted[name]}
                there = there | grown
                which = "".join(f", {name} {there.get(name)!r} and not {value!r}" for name, value in wanted.items() if there.get(name) != value)
            if there != wanted:
                raise files.BadCheckpoint(f"{path} was made with other {key}{which}; delete it to train from the start")
        parts: dict[str, dict[str, Tensor]] = {}
        for name, values in tensors.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = values
        self.model.load_state_dict(parts["model"])
        self.best = parts.get("best", {})
        if "examples" in parts:
            self.batches.restore(parts["examples"])  # type: ignore[attr-defined]
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
        self.fitting = Fitting(**facts["fitting"])
        self.finished = bool(self.fitting.best) and self.epoch - self.fitting.best >= self.options.patience
