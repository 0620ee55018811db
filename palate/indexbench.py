"""Index bench: every index of the catalog over somebody's own vectors: recall, latency and memory beside an exact search, and which one to take.

The vectors are a matrix (``.npy``), or those that a run's model puts into its index; then the questions are what that route asks for its users,
with what it excludes. Questions to a matrix that came without any are some of its own rows, which are left out of the index for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from palate import catalog
from palate.assembly import OpenRun, open_run
from palate.build import build
from palate.candidates import Floats, Ints, Ragged
from palate.evaluation import plots
from palate.index.exact import Exact
from palate.schema import nearest
from palate.workflow import past_of

MOST_BYTES = 1 << 31  #: of a matrix as 32-bit numbers
ASKED = 200  #: questions, where they are not given
WARM = 5  #: questions before the clock runs
COMPILED = 1_200  #: vectors of a first index, whose loops are compiled before the clock runs
ROUNDS = 3  #: of a batch; the quickest counts
NEARLY = 1.25  #: times the quickest time within which less memory goes before less time

#: name, options of the build, the option that says how hard a search looks, and its values; {} and no values: as it is
TRIED: tuple[tuple[str, dict[str, Any], str, tuple[int, ...]], ...] = (
    ("Exact", {}, "", ()),
    ("Int8", {}, "", ()),
    ("IVF", {}, "probes", (4, 12, 32, 96)),
    ("IVF", {"bits": 8}, "probes", (4, 12, 32, 96)),
    ("IVFPQ", {"group": 2}, "probes", (4, 12, 32, 96)),
    ("IVFPQ", {"group": 4}, "probes", (4, 12, 32, 96)),
    ("PQ", {"group": 2}, "", ()),
    ("PQ", {"group": 4}, "", ()),
    ("HNSW", {}, "search", (16, 32, 64, 128, 256)),
    ("LSH", {}, "probes", (8, 32, 128)),
    ("KDTree", {}, "search", (500, 2_000, 8_000, 0)),
    ("Annoy", {}, "search", (500, 2_000, 8_000)),
)
_KEPT_AS = {"search": "seen"}  # an index has a method of that name

Report = Callable[[str], None]


@dataclass(frozen=True)
class Vectors:
    """What is searched ``[N, D]`` and asked ``[B, D]``; ``exclude``: what each question must not find."""

    title: str
    vectors: Floats
    queries: Floats
    exclude: Ragged | None = None
    note: str = ""


@dataclass(frozen=True)
class Point:
    """One index with one setting. Times in microseconds a question: alone (``p50``, ``p99``) and in one batch; ``build`` in seconds."""

    name: str
    options: Mapping[str, Any]
    recall: float
    p50: float
    p99: float
    batch: float
    build: float
    megabytes: float

    @property
    def recipe(self) -> str:
        """As a route of a recipe names it."""
        options = "".join(f", {key} = {value}" for key, value in self.options.items())
        return f'index = {{ name = "{self.name}"{options} }}'

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "options": dict(self.options), "recipe": self.recipe}


@dataclass(frozen=True)
class Bench:
    """All points, and the one to take for the recall that was asked for."""

    vectors: Vectors
    k: int
    wanted: float
    points: Sequence[Point] = field(default_factory=list)

    @property
    def chosen(self) -> Point:
        """Of those that reach the recall: the quickest, or one that is nearly as quick and takes the least memory."""
        good = [point for point in self.points if point.recall >= self.wanted] or list(self.points[:1])
        least = min(point.p50 for point in good)
        return min((point for point in good if point.p50 <= NEARLY * least), key=lambda point: point.megabytes)

    def to_json(self) -> dict[str, Any]:
        size, dim = self.vectors.vectors.shape
        about = {"vectors": self.vectors.title, "size": size, "dim": dim, "queries": len(self.vectors.queries), "note": self.vectors.note}
        return {**about, "k": self.k, "recall": self.wanted, "points": [one.to_json() for one in self.points], "recommended": self.chosen.to_json()}

    def rows(self) -> list[tuple[Any, ...]]:
        """For a table under ``COLUMNS``."""
        chosen = self.chosen
        return [
            (
                f"{'→ ' if one is chosen else ''}{one.name}",
                " ".join(f"{key} = {value}" for key, value in one.options.items()),
                one.recall,
                one.p50,
                one.p99,
                one.batch,
                one.build,
                one.megabytes,
            )
            for one in self.points
        ]

    def page(self) -> dict[str, Any]:
        """What ``evaluation.report`` makes a page of."""
        size, dim = self.vectors.vectors.shape
        chosen = self.chosen
        series = [self._curve(name) for name in dict.fromkeys(point.name for point in self.points)]
        about = f"recall@{self.k}"
        drawn = [
            {"name": title, "plot": plots.lines([one | {"y": one[axis]} for one in series], title, about, unit, log=True, height=380)}
            for title, axis, unit in (("recall and latency, a dot as large as its memory", "p50", "µs, median"), ("recall and memory", "mb", "MB"))
        ]
        return {
            "title": f"Indexes over {self.vectors.title}",
            "subtitle": f"{size:,} vectors of {dim} numbers, {len(self.vectors.queries):,} questions",
            "facts": [
                {"label": f"for recall {self.wanted:g}", "value": chosen.name, "note": chosen.recipe},
                {"label": about, "value": f"{chosen.recall:.3f}", "note": "of what an exact search finds"},
                {"label": "latency", "value": f"{chosen.p50:,.0f} µs", "note": f"p99 {chosen.p99:,.0f} µs"},
                {"label": "memory", "value": f"{chosen.megabytes:,.1f} MB", "note": f"exact: {self.points[0].megabytes:,.1f} MB"},
            ],
            "sections": [{"title": "Every setting", "how": HOW, "plots": drawn, "columns": COLUMNS, "rows": self.rows()}],
            "notes": [self.vectors.note] if self.vectors.note else [],
        }

    def _curve(self, name: str) -> dict[str, Any]:
        mine = sorted((point for point in self.points if point.name == name), key=lambda point: (point.recall, point.p50))
        curve = {"name": name, "x": [one.recall for one in mine], "p50": [one.p50 for one in mine], "mb": [one.megabytes for one in mine]}
        marked = {"mark": mine.index(self.chosen)} if self.chosen in mine else {}
        return {**curve, "weights": curve["mb"], "faint": name == "Exact", **marked}


COLUMNS = ("index", "options", "recall", "p50 µs", "p99 µs", "batch µs", "build s", "MB")
HOW = (
    "One thread, by the clock on the wall: on a busy machine p99 says how busy it is. Each question alone, then all in one batch. "
    "A limit of 0 is none. The ring marks what is recommended."
)


def bench(vectors: Vectors, k: int = 10, recall: float = 0.95, names: Sequence[str] = (), report: Report = lambda line: None) -> Bench:
    """Build and measure the indexes of these ``names`` (none: all), ``Exact`` always. ValueError for a name that is none, or too few vectors."""
    if k < 1 or not 0 < recall <= 1:
        raise ValueError(f"k must be at least 1 and recall above 0 and at most 1, not {k} and {recall}")
    known = tuple(dict.fromkeys(name for name, *_ in TRIED))
    for name in names:
        if name not in known:
            raise ValueError(f"there is no index {name!r}{nearest(name, known)}")
    size = len(vectors.vectors)
    if k >= size:
        raise ValueError(f"k = {k} is no search among {size} vectors")
    tried = [one for one in TRIED if not names or one[0] in names or one[0] == "Exact"]
    right = Exact().fit(vectors.vectors, np.arange(size)).search(vectors.queries, k, vectors.exclude)[1]
    points: list[Point] = []
    for name, options, effort, values in tried:
        report(f"building {name} {options or ''}")
        some = min(size, COMPILED)
        build(catalog.load(name, "index"), options).fit(vectors.vectors[:some], np.arange(some)).search(vectors.queries[:1], 1)
        begun = time.perf_counter()
        index = build(catalog.load(name, "index"), options).fit(vectors.vectors, np.arange(size))
        took = time.perf_counter() - begun
        for value in values or (None,):
            if value is not None:
                setattr(index, _KEPT_AS.get(effort, effort), value)
            set_ = options if value is None else options | {effort: value}
            points.append(Point(name, set_, **_measured(index, vectors, k, right), build=took, megabytes=index.nbytes / 1e6))
            report(f"{name} {set_ or ''}: recall {points[-1].recall:.3f}, {points[-1].p50:,.0f} µs")
    return Bench(vectors, k, recall, points)


def _measured(index: Any, asked: Vectors, k: int, right: Floats) -> dict[str, float]:
    """Recall and times of one index; ``right`` are the exact scores ``[B, k]``: what scores as much is as good, so that ties do not count."""
    each = [(asked.queries[b : b + 1], None if asked.exclude is None else Ragged.of([asked.exclude[b]])) for b in range(len(asked.queries))]
    for query, exclude in each[:WARM]:
        index.search(query, k, exclude)
    times, hits, there = np.empty(len(each)), 0, 0
    for b, (query, exclude) in enumerate(each):
        begun = time.perf_counter()
        ids, _ = index.search(query, k, exclude)
        times[b] = time.perf_counter() - begun
        found = ids[0][ids[0] >= 0]
        wanted = right[b][right[b] > -np.inf]
        if len(wanted):
            true = asked.vectors[found] @ query[0]
            hits += min(int((true >= wanted[-1] - 1e-5 * abs(wanted[-1])).sum()), len(wanted))
            there += len(wanted)
    batch = np.inf
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        index.search(asked.queries, k, asked.exclude)
        batch = min(batch, (time.perf_counter() - begun) / len(each))
    p50, p99 = np.quantile(times, (0.5, 0.99)) * 1e6
    return {"recall": hits / max(there, 1), "p50": float(p50), "p99": float(p99), "batch": batch * 1e6}


def matrix(path: Path) -> Floats:
    """Vectors ``[N, D]`` float32 of a file in NumPy's format; ValueError says what is wrong with it. Never unpickles."""
    try:
        kept = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        reason = "it holds Python objects, which are never loaded" if "object" in str(error).lower() else str(error)
        raise ValueError(f"{path}: no matrix in NumPy's .npy format: {reason}") from error
    if kept.dtype.kind not in "fiu":
        raise ValueError(f"{path}: vectors must be numbers, not {kept.dtype}")
    if kept.ndim != 2 or not kept.size:
        raise ValueError(f"{path}: vectors must be a matrix [N, D] with something in it, not {list(kept.shape)}")
    if kept.size * 4 > MOST_BYTES:
        most = MOST_BYTES // 4 // kept.shape[1]
        raise ValueError(f"{path}: {kept.shape[0]:,} vectors of {kept.shape[1]} numbers are too many for a bench; give a sample of at most {most:,}")
    with np.errstate(over="ignore"):
        vectors: Floats = np.array(kept, np.float32)
    wrong = ~np.isfinite(vectors).all(1)
    if wrong.any():
        raise ValueError(f"{path}: {int(wrong.sum()):,} vectors are not finite as 32-bit numbers, the first that of row {int(np.argmax(wrong))}")
    return vectors


