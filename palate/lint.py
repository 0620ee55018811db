"""Lint: what a recipe lets a model see that it cannot know when it is asked, and what that is worth.

Counters, histories and the vocabularies learnt from training events are right by construction. What is left are the ways a table or a recipe can
tell the future: a split that is not in time, a column that was computed over all of time, the target beside the inputs, a vocabulary that was
declared from what came later, and a ranker that learns by heart who is asked for in the test. Each finding says where, why, and the metric
with the leak beside the one without.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from palate.evaluation import offline
from palate.evaluation.metrics.rating import auc
from palate.features.kinds import Static
from palate.features.transforms import number
from palate.features.vocabulary import parts
from palate.recipe import Recipe
from palate.state.catalogue import Catalogue
from palate.state.rows import event_rows
from palate.tables.signals import bits
from palate.tables.world import World
from palate.workflow import Prepared, past_of, prepare, train

FUTURE = 0.5  #: partial rank correlation with what came after the cut from which a column is held to know it
TELLS = 0.98  #: AUC of one column alone from which it is held to be the target
FEWEST = 20  #: rows below which nothing is said of a column

Report = Callable[[str], None]


@dataclass
class Finding:
    """``check`` is the kind of leak, ``where`` the feature or table of the recipe. ``metric`` names ``inflated`` and ``clean``. A ``note`` is no
    leak where the same users come again, but says what the figures do not hold for."""

    check: str
    where: str
    message: str
    level: Literal["leak", "note"] = "leak"
    metric: str = ""
    inflated: float | None = None
    clean: float | None = None


def lint(recipe: Recipe, world: World, *, measure: bool = True, report: Report = lambda line: None) -> list[Finding]:
    """Every leak that is found; ``measure`` trains the recipe with and without each of them (minutes on real data)."""
    prepared = prepare(recipe, world)
    found: list[Finding] = []
    checks: tuple[Callable[[Recipe, Prepared], Iterator[tuple[Finding, Recipe | None]]], ...] = (split, columns, targets, vocabularies, ids, shown)
    whole: float | None = None
    for check in checks:
        for finding, mended in check(recipe, prepared):
            found.append(finding)
            report(f"{finding.check}: {finding.where}: {finding.message}")
            if measure and mended is not None:
                whole = ndcg(recipe, world, report) if whole is None else whole
                finding.metric, finding.inflated, finding.clean = "NDCG@10", whole, ndcg(mended, world, report)
    return found


def ndcg(recipe: Recipe, world: World, report: Report) -> float:
    """The final list's NDCG@10 for those who were there before the cut, of a run trained for this alone."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(recipe, folder, world=world, report=report)
        cut, held = int(run.run.manifest["cut"]), run.rows("test.parquet")
        if not run.run.manifest.get("one_moment", True):
            held = replace(held, times=np.maximum(held.times, cut))
        rows = run.base.joined(held)
        asked = offline.warm(rows, cut, (recipe.evaluation.relevant or (recipe.positive,))[0])
        past = past_of(recipe, rows, (len(run.users), len(run.items)))
        return round(offline.evaluate(run.funnel(strict=True).recommend, past, asked, (10,), system="funnel").mean("ndcg@10"), 4)


def split(recipe: Recipe, prepared: Prepared) -> Iterator[tuple[Finding, Recipe | None]]:
    """Training events after the first held-out one."""
    held = prepared.held.frame["time"].to_numpy()
    if prepared.one_moment or not len(held):
        return
    later = np.sort(prepared.train.times)
    seen = float((len(later) - np.searchsorted(later, held, "right") > 0).mean())
    share = 1 - len(held) / max(len(held) + len(prepared.train), 1)
    message = f"{recipe.split['name']} is no moment in time: of {len(held):,} held-out events {seen:.0%} lie before something that training knows"
    yield Finding("split", "[split]", message), replace(recipe, split={"name": "global_time", "ratio": round(share, 3)})


