from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.state.check import Fault, SoundEvent, check, dead_letter

GOOD: dict[str, Any] = {"user": "u", "item": "i", "kind": "view", "time": 1000}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user": None}, "user"),
        ({"user": ""}, "user"),
        ({"user": 7}, "user"),
        ({"user": " "}, "user"),
        ({"item": "\u3000 \u00a0"}, "item"),
        ({"kind": "  "}, "kind"),
        ({"event_id": "  "}, "event_id"),
        ({"request_id": " "}, "request_id"),
        ({"item": "x" * 513}, "item"),
        ({"item": "ü" * 257}, "item"),
        ({"item": "a\x00b"}, "item"),
        ({"item": "\ud800"}, "item"),
        ({"kind": ["view"]}, "kind"),
        ({"kind": "k" * 65}, "kind"),
        ({"time": "yesterday"}, "time"),
        ({"time": True}, "time"),
        ({"time": float("nan")}, "time"),
        ({"time": -1}, "time"),
        ({"time": 10**30}, "time"),
        ({"time": 5000 + 300_001}, "time"),
        ({"value": "5"}, "value"),
        ({"value": float("inf")}, "value"),
        ({"value": 10**400}, "value"),
        ({"value": 1e39}, "value"),
        ({"event_id": 4}, "event_id"),
        ({"request_id": "\r"}, "request_id"),
        ({"context": []}, "context"),
        ({"context": {"x": float("nan")}}, "context"),
        ({"context": {"x": object()}}, "context"),
        ({"context": {"user": "v"}}, "context"),
        ({"extra": "x" * 20_000}, "context"),
        ({"extra": "\ud800"}, "context"),
        ({"context": {"x": [[[[[]]]]]}}, "context"),
        ({5: 1}, "context"),
    ],
)
def test_each_fault_has_its_name(change: dict[Any, Any], field: str) -> None:
    found = check({**GOOD, **change}, 5000, "fresh")
    assert isinstance(found, Fault)
    assert found.field == field
    assert found.reason


def test_sound_events() -> None:
    found = check({**GOOD, "user": "Zoë 🎷 \u202e", "value": 3, "event_id": "e", "page": 4}, 5000, "fresh")
    assert found == SoundEvent("e", "Zoë 🎷 \u202e", "i", 1000, "view", 3.0, None, '{"page": 4}', False)
    timeless = check({"user": "u", "item": "i", "kind": "view"}, 5000, "fresh")
    assert isinstance(timeless, SoundEvent)
    assert (timeless.time, timeless.event_id) == (5000, "fresh")
    first, second = check(GOOD, 5000, "a"), check(dict(GOOD), 6000, "b")
    assert first == second
    assert isinstance(first, SoundEvent)
    assert "u" not in first.event_id.removeprefix("=").strip("0123456789abcdef")
    assert isinstance(check({**GOOD, "time": 5000 + 300_000}, 5000, "x"), SoundEvent)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters(), max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(anything | st.dictionaries(st.sampled_from(["user", "item", "kind", "time", "value", "event_id", "request_id", "context", "x"]), anything))
def test_nothing_makes_it_raise(event: Any) -> None:
    assert isinstance(check(event, 5000, "fresh"), (SoundEvent, Fault))
    assert len(dead_letter(event)) <= 4096
    dead_letter(event).encode()
