"""Items as sparse vectors made of their catalogue attributes: tags, categories, numbers, TF-IDF of text.

Salton, Buckley, "Term-weighting approaches in automatic text retrieval", Information Processing & Management 1988 (TF-IDF, cosine).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from palate.candidates import Floats
from palate.state.catalogue import Catalogue

KNOTS = 8  #: places along a number's range; a number lies on the two next to it
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text, without case."""
    return _WORD.findall(text.casefold())


def _terms(value: Any, text: bool) -> Mapping[str, float]:
    """Terms of one attribute's value and how much each counts."""
    if value is None:
        return {}
    if text:
        counts = Counter(words(" ".join(map(str, value)) if isinstance(value, list) else str(value)))
        return {term: 1 + math.log(count) for term, count in counts.items()}
    if isinstance(value, list):
        return dict.fromkeys(map(str, value), 1.0)
    return {str(value): 1.0}


class Block:
    """One attribute as terms: ``columns`` int32 and ``values`` float32 of a value, of length 1 (nothing for no known term).

    A term's value is ``(1 + ln count) * idf`` with ``idf = 1 + ln((1 + n) / (1 + items that have it))``; terms that one item alone has
    are left out, since nothing can resemble it in them.
    """

    def __init__(self, first: int, text: bool, idf: Mapping[str, float]) -> None:
        self.first, self.text, self.idf = first, text, dict(idf)
        self._places = {term: first + place for place, term in enumerate(self.idf)}
        self.width = len(self.idf)

    @classmethod
    def fitted(cls, first: int, text: bool, column: Sequence[Any]) -> Self:
        found: Counter[str] = Counter()
        for value in column:
            found.update(_terms(value, text).keys())
        return cls(first, text, {term: 1 + math.log((1 + len(column)) / (1 + count)) for term, count in sorted(found.items()) if count > 1})

    def of(self, value: Any) -> tuple[list[int], list[float]]:
        places = self._places
        known = [(places[term], weight * self.idf[term]) for term, weight in _terms(value, self.text).items() if term in places]
        length = math.sqrt(sum(weight * weight for _, weight in known))
        return [place for place, _ in known], [weight / length for _, weight in known]

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "idf": self.idf}


class Scale:
    """One number, scaled by quantiles: it lies between two of ``KNOTS`` places, nearer to the one it resembles more."""

    def __init__(self, first: int, knots: Sequence[float]) -> None:
        self.first, self.knots, self.width = first, list(knots), len(knots)

    @classmethod
    def fitted(cls, first: int, column: Sequence[Any]) -> Self:
        given = np.array([value for value in column if value is not None], np.float64)
        return cls(first, np.unique(np.quantile(given, np.linspace(0, 1, KNOTS))).tolist() if len(given) else [])

    def of(self, value: Any) -> tuple[list[int], list[float]]:
        if value is None or not self.knots:
            return [], []
        knots = self.knots
        at = min(max(float(value), knots[0]), knots[-1])
        upper = int(np.searchsorted(knots, at))
        if upper == 0 or knots[upper] == at:
            return [self.first + upper], [1.0]
        share = (at - knots[upper - 1]) / (knots[upper] - knots[upper - 1])
        length = math.hypot(share, 1 - share)
        return [self.first + upper - 1, self.first + upper], [(1 - share) / length, share / length]

    def to_json(self) -> dict[str, Any]:
        return {"knots": self.knots}


class Vectors:
    """Encodes items: each attribute's part has length 1 where the item has it, and so then has the whole. Fitted on a catalogue once."""

    def __init__(self, blocks: Mapping[str, Block | Scale]) -> None:
        self.blocks = dict(blocks)
        self.width = sum(block.width for block in self.blocks.values())

    @classmethod
    def fitted(cls, catalogue: Catalogue, attributes: Sequence[str], text: Sequence[str]) -> Self:
        blocks: dict[str, Block | Scale] = {}
        first, n = 0, len(catalogue)
        for name in dict.fromkeys([*attributes, *text]):
            column = catalogue.column(name)[:n]
            number = catalogue.kind(name) == "number" and name not in text
            blocks[name] = Scale.fitted(first, column) if number else Block.fitted(first, name in text, column)
            first += blocks[name].width
        return cls(blocks)

    def reader(self, catalogue: Catalogue) -> Callable[[int], tuple[NDArray[np.int32], Floats]]:
        """A function from a row of this catalogue to its columns and values."""
        known = set(catalogue.attribute_names)
        parts = [(block, catalogue.column(name)) for name, block in self.blocks.items() if name in known]

        def read(row: int) -> tuple[NDArray[np.int32], Floats]:
            columns: list[int] = []
            values: list[float] = []
            for block, column in parts:
                places, weights = block.of(column[row])
                columns += places
                values += weights
            length = math.sqrt(sum(value * value for value in values)) or 1.0
            return np.array(columns, np.int32), np.array(values, np.float32) / np.float32(length)

        return read

    def to_array(self) -> NDArray[np.uint8]:
        """All that was fitted, as the bytes of its JSON."""
        return np.frombuffer(json.dumps({name: block.to_json() for name, block in self.blocks.items()}).encode(), np.uint8).copy()

    @classmethod
    def from_array(cls, array: NDArray[np.uint8]) -> Self:
        blocks: dict[str, Block | Scale] = {}
        first = 0
        for name, saved in json.loads(array.tobytes().decode()).items():
            blocks[name] = Scale(first, saved["knots"]) if "knots" in saved else Block(first, saved["text"], saved["idf"])
            first += blocks[name].width
        return cls(blocks)
