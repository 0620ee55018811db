"""From tables to what training starts from: the world, catalogues, and events before and after the cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from palate import catalog
from palate.datasets.negatives import Sampler
from palate.features.pipeline import context_columns
from palate.recipe import Recipe
from palate.schema import nearest
from palate.state.catalogue import AVAILABLE, CREATED, Catalogue
from palate.state.own import read_log
from palate.state.past import Past
from palate.state.rows import EventRows, event_rows
from palate.store import Run
from palate.tables.entities import read_entities
from palate.tables.events import Events, read_events
from palate.tables.signals import Signal
from palate.tables.world import World

Report = Callable[[str], None]


def quiet(line: str) -> None:
    """A report that says nothing."""


@dataclass(frozen=True)
class Prepared:
    """Tables by catalogue row. ``train`` are the events models may learn from; ``cut`` ms is the first moment held out.

    ``held`` are the events held out and ``later`` the items born at the cut or after it: both come into the catalogues with ``rest``, once
    the models are fitted. ``one_moment``: every event of ``train`` is before the cut and every held one is not. ``context``: the
    events' columns that features read. Where negatives are made of a user's own items, ``met`` are all events before the cut, also such as show no
    signal, and ``ranked_out`` what recall offered for pages before it and a later stage put far down.
    """

    world: World
    items: Catalogue
    users: Catalogue
    train: EventRows
    cut: int
    held: Events
    later: pl.DataFrame
    born: dict[str, int]
    signals: tuple[Signal, ...]
    shown: EventRows
    one_moment: bool = True
    context: tuple[str, ...] = ()
    met: EventRows | None = None
    ranked_out: EventRows | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.users), len(self.items)

    def rest(self) -> EventRows:
        """The events held out, after giving rows to all that only they and later tables know."""
        names = [name for name in self.later.columns if name not in ("id", CREATED, AVAILABLE)]
        for row in self.later.iter_rows(named=True):
            self.items.add(str(row["id"]), {name: row[name] for name in names if row[name] is not None}, self.born.get(str(row["id"])))
        _add_missing(self.held, self.users, self.items, {})
        return _telling(event_rows(self.held, self.users, self.items, self.signals, self.context))


def load_world(recipe: Recipe, folder: Path, report: Report = quiet) -> World:
    """The recipe's tables; paths in it are relative to ``folder``."""
    data = recipe.data
    if data.source:
        source = catalog.load(data.source, "data")
        options = dict(data.options)
        if "report" in source.__code__.co_varnames[: source.__code__.co_argcount + source.__code__.co_kwonlyargcount]:
            options["report"] = report
        return source(**options)
    tables = {}
    for name in ("users", "items"):
        path = getattr(data, name)
        if path:
            tables[name], told = read_entities(
                folder / path, multi=data.multi if name == "items" else (), separator=data.separator, on_bad=data.on_bad
            )
            report(f"{path}: {told.read:,} {name} read, {told.accepted:,} accepted, {len(told.rejected):,} rejected")
    if data.log:
        place = (folder / data.log).parent
        if (place / "current").is_file():  # the run that the state belongs to
            tables = {**{name: Run(place).frame(f"{name}.parquet") for name in ("users", "items")}, **tables}
        catalogues = {name: Catalogue.of(table, name=name) for name, table in tables.items()}
        world = read_log(folder / data.log, catalogues.get("users"), catalogues.get("items"))
        report(f"{data.log}: {len(world.events):,} events and places of pages")
        return world
    columns = dict(data.columns) or None
    events, told = read_events(folder / data.events, columns=columns, time_unit=data.time_unit, kind=data.kind, on_bad=data.on_bad)
    report(f"{data.events}: {told.read:,} events read, {told.accepted:,} accepted, {len(told.rejected):,} rejected")
    for name in ("users", "items"):
        if name not in tables:
            tables[name] = events.frame.select(id=name[:-1]).unique().sort("id")
    return World(events=events, users=tables["users"], items=tables["items"], name=recipe.name, terms="")


