"""Events: who did what with which item when. The one table that everything else is learnt from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from palate.schema import nearest
from palate.tables import checks
from palate.tables.checks import Bad, OnBad, TimeUnit
from palate.tables.files import Source, Table, load
from palate.tables.report import ImportFailed, RejectedRows, Report

COLUMNS: Mapping[str, Any] = {
    "user": pl.String,
    "item": pl.String,
    "time": pl.Int64,
    "kind": pl.String,
    "value": pl.Float32,
    "request_id": pl.String,
    "event_id": pl.String,
}
REQUIRED = ("user", "item", "time")
ALIASES: Mapping[str, tuple[str, ...]] = {  # names that other systems give the same column, compared in lower case without - _ and blanks
    "user": ("userid", "uid", "visitorid", "customerid"),
    "item": ("itemid", "iid", "movieid", "productid", "articleid", "trackid", "bookid", "videoid", "newsid"),
    "time": ("timestamp", "ts", "datetime", "eventtime", "date", "createdat"),
    "kind": ("event", "eventtype", "eventkind", "type", "behavior", "behaviour", "action"),
    "value": ("rating", "score", "dwell", "weight"),
    "request_id": ("requestid", "impressionid"),
    "event_id": ("eventid",),
}


class Events:
    """A table of events, one a row.

    ``frame``: user, item (String), time (Int64 ms since 1970 UTC), kind (String), value (Float32, null: none), request_id, event_id
    (String or null), then any context columns. Rows keep the order they came in.
    """

    __slots__ = ("frame",)

    def __init__(self, frame: pl.DataFrame) -> None:
        """From a frame that is right already (``Events.of`` checks foreign ones); absent optional columns are filled with null."""
        missing = [name for name in (*REQUIRED, "kind") if name not in frame.columns]
        if missing:
            raise ValueError(f"events need the column {missing[0]!r}{nearest(missing[0], frame.columns)}")
        absent = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in COLUMNS.items() if name not in frame.columns]
        frame = frame.with_columns(absent) if absent else frame
        wrong = {name: (frame.schema[name], dtype) for name, dtype in COLUMNS.items() if frame.schema[name] != dtype}
        for name, (found, wanted) in wrong.items():
            raise TypeError(f"column {name!r} of events is {wanted}, not {found}: Events.of takes frames of other types")
        self.frame = frame.select(*COLUMNS, *(name for name in frame.columns if name not in COLUMNS))

    @classmethod
    def of(
        cls,
        source: Source,
        columns: Mapping[str, str | None] | None = None,
        time_unit: TimeUnit = "auto",
        kind: str = "event",
        on_bad: OnBad = "stop",
        name: str = "events",
        *,
        context: Sequence[str] | None = None,
        duplicates: Literal["keep", "drop"] = "keep",
        aside: str | os.PathLike[str] | None = None,
        untimed: bool = False,
        now: int | None = None,
    ) -> tuple[Events, Report]:
        """Events out of a polars, pandas or Arrow frame, checked.

        ``columns`` maps palate's names to the source's ({"user": "user_id"}; None: not that column); others are found by their usual
        names. ``kind``: of rows that name none. ``time_unit`` "auto" judges numbers by their size. ``context``: further columns to keep
        (default all). ``on_bad``: "stop" raises ``ImportFailed`` at the first bad row, "skip" leaves bad rows out, "aside" also writes
        them to the file ``aside``. ``duplicates="drop"`` rejects rows equal to an earlier one in user, item, time, kind and value that
        bear no event_id. ``untimed``: rows of a table without times get 0, 1, 2, ... ms. Raises ImportFailed, ValueError.
        """
        return _events(load(source, name=name), columns, time_unit, kind, on_bad, context, duplicates, aside, untimed, now)

    def __len__(self) -> int:
        return self.frame.height

    def __repr__(self) -> str:
        return f"Events({len(self):,} rows, context: {', '.join(self.context) or 'none'})"

    @property
    def context(self) -> tuple[str, ...]:
        """Names of the columns beyond the known ones."""
        return tuple(self.frame.columns[len(COLUMNS) :])

    def take(self, chosen: NDArray[Any] | pl.Series) -> Events:
        """The events at ``chosen``: a mask, or positions."""
        chosen = chosen if isinstance(chosen, pl.Series) else pl.Series(chosen)
        return Events(self.frame.filter(chosen) if chosen.dtype == pl.Boolean else self.frame[chosen])

    def of_kinds(self, *kinds: str) -> Events:
        """Only events of these kinds."""
        return Events(self.frame.filter(pl.col("kind").is_in(kinds)))

    def before(self, moment: int) -> Events:
        """Events strictly earlier than ``moment`` (ms)."""
        return Events(self.frame.filter(pl.col("time") < moment))

    def since(self, moment: int) -> Events:
        """Events at ``moment`` (ms) or later."""
        return Events(self.frame.filter(pl.col("time") >= moment))

    def sorted(self) -> Events:
        """In order of time; events of the same instant keep their order."""
        return Events(self.frame.sort("time", maintain_order=True))

    def write(self, path: str | os.PathLike[str]) -> None:
        """As a Parquet file that ``read_events`` takes back unchanged."""
        self.frame.write_parquet(Path(path), compression="zstd")


def read_events(
    path: str | os.PathLike[str],
    columns: Mapping[str, str | None] | None = None,
    time_unit: TimeUnit = "auto",
    kind: str = "event",
    on_bad: OnBad = "stop",
    *,
    context: Sequence[str] | None = None,
    duplicates: Literal["keep", "drop"] = "keep",
    aside: str | os.PathLike[str] | None = None,
    untimed: bool = False,
    now: int | None = None,
    separator: str | None = None,
    header: Sequence[str] | None = None,
    encoding: str = "utf-8",
) -> tuple[Events, Report]:
    """Events out of a file, by its suffix: .csv .tsv (also .gz), .parquet, .inter (RecBole). Options as for ``Events.of``.

    ``header`` names the columns of a text file without a header line. With ``on_bad="aside"`` bad rows go to ``aside`` or next to the
    file, as ``<name>.rejected.csv``.
    """
    table = load(path, separator=separator, header=header, encoding=encoding)
    return _events(table, columns, time_unit, kind, on_bad, context, duplicates, aside, untimed, now)


def resolve(found: Sequence[str], wanted: Mapping[str, str | None] | None, name: str) -> dict[str, str]:
    """Which source column plays which part: as asked for, else by its exact name, else by a usual name."""
    wanted = dict(wanted or {})
    for ours, theirs in wanted.items():
        if ours not in COLUMNS:
            turned = f": write it the other way round, {{{theirs!r}: {ours!r}}}" if theirs in COLUMNS else nearest(ours, COLUMNS)
            raise ImportFailed(f"events have no column {ours!r}{turned}", file=name)
        if theirs is not None and theirs not in found:
            raise ImportFailed(f"no column {theirs!r} (wanted as {ours!r}){nearest(theirs, found)}", file=name)
    parts = {ours: theirs for ours, theirs in wanted.items() if theirs is not None}
    plain = {"".join(c for c in column.lower() if c not in "-_ "): column for column in reversed(found)}
    for ours in COLUMNS:
        if ours in wanted:
            continue
        if ours in found and ours not in parts.values():
            parts[ours] = ours
            continue
        free = (plain[alias] for alias in ALIASES[ours] if alias in plain and plain[alias] not in parts.values() and plain[alias] not in COLUMNS)
        theirs = next(free, None)
        if theirs is not None:
            parts[ours] = theirs
    return parts


def _events(
    table: Table,
    columns: Mapping[str, str | None] | None,
    time_unit: TimeUnit,
    kind: str,
    on_bad: OnBad,
    context: Sequence[str] | None,
    duplicates: Literal["keep", "drop"],
    aside: str | os.PathLike[str] | None,
    untimed: bool,
    now: int | None,
) -> tuple[Events, Report]:
    checks.choice(on_bad, OnBad, "on_bad")
    checks.choice(duplicates, Literal["keep", "drop"], "duplicates")
    checks.choice(time_unit, TimeUnit, "time_unit")
    frame = table.frame
    parts = resolve(frame.columns, columns, table.name)
    for name in REQUIRED:
        if name not in parts and not (name == "time" and untimed):
            how = ": map it with columns={" + repr(name) + ": ...}" + (", or say untimed=True" if name == "time" else "")
            close = nearest(name, frame.columns) or "; the table has no columns"
            raise ImportFailed(f"no column {name!r}{close}{how}", file=table.name)
    clean: dict[str, pl.Series] = {}
    bad: list[Bad] = []
    for ours, theirs in sorted(parts.items(), key=lambda part: list(COLUMNS).index(part[0])):
        raw = frame[theirs]
        if ours in ("user", "item"):
            clean[ours], wrong = checks.identifiers(raw, table.name)
        elif ours == "time":
            clean[ours], wrong = checks.times(raw, time_unit, now, table.name)
        elif ours == "value":
            clean[ours], wrong = checks.numbers(raw, table.name)
        else:
            clean[ours], wrong = checks.text(raw, table.name), []
        bad.extend(wrong)
    clean["kind"] = clean["kind"].fill_null(kind) if "kind" in clean else pl.repeat(kind, frame.height, dtype=pl.String, eager=True)
    if "time" not in clean:
        clean["time"] = pl.arange(0, frame.height, dtype=pl.Int64, eager=True)
    taken = set(parts.values())
    others = [column for column in frame.columns if column not in taken] if context is None else list(context)
    for column in others:
        if column not in frame.columns:
            raise ImportFailed(f"no column {column!r} (wanted as context){nearest(column, frame.columns)}", file=table.name)
    ignored = [column for column in others if column in COLUMNS]
    notes = [f"column {column!r} ignored: its name is taken by {parts.get(column, 'palate')!r}" for column in ignored]
    extra: dict[str, pl.Series] = {}
    for column in others:
        if column in ignored:
            continue
        extra[column], wrong = _context(frame[column], table.types.get(column, ""))
        bad.extend(wrong)
    if "event_id" in clean:
        ok, _ = checks.reject(table, bad)
        bad.append(_seen_ids(clean["event_id"], parts["event_id"], ok))
    passed, rejected = checks.reject(table, bad)
    if on_bad == "stop" and len(rejected):
        raise ImportFailed.at(rejected[0])
    whole = pl.DataFrame([series.alias(name) for name, series in {**clean, **extra}.items()])
    twice = _repeated(whole, passed)
    if duplicates == "drop" and twice.any():
        bad.append(Bad(parts["user"], twice, "repeats an earlier row exactly"))
        passed, rejected = checks.reject(table, bad)
    put = write_aside(table, passed, rejected, aside) if on_bad == "aside" else None
    accepted = Events(whole if passed.all() else whole.filter(pl.Series(passed)))
    return accepted, Report(table.name, frame.height, len(accepted), rejected, int(twice.sum()), parts, tuple(notes), put)


def _context(raw: pl.Series, kind: str) -> tuple[pl.Series, list[Bad]]:
    if kind == "float":
        return checks.numbers(raw, dtype=pl.Float64)
    if kind == "token":
        return checks.text(raw), []
    if kind in ("token_seq", "float_seq"):
        return checks.split(raw, " "), []
    return checks.typed(raw), []


def _seen_ids(ids: pl.Series, column: str, ok: NDArray[np.bool_]) -> Bad:
    """Rows whose event_id an earlier good row bears."""
    frame = pl.DataFrame({"id": checks.emptied(ids, ~ok)})
    later = frame.select((~pl.col("id").is_first_distinct()) & pl.col("id").is_not_null()).to_series()
    return Bad(column, checks.mask(later), "is an event_id that an earlier row bears")


def _repeated(whole: pl.DataFrame, passed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Good rows without event_id that equal an earlier one in user, item, time, kind and value."""
    keys = [name for name in ("user", "item", "time", "kind", "value") if name in whole.columns]
    candidates = pl.Series(passed)
    if "event_id" in whole.columns:
        candidates = candidates & whole["event_id"].is_null()
    twice = np.zeros(whole.height, bool)
    places = candidates.arg_true()
    hashes = whole.select(keys).filter(candidates).hash_rows(seed=7)  # 8 bytes a row: most tables hold no duplicate and end here
    if hashes.n_unique() < len(hashes):
        suspects = ~hashes.is_unique()
        places = places.filter(suspects)
        first = whole.select(keys)[places].select(pl.struct(pl.all()).is_first_distinct()).to_series()
        twice[places.filter(~first).to_numpy()] = True
    return twice


def write_aside(table: Table, passed: NDArray[np.bool_], rejected: RejectedRows, aside: str | os.PathLike[str] | None) -> Path | None:
    """The rejected rows as they came, with row, column and reason added, as CSV; None where there are none."""
    if not len(rejected):
        return None
    if aside is None and table.path is None:
        raise ValueError("rows of a table in memory are put aside in a file: name it with aside=")
    path = Path(aside) if aside is not None else table.path.with_name(f"{table.path.name}.rejected.csv")  # type: ignore[union-attr]
    raw = table.frame.filter(pl.Series(~passed))
    why = [rejected.frame[name].alias(f"rejected_{name}") for name in ("row", "column", "reason")]
    flat = [pl.Series(s.name, [str(v) for v in s], pl.String) if s.dtype.is_nested() or s.dtype in (pl.Object, pl.Binary) else s for s in raw]
    names = {s.name for s in why}
    pl.DataFrame([*(s for s in flat if s.name not in names), *why]).write_csv(path)
    return path
