"""A run measured on what was held out, and its report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from palate.assembly import OpenRun, open_run
from palate.candidates import Ragged
from palate.evaluation import offline, stages
from palate.evaluation import report as pages
from palate.funnel.funnel import Trace
from palate.state.catalogue import Catalogue
from palate.workflow.prepared import Report, past_of, quiet

BY_USER = "no moment parts training from test: models may know others' later events; everybody is asked after the last event learnt from"
NEW_USERS = "nothing was learnt from those who are held out: each is asked after the first four fifths of what they did"


def evaluate(run: OpenRun | str | Path, *, report: Report | None = None, rolling: int = 2000) -> dict[str, Any]:
    """Measure a run on what was held out, by three protocols after the cut; kept beside the run for ``write_report``.

    (b) warm users with their history fixed at the cut: judges the funnel, stage by stage. (a) rolling: models frozen, state moving on, at most
    ``rolling`` moments drawn evenly (0: all). (c) cold users and cold items. The answer is plain JSON: the form that the report draws.
    """
    say = report or quiet
    if not isinstance(run, OpenRun):
        run = open_run(run)
    recipe, cut, held = run.recipe, int(run.run.manifest["cut"]), run.rows("test.parquet")
    if not len(held):
        raise ValueError("this run was trained on all events: nothing is held out to measure it on (train without --all)")
    one_moment = run.run.manifest.get("one_moment", True)
    strangers = not one_moment and not np.isin(held.users, run.base.users).any()  # each is asked after the first part of what they did
    seen = held
    if not one_moment:  # the split is by user: what was held out counts as happening at the cut, when everybody is asked
        held = replace(held, times=np.maximum(held.times, cut))
    rows = run.base.joined(held)
    sizes = (len(run.users), len(run.items))
    past = past_of(recipe, run.base if strangers else rows, sizes)
    funnel = run.funnel(strict=True)
    taken = run.base.showing(recipe.positive)
    takers = np.bincount(taken.items[taken.items >= 0], minlength=sizes[1])
    lists = stages.Lists(sizes[1], takers, sizes[0], _sets(run.items))
    quotas = {route.model: route.quota for route in recipe.recall}
    tasks = {name: (task.signal, task.given) for name, task in recipe.tasks.items() if task.kind == "binary"} if recipe.rank else {}
    relevant = recipe.evaluation.relevant or (recipe.positive,)
    measured = []
    for signal in relevant:
        asked = offline.fold_in(seen, signal) if strangers else offline.warm(rows, cut, signal)
        say(f"{asked.name}: {len(asked):,} who show {signal!r} later")
        observe = stages.observer(funnel.recommend, Trace, rank=funnel.rank)
        found = stages.measure(observe, past, asked, quotas, recipe.evaluation.k, tasks=tasks, lists=lists)
        measured.append({**found.figures(recipe.evaluation.samples), "signal": signal})
    protocols = []
    questions = (
        {}
        if not one_moment
        else {
            "rolling": offline.rolling(rows, cut, relevant[0], most=rolling),
            "cold users": offline.cold_users(rows, cut, relevant[0]),
            "cold items": offline.cold_items(rows, cut, relevant[0], n_items=sizes[1]),
        }
    )
    for name, asked in questions.items():
        say(f"{name}: {len(asked):,} questions")
        if len(asked):
            protocols.append(offline.evaluate(funnel.recommend, past, asked, recipe.evaluation.k, system="funnel").figures())
    curves = run.run.json("curves.json")
    by_user = NEW_USERS if strangers else BY_USER
    split = f"{len(held):,} later ones held out" if one_moment else f"{len(held):,} held out by {recipe.split['name']} ({by_user})"
    results = {
        "title": f"palate: {recipe.name}",
        "subtitle": f"run {run.run.version}: {len(run.base):,} events learnt from, {split}",
        "facts": [
            {"label": "users", "value": f"{sizes[0]:,}", "note": ""},
            {"label": "items", "value": f"{sizes[1]:,}", "note": ""},
            {"label": "trained in", "value": f"{run.run.manifest['seconds']} s", "note": ""},
        ],
        "funnel": measured[0],
        "also": measured[1:],
        "protocols": protocols,
        "training": [
            {"name": n, "loss": c["losses"], "score": c["scores"], "score_name": "NDCG@10 (validation)", "best": c.get("best")}
            for n, c in curves.items()
        ],
        "terms": run.run.manifest.get("terms", ""),
    }
    (run.folder / f"evaluation-{run.run.version}.json").write_text(json.dumps(results, ensure_ascii=False), encoding="utf-8")
    return results


def write_report(run: OpenRun | str | Path, path: str | Path, *, more: dict[str, Any] | None = None, report: Report | None = None) -> Path:
    """The last evaluation of a run (made now where there is none) as one self-contained HTML page; ``more`` adds parts, such as latency."""
    if not isinstance(run, OpenRun):
        run = open_run(run)
    kept = run.folder / f"evaluation-{run.run.version}.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else evaluate(run, report=report)
    return pages.write({**results, **(more or {})}, path)


def _sets(items: Catalogue) -> Ragged | None:
    """Each item's values of the first attribute that holds several, as numbers: what diversity compares."""
    for name in items.attribute_names:
        column = items.column(name)
        if any(isinstance(values, list) for values in column):
            numbers = {value: n for n, value in enumerate(items.values(name))}
            return Ragged.of([sorted(numbers[value] for value in values or ()) for values in column])
    return None
