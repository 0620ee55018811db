"""Skew: the features of logged pages, made anew offline from tables and events, compared bit by bit with what the ranker saw online.

What a model learns from and what it is asked with come from one pipeline, but the pipeline reads two worlds: the log as it stands, and the
live state as it was. Where these differ, a number is not what training takes it for, and nothing else would say so.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
from numpy.typing import NDArray

from palate.assembly import OpenRun, open_run
from palate.candidates import DAY, Candidates, Histories, Request
from palate.features.pipeline import FeaturePipeline
from palate.state.embedded import Embedded
from palate.state.log import StateError
from palate.state.past import Past
from palate.state.rows import EventRows, event_rows
from palate.state.samples import Sample, Samples
from palate.tables.events import Events
from palate.workflow import past_of


@dataclass
class Difference:
    """One feature that differs: in how many of ``rows`` it was looked at in, and the first place where."""

    feature: str
    owner: str
    differing: int = 0
    rows: int = 0
    request_id: str = ""
    item: str = ""
    online: Any = None
    offline: Any = None


@dataclass
class Skew:
    """What was compared, and the features that differ, the worst first. ``left_out``: samples that another version of the run served."""

    pages: int = 0
    rows: int = 0
    features: int = 0
    left_out: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        found = [vars(one) for one in self.differences]
        return {"pages": self.pages, "rows": self.rows, "features": self.features, "left_out": self.left_out, "differences": found}


def skew(run: OpenRun | str | Path, state: str | Path | None = None, report: Callable[[str], None] = lambda line: None) -> Skew:
    """Compare every sampled page of a state folder (``RUN/state`` where left out). ValueError: nothing was sampled."""
    opened = run if isinstance(run, OpenRun) else open_run(run)
    folder = Path(state) if state is not None else opened.folder / "state"
    pipeline = opened.parts.pipeline
    if pipeline is None:
        raise ValueError(f"{opened.folder}: this run has no features, so there is nothing to compare")
    samples = list(Samples(folder / "features", 0).read())
    mine = [one for one in samples if (one.facts.get("versions") or {}).get("run") == opened.versions["run"]]
    if not mine:
        raise ValueError(
            f"{folder / 'features'}: no page of this version of the run was sampled. palate serve keeps the features of a share of its pages "
            f"(--keep-features); {len(samples)} samples of other versions are there"
        )
    report(f"{len(mine)} sampled pages")
    offline = Offline(opened, folder)
    found = Skew(left_out=len(samples) - len(mine))
    by_feature: dict[str, Difference] = {}
    for sample in mine:
        found.pages += 1
        found.rows += len(sample.arrays["items"])
        made = offline.features(sample)
        names = [name for name in sample.arrays if name.partition("/")[0] in ("user", "item", "pair")]
        for name in dict.fromkeys([*names, *made]):
            owner, _, feature = name.partition("/")
            one = by_feature.setdefault(feature, Difference(feature, owner))
            compare(one, sample, sample.arrays.get(name), made.get(name), offline.run.items.ids)
    found.features = len(by_feature)
    found.differences = sorted((one for one in by_feature.values() if one.differing), key=lambda one: -one.differing / max(one.rows, 1))
    return found


def compare(one: Difference, sample: Sample, online: NDArray[Any] | None, offline: NDArray[Any] | None, ids: Any) -> None:
    """Take a page's column into account, bit by bit."""
    there = online if online is not None else offline
    assert there is not None
    one.rows += len(there)
    if not len(there):  # of a group of asks, one that was left without a candidate
        return
    if online is None or offline is None or online.shape != offline.shape or online.dtype != offline.dtype:
        wrong = np.ones(len(there), bool)
    else:
        a, b = (np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1) for column in (online, offline))
        wrong = (a != b).any(1)
    if wrong.any() and not one.differing:
        place = int(np.flatnonzero(wrong)[0])
        one.request_id = str(sample.facts["request_id"])
        one.item = "" if one.owner == "user" else str(ids[int(sample.arrays["items"][place])])
        one.online, one.offline = (None if column is None or place >= len(column) else column[place].tolist() for column in (online, offline))
    one.differing += int(wrong.sum())


