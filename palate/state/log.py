"""The durable log: one SQLite file in WAL mode with full sync, one writer thread that commits in groups.

Callers hand the writer a piece of work and wait; whatever was handed in while a commit was on its way to the disk shares the next
one, and an idle log commits at once. What a piece of work changes in memory is applied after its commit, in the log's order, by the
same thread. Beside the log lies ``mark``: how many commits were answered, so that a log that was cut is refused, not believed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import queue
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

GROUP = 512  #: pieces of work in one commit at most
ROOM = 4_194_304  #: bytes of the write-ahead file made ready at the start: syncing a file that does not grow costs half as much
FULL = 4_000  #: changes after which the write-ahead file is moved to the log even if there is no pause
PAUSE = 0.25  #: seconds without work after which the write-ahead file is moved

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, user TEXT NOT NULL, item TEXT NOT NULL,
    time INTEGER NOT NULL, kind TEXT NOT NULL, value REAL, request_id TEXT, context TEXT, key INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS dead_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, field TEXT NOT NULL, reason TEXT NOT NULL, user TEXT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, user TEXT, now INTEGER NOT NULL, as_of INTEGER NOT NULL,
    items TEXT NOT NULL, page TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS entities (
    number INTEGER PRIMARY KEY AUTOINCREMENT, side TEXT NOT NULL, id TEXT, fresh INTEGER NOT NULL, created INTEGER NOT NULL, attributes TEXT,
    available INTEGER NOT NULL DEFAULT 1, UNIQUE (side, id));
CREATE TABLE IF NOT EXISTS tombstones (hash BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
"""
FORMAT = 1


class StateError(RuntimeError):
    """The state on disk cannot be used; the text names the file and what to do."""


class StateLocked(StateError):
    """Another process has the state open."""


class StateCorrupt(StateError):
    """A file of the state was cut or altered."""


class StorageFull(OSError, StateError):
    """The disk took nothing (full, or an input/output error): nothing of the call was kept, reads go on."""


class StateUnreadable(OSError, StateError):
    """The disk did not give what was asked for (an input/output error, no handle left, no right to it): that says nothing of the log, which
    may be whole. Ask again."""


