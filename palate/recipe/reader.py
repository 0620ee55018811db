"""From the text of a recipe to its tables; every mistake is an error that names the line, the key and the nearest right one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch

from palate import catalog
from palate.build import OptionError, build, checked, options_of
from palate.candidates import DAY, Candidates, Request
from palate.contracts import Embedder, Model, Others, Recaller
from palate.datasets.negatives import KINDS, OWN, Sampler, keeping
from palate.features.counters import Counted
from palate.recipe.tables import DRAWN, Data, Evaluation, Examples, Plan, Prerank, Rank, Recipe, RecipeError, RoutePlan, State, Task
from palate.schema import Feature, Label, Schema, nearest
from palate.state.catalogue import Catalogue
from palate.state.seen import CountingBloom, ExactSeen, WindowedBloom
from palate.tables.signals import Signal
from palate.training.trainer import Trainer
from palate.training.tuning import Choice, Range

_SMALL = Schema((Feature("x", "pair", "number"),), (Label("y"),))  # enough to try a ranker's options on
PROVIDED = ("schema", "catalogue", "interactions", "pipeline", "report", "askers", "others")  #: arguments that a recipe does not give


class _Nobody:
    """A retriever that is never asked: enough to try a hybrid's options on."""

    def retrieve(self, request: Request, k: int) -> Candidates:
        return Candidates.empty(len(request))


NOBODY = _Nobody()


