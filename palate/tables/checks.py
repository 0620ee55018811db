"""Checks on raw columns, vectorised: ids, times, numbers, text. Each gives the clean column and the rows that are at fault."""

from __future__ import annotations

import time as clock
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from palate.tables.files import Table
from palate.tables.report import LONGEST, ImportFailed, RejectedRows

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]
OnBad = Literal["stop", "skip", "aside"]
DAY = 86_400_000
PER_UNIT = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}  #: ms in one unit
ISO = (
    r"^(?P<day>\d{4}-\d{2}-\d{2})(?:[Tt ](?P<clock>\d{2}:\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r" ?(?P<zone>[Zz]|[+-]\d{2}:?(?:\d{2})?)?$"
)


@dataclass(frozen=True, slots=True)
class Bad:
    """Rows (a mask) of a source column that are at fault for one reason."""

    column: str
    rows: NDArray[np.bool_]
    reason: str


def choice(value: str, allowed: object, option: str) -> None:
    """ValueError unless ``value`` is one of a Literal's values."""
    if value not in get_args(allowed):
        raise ValueError(f"{option} must be one of {', '.join(map(repr, get_args(allowed)))}, not {value!r}")


def mask(series: pl.Series) -> NDArray[np.bool_]:
    """A boolean column as an array; null counts as False."""
    return series.fill_null(False).to_numpy().astype(bool, copy=False)


def emptied(series: pl.Series, rows: NDArray[np.bool_]) -> pl.Series:
    """The column with null at these rows."""
    return pl.select(pl.when(pl.Series(~rows)).then(series).alias(series.name)).to_series() if rows.any() else series


def text(series: pl.Series, name: str = "") -> pl.Series:
    """The column as strings, empty ones null. Whole floats lose their ".0"; lists and the like are refused."""
    dtype = series.dtype
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise ImportFailed(f"column {series.name!r} holds {dtype}, not one value a row", file=name, column=series.name)
    if dtype.is_float():
        whole = series.is_finite() & (series == series.round()) & (series.abs() < 2**63)
        integers = series.cast(pl.Int64, strict=False).cast(pl.String)
        other = series.fill_nan(None).cast(pl.String)
        series = pl.select(pl.when(whole).then(integers).otherwise(other).alias(series.name)).to_series()
    elif dtype != pl.String:
        series = series.cast(pl.String)
    return emptied(series, mask(series == ""))


def identifiers(series: pl.Series, table: str = "") -> tuple[pl.Series, list[Bad]]:
    """Ids as strings, any Unicode kept as it is. At fault: none, blanks only, a float that is infinite."""
    bad: list[Bad] = []
    if series.dtype.is_float():
        bad.append(Bad(series.name, mask(series.is_infinite()), "is not an id"))
    ids = text(series, table)
    blank = ids.is_null().to_numpy() | mask(ids.str.strip_chars() == "")
    return ids, [*bad, Bad(series.name, blank, "is empty")]


def numbers(series: pl.Series, table: str = "", dtype: type[pl.DataType] = pl.Float32) -> tuple[pl.Series, list[Bad]]:
    """Numbers as floats, missing ones null. At fault: text that is no number, NaN, infinite or beyond the type's range."""
    if series.dtype == pl.String:
        raw = series.str.strip_chars()
        found = raw.cast(pl.Float64, strict=False)
        wrong = found.is_null().to_numpy() & mask(raw != "")
    elif series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null):
        found, wrong = series.cast(pl.Float64), np.zeros(len(series), bool)
    else:
        raise ImportFailed(f"column {series.name!r} holds {series.dtype}, not numbers", file=table, column=series.name)
    narrow = found.cast(dtype, strict=False)
    unbounded = ~mask(narrow.is_finite()) & found.is_not_null().to_numpy()
    return narrow, [Bad(series.name, wrong, "is not a number"), Bad(series.name, unbounded, "is not a finite number")]


def unit_of(values: pl.Series) -> str:
    """The unit that the size of most of these numbers speaks for: below 1e11 seconds, 1e14 ms, 1e17 us, else ns."""
    middle = values.filter(values.is_finite()).abs().median()
    size = float(middle) if isinstance(middle, (int, float)) else 0.0
    return "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"


def times(series: pl.Series, unit: TimeUnit = "auto", now: int | None = None, table: str = "") -> tuple[pl.Series, list[Bad]]:
    """Moments as int64 ms since 1970 UTC, from numbers, ISO 8601 text (no zone: UTC) or dates.

    At fault: none, not a moment, before 1970, more than a day after ``now`` (ms; the clock's by default).
    """
    choice(unit, TimeUnit, "time_unit")
    now = int(clock.time() * 1000) if now is None else now
    dtype, missing = series.dtype, series.is_null().to_numpy()
    if dtype.is_temporal() and dtype not in (pl.Time, pl.Duration):
        found = series.cast(pl.Datetime("us")).dt.timestamp("us").cast(pl.Float64)
        unit = "us"
    elif dtype.is_numeric() or dtype == pl.Null:
        found = series.cast(pl.Float64)
    elif dtype == pl.String:
        raw = series.str.strip_chars()
        missing |= mask(raw == "")
        found = raw.cast(pl.Float64, strict=False)
    else:
        raise ImportFailed(f"column {series.name!r} holds {dtype}, not times", file=table, column=series.name)
    factor = PER_UNIT[unit_of(found) if unit == "auto" else unit]
    moments = np.full(len(series), np.nan)
    known = found.is_not_null().to_numpy()
    numeric = found.fill_null(np.nan).to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        moments[known] = numeric[known] * factor if factor >= 1 else np.floor(numeric[known] / round(1 / factor))
        np.rint(moments, out=moments)
    if dtype == pl.String and not (known | missing).all():
        written = ~(known | missing)
        moments[written] = _iso(raw.filter(written))
    absent = missing
    wrong = np.isnan(moments) & ~missing
    early = moments < 0
    late = moments > now + DAY
    clean = np.where(absent | wrong | early | late, 0, moments).astype(np.int64)
    return pl.Series(series.name, clean), [
        Bad(series.name, absent, "is empty"),
        Bad(series.name, wrong, "is not a time (a number since 1970 or ISO 8601)"),
        Bad(series.name, early, "lies before 1970"),
        Bad(series.name, late, "lies more than a day in the future"),
    ]


