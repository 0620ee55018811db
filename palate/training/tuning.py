"""Tuning: looks for the options with the best score. It knows a space of options, a function that scores them and a file of what was tried.

``grid``; ``random``: Bergstra, Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 2012; ``bayesian``: the tree-structured Parzen
estimator of Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011, by Optuna. A trial that falls behind is ended early, by
the median rule of Golovin et al., "Google Vizier", KDD 2017, section 3.2.2, or by asynchronous successive halving (Li et al., "A System for
Massively Parallel Hyperparameter Tuning", MLSys 2020) in the form that never holds a trial back.
"""

from __future__ import annotations

import itertools
import math
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np

from palate.training.trials import Log, Trial

Method = Literal["grid", "random", "bayesian"]
Pruning = Literal["median", "halving", "none"]
Options = dict[str, Any]

FEW = 4  #: trials that the median rule wants to have seen at an epoch
ETA = 3  #: successive halving goes on with one of so many, at epochs 1, ETA, ETA^2, ...
DIGITS = 4  #: to which drawn numbers are rounded, so that a recipe can be read
ORDERED = 100_000  #: combinations up to which a space of choices is drawn from without repeating any
BROKEN = (ValueError, RuntimeError, ArithmeticError, MemoryError)  #: what options that do not work end in


class Pruned(Exception):
    """The trial will not be among the best: it is to end here."""


class Killed(RuntimeError):
    """The process of a trial ended before it answered."""


class Measured(NamedTuple):
    """``score``: higher is better. ``memory``: bytes that the process of the trial had needed at most."""

    score: float
    memory: int


Tell = Callable[[float], None]


class Objective(Protocol):
    """Scores options. It may tell the score so far after each epoch, and lets through what comes back: Pruned ends the trial."""

    def __call__(self, options: Options, tell: Tell) -> Measured: ...


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a list of choices needs at least one value")

    def grid(self) -> tuple[Any, ...]:
        return self.values

    def at(self, share: float) -> Any:
        """The value at a place between 0 and 1, of which all are equally likely."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


@dataclass(frozen=True)
class Range:
    """Any number from ``low`` to ``high``; ``log``: evenly by its logarithm; ``whole``: whole numbers. A grid takes ``points`` of them."""

    low: float
    high: float
    log: bool = False
    points: int = 5
    whole: bool = False

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low must be below high and both finite, not {self.low} and {self.high}")
        if self.log and not self.low > 0:
            raise ValueError(f"low must be above 0 where log = true, not {self.low}")
        if self.points < 2:
            raise ValueError(f"points must be at least 2, not {self.points}")

    def grid(self) -> tuple[float, ...]:
        return tuple(dict.fromkeys(self.between(n / (self.points - 1)) for n in range(self.points)))

    def at(self, share: float) -> float:
        """The number at a place between 0 and 1, of which all are equally likely."""
        if not self.whole:
            return self.between(share)
        low, high = (self.low - 0.5, self.high + 0.5) if not self.log else (max(self.low - 0.5, 0.5), self.high + 0.5)
        return self.fit(low * (high / low) ** share if self.log else low + (high - low) * share)

    def between(self, share: float) -> float:
        return self.fit(self.low * (self.high / self.low) ** share if self.log else self.low + (self.high - self.low) * share)

    def fit(self, value: float) -> float:
        """The nearest number that may be tried."""
        near = round(value) if self.whole else float(f"{value:.{DIGITS}g}")
        return int(min(max(near, self.low), self.high)) if self.whole else min(max(near, self.low), self.high)


Space = Mapping[str, Choice | Range]


@dataclass(frozen=True)
class Plan:
    """What is looked for, how, and for how many ``trials`` (0: every point of a grid, else 20)."""

    space: Space
    method: Method = "bayesian"
    trials: int = 0
    pruning: Pruning = "median"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.space:
            raise ValueError("there is nothing to search: name at least one option and its values")
        for name, kind in (("method", Method), ("pruning", Pruning)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, not {getattr(self, name)!r}")
        if self.trials < 0:
            raise ValueError(f"trials must be 0 or more, not {self.trials}")

    @property
    def size(self) -> int | None:
        """How many combinations there are to try; None where numbers of a range are drawn freely."""
        if self.method != "grid" and any(isinstance(one, Range) for one in self.space.values()):
            return None
        return math.prod(len(one.grid()) for one in self.space.values())

    @property
    def count(self) -> int:
        """How many trials there will be."""
        wanted = self.trials or (self.size if self.method == "grid" else None) or 20
        return wanted if self.size is None else min(wanted, self.size)

    def options(self, number: int, tried: Sequence[Trial], running: Sequence[Options] = ()) -> Options:
        """Those of a trial. A grid's and random ones depend on the seed and its number alone, Bayesian ones also on what was tried."""
        if self.method == "grid":
            return self._point(number)
        if self.method == "random" and self.size is not None and self.size <= ORDERED:
            return self._point(int(np.random.default_rng(self.seed).permutation(self.size)[number]))
        chance = np.random.default_rng([self.seed, number])
        if self.method == "random":
            return {name: one.at(chance.random()) for name, one in self.space.items()}
        taken = [trial.options for trial in tried] + list(running)
        for _ in range(10):  # what was tried would only give the same score again
            found = _proposed(self.space, tried, running, int(chance.integers(2**31)))
            if found not in taken:
                return found
        places = chance.permutation(self.size).tolist() if self.size is not None and self.size <= ORDERED else []
        return next((point for point in map(self._point, places) if point not in taken), found)

    def _point(self, number: int) -> Options:
        """One of all combinations, the last option's values changing fastest."""
        points = itertools.product(*(one.grid() for one in self.space.values()))
        return dict(zip(self.space, next(itertools.islice(points, number, None)), strict=True))


