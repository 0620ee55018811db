"""The gate before the app: who may do what, which sizes, in one pass over the raw request, before anything of it is parsed.

It alone matches paths (on the raw, still encoded path: an id may hold a slash), writes the access log and counts. The log has the route,
never the path, and a user's id only as a keyed hash.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palate.serving.keys import Key, Keys
from palate.serving.meter import Meter
from palate.serving.problems import FAILED, Problem
from palate.serving.routes import RULES, Rule
from palate.serving.settings import Settings, is_loopback

POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip")
_ONCE = (b"host", b"authorization", b"x-api-key", b"origin", b"content-length", b"idempotency-key")
_WITH_BODY = ("POST", "PUT", "PATCH")


class Gate:
    """ASGI middleware that calls the endpoint of a rule, ``answers`` by the rule's name, by itself; ``app`` gets what is no call, such as
    start and end. ``draining`` set: connections are asked to close and ``/health/ready`` says no."""

    def __init__(
        self,
        app: ASGIApp,
        answers: Mapping[str, Callable[[Request], Awaitable[Response]]],
        *,
        settings: Settings,
        keys: Keys,
        meter: Meter,
        log_key: bytes,
    ) -> None:
        self.app, self.answers, self.settings, self.keys, self.meter = app, answers, settings, keys, meter
        self.draining = False
        self._log_key = log_key
        self._log = structlog.wrap_logger(structlog.PrintLogger(meter.log_file), processors=[structlog.processors.JSONRenderer(ensure_ascii=True)])
        self._exact: dict[str, dict[str, Rule]] = {}
        self._shapes: list[tuple[list[str], dict[str, Rule]]] = []
        for rule in RULES:
            if "{" not in rule.path:
                self._exact.setdefault(rule.path, {})[rule.method] = rule
            else:
                shape = rule.path.split("/")
                methods = next((known for parts, known in self._shapes if parts == shape), None)
                if methods is None:
                    methods = {}
                    self._shapes.append((shape, methods))
                methods[rule.method] = rule

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        begun, mark = time.perf_counter(), os.urandom(8).hex()
        said: dict[str, Any] = {}  # what the endpoint tells the log
        scope["palate"] = said
        status, size, started, rule, who = 500, 0, False, None, ""

        async def answer(message: Message) -> None:
            nonlocal status, size, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                headers = list(message.get("headers", ()))
                if any(name == b"content-security-policy" for name, _ in headers):
                    headers += _HEADERS[1:]
                else:
                    headers += _HEADERS
                headers.append((b"x-request-id", mark.encode()))
                headers += said.get("cors", ())
                if self.draining:
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            headers = self._headers(scope)
            local = self._check_origin(scope, headers, said)
            if "preflight" in said:
                await _empty(answer, 204)
                return
            methods, given = self._match(scope)
            key = self._key(headers)
            who = key.name if key else ""
            method = scope["method"]
            rule = methods.get("GET" if method == "HEAD" else method) if methods else None
            self._authorise(rule, key, local)
            if methods is None:
                raise Problem("not-found", "this service has no such path; /docs lists those it has")
            if rule is None:
                raise Problem("method-not-allowed", f"this path knows {', '.join(sorted(methods))}", headers={"Allow": ", ".join(sorted(methods))})
            if given is not None:  # the id travels beside the path, so a slash in it is a letter like others
                said["id"] = given
            if method in _WITH_BODY:
                receive = self._limited(headers, receive)
            response = await self.answers[rule.name](Request(scope, receive))
            await response(scope, receive, answer)
        except Problem as problem:
            if not started:
                await problem.response()(scope, receive, answer)
        except _Gone:
            status = 499
        except Exception as error:
            said["error"] = where(error)
            if not started:
                await Problem("failed", FAILED).response()(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - begun
            route = rule.path if rule else "-"
            self.meter.answered(route, scope["method"] if rule else "-", status, seconds)
            if self.settings.access_log or "error" in said:
                self._write(scope, route, status, size, seconds, mark, who, said)

    def _write(self, scope: Scope, route: str, status: int, size: int, seconds: float, mark: str, who: str, said: Mapping[str, Any]) -> None:
        line: dict[str, Any] = {"time": round(time.time(), 3), "method": scope["method"][:8], "route": route, "status": status}
        line |= {"ms": round(seconds * 1e3, 2), "bytes": size, "call": mark}
        if who:
            line["key"] = who
        user = said.get("user")
        if user:
            line["user"] = hashlib.blake2b(user.encode("utf-8", "replace"), key=self._log_key, digest_size=8).hexdigest()
        for name in ("events", "degraded", "error"):
            if said.get(name):
                line[name] = said[name]
        self._log.msg("call", **line)

    def _headers(self, scope: Scope) -> dict[bytes, bytes]:
        if len(scope.get("query_string", b"")) > self.settings.max_query:
            raise Problem("header-too-large", f"the query may have {self.settings.max_query} bytes")
        found: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in found and name in _ONCE:
                text = name.decode("latin-1")
                raise Problem("malformed", f"the header {text} is given twice", [{"header": text, "detail": "given twice"}])
            found[name] = value
        return found

    def _check_origin(self, scope: Scope, headers: Mapping[bytes, bytes], said: dict[str, Any]) -> bool:
        """Refuse foreign Hosts and Origins; say whether the caller is this machine itself."""
        raw = headers.get(b"host", b"").decode("latin-1").lower()
        host = _without_port(raw)
        if host is None:
            raise Problem("malformed", "the Host header is missing or not a host", [{"header": "host", "detail": "missing or not a host"}])
        here = is_loopback(host)
        settings = self.settings
        known = here or host == settings.host.lower() or host in settings.hosts or (not settings.loopback and _is_address(host))
        if not known:
            raise Problem("foreign-origin", "this service does not answer to that Host; --allow-host names further ones")
        origin = headers.get(b"origin")
        allowed = False
        if origin is not None:
            text = origin.decode("latin-1").lower()
            allowed = text in settings.origins
            if not allowed and text not in (f"http://{raw}", f"https://{raw}"):
                raise Problem("foreign-origin", "pages of that Origin may not call this service; --allow-origin names those that may")
        if headers.get(b"sec-fetch-site") == b"cross-site" and not allowed:
            raise Problem("foreign-origin", "pages of another site may not call this service")
        if allowed:
            said["cors"] = [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                said["preflight"] = True
                said["cors"] += [
                    (b"access-control-allow-methods", b"GET, POST, PUT, DELETE"),
                    (b"access-control-allow-headers", b"Authorization, Content-Type, Idempotency-Key, X-API-Key"),
                ]
        client = scope.get("client")
        return here and client is not None and is_loopback(client[0]) and not any(name in headers for name in _FORWARDED)

    def _match(self, scope: Scope) -> tuple[Mapping[str, Rule] | None, str | None]:
        path = scope["path"]
        if path in self._exact:
            return self._exact[path], None
        raw = scope.get("raw_path")
        parts = (raw.decode("latin-1") if raw else quote(path)).split("?")[0].split("/")
        for shape, methods in self._shapes:
            if len(parts) != len(shape):
                continue
            given = None
            for part, wanted in zip(parts, shape, strict=True):
                if wanted.startswith("{"):
                    given = part
                elif part != wanted:
                    break
            else:
                try:
                    text = unquote_to_bytes(given or "").decode("utf-8")
                except UnicodeDecodeError:
                    raise Problem("malformed", "the path is not percent-encoded UTF-8") from None
                return methods, text
        return None, None

    def _key(self, headers: Mapping[bytes, bytes]) -> Key | None:
        """The key of the call; a wrong one is refused even where none is needed."""
        given = headers.get(b"x-api-key")
        authorization = headers.get(b"authorization")
        if authorization is not None:
            kind, _, rest = authorization.partition(b" ")
            if kind.lower() != b"bearer" or (given is not None and given != rest.strip()):
                raise _unauthorized("give one key, as Authorization: Bearer KEY or X-API-Key: KEY")
            given = rest.strip()
        if given is None:
            return None
        key = self.keys.find(given.decode("latin-1")) if len(given) <= 512 else None
        if key is None:
            raise _unauthorized("this key is not known")
        return key

    def _authorise(self, rule: Rule | None, key: Key | None, local: bool) -> None:
        """Default deny: what no rule names is read-only ground, where a stranger learns only that a key is needed."""
        wanted = rule.scope if rule else "read"
        if wanted == "open" or (wanted == "read" and local):
            return
        if key is None:
            raise _unauthorized(f"this call needs a key with the scope {wanted!r}")
        if wanted not in key.scopes:
            raise Problem("forbidden", f"this key does not have the scope {wanted!r}")

    def _limited(self, headers: Mapping[bytes, bytes], receive: Receive) -> Receive:
        most = self.settings.max_body
        length = headers.get(b"content-length")
        if length is not None and (not length.isdigit() or len(length) > 15 or int(length) > most):
            raise Problem("too-large", f"a body may have {most} bytes", headers={"Connection": "close"})
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Problem("unsupported-media-type", "a body must not be compressed")
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            raise Problem("unsupported-media-type", "the Content-Type must be application/json")
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            taken += len(message.get("body", b""))
            if taken > most:
                raise Problem("too-large", f"a body may have {most} bytes", headers={"Connection": "close"})
            return message

        return limited


class _Gone(Exception):
    """The client left before its body was here."""


def _unauthorized(detail: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="palate"'})


def _without_port(host: str) -> str | None:
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name if bracket and name and (not port or (port[0] == ":" and port[1:].isdigit())) else None
    name, colon, port = host.partition(":")
    if not name or (colon and not port.isdigit()) or not all(c.isalnum() or c in "-._" for c in name):
        return None
    return name.rstrip(".") or None


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def where(error: BaseException) -> dict[str, Any]:
    """What failed and where, without the message: messages repeat what clients sent."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return {"type": type(error).__name__, "frames": frames[-6:]}


async def _empty(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})
