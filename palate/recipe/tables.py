"""The tables of a recipe, each checked on its own, and the recipe that they form."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from palate import catalog
from palate.build import build, parameters
from palate.candidates import DAY
from palate.contracts import Others
from palate.schema import Label
from palate.state.past import checked_windows
from palate.tables.signals import Signal
from palate.training.tuning import Choice, Range

DRAWN = ("uniform", "sampler", "subsample")  #: options of a training that say what its examples are made of


class RecipeError(ValueError):
    """A recipe that cannot be followed; the text names file, line and key."""


def _at_least(table: Any, least: int, *names: str) -> None:
    for name in names:
        if getattr(table, name) < least:
            raise ValueError(f"{name} must be at least {least}, not {getattr(table, name)}")


@dataclass(frozen=True)
class Data:
    """Where the tables come from: a catalog ``source`` with ``options``, or files. ``columns`` maps our names to the file's.

    ``log`` is a service's state folder: what it served and what users did; ``users`` and ``items`` are then those of the run it stands in
    where no file is named.
    """

    source: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    events: str = ""
    log: str = ""
    users: str = ""
    items: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    multi: tuple[str, ...] = ()
    separator: str = "|"
    kind: str = "event"
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    on_bad: Literal["stop", "skip", "aside"] = "stop"
    created: str = ""  # the items' column that holds their time of birth

    def __post_init__(self) -> None:
        if sum(map(bool, (self.source, self.events, self.log))) != 1:
            raise ValueError("[data] needs one of source = ... (a data set of the catalog), events = ... (a file) and log = ... (a state folder)")


@dataclass(frozen=True)
class State:
    """What the live system keeps. ``windows`` in days (0: all time), ``bucket`` in days, ``history`` events a user, ``audience`` events an item,
    ``former`` items a user that pages ranked and did not show, ``ranked_out`` candidates of each page that were ranked far down."""

    windows: tuple[float, ...] = (7, 30, 0)
    bucket: float = 1.0
    history: int = 200
    audience: int = 0
    former: int = 0
    ranked_out: int = 0
    seen: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.bucket > 0:
            raise ValueError(f"bucket must be above 0, not {self.bucket}")
        _at_least(self, 1, "history")
        _at_least(self, 0, "audience", "former", "ranked_out")
        try:
            checked_windows(self.window_ms, self.bucket_ms)
        except ValueError:
            raise ValueError(f"windows must be days, 0 for all time, each a whole number of buckets ({self.bucket:g}), not {self.windows}") from None

    @property
    def window_ms(self) -> tuple[int, ...]:
        return tuple(round(days * DAY) for days in self.windows)

    @property
    def bucket_ms(self) -> int:
        return round(self.bucket * DAY)


@dataclass(frozen=True)
class Task:
    """One thing to predict of an offered item: that the user's later events on it show ``signal``.

    Without ``given`` every candidate has the label. With it only candidates whose later events show ``given``. ``kind`` ``number``: what is
    predicted is the value of the last of these events, 0 where there is none. ``loss weight`` as in ``Label``.
    """

    signal: str
    given: str = ""
    weight: float = 1.0
    kind: Literal["binary", "number"] = "binary"
    loss: str = ""

    def __post_init__(self) -> None:
        Label("", self.kind, self.weight, self.loss)  # refuses what does not fit


@dataclass(frozen=True)
class Examples:
    """How the ranker's training set is made.

    The last ``share`` of the training events is divided evenly into ``folds``. Recall is fitted on what lies before a fold; at each of
    ``moments`` points in it everybody who had been there before and comes again is a request (at most ``requests`` a fold). ``negatives``
    offered-but-not-taken candidates are kept for each taken one (0: all). The last fold validates.

    ``pages`` names a kind of event that says what was shown: then the pages of a fold, all users' places of one moment, are its requests and
    what stood on them the candidates. For a service's own log: what it never showed there nobody could take.
    """

    share: float = 0.5
    folds: int = 4
    moments: int = 8
    negatives: int = 0
    requests: int = 20_000
    pages: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share must lie between 0 and 1, not {self.share}")
        _at_least(self, 1, "folds", "moments", "requests")
        _at_least(self, 0, "negatives")


@dataclass(frozen=True)
class Plan:
    """A model to be trained: its catalog entry, constructor options, trainer options, its teacher if it is distilled, and the features
    it is to do without (names, or patterns such as ``history_*``)."""

    entry: catalog.Entry
    options: dict[str, Any]
    training: dict[str, Any]
    teacher: str = ""
    without: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The models that a hybrid is made of."""
        hybrid = self.entry.kind == "recall" and any(hint is Others for _, hint in parameters(self.entry.load()).values())
        return tuple(self.options["models"]) if hybrid else ()


