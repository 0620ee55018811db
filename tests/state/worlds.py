"""What the tests of the state share: small catalogues, events, and an embedded state with a clock of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.candidates import DAY
from palate.state.catalogue import Catalogue
from palate.state.embedded import Embedded
from palate.tables.signals import Signal

SIGNALS = (Signal("rated", ("rating",)), Signal("like", ("rating",), 4.0), Signal("love", ("rating",), 5.0))
WINDOWS = (DAY, 7 * DAY, 0)
NOW = 1_700_000_000_000


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def opened(folder: Path | None, **options: Any) -> Embedded:
    """An embedded state over empty catalogues."""
    settings: dict[str, Any] = {"clock": Clock(), **options}
    users, items = settings.pop("users", Catalogue("users")), settings.pop("items", Catalogue("items"))
    return Embedded(folder, users, items, SIGNALS, WINDOWS, **settings)


def rating(user: str, item: str, value: float = 5, time: int = NOW - DAY, **more: Any) -> dict[str, Any]:
    return {"user": user, "item": item, "kind": "rating", "value": value, "time": time, **more}
