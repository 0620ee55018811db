"""The synthetic world at 1 million users, 1 million items and 20 million events: seconds and memory of each stage, and what a request costs.

    python -m bench.scale [--users 1000000] [--items 1000000] [--events 20000000] [--small 10000] [--threads 1] [--requests 1000] [--json]

The same steps run first on a world of ``--small`` items with as many users and events in proportion, then on the large one, each in a process of
its own: the last line compares a request's p99 on both. One line a stage: wall and CPU seconds, what the process holds after it and the most
it held during it. ``world`` and what follows it up to ``pipeline`` make the features; then every model is fitted as ``palate train`` fits it,
on all clicks (two-tower, one pass) and on all impressions with what came of them (ranker, one pass). Requests are answered one at a time by
the guarded funnel, as the service does, over the live state: histories of what users did, counters of all events.
``/usr/bin/time -v python -m bench.scale`` shows the peak of the whole.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.ranked import peak_mb
from palate import assembly
from palate.assembly import Parts
from palate.build import build
from palate.candidates import DAY, Candidates, Ragged, Request
from palate.datasets.interactions import Interactions
from palate.datasets.moments import moments
from palate.datasets.offered import Outcomes
from palate.datasets.pairs import Pairs
from palate.datasets.pointwise import Pointwise
from palate.features.pipeline import FeaturePipeline
from palate.funnel.funnel import Funnel, Trace
from palate.recipe import Recipe
from palate.state.catalogue import Catalogue
from palate.state.consumed import Consumed
from palate.state.history import LiveHistory
from palate.state.live import LiveCounts
from palate.state.past import Past, PastCounts
from palate.state.rows import EventRows, event_rows
from palate.tables.sources.synthetic import synthetic
from palate.training.trainer import Trainer

RECIPE = Path(__file__).parent / "scale.toml"

CAPS = ("neighbors", "max_items_per_user", "max_users_per_item")
CHUNK = 500_000  #: rows of the ranker's examples encoded at a time
ROUNDS = 5  #: of requests; a percentile is the median of the rounds


class Held(threading.Thread):
    """Looks every 20 ms at how much memory the process holds; ``most`` is the largest since it was last set to 0."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0.0
        self.start()

    @staticmethod
    def now() -> float:
        """Megabytes; where the system does not tell, the most it ever was."""
        try:
            return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        except OSError:
            return peak_mb()

    def run(self) -> None:
        while True:
            self.most = max(self.most, self.now())
            time.sleep(0.02)


