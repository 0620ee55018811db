"""What the service answers, in one table: path, method, who may, what it takes. The gate, the app and the OpenAPI document read it.

A path that is not here is refused by the gate, whatever the app may have: a forgotten route is a closed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from palate.serving.problems import CONTENT_TYPE, KINDS
from palate.serving.reading import Field, described, schema
from palate.serving.settings import Settings

Scope = Literal["open", "read", "write", "admin"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One method of one path. ``scope`` ``open`` needs no key from anywhere; ``read`` none from this machine; the others always one."""

    method: str
    path: str
    scope: Scope
    name: str
    summary: str
    about: str = ""
    query: Mapping[str, Field] = field(default_factory=dict)
    body: Mapping[str, Field] | None = None
    events: bool = False
    problems: tuple[str, ...] = ()
    answers: str = "application/json"


def _fields(*fields: Field) -> dict[str, Field]:
    return {one.name: one for one in fields}


_USER = Field("user", "id", "The user's own id. Left out, or one never seen: a stranger.")
_ASK = (
    Field("k", "whole", "How many items.", 10),
    Field("scene", "text", "The place the list is for, one of the recipe's scenes.", ""),
    Field("request_id", "id", "The same id gives the same page again; made by the service where none is given."),
    Field("log", "flag", "false: a look without effect. The page is neither kept nor counted as shown.", True),
    Field("why", "flag", "true: with a reason for each item, and the trace of the list through the stages.", False),
)
_GIVEN = (
    Field("history", "ids", "Item ids, oldest first: answer for this history instead of the stored one."),
    Field("attributes", "values", "Attributes of the user that go before the stored ones."),
    Field("context", "values", "What is known of the moment, such as the device."),
)

RULES: tuple[Rule, ...] = (
    Rule(
        "GET",
        "/v1/recommendations",
        "read",
        "recommend",
        "A page of items for a user",
        "Items of the page count as shown and do not come back to this user.",
        query=_fields(_USER, *_ASK),
        problems=("conflict", "overloaded"),
    ),
    Rule(
        "POST",
        "/v1/recommendations",
        "read",
        "recommend_given",
        "A page of items for what the call tells",
        "For a user the service need not know: a history, attributes and context come with the call.",
        body=_fields(_USER, *_ASK, *_GIVEN),
        problems=("conflict", "overloaded", "too-large"),
    ),
    Rule(
        "POST",
        "/v1/events",
        "write",
        "add_events",
        "Say what users did",
        "One event, a list, or an object with the member events. What is answered 2xx is on disk. An event_id that was seen before is a "
        "duplicate and changes nothing; the header Idempotency-Key stands for the event_id of events that have none.",
        events=True,
        problems=("overloaded", "too-large", "storage"),
    ),
    Rule(
        "GET",
        "/v1/items/{item}/similar",
        "read",
        "similar",
        "Items that go with an item",
        query=_fields(Field("k", "whole", "How many items.", 10)),
        problems=("not-found", "overloaded"),
    ),
    Rule(
        "PUT",
        "/v1/items/{item}",
        "write",
        "put_item",
        "Add or change an item",
        "A new item can be recommended at once.",
        body=_fields(
            Field("attributes", "values", "The item's attributes.", {}),
            Field("created", "time", "When a new item came to be; now where left out. The date of a known one stays: another is a conflict."),
            Field("available", "flag", "false: it is not offered any more."),
        ),
        problems=("conflict", "overloaded", "too-large", "storage"),
    ),
    Rule(
        "PUT",
        "/v1/users/{user}",
        "write",
        "put_user",
        "Add or change a user",
        body=_fields(Field("attributes", "values", "The user's attributes.", {})),
        problems=("overloaded", "too-large", "storage"),
    ),
    Rule(
        "DELETE",
        "/v1/users/{user}",
        "admin",
        "forget",
        "Forget a user",
        "Events, pages and state of the user go; the models that saw the user are listed as stale.",
        problems=("overloaded", "storage"),
    ),
    Rule("GET", "/health/live", "open", "live", "The process answers"),
    Rule("GET", "/health/ready", "open", "ready", "The service takes calls", problems=("not-ready",)),
    Rule("GET", "/metrics", "read", "metrics", "Figures for Prometheus", answers="text/plain"),
    Rule("GET", "/docs", "read", "docs", "This description, for people", answers="text/html"),
    Rule("GET", "/openapi.json", "read", "document", "This description, for programs"),
)

_ALWAYS = ("malformed", "unauthorized", "forbidden", "foreign-origin", "header-too-large", "not-ready", "failed")

EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["user", "item"],
    "additionalProperties": True,
    "properties": {
        "user": {"type": "string", "minLength": 1},
        "item": {"type": "string", "minLength": 1},
        "time": {"type": "integer", "description": "Milliseconds since 1970 UTC; now where left out."},
        "kind": {"type": "string", "description": "What was done, such as click or rating."},
        "value": {"type": ["number", "null"], "description": "Such as the stars of a rating."},
        "request_id": {"type": ["string", "null"], "description": "The page that the item was taken from."},
        "event_id": {"type": ["string", "null"], "description": "The client's own name of the event: sent twice, counted once."},
    },
}


def document(version: str, limits: Settings) -> dict[str, Any]:
    """The OpenAPI document of ``RULES``."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in RULES:
        wanted: dict[str, Any] = {"operationId": rule.name, "summary": rule.summary, "responses": _responses(rule)}
        if rule.about:
            wanted["description"] = rule.about
        parameters = [
            {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": limits.max_id}}
            for part in rule.path.split("/")
            if part.startswith("{")
        ] + described(list(rule.query.values()), limits)
        if rule.events:
            parameters.append(
                {"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string", "maxLength": limits.max_id}}
            )
            event = {"$ref": "#/components/schemas/Event"}
            several = {"type": "array", "items": event, "minItems": 1, "maxItems": limits.max_batch}
            enclosed = {"type": "object", "required": ["events"], "additionalProperties": False, "properties": {"events": several}}
            wanted["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"anyOf": [event, several, enclosed]}}}}
        if rule.body is not None:
            shape = {"type": "object", "additionalProperties": False, "properties": {n: _described(f, limits) for n, f in rule.body.items()}}
            wanted["requestBody"] = {"required": True, "content": {"application/json": {"schema": shape}}}
        if parameters:
            wanted["parameters"] = parameters
        wanted["security"] = [] if rule.scope == "open" else [{"key": []}] if rule.scope != "read" else [{}, {"key": []}]
        wanted["x-scope"] = rule.scope
        paths.setdefault(rule.path, {})[rule.method.lower()] = wanted
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "palate",
            "version": version,
            "description": "Recommendations, and the events they learn from. Reading from this machine needs no key; all else does.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY, or X-API-Key: KEY."}},
            "schemas": {
                "Event": EVENT,
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "errors": {"type": "array", "items": {"type": "object"}},
                    },
                },
            },
        },
    }


def _described(one: Field, limits: Settings) -> dict[str, Any]:
    return {**schema(one, limits), "description": one.about}


def _responses(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": rule.summary, "content": {rule.answers: {}}}}
    kinds = _ALWAYS + rule.problems
    if rule.query or "{" in rule.path or rule.body is not None or rule.events:
        kinds += ("invalid", "unknown-parameter")
    if rule.body is not None or rule.events:
        kinds += ("unsupported-media-type", "too-large")
    for kind in dict.fromkeys(kinds):
        status, title = KINDS[kind]
        entry = found.setdefault(str(status), {"description": "", "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}})
        entry["description"] = f"{entry['description']}; {title}" if entry["description"] else title
    return found
