"""Says of one incoming event whether it is sound, and why not. Nothing that comes in here may raise."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from palate.candidates import SECOND
from palate.state.catalogue import id_fault

FUTURE = 300 * SECOND  #: an event may be this much ahead of the clock; beyond, it is put aside
MOST_CONTEXT = 16_384  #: bytes of an event's context as JSON
MOST_DEPTH = 4  #: of lists and objects in a context
MOST_KIND = 64  #: characters of an event's kind
LARGEST = 3.4028234e38  #: of a float32
FIELDS = ("user", "item", "kind", "time", "value", "event_id", "request_id", "context")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one event. ``field`` and ``reason`` say why one was rejected; ``sequence`` is its number in the log."""

    status: Literal["accepted", "duplicate", "rejected"]
    event_id: str = ""
    reason: str = ""
    field: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class SoundEvent:
    """A checked event. ``derived``: its id was made from its content or out of the air."""

    event_id: str
    user: str
    item: str
    time: int
    kind: str
    value: float | None
    request_id: str | None
    context: str | None
    derived: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an event is not sound."""

    field: str
    reason: str


def check(event: Any, now: int, fresh_id: str) -> SoundEvent | Fault:
    """An event as the log wants it, or its first fault.

    ``user item kind`` are strings; ``time`` ms since 1970 (absent: ``now``), at most 5 minutes ahead of ``now``; ``value`` a finite
    number or absent; ``event_id`` and ``request_id`` strings or absent; every other key is context. Without an ``event_id`` an event
    that has a time is known by its content, so that sending it again changes nothing; any other gets ``fresh_id``.
    """
    if not isinstance(event, Mapping):
        return Fault("", f"an event must be an object, not {type(event).__name__}")
    for name in ("user", "item", "kind"):
        fault = id_fault(event.get(name))
        if fault:
            return Fault(name, f"{name} {fault}")
    if len(event["kind"]) > MOST_KIND:
        return Fault("kind", f"kind is longer than {MOST_KIND} characters")
    for name in ("event_id", "request_id"):
        if event.get(name) is not None and (fault := id_fault(event[name])):
            return Fault(name, f"{name} {fault}")
    time = event.get("time")
    if time is None:
        time = now
    elif isinstance(time, bool) or not isinstance(time, (int, float)):
        return Fault("time", "time must be milliseconds since 1970 as a number")
    elif not math.isfinite(time) if isinstance(time, float) else False:
        return Fault("time", "time is not finite")
    elif time < 0:
        return Fault("time", "time lies before 1970")
    elif time > now + FUTURE:
        return Fault("time", "time lies more than 5 minutes in the future")
    value = event.get("value")
    if value is not None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return Fault("value", "value must be a number")
        if not -LARGEST <= value <= LARGEST:  # catches what is not a number, too
            return Fault("value", "value is not finite")
        value = float(value)
    context, fault = _context(event)
    if fault:
        return Fault("context", fault)
    event_id, derived = event.get("event_id"), False
    user, item, kind, request_id = event["user"], event["item"], event["kind"], event.get("request_id")
    if event_id is None:
        derived = True
        event_id = fresh_id
        if event.get("time") is not None:
            content = json.dumps([user, item, int(time), kind, value, request_id, context]).encode()
            event_id = "=" + hashlib.blake2b(content, digest_size=16).hexdigest()
    return SoundEvent(event_id, user, item, int(time), kind, value, request_id, context, derived)


def _context(event: Mapping[Any, Any]) -> tuple[str | None, str]:
    """Every key that has no meaning of its own, as JSON; or what is wrong with it."""
    given = event.get("context")
    if given is not None and not isinstance(given, Mapping):
        return None, "context must be an object"
    if given is None and len(event) <= len(FIELDS) and all(name in FIELDS for name in event):
        return None, ""
    extra = {**{name: value for name, value in event.items() if name not in FIELDS}, **(given or {})}
    if not extra:
        return None, ""
    for name in extra:
        if id_fault(name):
            return None, "a name in the context is not one that can be used"
        if name in FIELDS:
            return None, f"the context may not hold {name!r}"
    if not _flat(extra, MOST_DEPTH):
        return None, f"context is nested deeper than {MOST_DEPTH}"
    try:
        text = json.dumps(extra, allow_nan=False, sort_keys=True, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError):  # a lone half of a character, too
        return None, "context is not plain JSON of finite numbers and whole characters"
    if size > MOST_CONTEXT:
        return None, f"context is longer than {MOST_CONTEXT} bytes"
    return text, ""


def _flat(value: Any, depth: int) -> bool:
    if isinstance(value, Mapping):
        return depth > 0 and all(_flat(one, depth - 1) for one in value.values())
    if isinstance(value, (list, tuple)):
        return depth > 0 and all(_flat(one, depth - 1) for one in value)
    return True


def dead_letter(event: Any, most: int = 4096) -> str:
    """An event that was not sound, as text that can be stored: whatever it was, cut at ``most`` characters."""
    try:
        text = json.dumps(event, default=lambda one: f"<{type(one).__name__}>", skipkeys=True)
    except (TypeError, ValueError, RecursionError):
        text = f"<{type(event).__name__}>"
    return text[:most]
