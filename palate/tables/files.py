"""Table: a file or a frame in memory, as it is, with the place of every row. Nothing is judged here but the shape of the rows.

CSV and TSV are read as text by polars; a file that polars refuses (rows of uneven length, broken quotes or bytes) is read again
row by row, so that each bad row is named instead of the whole file being lost.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import itertools
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import polars as pl

from palate.schema import nearest
from palate.tables.report import ImportFailed

Source = Any  # a path, a file's bytes, or a pandas, polars or Arrow frame

SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".user": "\t", ".item": "\t"}
ATOMIC = (".inter", ".user", ".item")  #: RecBole's atomic files: "name:type" in the header, no quotes
SUFFIXES = (*SEPARATORS, ".parquet")


@dataclass(frozen=True, slots=True)
class Fault:
    """A row whose shape is wrong, by its place in the frame."""

    place: int
    column: str
    value: str
    reason: str


@dataclass(frozen=True)
class Table:
    """``rows(places)`` gives the row numbers shown to people; ``types`` the declared types of an atomic file's columns."""

    frame: pl.DataFrame
    name: str
    path: Path | None = None
    rows: Callable[[Sequence[int]], list[int]] = lambda places: [int(place) + 1 for place in places]
    faults: tuple[Fault, ...] = ()
    types: dict[str, str] = field(default_factory=dict)