def columns(recipe: Recipe, prepared: Prepared) -> Iterator[tuple[Finding, Recipe | None]]:
    """A number of a user or an item that says more of what came after the cut than what came before it does."""
    held = event_rows(prepared.held, prepared.users, prepared.items, prepared.signals)
    for feature, values in _statics(recipe, prepared, ("user", "item")):
        numbers = np.array([number(value) for value in values], np.float64)
        side = feature.owner
        for what, before, after in _activity(prepared, held, side, len(values)):
            known = np.isfinite(numbers) & np.isfinite(before) & np.isfinite(after)
            if known.sum() < FEWEST or len(np.unique(numbers[known])) < 3:
                continue
            told = partial_rank_correlation(numbers[known], after[known], before[known])
            whole = abs(_correlation(_ranks(numbers[known]), _ranks((before + after)[known])))
            if abs(told) > FUTURE and whole > 0.8:
                message = (
                    f"{feature.column} knows the {what} after the cut (rank correlation {told:+.2f} beyond what was there before it): "
                    "it was computed over all of time; take a Count or a Rate"
                )
                yield Finding("future", feature.feature_name, message), _without(recipe, feature)
                break


def targets(recipe: Recipe, prepared: Prepared) -> Iterator[tuple[Finding, Recipe | None]]:
    """A column of the events, among the inputs, that alone tells a task's signal."""
    frame = prepared.world.events.frame
    values = frame["value"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    shown = bits(recipe.signals, np.array(frame["kind"].to_list(), np.str_), values)
    names = [signal.name for signal in recipe.signals]
    for task, plan in recipe.tasks.items():
        labels = (shown >> np.uint32(names.index(plan.signal))) & 1
        asked = ((shown >> np.uint32(names.index(plan.given))) & 1 if plan.given else np.ones_like(labels)).astype(bool)
        if asked.sum() < FEWEST or len(np.unique(labels[asked])) < 2:
            continue
        told: dict[str, float] = {}
        for feature in recipe.features:
            if isinstance(feature, Static) and feature.owner == "context" and feature.attribute in frame.columns:
                told[feature.feature_name] = tells(frame[feature.attribute].to_list(), labels, asked)
        for name, value in told.items():
            if value >= TELLS:
                best = max((other for one, other in told.items() if one != name and other < TELLS), default=0.5)
                message = f"it tells the task {task!r} by itself: the target is among the inputs, and will not be there when the ranker is asked"
                yield Finding("target", name, message, "leak", "AUC of one column alone", round(value, 4), round(best, 4)), None


def vocabularies(recipe: Recipe, prepared: Prepared) -> Iterator[tuple[Finding, Recipe | None]]:
    """Values that a recipe declares and that only the held-out part shows."""
    later = {str(one) for one in prepared.later["id"].to_list()}
    fresh = {str(one) for one in prepared.held.frame["user"].unique().to_list() if prepared.users.row(one) < 0}
    for feature in recipe.features:
        declared = getattr(feature, "values", ())
        if not isinstance(feature, Static) or not declared or feature.owner == "context":
            continue
        before = {one for value in _values(feature, prepared) for one in parts(value)}
        if feature.attribute == "id":
            after = later if feature.owner == "item" else fresh
        else:
            table = prepared.later if feature.owner == "item" else prepared.world.users.head(0)
            after = {one for value in (table[feature.attribute].to_list() if feature.attribute in table.columns else []) for one in parts(value)}
        early = [value for value in declared if value in after and value not in before]
        if early:
            message = f"{len(early)} of {len(declared)} declared values are first seen after the cut, such as {early[0]!r}: leave values out"
            mended = tuple(cast(Any, replace)(one, values=()) if one is feature else one for one in recipe.features)
            yield Finding("vocabulary", feature.feature_name, message), replace(recipe, features=mended)


def ids(recipe: Recipe, prepared: Prepared) -> Iterator[tuple[Finding, Recipe | None]]:
    """Users of the test whom the ranker knows by id."""
    if recipe.rank is None:
        return
    plan = recipe.models[recipe.rank.model]
    for feature in recipe.features:
        if not (isinstance(feature, Static) and feature.column == "user.id") or any(fnmatchcase(feature.feature_name, one) for one in plan.without):
            continue
        held = prepared.held.frame["user"].unique().to_list()
        known = {prepared.users.ids[row] for row in np.unique(prepared.train.users).tolist() if row >= 0}
        share = sum(user in known for user in held) / max(len(held), 1)
        if share:
            message = (
                f"the ranker {recipe.rank.model!r} reads who is asked, and {share:.0%} of the test's users are in its training by that id: "
                f'what it scores says little of other users; without = ["{feature.feature_name}"] in [models.{recipe.rank.model}] leaves it out'
            )
            yield Finding("ids", feature.feature_name, message, "note"), _without(recipe, feature)


def shown(recipe: Recipe, prepared: Prepared) -> Iterator[tuple[Finding, Recipe | None]]:
    """Signals that what was merely shown shows: it would count as used."""
    pages = recipe.examples.pages
    for signal in recipe.signals:
        if pages and pages in (signal.kinds or ()):
            yield Finding("shown", f"[signals] {signal.name}", f"events of kind {pages!r} say what was shown; this signal takes them for taken"), None


def partial_rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64], given: NDArray[np.float64]) -> float:
    """Rank correlation of x and y after what ``given`` tells of both (linearly in ranks) is taken out; 0 where nothing is left."""
    ranks = [_ranks(one) for one in (x, y, given)]
    base = np.stack((np.ones(len(x)), ranks[2]), 1)
    rest = [one - base @ np.linalg.lstsq(base, one, rcond=None)[0] for one in ranks[:2]]
    return _correlation(*rest)


