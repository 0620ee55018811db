"""What a recipe asks for, from tables to a published run: prepare, train each model after its teacher, evaluate, publish.

Recall is trained twice: on events before each fold's moment, to make the ranker's examples out of what recall would have offered
then, and on all training events, to serve. A ranker that only ever saw taken items learns nothing of what recall puts before it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from palate import assembly, catalog
from palate.assembly import OpenRun, Parts, open_run
from palate.build import build
from palate.candidates import Ints
from palate.contracts import Embedder
from palate.datasets.interactions import Interactions
from palate.datasets.offered import Offered, Outcomes
from palate.datasets.pairs import Pairs
from palate.features.pipeline import FeaturePipeline
from palate.funnel.funnel import Funnel
from palate.recipe import Recipe
from palate.state.catalogue import Catalogue
from palate.state.past import Past
from palate.state.rows import EventRows, event_rows
from palate.store import Draft
from palate.tables.entities import read_entities
from palate.tables.events import Events, read_events
from palate.tables.world import World
from palate.training.trainer import Trainer

Report = Callable[[str], None]

CHUNK = 512  #: requests at a time in bulk work: bounds memory, changes no result


def quiet(line: str) -> None:
    """A report that says nothing."""


@dataclass(frozen=True)
class Prepared:
    """Tables by catalogue row. ``train`` are the events models may learn from, ``test`` those held out; ``cut`` ms is the first moment held out."""

    world: World
    items: Catalogue
    users: Catalogue
    train: EventRows
    test: EventRows
    cut: int

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.users), len(self.items)


def load_world(recipe: Recipe, folder: Path, report: Report = quiet) -> World:
    """The recipe's tables; paths in it are relative to ``folder``."""
    data = recipe.data
    if data.source:
        source = catalog.load(data.source, "data")
        options = dict(data.options)
        if "report" in source.__code__.co_varnames[: source.__code__.co_argcount + source.__code__.co_kwonlyargcount]:
            options["report"] = report
        return source(**options)
    columns = dict(data.columns) or None
    events, told = read_events(folder / data.events, columns=columns, time_unit=data.time_unit, kind=data.kind, on_bad=data.on_bad)
    report(f"{data.events}: {told.read:,} events read, {told.accepted:,} accepted, {len(told.rejected):,} rejected")
    tables = {}
    for name in ("users", "items"):
        path = getattr(data, name)
        if path:
            tables[name], told = read_entities(folder / path, multi=data.multi, separator=data.separator, on_bad=data.on_bad)
            report(f"{path}: {told.read:,} {name} read, {told.accepted:,} accepted, {len(told.rejected):,} rejected")
        else:
            tables[name] = events.frame.select(id=name[:-1]).unique().sort("id")
    return World(events=events, users=tables["users"], items=tables["items"], name=recipe.name, terms="")


def prepare(recipe: Recipe, world: World, *, holdout: bool = True) -> Prepared:
    """Split, give rows, and map events to them. An item is born at its own date, or at its first event that training may see."""
    if holdout:
        options = dict(recipe.split)
        split = catalog.load(options.pop("name"), "split")(world.events, **options)
        train_events, test_events = split.train, split.test
        cut = split.cut if split.cut is not None else int(train_events.frame["time"].max()) + 1
    else:
        train_events, test_events = world.events, Events(world.events.frame.head(0))
        cut = int(world.events.frame["time"].max()) + 1 if world.events.frame.height else 0
    if not train_events.frame.height:
        raise ValueError("there is nothing to train on: the events before the cut are an empty table")
    born = {str(item): int(first) for item, first in train_events.frame.group_by("item").agg(first=pl.col("time").min()).iter_rows()}
    if recipe.data.created:
        born.update((str(i), int(t)) for i, t in world.items.select("id", recipe.data.created).drop_nulls().iter_rows())
    items = Catalogue.of(world.items, name="items", created=born)
    users = Catalogue.of(world.users, name="users")
    for events in (train_events, test_events):
        for catalogue, column in ((items, "item"), (users, "user")):
            for one in events.frame[column].unique(maintain_order=True):
                if catalogue.row(one) < 0:
                    catalogue.add(one, created=born.get(one))
    train = event_rows(train_events, users, items, recipe.signals)
    test = event_rows(test_events, users, items, recipe.signals)
    return Prepared(world, items, users, train, test, cut)


