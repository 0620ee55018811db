"""Recommender: funnel, state and page log in one object. The same answers in process and over HTTP; ids are the user's own strings.

A page is drawn, marked as shown, logged durably, and only then returned. The same ``request_id`` gives the same page again. Calls for one
user stand in line, so that two of them never show the same item; calls for different users run side by side.
"""

from __future__ import annotations

import math
import random
import threading
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from palate.asks import Ask, AskError, Conflict, NotDurable, NotFound, Page, checked, checked_id, naming, page_of, reported, together
from palate.candidates import DAY, Candidates, Ints
from palate.contracts import Similar
from palate.features.pipeline import FeaturePipeline
from palate.funnel.explain import Reasons
from palate.funnel.funnel import Busy, Funnel, Trace
from palate.state.catalogue import Catalogue
from palate.state.embedded import Embedded
from palate.state.interface import BornBefore
from palate.state.rows import EventRows
from palate.state.samples import Sample, Samples, facts_of
from palate.tables.signals import Signal

_STRIPES = 4096  #: locks that the users share


class Run(Protocol):
    """What a recommender needs of a run (``assembly.OpenRun``)."""

    folder: Path
    items: Catalogue
    users: Catalogue
    base: EventRows  #: what the models were fitted on

    @property
    def start(self) -> EventRows: ...  # what the state starts from
    @property
    def base_sequence(self) -> Any: ...  # of each log that ``start`` holds events of: the number of the last one
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
    @property
    def pipeline(self) -> FeaturePipeline | None: ...
    def funnel(self) -> Funnel: ...


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

    def __init__(self, run: Run, state: Embedded, *, folder: Path | None = None, budget: float | None = None, samples: Samples | None = None) -> None:
        self.run, self.state, self.folder, self.samples = run, state, folder, samples
        self.items, self.users = run.items, run.users
        self.versions = dict(run.versions)
        self._funnel = run.funnel()
        self._similar = run.similar
        self._reasons = Reasons(self._funnel.routes, self._called)
        self._ranked_out: int = run.recipe.state.ranked_out
        self._budget = budget
        self._chance = random.SystemRandom()
        self._lines = _Lines()
        self._writing = threading.Lock()
        self._closed = False

    @classmethod
    def load(cls, run: str | Path | Run, state: str | Path | None = None, *, budget: float | None = None, keep_features: float = 0.0) -> Recommender:
        """Open a run. ``state`` is a folder where what is learned is kept; without one it lives in memory and ends with the object.

        ``keep_features``: the share of logged pages whose features are kept there, the latest 1,000.

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
            base=run.start,
            base_sequence=run.base_sequence,
            history_limit=run.history_limit,
            audience=run.recipe.state.audience,
            former=run.recipe.state.former,
            seen=options.pop("kind", "exact"),
            seen_window=round(options.pop("days", 30) * DAY),
            seen_options=options,
        )
        samples = Samples(folder / "features", keep_features) if folder is not None and keep_features else None
        return cls(run, kept, folder=folder, budget=budget, samples=samples)

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

        ``log=False`` is a look without effect. ``why`` adds the trace, with a reason for each item. AskError names the argument that cannot be
        used; Conflict is a ``request_id`` that belongs to another user's page; NotDurable says that the page could not be logged.
        """
        answer = self.answer([Ask(user, k, history, attributes, context, scene, request_id, log, why)])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, asks: Sequence[Ask]) -> list[Page | Exception]:
        """Several asks at once: one walk through the funnel and one commit for those that can go together. What is wrong with one ask is
        its own answer and no other's."""
        answers: list[Page | Exception] = []
        waiting: list[int] = []
        for place, ask in enumerate(asks):
            try:
                checked(ask)
            except AskError as error:
                answers.append(error)
            else:
                answers.append(RuntimeError("not answered"))
                waiting.append(place)
        while waiting:
            group, waiting = together(asks, waiting)
            for place, one in zip(group, self._answer([asks[place] for place in group]), strict=True):
                answers[place] = one
        return answers

    def _answer(self, asks: list[Ask]) -> list[Page | Exception]:
        """Asks of different users that agree in what the funnel wants to know once."""
        with self._lines.of(*(name for ask in asks for name in ask.names)):
            try:
                return self._answer_held(asks)
            except OSError as error:
                return [NotDurable(f"the page could not be logged: {error.strerror}")] * len(asks)
            except Exception as error:
                if len(asks) == 1 or isinstance(error, Busy):
                    return [error] * len(asks)
                failed: list[Page | Exception] = []
                for ask in asks:  # one of them is at fault: the others are answered by themselves
                    try:
                        failed += self._answer_held([ask])
                    except OSError as full:
                        failed.append(NotDurable(f"the page could not be logged: {full.strerror}"))
                    except Exception as own:
                        failed.append(own)
                return failed

    def _answer_held(self, asks: list[Ask]) -> list[Page | Exception]:
        answers = [self._replay(ask) for ask in asks]
        new = [ask for ask, known in zip(asks, answers, strict=True) if known is None]
        if not new:
            return [known for known in answers if known is not None]
        drawn = self._draw(new)
        records = [record for ask, (_, record) in zip(new, drawn, strict=True) if ask.log]
        kept = iter(self.state.save_pages(records) if records else ())  # what is on a kept page counts as shown
        pages = iter(
            Conflict("request_id", "this request_id belongs to another page") if ask.log and not next(kept) else page
            for ask, (page, _) in zip(new, drawn, strict=True)
        )
        return [next(pages) if known is None else known for known in answers]

    def _replay(self, ask: Ask) -> Page | Exception | None:
        record = None if ask.request_id is None else self.state.page(ask.request_id)
        if record is None:
            return None
        if record["user"] != ask.user:
            return Conflict("request_id", "this request_id belongs to a page of another user")
        return page_of(record, replayed=True)

    def _draw(self, asks: list[Ask]) -> list[tuple[Page, dict[str, Any]]]:
        """A page and its record for each ask."""
        first, items = asks[0], self.items
        names = [ask.request_id or uuid.uuid4().hex for ask in asks]
        wanted = [] if self.samples is None else [n for n, ask in enumerate(asks) if ask.log and self.samples.wants(names[n])]
        tap: list[tuple[Candidates | None, dict[str, Any]]] = []
        given = [None if ask.history is None else [item for item in ask.history if item in items] for ask in asks]
        request = self.state.request(
            [ask.user for ask in asks],
            history=given if any(history is not None for history in given) else None,
            attributes=first.attributes and {name: [(ask.attributes or {})[name] for ask in asks] for name in first.attributes},
            context=first.context and {name: [(ask.context or {})[name] for ask in asks] for name in first.context},
            scene=first.scene,
            deadline=None if self._budget is None else time.monotonic() + self._budget,
            rng=np.random.Generator(np.random.PCG64(self._chance.getrandbits(64))),
            parameters={"tap": tap} if wanted else {},
        )
        trace = Trace()
        empty = not first.k or not len(items)
        found = Candidates.empty(len(asks)) if empty else self._funnel.recommend(request, min(first.k, len(items)), trace)
        rows, scores, offsets = found.items.tolist(), found.scores.tolist(), found.offsets.tolist()
        columns = {name: values.tolist() for name, values in found.columns.items()}
        chances = columns.pop("propensity", None) or [1.0] * len(rows)
        parts = tuple(trace.degraded)
        reasons = self._reasons.explain(request, found) if any(ask.why for ask in asks) else []
        drawn, isfinite = [], math.isfinite
        for place, ask in enumerate(asks):
            mine = slice(offsets[place], offsets[place + 1])
            record: dict[str, Any] = {
                "request_id": names[place],
                "user": ask.user,
                "now": int(request.now[place]),
                "as_of": request.as_of,
                "scene": ask.scene,
                "k": ask.k,
                "items": [items.ids[row] for row in rows[mine]],
                "positions": list(range(mine.stop - mine.start)),
                "score": [score if math.isfinite(score) else 0.0 for score in scores[mine]],
                "scores": {name: [v if isfinite(v) else None for v in values[mine]] for name, values in columns.items()},
                "propensities": chances[mine],
                "versions": self.versions,
                "degraded": parts,
                "notes": (),
            }
            if self.state.former and ask.user is not None:
                record["former"] = [items.ids[row] for row in _left(trace, place, rows[mine], self.state.former)]
            if self._ranked_out and ask.user is not None:
                record["ranked_out"] = [items.ids[row] for row in _ranked_out(trace, place, rows[mine], self._ranked_out, names[place])]
            told = given[place]
            if ask.history is not None and told is not None and len(told) < len(ask.history):
                record["notes"] = (f"history: {len(ask.history) - len(told)} of {len(ask.history)} items are not known",)
            known = {"history": told, "attributes": ask.attributes, "context": ask.context}
            if any(value is not None for value in known.values()):
                record["given"] = {name: value for name, value in known.items() if value is not None}
            way = self._way(trace, rows[mine], place, reasons[mine]) if ask.why else None
            drawn.append((page_of(record, way), record))
        for place in wanted:
            self._sample(tap, place, drawn[place][1], len(asks))
        return drawn

    def _sample(self, tap: list[tuple[Candidates | None, dict[str, Any]]], place: int, record: Mapping[str, Any], size: int) -> None:
        """Keep what the ranker saw of one page; nothing where it saw nothing, or saw the asks of a group in parts."""
        users: dict[str, Any] = next((columns for candidates, columns in reversed(tap) if candidates is None), {})
        seen = next(((candidates, columns) for candidates, columns in reversed(tap) if candidates is not None), None)
        if seen is None or self.samples is None or self.run.pipeline is None or len(seen[0] or ()) != size:
            return
        candidates, pairs = seen
        assert candidates is not None
        mine = slice(int(candidates.offsets[place]), int(candidates.offsets[place + 1]))
        rows = np.asarray(candidates.items[mine], np.int64)
        arrays = {"items": rows} | {f"user/{name}": column[place : place + 1] for name, column in users.items()}
        arrays |= {f"item/{name}": column for name, column in self.run.pipeline.encode_items(rows).items()}
        arrays |= {f"pair/{name}": column[mine] for name, column in pairs.items()}
        routes = {name: values for name, values in candidates.columns.items() if name.endswith((".score", ".rank"))}
        arrays |= {f"route/{name}": np.asarray(values[mine]) for name, values in routes.items()}
        self.samples.keep(Sample(facts_of(record), arrays))

    def _way(self, trace: Trace, rows: list[int], place: int, reasons: Sequence[str]) -> dict[str, Any]:
        """The stages of the call, each shown item's way through them, and in a few words why it is shown."""
        ids = [self.items.ids[row] for row in rows]
        ways = [trace.why(row, place) for row in rows]
        return {"stages": trace.summary(place), "items": dict(zip(ids, ways, strict=True)), "reasons": dict(zip(ids, reasons, strict=True))}

    def _called(self, row: int) -> str:
        """What people call an item: its title or name where it has one, else its id."""
        told = self.items.attributes(row)
        return str(next((told[name] for name in ("title", "name") if told.get(name)), self.items.ids[row]))

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
        return [reported(one) for one in outcomes]

    def put_item(self, item: str, attributes: Mapping[str, Any] | None = None, *, created: int | None = None, available: bool | None = None) -> bool:
        """Add an item or change the named attributes of one; True if it is new. It can be recommended at once.

        ``created``: when a new item came to be, ms (now where left out). Conflict where the item is known and has another date.
        """
        checked_id("item", item)
        with self._writing, naming("attributes"):
            new = item not in self.items
            try:
                row = self.state.put_item(item, attributes or {}, created=created, available=available)
            except BornBefore as error:
                raise Conflict("created", str(error)) from None
            self._index(np.array([row], np.int64))
        return new

    def put_user(self, user: str, attributes: Mapping[str, Any] | None = None) -> bool:
        """Add a user or change the named attributes of one; True if new."""
        checked_id("user", user)
        with self._writing, naming("attributes"):
            new = user not in self.users
            self.state.put_user(user, attributes or {})
        return new

    def forget(self, user: str) -> dict[str, Any]:
        """Erase a user's events, pages and state. ``stale`` names the run's models that were fitted on events of the user."""
        with self._lines.of(f"u{user}"), self._writing, naming("user"):
            if self.folder is not None:
                Samples(self.folder / "features", 0).forget(user)
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
        try:
            self._funnel.warm()
            known = next((user for user in reversed(self.users.ids) if user), None)
            for _ in range(3):
                self.recommend(None, 10, log=False)
                self.recommend(known, 10, log=False, why=True)
                self.recommend(None, 10, history=self.items.ids[:5], log=False)
                self.answer([Ask(user, 10, log=False) for user in self.users.ids[:8] if user])
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
        checked_id("item", item)
        row = self.items.row(item)
        if row < 0:
            raise NotFound("item", "there is no such item")
        return row


