"""Recommender: funnel, state and page log in one object. The same answers in process and over HTTP; ids are the user's own strings.

A page is drawn, marked as shown, logged durably, and only then returned. The same ``request_id`` gives the same page again. Calls for one
user stand in line, so that two of them never show the same item; calls for different users run side by side.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from palate.candidates import DAY, Candidates, Ints
from palate.contracts import Similar
from palate.funnel.funnel import Funnel, Trace
from palate.state.catalogue import Catalogue, id_fault
from palate.state.check import Outcome
from palate.state.embedded import Embedded
from palate.state.rows import EventRows
from palate.tables.signals import Signal

_STRIPES = 256  #: locks that the users share


class AskError(ValueError):
    """A call that cannot be answered as it is; ``field`` names the argument (parts of it joined by /)."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class NotFound(AskError):
    """The call is about something that is not there."""


class Conflict(AskError):
    """The call contradicts an earlier one."""


class NotDurable(RuntimeError):
    """What was sent could not be made durable; nothing of it counts."""


class Run(Protocol):
    """What a recommender needs of a run (``assembly.OpenRun``)."""

    folder: Path
    items: Catalogue
    users: Catalogue
    base: EventRows

    @property
    def recipe(self) -> Any: ...
    @property
    def signals(self) -> tuple[Signal, ...]: ...
    @property
    def windows(self) -> tuple[int, ...]: ...
    @property
    def bucket(self) -> int: ...
    @property
    def history_limit(self) -> int: ...
    @property
    def seen(self) -> dict[str, Any]: ...
    @property
    def versions(self) -> dict[str, str]: ...
    @property
    def similar(self) -> Similar | None: ...
    def funnel(self) -> Funnel: ...


@dataclass(frozen=True, slots=True)
class Shown:
    """One item of a page. ``score`` is the last stage's; ``scores`` every stage's; ``propensity`` the chance of standing here."""

    item: str
    position: int
    score: float
    propensity: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Page:
    """An answered request. ``degraded`` names the parts it had to do without, ``now`` is in ms, ``as_of`` the last event it knew."""

    request_id: str
    items: tuple[Shown, ...]
    degraded: tuple[str, ...]
    versions: Mapping[str, str]
    as_of: int
    now: int
    notes: tuple[str, ...] = ()
    trace: Any = None
    replayed: bool = False

    @property
    def ids(self) -> list[str]:
        """The items' ids, best first."""
        return [shown.item for shown in self.items]

    @property
    def propensities(self) -> list[float]:
        return [shown.propensity for shown in self.items]


@dataclass(slots=True)
class _Lines:
    """Locks by name: the same name always gets the same lock."""

    locks: list[threading.Lock] = field(default_factory=lambda: [threading.Lock() for _ in range(_STRIPES)])

    @contextmanager
    def of(self, *names: str) -> Iterator[None]:
        with ExitStack() as held:
            for place in sorted({hash(name) % _STRIPES for name in names}):
                held.enter_context(self.locks[place])
            yield


