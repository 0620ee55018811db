"""Search: which options of a recipe's models score best on the training events, and the recipe that results. Test events are never looked at.

What is searched stands in the recipe's table ``[search]``; ``training/tuning.py`` looks, and does not know what it looks at. A trial is a recipe:
the options are written into the text, the text is read, and what it asks for is fitted and scored on the validation part:

a ranker         NDCG@10 of its order of the last fold of ``[examples]``, which early stopping looks at; the best epoch counts
a light model    the same of its own order, after its last epoch
a recall model   fitted on what the recipe's split, used once more on the training events, leaves to learn from: NDCG@10 of what it brings
                 those who were there before and come again, after its last epoch
the whole funnel the same of its final list
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate import catalog
from palate.assembly import Parts
from palate.datasets.interactions import Interactions
from palate.datasets.offered import Offered
from palate.evaluation import offline, plots
from palate.evaluation import report as pages
from palate.evaluation.plots import number
from palate.recipe import Recipe, RecipeError, RoutePlan
from palate.schema import nearest
from palate.state.rows import event_rows
from palate.tables.events import Events
from palate.tables.world import World
from palate.training.trials import Log, Trial
from palate.training.tuning import Choice, Measured, Method, Objective, Options, Plan, Pruning, Range, Search, Space, Tell, best
from palate.training.worker import Worker, free_memory, peak_memory, serve
from palate.wording import put
from palate.workflow import Report, Training, fused, load_world, ordered, past_of, prepare, probabilities, quiet

K = 10  #: length of the lists that are judged
QUESTIONS = 5000  #: asked of a recall model or a funnel, drawn evenly
ROOM = 0.8  #: share of the free memory that trials at once may take
METRIC = f"NDCG@{K} (validation)"


@dataclass(frozen=True)
class Found:
    """All trials, and the text of the recipe with the best one's options."""

    trials: list[Trial]
    best: Trial
    text: str
    facts: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {**self.facts, "metric": METRIC, "best": self.best.to_json(), "trials": [trial.to_json() for trial in self.trials]}


def search(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    model: str = "",
    method: Method = "bayesian",
    trials: int = 0,
    pruning: Pruning = "median",
    jobs: int = 1,
    world: World | None = None,
    report: Report = quiet,
    line: Report = quiet,
) -> Found:
    """Search among what the recipe's ``[search]`` names, of one ``model`` or of all; ``out`` gets the trials, ``best.toml`` and a report.

    A search of the same recipe that was cut short in ``out`` goes on. ``line`` is told of each trial when it ends, ``report`` of what is done.
    RecipeError, ValueError where the search cannot begin or no trial worked.
    """
    folder, out = Path("."), Path(out)
    if not isinstance(recipe, Recipe):
        folder = Path(recipe).resolve().parent
        recipe = Recipe.load(recipe)
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, not {jobs}")
    if world is not None and jobs > 1:
        raise ValueError("several processes read the data by themselves: jobs is for a recipe whose [data] says where they are")
    plan = Plan(space_of(recipe, model), method, trials, pruning, recipe.seed)
    facts = {
        "recipe": recipe.name,
        "text": hashlib.sha256(recipe.text.encode()).hexdigest()[:16],
        "model": model,
        "method": method,
        "pruning": pruning,
        "seed": plan.seed,
        "space": {name: plain(one) for name, one in plan.space.items()},
    }
    began, workers = time.perf_counter(), []
    log = Log(out / "trials.jsonl", facts)

    def alone() -> Objective:
        return objective(recipe, world or load_world(recipe, folder, report), model, report)

    def apart() -> Objective:
        command = [sys.executable, "-m", "palate.search"]
        workers.append(Worker(command, {"text": recipe.text, "folder": str(folder), "model": model}))
        return workers[-1]

    def ended(trial: Trial, leader: Trial | None, left: float) -> None:
        line(told(trial, leader, left, plan.count, model))

    known = len(log.read())
    report(f"{recipe.name}: {plan.count} trials by {method}{f', {known} of them known' if known else ''}")
    try:
        tried = Search(plan, alone if jobs == 1 else apart, log, ended, jobs, ROOM * free_memory()).run()
    finally:
        for worker in workers:
            worker.close()
        log.close()
    leader = best(tried)
    if leader is None:
        why = next((trial.note for trial in tried if trial.note), "there was none")
        raise ValueError(f"no trial of {len(tried)} could be scored; the first one: {why}")
    seconds = round(time.perf_counter() - began, 1)
    found = Found(tried, leader, moved(with_options(recipe.text, leader.options), recipe, folder, out), {**facts, "seconds": seconds})
    (out / "best.toml").write_text(found.text, encoding="utf-8")
    (out / "search.json").write_text(json.dumps(found.to_json(), ensure_ascii=False, indent=1, allow_nan=False), encoding="utf-8")
    pages.write(page(found, recipe, plan), out / "search.html")
    return found


