"""SIGKILL at random moments: what was answered is there exactly once. And: the harness catches builds that are broken on purpose."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.state_child import event
from tests.state.worlds import opened

ROOT = Path(__file__).resolve().parents[2]


def child(folder: Path, build: str, first: int, *count: int) -> list[str]:
    return [sys.executable, "-m", "tests.faults.state_child", str(folder), build, str(first), *map(str, count)]


def pour_and_kill(folder: Path, build: str, first: int, rng: random.Random) -> tuple[dict[int, str], str]:
    """What the client knows after the server was killed: number -> status of every answer it got; and what the server said last."""
    server = subprocess.Popen(child(folder, build, first), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert server.stdout is not None
    assert server.stderr is not None
    if server.stdout.readline() == b"ready\n":
        time.sleep(rng.uniform(0.0, 0.15))
    server.kill()
    rest, errors = server.communicate()
    lines = [line.split() for line in rest.decode().split("\n")[:-1]]  # the last line may be half a line
    return {int(number): status for number, status in lines}, errors.decode()


def cycles(folder: Path, build: str, count: int, seed: int) -> list[str]:
    """Pours, kills, and pours again what was not answered, ``count`` times. The faults that the ledger finds."""
    rng, faults = random.Random(seed), []
    answered: set[int] = set()
    first = 0
    for _ in range(count):
        replies, errors = pour_and_kill(folder, build, first, rng)
        if "StateCorrupt" in errors:
            faults.append("refused")
            break
        for number, status in replies.items():
            if status == "accepted" and number in answered:
                faults.append(f"{number} taken twice")
            if status == "rejected":
                faults.append(f"{number} rejected")
        answered |= set(replies)
        first = max(0, max(answered, default=0) - rng.randrange(30))  # some again: a client that saw no answer asks again
        if faults:
            break
    try:
        with opened(folder) as state:
            there = Counter(int(one.split("/")[0].removeprefix("e")) for one in state.events_frame()["event_id"])
            digest = state.digest()
    except Exception as error:
        return [*faults, type(error).__name__]
    faults += [f"{number} lost" for number in answered if not there[number]]
    faults += [f"{number} doubled" for number, times in there.items() if times > 1]
    with opened(None) as truth:
        truth.append([event(number) for number in there])
        if truth.digest() != digest:
            faults.append("another state")
    return faults if answered or faults else ["nothing was answered"]


def test_nothing_answered_is_lost_or_doubled(tmp_path: Path) -> None:
    assert cycles(tmp_path / "state", "sound", 10, seed=1) == []


@pytest.mark.parametrize("build", ["early", "double", "forgetful"])
def test_broken_builds_are_caught(tmp_path: Path, build: str) -> None:
    for seed in range(8):  # each must show itself within a few cycles
        if cycles(tmp_path / f"state{seed}", build, 3, seed):
            return
    pytest.fail(f"the harness does not see that the build {build!r} is broken")


@pytest.mark.faults
def test_a_hundred_kills(tmp_path: Path) -> None:
    assert cycles(tmp_path / "state", "sound", 100, seed=2) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_answer_before_the_disk_has_it(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-e", "trace=fdatasync,fsync,pwrite64,write", "-o", str(trace), *child(tmp_path / "state", "sound", 0, 200)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    if done.returncode or "accepted" not in done.stdout:
        pytest.skip(f"strace may not trace here: {done.stderr[-200:]}")
    written = synced = answers = early = 0
    for line in trace.read_text().splitlines():
        if "log.sqlite-wal" in line and "pwrite64(" in line:
            written, synced = written + 1, 0
        elif "log.sqlite-wal" in line and re.search(r"f(data)?sync\(", line):
            synced = 1
        elif "accepted" in line:
            answers += 1
            early += not synced or not written
            written = 0
    assert answers == 200
    assert early == 0