@dataclass(frozen=True)
class RoutePlan:
    """One route of recall: ``index`` is for models with vectors: ``Exact`` if none is named (models without gradients then compare all items)."""

    model: str
    quota: int = 200
    priority: int = 0
    deadline_ms: float = 100.0
    index: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _at_least(self, 1, "quota", "deadline_ms")


@dataclass(frozen=True)
class Prerank:
    """``keep`` candidates survive, by the light model's score."""

    model: str
    keep: int = 300
    deadline_ms: float = 100.0

    def __post_init__(self) -> None:
        _at_least(self, 1, "keep", "deadline_ms")


@dataclass(frozen=True)
class Rank:
    """score = product of each task's probability to its power; powers left out are chosen on validation data."""

    model: str
    powers: dict[str, float] = field(default_factory=dict)
    deadline_ms: float = 150.0


@dataclass(frozen=True)
class Evaluation:
    """``relevant``: signals whose later events make an item relevant (the first one judges); ``k``: list lengths."""

    relevant: tuple[str, ...] = ()
    k: tuple[int, ...] = (5, 10, 20)
    samples: int = 1000

    def __post_init__(self) -> None:
        _at_least(self, 1, "samples")
        if not self.k or min(self.k) < 1:
            raise ValueError(f"k must be list lengths of at least 1, not {self.k}")


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. ``text`` is the TOML it was read from, kept with every run."""

    text: str
    name: str
    data: Data
    signals: tuple[Signal, ...]
    positive: str
    features: tuple[Any, ...]
    tasks: dict[str, Task]
    models: dict[str, Plan]
    recall: tuple[RoutePlan, ...]
    state: State = State()
    split: dict[str, Any] = field(default_factory=lambda: {"name": "global_time", "ratio": 0.8})
    examples: Examples = Examples()
    filters: tuple[dict[str, Any], ...] = ()
    prerank: Prerank | None = None
    rank: Rank | None = None
    rerank: tuple[dict[str, Any], ...] = ()
    evaluation: Evaluation = Evaluation()
    search: dict[str, Choice | Range] = field(default_factory=dict)  # by the way to the option, such as models.ranker.dim
    fallback: str = ""
    seed: int = 0
    threads: int = 0

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a TOML file; RecipeError names the line."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, place: str = "recipe") -> Recipe:
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{place}: not valid TOML: {error}") from error
        from palate.recipe.reader import Reader  # which makes recipes

        return Reader(text, place).read(tables)

    @property
    def labels(self) -> tuple[Label, ...]:
        return tuple(Label(name, task.kind, task.weight, task.loss) for name, task in self.tasks.items())

    @property
    def recalled(self) -> tuple[str, ...]:
        """The models that routes and the fallback name, and those they are made of, in an order to train them in."""
        return self.with_parts([route.model for route in self.recall] + ([self.fallback] if self.fallback else []))

    def with_parts(self, names: Iterable[str]) -> tuple[str, ...]:
        """These models and those they are made of, parts before wholes."""
        found: dict[str, None] = {}
        for name in names:
            found |= dict.fromkeys((*self.with_parts(self.models[name].parts), name))
        return tuple(found)

    @property
    def context(self) -> tuple[str, ...]:
        """The columns of the moment that models of recall read from a request, beside what features read."""
        asked = [(getattr(plan.entry.load(), "reads", None), plan.options) for plan in self.models.values()]
        return tuple(dict.fromkeys(column for reads, options in asked if callable(reads) for column in reads(**options)))

    def make(self, model: str, *provided: Any) -> Any:
        """A fresh, untrained model of this recipe."""
        plan = self.models[model]
        return build(plan.entry.load(), plan.options, *provided, where=f"[models.{model}]")