class Recommender:
    """Safe to call from many threads. ``budget`` is how many seconds the funnel may take for a page: beyond it, and beyond each stage's own
    deadline, the page does without. None, the default in process: every stage runs to its end.
    """

    def __init__(self, run: Run, state: Embedded, *, folder: Path | None = None, budget: float | None = None) -> None:
        self.run, self.state, self.folder = run, state, folder
        self.items, self.users = run.items, run.users
        self.versions = dict(run.versions)
        self._funnel = run.funnel()
        self._similar = run.similar
        self._budget = budget
        self._lines = _Lines()
        self._writing = threading.Lock()
        self._closed = False

    @classmethod
    def load(cls, run: str | Path | Run, state: str | Path | None = None, *, budget: float | None = None) -> Recommender:
        """Open a run. ``state`` is a folder where what is learned is kept; without one it lives in memory and ends with the object.

        RunError where the run is missing or altered; StateError where another process has the state open.
        """
        if isinstance(run, (str, Path)):
            from palate.assembly import open_run

            run = open_run(run)
        folder = Path(state) if state is not None else None
        options = dict(run.seen)
        kept = Embedded(
            folder,
            run.users,
            run.items,
            run.signals,
            run.windows,
            run.bucket,
            base=run.base,
            base_sequence=getattr(run, "base_sequence", 0),
            history_limit=run.history_limit,
            seen=options.pop("kind", "exact"),
            seen_window=round(options.pop("days", 30) * DAY),
            seen_options=options,
        )
        return cls(run, kept, folder=folder, budget=budget)

    # ---- asking

    def recommend(
        self,
        user: str | None = None,
        k: int = 10,
        *,
        history: Sequence[str] | None = None,
        attributes: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        scene: str = "",
        request_id: str | None = None,
        log: bool = True,
        why: bool = False,
    ) -> Page:
        """A page of at most k items for a user, or for a ``history`` (item ids, oldest first) or ``attributes`` given here.

        ``log=False`` is a look without effect. ``why`` adds the trace. AskError names the argument that cannot be used; Conflict is a
        ``request_id`` that belongs to another user's page.
        """
        _checked(user, k, history, attributes, context, scene, request_id)
        if not log:
            return self._replay(request_id, user) or self._draw(user, k, history, attributes, context, scene, request_id, why)[0]
        names = [name for name in (user and f"u{user}", request_id and f"r{request_id}") if name]
        with self._lines.of(*names):
            known = self._replay(request_id, user)
            if known is not None:
                return known
            page, record = self._draw(user, k, history, attributes, context, scene, request_id, why)
            try:
                kept = self.state.save_page(record)  # and what is on it counts as shown
            except OSError as error:
                raise NotDurable(f"the page could not be logged: {error.strerror}") from error
        if not kept:
            raise Conflict("request_id", "this request_id belongs to another page")
        return page

    def _replay(self, request_id: str | None, user: str | None) -> Page | None:
        record = None if request_id is None else self.state.page(request_id)
        if record is None:
            return None
        if record["user"] != user:
            raise Conflict("request_id", "this request_id belongs to a page of another user")
        return page_of(record)

    def _draw(
        self,
        user: str | None,
        k: int,
        history: Sequence[str] | None,
        attributes: Mapping[str, Any] | None,
        context: Mapping[str, Any] | None,
        scene: str,
        request_id: str | None,
        why: bool,
    ) -> tuple[Page, dict[str, Any]]:
        name = request_id or uuid.uuid4().hex
        # The seed comes from the request's id, so the draw behind a logged page can be made again.
        seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
        notes: tuple[str, ...] = ()
        if history is not None:
            known = [item for item in history if item in self.items]
            if len(known) < len(history):
                notes = (f"history: {len(history) - len(known)} of {len(history)} items are not known",)
            history = known
        request = self.state.request(
            [user],
            history=None if history is None else [history],
            attributes=None if attributes is None else {key: [value] for key, value in attributes.items()},
            context=None if context is None else {key: [value] for key, value in context.items()},
            scene=scene,
            deadline=None if self._budget is None else time.monotonic() + self._budget,
            rng=np.random.Generator(np.random.PCG64(seed)),
        )
        trace = Trace()
        found = self._funnel.recommend(request, min(k, len(self.items)), trace) if k and len(self.items) else Candidates.empty(1)
        ids = self.items.ids
        listed = found.items.tolist()
        now = int(request.now[0])
        columns = {column: values.tolist() for column, values in found.columns.items()}
        scores = found.scores.tolist()
        chances = columns.pop("propensity", None) or [1.0] * len(listed)
        items = tuple(
            Shown(ids[row], place, _finite(scores[place]), chances[place], {c: v[place] for c, v in columns.items() if v[place] == v[place]})
            for place, row in enumerate(listed)
        )
        page = Page(name, items, tuple(trace.degraded), self.versions, request.as_of, now, notes, self._way(trace, found.items) if why else None)
        record = {
            "request_id": name,
            "user": user,
            "now": now,
            "as_of": request.as_of,
            "scene": scene,
            "k": k,
            "items": [ids[row] for row in listed],
            "positions": list(range(len(listed))),
            "score": [shown.score for shown in items],
            "scores": {column: [None if v != v else v for v in values] for column, values in columns.items()},
            "propensities": chances,
            "versions": self.versions,
            "degraded": list(page.degraded),
            "notes": list(notes),
        }
        given = {"history": history, "attributes": attributes, "context": context}
        if any(value is not None for value in given.values()):
            record["given"] = {key: value for key, value in given.items() if value is not None}
        return page, record

    def _way(self, trace: Trace, rows: Ints) -> dict[str, Any]:
        """The stages of the call, and each shown item's way through them."""
        ids = self.items.ids
        return {"stages": trace.summary(), "items": {ids[row]: trace.why(row) for row in rows.tolist()}}

    def _index(self, rows: Ints) -> None:
        """Tell the routes of new or changed items; a route that cannot take one in goes on without it."""
        open_ = self.items.available[rows]
        for told, some in ((self._funnel.add, rows[open_]), (self._funnel.remove, rows[~open_])):
            if len(some):
                told(some)

    def similar(self, item: str, k: int = 10) -> list[tuple[str, float]]:
        """At most k items that go with an item, best first, with their scores. NotFound: no such item, or no model that knows."""
        row = self._row_of(item)
        if type(k) is not int or k < 0:
            raise AskError("k", f"k must be a whole number of at least 0, not {k!r}")
        if self._similar is None:
            raise NotFound("item", "no model of this run knows which items go together: add ItemCF or another that does to its recipe")
        if not k:
            return []
        rows, scores = self._similar.similar(row, min(k + 1, len(self.items)))
        open_ = self.items.available
        pairs = zip(rows.tolist(), np.asarray(scores).tolist(), strict=True)
        return [(self.items.ids[one], score) for one, score in pairs if one != row and open_[one]][:k]

    # ---- telling

    def record(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Tell what users did; one outcome an event, in order: ``status`` accepted, duplicate or rejected (with ``reason``).

        What is accepted is on disk when this returns. NotDurable: nothing of it counts; tell it again, with the same event ids.
        """
        try:
            outcomes = self.state.append(events)
        except OSError as error:
            raise NotDurable(f"the events could not be written: {error.strerror}") from error
        return [_reported(one) for one in outcomes]

    def put_item(self, item: str, attributes: Mapping[str, Any] | None = None, *, created: int | None = None, available: bool | None = None) -> bool:
        """Add an item or change the named attributes of one; True if it is new. It can be recommended at once."""
        _checked_id("item", item)
        with self._writing, _told("attributes"):
            new = item not in self.items
            row = self.state.put_item(item, attributes or {}, created=created, available=available)
            self._index(np.array([row], np.int64))
        return new

    def put_user(self, user: str, attributes: Mapping[str, Any] | None = None) -> bool:
        """Add a user or change the named attributes of one; True if new."""
        _checked_id("user", user)
        with self._writing, _told("attributes"):
            new = user not in self.users
            self.state.put_user(user, attributes or {})
        return new

    def forget(self, user: str) -> dict[str, Any]:
        """Erase a user's events, pages and state. ``stale`` names the run's models that were fitted on events of the user."""
        with self._lines.of(f"u{user}"), self._writing, _told("user"):
            gone = self.state.forget(user)
        stale = sorted(self.run.recipe.models) if gone["trained"] else []
        return {"user": user, "removed": dict(gone), "stale": stale, "run": self.versions.get("run", "")}

    # ---- the object itself

    @property
    def sequence(self) -> int:
        """Sequence number of the last event applied."""
        return self.state.sequence

    def warm(self) -> float:
        """Compute ahead what is kept for each item and ask once for each kind of asker, so that compiled parts are ready; seconds it took.

        Call it before others do: meanwhile there are no deadlines.
        """
        begun = time.perf_counter()
        budget, self._budget = self._budget, None
        self._funnel.warm()
        try:
            known = next((user for user in reversed(self.users.ids) if user), None)
            for _ in range(3):
                self.recommend(None, 10, log=False)
                self.recommend(known, 10, log=False, why=True)
                self.recommend(None, 10, history=self.items.ids[:5], log=False)
        finally:
            self._budget = budget
        return time.perf_counter() - begun

    def close(self) -> None:
        """Write what is pending and let go of the state's folder."""
        with self._writing:
            if not self._closed:
                self._closed = True
                self.state.close()

    def __enter__(self) -> Recommender:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _row_of(self, item: str) -> int:
        _checked_id("item", item)
        row = self.items.row(item)
        if row < 0:
            raise NotFound("item", "there is no such item")
        return row


def page_of(record: Mapping[str, Any]) -> Page:
    """The page behind a record of the log."""
    columns = record["scores"]
    items = tuple(
        Shown(item, place, score, chance, {c: v[place] for c, v in columns.items() if v[place] is not None})
        for place, (item, score, chance) in enumerate(zip(record["items"], record["score"], record["propensities"], strict=True))
    )
    parts, notes = tuple(record["degraded"]), tuple(record["notes"])
    return Page(record["request_id"], items, parts, record["versions"], record["as_of"], record["now"], notes, replayed=True)


def _reported(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain JSON."""
    found: dict[str, Any] = {"status": outcome.status}
    if outcome.event_id:
        found["event_id"] = outcome.event_id
    if outcome.status == "rejected":
        found |= {"field": outcome.field, "reason": outcome.reason}
    return found


@contextmanager
def _told(field: str) -> Iterator[None]:
    """What the state refuses, as an error that names the argument."""
    try:
        yield
    except OSError as error:
        raise NotDurable(f"this could not be written: {error.strerror}") from error
    except AskError:
        raise
    except ValueError as error:
        raise AskError(field, str(error)) from error


def _checked_id(name: str, value: Any) -> None:
    fault = id_fault(value)
    if fault:
        raise AskError(name, f"{name} {fault}")


def _checked(
    user: str | None,
    k: int,
    history: Sequence[str] | None,
    attributes: Mapping[str, Any] | None,
    context: Mapping[str, Any] | None,
    scene: str,
    request_id: str | None,
) -> None:
    for name, value in (("user", user), ("request_id", request_id)):
        if value is not None:
            _checked_id(name, value)
    if type(k) is not int or k < 0:
        raise AskError("k", f"k must be a whole number of at least 0, not {k!r}")
    if type(scene) is not str:
        raise AskError("scene", f"scene must be a text, not {scene!r}")
    if history is not None:
        if isinstance(history, (str, bytes)):
            raise AskError("history", "history must be a list of item ids, not one text")
        for place, item in enumerate(history):
            if type(item) is not str:
                raise AskError(f"history/{place}", f"an item id must be a text, not {item!r}")
    for name, given in (("attributes", attributes), ("context", context)):
        if given is not None and not (isinstance(given, Mapping) and all(type(key) is str for key in given)):
            raise AskError(name, f"{name} must be names and values, not {given!r}")


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