@dataclass
class Scale:
    """One world from the log to answered requests. Each step prints its line."""

    users: int
    items: int
    events: int
    requests: int
    threads: int
    held: Held = field(default_factory=Held)
    models: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        recipe = Recipe.load(RECIPE)
        options = {"users": self.users, "items": self.items, "events": self.events}
        self.recipe = replace(recipe, data=replace(recipe.data, options=options))

    def say(self, stage: str, line: dict[str, Any]) -> None:
        print(json.dumps({"stage": stage, "users": self.users, "items": self.items, "events": self.events} | line), flush=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Times what is done inside; what is put into the dict is printed with it."""
        gc.collect()
        self.held.most = Held.now()
        more: dict[str, Any] = {}
        wall, cpu = time.perf_counter(), time.process_time()
        yield more
        spent = {"seconds": round(time.perf_counter() - wall, 2), "cpu_seconds": round(time.process_time() - cpu, 2)}
        self.say(name, spent | {"held_mb": round(Held.now()), "most_mb": round(max(self.held.most, Held.now()))} | more)

    def run(self) -> None:
        began, cpu = time.perf_counter(), time.process_time()
        self.tables()
        self.growth()
        self.past = Past(self.rows, self.users, self.items, self.recipe.state.window_ms, self.recipe.state.bucket_ms)
        self.done = Past(self.acts, self.users, self.items, self.recipe.state.window_ms, self.recipe.state.bucket_ms)
        with self.stage("pipeline") as more:
            made = FeaturePipeline(self.recipe.features, self.recipe.labels)
            self.pipeline = made.fit(self.users_table, self.items_table, self.rows, self.past.counts)
            more["vocabulary"] = sum(one.vocab_size for one in self.pipeline.schema.features if not one.shares)
        self.counters()
        self.two_tower()
        self.ranker()
        self.ask(self.funnel())
        spent = {"seconds": round(time.perf_counter() - began), "cpu_seconds": round(time.process_time() - cpu)}
        self.say("whole", spent | {"peak_mb": round(1.048576 * peak_mb())})

    # ── tables, state and features ──────────────────────────────────────────────────────────────────────────────────────

    def tables(self) -> None:
        with self.stage("world"):
            world = synthetic(**self.recipe.data.options)
        with self.stage("catalogues"):
            born = dict(zip(world.items["id"].to_list(), world.items["created"].to_list(), strict=True))
            self.items_table = Catalogue.of(world.items, "items", born)
            self.users_table = Catalogue.of(world.users, "users")
        with self.stage("rows") as more:
            self.rows = event_rows(world.events, self.users_table, self.items_table, self.recipe.signals)
            done = (self.rows.signals & ~self.rows.bit("impression")) != 0
            self.acts = self.rows.take(done)
            more |= {"events_mb": megabytes(self.rows), "acts": len(self.acts)}

    def growth(self) -> None:
        """Histories and counters of half of the events and of all: of the past, for making examples, and live, for serving."""
        windows, bucket, names = self.recipe.state.window_ms, self.recipe.state.bucket_ms, self.rows.names
        for n in (len(self.rows) // 2, len(self.rows)):
            some = self.rows.take(slice(0, n))
            with self.stage("histories") as more:
                live = LiveHistory()
                live.load(some.users, some.items, some.times, some.signals, some.values, np.arange(n))
                more |= {"of": n, "live_mb": round(live.nbytes / 1e6), "bytes_an_event": round(live.nbytes / n, 1)}
            with self.stage("counters") as more:
                counts = LiveCounts(names, windows, bucket, self.users, self.items)
                counts.load(some.users, some.items, some.times, some.signals)
                more |= {"of": n, "live_mb": round(counts.nbytes / 1e6), "bytes_an_event": round(counts.nbytes / n, 1)}
            with self.stage("past") as more:
                past = Past(some, self.users, self.items, windows, bucket)
                now = np.full(1, some.times[-1] + 1)
                past.request(np.zeros(1, np.int64), now)
                past.counts.items(np.zeros(1, np.int64), now), past.counts.users(np.zeros(1, np.int64), now)
                size = nbytes(past)
                more |= {"of": n, "past_mb": round(size / 1e6), "bytes_an_event": round(size / n, 1)}
            del live, counts, past

    # ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def make(self, name: str) -> Any:
        return assembly.make(self.recipe, name, self.items_table, self.pipeline)

    def counters(self) -> None:
        with self.stage("interactions") as more:
            interactions = Interactions.of(self.acts.showing("click"), self.users, self.items, now=int(self.rows.times[-1]) + 1)
            more["pairs"] = len(interactions)
        for name in ("popular", "itemcf", "ials"):
            with self.stage(name) as more:
                self.models[name] = self.make(name).fit(interactions)
                options = self.recipe.models[name].options
                more |= {key: options[key] for key in CAPS if key in options} | getattr(self.models[name], "report", {})

    def fit(self, name: str, examples: Any, more: dict[str, Any]) -> None:
        options = {key: value for key, value in self.recipe.models[name].training.items() if key != "uniform"}
        model = self.make(name)
        fitting = build(Trainer, {"seed": self.recipe.seed, "threads": self.threads, **options}).fit(model, examples)
        more |= {"rows": fitting.rows, "loss": round(fitting.losses[-1], 4)}
        self.models[name] = model.eval()

    def two_tower(self) -> None:
        with self.stage("two_tower examples"):
            taken = self.acts.showing("click")
            fixed, varying = moments(self.pipeline, self.done, taken.users, taken.times)
            uniform = self.recipe.models["two_tower"].training["uniform"]
            pairs = Pairs(taken.items, taken.users, self.pipeline.item_columns(), fixed, taken.users, varying, uniform=uniform)
        with self.stage("two_tower") as more:
            self.fit("two_tower", pairs, more)

    def ranker(self) -> None:
        with self.stage("ranker examples") as more:
            shown = self.rows.showing("impression")
            fixed, varying = moments(self.pipeline, self.done, shown.users, shown.times)
            tasks = {name: (task.signal, task.given) for name, task in self.recipe.tasks.items()}
            outcomes = Outcomes.of(self.acts, tasks, self.items)
            pairs: dict[str, Any] = {}
            labels: dict[str, Any] = {}
            for start in range(0, len(shown), CHUNK):
                some = slice(start, start + CHUNK)
                asked, offered = self.impressions(shown.take(some))
                for kept, found in ((pairs, self.pipeline.encode_pairs(asked, offered)), (labels, outcomes.labels(asked, offered))):
                    for name, values in found.items():
                        kept.setdefault(name, np.empty(len(shown), np.float32))[some] = values
            examples = Pointwise(varying | pairs, labels, shown.users, fixed, shown.users, self.pipeline.item_columns(), shown.items)
            more["clicked"] = round(float(labels["click"].mean()), 4)
        with self.stage("ranker") as more:
            self.fit("ranker", examples, more)

    def impressions(self, shown: EventRows) -> tuple[Request, Candidates]:
        """Each as a request of its own with one candidate; counters see the events before its moment."""
        one = np.arange(len(shown) + 1)
        asked = Request(shown.users, self.done.histories(shown.users[:0], shown.times[:0]), shown.times, counts=self.past.counts)
        return asked, Candidates(shown.items, np.zeros(len(shown), np.float32), one)

    # ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def funnel(self) -> Funnel:
        with self.stage("indexes and funnel"):
            parts = Parts(self.recipe, self.items_table, self.users_table, self.pipeline, self.models, {"click": 1.0, "like": 0.2})
            funnel = parts.funnel()
            funnel.warm()
        return funnel

    def ask(self, funnel: Funnel) -> None:
        """Single requests of users drawn evenly, one in twenty a stranger, at the end of the log."""
        torch.set_num_threads(1)
        with self.stage("live state") as more:
            live, seen = LiveHistory(), Consumed()
            live.load(self.acts.users, self.acts.items, self.acts.times, self.acts.signals, self.acts.values, np.arange(len(self.acts)))
            counts = LiveCounts(self.rows.names, self.recipe.state.window_ms, self.recipe.state.bucket_ms, self.users, self.items)
            counts.load(self.rows.users, self.rows.items, self.rows.times, self.rows.signals)
            seen.load(self.acts.users, self.acts.items)
            more["live_mb"] = round((live.nbytes + counts.nbytes + seen.nbytes) / 1e6)
        rng = np.random.default_rng(0)
        now = np.array([int(self.rows.times[-1]) + DAY // 24])

        def request(user: int) -> Request:
            one = np.array([user], np.int64)
            exclude = Ragged.of([seen.of(user)])
            return Request(one, live.histories(one), now, exclude=exclude, counts=counts, deadline=time.monotonic() + 0.5)

        for _ in range(100):  # until compiled code is loaded
            funnel.recommend(request(int(rng.integers(0, self.users))), 20)
        rounds: list[dict[str, float]] = []
        stages: dict[str, list[float]] = {}
        late, ranked = 0, []
        with self.stage("requests") as more:
            for _ in range(ROUNDS):
                wall, cpu = [], []
                for user in np.where(rng.random(self.requests) < 0.05, -1, rng.integers(0, self.users, self.requests)).tolist():
                    trace = Trace()
                    start, spent = time.perf_counter(), time.process_time()
                    funnel.recommend(request(user), 20, trace)
                    wall.append((time.perf_counter() - start) * 1e3)
                    cpu.append((time.process_time() - spent) * 1e3)
                    late += bool(trace.degraded)
                    for passage in trace.passages:
                        stages.setdefault(passage.stage, []).append(passage.seconds * 1e3)
                        if passage.stage == "rank" and passage.after is not None:
                            ranked.append(len(passage.after.items))
                figures = (("p", wall), ("cpu_p", cpu))
                rounds.append({f"{name}{p}_ms": float(np.percentile(spans, p)) for name, spans in figures for p in (50, 99)})
            more |= {"requests": ROUNDS * self.requests, "degraded": late, "ranked": round(float(np.mean(ranked)), 1)}
            more |= {name: round(float(np.median([one[name] for one in rounds])), 2) for name in rounds[0]}
            more["best_p99_ms"] = round(min(one["p99_ms"] for one in rounds), 2)
            more |= {f"stage_p{p}_ms": {name: round(float(np.percentile(spans, p)), 2) for name, spans in stages.items()} for p in (50, 99)}
            more["load1"] = round(os.getloadavg()[0], 1)


def nbytes(whole: Any) -> int:
    """Bytes of all arrays of a Past beside the events themselves."""
    counts: PastCounts = whole.counts
    sides = [whole._known, counts._items[0], counts._users[0]]
    return sum(side.nbytes for side in sides) + counts._items[1].nbytes + counts._users[1].nbytes


def megabytes(rows: EventRows) -> int:
    return round(sum(getattr(rows, name).nbytes for name in ("users", "items", "times", "signals", "values")) / 1e6)


def show(line: dict[str, Any], as_json: bool) -> None:
    rest = {key: value for key, value in line.items() if key not in ("stage", "users", "items", "events")}
    readable = f"{line['stage']:<20}" + "  ".join(f"{key} {value}" for key, value in rest.items())
    print(json.dumps(line) if as_json else readable, flush=True)


def child(options: list[str], as_json: bool) -> list[dict[str, Any]]:
    """One world in a process of its own; its lines."""
    threads = options[options.index("--threads") + 1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": threads}
    lines = []
    command = [sys.executable, "-m", "bench.scale", *options, "--here"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parent.parent) as process:
        assert process.stdout is not None
        for text in process.stdout:
            lines.append(json.loads(text))
            show(lines[-1], as_json)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--small", type=int, default=10_000, help="items of the world that a request is compared with; 0: none")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON line a stage")
    parser.add_argument("--here", action="store_true", help="run the one world in this process")
    given = parser.parse_args()
    if given.here:
        torch.set_num_threads(given.threads)
        return Scale(given.users, given.items, given.events, given.requests, given.threads).run()
    share = given.small / given.items
    found = []
    for factor in (share, 1.0) if given.small else (1.0,):
        sizes = {"users": max(1, round(given.users * factor)), "items": round(given.items * factor), "events": round(given.events * factor)}
        options = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
        found.append(child([*options, "--requests", str(given.requests), "--threads", str(given.threads)], given.json))
    asked = [next(line for line in lines if line["stage"] == "requests") for lines in found]
    whole = next(line for line in found[-1] if line["stage"] == "whole")
    line = {"stage": "summary", "minutes": round(whole["seconds"] / 60, 1), "cpu_minutes": round(whole["cpu_seconds"] / 60, 1)}
    line |= {
        "peak_gb": round(whole["peak_mb"] / 1e3, 2),
        "p99_ms": [one["p99_ms"] for one in asked],
        "cpu_p99_ms": [one["cpu_p99_ms"] for one in asked],
    }
    if len(asked) > 1:
        line |= {f"{name}_ratio": round(asked[1][f"{name}_ms"] / asked[0][f"{name}_ms"], 2) for name in ("p50", "p99", "cpu_p50", "cpu_p99")}
    show(line, given.json)
    return None


if __name__ == "__main__":
    main()
