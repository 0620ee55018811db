"""Embedded: the live state in this process. Arrays in memory answer; the log on disk is the truth they are made from."""

from __future__ import annotations

import gc
import json
import math
import secrets
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars
from numpy.typing import NDArray

from palate.candidates import DAY, Histories, Ints, Ragged, Request
from palate.state.catalogue import Catalogue, id_fault, unfit
from palate.state.check import Fault, Outcome, SoundEvent, check, dead_letter
from palate.state.consumed import Consumed
from palate.state.frames import events_frame, pages_frame
from palate.state.history import LiveHistory
from palate.state.interface import BornBefore, Forgotten
from palate.state.leftovers import Left
from palate.state.live import CountsAsOf, LiveCounts, digest, key_of
from palate.state.log import Log, StateCorrupt
from palate.state.rebuild import Logged, event_crcs, hashed, identity, page_crc, read_events, read_pages, replay_entities
from palate.state.rows import EventRows
from palate.state.seen import WINDOW, ExactSeen, SeenBy, SeenFilter, seen_filter
from palate.tables.signals import Signal, bits

DEAD_LETTERS = 10_000  #: the latest that are kept
NEW = "INSERT OR IGNORE INTO entities (side, id, fresh, created) VALUES (?, ?, 1, ?)"  #: an id that had no row yet
FORGOTTEN = "the user was forgotten after this event"
MOST_PAGE = 1_048_576  #: characters of a page as JSON