class Offline:
    """The run's tables and a copy of the log, as they would be trained on: nothing of the live state's memory is used."""

    def __init__(self, run: OpenRun, folder: Path) -> None:
        self.run = run
        assert run.parts.pipeline is not None
        self.pipeline: FeaturePipeline = run.parts.pipeline
        frame = read_events(run, folder)
        known = Events(frame.drop("sequence"))
        rows = event_rows(known, run.users, run.items, run.signals)
        order = np.argsort(frame["time"].to_numpy(), kind="stable")
        sequence = frame["sequence"].to_numpy()[order]
        told = rows.signals != 0
        self.logged, self.sequence = rows.take(told), sequence[told]
        self.past = self._past(self.logged)

    def _past(self, logged: EventRows) -> Past:
        return past_of(self.run.recipe, self.run.start.joined(logged), (len(self.run.users), len(self.run.items)))

    def past_at(self, now: int, as_of: int) -> Past:
        """What was known at ``now`` of the events up to number ``as_of``: the same for nearly all pages, but where an event came late."""
        late = (self.sequence > as_of) & (self.logged.times < now)
        return self._past(self.logged.take(self.sequence <= as_of)) if late.any() else self.past

    def features(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """Columns by ``owner/feature``, as offline encoding makes them."""
        facts, items = sample.facts, sample.arrays["items"]
        user = -1 if facts["user"] is None else self.run.users.row(facts["user"])
        past = self.past_at(int(facts["now"]), int(facts["as_of"]))
        given: Mapping[str, Any] = facts.get("given") or {}
        attributes, context = ({name: [value] for name, value in (given.get(part) or {}).items()} for part in ("attributes", "context"))
        asked = np.array([user], np.int64), np.array([facts["now"]], np.int64)
        request = past.request(*asked, scene=facts.get("scene") or "", attributes=attributes, context=context)
        if given.get("history") is not None:
            request = told(request, self.run, given["history"])
        columns = {name.removeprefix("route/"): column for name, column in sample.arrays.items() if name.startswith("route/")}
        candidates = Candidates(items, np.zeros(len(items), np.float32), np.array([0, len(items)], np.int64), columns)
        parts = {
            "user": self.pipeline.encode_users(request),
            "item": self.pipeline.encode_items(items),
            "pair": self.pipeline.encode_pairs(request, candidates),
        }
        return {f"{owner}/{name}": column for owner, made in parts.items() for name, column in made.items()}


def told(request: Request, run: OpenRun, history: list[str]) -> Request:
    """The request with a history that came with the call: its items just before now, showing every signal."""
    rows = run.items.rows(history)
    rows = rows[rows >= 0]
    every = np.full(len(rows), (1 << len(run.signals)) - 1, np.uint32)
    times = request.now[0] - np.arange(len(rows), 0, -1)
    histories = Histories(rows, times, every, np.full(len(rows), np.nan, np.float32), np.array([0, len(rows)], np.int64))
    return Request(request.users, histories, request.now, request.attributes, request.context, request.scene, counts=request.counts)


def read_events(run: OpenRun, folder: Path) -> pl.DataFrame:
    """The log's events after those the run was trained on, with their numbers; users and items of the log get their rows in the run's catalogues.

    Read from a copy, so that a service may have the log open. StateError where there is none.
    """
    path = folder / "log.sqlite"
    if not path.is_file() or path.is_symlink():
        raise StateError(f"{path}: no log here; name the folder that the service keeps its state in with --state")
    with tempfile.TemporaryDirectory() as place:
        source = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(Path(place) / "log.sqlite")) as copy:
            source.backup(copy)
        with Embedded(place, run.users, run.items, run.signals, run.windows, run.bucket or DAY, history_limit=1) as state:
            last = run.base_sequence.get(state.identity, 0)
            return state.events_frame().filter(pl.col("sequence") > last)
