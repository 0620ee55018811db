"""Training of a recipe's models, each after its teacher.

Recall is trained twice: on events before each fold's moment, to make the ranker's examples out of what recall would have offered
then, and on all training events, to serve. A ranker that only ever saw taken items learns nothing of what recall puts before it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from palate import assembly
from palate.assembly import Parts
from palate.build import build
from palate.candidates import Candidates, Ints, Request
from palate.contracts import Embedder, Forest, Others, Recaller, Rehearsal
from palate.datasets.held import held_back
from palate.datasets.interactions import Interactions
from palate.datasets.moments import moments
from palate.datasets.negatives import Own, Sampler, keeping
from palate.datasets.offered import Offered, Outcomes
from palate.datasets.pairs import Pairs
from palate.datasets.sequences import Sequences
from palate.features.pipeline import FeaturePipeline
from palate.funnel.funnel import Funnel
from palate.prerank.distilled import Distilled
from palate.recipe import DRAWN, Recipe
from palate.state.past import ragged_places
from palate.state.rows import EventRows
from palate.training.curves import Watcher
from palate.training.mined import Mined
from palate.training.trainer import Progress, Trainer
from palate.workflow.prepared import Prepared, Report, past_of, quiet

Score = Callable[[Any], float]  # what a model is worth after an epoch

REHEARSED = 2_000  #: requests that a hybrid's weights are chosen on, at most
CHUNK = 512  #: requests at a time in bulk work: bounds memory, changes no result


class Training:
    """One training of a recipe's models. Steps are methods in the order in which ``run`` calls them."""

    def __init__(self, recipe: Recipe, prepared: Prepared, report: Report = quiet, folder: Path | None = None, watch: Sequence[Watcher] = ()) -> None:
        """``folder``: where checkpoints are kept, so that a training that was killed goes on where it was, to the same bits.

        ``watch``: who is told how each fitting goes, a few times a second.
        """
        self.recipe, self.data, self.report, self.folder, self.watch = recipe, prepared, report, folder, watch
        self.fits = 0
        self.past = past_of(recipe, prepared.train, prepared.sizes)
        self.shown = past_of(recipe, prepared.shown, prepared.sizes)
        self.pipeline: FeaturePipeline | None = None
        if recipe.features:
            fitted = FeaturePipeline(recipe.features, recipe.labels).fit(prepared.users, prepared.items, prepared.train, self.past.counts)
            self.pipeline = fitted.bind(prepared.users, prepared.items)
            for note in fitted.notes():
                report(f"  {note}")
        self.rng = np.random.default_rng(recipe.seed)
        self.scaled = False  # whether the pipeline has seen the routes' scores
        self.curves: dict[str, dict[str, Any]] = {}

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
        return self.fitted(self.recipe.recalled, rows, now, what).models

    def fitted(self, names: Sequence[str], rows: EventRows, now: int, what: str) -> Parts:
        """These recall models, parts before the hybrids they are in."""
        taken = rows.showing(self.recipe.positive)
        interactions = Interactions.of(taken, *self.data.sizes, now=now)
        parts = Parts(self.recipe, self.data.items, self.data.users, self.pipeline)
        others = parts.others(partial(self.rehearse, rows))
        for name in names:
            start = time.perf_counter()
            parts.models[name] = self.route(name, taken, interactions, others=others)
            self.report(f"  recall {name}: fitted on {what} in {time.perf_counter() - start:.1f} s")
        return parts

    def rehearse(self, rows: EventRows, models: Sequence[str], share: float) -> Rehearsal:
        """These models fitted on all but the last ``share`` of ``rows``, and who then came again for what."""
        moment, users, taken = held_back(rows.showing(self.recipe.positive), share, REHEARSED)
        early, curves = rows.before(moment), dict(self.curves)
        parts = self.fitted(self.recipe.with_parts(models), early, moment, f"the first {len(early):,} events, to weigh it")
        self.curves = curves  # those of the models that stay
        return Rehearsal(parts.others(), self.past.request(users, np.full(len(users), moment)), taken)

    def route(self, name: str, taken: EventRows, interactions: Interactions, score: Score | None = None, others: Others | None = None) -> Any:
        """One recall model, fitted on who took what."""
        model = assembly.make(self.recipe, name, self.data.items, self.pipeline, interactions, self.data.users, others)
        if isinstance(model, Recaller):
            return self.recaller(name, model, Sequences.of(taken, *self.data.sizes), interactions.now, score)
        if getattr(model, "explicit", False):  # a model of ratings wants their values
            interactions = Interactions.of(taken, *self.data.sizes, weighted=True, now=interactions.now)
        return self.embed(name, model, taken, score) if isinstance(model, Embedder) else model.fit(interactions)

    def embed(self, name: str, model: Embedder, taken: EventRows, score: Score | None = None) -> Embedder:
        """Train a two-tower model on who took what: each event with the user as they were just before it."""
        pipeline, options = self.pipeline, self.recipe.models[name].training
        assert pipeline is not None
        known = taken.take((taken.users >= 0) & (taken.items >= 0))
        if "subsample" in options:
            chance = keeping(np.bincount(known.items, minlength=self.data.sizes[1]), options["subsample"])
            kept = np.random.default_rng(self.recipe.seed).random(len(known)) < chance[known.items]
            self._thinned(name, kept)
            known = known.take(kept)
        uniform = int(options.get("uniform", 256))
        fixed, varying = moments(pipeline, self.past, known.users, known.times)
        pairs = Pairs(known.items, known.users, pipeline.item_columns(), fixed, known.users, varying, uniform=uniform)
        return self.fit(name, model, pairs, score)

    def recaller(self, name: str, model: Recaller, sequences: Sequences, now: int, score: Score | None = None) -> Recaller:
        """Train a model of rows on what was taken before ``now``; the recipe's ``sampler`` says how negatives are drawn."""
        options, counts = self.recipe.models[name].training, torch.from_numpy(sequences.counts)
        met = self.data.met.before(now) if self.data.met is not None else None
        apart = None if met is None else (met.users, met.items)
        out = None
        if self.data.ranked_out is not None and apart is not None:
            fallen = self.data.ranked_out.before(now)
            out = Own.of(fallen.users, fallen.items, apart, *self.data.sizes)
        sampler = Sampler.of(counts, options.get("sampler"), out)
        if out is not None and "ranked_out" in sampler.shares:
            self.report(f"  recall {name}: {len(out):,} items that were ranked out of users' pages are negatives of theirs")
        if "subsample" in options:
            sequences = sequences.thinned(options["subsample"], self.recipe.seed)
            assert sequences.foretold is not None
            self._thinned(name, sequences.foretold)
        examples = model.learn_from(sequences, sampler)
        return self.fit(name, model, Mined(examples, sampler, sequences, apart) if "hard" in sampler.shares else examples, score)

    def _thinned(self, name: str, kept: NDArray[np.bool_]) -> None:
        left, share = int((~kept).sum()), self.recipe.models[name].training["subsample"]
        self.report(f"  recall {name}: {left:,} of {len(kept):,} positives, those of hot items, are left out (subsample = {share:g})")

    def fit(self, name: str, model: Any, examples: Any, score: Score | None = None) -> Any:
        options = {key: value for key, value in self.recipe.models[name].training.items() if key not in DRAWN}
        trainer = build(Trainer, {"seed": self.recipe.seed, **options}, where=f"[models.{name}] training")
        self.fits += 1

        def report(now: Progress) -> None:
            for watcher in self.watch:
                watcher(name, self.fits, now)

        trainer = replace(trainer, report=report if self.watch else None)
        checkpoint = None if self.folder is None else self.folder / f"{self.fits:02d}-{name}.checkpoint"
        fitting = trainer.fit(model, examples, None if score is None else partial(score, model), checkpoint)
        self.curves[name] = {"losses": fitting.losses, "scores": fitting.scores, "best": fitting.best}
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
            ranker = parts.models[name] = self.ranker(name, examples, validation)
            parts.powers = dict(recipe.rank.powers) or choose_powers(ranker, validation, tuple(recipe.tasks))
            shown = " · ".join(f"{task}^{power:g}" for task, power in parts.powers.items())
            self.report(f"  rank {name}: trained in {time.perf_counter() - start:.1f} s, score = {shown}")
        for name, plan in recipe.models.items():
            if plan.teacher:
                start = time.perf_counter()
                teacher = parts.models[plan.teacher]
                parts.models[name] = self.light(name, examples, fused(probabilities(teacher, examples), teacher.tasks, parts.powers))
                self.report(f"  pre-rank {name}: distilled from {plan.teacher} in {time.perf_counter() - start:.1f} s")

    def ranker(self, name: str, examples: Offered, validation: Offered, score: Score | None = None) -> Any:
        """A ranker, fitted; ``score`` in the place of its order of the validation part."""
        ranker = assembly.make(self.recipe, name, self.data.items, self.pipeline)
        rows = examples.pointwise()
        if isinstance(ranker, Forest):
            return ranker.fit(rows, validation.pointwise())
        learnt = rows.by_group() if any(label.grouped for label in self.recipe.labels) else rows
        return self.fit(name, ranker, learnt, score or partial(ordered, validation=validation))

    def light(self, name: str, examples: Offered, scores: NDArray[np.float32], score: Score | None = None) -> Any:
        """A model of vectors, taught to order the examples as these scores do."""
        taught = Distilled(assembly.make(self.recipe, name, self.data.items, self.pipeline))
        self.fit(name, taught, examples.pointwise(teacher=scores).by_group(), score)
        return taught.student.eval()

    def examples(self) -> tuple[Offered, Offered]:
        """What recall, fitted on earlier events only, would have offered at moments of the past, and what came of it.

        The last fold validates. What happened in it is no label of the folds before: an outcome seen in both would be learnt by heart.
        """
        recipe, plan, rows = self.recipe, self.recipe.examples, self.data.train
        start = int(len(rows) * (1 - plan.share))
        places = [start + (len(rows) - start) * k // plan.folds for k in range(plan.folds)]
        bounds = list(dict.fromkeys(int(rows.times[place]) for place in places)) + [int(rows.times[-1]) + 1]
        tasks = {name: (task.signal, task.given) for name, task in recipe.tasks.items()}
        made: list[Offered] = []
        for fold, (begin, end) in enumerate(itertools.pairwise(bounds)):
            last = fold == len(bounds) - 2
            known = rows if last else rows.before(bounds[-2])
            users, moments = self.pages(begin, end) if plan.pages else self.moments(known, begin, end)
            if not len(rows.before(begin)) or not len(users):
                continue
            models = self.recall(rows.before(begin), begin, f"the first {len(rows.before(begin)):,} events (fold {fold + 1} of {plan.folds})")
            funnel = Funnel(Parts(recipe, self.data.items, self.data.users, self.pipeline, models).routes(), strict=True)
            outcomes = Outcomes.of(known, tasks, len(self.data.items), [name for name, task in recipe.tasks.items() if task.kind == "number"])
            made.append(self._offered(funnel, users, moments, outcomes, 0 if last else plan.negatives))
        made = [part for part in made if len(part)]
        if not made:
            raise ValueError(
                "no examples for the ranker: too few users come back in the training events and take something offered; "
                "see share, folds and moments of [examples]"
            )
        return Offered.joined(made[:-1] or made), made[-1]

    def moments(self, known: EventRows, begin: int, end: int) -> tuple[Ints, Ints]:
        """Requests of a fold: at each of ``moments`` points of its time, everybody who had been there before and comes again."""
        plan, taken = self.recipe.examples, known.showing(self.recipe.positive)
        first, last = (int(place) for place in np.searchsorted(known.times, (begin, end)))
        asked: list[Ints] = []
        for place in np.unique(np.linspace(first, last, plan.moments, endpoint=False).astype(int)):
            now = int(known.times[min(place, len(known) - 1)])
            users = np.intersect1d(known.before(now).users, taken.since(now).users)
            asked.append(np.stack((users, np.full(len(users), now, np.int64))))
        return self._some(np.unique(np.concatenate(asked, axis=1), axis=1))

    def pages(self, begin: int, end: int) -> tuple[Ints, Ints]:
        """Requests of a fold that are its pages: a user and a moment at which something was shown."""
        shown = self.data.shown.before(end).since(begin)
        return self._some(np.unique(np.stack((shown.users, shown.times)), axis=1))

    def _some(self, keys: Ints) -> tuple[Ints, Ints]:
        """At most as many of the requests ``[2, R]`` as a fold may have."""
        most = self.recipe.examples.requests
        if keys.shape[1] > most:
            keys = keys[:, np.sort(self.rng.choice(keys.shape[1], most, replace=False))]
        return keys[0], keys[1]

    def _offered(self, funnel: Funnel, users: Ints, moments: Ints, outcomes: Outcomes, negatives: int) -> Offered:
        """``negatives``: how many not-taken candidates are kept for each taken one (0: all)."""
        assert self.pipeline is not None
        parts = []
        for start in range(0, len(users), CHUNK):
            asked, now = users[start : start + CHUNK], moments[start : start + CHUNK]
            context = (self.shown if self.recipe.examples.pages else self.past).context(asked, now)
            request = self.past.request(asked, now, context=context)
            offered = funnel.recall_stage(request)
            if not self.scaled:
                self.scaled = True
                self.pipeline.fit_routes(offered)
            if self.recipe.examples.pages:
                offered = on_pages(request, offered, self.data.shown, len(self.data.items))
            labels = outcomes.labels(request, offered)
            pairs = self.pipeline.encode_pairs(request, offered)
            owner, taken = offered.requests, next(iter(labels.values())) > 0
            count = np.bincount(owner, weights=taken, minlength=len(request))
            # a request that took nothing of what it was not even shown has nothing to teach; a page that was passed over has
            keep = np.ones(len(owner), bool) if self.recipe.examples.pages else (count > 0)[owner]
            kept = None
            if negatives and not self.recipe.examples.pages:
                rate = np.minimum(count * negatives / np.maximum(np.diff(offered.offsets) - count, 1), 1)
                keep &= taken | (self.rng.random(len(taken)) < rate[owner])
                kept = rate.astype(np.float32)[owner[keep]]
            columns = {name: values[keep] for name, values in pairs.items()}
            chosen = {name: values[keep] for name, values in labels.items()}
            parts.append(Offered(self.pipeline, self.pipeline.encode_users(request), columns, chosen, owner[keep], offered.items[keep], kept))
        return Offered.joined(parts)


def on_pages(request: Request, offered: Candidates, shown: EventRows, n_items: int) -> Candidates:
    """What each request's user was shown at its moment, top to bottom, with the columns of ``offered`` (NaN where recall had not brought it)."""
    first, span = int(shown.times[0]), np.int64(shown.times[-1] - shown.times[0] + 1)
    keys = shown.users * span + (shown.times - first)
    order = np.argsort(keys, kind="stable")
    asked = request.users * span + (request.now - first)
    begin, end = (np.searchsorted(keys[order], asked, side=side) for side in ("left", "right"))
    places, offsets = ragged_places(begin, end - begin)
    items = shown.items[order[places]]
    wide = np.int64(n_items)
    mine, theirs = np.repeat(np.arange(len(request)), end - begin) * wide + items, offered.requests * wide + offered.items
    sorted_ = np.argsort(theirs)
    at = sorted_[np.minimum(np.searchsorted(theirs[sorted_], mine), len(theirs) - 1)] if len(theirs) else np.zeros(len(mine), np.int64)
    found = theirs[at] == mine if len(theirs) else np.zeros(len(mine), bool)
    columns = {}
    for name, values in offered.columns.items():
        columns[name] = np.full(len(mine), np.nan, np.float32)
        columns[name][found] = values[at[found]]
    return Candidates(items, np.zeros(len(items), np.float32), offsets, columns)


def probabilities(ranker: Any, rows: Offered) -> NDArray[np.float32]:
    """Each task's probability of each candidate, float32 ``[N, T]``."""
    examples = rows.pointwise()
    ranker.eval()
    with torch.inference_mode():
        found = [ranker.predict(examples.batch(chosen)) for chosen in torch.arange(len(rows)).split(65_536)]
    return torch.cat(found).numpy()


def ordered(ranker: Any, validation: Offered) -> float:
    """NDCG@10 of the order that a ranker's first task gives validation requests: what early stopping looks at."""
    return validation.ndcg(probabilities(ranker, validation)[:, 0])


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
