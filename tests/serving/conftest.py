"""One small run for the session, and a service over it in this process."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from palate.recommender import Recommender
from palate.serving import keys
from palate.serving.app import create_app
from palate.serving.keys import Keys
from palate.serving.settings import Settings
from tests.serving.world import make_run

LOCAL, REMOTE = ("127.0.0.1", 50_000), ("10.9.8.7", 50_000)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("world"))


@dataclass
class Service:
    """``local`` has the write and admin keys nowhere: a test says which key a call carries."""

    app: FastAPI
    recommender: Recommender
    local: TestClient
    remote: TestClient
    key: dict[str, dict[str, str]]
    log: io.StringIO
    secrets: list[str]


def serve(run: Path, state: Path, settings: Settings | None = None) -> Service:
    """A service in this process with one key a scope."""
    secrets = {scope: keys.add(state, scope, [scope]) for scope in keys.SCOPES}
    log = io.StringIO()
    recommender = Recommender.load(run, state)
    app = create_app(recommender, settings or Settings(), Keys.load(state, {}), log)
    local = TestClient(app, base_url="http://127.0.0.1:8000", client=LOCAL, raise_server_exceptions=False)
    remote = TestClient(app, base_url="http://127.0.0.1:8000", client=REMOTE, raise_server_exceptions=False)
    headers = {scope: {"Authorization": f"Bearer {secret}"} for scope, secret in secrets.items()}
    return Service(app, recommender, local, remote, headers, log, list(secrets.values()))


@pytest.fixture
def service(run: Path, tmp_path: Path) -> Iterator[Service]:
    made = serve(run, tmp_path / "state")
    with made.local:
        yield made