class Ticket(Generic[T]):
    """Work handed to the writer; ``wait`` returns its result once it is on disk and applied, or raises."""

    __slots__ = ("_after", "_alone", "_done", "_error", "_result", "_work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], after: Callable[[T], Any] | None, alone: bool = False) -> None:
        self._work, self._after, self._alone = work, after, alone
        self._done = threading.Lock()  # held until the work is done: the cheapest thing to wait on
        self._done.acquire()
        self._result: Any = None
        self._error: BaseException | None = None

    def wait(self, timeout: float = -1) -> T:
        if not self._done.acquire(timeout=timeout):
            raise TimeoutError("the log has not answered yet")
        self._done.release()
        if self._error is not None:
            raise self._error
        result: T = self._result
        return result


def _nothing(connection: sqlite3.Connection) -> None:
    """Work that only wakes the writer."""


class Log:
    """The log in ``folder`` (made if need be), or in memory without one. One process at a time. StateError says what is wrong."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.path = folder / "log.sqlite" if folder else None
        self._lock_file = self._mark_file = -1
        self._commits = 0
        self._dirty = 0  # changes since the write-ahead file was moved, about
        self._closed = False
        self._tasks: queue.SimpleQueue[Ticket[Any] | None] = queue.SimpleQueue()
        self._reading, self._door = threading.Lock(), threading.Lock()
        self._writing = threading.Lock()  # of the connection that writes
        self._last = 0.0  # when a caller committed its own work last
        try:
            self._open()
        except BaseException:
            self._release()
            raise
        self._writer = threading.Thread(target=self._run, name="palate-log", daemon=True)
        self._writer.start()

    # ---- opening

    def _open(self) -> None:
        if self.folder is None or self.path is None:
            self._connection = self._reader = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._connection.executescript(TABLES)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock(self.folder / "lock")
        for name in (self.path, self.folder / "mark", self.folder / "log.sqlite-wal"):
            if name.is_symlink():
                raise StateError(f"{name} is a link; the state must be files of its own")
        answered = self._read_mark(self.folder / "mark")
        if answered and not self.path.exists():
            raise StateCorrupt(f"{self.path} is missing, but {answered} commits were answered; put the file back, or remove the folder to begin anew")
        try:
            with contextlib.suppress(FileExistsError):  # what users did is for its owner's eyes; SQLite gives -wal and -shm the same mode
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = self._connect(self.path)
            broken = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if broken != "ok":
                raise sqlite3.DatabaseError(broken)
            self._connection.executescript(TABLES)
            form = self._connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
            if form is None:
                self._connection.execute("INSERT INTO meta VALUES ('format', ?), ('commits', 0)", (FORMAT,))
            elif form[0] != FORMAT:
                raise StateError(f"{self.path} has the format {form[0]}, this palate reads {FORMAT}")
            self._commits = self._connection.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()[0]
            self._reader = self._connect(self.path)
        except sqlite3.OperationalError as error:
            if "full" in str(error) or "I/O" in str(error):
                raise StorageFull(28, f"{self.path} cannot be opened: {error}") from error
            raise StateError(f"{self.path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StateCorrupt(f"{self.path} is damaged ({error}); restore it from a copy, or remove the folder to begin anew") from error
        if answered > self._commits:
            raise StateCorrupt(
                f"{self.path} was cut: {answered - self._commits} of {answered} answered commits are missing; restore it and its -wal file from "
                f"a copy, or remove {self.folder / 'mark'} to go on without them"
            )
        self._mark_file = os.open(self.folder / "mark", os.O_RDWR | os.O_CREAT, 0o600)
        self._write_mark()
        self._make_room(self.folder / "log.sqlite-wal")
        self._sync_folder()

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0", "secure_delete=ON", "cache_size=-16384"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _make_room(self, path: Path) -> None:
        """Zeros behind the last record: SQLite takes them for the end of the file."""
        with contextlib.suppress(OSError), open(path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.write(bytes(max(0, ROOM - size)))
            file.flush()
            os.fsync(file.fileno())

    def _lock(self, path: Path) -> None:
        self._lock_file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(self._lock_file, 32).decode("ascii", "replace").strip() or "unknown"
            raise StateLocked(f"{self.folder} is in use by process {owner}: embedded state belongs to one process") from None
        os.ftruncate(self._lock_file, 0)
        os.pwrite(self._lock_file, f"{os.getpid()}\n".encode(), 0)

    def _sync_folder(self) -> None:
        """A new file is only sure to be there after a crash once its folder is on disk."""
        handle = os.open(str(self.folder), os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    @staticmethod
    def _read_mark(path: Path) -> int:
        """Commits answered so far; 0 if there is no mark or it was cut itself."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return 0
        return int(struct.unpack("<q", content)[0]) if len(content) == 8 else 0

    def _write_mark(self) -> None:
        if self._mark_file >= 0:
            with contextlib.suppress(OSError):  # a mark that lags behind is no fault: it only guards
                os.pwrite(self._mark_file, struct.pack("<q", self._commits), 0)

    # ---- writing

    def submit(self, work: Callable[[sqlite3.Connection], T], after: Callable[[T], Any] | None = None, *, alone: bool = False) -> Ticket[T]:
        """Hands ``work`` (runs inside a transaction) and ``after`` (runs with its result once that is on disk) to the writer.

        ``alone``: in a commit of its own, after which the file is rebuilt so that nothing deleted is left in it.
        """
        ticket: Ticket[T] = Ticket(work, after, alone)
        with self._door:  # nothing comes in after the writer was told to stop
            if self._closed:
                raise StateError("the state is closed")
            self._tasks.put(ticket)
        return ticket

    def do(self, work: Callable[[sqlite3.Connection], T], after: Callable[[T], Any] | None = None) -> T:
        """``submit`` and ``wait``. Where the writer has nothing to do, the caller commits by itself: waking two threads costs more than a
        small commit. (Not so the main thread, which a signal may interrupt halfway.)"""
        if threading.current_thread() is threading.main_thread() or not self._writing.acquire(blocking=False):
            return self.submit(work, after).wait()
        try:
            ticket: Ticket[T] | None = None
            with self._door:
                if self._closed:
                    raise StateError("the state is closed")
                if self._tasks.empty() and self._dirty < FULL:
                    ticket = Ticket(work, after)
            if ticket is not None:
                idle = not self._dirty
                self._commit([ticket])
                self._last = time.monotonic()
                if idle or self._dirty >= FULL:  # the writer has to know that there is a write-ahead file to move
                    self._tasks.put(Ticket(_nothing, None))
        finally:
            self._writing.release()
        return (self.submit(work, after) if ticket is None else ticket).wait()

    def _run(self) -> None:
        while True:
            try:
                first = self._tasks.get(timeout=PAUSE if self._dirty else None)
            except queue.Empty:
                if time.monotonic() - self._last >= PAUSE:
                    with self._writing:
                        self._checkpoint()
                continue
            group: list[Ticket[Any]] = []
            stop = first is None
            if first is not None:
                group.append(first)
                while not first._alone and len(group) < GROUP:
                    try:
                        more = self._tasks.get_nowait()
                    except queue.Empty:
                        break
                    if more is None:
                        stop = True
                        break
                    if more._alone:
                        with self._writing:
                            self._commit(group)
                        group = [more]
                        break
                    group.append(more)
            group = [one for one in group if one._work is not _nothing]
            with self._writing:
                self._commit(group)
                if self._dirty >= FULL:
                    self._checkpoint()
            if stop:
                return

    def _commit(self, group: list[Ticket[Any]]) -> None:
        if not group:
            return
        connection, memory = self._connection, self.folder is None
        with self._reading if memory else contextlib.nullcontext():
            try:
                changes = connection.total_changes
                connection.execute("BEGIN IMMEDIATE")
                for ticket in group:
                    if len(group) > 1:
                        connection.execute("SAVEPOINT one")
                    try:
                        ticket._result = ticket._work(connection)
                    except sqlite3.OperationalError:
                        raise
                    except Exception as error:  # this piece of work is at fault, the others are not
                        ticket._error = error
                        if len(group) == 1:
                            raise
                        connection.execute("ROLLBACK TO one")
                    if len(group) > 1:
                        connection.execute("RELEASE one")
                connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'commits'")
                self._commit_now(connection)
            except Exception as error:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                self._fail(group, error)
                return
        self._commits += 1
        self._dirty += 4 + connection.total_changes - changes
        self._write_mark()
        for ticket in group:
            if ticket._error is None:
                try:
                    if ticket._after is not None:
                        ticket._after(ticket._result)
                    if ticket._alone:
                        self._rebuild()
                except Exception as error:
                    ticket._error = error
            ticket._done.release()

    def _commit_now(self, connection: sqlite3.Connection) -> None:
        """Returns once everything is on the disk."""
        connection.execute("COMMIT")

    def _fail(self, group: Sequence[Ticket[Any]], error: Exception) -> None:
        if isinstance(error, sqlite3.OperationalError):
            named: Exception = StorageFull(28, f"nothing was kept: {error}")
        elif isinstance(error, sqlite3.DatabaseError) and not isinstance(error, (sqlite3.IntegrityError, sqlite3.InterfaceError)):
            named = StateCorrupt(f"{self.path} is damaged: {error}")
        else:
            named = error
        for ticket in group:
            ticket._error = ticket._error or named
            ticket._done.release()

    def _checkpoint(self, mode: str = "PASSIVE") -> None:
        self._dirty = 0
        if self.folder is not None:
            with contextlib.suppress(sqlite3.Error):  # a full disk: the write-ahead file keeps everything
                self._connection.execute(f"PRAGMA wal_checkpoint({mode})")

    def _rebuild(self) -> None:
        """Writes the file anew, so that no byte of what was deleted is left in it or beside it."""
        with self._reading:
            try:
                self._connection.execute("VACUUM")
                busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except sqlite3.OperationalError as error:
                raise StorageFull(28, f"deleted, but the file could not be rebuilt: {error}") from error
        if busy:
            raise StorageFull(16, "deleted, but another process reads the log, whose write-ahead file still holds it: do it again")

    # ---- reading

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read from; does not wait for the writer. StateUnreadable where the disk fails, StateCorrupt where the log is damaged."""
        with self._reading:
            if self._closed:
                raise StateError("the state is closed")
            try:
                yield self._reader
            except sqlite3.OperationalError as error:
                raise StateUnreadable(errno.EIO, f"the log cannot be read now: {error}", self.path and str(self.path)) from error
            except sqlite3.DatabaseError as error:
                raise StateCorrupt(f"{self.path} cannot be read: {error}") from error

    # ---- closing

    def close(self) -> None:
        """Commits what was handed in, moves the write-ahead file and lets go of the folder. Twice does no harm."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            self._tasks.put(None)
        self._writer.join()
        with self._writing:
            self._checkpoint("TRUNCATE")
            with self._reading:
                self._release()

    def _release(self) -> None:
        for name in ("_reader", "_connection"):
            connection = getattr(self, name, None)
            if connection is not None:
                connection.close()
        for handle in (self._mark_file, self._lock_file):
            if handle >= 0:
                os.close(handle)
        self._mark_file = self._lock_file = -1