def tells(values: list[Any], labels: NDArray[Any], asked: NDArray[np.bool_]) -> float:
    """AUC of one column, in the better direction: numbers as they are, other values by the rate of the label in one half of the rows,
    judged on the other half."""
    numbers = np.array([number(value) for value in values], np.float64)
    known = asked & np.isfinite(numbers)
    if known.sum() > 0.5 * asked.sum():
        found = auc(labels[known], numbers[known]) if len(np.unique(labels[known])) > 1 else 0.5
        return max(found, 1 - found)
    place = np.flatnonzero(asked)
    half = np.arange(len(place)) % 2 == 0
    texts = np.array([str(values[n]) for n in place])
    _, code = np.unique(texts, return_inverse=True)
    first, rest = place[half], place[~half]
    rate = np.bincount(code[half], labels[first], code.max() + 1) + labels[first].mean()
    rate /= np.bincount(code[half], minlength=code.max() + 1) + 1
    return auc(labels[rest], rate[code[~half]]) if len(np.unique(labels[rest])) > 1 else 0.5


def _statics(recipe: Recipe, prepared: Prepared, owners: tuple[str, ...]) -> Iterator[tuple[Static, list[Any]]]:
    for feature in recipe.features:
        if isinstance(feature, Static) and feature.owner in owners and feature.attribute != "id":
            yield feature, _values(feature, prepared)


def _values(feature: Static, prepared: Prepared) -> list[Any]:
    table: Catalogue = prepared.items if feature.owner == "item" else prepared.users
    return list(table.ids) if feature.attribute == "id" else list(table.column(feature.attribute))


def _activity(prepared: Prepared, held: Any, side: str, size: int) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """How often, and how well, each was taken before the cut and after it."""
    sides = [(rows.items if side == "item" else rows.users, rows.values) for rows in (prepared.train, held)]
    counts = [np.bincount(rows[(rows >= 0) & (rows < size)], minlength=size).astype(np.float64) for rows, _ in sides]
    yield "number of events", counts[0], counts[1]
    means = []
    for rows, values in sides:
        known = (rows >= 0) & (rows < size) & np.isfinite(values)
        total = np.bincount(rows[known], values[known], size)
        count = np.bincount(rows[known], minlength=size)
        means.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    yield "mean value", means[0], means[1]


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[place]


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 1e-9 * len(x) else 0.0


def _without(recipe: Recipe, feature: Any) -> Recipe:
    return replace(recipe, features=tuple(one for one in recipe.features if one is not feature))
