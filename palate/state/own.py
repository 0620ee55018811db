"""The state's own log as a world to train on: what users did, and the pages they were shown.

Each place of a page becomes an event of kind "impression" at the page's moment, with ``request_id``, ``position`` and ``propensity``; what
users did refers to the same ``request_id``. An event that names the page of another user counts as one without a page. What was shown
and passed over is no positive (no signal of a recipe need name it) and no negative for recall either: signals decide what an event means.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from palate.state.catalogue import Catalogue
from palate.state.embedded import Embedded
from palate.state.frames import EVENTS, context_column, events_frame, pages_frame
from palate.state.log import StateError
from palate.state.rebuild import identity, replay_entities
from palate.tables.events import Events
from palate.tables.world import World

IMPRESSION = "impression"
SHOWN = ("position", "propensity")  #: columns of impressions alone
TERMS = "this service's own log"


def world_of(state: Embedded) -> World:
    """The log of an open state as a world. Its tables are the state's catalogues: all users and items, with their attributes of now."""
    events, last = state.events_frame(), state.sequence
    events = events.filter(pl.col("sequence") <= last)  # what came in between belongs to the next training
    return _world(events, state.pages_frame(), state.users, state.items, state.identity, last)


def read_log(folder: str | Path, users: Catalogue | None = None, items: Catalogue | None = None) -> World:
    """The log in a state's folder as a world, whether or not a service has it open. ``users`` and ``items`` are those the service started
    with; what the log knows of others and of changes is added to them. StateError says what is wrong."""
    path = Path(folder) / "log.sqlite"
    if not path.is_file() or path.is_symlink():
        raise StateError(f"{path}: no log here; name the folder that the service keeps its state in (RUN/state where it was not told otherwise)")
    users, items = users or Catalogue("users"), items or Catalogue("items")
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("BEGIN")  # one moment for everything that is read
            replay_entities(connection, "users", users)
            replay_entities(connection, "items", items)
            secret = connection.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()
            events, pages = events_frame(connection), pages_frame(connection)
            last = connection.execute("SELECT coalesce(max(sequence), 0) FROM events").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StateError(f"{path}: cannot be read as a log ({error})") from error
    return _world(events, pages, users, items, identity(secret[0]) if secret else "", last)


def _world(events: pl.DataFrame, pages: pl.DataFrame, users: Catalogue, items: Catalogue, log: str, last: int) -> World:
    shown, told = impressions(pages)
    owners = dict(shown.select("request_id", "user").iter_rows())
    own_page = [one if owners.get(one, user) == user else None for one, user in events.select("request_id", "user").iter_rows()]
    events = events.with_columns(request_id=pl.Series(own_page, dtype=pl.String))
    given = dict(zip(shown["request_id"].to_list(), told, strict=True))
    asked = [given.get(one, {}) for one in own_page]
    frame = pl.concat([shown, events.drop("sequence", *SHOWN, "scene", strict=False)], how="diagonal")
    for name in dict.fromkeys(["scene", *(name for context in told for name in context)]):
        own = events[name].to_list() if name in events.columns and name != "scene" else [None] * len(events)
        named = [context.get(name) if mine is None else mine for mine, context in zip(own, asked, strict=True)]
        frame = frame.with_columns(context_column(name, [context.get(name) for context in told] + named))
    # A log of an older release may hold an id of blanks, a table does not: such a row is left out, or no training would ever begin again.
    made, _ = Events.of(frame.sort("time", maintain_order=True), time_unit="ms", on_bad="skip", name="the log")
    known = users.frame().filter(pl.col("id") != "")  # users who were forgotten have a row, but no name
    return World(made, known, items.frame(), "log", TERMS, log={log: last}, ranked_out=ranked_out(pages))


def ranked_out(pages: pl.DataFrame) -> pl.DataFrame:
    """``user item time`` of what pages of known users list as ranked out: offered by recall and put far down by a later stage."""
    found: list[tuple[str, str, int]] = []
    for user, now, text in (
        pages.filter(pl.col("user").is_not_null() & pl.col("page").str.contains('"ranked_out"', literal=True))
        .select("user", "now", "page")
        .iter_rows()
    ):
        found += [(user, item, now) for item in json.loads(text).get("ranked_out", ())]
    return pl.DataFrame(found, schema={"user": pl.String, "item": pl.String, "time": pl.Int64}, orient="row")


def impressions(pages: pl.DataFrame) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """One row for each item that a known user was shown, in the order of the pages; and what the row's request told of its context.

    The rows have no event_id: whichever was made up here, a client may have given it to an event of its own.
    """
    found: list[tuple[Any, ...]] = []
    told: list[dict[str, Any]] = []
    for request_id, user, now, items, text in pages.select("request_id", "user", "now", "items", "page").iter_rows():
        if user is None:
            continue
        page = json.loads(text)
        given = (page.get("given") or {}).get("context") or {}
        context = {"scene": page.get("scene", "")} | {name: value for name, value in given.items() if name not in EVENTS and name not in SHOWN}
        chances = page.get("propensities") or [None] * len(items)
        for position, (item, chance) in enumerate(zip(items, chances, strict=True)):
            found.append((user, item, now, IMPRESSION, request_id, position, chance))
            told.append(context)
    names = ("user", "item", "time", "kind", "request_id", *SHOWN)
    types = (pl.String, pl.String, pl.Int64, pl.String, pl.String, pl.Int64, pl.Float64)
    frame = pl.DataFrame(found, schema=dict(zip(names, types, strict=True)), orient="row").with_columns(value=pl.lit(None, pl.Float32))
    return frame, told
