"""The service in process: every endpoint's good answers, and its bad ones as problem+json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from palate.recommender import Recommender
from palate.serving.routes import RULES
from palate.serving.settings import Settings
from tests.serving.conftest import Service, serve
from tests.serving.world import item, user


def test_a_page(service: Service) -> None:
    answer = service.local.get("/v1/recommendations", params={"user": user(2), "k": 4})
    assert answer.status_code == 200
    page = answer.json()
    assert [one["position"] for one in page["items"]] == [0, 1, 2, 3]
    assert page["request_id"]
    assert page["degraded"] == []
    assert page["versions"]["run"]
    assert all(one["propensity"] == 1.0 for one in page["items"])
    assert "scores" not in page["items"][0]
    assert answer.headers["x-request-id"]
    why = service.local.get("/v1/recommendations", params={"user": user(2), "k": 4, "log": "false", "why": "true"}).json()
    assert why["trace"]
    assert [one["reason"] for one in why["items"]] == list(why["trace"]["reasons"].values())
    assert "itemcf.score" in why["items"][0]["scores"]
    assert not {one["item"] for one in why["items"]} & {one["item"] for one in page["items"]}


def test_a_page_is_replayed_by_its_request_id(service: Service) -> None:
    ask = {"user": user(2), "k": 4, "request_id": "r/1"}
    first, again = (service.local.get("/v1/recommendations", params=ask).json() for _ in range(2))
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert first["items"] == again["items"]
    other = service.local.get("/v1/recommendations", params={**ask, "user": user(3)})
    assert other.status_code == 409
    assert other.json()["errors"][0]["parameter"] == "request_id"


def test_a_page_for_a_history(service: Service) -> None:
    body = {"history": [item(3), item(7), "unheard"], "k": 5, "attributes": {"town": "south"}, "log": False}
    page = service.local.post("/v1/recommendations", json=body).json()
    assert len(page["items"]) == 5
    assert page["notes"] == ["history: 1 of 3 items are not known"]
    refused = service.local.post("/v1/recommendations", json={**body, "histroy": []})
    assert refused.status_code == 422
    assert "did you mean 'history'" in refused.json()["detail"]
    assert refused.json()["errors"][0]["pointer"] == "/histroy"


def test_events_one_by_one_and_in_batches(service: Service) -> None:
    write = service.key["write"]
    one = {"user": user(1), "item": item(1), "kind": "click", "event_id": "e1"}
    assert service.local.post("/v1/events", json=one, headers=write).json()["accepted"] == 1
    assert service.local.post("/v1/events", json=one, headers=write).json()["duplicate"] == 1
    batch = [one, {**one, "event_id": "e2"}, {"user": user(1)}, 7]
    found = service.local.post("/v1/events", json={"events": batch}, headers=write)
    assert found.status_code == 200
    assert [one["status"] for one in found.json()["outcomes"]] == ["duplicate", "accepted", "rejected", "rejected"]
    alone = service.local.post("/v1/events", json={"user": user(1)}, headers=write)
    assert alone.status_code == 422
    assert alone.headers["content-type"] == "application/problem+json"


def test_a_retried_batch_counts_once_by_its_idempotency_key(service: Service) -> None:
    headers = {**service.key["write"], "Idempotency-Key": "try-1"}
    batch = [{"user": user(1), "item": item(n), "kind": "click"} for n in range(3)]
    assert service.local.post("/v1/events", json=batch, headers=headers).json()["accepted"] == 3
    assert service.local.post("/v1/events", json=batch, headers=headers).json()["duplicate"] == 3
    assert service.local.post("/v1/events", json=batch, headers={**headers, "Idempotency-Key": "try-2"}).json()["accepted"] == 3


@pytest.mark.parametrize("length", [509, 510, 511, 512])
def test_an_idempotency_key_may_be_as_long_as_it_says(service: Service, length: int) -> None:
    batch = [{"user": user(1), "item": item(n), "kind": "click"} for n in range(12)]
    for key in ("a" * length, "b" * length):
        headers = {**service.key["write"], "Idempotency-Key": key}
        assert service.local.post("/v1/events", json=batch, headers=headers).json()["accepted"] == 12
        assert service.local.post("/v1/events", json=batch, headers=headers).json()["duplicate"] == 12


def test_what_was_answered_2xx_is_on_disk(run: Path, tmp_path: Path) -> None:
    made = serve(run, tmp_path / "state")
    with made.local:
        made.local.post("/v1/events", json={"user": "ü", "item": item(5), "kind": "click", "event_id": "é"}, headers=made.key["write"])
        page = made.local.get("/v1/recommendations", params={"user": "ü", "request_id": "p"}).json()
    with Recommender.load(run, tmp_path / "state") as again:
        assert again.state.events_frame()["event_id"].to_list() == ["é"]
        assert again.recommend("ü", 10, request_id="p").ids == [one["item"] for one in page["items"]]


def test_items_and_users_are_put(service: Service) -> None:
    write = service.key["write"]
    path = f"/v1/items/{quote('new/é 1', safe='')}"
    assert service.local.put(path, json={"attributes": {"title": "New", "kind": "tea"}}, headers=write).status_code == 201
    assert service.local.put(path, json={"attributes": {"title": "Newer"}}, headers=write).status_code == 200
    assert "new/é 1" in [
        one["item"] for one in service.local.get("/v1/recommendations", params={"user": "x", "k": 61, "log": "false"}).json()["items"]
    ]
    assert service.local.put(f"/v1/users/{quote('a/b', safe='')}", json={"attributes": {"town": "north"}}, headers=write).status_code == 201
    assert "a/b" in service.recommender.users
    blank = service.local.put("/v1/items/%20%C2%A0", json={}, headers=write)
    assert (blank.status_code, blank.json()["detail"]) == (422, "the id consists of blanks")
    moved = service.local.put(path, json={"attributes": {"title": "Newest"}, "created": 5}, headers=write)
    assert (moved.status_code, moved.json()["errors"][0]["pointer"]) == (409, "/created")
    wrong = service.local.put(path, json={"attributes": {"kind": ["a", "list", "where", "text", "was"]}}, headers=write)
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["pointer"].startswith("/attributes")


def test_what_goes_with_an_item(service: Service) -> None:
    for name in (item(3), item(4), item(5), item(6), item(8)):
        found = service.local.get(f"/v1/items/{quote(name, safe='')}/similar", params={"k": 3})
        assert found.status_code == 200, name
        assert found.json()["item"] == name
        assert name not in [one["item"] for one in found.json()["items"]]
    assert service.local.get("/v1/items/nothing/similar").status_code == 404


def test_a_user_is_forgotten(service: Service) -> None:
    write, admin = service.key["write"], service.key["admin"]
    service.local.post("/v1/events", json={"user": user(2), "item": item(1), "kind": "click"}, headers=write)
    found = service.local.delete(f"/v1/users/{quote(user(2), safe='')}", headers=admin)
    assert found.status_code == 200
    assert found.json()["stale"] == ["fresh", "itemcf", "popular"]
    assert user(2) not in service.recommender.state.events_frame()["user"].to_list()
    assert service.local.delete(f"/v1/users/{quote(user(2), safe='')}", headers=admin).status_code == 200


def test_health_and_draining(service: Service) -> None:
    assert service.remote.get("/health/live").status_code == 200
    assert service.local.get("/health/ready").status_code == 200
    service.app.state.gate.draining = True
    assert service.local.get("/health/ready").status_code == 503
    assert service.local.get("/health/live").status_code == 200
    answer = service.local.get("/v1/recommendations", params={"user": user(1)})
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"


def test_metrics(service: Service) -> None:
    service.local.get("/v1/recommendations", params={"user": user(1)})
    service.local.get("/v1/nothing")
    text = service.local.get("/metrics").text
    assert 'palate_calls_total{method="GET",route="/v1/recommendations",status="200"} 1.0' in text
    assert 'palate_calls_total{method="-",route="-",status="404"} 1.0' in text


def test_the_api_page_and_document_work_offline(service: Service) -> None:
    document = service.local.get("/openapi.json").json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(rule.method, rule.path) for rule in RULES}
    assert {p["name"] for p in document["paths"]["/v1/recommendations"]["get"]["parameters"]} == set(RULES[0].query)
    page = service.local.get("/docs")
    for rule in RULES:
        assert f"<code>{rule.path}</code>" in page.text
    assert "<script" not in page.text
    assert "'unsafe" not in page.headers["content-security-policy"]


def test_no_page_names_an_address_elsewhere(service: Service) -> None:
    for rule in RULES:
        if rule.method != "GET":
            continue
        text = service.local.get(rule.path.replace("{item}", "i1")).text
        for sign in ("http:", "https:", "//", "url(", "@import"):
            assert sign not in text, (rule.path, sign)


def test_the_style_of_the_page_is_the_one_its_policy_lets_in(service: Service) -> None:
    import base64
    import hashlib

    page = service.local.get("/docs")
    style = page.text.split("<style>")[1].split("</style>")[0]
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in page.headers["content-security-policy"]


def test_the_log_knows_no_user_no_key_and_no_path(run: Path, tmp_path: Path) -> None:
    made = serve(run, tmp_path / "state")
    canary = "canary-7f3a@example"
    with made.local:
        service = made.local
        service.get("/v1/recommendations", params={"user": canary})
        service.get("/v1/recommendations", params={"user": canary, "k": "x", canary: 1})
        service.post("/v1/recommendations", json={"user": canary, "history": [canary], "attributes": {canary: canary}})
        service.post("/v1/events", json=[{"user": canary, "item": item(1), "kind": "click"}, {"user": canary}], headers=made.key["write"])
        service.put(f"/v1/users/{canary}", json={"attributes": {}}, headers=made.key["write"])
        service.delete(f"/v1/users/{canary}", headers=made.key["admin"])
        service.get(f"/v1/items/{canary}/similar")
        service.get(f"/{canary}", headers={"User-Agent": canary, "X-API-Key": canary})
        service.get("/v1/recommendations", params={"user": canary}, headers={"Host": canary})
    text = made.log.getvalue()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 9
    assert canary not in text
    assert all(secret not in text for secret in made.secrets)
    assert lines[0]["user"] == lines[2]["user"]
    assert lines[0]["route"] == "/v1/recommendations"
    assert lines[4]["key"] == "write"


def test_a_failure_inside_answers_500_without_telling_and_is_logged(run: Path, tmp_path: Path) -> None:
    made = serve(run, tmp_path / "state")
    with made.local:
        made.recommender._funnel = None  # type: ignore[assignment]
        answer = made.local.get("/v1/recommendations", params={"user": user(1), "k": 3})
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "Traceback" not in answer.text
        assert "NoneType" not in answer.text
        assert made.local.get("/health/live").status_code == 200
    line = json.loads(made.log.getvalue().splitlines()[0])
    assert line["call"] == answer.headers["x-request-id"]
    assert line["error"]["type"] == "AttributeError"
    assert "recommender.py" in line["error"]["frames"][-1]


def test_overload_is_told_with_a_time_to_come_back(run: Path, tmp_path: Path) -> None:
    import threading

    made = serve(run, tmp_path / "state", Settings(workers=1, together=1, queue=1))
    with made.local:
        gate, begun, answers = threading.Event(), threading.Event(), []
        draw = made.recommender._draw

        def slow(*arguments: Any) -> Any:
            begun.set()
            gate.wait(10)
            return draw(*arguments)

        made.recommender._draw = slow  # type: ignore[method-assign]
        threads = [
            threading.Thread(target=lambda n=n: answers.append(made.local.get("/v1/recommendations", params={"user": user(n)}))) for n in range(2)
        ]
        for thread in threads:
            thread.start()
            begun.wait(5)
        while made.app.state.endpoints.drawing.under_way < 2:
            pass
        refused = made.local.get("/v1/recommendations", params={"user": user(9)})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert made.local.get("/health/live").status_code == 200  # the loop is free all the while
        gate.set()
        for thread in threads:
            thread.join()
        assert [one.status_code for one in answers] == [200, 200]


def test_a_full_disk_acknowledges_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service.recommender.state, "append", full)
    answer = service.local.post("/v1/events", json={"user": "u", "item": item(1), "kind": "click"}, headers=service.key["write"])
    assert answer.status_code == 507
    assert service.local.get("/v1/recommendations", params={"user": user(1), "log": "false"}).status_code == 200