class Reader:
    """Turns tables into a Recipe and every mistake into an error with its line. A place is the way to it: ``("recall", 2, "quota")``."""

    def __init__(self, text: str, place: str) -> None:
        self.text, self.place, self.lines = text, place, lines_of(text)

    def fail(self, message: str, *way: str | int) -> RecipeError:
        return RecipeError(f"{self.place}{f', line {line}' if (line := self.line(way)) else ''}: {message}")

    def line(self, way: tuple[str | int, ...]) -> int:
        """Where this stands, or what is in it, or what it is in; 0 where nothing of it is written."""
        while way:
            found = self.lines.get(way) or next((line for known, line in self.lines.items() if known[: len(way)] == way), 0)
            if found:
                return found
            way = way[:-1]
        return 0

    @contextmanager
    def option(self, options: Mapping[str, Any], *way: str | int) -> Iterator[None]:
        """An OptionError as the recipe's error, at the option's line."""
        try:
            yield
        except OptionError as error:
            named = error.option or next((key for key in options if re.search(rf"\b{re.escape(key)}\b", str(error))), "")
            raise self.fail(str(error), *way, *([named] if named else [])) from error

    def mapping(self, value: Any, where: str, *way: str | int) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self.fail(f"{where} must be a table, not {value!r}", *way)
        return value

    def several(self, value: Any, where: str, *way: str | int) -> list[Any]:
        if not isinstance(value, list):
            raise self.fail(f"{where} must be a list of tables: write [[{way[0]}]] with two brackets", *way)
        return value

    def table(self, cls: type, options: Any, where: str, *way: str | int, **more: Any) -> Any:
        """``cls`` made of a table."""
        with self.option(self.mapping(options, where, *way), *way):
            return build(cls, {**more, **options}, where=where)

    def named(self, table: Any, kinds: tuple[str, ...], where: str, *way: str | int) -> tuple[catalog.Entry, dict[str, Any]]:
        """The catalog's entry that a table names, and the table's other keys."""
        options = dict(self.mapping(table, where, *way))
        if "name" not in options:
            slip = get_close_matches("name", options, 1)
            found = f", and has no use for {slip[0]!r}: did you mean 'name'?" if slip else ""
            raise self.fail(f"{where} needs name = ... (the catalog's name of a {' or '.join(kinds)}){found}", *way, *slip)
        chosen = options.pop("name")
        entries = {entry.name: entry for entry in catalog.ENTRIES if entry.kind in kinds}
        if chosen not in entries:
            message = f"{where}: the catalog has no {' or '.join(kinds)} {chosen!r}{nearest(str(chosen), entries)}"
            raise self.fail(message, *way, "name")
        return entries[chosen], options

    def step(self, entry: catalog.Entry, options: Mapping[str, Any], where: str, *way: str | int) -> None:
        """Whether the thing can be made of these options, as far as that can be told without data."""
        target = entry.load()
        settable = [name for name in options_of(target) if name not in PROVIDED and not (entry.kind == "split" and name == "events")]
        with self.option(options, *way):
            checked(target, options, settable, where)
            if entry.kind == "rank" and not issubclass(target, Model):
                build(target, options, _SMALL, where=where)  # a forest allocates nothing before it is fitted
            elif entry.kind in ("filter", "index") or (isinstance(target, type) and not issubclass(target, Model) and not _reads_tables(target)):
                build(target, options, Catalogue("items"), Others(lambda name: NOBODY), where=where)

    def one_of(self, name: Any, known: Iterable[str], where: str, what: str, *way: str | int) -> str:
        names = list(known)
        if name not in names:
            raise self.fail(f"{where}: no {what} {name!r}{nearest(str(name), names)}", *way)
        return str(name)

    def read(self, tables: dict[str, Any]) -> Recipe:
        known = [name for name in Recipe.__dataclass_fields__ if name != "text"]
        for key in tables:
            if key not in known:
                raise self.fail(f"a recipe has no {key!r}{nearest(key, known)}", key)
        for needed in ("name", "data", "signals", "models", "recall"):
            if needed not in tables:
                raise self.fail(f"a recipe needs {needed!r}")
        options: dict[str, Any] = {}
        for key in ("name", "positive", "fallback"):
            if not isinstance(tables.get(key, ""), str):
                raise self.fail(f"{key} must be a text, not {tables[key]!r}", key)
        for key in ("seed", "threads"):
            if key in tables:
                if type(tables[key]) is not int or tables[key] < 0:
                    raise self.fail(f"{key} must be a whole number of at least 0, not {tables[key]!r}", key)
                options[key] = tables[key]
        given = self.mapping(tables["signals"], "[signals]", "signals")
        signals = tuple(self.table(Signal, table, f"[signals] {name}", "signals", name, name=name) for name, table in given.items())
        names = list(given)
        if not names:
            raise self.fail("[signals] names no signal: what counts as taken?", "signals")
        for key, cls in (("state", State), ("examples", Examples), ("prerank", Prerank), ("rank", Rank), ("evaluation", Evaluation)):
            if key in tables:
                options[key] = self.table(cls, tables[key], f"[{key}]", key)
        state = options.get("state", State())
        self.seen(state.seen)
        models = {name: self.model(name, table) for name, table in self.mapping(tables["models"], "[models]", "models").items()}
        self.hybrids(models)
        for name, plan in models.items():
            if getattr(plan.entry.load(), "leftovers", False) and not state.former:
                raise self.fail(f"[models.{name}]: {plan.entry.name} offers what [state] former keeps: give former = 50", "models", name)
        recall = self.recall(tables["recall"], models)
        features = self.features(tables.get("features", []), names, recall, state)
        given = self.mapping(tables.get("tasks", {}), "[tasks]", "tasks")
        tasks = {name: self.table(Task, table, f"[tasks] {name}", "tasks", name) for name, table in given.items()}
        for name, task in tasks.items():
            for key in ("signal", "given"):
                if getattr(task, key):
                    self.one_of(getattr(task, key), names, f"[tasks] {name}", "signal", "tasks", name, key)
        self.stages(options, models, recall, features, tasks)
        if "search" in tables:
            options["search"] = self.search(tables["search"], tables["models"])
        if tables.get("fallback"):
            options["fallback"] = self.one_of(tables["fallback"], models, "fallback", "model in [models]", "fallback")
        for name in options["evaluation"].relevant if "evaluation" in options else ():
            self.one_of(name, names, "[evaluation]: relevant", "signal", "evaluation", "relevant")
        for kind, key in (("filter", "filters"), ("rerank", "rerank")):
            if key in tables:
                options[key] = tuple(self.several(tables[key], f"[[{key}]]", key))
                for place, table in enumerate(options[key]):
                    self.step(*self.named(table, (kind,), f"[[{key}]]", key, place), f"[[{key}]]", key, place)
        if "split" in tables:
            self.step(*self.named(tables["split"], ("split",), "[split]", "split"), "[split]", "split")
            options["split"] = tables["split"]
        return Recipe(
            text=self.text,
            name=tables["name"],
            data=self.data(tables["data"]),
            signals=signals,
            positive=self.one_of(tables.get("positive", names[0]), names, "positive", "signal", "positive"),
            features=features,
            tasks=tasks,
            models=models,
            recall=recall,
            **options,
        )

    def data(self, table: Any) -> Data:
        data: Data = self.table(Data, table, "[data]", "data")
        if data.source:
            entry, _ = self.named({"name": data.source}, ("data",), "[data] source", "data", "source")
            self.step(entry, data.options, "[data] options", "data", "options")
        elif data.options:
            raise self.fail("[data]: options are those of a source, and there is none", "data", "options")
        return data

    def seen(self, seen: Mapping[str, Any]) -> None:
        """The filter of shown items: ``kind``, ``days``, and options of its own."""
        kinds = {"exact": ExactSeen, "bloom": WindowedBloom, "counting": CountingBloom}
        options = dict(seen)
        days = options.pop("days", 30)
        if isinstance(days, bool) or not isinstance(days, (int, float)) or not days > 0:
            raise self.fail(f"[state] seen: days must be a number above 0, not {days!r}", "state", "seen", "days")
        target = kinds[self.one_of(options.pop("kind", "exact"), kinds, "[state] seen", "kind", "state", "seen", "kind")]
        own = [name for name in options_of(target) if name != "window"]
        for key in options:
            if key not in own:
                raise self.fail(f"[state] seen has no option {key!r}{nearest(key, ['kind', 'days', *own])}", "state", "seen", key)
        with self.option(options, "state", "seen"):
            build(target, {"window": round(days * DAY), **options}, where="[state] seen")

    def recall(self, tables: Any, models: Mapping[str, Plan]) -> tuple[RoutePlan, ...]:
        tables = self.several(tables, "[[recall]]", "recall")
        if not tables:
            raise self.fail("[[recall]]: a recipe needs at least one route", "recall")
        routes = tuple(self.table(RoutePlan, table, "[[recall]]", "recall", place) for place, table in enumerate(tables))
        for place, route in enumerate(routes):
            plan = models[self.one_of(route.model, models, "[[recall]]", "model in [models]", "recall", place, "model")]
            if plan.entry.kind != "recall":
                message = f"[[recall]]: {route.model!r} is a {plan.entry.kind} model ({plan.entry.name}) and cannot retrieve"
                raise self.fail(message, "recall", place, "model")
            if route.model in [other.model for other in routes[:place]]:
                raise self.fail(f"[[recall]]: {route.model!r} is a route twice", "recall", place, "model")
            if route.index:
                where = f"[[recall]] {route.model}: index"
                self.step(*self.named(route.index, ("index",), where, "recall", place, "index"), where, "recall", place, "index")
        return routes

    def hybrids(self, models: Mapping[str, Plan]) -> None:
        """Whether every hybrid is made of models that are there and retrieve, and none of itself."""

        def follow(way: tuple[str, ...]) -> None:
            for part in models[way[-1]].parts:
                where, place = f"[models.{way[-1]}]: models", ("models", way[-1], "models")
                plan = models[self.one_of(part, models, where, "model in [models]", *place)]
                if plan.entry.kind != "recall":
                    raise self.fail(f"{where}: {part!r} is a {plan.entry.kind} model ({plan.entry.name}) and cannot retrieve", *place)
                if part in way:
                    raise self.fail(f"{where}: a hybrid cannot be made of itself: {' -> '.join((*way[way.index(part) :], part))}", *place)
                follow((*way, part))

        for name in models:
            follow((name,))

    def features(self, tables: Any, signals: list[str], recall: tuple[RoutePlan, ...], state: State) -> tuple[Any, ...]:
        made = []
        routes = [route.model for route in recall]
        for place, table in enumerate(self.several(tables, "[[features]]", "features")):
            way: tuple[str | int, ...] = ("features", place)
            entry, options = self.named(table, ("feature",), "[[features]]", *way)
            with self.option(options, *way):
                made.append(build(entry.load(), options, where=f"[[features]] {entry.name}"))
            where = f"[[features]] {entry.name}"
            for key in ("signal", "among"):
                if key in options:
                    self.one_of(options[key], signals, where, "signal", *way, key)
            if "route" in options:
                self.one_of(options["route"], routes, where, "route", *way, "route")
            for window in made[-1].windows if isinstance(made[-1], Counted) else ():
                if window not in state.windows:
                    kept = ", ".join(f"{days:g}" for days in state.windows)
                    raise self.fail(f"{where}: window {window} is none of [state] windows: {kept}", *way, "window")
            if (least := getattr(made[-1], "audience", 0)) > state.audience:
                message = f"{where} looks at the last {least} events of an item; [state] audience keeps {state.audience}: give audience = {least}"
                raise self.fail(message, *way)
        return tuple(made)

    def stages(self, options: dict[str, Any], models: Mapping[str, Plan], recall: tuple[RoutePlan, ...], features: Any, tasks: Any) -> None:
        """Whether pre-rank and rank name models that can do that, and are trained."""
        for stage in ("prerank", "rank"):
            if stage in options:
                self.one_of(options[stage].model, models, f"[{stage}]", "model in [models]", stage, "model")
        for name, plan in models.items():
            if plan.teacher:
                self.one_of(plan.teacher, models, f"[models.{name}]: teacher", "model in [models]", "models", name, "teacher")
                if "rank" not in options or plan.teacher != options["rank"].model:
                    raise self.fail(f"[models.{name}]: the teacher must be the model of [rank]", "models", name, "teacher")
        if "rank" in options:
            plan = models[options["rank"].model]
            if plan.entry.kind != "rank":
                raise self.fail(f"[rank]: {options['rank'].model!r} is no ranker but a {plan.entry.kind} model ({plan.entry.name})", "rank", "model")
            if not features:
                raise self.fail("[rank]: a ranker reads features; add [[features]]", "rank")
            if not tasks:
                raise self.fail("[rank]: a ranker needs to know what to predict; add [tasks]", "rank")
            for task in options["rank"].powers:
                self.one_of(task, tasks, "[rank]: powers", "task", "rank", "powers", task)
        if "prerank" in options:
            name = options["prerank"].model
            plan, target = models[name], models[name].entry.load()
            if not (isinstance(target, type) and issubclass(target, Embedder)):
                raise self.fail(f"[prerank]: {name!r} ({plan.entry.name}) has no vectors of users and items to score by", "prerank", "model")
            if not plan.teacher and name not in [route.model for route in recall]:
                raise self.fail(f"[prerank]: nothing trains {name!r}; give it teacher = ... (the model of [rank])", "prerank", "model")

    def search(self, tables: Any, models: Mapping[str, Any]) -> dict[str, Choice | Range]:
        """What options may be searched among, each value tried on the model's table: dotted ways to options, quoted or not."""
        found: dict[str, Choice | Range] = {}

        def read(value: Any, way: tuple[str, ...]) -> None:
            name, place = ".".join(way), ("search", *way)
            if isinstance(value, Mapping) and not {"low", "high"} & set(value) and value:
                for key, inner in value.items():
                    read(inner, (*way, *key.split(".")))
            elif isinstance(value, list) and value:
                self.fitting(models, way, value)
                found[name] = Choice(tuple(value))
            elif isinstance(value, Mapping) and value:
                with self.option(value, *place):
                    known = [option for option in options_of(Range) if option != "whole"]
                    checked(Range, value, known, f"[search] {name}")
                    one: Range = build(Range, value, where=f"[search] {name}")
                self.fitting(models, way, [value["low"], value["high"]])
                whole = (
                    type(value["low"]) is int and type(value["high"]) is int and not self.fits(models, way, one.low + (one.high - one.low) * 0.377)
                )
                found[name] = replace(one, low=value["low"], high=value["high"], whole=whole)
            else:
                raise self.fail(f"[search] {name} must be a list of values or {{ low = ..., high = ... }}, not {value!r}", *place)

        read(self.mapping(tables, "[search]", "search"), ())
        return found

    def fitting(self, models: Mapping[str, Any], way: tuple[str, ...], values: list[Any]) -> None:
        """Whether each of the values may stand at this way, by reading the model's table with it."""
        line = self.line(("search", *way))
        if way[0] != "models" or len(way) < 3:
            message = f"[search]: only options of models can be searched, as models.NAME.OPTION, not {'.'.join(way)!r}{nearest(way[0], ['models'])}"
            raise self.fail(message, "search", *way)
        name = self.one_of(way[1], models, "[search]", "model in [models]", "search", *way)
        for value in values:
            changed = dict(models[name])
            inner = changed
            for key in way[2:-1]:
                inner[key] = dict(self.mapping(inner.get(key, {}), f"[search]: {key}", "search", *way))
                inner = inner[key]
            inner[way[-1]] = value
            reader = Reader(self.text, self.place)
            reader.lines = {("models",): line}
            reader.model(name, changed)

    def fits(self, models: Mapping[str, Any], way: tuple[str, ...], value: Any) -> bool:
        try:
            self.fitting(models, way, [value])
        except RecipeError:
            return False
        return True

    def model(self, name: str, table: Any) -> Plan:
        where, way = f"[models.{name}]", ("models", name)
        entry, options = self.named(table, ("recall", "rank", "prerank"), where, *way)
        training, teacher, without = options.pop("training", {}), options.pop("teacher", ""), options.pop("without", [])
        target = entry.load()
        if not isinstance(without, list) or not all(isinstance(pattern, str) for pattern in without):
            raise self.fail(f"{where}: without must be a list of feature names, not {without!r}", *way, "without")
        if not isinstance(teacher, str):
            raise self.fail(f"{where}: teacher must be a model's name, not {teacher!r}", *way, "teacher")
        trained = isinstance(target, type) and issubclass(target, Model)
        extra = ["training", "teacher", "without"] if trained else ["without"] if entry.kind == "rank" else []
        for key in [key for key, given in (("training", training), ("teacher", teacher), ("without", without)) if given and key not in extra]:
            raise self.fail(f"{where}: {entry.name} is fitted without {key}", *way, key)
        for key in options:
            settable = [option for option in options_of(target) if option not in PROVIDED]
            if key not in settable:
                raise self.fail(f"{where}: {entry.name} has no option {key!r}{nearest(key, [*settable, *extra])}", *way, key)
        self.step(entry, options, where, *way)
        own = [option for option in options_of(Trainer) if option != "report"]
        if trained and entry.kind == "recall" and not teacher:
            own += ["sampler" if issubclass(target, Recaller) else "uniform", "subsample"]
        elif trained:
            own += ["uniform"]
        for key in self.mapping(training, f"{where} training", *way, "training"):
            if key not in own:
                raise self.fail(f"{where} training has no option {key!r}{nearest(key, own)}", *way, "training", key)
        uniform = training.get("uniform", 256)
        if type(uniform) is not int or uniform < 0:
            raise self.fail(f"{where} training: uniform must be a whole number of at least 0, not {uniform!r}", *way, "training", "uniform")
        with self.option(training, *way, "training"):
            build(Trainer, {key: value for key, value in training.items() if key not in DRAWN}, where=f"{where} training")
        if "sampler" in training:
            mixture = self.mapping(training["sampler"], f"{where} training: sampler", *way, "training", "sampler")
            try:
                own_kinds = Sampler.of(torch.ones(1), mixture).shares
            except (ValueError, TypeError) as error:
                raise self.fail(f"{where} training: sampler: {error}", *way, "training", "sampler") from None
            if own_kinds and not getattr(target.examples, "per_user", False):
                kinds, common = " and ".join(own_kinds), ", ".join(kind for kind in KINDS if kind not in OWN)
                message = f"{entry.name} draws no negatives for one user alone, so that none can be {kinds}; it takes {common}"
                raise self.fail(f"{where} training: sampler: {message}", *way, "training", "sampler")
        if "subsample" in training:
            try:
                keeping(np.ones(1, np.int64), training["subsample"])
            except (ValueError, TypeError) as error:
                raise self.fail(f"{where} training: {error}", *way, "training", "subsample") from None
            if not getattr(target.examples, "single", False):
                message = f"subsample: {entry.name} learns from all that a user took at once: what is left out of that would be a negative"
                raise self.fail(f"{where} training: {message}", *way, "training", "subsample")
        return Plan(entry, options, dict(training), teacher, tuple(without))


