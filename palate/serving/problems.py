"""Every error the service answers, as problem+json (RFC 9457). A problem never holds a traceback, a path of this machine or a key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

CONTENT_TYPE = "application/problem+json"

#: slug -> (status, title). The type of a problem is the relative reference ``/docs#problem-<slug>``: nothing leaves the machine.
KINDS: dict[str, tuple[int, str]] = {
    "malformed": (400, "The request cannot be read"),
    "unauthorized": (401, "A key is needed"),
    "forbidden": (403, "This is not allowed"),
    "foreign-origin": (403, "The Host or Origin is not one this service answers to"),
    "not-found": (404, "There is no such thing"),
    "method-not-allowed": (405, "This path does not know that method"),
    "conflict": (409, "The request contradicts an earlier one"),
    "too-large": (413, "The request is larger than this service accepts"),
    "unsupported-media-type": (415, "The body must be JSON"),
    "invalid": (422, "A field has a value that cannot be used"),
    "unknown-parameter": (422, "A parameter or field has a name this service does not know"),
    "header-too-large": (431, "A header field or the query is too long"),
    "failed": (500, "The service failed; the log has the reason under this request id"),
    "overloaded": (503, "The service is busy; try again"),
    "not-ready": (503, "The service is starting or stopping"),
    "storage": (507, "What was sent could not be made durable; nothing was acknowledged"),
}


FAILED = "the service failed; its log has the reason under this call's X-Request-Id"


class Problem(Exception):
    """An answer that is an error. ``errors`` is a list of ``{"pointer" | "parameter" | "header", "detail"}``."""

    def __init__(self, kind: str, detail: str, errors: Sequence[Mapping[str, str]] = (), headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.errors, self.headers = kind, detail, tuple(errors), dict(headers or {})
        self.status, self.title = KINDS[kind]

    def body(self) -> bytes:
        document: dict[str, Any] = {"type": f"/docs#problem-{self.kind}", "title": self.title, "status": self.status, "detail": self.detail}
        if self.errors:
            document["errors"] = [dict(error) for error in self.errors]
        return json.dumps(document, ensure_ascii=True).encode()

    def response(self) -> Response:
        return Response(self.body(), self.status, self.headers, CONTENT_TYPE)


def in_parameter(kind: str, name: str, detail: str) -> Problem:
    """A problem with one query parameter."""
    return Problem(kind, detail, [{"parameter": printable(name), "detail": detail}])


def in_body(kind: str, pointer: str, detail: str) -> Problem:
    """A problem with one place of the body; ``pointer`` is a JSON pointer (RFC 6901)."""
    return Problem(kind, detail, [{"pointer": pointer, "detail": detail}])


def pointer(*path: str | int) -> str:
    """A JSON pointer to the place at ``path``."""
    return "".join("/" + printable(str(part)).replace("~", "~0").replace("/", "~1") for part in path)


def printable(text: str, most: int = 80) -> str:
    """The client's own text, safe to repeat: cut to ``most`` characters, what cannot be printed is replaced."""
    shown = "".join(c if c.isprintable() else "�" for c in text[: most + 1])
    return shown[:most] + "…" if len(shown) > most else shown
