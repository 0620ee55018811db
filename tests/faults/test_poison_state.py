"""Ten thousand fuzzed events among sound ones: none crashes anything, every sound one lands. And a disk that is really full."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.state.worlds import NOW, opened, rating

ROOT = Path(__file__).resolve().parents[2]
JUNK: list[Any] = [
    None, True, 0, -1, 10**30, -(10**30), 1e308, float("nan"), float("-inf"), "", " ", "\x00", "\ud800", "a" * 600, "ü" * 300,
    "'; DROP TABLE events; --",
    "%s%n", "../../etc", [], [[]], {}, {"a": {"b": 1}}, b"bytes", object(), {1, 2}, 1j, "9" * 5000, "\u202e", "{{7*7}}", "\r\nSet-Cookie: x",
]  # fmt: skip


def fuzzed(rng: random.Random) -> Any:
    shape = rng.random()
    if shape < 0.1:
        return rng.choice(JUNK)
    made: dict[Any, Any] = rating(f"u{rng.randrange(20)}", f"i{rng.randrange(20)}", rng.randrange(6), NOW - rng.randrange(10**9))
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice(["user", "item", "kind", "time", "value", "event_id", "request_id", "context", "other", 5, None])
        if rng.random() < 0.2:
            made.pop(name, None)
        else:
            made[name] = rng.choice(JUNK)
    if shape > 0.97:
        deep: list[Any] = []
        for _ in range(2000):
            deep = [deep]
        made["context"] = {"deep": deep}
    return made


def test_ten_thousand_poison_events(tmp_path: Path) -> None:
    rng = random.Random(7)
    sound = kept = rejected = 0
    with opened(tmp_path) as state:
        for batch in range(100):
            events = [fuzzed(rng) for _ in range(100)]
            good = rng.sample(range(110), 10)
            for place in sorted(good):
                events.insert(place, rating(f"good{batch}", f"g{place}", 5, NOW - place, event_id=f"good{batch}-{place}"))
            outcomes = state.append(events)
            assert len(outcomes) == len(events)
            for one, event in zip(outcomes, events, strict=True):
                if isinstance(event, dict) and str(event.get("event_id", "")).startswith("good"):
                    assert one.status == "accepted"
                    sound += 1
                kept += one.status == "accepted"
                rejected += one.status == "rejected"
                assert (one.status == "rejected") == bool(one.reason)
        assert sound == 1000
        assert rejected > 5000
        assert len(state.dead_letters()) == rejected
        assert len(state.events_frame()) == kept == state.sequence
        json.dumps(state.dead_letters())
        digest = state.digest()
    with opened(tmp_path) as state:
        assert state.digest() == digest


FULL_DISK = """
import resource, sys, time
from pathlib import Path
from palate.state.log import StorageFull
from tests.state.worlds import opened, rating
state = opened(Path(sys.argv[1]))
state.append([rating("ann", "tea", event_id="first")])
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, resource.RLIM_INFINITY))
answered, full = ["first"], 0
for n in range(400):
    batch = [rating(f"u{n}", f"i{k}", event_id=f"{n}-{k}", note="x" * 200) for k in range(50)]
    try:
        answered += [one.event_id for one in state.append(batch) if one.status == "accepted"]
    except StorageFull as error:
        assert isinstance(error, OSError)
        full += 1
        assert len(state.request(["ann"]).histories.items) == 1  # reads go on
        if full == 3:
            break
assert full == 3, "the disk never filled"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
begun = time.monotonic()
while True:
    try:
        answered += [one.event_id for one in state.append([rating("ann", "jam", event_id="after")])]
        break
    except StorageFull:
        assert time.monotonic() - begun < 10
assert set(state.events_frame()["event_id"]) == set(answered)
state.close()
state = opened(Path(sys.argv[1]))
assert set(state.events_frame()["event_id"]) == set(answered)
print(len(answered), time.monotonic() - begun)
"""


def test_a_full_disk_acknowledges_nothing_and_recovers(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 100
