"""Reads ``recipes/*.toml``: which data, signals, features and models, and the funnel they form.

The keys of a table are the arguments of the thing it names; an unknown key is an error that names the line, the key and the nearest
right one. A recipe is checked whole when it is read, before anything is trained.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from palate import catalog
from palate.build import OptionError, build, options_of
from palate.candidates import DAY
from palate.schema import Label, nearest
from palate.tables.signals import Signal


class RecipeError(ValueError):
    """A recipe that cannot be followed; the text names file, line and key."""


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
    """What the live system keeps. ``windows`` in days (0: all time), ``bucket`` in days, ``history`` events a user."""

    windows: tuple[float, ...] = (7, 30, 0)
    bucket: float = 1.0
    history: int = 200
    seen: dict[str, Any] = field(default_factory=dict)

    @property
    def window_ms(self) -> tuple[int, ...]:
        return tuple(round(days * DAY) for days in self.windows)

    @property
    def bucket_ms(self) -> int:
        return round(self.bucket * DAY)


@dataclass(frozen=True)
class Task:
    """One thing to predict of an offered item: that the user's later events on it show ``signal``.

    Without ``given`` every candidate has the label. With it only candidates whose later events show ``given``.
    """

    signal: str
    given: str = ""
    weight: float = 1.0


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


@dataclass(frozen=True)
class Plan:
    """A model to be trained: its catalog entry, constructor options, trainer options, its teacher if it is distilled, and the features
    it is to do without (names, or patterns such as ``history_*``)."""

    entry: catalog.Entry
    options: dict[str, Any]
    training: dict[str, Any]
    teacher: str = ""
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoutePlan:
    """One route of recall: ``index`` is for models with vectors: ``Exact`` if none is named (models without gradients then compare all items)."""

    model: str
    quota: int = 200
    priority: int = 0
    deadline_ms: float = 100.0
    index: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prerank:
    """``keep`` candidates survive, by the light model's score."""

    model: str
    keep: int = 300
    deadline_ms: float = 100.0


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
        return _Reader(text, place).read(tables)

    @property
    def labels(self) -> tuple[Label, ...]:
        return tuple(Label(name, weight=task.weight) for name, task in self.tasks.items())

    def make(self, model: str, *provided: Any) -> Any:
        """A fresh, untrained model of this recipe."""
        plan = self.models[model]
        return build(plan.entry.load(), plan.options, *provided, where=f"[models.{model}]")


