"""The gate: every route against every key, Hosts and Origins, sizes, and whatever a fuzzer can say. Nothing gets a 500."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from palate.recommender import Recommender
from palate.serving.app import create_app
from palate.serving.keys import Keys
from palate.serving.routes import RULES, Rule
from palate.serving.settings import Settings, SettingsError
from tests.serving.conftest import Service, serve
from tests.serving.world import item

BODY: dict[str, Any] = {"POST": [], "PUT": {}}
CALLERS = ("nobody", "wrong", "read", "write", "admin")


def call(client: TestClient, rule: Rule, headers: dict[str, str]) -> Any:
    path = rule.path.replace("{item}", "nothing").replace("{user}", "nobody-at-all")
    return client.request(rule.method, path, headers=headers, json=BODY.get(rule.method))


def headers_of(service: Service, caller: str) -> dict[str, str]:
    if caller == "nobody":
        return {}
    return {"X-API-Key": "x" * 40} if caller == "wrong" else service.key[caller]


@pytest.mark.parametrize("near", [True, False])
def test_every_route_against_every_key(service: Service, near: bool) -> None:
    client = service.local if near else service.remote
    for rule in RULES:
        for caller in CALLERS:
            status = call(client, rule, headers_of(service, caller)).status_code
            allowed = rule.scope == "open" or caller == rule.scope or (rule.scope == "read" and near)
            if caller == "wrong":
                assert status == 401, (rule, caller)
            elif allowed:
                assert status not in (401, 403, 500), (rule, caller, status)
            else:
                assert status == (401 if caller == "nobody" else 403), (rule, caller, status)


def test_every_route_of_the_app_has_a_rule(service: Service) -> None:
    ruled = {(rule.method, rule.path) for rule in RULES}
    found = {(method, route.path) for route in service.app.routes for method in route.methods}  # type: ignore[attr-defined]
    assert found == ruled


def test_a_forgotten_route_is_closed(run: Path, tmp_path: Path) -> None:
    made = serve(run, tmp_path / "state")
    called = []
    made.app.add_api_route("/v1/dump", lambda: called.append(1), methods=["GET", "POST"])
    with made.local:
        for headers in ({}, *made.key.values()):
            assert made.local.get("/v1/dump", headers=headers).status_code in (403, 404)
            assert made.local.post("/v1/dump", headers=headers, json={}).status_code in (401, 403, 404)
            assert made.remote.get("/v1/dump", headers=headers).status_code in (401, 403, 404)
    assert called == []


def test_authorised_before_anything_is_parsed(service: Service) -> None:
    for body in (b"{", b"[" * 100_000, b"\xff" * 2_000_000):
        answer = service.local.post("/v1/events", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 401
    assert service.local.delete("/v1/users/%ff").status_code in (400, 401)


@pytest.mark.parametrize(
    "path",
    ["/v1/dump", "/", "/v1", "/admin", "/.git/config", "//metrics", "/metrics/", "/%2e%2e/etc/passwd", "/static/../../etc/passwd"],
)
def test_paths_that_are_none(service: Service, path: str) -> None:
    assert service.local.get(path).status_code == 404
    assert service.remote.get(path).status_code == 401


def test_methods_that_are_none(service: Service) -> None:
    answer = service.local.request("DELETE", "/v1/recommendations", headers=service.key["read"])
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"
    for method in ("TRACE", "CONNECT", "PATCH", "PROPFIND", "OPTIONS"):
        assert service.local.request(method, "/v1/events", headers=service.key["write"]).status_code in (403, 405)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "a b", "10.0.0.9", "[::1", "localhost:80:80", "localhost@evil.example"]
)
def test_foreign_hosts(service: Service, host: str) -> None:
    answer = service.local.get("/v1/recommendations", headers={"Host": host})
    assert answer.status_code in (400, 403)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:9", "127.0.0.1:1"])
def test_own_hosts(service: Service, host: str) -> None:
    assert service.local.get("/v1/recommendations", params={"log": "false"}, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:8000.evil.example"},
    ],
)
def test_foreign_origins(service: Service, headers: dict[str, str]) -> None:
    for client_headers in (headers, {**headers, **service.key["read"]}):
        assert service.local.get("/v1/recommendations", headers=client_headers).status_code == 403
    assert service.local.post("/v1/events", json={}, headers={**headers, **service.key["write"]}).status_code == 403


def test_an_allowed_origin_may_call_and_is_told_so(run: Path, tmp_path: Path) -> None:
    made = serve(run, tmp_path / "state", Settings(origins=("https://shop.example",)))
    with made.local:
        answer = made.local.get("/v1/recommendations", headers={"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
        assert made.local.options("/v1/events", headers=asked).status_code == 204
        assert made.local.options("/v1/events", headers={**asked, "Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_a_call_through_a_proxy_is_not_from_this_machine(service: Service, header: str) -> None:
    assert service.local.get("/v1/recommendations", headers={header: "127.0.0.1"}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic abc"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer x", "X-API-Key": "y"},
        {"X-API-Key": ""},
        {"X-API-Key": "k" * 5000},
    ],
)
def test_a_wrong_key_is_refused_even_where_none_is_needed(service: Service, headers: dict[str, str]) -> None:
    answer = service.local.get("/v1/recommendations", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_bodies_that_are_too_large_are_stopped(service: Service) -> None:
    write = {**service.key["write"], "Content-Type": "application/json"}
    assert service.local.post("/v1/events", content=b"[" + b" " * 1_100_000 + b"]", headers=write).status_code == 413
    assert service.local.post("/v1/events", content=(b" " * 100_000 for _ in range(11)), headers=write).status_code == 413
    assert service.local.post("/v1/events", content=b"[]", headers={**write, "Content-Encoding": "gzip"}).status_code == 415
    assert service.local.post("/v1/events", content=b"[]", headers={**write, "Content-Type": "text/plain"}).status_code == 415
    assert service.local.get("/v1/recommendations", params={"user": "x" * 9000}).status_code == 431


def test_every_answer_carries_the_headers_that_keep_browsers_in_line(service: Service) -> None:
    for answer in (service.local.get("/health/live"), service.local.get("/nothing"), service.remote.get("/metrics"), service.local.get("/docs")):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_hosts_against_credentials(run: Path, tmp_path: Path) -> None:
    with Recommender.load(run) as recommender:
        for host in ("0.0.0.0", "::", "10.0.0.1", "service.example"):
            with pytest.raises(SettingsError, match="palate key add NAME --state"):
                create_app(recommender, Settings(host=host), Keys())
            create_app(recommender, Settings(host=host), Keys.load(None, {"PALATE_KEYS": "read:" + "k" * 24}))
        for host in ("127.0.0.1", "localhost", "::1"):
            create_app(recommender, Settings(host=host), Keys())


def fine(answer: Any) -> None:
    """An answer that is one: no 5xx, no traceback, problem+json where it is an error."""
    assert answer.status_code < 500, (answer.status_code, answer.text)
    assert "Traceback" not in answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["type"].startswith("/docs#problem-")


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
VALUE = st.recursive(PLAIN, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=8), x, max_size=4), max_leaves=8)
EVENT = ["item", "time", "kind", "value", "event_id", "events"]
NAMES = st.sampled_from(sorted({name for rule in RULES for name in [*rule.query, *(rule.body or {})]} | set(EVENT)))
OBJECT = st.dictionaries(NAMES, VALUE, max_size=5)


@pytest.fixture(scope="module")
def fuzzed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = serve(run, tmp_path_factory.mktemp("fuzzed"))
    with made.local:
        yield made


@given(rule=st.sampled_from([rule for rule in RULES if rule.method in ("POST", "PUT")]), body=VALUE | OBJECT | st.lists(OBJECT, max_size=3))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_json_is_answered(fuzzed: Service, rule: Rule, body: Any) -> None:
    path = rule.path.replace("{item}", item(5)).replace("{user}", "someone")
    try:
        content = json.dumps(body).encode()
    except ValueError:
        return
    headers = {**fuzzed.key[rule.scope], "Content-Type": "application/json"}
    fine(fuzzed.local.request(rule.method, path, content=content, headers=headers))


@given(name=NAMES | st.text(max_size=8), value=st.text(max_size=20) | st.integers().map(str), path=st.text(max_size=12))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_query_and_path_is_answered(fuzzed: Service, name: str, value: str, path: str) -> None:
    from urllib.parse import quote, urlencode

    query = urlencode({name: value}, errors="replace")
    fine(fuzzed.local.get(f"/v1/recommendations?log=false&{query}"))
    fine(fuzzed.local.get(f"/v1/items/{quote(path, safe='', errors='replace')}/similar"))
    fine(fuzzed.local.get(f"/{quote(path, errors='replace').lstrip('/')}"))


def test_raw_bytes_are_answered(fuzzed: Service) -> None:
    chance = random.Random(1)
    for size in [0, 1, 3, 50, 500] * 12:
        body = bytes(chance.randrange(256) for _ in range(size))
        headers = {**fuzzed.key["write"], "Content-Type": "application/json"}
        fine(fuzzed.local.post("/v1/events", content=body, headers=headers))


def test_hostile_traversals_reach_no_file(fuzzed: Service) -> None:
    for dots in ("..", "%2e%2e", "..%2f", "%252e%252e", "..%5c", "%c0%ae%c0%ae", "....//", "..;/", "%00", "~root"):
        for target in ("etc/passwd", "keys.json", "state/first_key", "..%2fkeys.json", "run/current", "%2fetc%2fpasswd"):
            for where in (f"/{dots}/{target}", f"/v1/items/{dots}/{target}", f"/v1/items/{dots}%2f{target}/similar", f"/docs/{dots}/{target}"):
                answer = fuzzed.local.get(where)
                fine(answer)
                assert answer.status_code in (400, 404, 422), where
                assert "root:" not in answer.text
