"""Every column a model may read, named once. Made by ``FeaturePipeline.fit``; nobody types a vocabulary's size."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Owner = Literal["user", "item", "context", "pair"]
Kind = Literal["category", "number", "sequence", "vector"]

PADDING = 0  #: embedding id of an empty place in a sequence
UNKNOWN = 1  #: embedding id of a value the pipeline was not fitted on


class MissingFeature(ValueError):
    """A model asked for a column that the schema does not have; the text says how to give it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the known name nearest to ``name``, else a list of the known ones."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close:
        folded = {known_name.lower(): known_name for known_name in names}
        close = [folded[match] for match in difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)]
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


@dataclass(frozen=True, slots=True)
class Feature:
    """One input column.

    ``category``: int64 ``[N]`` ids below ``vocab_size`` (0 padding, 1 unknown). ``number``: float32 ``[N]``.
    ``sequence``: int64 ``[N, length]``, oldest first, padded with 0 on the right. ``vector``: float32 ``[N, dim]``.
    ``shares`` names the feature whose embedding table this one uses.
    """

    name: str
    owner: Owner
    kind: Kind
    vocab_size: int = 0
    dim: int = 1
    length: int = 0
    shares: str = ""


POINTWISE = ("binary_cross_entropy", "mean_squared_error")
GROUPWISE = ("listnet", "softmax", "lambdarank", "bpr")  #: losses that compare the rows of a group


@dataclass(frozen=True, slots=True)
class Label:
    """One task: ``kind`` ``binary`` or ``number``; ``weight`` multiplies its loss.

    ``loss`` is a function of ``layers/losses.py``; "" is that of its kind: ``binary_cross_entropy``, or ``mean_squared_error`` for a number.
    ``lambdarank@10`` looks at the first 10 places.
    """

    name: str
    kind: Literal["binary", "number"] = "binary"
    weight: float = 1.0
    loss: str = ""

    def __post_init__(self) -> None:
        name, at, k = self.loss.partition("@")
        if self.loss and (name not in (*POINTWISE, *GROUPWISE) or (at and (name != "lambdarank" or not k.isdecimal() or int(k) < 1))):
            raise ValueError(f"there is no loss {self.loss!r}{nearest(self.loss, (*POINTWISE, *GROUPWISE))}")
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight must be a finite number of at least 0, not {self.weight}")
        if self.kind == "number" and name == "binary_cross_entropy":
            raise ValueError("loss binary_cross_entropy is for labels of 0 and 1, not for a number")

    @property
    def minimises(self) -> str:
        """The loss by name."""
        return self.loss or ("binary_cross_entropy" if self.kind == "binary" else "mean_squared_error")

    @property
    def grouped(self) -> bool:
        """Whether its loss needs whole groups in a batch."""
        return self.minimises.partition("@")[0] in GROUPWISE


@dataclass(frozen=True)
class Schema:
    """All inputs and tasks. ``user_id item_id history domain`` name the columns that play that known part ("" = none)."""

    features: tuple[Feature, ...]
    labels: tuple[Label, ...] = ()
    user_id: str = ""
    item_id: str = ""
    history: str = ""
    domain: str = ""

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"two features have the same name: {', '.join(sorted(repeated))}")

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise MissingFeature(f"no feature {name!r}{nearest(name, [f.name for f in self.features])}")

    def __contains__(self, name: object) -> bool:
        return any(feature.name == name for feature in self.features)

    def of(self, *owners: Owner) -> tuple[Feature, ...]:
        """The features of these owners, in the schema's order."""
        return tuple(feature for feature in self.features if feature.owner in owners)

    def part(self, part: Literal["user_id", "item_id", "history", "domain"]) -> Feature:
        """The feature that plays ``part``; ``MissingFeature`` says how to give it."""
        name = getattr(self, part)
        if not name:
            raise MissingFeature(
                f"this model needs a feature that plays the part {part!r}: add one with part = {part!r} to the recipe's [[features]]"
            )
        return self[name]

    def only(self, *owners: Owner) -> Schema:
        """The same schema without the features of other owners (a tower of a two-tower model sees one side)."""
        kept = self.of(*owners)
        names = {feature.name for feature in kept}
        parts = {part: name for part in ("user_id", "item_id", "history", "domain") if (name := getattr(self, part)) in names}
        return Schema(kept, self.labels, **parts)

    def without(self, patterns: Iterable[str]) -> Schema:
        """The same schema without the features whose names match one of these (``*`` stands for anything); ValueError where one matches none."""
        gone: set[str] = set()
        for pattern in patterns:
            found = {feature.name for feature in self.features if fnmatch.fnmatchcase(feature.name, pattern)}
            if not found:
                raise ValueError(f"without: no feature {pattern!r}{nearest(pattern, [feature.name for feature in self.features])}")
            gone |= found
        kept = tuple(feature for feature in self.features if feature.name not in gone)
        parts = {part: "" if (name := getattr(self, part)) in gone else name for part in ("user_id", "item_id", "history", "domain")}
        return Schema(kept, self.labels, **parts)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON of the whole schema; ``from_json`` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        rest = {key: data[key] for key in ("user_id", "item_id", "history", "domain")}
        return cls(tuple(Feature(**f) for f in data["features"]), tuple(Label(**x) for x in data["labels"]), **rest)
