"""What a recommender is asked, the page it answers with, and the errors of a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from palate.state.catalogue import id_fault
from palate.state.check import Outcome


class AskError(ValueError):
    """A call that cannot be answered as it is; ``field`` names the argument (parts of it joined by /)."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class NotFound(AskError):
    """The call is about something that is not there."""


class Conflict(AskError):
    """The call contradicts an earlier one."""


class NotDurable(RuntimeError):
    """What was sent could not be made durable; nothing of it counts."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One call of ``Recommender.recommend``."""

    user: str | None = None
    k: int = 10
    history: Sequence[str] | None = None
    attributes: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None
    scene: str = ""
    request_id: str | None = None
    log: bool = True
    why: bool = False

    @property
    def alike(self) -> tuple[Any, ...]:
        """Asks that agree in this can go through the funnel together."""
        return self.k, self.scene, tuple(self.attributes or ()), tuple(self.context or ())

    @property
    def names(self) -> list[str]:
        """What no other ask may be about at the same time; a look minds nobody."""
        if not self.log:
            return []
        user = [] if self.user is None else [f"u{self.user}"]
        return user if self.request_id is None else [*user, f"r{self.request_id}"]


@dataclass(frozen=True, slots=True)
class Shown:
    """One item of a page. ``score`` is the last stage's, ``propensity`` the chance of standing here."""

    item: str
    position: int
    score: float
    propensity: float


@dataclass(frozen=True, slots=True)
class Page:
    """An answered ask. ``degraded`` names the parts it had to do without, ``now`` is in ms, ``as_of`` the last event it knew, ``scores``
    what each stage thought of each item (None: nothing)."""

    request_id: str
    items: tuple[Shown, ...]
    degraded: tuple[str, ...]
    versions: Mapping[str, str]
    as_of: int
    now: int
    scores: Mapping[str, Sequence[float | None]]
    notes: tuple[str, ...] = ()
    trace: Any = None
    replayed: bool = False

    @property
    def ids(self) -> list[str]:
        """The items' ids, best first."""
        return [shown.item for shown in self.items]

    @property
    def propensities(self) -> list[float]:
        return [shown.propensity for shown in self.items]

    def scores_at(self, position: int) -> dict[str, float]:
        """The stages' scores of the item at ``position``."""
        return {name: score for name, values in self.scores.items() if (score := values[position]) is not None}


def page_of(record: Mapping[str, Any], trace: Any = None, replayed: bool = False) -> Page:
    """The page behind a record of the log."""
    items = tuple(map(Shown, record["items"], record["positions"], record["score"], record["propensities"]))
    parts, notes = tuple(record["degraded"]), tuple(record["notes"])
    stages = record["scores"]
    return Page(record["request_id"], items, parts, record["versions"], record["as_of"], record["now"], stages, notes, trace, replayed)


def together(asks: Sequence[Ask], waiting: list[int]) -> tuple[list[int], list[int]]:
    """Of the places waiting, those that can go with the first, and the rest. Two asks of one user go one after the other."""
    alike = asks[waiting[0]].alike
    group: list[int] = []
    rest: list[int] = []
    taken: set[str] = set()
    for place in waiting:
        ask = asks[place]
        if ask.alike != alike or not taken.isdisjoint(ask.names):
            rest.append(place)
        else:
            group.append(place)
            taken.update(ask.names)
    return group, rest


def reported(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain JSON."""
    found: dict[str, Any] = {"status": outcome.status}
    if outcome.event_id:
        found["event_id"] = outcome.event_id
    if outcome.status == "rejected":
        found |= {"field": outcome.field, "reason": outcome.reason}
    return found


@contextmanager
def naming(field: str) -> Iterator[None]:
    """What the state refuses, as an error that names the argument."""
    try:
        yield
    except OSError as error:
        raise NotDurable(f"this could not be written: {error.strerror}") from error
    except AskError:
        raise
    except ValueError as error:
        raise AskError(field, str(error)) from error


def checked_id(name: str, value: Any) -> None:
    """AskError where it is no id."""
    fault = id_fault(value)
    if fault:
        raise AskError(name, f"{name} {fault}")


def checked(ask: Ask) -> None:
    """AskError where an argument is not of its kind; whether what it names is there is asked later."""
    for name, value in (("user", ask.user), ("request_id", ask.request_id)):
        if value is not None:
            checked_id(name, value)
    if type(ask.k) is not int or ask.k < 0:
        raise AskError("k", f"k must be a whole number of at least 0, not {ask.k!r}")
    if type(ask.scene) is not str:
        raise AskError("scene", f"scene must be a text, not {ask.scene!r}")
    if ask.history is not None:
        if isinstance(ask.history, (str, bytes)):
            raise AskError("history", "history must be a list of item ids, not one text")
        for place, item in enumerate(ask.history):
            if type(item) is not str:
                raise AskError(f"history/{place}", f"an item id must be a text, not {item!r}")
    for name, given in (("attributes", ask.attributes), ("context", ask.context)):
        if given is not None and not (isinstance(given, Mapping) and all(type(key) is str for key in given)):
            raise AskError(name, f"{name} must be names and values, not {given!r}")
