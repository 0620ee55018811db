"""Other values for every option of a catalog entry, made from its signature."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

from palate.build import OptionError, options_of, parameters

NOT_ANSWERS = {"threads"}  #: options that change the cost of an answer, never the answer
NAMED: dict[str, list[Any]] = {
    "crosses": [(("user_id", "item_id"),), (("history_genre", "genre"), ("scene", "hour"))],
    "kinds": [("cross", "fm"), ("bilinear",), ("attention", "fm")],
    "prior": [("genre",)],
    "attribute": ["author"],
    "author": ["genres"],
    "models": [("popular", "itemcf")],
    "fixed": [(0.3, 0.7)],
    "events": [(12,)],
    "follows": ["loves"],
    "latitude": ["south"],
    "longitude": ["east"],
    "attributes": [("genres",), ("author", "genres")],
    "text": [("title",)],
    "hard": ["genre"],
    "category": ["author"],
    "age": ["age"],
    "query": [("item_id",), ("text", "hour")],
    "induction": [("genre",)],
    "booked": ["taken"],
    "market": ["author"],
    "feed": [("user_id",), ("history", "history_genre")],
}
GIVEN: dict[str, Any] = {"models": ("itemcf", "tag")}  #: options that have no default: what a contract test gives
#: what an option needs beside it to matter in a small world
BESIDE: dict[str, dict[str, Any]] = {
    "SimpleX.weight": {"margin": 0.0},  # after one epoch no cosine is above the usual one
    "restraint": {"loss": "bpr_max"},
    "LightGCN.temperature": {"loss": "softmax"},
    "category": {"diversity": 2.0},
    "keep": {"neighbors": 3},
    "buckets": {"crosses": (("user_id", "item_id"),)},
    "share": {"pretraining": 1},
    "rounds": {"extraction": "capsule"},
    "oversample": {"booked": "taken"},
    "market_negatives": {"market": "author"},
}


def given(cls: type) -> dict[str, Any]:
    """The options that this one cannot do without."""
    return {name: value for name, value in GIVEN.items() if name in parameters(cls)}


def others(cls: type, *provided: Any) -> Iterator[tuple[str, list[Any], bool]]:
    """Each option's name, other values than its default, and whether every one of them must change something (else one is enough)."""
    for name in options_of(cls, *provided):
        if name in NOT_ANSWERS:
            continue
        parameter, hint = parameters(cls)[name]
        default = parameter.default
        if name in NAMED:
            yield name, [value for value in NAMED[name] if value != default], True
        elif typing.get_origin(hint) is typing.Literal:
            yield name, [value for value in typing.get_args(hint) if value != default], True
        else:
            yield name, _values(name, default, hint), False


def judge(name: str, values: list[Any], each: bool, changes: Callable[[Any], bool]) -> None:
    """Fail unless every value (``each``), or one of them, changes something; values that the option refuses count for nothing."""
    allowed = 0
    for value in values:
        try:
            changed = changes(value)
        except OptionError:
            continue
        allowed += 1
        assert changed or not each, f"{name} changes nothing at {value}"
        if changed and not each:
            return
    assert allowed, f"no other value of {name} is allowed among {values}"
    assert each, f"{name} changes nothing at {values}"


def _values(name: str, default: Any, hint: Any) -> list[Any]:
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, int):
        return [value for value in (default + 1, default // 2, 2, 1, 0) if value != default]
    if isinstance(default, float):
        return [default / 2, default * 2] if default else [0.5, 2.0, 20.0]
    if default is None and float in typing.get_args(hint) and typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [2.5, 4.0]
    if isinstance(default, tuple) and all(isinstance(one, int) for one in default):
        return [(*default, 4), (*default[:-1], default[-1] + 1)] if default else [(4,)]
    raise NotImplementedError(f"say in tests/contract/options.py which other values {name!r} ({hint}) can have")
