"""Report: what an import or a filter read, accepted and rejected, and why. ``accepted + len(rejected) == read``, always."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import polars as pl

SHOWN = 20  #: rejected rows spelt out in the text form; the JSON form and the file put aside hold more
LONGEST = 200  #: characters of a rejected value that are kept for the report (the file put aside keeps all)


@dataclass(frozen=True, slots=True)
class Rejected:
    """One row that was not taken. ``row``: line number in a text file (the header is line 1), else the row counted from 1."""

    file: str
    row: int
    column: str
    value: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}, column {self.column!r}: {self.value!r} {self.reason}"


class ImportFailed(ValueError):
    """A table could not be taken: names the file and, where one row is to blame, its row, column, value and the reason."""

    def __init__(self, reason: str, *, file: str = "", row: int | None = None, column: str | None = None, value: str | None = None) -> None:
        self.file, self.row, self.column, self.value, self.reason = file, row, column, value, reason
        if row is not None:
            text = str(Rejected(file, row, column or "", value, reason))
        else:
            text = f"{file}: {reason}" if file else reason
        super().__init__(text)

    @classmethod
    def at(cls, rejected: Rejected) -> ImportFailed:
        return cls(rejected.reason, file=rejected.file, row=rejected.row, column=rejected.column, value=rejected.value)


class RejectedRows(Sequence[Rejected]):
    """Rejected rows in order, kept as a table of ``row, column, value, reason`` so that millions of them stay small."""

    SCHEMA: Mapping[str, Any] = {"row": pl.Int64, "column": pl.String, "value": pl.String, "reason": pl.String}

    def __init__(self, file: str = "", frame: pl.DataFrame | None = None) -> None:
        self.file = file
        self.frame = pl.DataFrame(schema=dict(self.SCHEMA)) if frame is None else frame.select(list(self.SCHEMA))

    def __len__(self) -> int:
        return self.frame.height

    def __iter__(self) -> Iterator[Rejected]:
        for row, column, value, reason in self.frame.iter_rows():
            yield Rejected(self.file, row, column, value, reason)

    @overload
    def __getitem__(self, place: int) -> Rejected: ...
    @overload
    def __getitem__(self, place: slice) -> list[Rejected]: ...
    def __getitem__(self, place: int | slice) -> Rejected | list[Rejected]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return Rejected(self.file, *self.frame.row(place))

    def by_reason(self) -> dict[str, int]:
        """How many rows each (column, reason) cost, the most frequent first."""
        counts = self.frame.group_by("column", "reason").len().sort(["len", "column", "reason"], descending=[True, False, False])
        return {f"{column!r} {reason}": count for column, reason, count in counts.iter_rows()}


@dataclass(frozen=True)
class Report:
    """``duplicates``: exact duplicates found (kept unless asked otherwise). ``columns``: which source column became which of ours."""

    name: str
    read: int
    accepted: int
    rejected: RejectedRows = field(default_factory=RejectedRows)
    duplicates: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    aside: Path | None = None

    def __post_init__(self) -> None:
        if self.accepted + len(self.rejected) != self.read:
            raise AssertionError(f"{self.name}: {self.accepted} accepted and {len(self.rejected)} rejected rows are not the {self.read} read")

    def to_json(self, most: int = 1000) -> dict[str, Any]:
        """JSON-ready; the first ``most`` rejected rows are spelt out, all are counted by reason."""
        rows = [{"file": r.file, "row": r.row, "column": r.column, "value": r.value, "reason": r.reason} for r in self.rejected[:most]]
        return {
            "name": self.name,
            "read": self.read,
            "accepted": self.accepted,
            "rejected": len(self.rejected),
            "duplicates": self.duplicates,
            "columns": dict(self.columns),
            "reasons": self.rejected.by_reason(),
            "rejected_rows": rows,
            "notes": list(self.notes),
            "aside": None if self.aside is None else str(self.aside),
        }

    def dumps(self) -> str:
        """The JSON form as text."""
        return json.dumps(self.to_json(), ensure_ascii=False, indent=2)

    def __str__(self) -> str:
        lines = [f"{self.name}: read {self.read:,}, accepted {self.accepted:,}, rejected {len(self.rejected):,}"]
        renamed = [f"{ours} from {theirs!r}" for ours, theirs in self.columns.items() if ours != theirs]
        if renamed:
            lines.append(f"  columns: {', '.join(renamed)}")
        if self.duplicates:
            lines.append(f"  exact duplicates: {self.duplicates:,}")
        lines.extend(f"  {note}" for note in self.notes)
        lines.extend(f"  {count:,} x column {reason}" for reason, count in self.rejected.by_reason().items())
        lines.extend(f"    {rejected}" for rejected in self.rejected[:SHOWN])
        if len(self.rejected) > SHOWN:
            lines.append(f"    and {len(self.rejected) - SHOWN:,} more")
        if self.aside is not None:
            lines.append(f"  rejected rows put aside in {self.aside}")
        return "\n".join(lines)
