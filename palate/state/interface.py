"""State: what the recommender asks of whatever keeps the live state. ``Embedded`` keeps it in this process; others can keep it elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypedDict

import polars
from numpy.typing import NDArray

from palate.candidates import Ints, Request
from palate.state.catalogue import Catalogue
from palate.state.check import Outcome


class Forgotten(TypedDict):
    """What ``forget`` removed. ``known``: there was anything of this user; ``trained``: the user is in the events given at the start,
    so models may have learnt from them."""

    known: bool
    trained: bool
    events: int
    pages: int
    dead_letters: int


class BornBefore(ValueError):
    """An item that is known was to get another date: what features of the past rest on does not move."""


class Seen(Protocol):
    """What one user was shown, at one moment."""

    def contains(self, items: Ints) -> NDArray[Any]: ...  # [N] -> bool [N]


class State(Protocol):
    """Durable, idempotent, and equal to ``Past`` over the same events. Every method may be called from any thread.

    Raises ``log.StorageFull`` (an OSError) where the disk takes nothing: then nothing of the call was kept, and reads go on; and
    ``log.StateUnreadable`` (an OSError, too) where it gives nothing, though the log may be whole.
    """

    users: Catalogue
    items: Catalogue

    @property
    def sequence(self) -> int:
        """Number of the last event applied."""
        ...

    def append(self, events: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Checks and keeps events; returns once they are on disk and count. The same ``event_id`` again is a ``duplicate``."""
        ...

    def request(
        self,
        users: Sequence[str | None],
        *,
        history: Sequence[Sequence[Any] | None] | None = None,
        attributes: Mapping[str, Sequence[Any]] | None = None,
        context: Mapping[str, Sequence[Any]] | None = None,
        scene: str = "",
        now: int | None = None,
        **fields: Any,
    ) -> Request:
        """What is known of these users at this moment."""
        ...

    def show(self, user: str | int, items: Sequence[str] | Ints, now: int | None = None) -> None:
        """Marks items as shown."""
        ...

    def seen(self, user: str | int, now: int | None = None) -> Seen: ...

    def save_page(self, page: Mapping[str, Any]) -> bool:
        """Keeps a served page by its ``request_id``; False if there is one already, which stays."""
        ...

    def save_pages(self, pages: Sequence[Mapping[str, Any]]) -> list[bool]:
        """``save_page`` for several pages, all kept or none."""
        ...

    def page(self, request_id: str) -> dict[str, Any] | None: ...

    def put_item(self, id: str, attributes: Mapping[str, Any] | None = None, *, created: int | None = None, available: bool | None = None) -> int:
        """Adds or changes an item; its row. BornBefore where it is known and ``created`` is another moment than it has."""
        ...

    def put_user(self, id: str, attributes: Mapping[str, Any] | None = None) -> int: ...

    def forget(self, user: str) -> Forgotten: ...

    def events_frame(self) -> polars.DataFrame: ...

    def pages_frame(self) -> polars.DataFrame: ...

    def digest(self) -> str:
        """The same for the same set of events, whatever order they came in."""
        ...

    def close(self) -> None: ...