def past_of(recipe: Recipe, rows: EventRows, sizes: tuple[int, int]) -> Past:
    """What was known at any moment, from these events."""
    state = recipe.state
    return Past(rows, *sizes, windows=state.window_ms, bucket=state.bucket_ms, limit=state.history)


class Training:
    """One training of a recipe's models. Steps are methods in the order in which ``run`` calls them."""

    def __init__(self, recipe: Recipe, prepared: Prepared, report: Report = quiet) -> None:
        self.recipe, self.data, self.report = recipe, prepared, report
        self.past = past_of(recipe, prepared.train, prepared.sizes)
        self.pipeline: FeaturePipeline | None = None
        if recipe.features:
            fitted = FeaturePipeline(recipe.features, recipe.labels).fit(prepared.users, prepared.items, prepared.train, self.past.counts)
            self.pipeline = fitted.bind(prepared.users, prepared.items)
        self.rng = np.random.default_rng(recipe.seed)
        self.curves: dict[str, list[dict[str, float]]] = {}

    def run(self) -> Parts:
        recipe = self.recipe
        parts = Parts(recipe, self.data.items, self.data.users, self.pipeline)
        if recipe.rank or recipe.prerank:
            self.rank(parts)
        parts.models.update(self.recall(self.data.train, self.data.cut, "all training events"))
        return parts

    # ── recall ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def recall(self, rows: EventRows, now: int, what: str) -> dict[str, Any]:
        """Every model that a route (or the fallback) names, fitted on ``rows``; ``now`` is the moment after them."""
        names = dict.fromkeys([route.model for route in self.recipe.recall] + ([self.recipe.fallback] if self.recipe.fallback else []))
        taken = rows.showing(self.recipe.positive)
        interactions = Interactions.of(taken, *self.data.sizes, now=now)
        models = {}
        for name in names:
            start = time.perf_counter()
            model = assembly.make(self.recipe, name, self.data.items, self.pipeline)
            models[name] = self.embed(name, model, taken) if isinstance(model, Embedder) else model.fit(interactions)
            self.report(f"  recall {name}: fitted on {what} in {time.perf_counter() - start:.1f} s")
        return models

    def embed(self, name: str, model: Embedder, taken: EventRows) -> Embedder:
        """Train a two-tower model on who took what: each event with the user as they were just before it."""
        pipeline, options = self.pipeline, self.recipe.models[name].training
        assert pipeline is not None
        known = taken.take((taken.users >= 0) & (taken.items >= 0))
        uniform = int(options.get("uniform", 256))
        columns: dict[str, list[NDArray[Any]]] = {}
        for start in range(0, len(known), 16 * CHUNK):
            part = known.take(slice(start, start + 16 * CHUNK))
            request = self.past.request(part.users, part.times, exclude_seen=False)
            for column, values in pipeline.encode_users(request).items():
                columns.setdefault(column, []).append(values)
        pairs = Pairs(known.items, known.users, pipeline.item_columns(), {k: np.concatenate(v) for k, v in columns.items()}, uniform=uniform)
        return self.fit(name, model, pairs)

    def fit(self, name: str, model: Any, examples: Any, score: Callable[[], float] | None = None) -> Any:
        options = {key: value for key, value in self.recipe.models[name].training.items() if key != "uniform"}
        trainer = build(Trainer, {"seed": self.recipe.seed, **options}, where=f"[models.{name}] training")
        curve = trainer.fit(model, examples, score)
        self.curves[name] = curve if isinstance(curve, list) else list(getattr(curve, "epochs", []))
        return model.eval()

    # ── rank and pre-rank ───────────────────────────────────────────────────────────────────────────────────────────────

    def rank(self, parts: Parts) -> None:
        """Make examples from what recall offered in the past, train the ranker and what learns from it, choose the powers."""
        recipe, pipeline = self.recipe, self.pipeline
        assert pipeline is not None
        examples, validation = self.examples()
        self.report(f"  {len(examples):,} examples from {examples.requests:,} requests, {validation.requests:,} more to validate")
        if recipe.rank:
            name = recipe.rank.model
            start = time.perf_counter()
            ranker = assembly.make(recipe, name, self.data.items, pipeline)
            parts.models[name] = self.fit(name, ranker, examples.pointwise(), lambda: validation.ndcg(probabilities(ranker, validation)[:, 0]))
            parts.powers = dict(recipe.rank.powers) or choose_powers(ranker, validation, tuple(recipe.tasks))
            shown = " · ".join(f"{task}^{power:g}" for task, power in parts.powers.items())
            self.report(f"  rank {name}: trained in {time.perf_counter() - start:.1f} s, score = {shown}")
        for name, plan in recipe.models.items():
            if plan.teacher:
                start = time.perf_counter()
                teacher = parts.models[plan.teacher]
                scores = fused(probabilities(teacher, examples), teacher.tasks, parts.powers)
                light = assembly.make(recipe, name, self.data.items, pipeline)
                parts.models[name] = self.fit(name, light, examples.pointwise(teacher=scores))
                self.report(f"  pre-rank {name}: distilled from {plan.teacher} in {time.perf_counter() - start:.1f} s")

    def examples(self) -> tuple[Offered, Offered]:
        """Requests of the past with what recall, fitted on earlier events only, would have offered, and what came of it."""
        recipe, plan, rows = self.recipe, self.recipe.examples, self.data.train
        times = rows.times
        start = int(len(rows) * (1 - plan.share))
        bounds = [int(times[start + (len(rows) - start) * k // plan.folds]) for k in range(plan.folds)] + [int(times[-1]) + 1]
        outcomes = Outcomes.of(rows, {name: (task.signal, task.given) for name, task in recipe.tasks.items()}, len(self.data.items))
        made: list[Offered] = []
        held: list[Offered] = []
        for fold, (begin, end) in enumerate(itertools.pairwise(bounds)):
            if begin >= end:
                continue
            before, inside = rows.before(begin), rows.since(begin).before(end).showing(self.recipe.positive)
            if not len(before) or not len(inside):
                continue
            models = self.recall(before, begin, f"the first {len(before):,} events (fold {fold + 1} of {plan.folds})")
            parts = Parts(self.recipe, self.data.items, self.data.users, self.pipeline, models)
            funnel = Funnel(parts.routes())
            users, moments = self.moments(inside)
            last = fold == plan.folds - 1
            chosen = (self.rng.permutation(np.unique(users)) if last else np.empty(0, np.int64))[: int(plan.validation * len(np.unique(users)))]
            hold = np.isin(users, chosen)
            made.append(self._offered(funnel, users[~hold], moments[~hold], outcomes, plan.negatives))
            if hold.any():
                held.append(self._offered(funnel, users[hold], moments[hold], outcomes, None))
        if not made:
            raise ValueError("no examples for the ranker: the training events are too few to be divided ([examples] share, folds)")
        return Offered.joined(made), Offered.joined(held or made[-1:])

    def moments(self, inside: EventRows) -> tuple[Ints, Ints]:
        """Up to ``moments`` points of each user's events in a fold, spread evenly, the first one always."""
        plan = self.recipe.examples
        order = np.lexsort((inside.times, inside.users))
        users, times = inside.users[order], inside.times[order]
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
        counts = np.diff(np.r_[starts, len(users)])
        steps = np.arange(plan.moments)
        place = (starts[:, None] + (counts[:, None] * steps) // plan.moments).ravel()
        keys = np.unique(np.stack((users[place], times[place])), axis=1)
        if keys.shape[1] > plan.requests:
            keys = keys[:, np.sort(self.rng.choice(keys.shape[1], plan.requests, replace=False))]
        return keys[0], keys[1]

    def _offered(self, funnel: Funnel, users: Ints, moments: Ints, outcomes: Outcomes, negatives: int | None) -> Offered:
        """``negatives``: how many not-taken candidates are kept for each taken one (None: all)."""
        assert self.pipeline is not None
        parts = []
        for start in range(0, len(users), CHUNK):
            request = self.past.request(users[start : start + CHUNK], moments[start : start + CHUNK])
            offered = funnel.recall_stage(request)
            labels = outcomes.labels(request, offered)
            pairs = self.pipeline.encode_pairs(request, offered)
            taken = next(iter(labels.values())) > 0
            keep = np.ones(len(taken), bool)
            if negatives is not None:
                share = np.bincount(offered.requests, weights=taken, minlength=len(request)) * negatives
                left = np.diff(offered.offsets) - np.bincount(offered.requests, weights=taken, minlength=len(request))
                rate = np.minimum(1.0, share / np.maximum(left, 1))
                keep = taken | (self.rng.random(len(taken)) < rate[offered.requests])
            parts.append(
                Offered(
                    self.pipeline,
                    self.pipeline.encode_users(request),
                    {name: values[keep] for name, values in pairs.items()},
                    {name: values[keep] for name, values in labels.items()},
                    offered.requests[keep],
                    offered.items[keep],
                )
            )
        return Offered.joined(parts)


def probabilities(ranker: Any, rows: Offered) -> NDArray[np.float32]:
    """Each task's probability of each candidate, float32 ``[N, T]``."""
    examples = rows.pointwise()
    ranker.eval()
    with torch.inference_mode():
        found = [ranker.predict(examples.batch(chosen)) for chosen in torch.arange(len(rows)).split(65_536)]
    return torch.cat(found).numpy()


def fused(probabilities: NDArray[np.float32], tasks: Sequence[str], powers: dict[str, float]) -> NDArray[np.float32]:
    """Sum over tasks of power x ln(probability): the order of the product of powers."""
    weights = np.array([powers.get(task, 0.0) for task in tasks], np.float32)
    return np.log(np.maximum(probabilities, 1e-9)) @ weights


def choose_powers(ranker: Any, validation: Offered, tasks: tuple[str, ...]) -> dict[str, float]:
    """Powers with the best NDCG@10 on validation requests: the first task's is 1, the others' from a small grid, one after another."""
    predicted = probabilities(ranker, validation)
    powers = dict.fromkeys(tasks, 0.0)
    powers[tasks[0]] = 1.0
    best = validation.ndcg(fused(predicted, ranker.tasks, powers))
    for task in tasks[1:]:
        for power in (0.1, 0.25, 0.5, 1.0):
            trial = {**powers, task: power}
            score = validation.ndcg(fused(predicted, ranker.tasks, trial))
            if score > best:
                best, powers = score, trial
    return powers


def train(recipe: Recipe | str | Path, out: str | Path, *, world: World | None = None, holdout: bool = True, report: Report | None = None) -> OpenRun:
    """Follow a recipe and publish a run at ``out``. ``holdout=False`` trains on every event, for serving.

    Raises RecipeError, ImportFailed or RunError with the place of the mistake. What was at ``out`` stays until the new version is whole.
    """
    say = report or quiet
    folder = Path(".")
    if not isinstance(recipe, Recipe):
        folder = Path(recipe).resolve().parent
        recipe = Recipe.load(recipe)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    began = time.perf_counter()
    world = world or load_world(recipe, folder, say)
    prepared = prepare(recipe, world, holdout=holdout)
    users, items = prepared.sizes
    say(f"{recipe.name}: {users:,} users, {items:,} items, {len(prepared.train):,} events to learn from, {len(prepared.test):,} held out")
    training = Training(recipe, prepared, say)
    parts = training.run()
    draft = Draft(out)
    try:
        assembly.save(parts, prepared.train, draft)
        draft.frame("test.parquet", assembly.frame_of(prepared.test))
        draft.json("curves.json", training.curves)
        draft.publish(cut=prepared.cut, seconds=round(time.perf_counter() - began, 1))
    except BaseException:
        draft.discard()
        raise
    say(f"trained and published at {out} in {time.perf_counter() - began:.0f} s")
    return open_run(out)
