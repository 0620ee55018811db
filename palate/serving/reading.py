"""Queries and bodies to values, against a table of fields. The same table makes the OpenAPI document, so the two cannot drift apart.

Every refusal names the field, by query parameter or JSON pointer, and an unknown name the nearest right one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl

from palate.schema import nearest
from palate.serving.problems import Problem, in_body, in_parameter, pointer, printable
from palate.serving.settings import Settings
from palate.state.catalogue import id_fault

Kind = Literal["id", "whole", "flag", "text", "ids", "values", "time"]


@dataclass(frozen=True, slots=True)
class Field:
    """One thing a client may say. ``id`` a non-empty text without control characters, ``whole`` an integer, ``ids`` a list of ids (parted by
    commas in a query), ``values`` a JSON object of attributes, ``time`` milliseconds since 1970 UTC."""

    name: str
    kind: Kind
    about: str
    default: Any = None
    least: int = 0
    required: bool = False


def query(text: bytes, fields: Mapping[str, Field], limits: Settings) -> dict[str, Any]:
    """Values of a query string, defaults filled in. ``Problem`` for whatever does not fit."""
    values = {name: field.default for name, field in fields.items()}
    if text:
        try:
            decoded = text.decode("ascii")
            pairs = parse_qsl(decoded, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=64)
        except ValueError:
            raise Problem("malformed", "the query is not name=value pairs of percent-encoded UTF-8 joined by &, at most 64 of them") from None
        seen = set()
        for name, raw in pairs:
            field = fields.get(name)
            if field is None:
                raise in_parameter("unknown-parameter", name, f"no parameter {printable(name)!r}{nearest(printable(name), fields)}")
            if name in seen:
                raise in_parameter("invalid", name, f"{name} is given twice")
            seen.add(name)
            try:
                values[name] = check(field, _typed(field, raw), limits)
            except ValueError as error:
                raise in_parameter("invalid", name, f"{name} {error}") from None
    for name, field in fields.items():
        if field.required and values[name] is None:
            raise in_parameter("invalid", name, f"{name} is missing")
    return values


def _typed(field: Field, raw: str) -> Any:
    if field.kind in ("whole", "time"):
        digits = raw[1:] if raw[:1] == "-" else raw
        if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
            raise ValueError(f"must be a whole number, not {printable(raw)!r}")
        return int(raw)
    if field.kind == "flag":
        if raw not in ("true", "false", "1", "0"):
            raise ValueError(f"must be true or false, not {printable(raw)!r}")
        return raw in ("true", "1")
    if field.kind == "ids":
        return raw.split(",") if raw else []
    return raw


def check(field: Field, value: Any, limits: Settings) -> Any:
    """``value`` where it fits the field; ValueError says what it must be."""
    kind = field.kind
    if kind == "id":
        return _id(value, limits.max_id)
    if kind in ("whole", "time"):
        if type(value) is not int:
            raise ValueError(f"must be a whole number, not {_shown(value)}")
        most = limits.max_k if kind == "whole" else 2**62
        if not field.least <= value <= most:
            raise ValueError(f"must lie between {field.least} and {most}, not {_shown(value)}")
        return value
    if kind == "flag":
        if type(value) is not bool:
            raise ValueError(f"must be true or false, not {_shown(value)}")
        return value
    if kind == "text":
        if type(value) is not str or len(value) > limits.max_id or not _encodable(value):
            raise ValueError(f"must be a text of at most {limits.max_id} characters, not {_shown(value)}")
        return value
    if kind == "ids":
        if type(value) is not list or len(value) > limits.max_history:
            raise ValueError(f"must be a list of at most {limits.max_history} ids, not {_shown(value)}")
        for place, one in enumerate(value):
            try:
                _id(one, limits.max_id)
            except ValueError as error:
                raise _At(error, place) from None
        return value
    return _values(value, limits)


class _At(ValueError):
    """A ValueError about a place inside the value."""

    def __init__(self, error: ValueError, *path: str | int) -> None:
        super().__init__(str(error))
        self.path = path


def _id(value: Any, most: int) -> str:
    if type(value) is not str or not value or len(value) > most:
        raise ValueError(f"must be a text of 1 to {most} characters, not {_shown(value)}")
    fault = id_fault(value)
    if fault:
        raise ValueError(fault)
    return value


def _values(value: Any, limits: Settings) -> dict[str, Any]:
    if type(value) is not dict or len(value) > 100:
        raise ValueError(f"must be an object of at most 100 names and values, not {_shown(value)}")
    for name, one in value.items():
        if not name or len(name) > limits.max_id or not _encodable(name):
            raise _At(ValueError(f"a name must have 1 to {limits.max_id} characters"), name)
        parts = one if type(one) is list else [one]
        if len(parts) > 1_000:
            raise _At(ValueError("must have at most 1,000 entries"), name)
        for part in parts:
            plain = part is None or type(part) in (str, int, float, bool)
            if type(one) is list and type(part) is not str:
                raise _At(ValueError("a list must hold texts only"), name)
            if not plain or (type(part) is str and (len(part) > 10_000 or not _encodable(part))):
                raise _At(ValueError("must be a text of at most 10,000 characters, a number, true, false, null or a list of texts"), name)
            if type(part) is int and abs(part) > 2**53:
                raise _At(ValueError("a whole number must lie within 2^53: write it as a text"), name)
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float)):
        return printable(json.dumps(value), 40)
    if isinstance(value, str):
        return f"a text of {len(value)} characters" if len(value) > 40 or not value else repr(printable(value, 40))
    return f"a list of {len(value)}" if isinstance(value, list) else "an object"


def parse(body: bytes, limits: Settings) -> Any:
    """The JSON value of a body: UTF-8, finite numbers, no name twice in an object, no deeper than the limit."""
    if not body:
        raise in_body("malformed", "", "the body is empty; JSON is expected")
    deep = depth = 0
    in_text = escaped = False
    # Looked at before the parser sees it: a parser that recurses is stopped by its stack, not by us.
    if body.count(b"[") + body.count(b"{") > limits.max_depth:
        for byte in body:
            if in_text:
                if escaped:
                    escaped = False
                elif byte == 0x5C:
                    escaped = True
                elif byte == 0x22:
                    in_text = False
            elif byte == 0x22:
                in_text = True
            elif byte in b"[{":
                depth += 1
                deep = max(deep, depth)
            elif byte in b"]}":
                depth -= 1
        if deep > limits.max_depth:
            raise in_body("malformed", "", f"the body nests deeper than {limits.max_depth} levels")
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_finite, parse_float=_float, parse_int=_int)
    except UnicodeDecodeError:
        raise in_body("malformed", "", "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise in_body("malformed", "", f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except (ValueError, RecursionError) as error:
        raise in_body("malformed", "", f"the body is not JSON this service reads: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a member twice")
    return found


def _finite(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {printable(text, 20)} is too large")
    return number


def _int(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"the number {printable(text, 20)} is too large")
    return int(text)


def members(value: Any, fields: Mapping[str, Field], limits: Settings) -> dict[str, Any]:
    """The members of a body that is one object, defaults filled in. A null stands for a member left out."""
    if type(value) is not dict:
        raise in_body("invalid", "", f"the body must be an object, not {_shown(value)}")
    values = {name: field.default for name, field in fields.items()}
    for name, one in value.items():
        field = fields.get(name)
        if field is None:
            raise in_body("unknown-parameter", pointer(name), f"no member {printable(name)!r}{nearest(printable(name), fields)}")
        if one is None:
            continue
        try:
            values[name] = check(field, one, limits)
        except _At as error:
            raise in_body("invalid", pointer(name, *error.path), f"{name}: {error}") from None
        except ValueError as error:
            raise in_body("invalid", pointer(name), f"{name} {error}") from None
    for name, field in fields.items():
        if field.required and values[name] is None:
            raise in_body("invalid", pointer(name), f"{name} is missing")
    return values


def listed(value: Any, limits: Settings) -> tuple[list[Any], bool]:
    """The events of a body and whether it was one event alone: an object, a list, or ``{"events": [...]}``."""
    if type(value) is dict and set(value) == {"events"}:
        value = value["events"]
        if type(value) is not list:
            raise in_body("invalid", "/events", f"events must be a list, not {_shown(value)}")
    if type(value) is dict:
        return [value], True
    if type(value) is not list:
        raise in_body("invalid", "", f"the body must be an event, a list of events, or an object with events, not {_shown(value)}")
    if not value:
        raise in_body("invalid", "", "the list of events is empty")
    if len(value) > limits.max_batch:
        raise Problem("too-large", f"a batch holds at most {limits.max_batch} events, not {len(value)}")
    return value, False


def described(fields: Sequence[Field], limits: Settings) -> list[dict[str, Any]]:
    """The fields as OpenAPI parameters."""
    found = []
    for field in fields:
        parameter = {"name": field.name, "in": "query", "description": field.about, "required": field.required, "schema": schema(field, limits)}
        if field.kind == "ids":
            parameter |= {"style": "form", "explode": False}
        found.append(parameter)
    return found


def schema(field: Field, limits: Settings) -> dict[str, Any]:
    """The JSON schema of a field."""
    text: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": limits.max_id}
    kinds: dict[str, dict[str, Any]] = {
        "id": text,
        "text": {"type": "string", "maxLength": limits.max_id},
        "whole": {"type": "integer", "minimum": field.least, "maximum": limits.max_k},
        "time": {"type": "integer", "minimum": field.least, "maximum": 2**62},
        "flag": {"type": "boolean"},
        "ids": {"type": "array", "items": text, "maxItems": limits.max_history},
        "values": {"type": "object", "maxProperties": 100, "additionalProperties": True},
    }
    one = kinds[field.kind]
    return one if field.default is None else {**one, "default": field.default}
