"""``palate serve`` as a process: it starts, says where, drains on SIGTERM, is alone on its state, and loses nothing over restarts under load."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from palate.recommender import Recommender
from palate.serving import keys
from palate.serving.process import free_port
from palate.serving.server import serve
from palate.serving.settings import Settings, SettingsError
from palate.state.log import StateLocked
from palate.store import RunError
from tests.serving.world import item, user

KEY = "k" * 32


class Process:
    """A service of its own process; everything it says is in ``said()``."""

    def __init__(self, run: Path, state: Path, port: int, *options: str, key: str | None = KEY) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PALATE_KEYS", None)
        if key:
            environment["PALATE_KEYS"] = f"read+write+admin:{key}"
        state.mkdir(parents=True, exist_ok=True)
        self.port, self._out = port, state.parent / f"said-{time.monotonic_ns()}"
        command = [sys.executable, "-m", "palate.cli", "serve", str(run), "--state", str(state), "--port", str(port), *options]
        with open(self._out, "wb") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)

    def said(self) -> str:
        return self._out.read_text("utf-8", "replace")

    def ready(self, seconds: float = 60) -> Process:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, self.said()
            try:
                if ask(self.port, "GET", "/health/ready")[0] == 200:
                    return self
            except OSError:
                time.sleep(0.05)
        raise AssertionError(self.said())

    def stop(self, sign: int = signal.SIGTERM) -> tuple[int, float]:
        """Exit code, and the seconds it took to leave."""
        begun = time.monotonic()
        self.process.send_signal(sign)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return code, time.monotonic() - begun


def ask(port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()
    finally:
        connection.close()


def test_a_service_from_start_to_end(run: Path, tmp_path: Path) -> None:
    state, port = tmp_path / "state", free_port()
    first = Process(run, state, port, key=None).ready()
    try:
        secret = (state / keys.FIRST).read_text().strip()
        assert (state / keys.FIRST).stat().st_mode & 0o777 == 0o600
        assert first.said().count(secret) == 1
        status, page = ask(port, "GET", "/v1/recommendations?user=u1&k=3")
        assert status == 200
        assert len(page["items"]) == 3
        event = {"user": "u1", "item": item(1), "kind": "click", "event_id": "e"}
        assert ask(port, "POST", "/v1/events", event)[0] == 401
        assert ask(port, "POST", "/v1/events", event, {"X-API-Key": secret})[1]["accepted"] == 1
        with pytest.raises(StateLocked, match="in use by process"):
            serve(run, Settings(port=0), state)
        assert ask(port, "GET", "/health/ready")[0] == 200
    finally:
        code, seconds = first.stop()
    assert code == 0, first.said()
    assert seconds <= 10
    assert "Traceback" not in first.said()
    again = Process(run, state, port, key=None).ready()
    try:
        assert secret not in again.said()
        assert ask(port, "POST", "/v1/events", event, {"X-API-Key": secret})[1]["duplicate"] == 1
        assert "u1" not in [json.loads(line).get("user") for line in again.said().splitlines() if line.startswith("{")]
    finally:
        assert again.stop(signal.SIGINT)[0] == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"host": "0.0.0.0"}, "palate key add"), ({"host": "10.0.0.1"}, "PALATE_KEYS"), ({"host": "no such host"}, "key"), ({"host": "::"}, "key")],
)
def test_a_host_that_others_can_reach_needs_a_key_first(run: Path, tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        serve(run, Settings(port=0, **settings), tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_no_run_and_a_taken_address_say_why(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="palate train"):
        serve(tmp_path / "nothing", Settings(port=0), tmp_path / "state")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="cannot listen"):
            serve(run, Settings(port=int(taken.getsockname()[1])), tmp_path / "state")
    monkeypatch.setenv("PALATE_KEYS", "read:" + KEY)
    with pytest.raises(SettingsError, match="cannot listen"):
        serve(run, Settings(host="no such host", port=0), tmp_path / "state")


def test_a_service_answers_what_is_under_way_when_told_to_stop(run: Path, tmp_path: Path) -> None:
    port = free_port()
    made = Process(run, tmp_path / "state", port).ready()
    slow = socket.create_connection(("127.0.0.1", port))
    body = json.dumps({"user": "late", "item": item(1), "kind": "click", "event_id": "late"}).encode()
    head = f"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    slow.sendall(head.encode() + body[:10])
    time.sleep(0.2)
    made.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert ask(port, "GET", "/health/ready")[0] == 503
    time.sleep(0.5)
    slow.sendall(body[10:])
    reply = slow.recv(65536)
    assert reply.startswith(b"HTTP/1.1 200")
    assert made.process.wait(10) == 0
    with Recommender.load(run, tmp_path / "state") as again:
        assert again.state.events_frame()["event_id"].to_list() == ["late"]


class Load:
    """Clients that go on whatever happens: each call is repeated with the same id until it is answered."""

    def __init__(self, port: int, clients: int = 4, seed: int = 0) -> None:
        self.port, self.seed = port, seed
        self.acknowledged: list[set[str]] = [set() for _ in range(clients)]
        self.pages: list[dict[str, list[str]]] = [{} for _ in range(clients)]
        self.failed: list[str] = []
        self.broken = 0
        self._go = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._go.set()
        for thread in self._threads:
            thread.join(30)
            if thread.is_alive():
                self.failed.append("a client hangs")

    def _run(self, number: int) -> None:
        chance = random.Random(self.seed * 100 + number)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        turn = 0
        while not self._go.is_set():
            turn += 1
            name = f"{self.seed}-{number}-{turn}"
            who = user(chance.randrange(40))
            if turn % 2:
                event = {"user": who, "item": item(chance.randrange(60)), "kind": "click", "event_id": name}
                answer = self._until_answered(connection, "POST", "/v1/events", event)
                if answer is not None:
                    self.acknowledged[number].add(name)
            else:
                query = urlencode({"user": who, "k": 2, "request_id": name})
                answer = self._until_answered(connection, "GET", f"/v1/recommendations?{query}", None)
                if answer is not None:
                    self.pages[number][query] = [one["item"] for one in answer["items"]]
        connection.close()

    def _until_answered(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any) -> Any:
        """The answer; None where the load ends first."""
        while True:
            try:
                connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json", "X-API-Key": KEY})
                response = connection.getresponse()
                text = response.read()
            except ConnectionRefusedError:  # between two processes
                connection.close()
                if self._go.wait(0.02):
                    return None
                continue
            except (OSError, http.client.HTTPException):
                self.broken += 1
                connection.close()
                continue
            if response.status == 200:
                return json.loads(text)
            if response.status != 503 or not response.getheader("Retry-After"):
                self.failed.append(f"{method} {path}: {response.status} {text[:300]!r}")
                return None
            if self._go.wait(0.05):
                return None


def restarts(run: Path, tmp_path: Path, count: int) -> None:
    state, port = tmp_path / "state", free_port()
    slowest = 0.0
    with Load(port, seed=count) as load:
        for _ in range(count):
            made = Process(run, state, port, "--no-access-log").ready()
            time.sleep(0.4)
            code, seconds = made.stop()
            slowest = max(slowest, seconds)
            assert code == 0, made.said()
            assert "Traceback" not in made.said()
        made = Process(run, state, port, "--no-access-log").ready()
        time.sleep(0.3)
    try:
        for pages in load.pages:
            for query, ids in random.Random(count).sample(sorted(pages.items()), min(40, len(pages))):
                status, page = ask(port, "GET", f"/v1/recommendations?{query}", headers={"X-API-Key": KEY})
                assert (status, [one["item"] for one in page["items"]]) == (200, ids)
    finally:
        made.stop()
    assert load.failed == []
    assert slowest <= 10
    acknowledged = set().union(*load.acknowledged)
    pages = sum(map(len, load.pages))
    with Recommender.load(run, state) as again:
        kept = again.state.events_frame()["event_id"].to_list()
    assert len(kept) == len(set(kept))
    assert acknowledged <= set(kept)
    assert len(set(kept) - acknowledged) <= len(load.acknowledged)  # the last of each client may have been cut off unanswered
    assert len(acknowledged) > 10 * count
    print(f"{count} restarts: {len(acknowledged)} events, {pages} pages, 0 failed, {load.broken} connections broken, slowest stop {slowest:.2f} s")


def test_a_restart_under_load(run: Path, tmp_path: Path) -> None:
    restarts(run, tmp_path, 1)


@pytest.mark.faults
def test_fifty_restarts_under_load(run: Path, tmp_path: Path) -> None:
    restarts(run, tmp_path, 50)