def _reads_tables(target: type) -> bool:
    """Whether its defaults are chosen by looking at the items' table, so that it cannot be tried without one."""
    try:
        build(target, {}, Catalogue("items"))
    except OptionError as error:
        return not re.search(r"needs the option", str(error))
    return False


def lines_of(text: str) -> dict[tuple[str | int, ...], int]:
    """The line of each table and key of a TOML text, by the way to it; the places of a list of tables are numbers."""
    found: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    counts: dict[str, int] = {}
    for number, row in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[\[\s*([\w.\"'-]+)\s*\]\]", row):
            place = counts[match[1]] = counts.get(match[1], -1) + 1
            table = (*_words(match[1]), place)
            found[table] = number
        elif match := re.match(r"\s*\[\s*([\w.\"'-]+)\s*\]\s*(#.*)?$", row):
            table = tuple(_words(match[1]))
            found[table] = number
        elif match := re.match(r"\s*([\w.\"'-]+)\s*=(.*)", row):
            way = (*table, *_words(match[1]))
            found[way] = number
            for inner in re.finditer(r"[{,]\s*([\w\"'-]+)\s*=", match[2]):
                found.setdefault((*way, *_words(inner[1])), number)
    return found


def _words(dotted: str) -> list[str]:
    return [word.strip("\"'") for word in dotted.split(".")]