def space_of(recipe: Recipe, model: str = "") -> Space:
    """What is searched: the ranges of ``[search]`` that are of this model, or all."""
    if not recipe.search:
        raise RecipeError('the recipe has no [search]: add the options to look for, such as "models.NAME.dim" = [8, 16, 32]')
    if not model:
        return recipe.search
    if model not in recipe.models:
        raise RecipeError(f"no model in [models] {model!r}{nearest(model, recipe.models)}")
    own = {name: one for name, one in recipe.search.items() if name.split(".")[1] == model}
    if not own:
        named = dict.fromkeys(name.split(".")[1] for name in recipe.search)
        raise RecipeError(f"[search] names no option of {model!r}, only of {', '.join(named)}")
    return own


def with_options(text: str, options: Options) -> str:
    """A recipe's text with these options, by the way to each, in the place of those it has."""
    for name, value in options.items():
        text = put(text, name.split("."), value)
    return text


def moved(text: str, recipe: Recipe, folder: Path, out: Path) -> str:
    """The text as it must be to name the same files from the folder ``out``."""
    for name in ("events", "log", "users", "items"):
        place = getattr(recipe.data, name)
        if place and not Path(place).is_absolute():
            text = put(text, ("data", name), os.path.relpath(folder.resolve() / place, out.resolve()))
    return text


# ── what a trial is scored by ──


