from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from palate.state.log import Log, StateCorrupt, StateError, StateLocked, StateUnreadable, StorageFull
from tests.state.worlds import opened, rating


def test_concurrent_callers_share_commits(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.submit(lambda c: c.execute("CREATE TABLE mine (n INTEGER)") and None).wait()
    before = log._commits
    gate, order = threading.Event(), []
    first = log.submit(lambda c: gate.wait(10))  # while this one is on its way, the others gather
    rest = [log.submit(lambda c, n=n: c.execute("INSERT INTO mine VALUES (?)", (n,)).lastrowid, order.append) for n in range(40)]  # type: ignore[misc]
    gate.set()
    first.wait()
    numbers = [ticket.wait() for ticket in rest]
    assert numbers == order == list(range(1, 41))  # applied in the log's order
    assert log._commits - before <= 2
    log.close()


def test_one_faulty_piece_of_work_harms_no_other(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.submit(lambda c: c.execute("CREATE TABLE mine (n INTEGER UNIQUE)") and None).wait()
    gate = threading.Event()
    log.submit(lambda c: gate.wait(10))

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO mine VALUES (99)")
        raise KeyError("mine")

    tickets = [log.submit(work) for work in (lambda c: c.execute("INSERT INTO mine VALUES (1)").rowcount, broken, lambda c: 7)]
    gate.set()
    assert tickets[0].wait() == 1
    with pytest.raises(KeyError):
        tickets[1].wait()
    assert tickets[2].wait() == 7
    with pytest.raises(sqlite3.IntegrityError):
        log.submit(lambda c: c.execute("INSERT INTO mine VALUES (1)")).wait()
    with log.reading() as connection:
        assert connection.execute("SELECT n FROM mine").fetchall() == [(1,)]
    log.close()
    with pytest.raises(StateError, match="closed"):
        log.submit(lambda c: None)


def test_a_disk_that_fails_is_told_from_a_log_that_is_damaged(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    (tmp_path / "noise").write_bytes(b"no database" * 1000)
    fails = ["ATTACH '%s/none/x' AS other", "CREATE TEMP TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n"]
    with log.reading() as connection:
        connection.execute("PRAGMA temp.max_page_count = 2")
    for sql, said in zip(fails, ("unable to open", "full"), strict=True):
        with pytest.raises(StateUnreadable, match=said) as error, log.reading() as connection:
            connection.execute(sql.replace("%s", str(tmp_path)))
        assert not isinstance(error.value, StateCorrupt)
        assert error.value.filename == str(log.path)
    with pytest.raises(StateCorrupt, match="not a database"), log.reading() as connection:
        connection.execute(f"ATTACH '{tmp_path}/noise' AS other")
    log.close()


def test_a_lock_of_another_process_is_named(tmp_path: Path) -> None:
    opened(tmp_path).close()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from pathlib import Path; from palate.state.log import Log; Log(Path({str(tmp_path)!r})); print(1, flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(StateLocked, match=str(holder.pid)):
        Log(tmp_path)
    holder.kill()
    holder.wait()
    opened(tmp_path).close()  # a killed process leaves no lock behind


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder as a killed process leaves it: 30 events answered, some of them still in the write-ahead file."""
    folder, copy = tmp_path / "state", tmp_path / "killed"
    with opened(folder) as state:
        for k in range(30):
            assert state.append([rating("ann", f"i{k}", event_id=f"e{k}")])[0].status == "accepted"
            if k == 12:
                state._log.submit(lambda c: None, lambda _: state._log._checkpoint()).wait()
        shutil.copytree(folder, copy)
    (copy / "log.sqlite-shm").unlink(missing_ok=True)
    return copy


def outcome(folder: Path) -> int | str:
    """How many events are there, or the name of the refusal."""
    try:
        with opened(folder) as state:
            return len(state.events_frame())
    except StateError as error:
        return type(error).__name__ if "log.sqlite" in str(error) else f"names no file: {error}"


def test_a_killed_process_loses_nothing(killed: Path) -> None:
    assert outcome(killed) == 30


@pytest.mark.parametrize("name", ["log.sqlite", "log.sqlite-wal"])
def test_a_cut_file_is_refused_by_name_or_whole(killed: Path, tmp_path: Path, name: str) -> None:
    whole = (killed / name).read_bytes()
    used = len(whole.rstrip(b"\0"))
    assert used > 4096
    refused = 0
    for place, size in enumerate(sorted({*range(0, used, max(1, used // 60)), used - 1, used // 2 + 1, 1, 16, 31, 100})):
        trial = tmp_path / f"cut{place}"
        shutil.copytree(killed, trial)
        os.truncate(trial / name, size)
        found = outcome(trial)
        assert found in (30, "StateCorrupt"), (size, found)
        refused += found == "StateCorrupt"
        shutil.rmtree(trial)
    assert refused > 40


@pytest.mark.parametrize("name", ["log.sqlite", "log.sqlite-wal"])
def test_a_flipped_byte_is_refused_or_harmless(killed: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(killed, tmp_path / "sound")
    with opened(tmp_path / "sound") as state:
        digest = state.digest()
    folder = killed if name.endswith("wal") else tmp_path / "sound"  # the latter has everything in the one file
    whole = (folder / name).read_bytes()
    used = len(whole.rstrip(b"\0"))
    refused = 0
    for place, at in enumerate(range(0, used, max(1, used // 80))):
        trial = tmp_path / f"flip{place}"
        shutil.copytree(folder, trial)
        changed = bytearray(whole)
        changed[at] ^= 0x55
        (trial / name).write_bytes(changed)
        try:
            with opened(trial) as state:
                assert state.digest() == digest, at
                assert len(state.events_frame()) == 30
        except StateError:
            refused += 1
        shutil.rmtree(trial)
    assert refused > 5


def test_a_missing_log_or_one_of_another_make_is_refused(killed: Path) -> None:
    with opened(killed) as state:
        state._log.submit(lambda c: c.execute("UPDATE meta SET value = 99 WHERE name = 'format'").rowcount).wait()
    with pytest.raises(StateError, match="format 99"):
        opened(killed)
    (killed / "log.sqlite").unlink()
    (killed / "log.sqlite-wal").unlink(missing_ok=True)
    with pytest.raises(StateCorrupt, match="is missing"):
        opened(killed)
    (killed / "log.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StateCorrupt, match="damaged"):
        opened(killed)
    (killed / "log.sqlite").unlink()
    (killed / "log.sqlite").symlink_to(killed / "elsewhere")
    with pytest.raises(StateError, match="link"):
        opened(killed)


def test_callers_commit_by_themselves_where_the_writer_is_idle(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.submit(lambda c: c.execute("CREATE TABLE mine (n INTEGER UNIQUE)") and None).wait()
    applied: list[int] = []
    names: set[str] = set()
    failed: list[Exception] = []

    def insert(connection: sqlite3.Connection, n: int) -> int:
        return connection.execute("INSERT INTO mine VALUES (?)", (n,)).lastrowid or 0

    def alone() -> None:
        for _ in range(50):
            names.add(log.do(lambda c: threading.current_thread().name))
            time.sleep(0.005)

    single = threading.Thread(target=alone, name="caller")
    single.start()
    single.join()
    assert "caller" in names

    def call(first: int) -> None:
        for n in range(first, first + 20):
            (log.do if n % 3 else lambda *work: log.submit(*work).wait())(lambda c, n=n: insert(c, n), applied.append)
        try:
            log.do(lambda c: insert(c, first))
        except sqlite3.IntegrityError as error:
            failed.append(error)

    callers = [threading.Thread(target=call, args=(100 * one,)) for one in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert applied == list(range(1, 81))  # in the log's order
    assert len(failed) == 4
    assert log.do(lambda c: threading.current_thread().name) == "palate-log"  # the main thread leaves it to the writer
    until = time.monotonic() + 10
    while log._dirty and time.monotonic() < until:
        time.sleep(0.05)
    assert not log._dirty  # the write-ahead file was moved in the pause
    log.close()
    late: list[Exception] = []

    def after_the_end() -> None:
        try:
            log.do(lambda c: None)
        except StateError as error:
            late.append(error)

    thread = threading.Thread(target=after_the_end)
    thread.start()
    thread.join()
    assert len(late) == 1
    reopened = Log(tmp_path)
    with reopened.reading() as connection:
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (80,)
    reopened.close()


def test_nobody_else_can_read_what_users_did(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.submit(lambda c: c.execute("CREATE TABLE mine (n INTEGER)") and None).wait()
    assert {file.name: file.stat().st_mode & 0o077 for file in tmp_path.iterdir() if file.stat().st_mode & 0o077} == {}
    log.close()


def test_deleting_for_good_says_where_a_reader_keeps_it_from_being_so(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log._connection.execute("PRAGMA busy_timeout=20")
    log.submit(lambda c: c.execute("CREATE TABLE mine (word TEXT)") and None).wait()
    log.submit(lambda c: c.execute("INSERT INTO mine VALUES ('canary')") and None).wait()

    def left() -> bool:
        return any(b"canary" in file.read_bytes() for file in tmp_path.iterdir())

    other = sqlite3.connect(f"file:{tmp_path / 'log.sqlite'}?mode=ro", uri=True, isolation_level=None)
    other.execute("BEGIN")
    assert other.execute("SELECT word FROM mine").fetchone() == ("canary",)
    with pytest.raises(StorageFull, match="another process reads"):
        log.submit(lambda c: c.execute("DELETE FROM mine") and None, alone=True).wait()
    assert left()
    other.close()
    log.submit(lambda c: c.execute("DELETE FROM mine") and None, alone=True).wait()
    assert not left()
    log.close()