def wall_clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Embedded:
    """The state of one process, under ``folder`` (None: in memory only, gone at the end).

    ``base``: events from before the log, those a run was trained on; ``base_sequence``: the last event of this log that ``base`` holds
    already, or such numbers by ``identity`` of the log.

    New users and items get a row at once; with ``strict`` an event of an unknown one is rejected. ``seen`` names the filter of
    shown items (``seen.seen_filter``) and ``seen_options`` its options. ``repeat``: what a user had before may be offered again.

    ``audience``: how many of an item's last events are kept (0: none). ``former``: how many items of a user that pages ranked and did not show (ids
    that a page lists as ``former``) are kept.

    Memory: 64 x ``history_limit`` bytes a user and 64 x ``audience`` bytes an item at most, 4 bytes a (user, item) pair that occurs, the
    counts (``live.LiveCounts``), the filter, and ``base`` itself. StateError where the folder is in use or damaged.
    """

    def __init__(
        self,
        folder: Path | str | None,
        users: Catalogue,
        items: Catalogue,
        signals: tuple[Signal, ...] = (),
        windows: tuple[int, ...] = (),
        bucket: int = DAY,
        base: EventRows | None = None,
        *,
        base_sequence: int | Mapping[str, int] = 0,
        history_limit: int = 200,
        audience: int = 0,
        former: int = 0,
        seen: Literal["exact", "bloom", "counting"] = "exact",
        seen_window: int = WINDOW,
        seen_options: Mapping[str, Any] | None = None,
        repeat: bool = False,
        strict: bool = False,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self.folder = Path(folder) if folder is not None else None
        self.users, self.items, self.signals = users, items, tuple(signals)
        self._base, self._base_sequence, self._base_of = base, 0, base_sequence
        self._repeat, self._strict, self._clock = repeat, strict, clock
        self._lock = threading.Lock()  # of all that is in memory: held for microseconds
        self._counts = LiveCounts(tuple(signal.name for signal in signals), windows, bucket, len(users), len(items), audience)
        self._history = LiveHistory(history_limit)
        self._consumed = Consumed()
        self._left = Left(former)
        self._seen: SeenFilter = seen_filter(seen, seen_window, **(seen_options or {}))
        self._sequence = 0
        self._last_key = 0
        self._bits: dict[tuple[str, float | None], int] = {}
        self._tombstones: dict[bytes, int] = {}
        self._log = Log(self.folder)
        collecting = gc.isenabled()
        try:
            gc.disable()  # a million fresh tuples, none of them garbage
            self._rebuild()
        except BaseException:
            self._log.close()
            raise
        finally:
            if collecting:
                gc.enable()

    @property
    def identity(self) -> str:
        """Tells this log from every other; says nothing of what is in it."""
        return identity(self._secret)

    # ---- events

    @property
    def former(self) -> int:
        """How many items of a user that were ranked and not shown are kept."""
        return self._left.kept

    @property
    def sequence(self) -> int:
        """Number of the last event applied (``as_of``)."""
        return self._sequence

    def append(self, events: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Checks the events, makes the sound ones durable and applies them; one outcome each, in order.

        The same ``event_id`` again is a ``duplicate`` and changes nothing. Unsound ones are rejected with a reason and kept as dead
        letters; the rest lands. StorageFull: nothing was kept.
        """
        now = self._clock()
        checked = [check(event, now, uuid.uuid4().hex) for event in events]
        if self._strict:
            checked = [one if isinstance(one, Fault) else self._known(one) for one in checked]
        letters = [(one, event) for one, event in zip(checked, events, strict=True) if isinstance(one, Fault)]
        sound = [one for one in checked if isinstance(one, SoundEvent)]
        if not checked:
            return []
        written = iter(self._log.submit(lambda c: self._write(c, sound, letters, now), lambda found: self._apply(found, now)).wait())
        return [Outcome("rejected", "", one.reason, one.field) if isinstance(one, Fault) else next(written)[0] for one in checked]

    def _known(self, event: SoundEvent) -> SoundEvent | Fault:
        for name, catalogue in (("item", self.items), ("user", self.users)):
            if getattr(event, name) not in catalogue:
                return Fault(name, f"{name} is not known")
        return event

    def _write(
        self, connection: sqlite3.Connection, sound: list[SoundEvent], letters: list[tuple[Fault, Any]], now: int
    ) -> list[tuple[Outcome, SoundEvent, int]]:
        """Inside the writer's transaction: what became of each event, and its key."""
        written = []
        insert = connection.cursor()
        last = max(self._sequence, insert.execute("SELECT max(sequence) FROM events").fetchone()[0] or 0)
        for event in sound:
            key = self._next_key() if event.derived else key_of(event.event_id)
            if self._tombstones and event.time <= self._tombstones.get(hashed(self._secret, event.user), -1):
                written.append((Outcome("rejected", event.event_id, FORGOTTEN, "user"), event, key))  # and nothing of it is kept
                continue
            value = None if event.value is None else float(np.float32(event.value))
            record = (event.event_id, event.user, event.item, event.time, event.kind, value, event.request_id, event.context, key)
            insert.execute("INSERT OR IGNORE INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?)", (last + 1, *record, event_crcs([record])[0]))
            if insert.rowcount != 1:
                written.append((Outcome("duplicate", event.event_id), event, key))
                continue
            last += 1
            written.append((Outcome("accepted", event.event_id, sequence=last), event, key))
            if event.user not in self.users:
                insert.execute(NEW, ("users", event.user, now))
            if event.item not in self.items:
                insert.execute(NEW, ("items", event.item, now))
        for fault, letter in letters:
            user = letter.get("user") if isinstance(letter, Mapping) else None
            content = (now, fault.field, fault.reason, None if id_fault(user) else user, dead_letter(letter))
            insert.execute("INSERT INTO dead_letters (time, field, reason, user, body) VALUES (?,?,?,?,?)", content)
            insert.execute("DELETE FROM dead_letters WHERE number <= ?", ((insert.lastrowid or 0) - DEAD_LETTERS,))
        return written

    def _next_key(self) -> int:
        """Events without an id of their own keep the order they came in."""
        self._last_key = max(self._last_key + 1, time.time_ns())
        return self._last_key

    def _signals(self, kind: str, value: float | None) -> int:
        found = self._bits.get((kind, value))
        if found is None:
            one = np.array([np.nan if value is None else value], np.float32)
            found = int(bits(self.signals, np.array([kind]), one)[0])
            if len(self._bits) >= 4096:
                self._bits.clear()
            self._bits[kind, value] = found
        return found

    def _apply(self, written: list[tuple[Outcome, SoundEvent, int]], now: int) -> None:
        """In the writer's thread, after the commit, in the log's order."""
        for outcome, event, key in written:
            if outcome.status != "accepted":
                continue
            user, item = self.users.row(event.user), self.items.row(event.item)
            user = user if user >= 0 else self.users.add(event.user, created=now)
            item = item if item >= 0 else self.items.add(event.item, created=now)
            shown = self._signals(event.kind, event.value)
            if not shown and self.signals:  # kept in the log, but it tells nothing that the recipe asks for
                with self._lock:
                    self._sequence = self._counts.sequence = outcome.sequence
                continue
            with self._lock:
                self._history.add(user, item, event.time, shown, math.nan if event.value is None else event.value, key)
                self._counts.add(user, item, event.time, shown, outcome.sequence, key)
                self._consumed.add(user, item)
                self._sequence = outcome.sequence

    # ---- asking

    def request(
        self,
        users: Sequence[str | None],
        *,
        history: Sequence[Sequence[Any] | None] | None = None,
        attributes: Mapping[str, Sequence[Any]] | None = None,
        context: Mapping[str, Sequence[Any]] | None = None,
        scene: str = "",
        now: int | None = None,
        exclude: Sequence[Sequence[str]] | None = None,
        **fields: Any,
    ) -> Request:
        """What is known of ``users`` (ids; None: nobody) now, that is later than every event applied: an earlier ``now`` is moved there.

        ``history`` gives, for each user, item ids oldest first (or None: what is known); ids not known are left out, the rest count as
        showing every signal. ``exclude`` of the request: what the user had (unless ``repeat``), what was shown (exact filter; with
        another one ask ``parameters["seen"]``, one ``SeenBy`` a user), the given history, and the ids given here. Other ``fields`` go
        to the request as they are.
        """
        size = len(users)
        for name, given in (("history", history), ("exclude", exclude), *(attributes or {}).items(), *(context or {}).items()):
            if given is not None and len(given) != size:
                raise ValueError(f"{name!r} has {len(given)} entries for {size} users")
        find = self.users.row
        rows = [find(user) if user is not None else -1 for user in users]
        gone: list[Ints] = []
        with self._lock:
            moment = max(self._clock() if now is None else now, self._counts.latest + 1)
            as_of = self._sequence
            histories = self._history.histories(rows)
            for row in rows:
                used = self._consumed.of(row) if not self._repeat else _NONE
                if row >= 0 and isinstance(self._seen, ExactSeen):
                    shown = self._seen.shown(row, moment)
                    used = np.concatenate([used, shown]) if len(shown) else used
                gone.append(used)
            former = self._left.of(rows) if self._left.kept else None
        if history is not None:
            histories = self._given(histories, history, moment)
            gone = [np.concatenate([used, histories.items[histories.offsets[b] : histories.offsets[b + 1]]]) for b, used in enumerate(gone)]
        if exclude is not None:
            gone = [np.concatenate([used, self.items.rows(ids)]) for used, ids in zip(gone, exclude, strict=True)]
        if not isinstance(self._seen, ExactSeen):
            seen = tuple(SeenBy(self._seen, row, moment, self._lock) for row in rows)
            fields["parameters"] = {**fields.get("parameters", {}), "seen": seen}
        excluded = Ragged(gone[0], np.array((0, len(gone[0])), np.int64)) if size == 1 else Ragged.of(gone)
        return Request(
            np.array(rows, np.int64),
            histories,
            np.full(size, moment, np.int64),
            attributes or {},
            context or {},
            scene,
            exclude=excluded,
            counts=CountsAsOf(self._counts, self._lock, as_of),
            former=former,
            as_of=as_of,
            **fields,
        )

    def _given(self, known: Histories, given: Sequence[Sequence[Any] | None], now: int) -> Histories:
        """Histories given in the call take the place of those known."""
        parts = []
        for b, ids in enumerate(given):
            part = slice(int(known.offsets[b]), int(known.offsets[b + 1]))
            if ids is None:
                parts.append((known.items[part], known.times[part], known.signals[part], known.values[part]))
                continue
            rows = self.items.rows(ids)
            rows = rows[rows >= 0]
            everything = np.full(len(rows), (1 << len(self.signals)) - 1, np.uint32)
            parts.append((rows, now - np.arange(len(rows), 0, -1), everything, np.full(len(rows), np.nan, np.float32)))
        offsets = Ragged.of([part[0] for part in parts]).offsets
        items, times, signals, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Histories(items, times, signals, values, offsets)

    # ---- shown items and pages

    def show(self, user: str | int, items: Sequence[str] | Ints, now: int | None = None) -> None:
        """Marks items (ids or rows) as shown. It is the logged page that makes this last beyond a restart."""
        row = self._user_row(user)
        if row < 0 and isinstance(user, str):
            row = self.put_user(user)
        rows = items if isinstance(items, np.ndarray) else self.items.rows(items)
        with self._lock:
            self._seen.show(row, rows, max(self._clock() if now is None else now, 0))

    def seen(self, user: str | int, now: int | None = None) -> SeenBy:
        """What the user (id or row) was shown, at ``now``: ``.contains(items [N]) -> bool [N]``."""
        return SeenBy(self._seen, self._user_row(user), self._clock() if now is None else now, self._lock)

    def _user_row(self, user: str | int) -> int:
        return self.users.row(user) if isinstance(user, str) else int(user)

    def save_page(self, page: Mapping[str, Any]) -> bool:
        """Keeps a served page; False if there is one with its ``request_id`` already, which stays. What is on it is marked as shown.

        ``page``: JSON with ``request_id``; ``user`` (id or None), ``now`` (or ``time``, ms), ``as_of`` and ``items`` (ids) where there
        are any. ValueError where it cannot be kept, StorageFull where the disk is full.
        """
        return self.save_pages([page])[0]

    def save_pages(self, pages: Sequence[Mapping[str, Any]]) -> list[bool]:
        """``save_page`` for pages that were made together, in one commit: all are on disk when this returns, or none."""
        steps = [self._page_steps(page) for page in pages]

        def work(connection: sqlite3.Connection) -> list[bool]:
            return [write(connection) for write, _ in steps]

        def after(kept: list[bool]) -> None:
            for (_, mark), one in zip(steps, kept, strict=True):
                mark(one)

        return self._log.do(work, after)

    def _page_steps(self, page: Mapping[str, Any]) -> tuple[Callable[[sqlite3.Connection], bool], Callable[[bool], None]]:
        """What writes a page, and what marks it as shown once that is on disk."""
        request_id, user = page.get("request_id"), page.get("user")
        for name, one in (("request_id", request_id), ("user", user)):
            if (name == "request_id" or one is not None) and (fault := id_fault(one)):
                raise ValueError(f"{name} of a page {fault}")
        moment = page.get("now", page.get("time"))
        moment = self._clock() if moment is None else int(moment)
        ids = [one if isinstance(one, str) else one["item"] for one in page.get("items", ())]
        text = json.dumps(page, allow_nan=False, default=_plain)
        if len(text) > MOST_PAGE:
            raise ValueError(f"a page of {len(text)} characters is too long: at most {MOST_PAGE}")
        listed = json.dumps(ids)
        record = (request_id, user, moment, int(page.get("as_of", 0)), listed, text, page_crc(str(request_id), user, moment, listed, text))

        def work(connection: sqlite3.Connection) -> bool:
            kept = connection.execute("INSERT OR IGNORE INTO pages VALUES (NULL,?,?,?,?,?,?,?)", record).rowcount == 1
            if kept and user is not None and user not in self.users:
                connection.execute(NEW, ("users", user, moment))
            return kept

        def after(kept: bool) -> None:
            if kept and user is not None:
                row = self.users.row(user)
                row = row if row >= 0 else self.users.add(user, created=moment)
                shown, left = self.items.rows(ids), self.items.rows(page.get("former", ()))
                with self._lock:
                    self._seen.show(row, shown, moment)
                    self._left.add(row, left, shown, moment)

        return work, after

    def page(self, request_id: str) -> dict[str, Any] | None:
        """The page kept under ``request_id``, or None."""
        with self._log.reading() as connection:
            found = connection.execute("SELECT page, user, now, items, crc FROM pages WHERE request_id = ?", (request_id,)).fetchone()
        if found is None:
            return None
        text, user, now, items, crc = found
        if page_crc(request_id, user, now, items, text) != crc:
            raise StateCorrupt(f"{self._log.path}: page {request_id!r} was altered on disk")
        page: dict[str, Any] = json.loads(text)
        return page

    # ---- users and items

    def put_item(self, id: str, attributes: Mapping[str, Any] | None = None, *, created: int | None = None, available: bool | None = None) -> int:
        """Adds an item or changes the named attributes of one, durably; its row. ValueError names what cannot be kept.

        ``created``: when a new item came to be (ms; now where left out). BornBefore where the item is known and has another date.
        """
        return self._put(self.items, "items", id, attributes or {}, created, available)

    def put_user(self, id: str, attributes: Mapping[str, Any] | None = None) -> int:
        """Adds a user or changes the named attributes of one, durably; the row. ValueError names what cannot be kept."""
        return self._put(self.users, "users", id, attributes or {}, None, None)

    def withdraw(self, item: str, available: bool = False) -> None:
        """The item is not to be offered any more (or, with ``available=True``, again). KeyError for one that is not known."""
        if item not in self.items:
            raise KeyError(f"there is no item {item!r}")
        self._put(self.items, "items", item, {}, None, available)

    def _put(self, catalogue: Catalogue, side: str, id: str, given: Mapping[str, Any], created: int | None, available: bool | None) -> int:
        if fault := id_fault(id):
            raise ValueError(f"id of {catalogue.name}: {id!r:.80} {fault}")
        clean = catalogue.checked(given)
        now = self._clock() if created is None else created

        def work(connection: sqlite3.Connection) -> int:
            old = connection.execute("SELECT attributes, available, created FROM entities WHERE side = ? AND id = ?", (side, id)).fetchone()
            row = catalogue.row(id)
            moment = int(catalogue.created[row]) if row >= 0 else old[2] if old else now
            if created not in (None, moment):
                since = f"came to be at {moment}" if moment else "has no date of its own"
                raise BornBefore(f"created: {id!r:.80} is known and {since}, which does not change; leave created out")
            merged = json.dumps({**(json.loads(old[0]) if old and old[0] else {}), **clean}, allow_nan=False)
            open_ = int((bool(old[1]) if old else True) if available is None else available)
            if old:
                connection.execute("UPDATE entities SET attributes = ?, available = ? WHERE side = ? AND id = ?", (merged, open_, side, id))
            else:
                record = (side, id, int(id not in catalogue), moment, merged, open_)
                connection.execute("INSERT INTO entities (side, id, fresh, created, attributes, available) VALUES (?,?,?,?,?,?)", record)
            return moment

        def after(moment: int) -> None:
            row = catalogue.add(id, clean, moment)
            if available is not None and bool(catalogue.available[row]) != available:
                catalogue.withdraw(row, available)

        self._log.submit(work, after).wait()
        return catalogue.row(id)

    def forget(self, user: str) -> Forgotten:
        """Erases all of a user: events, pages, dead letters, attributes, history, counts, shown items; and what the user's events
        had added to the counts of items. A keyed hash stays, so that events from before are not taken again.

        After it returns no byte of the id is in the folder. Takes as long as writing the log's file anew.
        """
        if fault := unfit(user):
            raise ValueError(f"id of users: {user!r:.80} {fault}")
        mark = hashed(self._secret, user)
        at = max(self._clock(), self._counts.latest)
        quoted = json.dumps(user)

        def work(connection: sqlite3.Connection) -> tuple[Forgotten, list[tuple[int, int, int]], Logged | None]:
            row = self.users.row(user)
            mine = connection.execute(
                "SELECT item, time, kind, value FROM events WHERE user = ? AND sequence > ?", (user, self._base_sequence)
            ).fetchall()
            undo = [(self.items.row(item), moment, self._signals(kind, value)) for item, moment, kind, value in mine]
            events = connection.execute("DELETE FROM events WHERE user = ?", (user,)).rowcount
            pages = connection.execute("DELETE FROM pages WHERE user = ?", (user,)).rowcount
            letters = connection.execute("DELETE FROM dead_letters WHERE user = ? OR instr(body, ?) > 0", (user, quoted)).rowcount
            connection.execute("UPDATE entities SET id = NULL, attributes = NULL WHERE side = 'users' AND id = ?", (user,))
            connection.execute("INSERT INTO tombstones VALUES (?,?) ON CONFLICT DO UPDATE SET at = excluded.at", (mark, at))
            trained = row >= 0 and self._base is not None and bool((self._base.users == row).any())
            left = None
            if self._counts.kept:  # an audience that loses its last is filled up with earlier ones
                left = read_events(connection, self._base_sequence, self.users, self.items, self.signals, self._log.path)
            return Forgotten(known=row >= 0 or letters > 0, trained=trained, events=events, pages=pages, dead_letters=letters), undo, left

        def after(found: tuple[Forgotten, list[tuple[int, int, int]], Logged | None]) -> None:
            self._tombstones[mark] = at
            row = self.users.row(user)
            if row < 0:
                return
            with self._lock:
                for item, moment, shown in found[1]:
                    if shown or not self.signals:
                        self._counts.remove(item, moment, shown)
                gone: list[int] = []
                if self._base is not None and found[0]["trained"]:
                    mine = self._base.take(self._base.users == row)
                    gone = mine.items.tolist()
                    for item, moment, shown in zip(mine.items.tolist(), mine.times.tolist(), mine.signals.tolist(), strict=True):
                        self._counts.remove(item, moment, shown)
                    self._base = replace(self._base, users=np.where(self._base.users == row, -1, self._base.users))
                for part in (self._counts, self._history, self._consumed, self._seen, self._left):
                    part.forget(row)
                if found[2] is not None:
                    users, items, times, signals, _, keys = self._events(found[2])
                    touched = np.unique(np.array([item for item, _, _ in found[1]] + gone, np.int64))
                    theirs = np.isin(items, touched)
                    self._counts.retake(touched, *(column[theirs] for column in (users, items, times, signals, keys)))
                self.users.erase(row)

        return self._log.submit(work, after, alone=True).wait()[0]

    # ---- tables

    def events_frame(self) -> polars.DataFrame:
        """All events of the log, oldest first: ``user item time kind value request_id event_id``, ``sequence`` and the context's columns."""
        with self._log.reading() as connection:
            return events_frame(connection)

    def pages_frame(self) -> polars.DataFrame:
        """All pages of the log in order: ``request_id user now as_of items`` and ``page`` (the whole page as JSON)."""
        with self._log.reading() as connection:
            return pages_frame(connection)

    def dead_letters(self) -> list[dict[str, Any]]:
        """The latest events that were rejected, oldest first: ``time field reason user body``."""
        with self._log.reading() as connection:
            found = connection.execute("SELECT time, field, reason, user, body FROM dead_letters ORDER BY number").fetchall()
        return [dict(zip(("time", "field", "reason", "user", "body"), one, strict=True)) for one in found]

    def digest(self) -> str:
        """A hash of histories, counts and used items. The same set of events gives the same one, whatever order they came in."""
        with self._lock:
            return digest(self._history, self._counts, self._consumed, self.users, self.items)

    @property
    def nbytes(self) -> dict[str, int]:
        """Bytes held in memory, by part."""
        with self._lock:
            return {
                "history": self._history.nbytes,
                "counts": self._counts.nbytes,
                "consumed": self._consumed.nbytes,
                "seen": self._seen.nbytes,
                "former": self._left.nbytes,
            }

    # ---- beginning and end

    def _rebuild(self) -> None:
        """Everything in memory, from ``base`` and the log."""
        with self._log.reading() as connection:
            found = connection.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()
        self._secret: bytes = found[0] if found else self._log.submit(_new_secret).wait()
        self._base_sequence = self._base_of if isinstance(self._base_of, int) else self._base_of.get(self.identity, 0)
        with self._log.reading() as connection:
            self._tombstones = dict(connection.execute("SELECT hash, at FROM tombstones").fetchall())
            if self._tombstones:
                self._erase_from_base()
            replay_entities(connection, "users", self.users)
            replay_entities(connection, "items", self.items)
            logged = read_events(connection, self._base_sequence, self.users, self.items, self.signals, self._log.path)
            self._load(logged)
            newest = connection.execute("SELECT max(now) FROM pages").fetchone()[0] or 0
            for user, now, ids, page in read_pages(connection, newest - 2 * self._seen.window, self._log.path):
                row, shown = self.users.row(user), self.items.rows(ids)
                self._seen.show(row, shown, now)
                if self._left.kept:
                    self._left.add(row, self.items.rows(json.loads(page).get("former", ())), shown, now)
        self._sequence = self._counts.sequence = logged.last

    def _erase_from_base(self) -> None:
        """A run may still name users who were forgotten since: their rows stay, empty."""
        for row, user in enumerate(self.users.ids.copy()):
            at = self._tombstones.get(hashed(self._secret, user)) if user else None
            if at is None:
                continue
            if self._base is not None:
                old = (self._base.users == row) & (self._base.times <= at)
                self._base = replace(self._base, users=np.where(old, -1, self._base.users))
                if (self._base.users == row).any():
                    continue  # came back later, and the run knows it
            self.users.erase(row)

    def _load(self, logged: Logged) -> None:
        self._last_key = int(logged.keys.max(initial=0)) if len(logged.keys) else 0
        users, items, times, signals, values, keys = self._events(logged)
        self._history.load(users, items, times, signals, values, keys)
        self._counts.load(users, items, times, signals, len(self.users), len(self.items), keys)
        self._consumed.load(users, items)

    def _events(self, logged: Logged) -> list[NDArray[Any]]:
        """Users, items, times, signals, values and keys of ``base`` and of what the log has beyond it."""
        base = self._base
        columns: list[NDArray[Any]] = [logged.users, logged.items, logged.times, logged.signals, logged.values, logged.keys]
        if base is not None and len(base):
            if base.names != self._counts.signals:
                raise ValueError(f"the events given at the start have the signals {base.names}, the state {self._counts.signals}")
            keys = np.arange(-len(base), 0, dtype=np.int64)  # before every event of the log of the same instant
            known = base.users >= 0
            first: list[NDArray[Any]] = [base.users, base.items, base.times, base.signals, base.values, keys]
            if not known.all():  # of whom is forgotten, items keep nothing
                first = [column[known] for column in first]
            columns = [np.concatenate([a, b]) if len(b) else a for a, b in zip(first, columns, strict=True)]
        return columns

    def close(self) -> None:
        """Waits until everything handed in is on disk, and lets go of the folder. Twice does no harm."""
        self._log.close()

    def __enter__(self) -> Embedded:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_NONE = np.empty(0, np.int64)


def _new_secret(connection: sqlite3.Connection) -> bytes:
    secret = secrets.token_bytes(32)
    connection.execute("INSERT INTO meta VALUES ('secret', ?)", (secret,))
    return secret


def _plain(value: Any) -> Any:
    """Numpy's numbers and arrays as JSON's."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"a page cannot hold a {type(value).__name__}")