def objective(recipe: Recipe, world: World, model: str, report: Report = quiet) -> Objective:
    """Scores options of this model, or of the whole funnel, on the recipe's training events."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    plan = recipe.models.get(model)
    if plan is None or (plan.entry.kind == "recall" and not plan.teacher):
        scored: Callable[[Recipe, Tell], float] = later(recipe, world, model, report)
    else:
        scored = last_fold(recipe, world, model, report)

    def of(options: Options, tell: Tell) -> Measured:
        changed = Recipe.parse(with_options(recipe.text, options), "the recipe with a trial's options")
        return Measured(scored(changed, tell), peak_memory())

    return of


def last_fold(recipe: Recipe, world: World, model: str, report: Report) -> Callable[[Recipe, Tell], float]:
    """A ranker, or a light model under its teacher, by its order of the last fold. Examples, and the teacher, are made once."""
    prepared = prepare(recipe, world)
    training = Training(recipe, replace(prepared, held=Events(prepared.held.frame.head(0))), report)
    if training.pipeline is None or not recipe.tasks:
        raise RecipeError(f"[models.{model}] needs features and tasks: add [[features]] and [tasks]")
    examples, validation = training.examples()
    report(f"  {len(examples):,} examples, {validation.requests:,} requests to validate")
    teacher = recipe.models[model].teacher
    scores = None
    if teacher:
        taught = training.ranker(teacher, examples, validation)
        powers = dict(recipe.rank.powers) if recipe.rank else {}
        scores = fused(probabilities(taught, examples), taught.tasks, powers or {taught.tasks[0]: 1.0})

    def scored(changed: Recipe, tell: Tell) -> float:
        training.recipe = changed
        if scores is not None:
            watched = Last(lambda light: validation.ndcg(vectors(light, validation)), tell)
            training.light(model, examples, scores, watched)
            return watched.score

        def by_epoch(ranker: Any) -> float:
            score = ordered(ranker, validation)
            tell(score)
            return score

        return ordered(training.ranker(model, examples, validation, by_epoch), validation)

    return scored


def later(recipe: Recipe, world: World, model: str, report: Report) -> Callable[[Recipe, Tell], float]:
    """A recall model, or with "" the whole funnel, by the lists it gives for the later part of the training events, fitted on the earlier."""
    options = dict(recipe.split)
    train = catalog.load(options.pop("name"), "split")(world.events, **options).train
    data = prepare(recipe, replace(world, events=train))
    held = event_rows(data.held, data.users, data.items, data.signals, data.context)  # what is new in it nobody can be asked for
    held = held.take((held.signals != 0) & (held.users >= 0) & (held.items >= 0))
    if not data.one_moment:
        held = replace(held, times=np.maximum(held.times, data.cut))
    rows = data.train.joined(held)
    past = past_of(recipe, rows, data.sizes)
    asked = offline.warm(rows, data.cut, (recipe.evaluation.relevant or (recipe.positive,))[0]).sample(QUESTIONS)
    if not len(asked):
        raise ValueError("nobody in the later part of the training events was there before: there is nothing to score a trial by")
    report(f"  {len(data.train):,} events to learn from, {len(asked):,} questions to validate")

    def judged(parts: Parts) -> float:
        return offline.evaluate(parts.funnel(strict=True).recommend, past, asked, (K,)).mean(f"ndcg@{K}")

    if not model:
        return lambda changed, tell: judged(Training(changed, data).run())
    training = Training(recipe, data, report)
    taken = data.train.showing(recipe.positive)
    interactions = Interactions.of(taken, *data.sizes, now=data.cut)
    route = next((one for one in recipe.recall if one.model == model), RoutePlan(model))

    def scored(changed: Recipe, tell: Tell) -> float:
        alone = replace(changed, recall=(replace(route, quota=max(route.quota, K)),), prerank=None, rank=None, rerank=(), fallback="")
        training.recipe = changed
        if changed.models[model].parts:  # a hybrid: what it is made of is fitted before it
            whole = training.fitted(changed.with_parts((model,)), data.train, data.cut, "the earlier events")
            return judged(replace(whole, recipe=alone))

        def listed(fitted: Any) -> float:
            return judged(Parts(alone, data.items, data.users, training.pipeline, {model: fitted}))

        watched = Last(listed, tell)
        fitted = training.route(model, taken, interactions, watched)
        return watched.score if watched.epochs else listed(fitted)

    return scored


class Last:
    """The score after each epoch, of a model whose last epoch is kept: told, and to the trainer each one seems the best."""

    def __init__(self, measure: Callable[[Any], float], tell: Tell) -> None:
        self.measure, self.tell = measure, tell
        self.score, self.epochs = 0.0, 0

    def __call__(self, model: Any) -> float:
        self.score, self.epochs = self.measure(model), self.epochs + 1
        self.tell(self.score)
        return float(self.epochs)


def vectors(light: Any, rows: Offered) -> Any:
    """Scores of all candidates by a model under its teacher, float32 ``[N]``."""
    examples = rows.pointwise()
    with torch.inference_mode():
        return torch.cat([light.scores(examples.batch(chosen)) for chosen in torch.arange(len(rows)).split(65_536)]).numpy()


# ── what is said of it ──


def plain(one: Choice | Range) -> Any:
    """As it stands in a recipe."""
    if isinstance(one, Choice):
        return list(one.values)
    return {"low": one.low, "high": one.high, "log": one.log, "points": one.points}


def short(name: str, model: str) -> str:
    """The way to an option without what all of them begin with."""
    return name.removeprefix(f"models.{model}." if model else "models.")


def written(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def told(trial: Trial, leader: Trial | None, left: float, count: int, model: str) -> str:
    """One line of the table that grows while a search runs."""
    result = number(trial.score, 4) if trial.state == "done" else trial.state
    first = f"best {number(leader.score, 4)} (trial {leader.number + 1})" if leader else "none yet"
    options = ", ".join(f"{short(name, model)} {written(value)}" for name, value in trial.options.items())
    why = f"  [{trial.note}]" if trial.note else ""
    return f"{trial.number + 1:>4} of {count}  {result:>7}  {first:<24} {trial.seconds:7.1f} s  {clock(left):>7} left  {options}{why}"


def rows_of(found: Found, model: str, most: int = 0) -> tuple[list[str], list[list[Any]]]:
    """The trials as a table, best first."""
    place = {"done": 0, "pruned": 1, "failed": 2}
    order = sorted(found.trials, key=lambda trial: (place[trial.state], -(trial.score or 0.0), trial.number))
    names = list(found.best.options)
    rows: list[list[Any]] = [
        [
            str(trial.number + 1),
            number(trial.score, 4),
            trial.state,
            f"{trial.seconds:.1f}",
            *(written(trial.options[name]) for name in names),
            trial.note,
        ]
        for trial in order[: most or None]
    ]
    return ["trial", METRIC, "state", "s", *(short(name, model) for name in names), ""], rows


def page(found: Found, recipe: Recipe, plan: Plan) -> Mapping[str, Any]:
    """The report's part: the best score so far by trial, and the score by each option."""
    model = found.facts["model"]
    done = [trial for trial in found.trials if trial.score is not None]
    running = np.maximum.accumulate(np.array([trial.score for trial in done], np.float64))
    drawn = [
        {
            "name": "best so far",
            "plot": plots.lines(
                [
                    {"name": "best so far", "x": [trial.number + 1 for trial in done], "y": running.tolist()},
                    {"name": "trial", "x": [trial.number + 1 for trial in done], "y": [trial.score for trial in done], "dots": True, "loose": True},
                ],
                "the best score so far, by trial",
                "trial",
                METRIC,
            ),
        }
    ]
    for name, one in plan.space.items():
        label, log = short(name, model), isinstance(one, Range) and one.log
        names = [written(value) for value in one.values] if isinstance(one, Choice) else None
        at = [one.values.index(trial.options[name]) if isinstance(one, Choice) else trial.options[name] for trial in done]
        series = {"name": label, "x": np.log10(at).tolist() if log else at, "y": [trial.score for trial in done], "dots": True, "loose": True}
        series["mark"] = done.index(found.best)
        axis = f"log10 of {label}" if log else label
        drawn.append({"name": label, "plot": plots.lines([series], f"score by {label}", axis, METRIC, names=names)})
    columns, rows = rows_of(found, model)
    counts = {state: sum(trial.state == state for trial in found.trials) for state in ("done", "pruned", "failed")}
    return {
        "title": f"palate: search of {model or 'the funnel'} of {recipe.name}",
        "subtitle": f"{len(found.trials)} trials by {plan.method}: " + ", ".join(f"{count} {state}" for state, count in counts.items()),
        "facts": [
            {"label": METRIC, "value": number(found.best.score, 4), "note": f"trial {found.best.number + 1}"},
            *({"label": short(name, model), "value": written(value), "note": ""} for name, value in found.best.options.items()),
        ],
        "sections": [
            {
                "title": "Trials",
                "how": "One point a trial that ran to its end; the ring marks the best. Chosen as the best of many it is an optimistic figure: "
                "the test part, which no trial has seen, tells what it is worth.",
                "plots": drawn,
                "columns": columns,
                "rows": rows,
            }
        ],
    }


def _made(first: Mapping[str, str]) -> Objective:
    recipe = Recipe.parse(first["text"])
    torch.set_num_threads(recipe.threads or 1)
    return objective(recipe, load_world(recipe, Path(first["folder"])), first["model"])


if __name__ == "__main__":
    serve(_made)
