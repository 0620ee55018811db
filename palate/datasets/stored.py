"""Stored: rows with labels in plain files, read a window at a time. For training sets that are larger than the memory.

One file a column, little-endian, row after row, and ``rows.json`` that says what they hold. An epoch goes through the windows in a random order and
through the rows of a window in a random order, so a file is read once an epoch, and two windows are in memory at the most.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palate.batch import Batch

FORMAT = 1
WINDOW = 1_000_000  #: rows read at a time
KINDS = ("<i4", "<i8", "<f4", "|u1")  #: what a file may hold
_FACTS = "rows.json"


class Stored:
    """Rows of the folder that ``write`` made. As examples of a ranker it answers like ``Pointwise``.

    ``window``: rows in memory at a time; more is a better shuffle. ValueError where a file is missing, cut or not what it is said to be.
    """

    def __init__(self, folder: Path | str, window: int = WINDOW) -> None:
        self.folder, self.window = Path(folder), window
        if window < 1:
            raise ValueError(f"window must be 1 or more, not {window}")
        path = self.folder / _FACTS
        try:
            facts = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: no stored rows here ({error})") from error
        if facts.get("format") != FORMAT:
            raise ValueError(f"{path} has the format {facts.get('format')!r}; this version reads {FORMAT}")
        self.size: int = facts["size"]
        self.columns: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        for name, (kind, shape) in facts["columns"].items():
            if kind not in KINDS:
                raise ValueError(f"{path}: column {name!r} holds {kind!r}, known are {', '.join(KINDS)}")
            self.columns[name] = np.dtype(kind), tuple(shape)
            wanted, file = self.size * self._width(name), self._file(name)
            found = file.stat().st_size if file.is_file() and not file.is_symlink() else -1
            if found != wanted:
                raise ValueError(f"{file} has {found} bytes, {self.size:,} rows need {wanted}" if found >= 0 else f"{file} is missing")
        self._kept: dict[int, dict[str, Tensor]] = {}

    @classmethod
    def write(cls, folder: Path | str, parts: Iterable[Mapping[str, NDArray[Any]]], window: int = WINDOW) -> Self:
        """Columns part by part: features, ``label:<task>``, ``group``, ``weight``, ``kept``, each ``[n, ...]``; parts must agree in names and shapes.

        Whole numbers are kept as four bytes where they fit.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / _FACTS).unlink(missing_ok=True)  # a set that is not whole has no facts
        size = 0
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
        files: dict[str, BinaryIO] = {}
        try:
            for part in parts:
                arrays = {name: _narrow(name, np.asarray(array)) for name, array in part.items()}
                found = {name: (array.dtype.str, array.shape[1:]) for name, array in arrays.items()}
                lengths = {len(array) for array in arrays.values()}
                if not shapes:
                    shapes = found
                    files = {name: open(place / f"{number:03d}.column", "wb") for number, name in enumerate(found)}  # noqa: SIM115 - closed below
                if found != shapes or len(lengths) != 1:
                    raise ValueError(f"part after row {size:,} differs from the first in names, kinds, shapes or lengths: {found}, not {shapes}")
                for name, array in arrays.items():
                    array.tofile(files[name])
                size += lengths.pop()
        finally:
            for file in files.values():
                file.close()
        facts = {"format": FORMAT, "size": size, "columns": {name: [kind, list(shape)] for name, (kind, shape) in shapes.items()}}
        (place / _FACTS).write_text(json.dumps(facts), "utf-8")
        return cls(place, window)

    def __len__(self) -> int:
        return self.size

    def order(self, generator: torch.Generator) -> Tensor:
        """A permutation of all rows, int32 or int64 ``[N]``, that stays in one window until it is through with it."""
        kind = torch.int32 if self.size < 2**31 else torch.int64
        every = torch.empty(self.size, dtype=kind)
        start = 0
        for number in torch.randperm(math.ceil(self.size / self.window), generator=generator).tolist():
            first = number * self.window
            count = min(self.window, self.size - first)
            every[start : start + count] = torch.randperm(count, generator=generator).add_(first)
            start += count
        return every

    def batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The rows ``chosen`` ``[n]``: whole numbers as int64, others as float32."""
        rows = chosen.long()
        numbers = rows // self.window
        wanted = torch.unique(numbers).tolist()
        if len(wanted) == 1:
            return Batch({name: _wide(values.index_select(0, rows - wanted[0] * self.window)) for name, values in self._window(wanted[0]).items()})
        parts = {name: torch.empty((len(rows), *shape), dtype=_torch(kind)) for name, (kind, shape) in self.columns.items()}
        for number in wanted:
            mine = torch.nonzero(numbers == number)[:, 0]
            for name, values in self._window(number).items():
                parts[name][mine] = _wide(values.index_select(0, rows[mine] - number * self.window))
        return Batch(parts)

    def _window(self, number: int) -> dict[str, Tensor]:
        if number not in self._kept:
            while len(self._kept) > 1:  # the last one may still be wanted by the batch that lies across two
                self._kept.pop(next(iter(self._kept)))
            first = number * self.window
            count = min(self.window, self.size - first)
            made = {}
            for name, (kind, shape) in self.columns.items():
                read = np.fromfile(self._file(name), kind, count * math.prod(shape), offset=first * self._width(name))
                made[name] = torch.from_numpy(read.reshape(count, *shape))
            self._kept[number] = made
        return self._kept[number]

    def _width(self, name: str) -> int:
        kind, shape = self.columns[name]
        return kind.itemsize * math.prod(shape)

    def _file(self, name: str) -> Path:
        return self.folder / f"{list(self.columns).index(name):03d}.column"


def _narrow(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """As a file keeps it."""
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array, "<f4")
    if array.dtype.kind not in "iub":
        raise ValueError(f"column {name!r} must hold numbers, not {array.dtype}")
    if len(array) and not -(2**31) <= int(array.min()) <= int(array.max()) < 2**31:
        raise ValueError(f"column {name!r} holds whole numbers beyond 32 bits, which are no ids of a table")
    return np.ascontiguousarray(array, "<i4")


def _torch(kind: np.dtype[Any]) -> torch.dtype:
    return torch.float32 if kind.kind == "f" else torch.int64


def _wide(values: Tensor) -> Tensor:
    return values if values.is_floating_point() else values.long()