def _proposed(space: Space, tried: Sequence[Trial], running: Sequence[Options], seed: int) -> Options:
    """The next options by a tree-structured Parzen estimator that knows what was tried."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds: dict[str, optuna.distributions.BaseDistribution] = {}
    for name, one in space.items():
        if isinstance(one, Choice):
            kinds[name] = optuna.distributions.CategoricalDistribution(range(len(one.values)))
        elif one.whole:
            kinds[name] = optuna.distributions.IntDistribution(int(one.low), int(one.high), log=one.log)
        else:
            kinds[name] = optuna.distributions.FloatDistribution(one.low, one.high, log=one.log)

    def known(options: Options) -> Options:
        return {name: one.values.index(options[name]) if isinstance(one, Choice) else options[name] for name, one in space.items()}

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, constant_liar=True), direction="maximize")
    states = optuna.trial.TrialState
    for trial in sorted(tried, key=lambda trial: trial.number):
        told: dict[str, Any] = {"state": states.FAIL}
        if trial.state == "done":
            told = {"value": trial.score}
        elif trial.scores:
            told = {"state": states.PRUNED, "intermediate_values": dict(enumerate(trial.scores, 1))}
        study.add_trial(optuna.trial.create_trial(params=known(trial.options), distributions=kinds, **told))
    for options in running:
        study.add_trial(optuna.trial.create_trial(state=states.RUNNING, params=known(options), distributions=kinds))
    drawn = study.ask(kinds).params
    return {name: one.values[drawn[name]] if isinstance(one, Choice) else one.fit(drawn[name]) for name, one in space.items()}


def hopeless(scores: Sequence[float], others: Sequence[Sequence[float]], pruning: Pruning) -> bool:
    """Whether a trial with these ``scores`` by epoch is to end, given those of all other trials.

    ``median``: its best so far is below the median of their means so far, as in the paper, but of all that came as far, ended early or not.
    """
    epoch = len(scores)
    there = [other for other in others if len(other) >= epoch]
    if pruning == "median":
        return len(there) >= FEW and max(scores) < statistics.median(statistics.fmean(other[:epoch]) for other in there)
    if pruning == "halving":
        rung = ETA ** round(math.log(epoch, ETA)) == epoch
        above = sum(other[epoch - 1] > scores[-1] for other in there)
        return rung and above >= max(1, (len(there) + 1) // ETA)
    return False


Report = Callable[[Trial, Trial | None, float], None]  # a trial that ended, the best one so far, seconds that are left


@dataclass
class Search:
    """One search: trials are scored by objectives that ``make`` makes, at most ``jobs`` at once and no more than fit into ``room`` bytes.

    What the file ``log`` holds already is not tried again; a trial that was killed with the search is. ``run`` may be called once.
    """

    plan: Plan
    make: Callable[[], Objective]
    log: Log
    report: Report = lambda trial, best, left: None
    jobs: int = 1
    room: float = math.inf
    tried: list[Trial] = field(default_factory=list)
    running: dict[int, Trial] = field(default_factory=dict)
    broken: list[BaseException] = field(default_factory=list)
    lost: dict[int, int] = field(default_factory=dict)
    workers: int = 0
    stopping: bool = False

    def run(self) -> list[Trial]:
        """All trials by number. What an objective raises that is no fault of the options is raised again, after the others have ended."""
        self.lock = threading.RLock()
        self.tried = [trial for trial in self.log.read() if trial.number < self.plan.count]
        self.waiting = sorted(set(range(self.plan.count)) - {trial.number for trial in self.tried}, reverse=True)
        self.began, self.done_before = time.perf_counter(), len(self.tried)
        if self.jobs == 1 and self.waiting:
            self.work(self.make())
        elif self.waiting:
            first: Objective | None = self.make()
            if not any(trial.memory for trial in self.tried):
                first = self.work(first, 1)  # how much memory one needs, before there are several
            most = max((trial.memory for trial in self.tried), default=0)
            self.workers = max(1, min(self.jobs, len(self.waiting), int(self.room / most) if most and self.room < math.inf else self.jobs))
            threads = [threading.Thread(target=self.work, args=(first if not n else None,), daemon=True) for n in range(self.workers)]
            try:
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            finally:
                self.stopping = True
        if self.broken:
            raise self.broken[0]
        return sorted(self.tried, key=lambda trial: trial.number)

    def work(self, objective: Objective | None, most: int = 0) -> Objective | None:
        """Take trials until none waits, or until ``most`` have ended; gives the objective that scored the last."""
        ended = 0
        try:
            objective = objective or self.make()
            while (not most or ended < most) and (trial := self.begin()) is not None:
                try:
                    self.end(trial, objective)
                    ended += 1
                except Killed as error:
                    if not self.back(trial, error):
                        return None
                    objective = self.make()
        except BaseException as error:
            if self.jobs == 1 or threading.current_thread() is threading.main_thread():
                raise
            with self.lock:
                self.broken.append(error)
                self.waiting.clear()
        return objective

    def begin(self) -> Trial | None:
        with self.lock:
            if self.stopping or not self.waiting:
                self.workers -= 1  # in the same breath: whoever loses its process must know that nobody is left to take over
                return None
            number = self.waiting.pop()
            trial = Trial(number, self.plan.options(number, self.tried, [other.options for other in self.running.values()]))
            self.running[number] = trial
            return trial

    def end(self, trial: Trial, objective: Objective) -> None:
        """Score a trial, and write down how it ended."""
        began = time.perf_counter()

        def tell(score: float) -> None:
            with self.lock:
                trial.scores.append(score if math.isfinite(score) else -math.inf)
                others = [other.scores for other in (*self.tried, *self.running.values()) if other is not trial]
                if hopeless(trial.scores, others, self.plan.pruning):
                    raise Pruned

        try:
            trial.score, trial.memory = objective(dict(trial.options), tell)
            if math.isnan(trial.score):
                trial.state, trial.score, trial.note = "failed", None, "its score is not a number"
        except Pruned:
            trial.state, trial.note = "pruned", f"behind the others after epoch {len(trial.scores)}"
        except Killed:
            raise
        except BROKEN as error:
            trial.state, trial.note = "failed", f"{type(error).__name__}: {error}"
        trial.seconds = round(time.perf_counter() - began, 3)
        self.keep(trial)

    def keep(self, trial: Trial) -> None:
        with self.lock:
            self.running.pop(trial.number, None)
            self.tried.append(trial)
            self.log.add(trial)
            ran = len(self.tried) - self.done_before
            left = (time.perf_counter() - self.began) / ran * (len(self.waiting) + len(self.running))
            self.report(trial, best(self.tried), left)

    def back(self, trial: Trial, error: Killed) -> bool:
        """A trial whose process was killed is run again, once, and with one process less; whether this one goes on."""
        with self.lock:
            if self.stopping:
                return False
            times = self.lost[trial.number] = self.lost.get(trial.number, 0) + 1
            if times > 1:
                trial.state, trial.note = "failed", f"killed twice: {error}"
                self.keep(trial)
            else:
                del self.running[trial.number]
                self.waiting.append(trial.number)
            if self.workers > 1:
                self.workers -= 1
            else:
                return True
            return False


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest score; of several the first."""
    done = [trial for trial in trials if trial.state == "done" and trial.score is not None]
    return min(done, key=lambda trial: (-(trial.score or 0.0), trial.number), default=None)