def load(source: Source, *, name: str = "", suffix: str = "", separator: str | None = None, header: Sequence[str] | None = None,
         quote: str | None = '"', encoding: str = "utf-8") -> Table:  # fmt: skip
    """The table behind a path, a file's bytes (then ``name`` or ``suffix`` tells the format) or a frame in memory.

    ``header`` names the columns of a text file that has no header line. ``ImportFailed`` for a file that is missing, of an unknown
    kind or unreadable as a whole.
    """
    path: Path | None = None
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        name = name or path.name
        if not path.is_file():
            raise ImportFailed("no such file" if not path.exists() else "is not a file", file=str(path))
    elif not isinstance(source, bytes):
        return Table(frame_of(source, name or "table"), name or "table")
    kinds = [s.lower() for s in Path(name).suffixes]
    if kinds and kinds[-1] == ".gz":
        kinds.pop()
    kind = suffix or (kinds[-1] if kinds else "")
    if kind == ".parquet":
        try:
            return Table(pl.read_parquet(path if path is not None else io.BytesIO(source)), name, path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ImportFailed(f"is not a readable Parquet file ({_first_line(error)})", file=name) from None
    if kind not in SEPARATORS:
        raise ImportFailed(f"files ending in {kind or 'nothing'!r} are not known{nearest(kind, SUFFIXES)}", file=name)
    text = _Text(source, name, separator or SEPARATORS[kind], None if kind in ATOMIC else quote, encoding, header)
    table = text.table(path)
    if kind in ATOMIC:
        table = _atomic(table)
    return table


def frame_of(source: Any, name: str) -> pl.DataFrame:
    """A polars frame from polars, pandas, or anything that speaks the Arrow PyCapsule interface."""
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    if type(source).__module__.split(".")[0] == "pandas" and hasattr(source, "columns"):
        return pl.DataFrame([_of_pandas(str(column), source[column]) for column in source.columns])
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__"):
        return pl.DataFrame(source)
    if isinstance(source, dict):
        return pl.DataFrame({key: pl.Series(key, values, strict=False) for key, values in source.items()})
    raise ImportFailed(f"a table is a path or a polars, pandas or Arrow frame, not {type(source).__name__}", file=name)


def _of_pandas(name: str, column: Any) -> pl.Series:
    """One pandas column; NaN and NaT mean missing there. Needs no pyarrow."""
    pandas = importlib.import_module("pandas")
    dtype = column.dtype
    if getattr(dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        dtype = column.dtype
    kind = getattr(dtype, "kind", "O")
    if isinstance(dtype, pandas.CategoricalDtype):
        column, kind = column.astype(object), "O"
    if kind in "iub" and not column.isna().any():
        return pl.Series(name, column.to_numpy(dtype={"i": "int64", "u": "uint64", "b": "bool"}[kind]))
    if kind == "f":
        return pl.Series(name, column.to_numpy(dtype="float64", na_value=float("nan")), nan_to_null=True)
    if kind == "M":
        return pl.Series(name, column.to_numpy().astype("datetime64[us]"))
    missing = column.isna().to_numpy()
    values = [None if gone else value for value, gone in zip(column.tolist(), missing, strict=True)]
    try:
        return pl.Series(name, values, strict=True)
    except (TypeError, pl.exceptions.PolarsError):  # several types in one column
        return pl.Series(name, [None if v is None else str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values], pl.String)
    except UnicodeEncodeError:
        raise ImportFailed(f"column {name!r} holds text that is no valid Unicode (lone surrogates)") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _Text:
    """One separated-values file."""

    def __init__(self, source: Any, name: str, separator: str, quote: str | None, encoding: str, header: Sequence[str] | None) -> None:
        self.source, self.name, self.separator, self.quote, self.encoding = source, name, separator, quote, encoding
        try:
            self.quotes, self.lone_returns, self.separators = self._survey()
            self.skipped, self.columns = (0, list(header)) if header is not None else self._header()
        except (OSError, EOFError, zlib.error) as error:
            raise ImportFailed(f"is not readable ({_first_line(error)})", file=name) from None
        repeated = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if repeated:
            raise ImportFailed("stands twice in the header", file=name, row=1, column=repeated[0], value=repeated[0])

    def _open(self) -> IO[bytes]:
        if isinstance(self.source, bytes):
            packed, raw = self.source[:2] == b"\x1f\x8b", io.BytesIO(self.source)
            return gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[return-value]
        with open(self.source, "rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        return gzip.open(self.source, "rb") if packed else open(self.source, "rb")

    def _survey(self) -> tuple[bool, bool, int]:
        """Whether the file holds any quote, whether a line ends in a carriage return alone, and how many separators there are."""
        quotes, lone, separators, last = False, False, 0, b""
        mark, between = (self.quote or "").encode(), self.separator.encode()
        with self._open() as stream:
            while chunk := stream.read(1 << 24):
                quotes = quotes or bool(mark and mark in chunk)
                separators += chunk.count(between)
                seen = last + chunk
                lone = lone or seen.count(b"\r", 0, len(seen) - 1) != seen.count(b"\r\n")
                last = seen[-1:]
        return quotes, lone or last == b"\r", separators

    def _records(self) -> Iterator[tuple[int, list[str] | str]]:
        """Every record with the line it begins at; a reason instead of fields where it cannot be read. Blank lines are skipped."""
        with self._open() as stream:
            encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
            lines = io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="")
            if self.quote is None:
                reader = csv.reader(lines, delimiter=self.separator, quoting=csv.QUOTE_NONE)
            else:
                reader = csv.reader(lines, delimiter=self.separator, quotechar=self.quote)
            while True:
                line = reader.line_num + 1
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield line, str(error)
                    continue
                if fields:
                    yield line, fields

    def _header(self) -> tuple[int, list[str]]:
        """Lines to skip, and the names of the columns."""
        records = self._records()
        first = next(records, None)
        if first is None:
            raise ImportFailed("is empty: not even a header line", file=self.name)
        line, fields = first
        if isinstance(fields, str):
            raise ImportFailed(f"has no readable header ({fields})", file=self.name)
        second = next(records, None)
        if any("\udc80" <= character <= "\udcff" for name in fields for character in name):
            raise ImportFailed("the header is not valid UTF-8: convert the file, or name its encoding", file=self.name)
        return (second[0] - 1 if second is not None else line), [name.strip() for name in fields]

    def table(self, path: Path | None) -> Table:
        regular = self.skipped <= 1 and not self.lone_returns and self.encoding == "utf-8"
        frame = self._fast() if regular else None
        if frame is None:
            return self._careful(path)
        return Table(frame, self.name, path, self._rows)

    def _fast(self) -> pl.DataFrame | None:
        """All rows at once by polars; None where the file is not regular enough for that."""
        try:
            frame = pl.read_csv(
                io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source,
                has_header=False,
                skip_rows=self.skipped,
                schema=dict.fromkeys(self.columns, pl.String),
                separator=self.separator,
                quote_char=self.quote if self.quotes else None,
                glob=False,
            )
        except (pl.exceptions.PolarsError, OSError):
            return None
        if frame.height and frame.select(pl.all_horizontal(pl.all().is_null()).any()).item():
            return None  # blank lines or rows of nothing but separators: the careful way tells them apart
        inside = frame.select(pl.all().str.count_matches(self.separator, literal=True).sum()).sum_horizontal().sum() if self.quotes else 0
        between = (frame.height + self.skipped) * (len(self.columns) - 1) + inside + sum(name.count(self.separator) for name in self.columns)
        return frame if between == self.separators else None  # polars fills short rows up without a word

    def _rows(self, places: Sequence[int]) -> list[int]:
        if not self.quotes:
            return [self.skipped + int(place) + 1 for place in places]
        lines = [line for line, _ in self._body()]  # a quoted field may hold line ends
        return [lines[place] for place in places]

    def _body(self) -> Iterator[tuple[int, list[str] | str]]:
        return itertools.dropwhile(lambda record: record[0] <= self.skipped, self._records())

    def _careful(self, path: Path | None) -> Table:
        width = len(self.columns)
        faults: list[Fault] = []
        starts: list[int] = []
        columns: list[list[str | None]] = [[] for _ in range(width)]
        for place, (line, record) in enumerate(self._body()):
            starts.append(line)
            fields = [] if isinstance(record, str) else record
            if isinstance(record, str):
                faults.append(Fault(place, self.columns[0], "", f"cannot be read: {record}"))
            elif len(fields) > width:
                faults.append(Fault(place, self.columns[-1], self.separator.join(fields[width - 1 :]), f"has more than the header's {width} fields"))
            elif len(fields) < width:
                faults.append(Fault(place, self.columns[len(fields)], "", f"is missing: {len(fields)} of the header's {width} fields"))
            for column in range(width):
                value = fields[column] if column < len(fields) else ""
                if not value.isprintable() and any("\ud800" <= character <= "\udfff" for character in value):
                    value = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                    faults.append(Fault(place, self.columns[column], value, "is not valid UTF-8"))
                columns[column].append(value or None)
        frame = pl.DataFrame({name: pl.Series(name, values, pl.String) for name, values in zip(self.columns, columns, strict=True)})
        return Table(frame, self.name, path, lambda places: [starts[place] for place in places], tuple(faults))


def _atomic(table: Table) -> Table:
    """RecBole's header is ``name:type`` with type token, float, token_seq or float_seq."""
    types: dict[str, str] = {}
    for column in table.frame.columns:
        name, _, kind = column.rpartition(":")
        if not name or kind not in ("token", "float", "token_seq", "float_seq"):
            raise ImportFailed(
                "an atomic file's header is name:type with the type token, float, token_seq or float_seq",
                file=table.name,
                row=1,
                column=column,
                value=column,
            )
        if name in types:
            raise ImportFailed("stands twice in the header", file=table.name, row=1, column=name, value=column)
        types[name] = kind
    renamed = table.frame.rename(dict(zip(table.frame.columns, types, strict=True)))
    names = dict(zip(table.frame.columns, types, strict=True))
    faults = tuple(Fault(f.place, names[f.column], f.value, f.reason) for f in table.faults)
    return Table(renamed, table.name, table.path, table.rows, faults, types)
