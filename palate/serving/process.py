"""A service as a process of its own on this machine, and a small client for it: for the demo and the bench."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode


class ServiceError(ValueError):
    """The service did not start, or said no; the text has its own words."""


class Client:
    """One kept-alive connection to a service on this machine."""

    def __init__(self, port: int, key: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The JSON answer; ServiceError where the service says no."""
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {**self._headers, "Content-Type": "application/json"}
        self._connection.request(method, target, None if body is None else json.dumps(body), headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status >= 400:
            raise ServiceError(f"{method} {path} answered {response.status}: {answer.decode(errors='replace')}")
        return json.loads(answer)


class Service:
    """``palate serve`` as a process of its own on a free port, stopped when the block ends."""

    def __init__(self, run: Path, state: Path, key: str, *options: str) -> None:
        self._run, self._state, self._key, self._options = run, state, key, options
        self.port = free_port()

    def __enter__(self) -> Service:
        self._log = tempfile.TemporaryFile()
        command = [sys.executable, "-m", "palate.cli", "serve", str(self._run), "--port", str(self.port), "--state", str(self._state), *self._options]
        environment = {**os.environ, "PALATE_KEYS": f"read+write+admin:{self._key}"}
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=environment)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise ServiceError(f"the service did not start:\n{self._tail()}")
            try:
                Client(self.port).call("GET", "/health/ready")
            except (OSError, http.client.HTTPException, ServiceError):
                time.sleep(0.1)
            else:
                return self
        self.__exit__()
        raise ServiceError(f"the service was not ready after two minutes:\n{self._tail()}")

    @property
    def pid(self) -> int:
        """The service's process."""
        return self._process.pid

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self.code = self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.code = self._process.wait()

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-3000:]


def free_port() -> int:
    """A port that is free now, below those that systems give to outgoing connections: a client that knocks on one of those while nobody
    listens can be given that very port, and then holds it."""
    for port in random.SystemRandom().sample(range(15_000, 32_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServiceError("no free port between 15000 and 32000")
