"""Wording: a TOML text with one value changed; everything else, comments too, as its author wrote it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(r"""\s*(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')\s*""")
Way = tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """Where something stands: ``way`` to it; ``begin`` and ``end`` of a value's text, or of a table's header and of its last own key."""

    way: Way
    begin: int
    end: int
    table: bool = False


def put(text: str, way: Sequence[str], value: Any) -> str:
    """The text with ``value`` at ``way`` (keys from the outside in): in the place of what is there, or at the end of the innermost table that is.

    Something inside an inline table is changed by writing that table anew. ValueError where the text holds no table to put it in.
    """
    way = tuple(way)
    before = tomllib.loads(text)
    places = _places(text)
    for depth in range(len(way), 0, -1):
        inside = [place for place in places if not place.table and place.way == way[:depth]]
        if inside:
            place = inside[0]
            changed = _set(tomllib.loads(f"it = {text[place.begin : place.end]}")["it"], way[depth:], value)
            return _checked(text[: place.begin] + written(changed) + text[place.end :], before, way, value)
    tables = [place for place in places if place.table and way[: len(place.way)] == place.way and len(place.way) < len(way)]
    if not tables:
        raise ValueError(f"there is no table [{'.'.join(way[:-1])}] to put {way[-1]!r} into")
    table = max(tables, key=lambda place: len(place.way))
    line = f"{'.'.join(map(_key, way[len(table.way) :]))} = {written(value)}"
    return _checked(f"{text[: table.end]}\n{line}{text[table.end :]}", before, way, value)


def written(value: Any) -> str:
    """A value in TOML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {written(one)}" for name, one in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, (int, float)):
        return repr(value)
    raise ValueError(f"{value!r} cannot be written in TOML")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else written(name)


def _set(table: Any, way: Way, value: Any) -> Any:
    if not way:
        return value
    if not isinstance(table, dict):
        raise ValueError(f"there is a value, no table, to put {way[0]!r} into")
    return {**table, way[0]: _set(table.get(way[0], {}), way[1:], value)}


def _checked(text: str, before: dict[str, Any], way: Way, value: Any) -> str:
    """The text, if it says what was wanted and nothing else has changed."""
    wanted = _set(before, way, json.loads(json.dumps(value)))
    if tomllib.loads(text) != wanted:
        raise ValueError(f"{'.'.join(way)} cannot be changed in this text: write it on a line of its own")
    return text


def _places(text: str) -> list[_Place]:
    """All values at the text's outer level and in its tables, and the tables; those in lists of tables are left out."""
    found: list[_Place] = []
    table: _Place | None = _Place((), 0, 0, True)
    at = 0
    while at < len(text):
        if match := re.compile(r"[\s]+|#[^\n]*").match(text, at):
            at = match.end()
        elif text.startswith("[[", at):
            table = None
            at = text.index("]]", at) + 2
        elif text[at] == "[":
            end = _after(text, at)
            way = tuple(_words(text[at + 1 : end - 1]))
            table = _Place(way, at, _line_end(text, end), True)
            found.append(table)
            at = end
        else:
            begin = _equals(text, at)
            way, start = tuple(_words(text[at : begin - 1])), re.compile(r"[ \t]*").match(text, begin).end()  # type: ignore[union-attr]
            at = _after(text, start)
            if table is not None:
                found.append(_Place((*table.way, *way), start, at))
                if table.table and table.way:
                    grown = _Place(table.way, table.begin, _line_end(text, at), True)
                    found[found.index(table)] = grown
                    table = grown
    return found


def _words(dotted: str) -> list[str]:
    """The words of a dotted key."""
    words: list[str] = []
    inner: Any = tomllib.loads(f"{dotted} = 0")
    while isinstance(inner, dict):
        word, inner = next(iter(inner.items()))
        words.append(word)
    return words


def _equals(text: str, at: int) -> int:
    """Behind the equals sign of the key that begins at ``at``."""
    while True:
        at = _KEY.match(text, at).end()  # type: ignore[union-attr]
        at += 1
        if text[at - 1] == "=":
            return at


def _after(text: str, at: int) -> int:
    """Where the value (or header) that begins at ``at`` ends."""
    depth = 0
    while at < len(text):
        if quote := re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\]|\\.)*"|\'[^\']*\'', re.DOTALL).match(text, at):
            at = quote.end()
        elif text[at] in "[{":
            depth, at = depth + 1, at + 1
        elif text[at] in "]}":
            depth, at = depth - 1, at + 1
        elif depth and text[at] == "#":
            at = _line_end(text, at)
        elif depth:
            at += 1
        else:
            return re.compile(r"[^\s,#\]}]*(?: \d[^\s,#\]}]*)?").match(text, at).end()  # type: ignore[union-attr]
        if not depth:
            return at
    return at


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