class _Reader:
    """Turns tables into a Recipe and every mistake into an error with its line."""

    def __init__(self, text: str, place: str) -> None:
        self.lines = text.splitlines()
        self.text = text
        self.place = place

    def fail(self, message: str, key: str = "") -> RecipeError:
        line = next((n for n, row in enumerate(self.lines, 1) if key and re.search(rf"(^|[\s\[{{,.\"]){re.escape(key)}[\s\]\".]*[=\].]", row)), 0)
        line = line or next((n for n, row in enumerate(self.lines, 1) if key and f'"{key}"' in row), 0)
        return RecipeError(f"{self.place}{f', line {line}' if line else ''}: {message}")

    def table(self, cls: type, options: Any, where: str) -> Any:
        if not isinstance(options, Mapping):
            raise self.fail(f"{where} must be a table, not {options!r}", where.strip("[]"))
        known = options_of(cls)
        for key in options:
            if key not in known:
                raise self.fail(f"{where} has no option {key!r}{nearest(key, known)}", key)
        try:
            return build(cls, options, where=where)
        except OptionError as error:
            quoted = re.search(r"option '([^']+)'", str(error))
            raise self.fail(str(error), quoted.group(1) if quoted else "") from error

    def entry(self, name: Any, kind: str, where: str) -> catalog.Entry:
        try:
            return catalog.find(name, kind)
        except LookupError as error:
            raise self.fail(f"{where}: {error.args[0]}", str(name)) from error

    def named(self, table: Any, kind: str, where: str) -> tuple[catalog.Entry, dict[str, Any]]:
        if not isinstance(table, Mapping) or "name" not in table:
            raise self.fail(f"{where} needs name = ... (something of the catalog's kind {kind!r})")
        options = dict(table)
        return self.entry(options.pop("name"), kind, where), options

    def options(self, entry: catalog.Entry, options: Mapping[str, Any], where: str) -> None:
        """Every option must be one that a recipe may set; the constructor itself judges the values later."""
        known = [name for name in options_of(entry.load()) if name not in ("schema", "catalogue", "pipeline")]
        for key in options:
            if key not in known:
                raise self.fail(f"{where}: {entry.name} has no option {key!r}{nearest(key, known)}", key)

    def read(self, tables: dict[str, Any]) -> Recipe:
        known = [name for name in Recipe.__dataclass_fields__ if name != "text"]
        for key in tables:
            if key not in known:
                raise self.fail(f"a recipe has no {key!r}{nearest(key, known)}", key)
        for needed in ("name", "data", "signals", "models", "recall"):
            if needed not in tables:
                raise self.fail(f"a recipe needs {needed!r}")
        signals = tuple(self.table(Signal, {"name": name, **table}, f"[signals] {name}") for name, table in tables["signals"].items())
        names = [signal.name for signal in signals]

        def signal(name: str, where: str) -> str:
            if name not in names:
                raise self.fail(f"{where}: no signal {name!r}{nearest(name, names)}", name)
            return name

        positive = signal(tables.get("positive", names[0] if names else ""), "positive")
        features = []
        for table in tables.get("features", []):
            entry, chosen = self.named(table, "feature", "[[features]]")
            self.options(entry, chosen, "[[features]]")
            try:
                features.append(build(entry.load(), chosen, where=f"[[features]] {entry.name}"))
            except OptionError as error:
                raise self.fail(str(error), next(iter(chosen), "")) from error
        tasks = {name: self.table(Task, table, f"[tasks] {name}") for name, table in tables.get("tasks", {}).items()}
        for name, task in tasks.items():
            signal(task.signal, f"[tasks] {name}")
            if task.given:
                signal(task.given, f"[tasks] {name}")
        models = {name: self.model(name, table) for name, table in tables["models"].items()}

        def model(name: str, where: str) -> str:
            if name not in models:
                raise self.fail(f"{where}: no model {name!r} in [models]{nearest(name, models)}", name)
            return name

        recall = tuple(self.table(RoutePlan, table, "[[recall]]") for table in tables["recall"])
        for route in recall:
            plan = models[model(route.model, "[[recall]]")]
            if plan.entry.kind != "recall":
                raise self.fail(f"[[recall]]: {route.model!r} is a {plan.entry.kind} model ({plan.entry.name}) and cannot retrieve", route.model)
            if route.index:
                self.named(route.index, "index", f"[[recall]] {route.model}: index")
        options: dict[str, Any] = {key: tables[key] for key in ("seed", "threads", "fallback") if key in tables}
        for key, cls in (("state", State), ("examples", Examples), ("prerank", Prerank), ("rank", Rank), ("evaluation", Evaluation)):
            if key in tables:
                options[key] = self.table(cls, tables[key], f"[{key}]")
        for stage in ("prerank", "rank"):
            if stage in options:
                model(options[stage].model, f"[{stage}]")
        for name, plan in models.items():
            if plan.teacher:
                model(plan.teacher, f"[models.{name}]: teacher")
        if "fallback" in options:
            model(options["fallback"], "fallback")
        if "rank" in options:
            for task in options["rank"].powers:
                if task not in tasks:
                    raise self.fail(f"[rank]: powers names no task {task!r}{nearest(task, tasks)}", task)
        relevant = options["evaluation"].relevant if "evaluation" in options else ()
        for name in relevant:
            signal(name, "[evaluation]: relevant")
        for kind in ("filter", "rerank"):
            key = "filters" if kind == "filter" else "rerank"
            for table in tables.get(key, []):
                entry, chosen = self.named(table, kind, f"[[{key}]]")
                self.options(entry, chosen, f"[[{key}]]")
            options[key] = tuple(tables.get(key, []))
        if "split" in tables:
            self.named(tables["split"], "split", "[split]")
            options["split"] = tables["split"]
        return Recipe(
            text=self.text,
            name=tables["name"],
            data=self.table(Data, tables["data"], "[data]"),
            signals=signals,
            positive=positive,
            features=tuple(features),
            tasks=tasks,
            models=models,
            recall=recall,
            **options,
        )

    def model(self, name: str, table: Any) -> Plan:
        where = f"[models.{name}]"
        if not isinstance(table, Mapping) or "name" not in table:
            raise self.fail(f"{where} needs name = ... (a model of the catalog)", name)
        options = dict(table)
        chosen = options.pop("name")
        kinds = ("recall", "rank", "prerank")
        known = [entry.name for entry in catalog.ENTRIES if entry.kind in kinds]
        if chosen not in known:
            raise self.fail(f"{where}: the catalog has no model {chosen!r}{nearest(str(chosen), known)}", str(chosen))
        entry = next(entry for entry in catalog.ENTRIES if entry.kind in kinds and entry.name == chosen)
        training, teacher, without = options.pop("training", {}), options.pop("teacher", ""), options.pop("without", [])
        if not isinstance(training, Mapping):
            raise self.fail(f"{where}: training must be a table, not {training!r}", "training")
        if not isinstance(without, list) or not all(isinstance(pattern, str) for pattern in without):
            raise self.fail(f"{where}: without must be a list of feature names, not {without!r}", "without")
        self.options(entry, options, where)
        return Plan(entry, options, dict(training), teacher, tuple(without))