def _iso(written: pl.Series) -> NDArray[np.float64]:
    """ISO 8601 text as ms since 1970; NaN where it is none."""
    part = written.str.extract_groups(ISO).struct.unnest().fill_null("")
    hours_and_minutes, second = (part["clock"].replace("", "00:00"), part["second"].replace("", "00"))
    start = part["day"] + "T" + hours_and_minutes + ":" + second
    moment = start.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="ms", strict=False).dt.timestamp("ms").cast(pl.Float64)
    fraction = ("0." + part["fraction"] + "0").cast(pl.Float64) * 1000
    sign = pl.Series(np.where(part["zone"].str.starts_with("-").to_numpy(), -1.0, 1.0))
    digits = part["zone"].str.replace_all(r"[^\d]", "").str.pad_end(4, "0")
    hours, minutes = digits.str.slice(0, 2).cast(pl.Float64), digits.str.slice(2, 2).cast(pl.Float64)
    valid = (hours <= 23) & (minutes <= 59)
    milliseconds = moment + fraction.floor() - sign * (hours * 60 + minutes) * 60_000
    return emptied(milliseconds, ~mask(valid)).fill_null(np.nan).to_numpy().astype(np.float64)


def typed(series: pl.Series, name: str = "") -> pl.Series:
    """A column that no check speaks of, in its plainest type: Int64, Float64, Boolean, String or lists of them; empty is null.

    Text becomes numbers only where every value is a number written the plain way ("007" stays text).
    """
    dtype = series.dtype
    if dtype == pl.String:
        series = text(series, name)
        if series.null_count() == len(series):
            return series
        if mask(series.str.contains(r"^(?:0|-?[1-9]\d{0,17})$") | series.is_null()).all():
            return series.cast(pl.Int64)
        if mask(series.str.contains(r"^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$") | series.is_null()).all():
            numbers_ = series.cast(pl.Float64, strict=False)
            return numbers_ if mask(numbers_.is_finite() | numbers_.is_null()).all() else series
        return series
    if dtype.is_integer() and dtype != pl.UInt64:
        return series.cast(pl.Int64)
    if dtype.is_float():
        return series.cast(pl.Float64).fill_nan(None)
    if dtype in (pl.Categorical, pl.Enum):
        return series.cast(pl.String)
    return series


def split(series: pl.Series, separator: str) -> pl.Series:
    """Text that holds several values as lists of strings, blanks and empty values left out."""
    if isinstance(series.dtype, pl.List):
        return series.cast(pl.List(pl.String))
    parts = text(series).fill_null("").str.split(separator)
    return parts.list.eval(pl.element().str.strip_chars().replace("", None).drop_nulls()).alias(series.name)


def reject(table: Table, checks: list[Bad]) -> tuple[NDArray[np.bool_], RejectedRows]:
    """Which rows pass every check, and the others by their first fault."""
    code = np.zeros(table.frame.height, np.int32)
    for number, check in enumerate(checks, 1):
        code[(code == 0) & check.rows] = number
    for fault in reversed(table.faults):  # the shape of a row comes before what stands in it
        code[fault.place] = -1
    places = np.flatnonzero(code)
    if not len(places):
        return code == 0, RejectedRows(table.name)
    codes = code[places]
    by_place = {fault.place: fault for fault in reversed(table.faults)}
    parts = []
    for number in np.unique(codes):
        chosen = places[codes == number]
        if number < 0:
            faults = [by_place[int(place)] for place in chosen]
            columns, values, reasons = [f.column for f in faults], [f.value for f in faults], [f.reason for f in faults]
            part = pl.DataFrame({"place": chosen, "column": columns, "value": values, "reason": reasons})
        else:
            check = checks[int(number) - 1]
            shown = _shown(table.frame[check.column].gather(pl.Series(chosen)))
            part = pl.DataFrame({"place": chosen, "column": [check.column] * len(chosen), "value": shown, "reason": [check.reason] * len(chosen)})
        parts.append(part.with_columns(pl.col("value").cast(pl.String).str.slice(0, LONGEST)))
    frame = pl.concat(parts).sort("place")
    rows = pl.Series("row", table.rows(places.tolist()), pl.Int64)
    return code == 0, RejectedRows(table.name, frame.with_columns(rows))


def _shown(series: pl.Series) -> pl.Series:
    if series.dtype.is_nested() or series.dtype in (pl.Object, pl.Binary):
        return pl.Series([str(value) for value in series], dtype=pl.String)
    return series.cast(pl.String).fill_null("")
