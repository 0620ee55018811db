"""Reads the log back: rows of users and items as they were given, events as arrays, pages. Every record is checked against its CRC."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Floats, Ints
from palate.state.catalogue import Catalogue
from palate.state.log import StateCorrupt
from palate.tables.signals import Signal, bits

_EVENT = "\n".join(["%s"] * 9)
_RECORD = _EVENT + "%.0s%.0s"  # the same text of a record that has two more columns
CHUNK = 8_192  # records read at a time: few enough to stay in the processor's cache


def event_crcs(events: Iterable[tuple[Any, ...]], form: str = _EVENT) -> list[int]:
    """Checksums of events ``(event_id, user, item, time, kind, value, request_id, context, key)``; no field can hold a line's end."""
    return list(map(zlib.crc32, map(str.encode, map(form.__mod__, events))))


def page_crc(request_id: str, user: str | None, now: int, items: str, page: str) -> int:
    """Checksum of one page."""
    return zlib.crc32(f"{request_id}\x00{user}\x00{now}\x00{items}\x00{page}".encode())


def hashed(key: bytes, user: str) -> bytes:
    """What is kept of a forgotten user: recognisable to this state, useless to anyone without its key."""
    return hashlib.blake2b(user.encode(), key=key, digest_size=16).digest()


def identity(key: bytes) -> str:
    """A name of the log that holds ``key``."""
    return hashlib.blake2b(b"identity", key=key, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Logged:
    """Events of the log in its order, as catalogue rows; ``last`` is the number of the last event ever given."""

    users: Ints
    items: Ints
    times: Ints
    signals: NDArray[np.uint32]
    values: Floats
    keys: Ints
    last: int


def replay_entities(connection: sqlite3.Connection, side: str, catalogue: Catalogue) -> None:
    """Gives users or items of the log their rows, in the order they had, and their attributes."""
    query = "SELECT id, fresh, created, attributes, available FROM entities WHERE side = ? ORDER BY number"
    for id, fresh, created, attributes, available in connection.execute(query, (side,)):
        if id is None:
            if fresh:
                catalogue.add_erased()
            continue
        try:
            row = catalogue.add(id, json.loads(attributes) if attributes else None, created)
        except ValueError:  # a newer run gives this attribute another kind of value: the run goes first
            row = catalogue.add(id, None, created)
        if not available:
            catalogue.withdraw(row)


def read_events(connection: sqlite3.Connection, after: int, users: Catalogue, items: Catalogue, signals: tuple[Signal, ...], path: Any) -> Logged:
    """Events with a number above ``after``. StateCorrupt names the file and the event whose checksum is wrong."""
    parts: list[tuple[NDArray[Any], ...]] = []
    query = "SELECT event_id, user, item, time, kind, value, request_id, context, key, crc, sequence FROM events WHERE sequence > ? ORDER BY sequence"
    for records in _chunks(connection, query, after):
        _, user, item, time, kind, value, _, _, key, crc, sequence = zip(*records, strict=True)
        found = event_crcs(records, _RECORD)
        if found != list(crc):
            wrong = next(place for place, one in enumerate(found) if one != crc[place])
            raise StateCorrupt(f"{path}: event {sequence[wrong]} was altered on disk; restore the file from a copy")
        values = np.array(value, np.float32)  # None becomes not-a-number
        shown = bits(signals, np.array(kind, dtype=np.str_), values)
        part = (users.rows(user), items.rows(item), np.array(time, np.int64), shown, values, np.array(key, np.int64))
        parts.append(tuple(column[shown != 0] for column in part) if signals else part)  # what shows no signal counts nowhere
    given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    none = (np.empty(0, np.int64),) * 3 + (np.empty(0, np.uint32), np.empty(0, np.float32), np.empty(0, np.int64))
    owners, things, times, signals_, values_, keys = (np.concatenate(column) for column in zip(none, *parts, strict=True))
    return Logged(owners, things, times, signals_, values_, keys, given[0] if given else 0)


def read_pages(connection: sqlite3.Connection, since: int, path: Any) -> Iterator[tuple[str, int, list[str], str]]:
    """(user, now, ids of items, the whole page as JSON) of the pages of known users served after ``since``, oldest first."""
    query = "SELECT request_id, user, now, items, page, crc FROM pages WHERE user IS NOT NULL AND now > ? ORDER BY number"
    for records in _chunks(connection, query, since):
        for request_id, user, now, items, page, crc in records:
            if page_crc(request_id, user, now, items, page) != crc:
                raise StateCorrupt(f"{path}: page {request_id!r} was altered on disk; restore the file from a copy")
            yield user, now, json.loads(items), page


def _chunks(connection: sqlite3.Connection, query: str, *arguments: Any) -> Iterator[list[tuple[Any, ...]]]:
    cursor = connection.execute(query, arguments)
    while records := cursor.fetchmany(CHUNK):
        yield records
