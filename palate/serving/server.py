"""One process that serves one run: start, say where, drain on SIGTERM, leave."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from palate.recommender import Recommender
from palate.serving import keys as credentials
from palate.serving.app import create_app
from palate.serving.gate import where
from palate.serving.keys import Keys
from palate.serving.settings import Settings, SettingsError

_LAST = 0.1  #: seconds between the last new connection and the end of the idle ones


class Server(uvicorn.Server):
    """uvicorn, but the first SIGTERM begins a drain instead of an end: for ``drain`` seconds the service says that it is not ready, asks
    each connection to close with its next answer and still answers; then it stops listening and what is under way may finish.
    """

    def __init__(self, config: uvicorn.Config, gate: Any, drain: float) -> None:
        super().__init__(config)
        self._gate, self._drain = gate, drain
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets=sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LAST)  # whoever connected just before is still answered, and asked to close
        await super().shutdown(sockets=sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._gate.draining or self._loop is None:  # a second signal, or one before the service listened
            self.should_exit = True
            return
        self._gate.draining = True
        self._loop.call_soon_threadsafe(self._loop.call_later, self._drain, self._end)

    def _end(self) -> None:
        self.should_exit = True


class _Lines(logging.Formatter):
    """What libraries and stages log, as JSON lines like the gate's: where it happened, never the words of an exception, which may repeat
    what a client sent."""

    def format(self, record: logging.LogRecord) -> str:
        ours = record.name.startswith("palate")
        line: dict[str, Any] = {"time": round(record.created, 3), "level": record.levelname.lower(), "logger": record.name}
        line["event"] = record.getMessage() if ours else str(record.msg)[:200]
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = where(record.exc_info[1])
        return json.dumps(line)


def log_to_stderr() -> None:
    """Warnings of every library go out as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.WARNING)


def serve(run: str | Path, settings: Settings, state: str | Path | None = None, say: Callable[[str], None] | None = None) -> None:
    """Serve the run until a signal; returns when everything is drained. ``state`` is where the live system keeps what it learns
    (``RUN/state`` where left out). SettingsError, RunError and StateError say why it will not start.
    """
    say = say or _say
    folder = Path(state) if state is not None else Path(run) / "state"
    keys = Keys.load(folder)
    credentials.check_reach(settings, keys, folder)
    listening = bound(settings)  # first of all: a taken port is known before a model is loaded
    try:
        recommender = Recommender.load(run, folder, budget=settings.budget, keep_features=settings.keep_features)
    except BaseException:
        listening.close()
        raise
    if not len(keys):
        secret = credentials.first(folder)
        keys = Keys.load(folder)
        say(f"the first key, with every scope, is shown this once (and lies in {folder / credentials.FIRST}, mode 600): {secret}")
    log_to_stderr()
    app = create_app(recommender, settings, keys)
    recommender.warm()
    gc.collect()
    gc.freeze()  # what was loaded stays: looking through it for garbage again and again would stop every call for a tenth of a second
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=max(1, int(settings.stop)),
        timeout_keep_alive=75,
        limit_concurrency=4_096,
        h11_max_incomplete_event_size=65_536,
    )
    server = Server(config, app.state.gate, settings.drain)
    host, port = listening.getsockname()[:2]
    say(f"palate serves {run} on http://{f'[{host}]' if ':' in host else host}:{port} (API page: /docs)")
    try:
        server.run(sockets=[listening])
    finally:
        recommender.close()
    say("stopped")


def bound(settings: Settings) -> socket.socket:
    """A socket bound but not yet listening: until the run is loaded, clients are refused rather than left waiting. SettingsError where the
    address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host.strip("[]"), settings.port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise SettingsError(f"cannot listen on {settings.host}:{settings.port}: {error}") from None
    listening.setblocking(False)
    return listening


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