def prepare(recipe: Recipe, world: World, *, holdout: bool = True) -> Prepared:
    """Split, give rows, and map events to them. An item is born at its own date, or at its first event that training may see."""
    everything = world.events.frame
    if not everything.height:
        raise ValueError("there is nothing to train on: the table of events is empty")
    train_events, held, cut, one_moment = world.events, Events(everything.head(0)), int(everything["time"].to_numpy().max()) + 1, True
    if holdout:
        options = dict(recipe.split)
        split = catalog.load(options.pop("name"), "split")(world.events, **options)
        train_events, held = split.train, split.test
        one_moment = split.cut is not None
        cut = split.cut if split.cut is not None else int(train_events.frame["time"].to_numpy().max(initial=-1)) + 1
    born = {str(item): int(first) for item, first in train_events.frame.group_by("item").agg(first=pl.col("time").min()).iter_rows()}
    known, later = world.items, world.items.head(0)
    dated = CREATED if CREATED in known.columns else ""
    if recipe.data.created:
        dated = recipe.data.created
        if recipe.data.created not in known.columns:
            raise ValueError(f"[data] created: the items have no column {recipe.data.created!r}{nearest(recipe.data.created, known.columns)}")
    if dated:
        born.update((str(i), int(t)) for i, t in known.select("id", dated).drop_nulls().iter_rows() if t)
        unborn = (pl.col(dated) >= cut).fill_null(False) & ~pl.col("id").is_in(train_events.frame["item"].unique().to_list())
        known, later = known.filter(~unborn), known.filter(unborn)
    items = Catalogue.of(known, name="items", created={one: born[one] for one in known["id"].cast(pl.String) if one in born})
    users = Catalogue.of(world.users, name="users")
    _add_missing(train_events, users, items, born)
    context = tuple(dict.fromkeys((*context_columns(recipe.features), *recipe.context)))
    met = event_rows(train_events, users, items, recipe.signals, context)
    train = _telling(met)
    if not len(train.showing(recipe.positive)):
        raise ValueError(
            f"there is nothing to train on: of {len(train_events.frame):,} events before the cut none shows the positive signal {recipe.positive!r}"
        )
    shown = event_rows(train_events.of_kinds(recipe.examples.pages), users, items, recipe.signals, context)
    drawn = [Sampler.of(torch.ones(1), plan.training["sampler"]).shares for plan in recipe.models.values() if "sampler" in plan.training]
    fallen = _fallen_out(world, users, items, met.names, cut) if any("ranked_out" in shares for shares in drawn) else None
    return Prepared(
        world, items, users, train, cut, held, later, born, recipe.signals, shown, one_moment, context, met if any(drawn) else None, fallen
    )


def _fallen_out(world: World, users: Catalogue, items: Catalogue, names: tuple[str, ...], cut: int) -> EventRows:
    """What was ranked out of pages before the cut, as events that show nothing."""
    frame = pl.DataFrame(schema={"user": pl.String, "item": pl.String, "time": pl.Int64}) if world.ranked_out is None else world.ranked_out
    frame = frame.filter(pl.col("time") < cut).sort("time", maintain_order=True)
    who, what = users.rows(frame["user"].to_list()), items.rows(frame["item"].to_list())
    return EventRows(who, what, frame["time"].to_numpy(), np.zeros(len(frame), np.uint32), np.full(len(frame), np.nan, np.float32), names)


def _add_missing(events: Events, users: Catalogue, items: Catalogue, born: dict[str, int]) -> None:
    """Rows for those whom only the events name."""
    for catalogue, column in ((items, "item"), (users, "user")):
        for one in events.frame[column].unique(maintain_order=True):
            if catalogue.row(one) < 0:
                catalogue.add(one, created=born.get(one))


def _telling(rows: EventRows) -> EventRows:
    """Without the events that show no signal, such as mere impressions: they are no history, no count and no example."""
    return rows.take(rows.signals != 0)


def past_of(recipe: Recipe, rows: EventRows, sizes: tuple[int, int]) -> Past:
    """What was known at any moment, from these events."""
    state = recipe.state
    return Past(rows, *sizes, windows=state.window_ms, bucket=state.bucket_ms, limit=state.history, audience=state.audience)
