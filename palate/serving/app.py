"""The HTTP service: a FastAPI app whose endpoints only translate between JSON and ``Recommender``.

Endpoints take the raw request from the gate and read it against the tables of ``routes.py``: refusals are the same everywhere, and the path
a page takes stays short. Everything that may block runs on the desk.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TextIO, TypeVar

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

import palate
from palate.asks import Ask, AskError, Conflict, NotDurable, NotFound, Page
from palate.funnel.funnel import Busy
from palate.recommender import Recommender
from palate.serving import keys as credentials
from palate.serving.desk import Crew, Desk, busy
from palate.serving.gate import Gate
from palate.serving.keys import Keys
from palate.serving.meter import Meter
from palate.serving.pages import api_page
from palate.serving.problems import Problem, in_body, in_parameter, pointer
from palate.serving.reading import Field, check, listed, members, parse, query
from palate.serving.routes import RULES, document
from palate.serving.settings import Settings
from palate.state.catalogue import id_fault

T = TypeVar("T")

_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_SLOW_BODY = 20.0  #: seconds a client may take to send its body
_ID = Field("id", "id", "")


def create_app(recommender: Recommender, settings: Settings | None = None, keys: Keys | None = None, log_file: TextIO | None = None) -> FastAPI:
    """The app over a recommender. ``keys``: those of the recommender's state folder and of PALATE_KEYS where left out.

    ``app.state.gate.draining = True`` makes it say that it is not ready; on shutdown it closes the recommender. SettingsError: the host
    can be reached from elsewhere and there is no key.
    """
    settings = settings or Settings()
    if keys is None:
        keys = Keys.load(recommender.folder)
    credentials.check_reach(settings, keys, recommender.folder)
    meter = Meter(log_file)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.ready = True
        try:
            yield
        finally:
            app.state.ready = False
            await asyncio.to_thread(endpoints.close)
            await asyncio.to_thread(recommender.close)

    app = FastAPI(title="palate", version=palate.__version__, openapi_url=None, docs_url=None, redoc_url=None, lifespan=life)
    app.state.ready = False
    endpoints = _Endpoints(app, recommender, settings, meter)
    for rule in RULES:
        app.add_api_route(rule.path, getattr(endpoints, rule.name), methods=[rule.method], name=rule.name, include_in_schema=False)
    app.openapi = functools.partial(document, palate.__version__, settings)  # type: ignore[method-assign]
    # The gate stands outside of everything, FastAPI's own middleware too: nothing is parsed before it has agreed. It has matched the path,
    # so it goes straight to the endpoint: middleware, router and dependencies would look for what it knows, in a fifth of a page's time.
    answers = {rule.name: getattr(endpoints, rule.name) for rule in RULES}
    log_key = credentials.log_key(recommender.folder)
    gate = Gate(app.build_middleware_stack(), answers, settings=settings, keys=keys, meter=meter, log_key=log_key)
    app.middleware_stack = gate
    app.state.gate, app.state.meter, app.state.endpoints = gate, meter, endpoints
    return app


def answer(value: Any, status: int = 200) -> Response:
    """A JSON response."""
    return Response(_dumps(value), status, media_type="application/json")


class _Endpoints:
    """One method for each rule of ``routes.RULES``, of the rule's name."""

    def __init__(self, app: FastAPI, recommender: Recommender, settings: Settings, meter: Meter) -> None:
        self._app, self._recommender, self._limits, self._meter = app, recommender, settings, meter
        self.desk = Desk(settings.helpers, settings.queue, settings.patience)
        self.drawing = Crew("page", self._draw, settings.workers, settings.together, settings.queue, settings.patience)
        self._rules = {rule.name: rule for rule in RULES}
        self._page, self._policy = api_page(document(palate.__version__, settings))
        self._document = _dumps(document(palate.__version__, settings))

    def close(self) -> None:
        """Finish what was begun."""
        self.drawing.close()
        self.desk.close()

    # ---- pages of items

    async def recommend(self, request: Request) -> Response:
        asked = query(request.scope["query_string"], self._rules["recommend"].query, self._limits)
        return await self._recommend(request, asked, in_parameter)

    async def recommend_given(self, request: Request) -> Response:
        asked = members(await self._body(request), self._rules["recommend_given"].body or {}, self._limits)
        return await self._recommend(request, asked, _in_member)

    async def _recommend(self, request: Request, asked: dict[str, Any], refuse: Callable[[str, str, str], Problem]) -> Response:
        said = request.scope["palate"]
        if asked["user"] is not None:
            said["user"] = asked["user"]
        body, degraded = await self._refused(self.drawing.do(Ask(**asked)), refuse)
        if degraded:
            said["degraded"] = list(degraded)
            for part in degraded:
                self._meter.degraded.labels(part.split(":")[0]).inc()
        return Response(body, 200, media_type="application/json")

    def _draw(self, asks: list[Ask]) -> list[tuple[bytes, tuple[str, ...]] | Exception]:
        """On a thread of the crew: the body and the parts it had to do without, for each ask."""
        return [
            page if isinstance(page, Exception) else (_dumps(page_json(page, ask.why)).encode(), page.degraded)
            for ask, page in zip(asks, self._recommender.answer(asks), strict=True)
        ]

    async def similar(self, request: Request) -> Response:
        asked = query(request.scope["query_string"], self._rules["similar"].query, self._limits)
        item = self._given_id(request)
        found = await self._do(lambda: self._recommender.similar(item, asked["k"]), in_parameter)
        return answer({"item": item, "items": [{"item": one, "score": score} for one, score in found]})

    # ---- what the world tells

    async def add_events(self, request: Request) -> Response:
        _no_query(request)
        header = request.headers.get("idempotency-key")
        key = None if header is None else self._checked(header, _in_header)
        events, alone = listed(await self._body(request), self._limits)
        if key is not None:
            events = [_with_event_id(event, key if alone else _placed(key, place)) for place, event in enumerate(events)]
        outcomes = await self._do(lambda: self._recommender.record(events), _in_member)
        counts = {"accepted": 0, "duplicate": 0, "rejected": 0}
        for outcome in outcomes:
            counts[outcome["status"]] += 1
        for status, count in counts.items():
            if count:
                self._meter.events.labels(status).inc(count)
        request.scope["palate"]["events"] = counts
        if alone and counts["rejected"]:
            raise in_body("invalid", pointer(outcomes[0]["field"]) if outcomes[0]["field"] else "", outcomes[0]["reason"])
        return answer({**counts, "outcomes": outcomes})

    async def put_item(self, request: Request) -> Response:
        _no_query(request)
        item = self._given_id(request)
        given = members(await self._body(request), self._rules["put_item"].body or {}, self._limits)
        new = await self._do(lambda: self._recommender.put_item(item, **given), _in_member)
        return answer({"item": item, "created": new}, 201 if new else 200)

    async def put_user(self, request: Request) -> Response:
        _no_query(request)
        user = self._given_id(request)
        request.scope["palate"]["user"] = user
        given = members(await self._body(request), self._rules["put_user"].body or {}, self._limits)
        new = await self._do(lambda: self._recommender.put_user(user, **given), _in_member)
        return answer({"user": user, "created": new}, 201 if new else 200)

    async def forget(self, request: Request) -> Response:
        _no_query(request)
        user = self._given_id(request)
        request.scope["palate"]["user"] = user
        return answer(await self._do(lambda: self._recommender.forget(user), in_parameter))

    # ---- the service itself

    async def live(self, request: Request) -> Response:
        return answer({"status": "live"})

    async def ready(self, request: Request) -> Response:
        if self._app.state.gate.draining or not self._app.state.ready:
            raise Problem("not-ready", "the service is starting or stopping", headers={"Retry-After": "1"})
        return answer({"status": "ready", "versions": dict(self._recommender.versions)})

    async def metrics(self, request: Request) -> Response:
        self._meter.waiting.set(self.desk.under_way + self.drawing.under_way)
        self._meter.as_of.set(self._recommender.sequence)
        return Response(self._meter.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def docs(self, request: Request) -> Response:
        return Response(self._page, media_type="text/html", headers={"content-security-policy": self._policy})

    async def document(self, request: Request) -> Response:
        return Response(self._document, media_type="application/json")

    # ---- what they share

    async def _do(self, work: Callable[[], Any], refuse: Callable[[str, str, str], Problem]) -> Any:
        """Work on the desk."""
        return await self._refused(self.desk.do(work), refuse)

    async def _refused(self, answer: Awaitable[T], refuse: Callable[[str, str, str], Problem]) -> T:
        """The answer; what the recommender refuses becomes a problem at the right place."""
        try:
            return await answer
        except NotFound as error:
            raise Problem("not-found", str(error)) from None
        except Conflict as error:
            raise refuse("conflict", error.field, str(error)) from None
        except AskError as error:
            raise refuse("invalid", error.field, str(error)) from None
        except Busy:
            raise busy() from None
        except NotDurable as error:
            raise Problem("storage", str(error), headers={"Retry-After": "10"}) from None

    async def _body(self, request: Request) -> Any:
        try:
            async with asyncio.timeout(_SLOW_BODY):
                body = await request.body()
        except TimeoutError:
            raise Problem("malformed", f"the body was not here after {_SLOW_BODY:.0f} s", headers={"Connection": "close"}) from None
        return parse(body, self._limits)

    def _given_id(self, request: Request) -> str:
        return self._checked(request.scope["palate"]["id"], lambda detail: Problem("invalid", detail, [{"parameter": "path", "detail": detail}]))

    def _checked(self, text: str, problem: Callable[[str], Problem]) -> str:
        try:
            return str(check(_ID, text, self._limits))
        except ValueError as error:
            raise problem(f"the id {error}") from None


def page_json(page: Page, why: bool) -> dict[str, Any]:
    """A page as clients get it; with ``why`` each item's scores by stage, the reason for it and the trace come along."""
    items: list[dict[str, Any]] = []
    for shown in page.items:
        one: dict[str, Any] = {"item": shown.item, "position": shown.position, "score": shown.score, "propensity": shown.propensity}
        if why:
            one["scores"] = page.scores_at(shown.position)
            one["reason"] = (page.trace or {}).get("reasons", {}).get(shown.item)
        items.append(one)
    found: dict[str, Any] = {"request_id": page.request_id, "items": items, "degraded": page.degraded, "versions": dict(page.versions)}
    found |= {"as_of": page.as_of, "time": page.now, "replayed": page.replayed}
    if page.notes:
        found["notes"] = page.notes
    if why:
        found["trace"] = page.trace
    return found


def _in_header(detail: str) -> Problem:
    return Problem("invalid", detail, [{"header": "Idempotency-Key", "detail": detail}])


def _in_member(kind: str, name: str, detail: str) -> Problem:
    return in_body(kind, pointer(*name.split("/")) if name else "", detail)


def _placed(key: str, place: int) -> str:
    """The id of one event of several under a key; a key that leaves no room for the place stands there as its hash."""
    named = f"{key}/{place}"
    return f"{hashlib.sha256(key.encode()).hexdigest()}/{place}" if id_fault(named) else named


def _with_event_id(event: Any, event_id: str) -> Any:
    if isinstance(event, Mapping) and event.get("event_id") is None:
        return {**event, "event_id": event_id}
    return event


def _no_query(request: Request) -> None:
    query(request.scope["query_string"], {}, Settings())
