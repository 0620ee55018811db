"""The service under one client and under sixteen: latency and throughput of the whole funnel, page log included.

``python -m bench.serving RUN`` starts ``palate serve RUN`` in a process of its own and prints a JSON line for each number of clients, in the
shape of the peer's (peers/run_libserving.sh): p50_ms, p99_ms, qps.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from palate.serving.process import Service

LOADS = ((1, 500), (16, 1500))  #: clients, requests


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bytes:
    """One call over a kept-alive connection; the body of a 200."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    start = lowered.index(b"content-length:") + 15
    body = await reader.readexactly(int(lowered[start : lowered.index(b"\r\n", start)]))
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"{head.splitlines()[0].decode()}: {body[:300].decode(errors='replace')}")
    return body


async def load(port: int, users: list[str], clients: int, requests: int, log: bool, seed: int) -> dict[str, Any]:
    """``requests`` pages of 10 asked by ``clients`` at once, each as soon as its last one is answered."""
    chance = random.Random(seed)
    # Each user is asked for as often as any other: the peer has no filter of what was shown, so nobody may run out of items here either.
    order = [users[n % len(users)] for n in range(requests + 50)]
    chance.shuffle(order)
    paths = iter([f"/v1/recommendations?user={quote(user, safe='')}&k=10{'' if log else '&log=false'}" for user in order])
    took: list[float] = []
    starts: list[float] = []
    empty = 0

    async def client(warm: int) -> None:
        nonlocal empty
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(warm):
            await ask(reader, writer, next(paths))
        await warmed.wait()
        starts.append(time.perf_counter())
        for path in paths:
            begun = time.perf_counter()
            body = await ask(reader, writer, path)
            took.append(time.perf_counter() - begun)
            empty += not json.loads(body)["items"]
        writer.close()

    warmed = asyncio.Barrier(clients)
    tasks = [asyncio.create_task(client(50 // clients)) for _ in range(clients)]
    await asyncio.gather(*tasks)
    whole = time.perf_counter() - min(starts)
    took.sort()
    return {
        "concurrency": clients,
        "requests": len(took),
        "qps": round(len(took) / whole, 1),
        "p50_ms": round(took[len(took) // 2] * 1e3, 2),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1e3, 2),
        "empty": empty,
    }


def cpu_seconds(pid: int) -> float | None:
    """User and system time of a process; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(run: Path, log: bool = True, rounds: int = 1) -> list[dict[str, Any]]:
    """A fresh service over ``run`` with an empty state; one row for each load and round."""
    from palate.assembly import open_run

    opened = open_run(run)
    users = [user for user in opened.users.ids if user]
    rows = []
    state = Path(tempfile.mkdtemp(prefix="palate-bench-"))
    try:
        with Service(run, state, "b" * 32, "--no-access-log") as service:
            for turn in range(rounds):
                for clients, requests in LOADS:
                    before = cpu_seconds(service.pid)
                    row = asyncio.run(load(service.port, users, clients, requests, log, turn))
                    after = cpu_seconds(service.pid)
                    if before is not None and after is not None:
                        row["cpu_ms_per_request"] = round((after - before) * 1e3 / (row["requests"] + 50), 2)
                    name = f"{opened.recipe.name} {len(users)}u x {len(opened.items)} items"
                    rows.append({"system": "palate", "dataset": name, "page_log": log, **row, "load1": round(os.getloadavg()[0], 2)})
    finally:
        shutil.rmtree(state, ignore_errors=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--no-log", action="store_true", help="ask without effect (log=false)")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    for row in measure(given.run, not given.no_log, given.rounds):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
