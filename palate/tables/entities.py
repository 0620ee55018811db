"""Users and items: tables of one row an id, with attributes of one or several values."""

from __future__ import annotations

import os
from collections.abc import Sequence

import polars as pl

from palate.schema import nearest
from palate.tables import checks
from palate.tables.checks import Bad, OnBad
from palate.tables.events import ALIASES, write_aside
from palate.tables.files import Source, load
from palate.tables.report import ImportFailed, Report

IDS = ("id", *ALIASES["user"], *ALIASES["item"], "user", "item")


def read_entities(
    source: Source,
    id_column: str | None = None,
    *,
    multi: Sequence[str] = (),
    separator: str = "|",
    numbers: Sequence[str] = (),
    on_bad: OnBad = "stop",
    name: str = "",
    aside: str | os.PathLike[str] | None = None,
    fields: str | None = None,
    header: Sequence[str] | None = None,
    encoding: str = "utf-8",
) -> tuple[pl.DataFrame, Report]:
    """A table of users or items out of a file (.csv .tsv .parquet, RecBole's .user .item) or a frame; its first column is "id".

    ``multi`` names text columns that hold several values, cut at ``separator`` (RecBole's token_seq and float_seq are known). ``numbers``
    names columns that must hold numbers. Other text becomes numbers only where every value is one. ``fields``: what separates the columns
    of a text file, ``header`` their names where the file has none. At fault, and treated as for events: an empty id, an id that an
    earlier row bears, a value that is no number. Raises ImportFailed, ValueError.
    """
    checks.choice(on_bad, OnBad, "on_bad")
    table = load(source, name=name, separator=fields, header=header, encoding=encoding)
    frame = table.frame
    chosen = _id_column(frame.columns, id_column, table.name)
    for column in (*multi, *numbers):
        if column not in frame.columns:
            raise ImportFailed(f"no column {column!r}{nearest(column, frame.columns)}", file=table.name)
    ids, bad = checks.identifiers(frame[chosen], table.name)
    clean = [ids.alias("id")]
    notes: list[str] = []
    for column in frame.columns:
        if column == chosen:
            continue
        if column == "id":
            notes.append(f"column 'id' ignored: its name is taken by {chosen!r}")
            continue
        series, wrong = _attribute(frame[column], table.types.get(column, ""), column in multi, column in numbers, separator, table.name)
        clean.append(series.alias(column))
        bad.extend(wrong)
    ok, _ = checks.reject(table, bad)
    known = pl.DataFrame({"id": checks.emptied(ids, ~ok)})
    later = known.select((~pl.col("id").is_first_distinct()) & pl.col("id").is_not_null()).to_series()
    bad.append(Bad(chosen, checks.mask(later), "is an id that an earlier row bears"))
    passed, rejected = checks.reject(table, bad)
    if on_bad == "stop" and len(rejected):
        raise ImportFailed.at(rejected[0])
    put = write_aside(table, passed, rejected, aside) if on_bad == "aside" else None
    accepted = pl.DataFrame(clean).filter(pl.Series(passed, dtype=pl.Boolean))
    return accepted, Report(table.name, frame.height, accepted.height, rejected, 0, {"id": chosen}, tuple(notes), put)


def _id_column(found: Sequence[str], wanted: str | None, name: str) -> str:
    if wanted is not None:
        if wanted not in found:
            raise ImportFailed(f"no column {wanted!r}{nearest(wanted, found)}", file=name)
        return wanted
    plain = {"".join(c for c in column.lower() if c not in "-_ "): column for column in reversed(found)}
    known = next((plain[alias] for alias in IDS if alias in plain), None)
    if known is None:
        raise ImportFailed(f"no column 'id'{nearest('id', found)}: name it with id_column=", file=name)
    return known


def _attribute(raw: pl.Series, kind: str, several: bool, number: bool, separator: str, table: str) -> tuple[pl.Series, list[Bad]]:
    if number or kind == "float":
        return checks.numbers(raw, table, dtype=pl.Float64)
    if kind in ("token_seq", "float_seq"):
        return checks.split(raw, " "), []
    if several:
        return checks.split(raw, separator), []
    if isinstance(raw.dtype, pl.List) and raw.dtype.inner == pl.String:
        return raw, []
    return checks.typed(raw, table), []