def of_files(path: Path, queries: Path | None = None) -> Vectors:
    """A matrix and its questions; without these, some rows drawn by chance."""
    vectors = matrix(path)
    if queries is not None:
        asked = matrix(queries)
        if asked.shape[1] != vectors.shape[1]:
            raise ValueError(f"{queries}: questions of {asked.shape[1]} numbers do not fit vectors of {vectors.shape[1]}")
        return Vectors(path.name, vectors, asked)
    if len(vectors) < 20:
        raise ValueError(f"{path}: {len(vectors)} vectors are too few to compare indexes")
    drawn = np.random.default_rng(0).permutation(len(vectors))
    some = min(ASKED, len(vectors) // 10)
    note = f"The questions are {some} of the vectors, left out of the indexes. Users' vectors often lie elsewhere: give them with --queries."
    return Vectors(path.name, vectors[np.sort(drawn[some:])], vectors[drawn[:some]], None, note)


class _Recorder(Exact):
    """Keeps what it is given and asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Floats, Ragged | None]] = []

    def search(self, queries: Floats, k: int, exclude: Ragged | None = None, only: Ints | None = None) -> tuple[Ints, Floats]:
        self.asked.append((np.array(queries, np.float32), exclude))
        return super().search(queries, k, exclude, only)


def of_run(run: OpenRun | str | Path, model: str | None = None, users: int = ASKED) -> Vectors:
    """What a model's route puts into its index and asks of it for some users. ValueError where it has no vectors."""
    opened = run if isinstance(run, OpenRun) else open_run(run)
    parts = opened.parts
    able = [
        name for name, one in parts.models.items() if (hasattr(one, "search_with") and getattr(one, "inner", True)) or hasattr(one, "encode_item")
    ]
    if model is None and not able:
        raise ValueError(f"{opened.folder}: no model of this run has vectors")
    chosen = model or able[0]
    if chosen not in able:
        raise ValueError(f"{opened.folder}: the run has no model {chosen!r} with vectors{nearest(chosen, able)}")
    recorder = _Recorder()
    route = parts.behind(chosen, recorder)
    start = opened.start
    known = np.unique(start.users[start.users >= 0])
    if not len(known):
        raise ValueError(f"{opened.folder}: the run knows no user's events, so nobody would ask")
    some = np.sort(np.random.default_rng(0).permutation(known)[:users])
    past = past_of(opened.recipe, start, (len(opened.users), len(opened.items)))
    now = np.full(len(some), int(start.times.max()) + 1, np.int64)
    route.retrieve(past.request(some, now), 1)
    vectors, ids = recorder.everything()
    queries, exclude = recorder.asked[0]
    there = queries.any(1)
    if not there.any():
        raise ValueError(f"{opened.folder}: {chosen} has no vector for any of {len(some)} users, so there is nothing to ask")
    return Vectors(f"{chosen} of {opened.folder.name}", vectors, queries[there], _by_place(exclude, ids, np.flatnonzero(there)))


def _by_place(exclude: Ragged | None, ids: Ints, rows: Ints) -> Ragged | None:
    """The lists of these rows with places among ``ids`` for ids; what is not there is left out."""
    if exclude is None:
        return None
    lists = (exclude[row] for row in rows.tolist())
    return Ragged.of([np.flatnonzero(np.isin(ids, one)) for one in lists])