def _left(trace: Trace, place: int, shown: Sequence[int], most: int) -> list[int]:
    """The first items of a request's last ranking that are not shown; of the merged ones where nothing ranked them."""
    ranked = next((one.after for one in reversed(trace.passages) if one.kind in ("rank", "prerank", "filter") and one.after is not None), None)
    if ranked is None:
        return []
    mine, taken = ranked.items[ranked.offsets[place] : ranked.offsets[place + 1]].tolist(), set(shown)
    return [row for row in mine if row not in taken][:most]


def _ranked_out(trace: Trace, place: int, shown: Sequence[int], most: int, name: str) -> list[int]:
    """At most so many of what passed a request's filters and then fell out: left by the pre-ranker, or in the lower half of what was ranked.

    Drawn by the page's ``name``, any as likely as another. Nothing where no model ranked: then nothing was judged.
    """
    done = [one for one in trace.passages if one.after is not None]
    passed = next((one.after for one in reversed(done) if one.kind in ("filter", "merge")), None)
    ranked = next((one.after for one in reversed(done) if one.kind in ("rank", "prerank")), None)
    if passed is None or ranked is None:
        return []
    offered, order = (one.items[one.offsets[place] : one.offsets[place + 1]] for one in (passed, ranked))
    kept = np.union1d(order[: (len(order) + 1) // 2], np.asarray(shown, np.int64))
    low = np.setdiff1d(offered, kept)
    rng = np.random.default_rng(zlib.crc32(name.encode("utf-8", "surrogatepass")))
    return rng.permutation(low)[:most].tolist()
